//! What is rendered for a shared address, judged by keepalived and nft of Debian 12 and 13, as the
//! guest starts them.

use std::path::{Path, PathBuf};
use std::process::Command;

use lbctl::testing::config::{Config, HaproxyTime, MacAddr, Peer};

use super::oracle::{must, run, words, write};
use super::sample::{guest_files, sample_config, time, tls};

/// Roots with the programs of both suites.
fn roots() -> Vec<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pair/roots");
    let said = must(
        "mmdebstrap",
        Command::new(script).args(["bookworm", "trixie"]),
        "",
    );
    said.lines().map(PathBuf::from).collect()
}

fn file(config: &Config, path: &str) -> String {
    let files = guest_files(config, &tls());
    let file = files.iter().find(|f| f.path == path);
    file.unwrap_or_else(|| panic!("no {path}"))
        .content
        .expose()
        .to_owned()
}

fn with(change: impl FnOnce(&mut lbctl::testing::config::VirtualIp)) -> Config {
    let mut config = sample_config();
    change(config.virtual_ip.as_mut().unwrap());
    config
}

/// In a network namespace that has the card `lan0`, with the two files in /tmp of the root: another
/// test may be at work beside this one.
fn judged(root: &Path, keepalived: &str, nft: &str) -> Result<String, String> {
    beside_files(root, keepalived, nft, |inside| {
        format!(
            "chroot '{root}' nft --define card=lan0 --check --file {inside}/vip.nft
             chroot '{root}' nft --define card=lan0 --file {inside}/vip.nft
             chroot '{root}' nft --define card=lan0 --file {inside}/vip.nft
             chroot '{root}' nft list ruleset
             chroot '{root}' keepalived --config-test --use-file {inside}/keepalived.conf",
            root = root.display()
        )
    })
}

/// What a shell says in that namespace. `script` is given the files' folder in the root.
fn beside_files(
    root: &Path,
    keepalived: &str,
    nft: &str,
    script: impl FnOnce(&str) -> String,
) -> Result<String, String> {
    let folder = tempfile::tempdir_in(root.join("tmp")).unwrap();
    let inside = format!(
        "/tmp/{}",
        folder.path().file_name().unwrap().to_string_lossy()
    );
    let card = format!("{inside}/card.conf");
    write(&folder.path().join("card.conf"), "$CARD=lan0\n");
    let keepalived = keepalived
        .replace("/run/lbctl/card.conf", &card)
        .replace("/run/lbctl/vip-weight", &format!("{inside}/vip-weight"));
    write(&folder.path().join("keepalived.conf"), &keepalived);
    write(&folder.path().join("vip.nft"), nft);
    let script = format!(
        "set -e
         ip tuntap add lan0 mode tap
         ip address add 10.0.0.2/24 dev lan0
         ip link set lan0 up
         {}",
        script(&inside)
    );
    let mut command = Command::new("unshare");
    let output = run(
        "util-linux",
        command.args(["--net", "sh", "-c", &script]),
        "",
    );
    if output.status.success() {
        Ok(words(&output))
    } else {
        Err(words(&output))
    }
}

fn rendered(config: &Config) -> (String, String) {
    (
        file(config, "/etc/keepalived/keepalived.conf"),
        file(config, "/etc/lbctl/vip.nft"),
    )
}

#[test]
fn keepalived_and_nft_of_both_suites_take_what_is_rendered() {
    let several = with(|shared| {
        shared.peers.push(Peer {
            address: "10.0.0.4".parse().unwrap(),
            mac: Some(MacAddr::parse("52:54:00:aa:bb:02").unwrap()),
            elsewhere: false,
        });
        shared.detection = time("10s");
    });
    let cut = with(|shared| shared.drain = HaproxyTime::zero());
    for root in roots() {
        for config in [&sample_config(), &several, &cut] {
            let (keepalived, nft) = rendered(config);
            let said = judged(&root, &keepalived, &nft);
            let said = said.unwrap_or_else(|said| panic!("{}: {said}", root.display()));
            assert!(!said.to_lowercase().contains("ignor"), "{said}");
        }
    }
}

#[test]
fn the_judges_refuse() {
    let (keepalived, nft) = rendered(&sample_config());
    for root in roots() {
        let wrong = keepalived.replace("    virtual_router_id 20\n", "");
        assert!(judged(&root, &wrong, &nft).is_err());
        let wrong = nft.replace("ether_addr", "ether_address");
        assert!(judged(&root, &keepalived, &wrong).is_err());
    }
}

/// keepalived's default is 10 ms, and a guest whose host has too much to do comes to that.
#[test]
fn the_kernel_does_not_kill_a_keepalived_that_has_to_wait() {
    let (keepalived, nft) = rendered(&sample_config());
    for root in roots() {
        let said = beside_files(&root, &keepalived, &nft, |inside| {
            format!(
                "chroot '{root}' keepalived --dont-fork --vrrp --log-console --use-file {inside}/keepalived.conf \
                   --pid {inside}/pid --vrrp_pid {inside}/vrrp.pid >'{root}{inside}/log' 2>&1 &
                 limit() {{ sed -n 's/Max realtime timeout *//p' /proc/$(cat '{root}{inside}/vrrp.pid')/limits; }}
                 for n in $(seq 100); do
                   case $(limit 2>&1) in [0-9]*) break ;; esac
                   sleep 0.1
                 done
                 limit || cat '{root}{inside}/log'
                 kill $!
                 wait",
                root = root.display()
            )
        });
        let said = said.unwrap_or_else(|said| panic!("{}: {said}", root.display()));
        let limits: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(limits, ["500000", "1000000", "us"], "{}", root.display());
    }
}

#[test]
fn a_vm_that_is_silent_for_the_detection_has_missed_what_it_may_miss() {
    for (detection, advert_int) in [
        ("600ms", "0.10"),
        ("300ms", "0.05"),
        ("1s", "0.16"),
        ("10s", "1.66"),
    ] {
        let (keepalived, _) = rendered(&with(|shared| shared.detection = time(detection)));
        let lines = format!("    advert_int {advert_int}\n    down_timer_adverts 6\n");
        assert!(keepalived.contains(&lines), "{detection}:\n{keepalived}");
    }
}

#[test]
fn sessions_are_passed_on_at_every_port_for_clients_unless_they_are_to_be_cut() {
    let (_, nft) = rendered(&sample_config());
    assert!(nft.contains("tcp dport { 5432, 5433, 4443 } "), "{nft}");
    let (_, nft) = rendered(&with(|shared| shared.drain = HaproxyTime::zero()));
    assert!(!nft.contains("table ip lbctl_drain {"), "{nft}");
}

#[test]
fn a_mac_address_that_is_configured_is_in_the_guests_settings() {
    let mac = MacAddr::parse("52:54:00:aa:bb:02").unwrap();
    let config = with(|shared| shared.peers[0].mac = Some(mac));
    let settings: serde_json::Value =
        serde_json::from_str(&file(&config, "/etc/lbctl/guest.json")).unwrap();
    let shared = &settings["virtual_ip"];
    assert_eq!(shared["peers"][0]["mac"], "52:54:00:aa:bb:02");
    assert_eq!(
        (&shared["own"], &shared["mac"]),
        (&"10.0.0.2".into(), &"52:54:00:12:34:56".into())
    );
}
