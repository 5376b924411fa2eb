//! Every prefix of a plan is safe: lbctl is stopped after each single change that it makes to a
//! host, and then the same command ends it well, and `down` leaves nothing behind. On a host in
//! memory, with the real observe, plan and apply.

mod adopt;
mod anew;
mod hosts;
mod pair;
mod rivals;
mod turns;

use std::sync::OnceLock;
use std::time::Duration;

use lbctl::testing::config::{Config, MemoryInputs, VolumeRef, parse};
use lbctl::testing::exit::{Exit, Failure, MessageId};
use lbctl::testing::guest::Guest;
use lbctl::testing::host::{Definition, HostReader};
use lbctl::testing::reconcile::apply::{Progress, apply};
use lbctl::testing::reconcile::desired::{Desired, Intent, Renewal, current_seed};
use lbctl::testing::reconcile::observe::{Ask, Observed, observe};
use lbctl::testing::reconcile::plan::{
    DownOptions, Plan, Restart, Step, guest_differs, plan_down, plan_renew, plan_up,
};
use lbctl::testing::seed::{SeedContent, places, recognise};
use time::OffsetDateTime;

use crate::support::host::{self, MemoryHost, NETWORK};

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

fn observe_all(config: &Config, host: &MemoryHost) -> (Observed, Desired) {
    let mut observed = observe(config, host, Ask::Everything).unwrap();
    let desired = Desired::from_config(config, &observed, now(), Intent::Apply).unwrap();
    if guest_differs(&desired.seed, observed.domain.as_ref()) {
        observed.availability = Guest::new(host, "lb-1").availability(Duration::from_secs(5));
    }
    (observed, desired)
}

fn observe_everything(host: &MemoryHost) -> Observed {
    observe(&config(""), host, Ask::Everything).unwrap()
}

fn plan(config: &Config, host: &MemoryHost) -> Plan {
    let (observed, desired) = observe_all(config, host);
    plan_up(&desired, &observed, AT_ONCE).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"))
}

fn up(config: &Config, host: &MemoryHost) {
    apply(&plan(config, host).steps, host, &mut Quiet).unwrap();
    let again = plan(config, host);
    assert!(again.is_empty(), "after `up` remains: {:?}", again.changes);
    let next = host.seed_of_next_boot("lb-1").unwrap().guest.unwrap();
    assert!(
        host.guest("lb-1").as_deref() == Some(next.to_json().expose()),
        "the guest is not what its next boot would make of it"
    );
}

fn down(config: &Config, host: &MemoryHost) {
    let options = DownOptions {
        stop_deadline: Duration::from_secs(5),
        delete_volume: true,
        alone: false,
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

/// Stops lbctl after each number of changes on the way from the state that `prepare` makes to the
/// configuration's.
fn stop_everywhere(prepare: impl Fn(&MemoryHost), target: &Config) -> usize {
    let complete = MemoryHost::new();
    prepare(&complete);
    let before = complete.changes();
    apply(&plan(target, &complete).steps, &complete, &mut Quiet).unwrap();
    let total = complete.changes() - before;

    for stop in 0..total {
        for (then_down, backwards) in [(false, false), (false, true), (true, false), (true, true)] {
            let host = MemoryHost::new();
            prepare(&host);
            if backwards {
                host.backwards();
            }
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

/// Somebody presses Ctrl-C while the first step is under way.
struct Impatient(usize);

impl Progress for Impatient {
    fn begin(&mut self, _: &Step) {
        self.0 += 1;
    }
    fn end(&mut self, _: &Step, _: Duration) {}
    fn note(&mut self, _: &str) {}
    fn stop(&self) -> Option<Exit> {
        (self.0 > 0).then_some(Exit::Interrupted)
    }
}

#[test]
fn an_interrupted_up_completes_its_step_and_continues_later() {
    let (config, host) = (config(""), MemoryHost::new());
    let mut impatient = Impatient(0);
    let error = apply(&plan(&config, &host).steps, &host, &mut impatient).unwrap_err();
    assert_eq!((impatient.0, host.changes()), (1, 1));
    let failure = Failure::from(error);
    assert_eq!(failure.exit as u8, 130);
    let said = failure.to_string();
    assert!(
        said.starts_with("stopped before this step: reserve"),
        "{said}"
    );
    assert!(
        said.ends_with("run the same command again: it continues from here"),
        "{said}"
    );
    up(&config, &host);
}

/// The reservation and the clone are made at the same time: one may be made and the other not.
#[test]
fn what_was_done_beside_the_step_that_failed_is_counted_and_kept() {
    for (backwards, clone, says) in [
        (false, false, "1 step was done before it"),
        (true, true, "2 steps were done before it"),
    ] {
        let (config, host) = (config(""), MemoryHost::new());
        if backwards {
            host.backwards();
        }
        // Before the reservation or, backwards, between the clone and it.
        host.visit_after(if backwards { 2 } else { 1 }, |host| {
            host.reserve_for_another("192.0.2.20");
        });
        let error = apply(&plan(&config, &host).steps, &host, &mut Quiet).unwrap_err();
        assert_eq!(error.beside().is_some(), clone);
        let failure = Failure::from(error).to_string();
        assert!(failure.starts_with("cannot reserve"), "{failure}");
        assert!(failure.contains(says), "{failure}");
        // The base, the seed, and the clone.
        assert_eq!(host.volumes(), 2 + usize::from(clone));
        down(&config, &host);
        assert_eq!(host.volumes(), 1);
    }
}

#[test]
fn a_first_up_may_stop_anywhere() {
    let stops = stop_everywhere(|_| {}, &config(""));
    assert_eq!(stops, 6, "write, reserve, clone, define, autostart, start");
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
    config.admin.password = Some(lbctl::testing::secret::Secret::new(password));
    config
}

fn renew(config: &Config, host: &MemoryHost, force: bool) -> Option<Plan> {
    let mut observed = observe(config, host, Ask::WhatIsNeeded).unwrap();
    let found = current_seed(&observed).unwrap();
    let renewal = Renewal::from_config(config, found, now(), force).unwrap()?;
    observed.availability = Guest::new(host, "lb-1").availability(Duration::from_secs(5));
    Some(plan_renew(&renewal, &observed).unwrap())
}

fn certificate(host: &MemoryHost) -> String {
    let seed = host.seed_of_next_boot("lb-1").unwrap();
    seed.client_pem.unwrap().expose().to_owned()
}

#[test]
fn a_renewal_may_stop_anywhere() {
    let config = config("");
    let whole = MemoryHost::new();
    up(&config, &whole);
    assert!(renew(&config, &whole, false).is_none(), "it is not due");
    let (old, before) = (certificate(&whole), whole.changes());
    apply(
        &renew(&config, &whole, true).unwrap().steps,
        &whole,
        &mut Quiet,
    )
    .unwrap();
    let total = whole.changes() - before;
    assert!(total >= 6, "{total}");
    assert_ne!(certificate(&whole), old);
    assert!(
        whole
            .guest("lb-1")
            .unwrap()
            .contains(&json_text(&certificate(&whole)))
    );
    assert!(
        plan(&config, &whole).is_empty(),
        "`up` keeps what `renew` made"
    );
    assert_eq!(whole.volumes(), 3);

    for stop in 0..total {
        for then_renew in [false, true] {
            let host = MemoryHost::new();
            up(&config, &host);
            host.stop_after(stop);
            apply(
                &renew(&config, &host, true).unwrap().steps,
                &host,
                &mut Quiet,
            )
            .unwrap_err();
            host.go_on();
            a_booting_guest_finds_a_whole_seed(&config, &host);
            if then_renew {
                apply(
                    &renew(&config, &host, true).unwrap().steps,
                    &host,
                    &mut Quiet,
                )
                .unwrap();
            }
            up(&config, &host);
            assert_eq!(host.volumes(), 3, "after a stop at {stop}");
            down(&config, &host);
            assert_eq!(host, MemoryHost::new(), "after a stop at {stop}");
        }
    }
}

/// As a piece of a JSON text.
fn json_text(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[test]
fn a_renewal_leaves_what_was_edited_and_not_applied() {
    let host = MemoryHost::new();
    up(&config(""), &host);
    let edited = config_with_password("y");
    apply(
        &renew(&edited, &host, true).unwrap().steps,
        &host,
        &mut Quiet,
    )
    .unwrap();
    assert!(
        plan(&config(""), &host).is_empty(),
        "what was applied before is what there is"
    );
    let left = plan(&edited, &host);
    let subjects = left.changes.iter().map(|c| c.subject.to_string());
    let left: Vec<String> = subjects.collect();
    assert_eq!(left, ["admin password"]);
}

#[test]
fn a_guest_that_refuses_leaves_the_host_unchanged() {
    let host = MemoryHost::new();
    up(&config(""), &host);
    let before = host.clone_state();
    host.refuse("HAProxy refuses the configuration");
    for steps in [
        plan(&config_with_password("y"), &host).steps,
        renew(&config(""), &host, true).unwrap().steps,
    ] {
        let error = apply(&steps, &host, &mut Quiet).unwrap_err();
        let said = Failure::from(error).to_string();
        assert!(said.contains("HAProxy refuses"), "{said}");
        assert!(host == before, "something changed");
    }
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
            alone: false,
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

/// The plan for a guest whose memory was saved begins with its start, and no seed that the saved
/// state needs is deleted before.
#[test]
fn a_saved_guest_keeps_its_seed_until_it_has_gone_on() {
    let host = MemoryHost::new();
    up(&config(""), &host);
    host.managed_save("lb-1");
    let edited = config_with_password("y");
    let first = plan(&edited, &host);
    let steps: Vec<String> = first.steps.iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["start domain lb-1"]);
    assert!(first.continues);
    apply(&first.steps, &host, &mut Quiet).unwrap();
    up(&edited, &host);
    assert_eq!(host.volumes(), 3);
    down(&edited, &host);
    assert_eq!(host, MemoryHost::new());
}

#[test]
fn a_snapshot_keeps_its_seed_through_every_change() {
    let host = MemoryHost::new();
    up(&config(""), &host);
    host.take_snapshot("lb-1", "s1");
    for password in ["y", "z", "a"] {
        up(&config_with_password(password), &host);
        assert_eq!(
            host.volumes(),
            4,
            "base, disk, seed, and the snapshot's seed"
        );
    }
    down(&config_with_password("a"), &host);
    assert_eq!(host, MemoryHost::new());
}

/// Another lbctl has started the domain a moment ago.
#[test]
fn a_guest_that_is_being_started_is_looked_at_again() {
    let (config, host) = (config(""), MemoryHost::new());
    up(&config, &host);
    host.start_slowly(2);
    assert!(plan(&config, &host).is_empty());
    host.start_slowly(2);
    renew(&config, &host, true).expect("a plan");
}

/// libvirt lists a volume that another lbctl is making before its file is there.
#[test]
fn the_file_of_a_listed_volume_is_waited_for() {
    let (config, host) = (config(""), MemoryHost::new());
    up(&config, &host);
    let disk = VolumeRef {
        pool: "default".into(),
        name: "lb-1".into(),
    };
    host.list_without_file(&disk, 1);
    assert!(plan(&config, &host).is_empty(), "at the second look");

    host.list_without_file(&disk, usize::MAX);
    let (observed, desired) = observe_all(&config, &host);
    let refusal = plan_up(&desired, &observed, AT_ONCE).unwrap_err();
    let ids: Vec<_> = refusal.objections.iter().map(|o| o.id).collect();
    assert_eq!(ids, [MessageId::VolumeFileMissing], "{refusal}");
    assert!(!refusal.is_about_ownership(), "{refusal}");
    assert!(
        refusal
            .to_string()
            .contains("libvirt lists volume default/lb-1, but its file does not exist any more"),
        "{refusal}"
    );
}
