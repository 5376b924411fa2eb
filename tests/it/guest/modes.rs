//! A real Patroni whose REST API gets another kind of TLS, and the load balancer that follows, in
//! namespaces instead of a lab (tests/setups/real.py). No guest boots.

use std::fs;
use std::path::Path;

use lbctl::testing::config::{self, HaproxyVersion, Runtime};
use lbctl::testing::render::haproxy_cfg;

use crate::render::oracle::haproxy_root;
use crate::support::inputs::{inputs, now};
use crate::support::run_for;

const COMMON: &str = r#"name = "postgres-lb-1"
cloud_init_volume_pool = "default"
ssh_admin_public_key = { file = "admin.pub" }
volume_id = "default/postgres-lb-1"
libvirt_network = { network_name = "default", ip = "192.0.2.10" }
[haproxy]
patroni_port = 8008
replicas_port = 5433
nodes = [
    { name = "pg1", address = "192.0.2.11" },
    { name = "pg2", address = "192.0.2.12" },
    { name = "pg3", address = "192.0.2.13" },
]
"#;

const MODES: [(&str, &str); 3] = [
    (
        "mutual",
        "[haproxy.patroni_client]
ca_key = { file = \"patroni-ca.key\" }
ca_certificate = { file = \"patroni-ca.crt\" }
certificate_validity_period = 8760
certificate_early_renewal_period = 720
",
    ),
    (
        "server",
        "patroni_tls = \"server\"
[haproxy.patroni_client]
ca_certificate = { file = \"patroni-ca.crt\" }
",
    ),
    ("off", "patroni_tls = \"off\"\n"),
];

#[test]
fn a_real_patroni_changes_its_tls_and_no_session_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    for (mode, lines) in MODES {
        let at = folder.path().join(mode);
        fs::create_dir(&at).unwrap();
        let text = format!("{COMMON}{lines}");
        let loaded = config::parse(&text, mode, &inputs(), now());
        let mut config = loaded.unwrap_or_else(|report| panic!("{report}")).config;
        config.haproxy.runtime = Runtime::Package;
        config.haproxy.version = HaproxyVersion { major: 2, minor: 6 };
        fs::write(at.join("haproxy.cfg"), haproxy_cfg(&config)).unwrap();
        fs::write(at.join("lbctl.toml"), text).unwrap();
        fs::write(at.join("admin.pub"), crate::support::inputs::PUBLIC_KEY).unwrap();
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lab = here.join("tests/lab/patroni");
    run_for(300, &lab.display().to_string(), ["prepare"]).ok();
    let python = run_for(60, &lab.display().to_string(), ["python"]).ok();
    let arguments = [
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "/usr/bin/python3",
        "-B",
        &here.join("tests/setups/real.py").display().to_string(),
        &haproxy_root("bookworm").display().to_string(),
        &here
            .join("templates/guest/lbctl-guest.py")
            .display()
            .to_string(),
        &folder.path().display().to_string(),
        env!("CARGO_BIN_EXE_lbctl"),
        python.stdout.trim(),
    ];
    let told = run_for(600, "unshare", arguments).ok();
    println!("{}", told.stdout);
}
