//! A guest with two network interfaces: one whose addresses, of both families, and ways are
//! configured, and one that a DHCP server gives an address which lbctl cannot know.

use serde_json::Value;

use super::Guest;
use crate::support::{Lab, run_for};

/// Where a router of the segment is said to lead; and a further address there.
const BEYOND: &str = "10.79.0.0/16";
const FURTHER: &str = "10.77.0.23/24";
const MTU: u64 = 1400;

pub(super) fn tables(lab: &Lab) -> String {
    let of = |key: &str| lab[key].as_str();
    format!(
        "[[macvtap_interfaces]]\ninterface = \"{}\"\nip = \"{}\"\nprefix_length = {}\ngateway = \"{}\"\n\
         dns_servers = [\"{}\"]\naddresses = [\"{FURTHER}\", \"{}/64\"]\nsearch = [\"postgres.lab\"]\n\
         routes = [{{ to = \"{BEYOND}\", via = \"{}\" }}]\nmtu = {MTU}\n\
         [[bridge_interfaces]]\nbridge = \"{}\"\ndhcp = true",
        of("MACVTAP_INTERFACE"),
        of("MACVTAP_GUEST_IP"),
        of("MACVTAP_PREFIX"),
        of("MACVTAP_GATEWAY"),
        of("MACVTAP_DNS"),
        of("MACVTAP_GUEST_IP6"),
        of("MACVTAP_DNS"),
        of("DHCP_BRIDGE"),
    )
}

/// The guest has all of that, tells it, and is reached by it.
pub(super) fn are_as_configured(guest: &Guest) {
    let lab = &guest.lab;
    let status = guest.status_when_ready(&["--json"]).document();
    let told = status["addresses"].as_array().unwrap();
    let ips: Vec<&str> = told.iter().map(|one| one.as_str().unwrap()).collect();
    let fixed = [
        lab["MACVTAP_GUEST_IP"].as_str(),
        FURTHER.split('/').next().unwrap(),
        &lab["MACVTAP_GUEST_IP6"],
    ];
    assert_eq!(ips.len(), 4, "{told:?}");
    assert!(fixed.iter().all(|ip| ips.contains(ip)), "{told:?}");
    let given = ips.iter().find(|ip| ip.starts_with(&lab["DHCP_PREFIX"]));
    let given = *given.expect("the address of the DHCP server");
    let leases = std::fs::read_to_string(format!("{}/dhcp.leases", lab["LAB_RUN"])).unwrap();
    assert!(leases.contains(given), "{given}: {leases}");
    guest
        .status_when_ready(&[])
        .says(&[given, &lab["DHCP_BRIDGE"]]);

    let inside: Value = serde_json::from_str(&guest.inside("ip -j addr")).unwrap();
    let card = |ip: &str| {
        let has = |card: &&Value| {
            let own = card["addr_info"].as_array().unwrap();
            own.iter().any(|address| address["local"] == ip)
        };
        let found = inside.as_array().unwrap().iter().find(has);
        found.unwrap_or_else(|| panic!("{ip} is not in {inside:#}"))
    };
    for ip in fixed {
        assert_eq!(card(ip)["ifname"], card(fixed[0])["ifname"], "{inside:#}");
    }
    assert_eq!(card(fixed[0])["mtu"], MTU);
    assert_ne!(card(given)["ifname"], card(fixed[0])["ifname"]);
    assert_eq!(card(given)["mtu"], 1500);
    let routes: Value = serde_json::from_str(&guest.inside("ip -j route")).unwrap();
    for (to, via) in [("default", "MACVTAP_GATEWAY"), (BEYOND, "MACVTAP_DNS")] {
        let has = |route: &Value| route["dst"] == to && route["gateway"] == lab[via].as_str();
        assert!(
            routes.as_array().unwrap().iter().any(has),
            "{to}: {routes:#}"
        );
    }
    // A name of the domain that is searched, without its dots.
    assert!(
        guest
            .inside("getent hosts pg1")
            .contains(lab["PG_NODES"].split(',').next().unwrap())
    );

    // HAProxy listens on all of them.
    for ip in fixed {
        let dsn = guest
            .dsn()
            .replace(&format!("host={} ", guest.ip), &format!("host={ip} "));
        let psql = ["netns", "exec", &guest.client, &lab["PSQL"], &dsn, "-Atc"];
        let ran = run_for(
            60,
            "ip",
            [&psql[..], &["select pg_is_in_recovery()"]].concat(),
        )
        .ok();
        assert_eq!(ran.stdout.trim(), "f", "{ip}");
    }
}
