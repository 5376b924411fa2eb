//! A VM that shares an address: before it is stopped another one takes the address, or nothing is
//! done.

use std::time::Duration;

use lbctl::testing::config::Config;
use lbctl::testing::exit::Exit;
use lbctl::testing::host::HostReader;
use lbctl::testing::reconcile::apply::{ApplyError, Progress, apply};
use lbctl::testing::reconcile::observe::{Ask, observe};
use lbctl::testing::reconcile::plan::{DownOptions, Plan, Step, plan_down, plan_up};

use super::{AT_ONCE, Quiet, config, down, observe_all, plan, up};
use crate::support::host::MemoryHost;

const OTHER: &str = "192.0.2.21";

fn sharing(memory: u32, drain: &str) -> Config {
    config(&format!(
        r#"memory = {memory}
[virtual_ip]
address = "192.0.2.30"
peers = ["{OTHER}"]
drain = "{drain}""#
    ))
}

/// A VM that runs, beside one that would take the address.
fn running(config: &Config) -> MemoryHost {
    let host = MemoryHost::new();
    host.takes_the_address(Some(OTHER));
    up(config, &host);
    host
}

fn removal(config: &Config, host: &MemoryHost, alone: bool) -> Plan {
    let options = DownOptions {
        stop_deadline: Duration::from_secs(5),
        delete_volume: true,
        alone,
    };
    let observed = observe(config, host, Ask::Everything).unwrap();
    plan_down(config, &observed, options).unwrap()
}

#[track_caller]
fn refused_unchanged(plan: &Plan, host: &MemoryHost) {
    let before = host.clone_state();
    let failed = apply(&plan.steps, host, &mut Quiet).unwrap_err();
    let ApplyError::Failed {
        step, done, error, ..
    } = failed
    else {
        panic!("{failed:?}")
    };
    assert!(
        matches!(*step, Step::StepBack { .. }) && done == 0,
        "{step}"
    );
    assert_eq!(error.said, "192.0.2.21 is not heard of");
    assert!(*host == before, "something was changed");
}

#[test]
fn the_other_one_takes_the_address_before_a_restart() {
    let host = running(&sharing(8192, "10m"));
    let wanted = sharing(4096, "10m");
    let (mut observed, desired) = observe_all(&wanted, &host);
    observed.spare = true;
    let plan = plan_up(&desired, &observed, AT_ONCE).unwrap();
    assert!(plan.hands_over(), "{:?}", plan.changes);
    apply(&plan.steps, &host, &mut Quiet).unwrap();
    assert_eq!(host.asked_of_the_guest(), ["status", "yield", "status"]);
    assert!(super::plan(&wanted, &host).is_empty());
    let live = host.domain("lb-1").unwrap().unwrap().live.unwrap();
    assert_eq!(live.memory_kib, 4096 * 1024);
}

#[test]
fn where_nobody_takes_it_nothing_is_changed() {
    let config = sharing(8192, "10m");
    let host = running(&config);
    host.takes_the_address(None);
    refused_unchanged(&plan(&sharing(4096, "10m"), &host), &host);
    refused_unchanged(&removal(&config, &host, false), &host);
    let alone = removal(&config, &host, true);
    apply(&alone.steps, &host, &mut Quiet).unwrap();
    assert!(host.domain("lb-1").unwrap().is_none());
}

#[test]
fn sessions_have_their_time_and_then_the_other_one_is_looked_at_again() {
    let host = running(&sharing(8192, "1s"));
    host.has_sessions(3);
    apply(&plan(&sharing(4096, "1s"), &host).steps, &host, &mut Quiet).unwrap();
    let asked = host.asked_of_the_guest();
    assert_eq!(asked.first().map(String::as_str), Some("status"));
    let stepped_back = asked.iter().filter(|asked| *asked == "yield").count();
    assert_eq!(stepped_back, 2, "{asked:?}");
}

#[test]
fn an_address_that_comes_back_while_sessions_have_their_time_is_given_away_again() {
    let host = running(&sharing(8192, "10m"));
    host.has_sessions(3);
    host.gets_the_address_back(1);
    let mut notes = Notes(&host, Vec::new());
    apply(&plan(&sharing(4096, "10m"), &host).steps, &host, &mut notes).unwrap();
    let asked = host.asked_of_the_guest();
    let expected = [
        "status", "yield", "status", "yield", "status", "status", "yield", "status",
    ];
    assert_eq!(asked, expected);
    assert_eq!(notes.1, ["lb-1: sessions still in it: 3"]);
}

/// What was said. The sessions end when it is said that there are some.
struct Notes<'a>(&'a MemoryHost, Vec<String>);

impl Progress for Notes<'_> {
    fn begin(&mut self, _: &Step) {}
    fn end(&mut self, _: &Step, _: Duration) {}
    fn note(&mut self, text: &str) {
        self.0.has_sessions(0);
        self.1.push(text.to_owned());
    }
    fn stop(&self) -> Option<Exit> {
        None
    }
}

/// A signal comes when the address has been given away.
struct StopsAfterOne(bool);

impl Progress for StopsAfterOne {
    fn begin(&mut self, _: &Step) {}
    fn end(&mut self, _: &Step, _: Duration) {
        self.0 = true;
    }
    fn note(&mut self, _: &str) {}
    fn stop(&self) -> Option<Exit> {
        self.0.then_some(Exit::Interrupted)
    }
}

#[test]
fn an_address_given_away_for_a_stop_that_did_not_come_may_come_back() {
    let host = running(&sharing(8192, "10m"));
    let plan = plan(&sharing(4096, "10m"), &host);
    let stopped = apply(&plan.steps, &host, &mut StopsAfterOne(false)).unwrap_err();
    assert!(matches!(stopped, ApplyError::Stopped { .. }), "{stopped:?}");
    let asked = host.asked_of_the_guest();
    assert_eq!(asked, ["status", "yield", "status", "unyield"]);
}

#[test]
fn an_end_leaves_nothing_where_another_one_takes_it() {
    let config = sharing(8192, "10m");
    let host = running(&config);
    down(&config, &host);
    assert_eq!(host.asked_of_the_guest(), ["status", "yield", "status"]);
    assert!(host == MemoryHost::new());
}
