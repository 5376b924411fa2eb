//! Every prefix of a plan is safe: lbctl is stopped after each single change that it makes to a host, and then the same
//! command ends it well, and `down` leaves nothing behind. On a host in memory, with the real observe, plan and apply.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "steps/host.rs"]
mod host;

use std::sync::OnceLock;
use std::time::Duration;

use host::{MemoryHost, NETWORK};
use lbctl::apply::{Progress, apply};
use lbctl::config::{Config, MemoryInputs, VolumeRef, parse};
use lbctl::desired::Desired;
use lbctl::host::{Definition, Observe};
use lbctl::observe::{Ask, Observed, observe};
use lbctl::plan::{DownOptions, Plan, Restart, Step, plan_down, plan_up};
use lbctl::seed::{SeedContent, places, recognise};
use time::OffsetDateTime;

const AT_ONCE: Restart = Restart::Now {
    deadline: Duration::from_secs(5),
};

struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _: &Step) {}
    fn end(&mut self, _: &Step, _: Duration) {}
    fn note(&mut self, _: &str) {}
}

fn config(more: &str) -> Config {
    let text = format!(
        r#"name = "lb-1"
cloud_init_volume_pool = "default"
admin_user_password = "x"
{more}
[volume]
name = "lb-1"
pool = "default"
size = "10 GiB"
base_volume_pool = "os"
base_volume_name = "base"
[libvirt_network]
network_name = "{NETWORK}"
ip = "192.0.2.20"
[haproxy]
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["192.0.2.1"]
postgres_domain = "pg.example.org"
[haproxy.patroni_client]
ca_key = {{ file = "ca.key" }}
ca_certificate = {{ file = "ca.crt" }}
certificate_validity_period = 240
certificate_early_renewal_period = 24
"#
    );
    parse(&text, "lbctl.toml", ca(), now()).unwrap().config
}

/// One moment for the whole test.
fn now() -> OffsetDateTime {
    static NOW: OnceLock<OffsetDateTime> = OnceLock::new();
    *NOW.get_or_init(OffsetDateTime::now_utc)
}

/// The files of a CA, made once.
fn ca() -> &'static MemoryInputs {
    static CA: OnceLock<MemoryInputs> = OnceLock::new();
    CA.get_or_init(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        let mut inputs = MemoryInputs::default();
        for (name, pem) in [
            ("ca.key", key.serialize_pem()),
            ("ca.crt", certificate.pem()),
        ] {
            inputs.files.insert(name.into(), Ok(pem.into_bytes()));
        }
        inputs
    })
}

fn look(config: &Config, host: &MemoryHost) -> (Observed, Desired) {
    let observed = observe(config, host, Ask::Everything).unwrap();
    let desired = Desired::of(config, &observed, now()).unwrap();
    (observed, desired)
}

fn plan(config: &Config, host: &MemoryHost) -> Plan {
    let (observed, desired) = look(config, host);
    plan_up(&desired, &observed, AT_ONCE).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"))
}

fn up(config: &Config, host: &MemoryHost) {
    apply(&plan(config, host).steps, host, &mut Quiet).unwrap();
    let again = plan(config, host);
    assert!(again.is_empty(), "after `up` remains: {:?}", again.changes);
}

fn down(config: &Config, host: &MemoryHost) {
    let options = DownOptions {
        stop_deadline: Duration::from_secs(5),
        delete_volume: true,
    };
    let observed = observe(config, host, Ask::Everything).unwrap();
    let plan = plan_down(config, &observed, options).unwrap();
    apply(&plan.steps, host, &mut Quiet).unwrap();
}

/// Whatever the drive of a domain points at is a whole seed.
fn a_booting_guest_finds_a_whole_seed(config: &Config, host: &MemoryHost) {
    let Some(domain) = host.domain("lb-1").unwrap() else {
        return;
    };
    let definitions = std::iter::once(&domain.config).chain(domain.live.as_ref());
    for drive in definitions.flat_map(Definition::cdroms) {
        let path = drive.source.as_ref().unwrap().to_string();
        let at = places(&config.seed_volume)
            .into_iter()
            .find(|at| path == host::path(at))
            .unwrap();
        let bytes = host
            .read_volume(&at, u64::MAX)
            .expect("the drive's seed is there");
        assert!(
            matches!(recognise(&bytes, "lb-1"), SeedContent::Ours(_)),
            "{at}"
        );
    }
}

/// Stops lbctl after each number of changes on the way from the state that `prepare` makes to the configuration's.
fn stop_everywhere(prepare: impl Fn(&MemoryHost), target: &Config) -> usize {
    let complete = MemoryHost::new();
    prepare(&complete);
    let before = complete.changes();
    apply(&plan(target, &complete).steps, &complete, &mut Quiet).unwrap();
    let total = complete.changes() - before;

    for stop in 0..total {
        for then_down in [false, true] {
            let host = MemoryHost::new();
            prepare(&host);
            host.stop_after(stop);
            apply(&plan(target, &host).steps, &host, &mut Quiet).unwrap_err();
            host.go_on();
            a_booting_guest_finds_a_whole_seed(target, &host);
            if then_down {
                down(target, &host);
                assert_eq!(
                    host,
                    MemoryHost::new(),
                    "down after a stop at change {stop}"
                );
            } else {
                up(target, &host);
                a_booting_guest_finds_a_whole_seed(target, &host);
                assert_eq!(
                    host.volumes(),
                    3,
                    "base, disk and one seed after a stop at {stop}"
                );
            }
        }
    }
    total
}

#[test]
fn a_first_up_may_stop_anywhere() {
    let stops = stop_everywhere(|_| {}, &config(""));
    assert_eq!(stops, 6, "reserve, clone, write, define, autostart, start");
}

#[test]
fn an_update_may_stop_anywhere() {
    // One that only redefines, and one that brings a new seed.
    for (target, fewest) in [(config("memory = 4096"), 3), (config_with_password("y"), 5)] {
        let stops = stop_everywhere(|host| up(&config(""), host), &target);
        assert!(stops >= fewest, "{stops}");
    }
}

fn config_with_password(password: &str) -> Config {
    let mut config = config("");
    config.admin.password = Some(lbctl::secret::Secret::new(password));
    config
}

#[test]
fn a_way_down_may_stop_anywhere() {
    let config = config("");
    let total = {
        let host = MemoryHost::new();
        up(&config, &host);
        let before = host.changes();
        down(&config, &host);
        assert_eq!(host, MemoryHost::new());
        host.changes() - before
    };
    assert!(total >= 5, "{total}");
    for stop in 0..total {
        let host = MemoryHost::new();
        up(&config, &host);
        host.stop_after(stop);
        let observed = observe(&config, &host, Ask::Everything).unwrap();
        let options = DownOptions {
            stop_deadline: Duration::from_secs(5),
            delete_volume: true,
        };
        let plan = plan_down(&config, &observed, options).unwrap();
        apply(&plan.steps, &host, &mut Quiet).unwrap_err();
        host.go_on();
        down(&config, &host);
        assert_eq!(
            host,
            MemoryHost::new(),
            "down again after a stop at change {stop}"
        );
    }
}

#[test]
fn the_certificate_survives_a_stop_before_the_domain_was_defined() {
    let config = config("");
    let host = MemoryHost::new();
    host.stop_after(3);
    apply(&plan(&config, &host).steps, &host, &mut Quiet).unwrap_err();
    host.go_on();
    let at = VolumeRef {
        pool: "default".into(),
        name: "lb-1-cloud-init.iso".into(),
    };
    let before = host.read_volume(&at, u64::MAX).unwrap();
    up(&config, &host);
    assert_eq!(
        host.read_volume(&at, u64::MAX).unwrap(),
        before,
        "no second certificate is issued"
    );
}
