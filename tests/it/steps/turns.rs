//! Two VMs of one file, worked on as `lbctl up` does it: stopped after each single change to the
//! host, and with another operator at work between any two of them. Never are both down, and the
//! same command ends it well.

use std::cell::RefCell;
use std::time::Duration;

use lbctl::testing::config::{Config, parse};
use lbctl::testing::exit::{Exit, Failure, MessageId};
use lbctl::testing::guest::Guest;
use lbctl::testing::host::HostReader;
use lbctl::testing::reconcile::apply::{ApplyError, Progress, apply};
use lbctl::testing::reconcile::desired::{Desired, Intent};
use lbctl::testing::reconcile::observe::{Ask, observe};
use lbctl::testing::reconcile::plan::{DownOptions, Plan, Step, guest_differs, plan_down, plan_up};
use lbctl::testing::reconcile::rounds::{Again, Reconciler, Remaining, in_rounds};
use lbctl::testing::reconcile::turns::{AnotherReady, Ended, Member, Shares, Work, in_turns};

use super::{AT_ONCE, ca, now};
use crate::support::host::{MemoryHost, NETWORK, Visitor};

pub(super) fn both(more: &str) -> Vec<Config> {
    let text = format!(
        r#"cloud_init_volume_pool = "default"
{more}
[volume]
pool = "default"
base_volume_pool = "os"
base_volume_name = "base"
[libvirt_network]
network_name = "{NETWORK}"
[haproxy]
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["192.0.2.1"]
postgres_domain = "pg.example.org"
[haproxy.patroni_client]
ca_key = {{ file = "ca.key" }}
ca_certificate = {{ file = "ca.crt" }}
certificate_validity_period = 240
certificate_early_renewal_period = 24
[[vms]]
name = "lb-1"
libvirt_network = {{ ip = "192.0.2.20" }}
[[vms]]
name = "lb-2"
libvirt_network = {{ ip = "192.0.2.21" }}
"#
    );
    let loaded = parse(&text, "lbctl.toml", ca(), now()).unwrap();
    let mut vms = vec![loaded.config];
    vms.extend(loaded.others.unwrap());
    vms
}

pub(super) fn plan(config: &Config, host: &MemoryHost) -> Plan {
    let mut observed = observe(config, host, Ask::Everything).unwrap();
    let mut desired = Desired::from_config(config, &observed, now(), Intent::Apply).unwrap();
    // Of a disk that is not the one that is wanted.
    desired.disk.replace = true;
    if guest_differs(&desired.seed, observed.domain.as_ref()) {
        let guest = Guest::new(host, config.name.as_str());
        observed.availability = guest.availability(Duration::from_secs(5));
    }
    plan_up(&desired, &observed, AT_ONCE).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"))
}

pub(super) fn runs(host: &MemoryHost, name: &str) -> bool {
    let domain = host.domain(name).unwrap();
    domain.is_some_and(|domain| domain.live.is_some())
}

/// A VM of this run. What boots is ready at once.
struct Vm<'h> {
    config: &'h Config,
    host: &'h MemoryHost,
    work: Work,
    /// Whether both VMs are there, so that one must always run.
    watched: bool,
}

impl<'h> Vm<'h> {
    fn new(config: &'h Config, host: &'h MemoryHost, watched: bool) -> Self {
        let plan = plan(config, host);
        let work = if plan.is_empty() {
            Work::Nothing
        } else if !runs(host, config.name.as_str()) {
            Work::Start
        } else if plan.needing_restart().is_empty() {
            Work::Live
        } else {
            Work::Cut
        };
        Self {
            config,
            host,
            work,
            watched,
        }
    }
}

impl Progress for &Vm<'_> {
    fn begin(&mut self, step: &Step) {
        let one_runs = ["lb-1", "lb-2"].iter().any(|name| runs(self.host, name));
        assert!(!self.watched || one_runs, "before {step}: both are down");
    }
    fn end(&mut self, _: &Step, _: Duration) {}
    fn note(&mut self, _: &str) {}
}

impl Reconciler for &Vm<'_> {
    fn replan(&mut self) -> Result<Remaining, Failure> {
        let plan = plan(self.config, self.host);
        let done = plan.is_empty();
        Ok(Remaining { plan, done })
    }

    fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError> {
        apply(steps, self.host, &mut &**self)
    }

    fn back_off(&mut self, _: usize, _: Again<'_>) {}

    fn unfinished(&self, left: &Plan) -> Failure {
        panic!("left: {:?}", left.changes)
    }
}

impl Member for Vm<'_> {
    fn name(&self) -> &str {
        self.config.name.as_str()
    }

    fn work(&self) -> Work {
        self.work
    }

    fn shares(&self) -> Shares {
        Shares::default()
    }

    fn why_not_ready(&mut self) -> Option<String> {
        (!runs(self.host, self.name())).then(|| "the domain is shut off".to_owned())
    }

    fn carry_out(&mut self) -> Result<(), Failure> {
        let first = plan(self.config, self.host);
        if first.is_empty() {
            return Ok(());
        }
        in_rounds(first, &mut &*self)
    }

    fn until_ready(&mut self, _: &[String]) -> Result<(), Failure> {
        // Another operator may have stopped it at this very moment; then it is not ready.
        match self.why_not_ready() {
            None => Ok(()),
            Some(why) => panic!("{} is not ready: {why}", self.name()),
        }
    }

    fn asked_to_stop(&self) -> Option<Exit> {
        None
    }
}

pub(super) fn up(vms: &[Config], host: &MemoryHost) -> Ended {
    let watched = vms.iter().all(|config| runs(host, config.name.as_str()));
    let members = vms.iter().map(|config| Vm::new(config, host, watched));
    let mut members: Vec<Vm<'_>> = members.collect();
    in_turns(&mut members, &mut AnotherReady::default(), false)
}

fn down(vms: &[Config], host: &MemoryHost) {
    let options = DownOptions {
        stop_deadline: Duration::from_secs(5),
        delete_volume: true,
        alone: false,
    };
    for config in vms {
        let observed = observe(config, host, Ask::Everything).unwrap();
        let plan = plan_down(config, &observed, options).unwrap();
        let vm = Vm {
            config,
            host,
            work: Work::Cut,
            watched: false,
        };
        apply(&plan.steps, host, &mut &vm).unwrap();
    }
    assert_eq!(*host, MemoryHost::new());
}

pub(super) fn is_whole(ended: &Ended) -> bool {
    ended.failed.is_none() && ended.held.is_empty() && ended.untouched.is_empty()
}

fn stopped_everywhere(prepare: impl Fn(&MemoryHost), target: &[Config]) -> usize {
    let complete = MemoryHost::new();
    prepare(&complete);
    let before = complete.changes();
    let ended = up(target, &complete);
    assert!(is_whole(&ended), "{ended:?}");
    let total = complete.changes() - before;
    for stop in 0..total {
        let host = MemoryHost::new();
        prepare(&host);
        let both_ran = runs(&host, "lb-1") && runs(&host, "lb-2");
        host.stop_after(stop);
        let ended = up(target, &host);
        host.go_on();
        let (place, failure) = ended.failed.as_ref().unwrap();
        assert_eq!(failure.exit, Exit::Failed, "{failure}");
        // What comes after it is as it was.
        assert!(ended.untouched.iter().all(|other| other != place));
        assert_eq!(ended.done.len() + 1 + ended.untouched.len(), 2);
        let run = [runs(&host, "lb-1"), runs(&host, "lb-2")];
        assert!(!both_ran || run.contains(&true), "at {stop} both are down");
        let again = up(target, &host);
        assert!(is_whole(&again), "after a stop at {stop}: {again:?}");
        assert!(target.iter().all(|config| plan(config, &host).is_empty()));
        assert_eq!(host.volumes(), 5, "base, two disks and two seeds");
        down(target, &host);
    }
    total
}

#[test]
fn a_first_up_of_two_may_stop_anywhere() {
    let stops = stopped_everywhere(|_| {}, &both(""));
    assert_eq!(
        stops, 12,
        "each: write, reserve, clone, define, autostart, start"
    );
}

#[test]
fn a_change_that_restarts_both_may_stop_anywhere_and_leaves_one_running() {
    let target = both("memory = 4096");
    let prepare = |host: &MemoryHost| assert!(is_whole(&up(&both(""), host)));
    let stops = stopped_everywhere(prepare, &target);
    assert!(stops >= 6, "{stops}");
}

#[test]
fn a_live_change_of_both_may_stop_anywhere() {
    let target = both("[guest]\ntimezone = \"Europe/Berlin\"\n");
    let prepare = |host: &MemoryHost| assert!(is_whole(&up(&both(""), host)));
    let stops = stopped_everywhere(prepare, &target);
    assert!(stops >= 6, "{stops}");
}

#[test]
fn vms_of_one_file_share_an_address_and_step_back_one_after_the_other() {
    let sharing = |memory: u32| {
        both(&format!(
            "memory = {memory}\n[virtual_ip]\naddress = \"192.0.2.30\"\n"
        ))
    };
    let host = MemoryHost::new();
    host.takes_the_address(Some("192.0.2.21"));
    let first = sharing(8192);
    for (config, other) in first.iter().zip(["192.0.2.21", "192.0.2.20"]) {
        let peers = &config.virtual_ip.as_ref().unwrap().peers;
        let peers: Vec<String> = peers.iter().map(|peer| peer.address.to_string()).collect();
        assert_eq!(peers, [other]);
    }
    assert!(is_whole(&up(&first, &host)));
    assert!(is_whole(&up(&sharing(4096), &host)));
    let asked = ["status", "yield", "status"];
    assert_eq!(host.asked_of_the_guest(), [asked, asked].concat());
    host.takes_the_address(None);
    let before = host.clone_state();
    let ended = up(&sharing(2048), &host);
    let (place, failure) = ended.failed.unwrap();
    assert_eq!((place, failure.exit), (0, Exit::Refused));
    assert_eq!(failure.messages[0].id, MessageId::NoSpare);
    assert_eq!(ended.untouched, [1]);
    assert!(host == before, "something was changed");
}

thread_local! {
    /// What the other operator's run came to.
    static OTHER: RefCell<Option<Ended>> = const { RefCell::new(None) };
}

/// Another operator does all of the same between two changes of this one, before each in turn.
#[test]
fn two_operators_at_once_never_stop_both() {
    let target = both("memory = 4096");
    let whole = MemoryHost::new();
    assert!(is_whole(&up(&both(""), &whole)));
    let prepared = whole.clone_state();
    let before = whole.changes();
    up(&target, &whole);
    let other: Visitor = |host| {
        let ended = up(&both("memory = 4096"), host);
        OTHER.with_borrow_mut(|other| *other = Some(ended));
    };
    for place in 0..whole.changes() - before {
        let host = prepared.clone_state();
        host.visit_after(place, other);
        let ended = up(&target, &host);
        let visited = OTHER.take();
        eprintln!("at {place}: {ended:?}; the other: {visited:?}");
        assert!(["lb-1", "lb-2"].iter().any(|name| runs(&host, name)));
        let again = up(&target, &host);
        assert!(is_whole(&again), "at {place}: {again:?}");
        assert!(target.iter().all(|config| plan(config, &host).is_empty()));
        down(&target, &host);
    }
}
