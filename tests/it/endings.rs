//! The documents of every command for every exit code, as far as no libvirt is needed, held against
//! the published schemas; and that no exit code of the manual is forgotten.

use std::collections::BTreeSet;
use std::fs;

use crate::support::endings::{
    ALONE, ELSEWHERE, OF_A_CHANGE, OF_OTHERS, ON_A_HOST, STOPPED, ended_as_published,
};
use crate::support::{lbctl, run};

fn config(name: &str, last: u8, more: &str) -> String {
    format!(
        r#"name = "{name}"
cloud_init_volume_pool = "default"
[libvirt]
uri = "qemu+unix:///system?socket=/nonexistent"
[volume]
name = "{name}"
pool = "default"
base_volume_name = "debian-12"
[[macvtap_interfaces]]
interface = "eno1"
ip = "192.0.2.{last}"
prefix_length = 24
[haproxy]
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["192.0.2.53"]
postgres_domain = "pg.example.org"
[haproxy.patroni_client]
ca_certificate = {{ file = "@home/ca.crt" }}
{more}
"#
    )
}

const ISSUED: &str = r#"ca_key = { file = "@home/ca.key" }
certificate_validity_period = 240
certificate_early_renewal_period = 24"#;

#[test]
fn each_document_is_as_it_is_published() {
    let place = tempfile::tempdir().unwrap();
    let home = place.path().display().to_string();
    let put = |name: &str, text: &str| {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("@home", &home)).unwrap();
    };
    let (key, certificate) = (format!("{home}/ca.key"), format!("{home}/ca.crt"));
    let shape =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=CA -days 3650";
    let files = ["-keyout", &key, "-out", &certificate];
    run("openssl", shape.split(' ').chain(files)).ok();
    put("lbctl.toml", &config("lb-1", 21, ISSUED));
    put("bad.toml", "name = 1\n");
    put("fleet/1.toml", &config("lb-1", 21, ISSUED));
    put("fleet/2.toml", &config("lb-2", 22, ISSUED));
    put("twice/1.toml", &config("lb-1", 21, ISSUED));
    put("twice/2.toml", &config("lb-1", 22, ISSUED));
    put("others/haproxy.cfg", "of somebody else\n");
    put(
        "requested.toml",
        &config("lb-1", 21, "certificate_early_renewal_period = 24"),
    );
    let shared = "[virtual_ip]\naddress = \"192.0.2.20\"\npeers = [\"192.0.2.22\"]";
    put(
        "sharing.toml",
        &config("lb-1", 21, &format!("{ISSUED}\n{shared}")),
    );
    for ending in ALONE {
        let (_, _, typed) = *ending;
        for with in ["--json", "--events"] {
            let usual = (!typed.contains("-c @home")).then_some("-c @home/lbctl.toml ");
            let line = format!("{}{typed} {with}", usual.unwrap_or_default());
            let line = line.replace("@home", &home);
            ended_as_published(*ending, with, lbctl(line.split(' ')));
        }
    }
    let kept = fs::read_to_string(place.path().join("others/haproxy.cfg")).unwrap();
    assert_eq!(kept, "of somebody else\n");
}

#[test]
fn every_exit_code_of_the_manual_is_tried() {
    let mut left = BTreeSet::new();
    let commands: BTreeSet<&str> = ALONE.iter().map(|(command, ..)| *command).collect();
    for command in commands {
        let page = lbctl(["man", command]).ok().stdout;
        let (_, exits) = page.split_once("\"EXIT STATUS\"").unwrap();
        let (exits, _) = exits.split_once("\n.SH ").unwrap_or((exits, ""));
        let codes = exits.lines().filter_map(|line| {
            let code = line.strip_prefix("\\fB")?.strip_suffix("\\fR")?;
            code.parse::<i32>().ok()
        });
        left.extend(codes.map(|code| (command, code)));
    }
    assert!(left.len() > 60, "{left:?}");
    for ending in [ALONE, ON_A_HOST, OF_A_CHANGE, OF_OTHERS, STOPPED].concat() {
        left.remove(&(ending.0, ending.1));
    }
    for (command, codes, _) in ELSEWHERE {
        for code in *codes {
            assert!(
                left.remove(&(*command, *code)),
                "{command} {code} is tried here"
            );
        }
    }
    assert!(left.is_empty(), "nobody tries {left:?}");
}
