//! Changes inside of the guest: live, at its next boot, or by a restart now.

use super::*;

/// A seed with another `haproxy.cfg`, and the plan for each state of the agent.
fn check_guest(
    wanted: &Seed,
    observe: impl Fn(&mut Observed),
    what: &[(&str, Class)],
    later: &[&str],
    now: &[&str],
) -> Plan {
    let mut observed = settled();
    observed.availability = AgentAvailability::Ready;
    observe(&mut observed);
    let mut desired = desired();
    desired.seed = wanted.clone();
    let plan = up(&desired, &observed);
    assert_changes(&plan, what);
    assert_eq!(kinds(&plan), later);
    assert_eq!(kinds(&plan_up(&desired, &observed, NOW).unwrap()), now);
    plan
}

const LIVE_STEPS: [&str; 7] = [
    "write seed",
    "set record",
    "converge",
    "define",
    "swap",
    "set record",
    "delete seed",
];
const LATER_STEPS: [&str; 4] = ["write seed", "define", "swap", "delete seed"];
const NOW_STEPS: [&str; 4] = ["write seed", "define", "restart", "delete seed"];

#[test]
fn a_guest_that_answers_is_changed_while_it_runs() {
    let changed = seed("changed");
    let cfg = "/etc/haproxy/haproxy.cfg";
    let plan = check_guest(
        &changed,
        |_| {},
        &[(cfg, Class::Live)],
        &LIVE_STEPS,
        &LIVE_STEPS,
    );
    assert!(plan.changes[0].diff.contains("-hello\n+changed\n"));
    let Step::Converge(step) = &plan.steps[2] else {
        panic!("{plan:?}")
    };
    assert_eq!(step.guest, changed.guest);
    assert_eq!(
        step.new_seed.as_ref().unwrap().name,
        "lb-1-cloud-init.2.iso"
    );
    let Step::SetOwnership {
        ownership, note, ..
    } = &plan.steps[5]
    else {
        panic!("{plan:?}")
    };
    assert_eq!(ownership.seed.parts, changed.parts);
    assert_eq!(*note, OwnershipKind::Guest);
}

#[test]
fn a_silent_guest_is_changed_by_a_restart_and_the_plan_says_why() {
    let plan = check_guest(
        &seed("changed"),
        |o| o.availability = AgentAvailability::Out("its agent is on strike".into()),
        &[("/etc/haproxy/haproxy.cfg", Class::Restart)],
        &LATER_STEPS,
        &NOW_STEPS,
    );
    assert!(plan.notes[0].contains("on strike"), "{:?}", plan.notes);
}

#[test]
fn what_needs_a_new_process_needs_a_restart_for_everything() {
    let mut changed = seed("changed");
    changed.guest.start.nofile = 2;
    changed.parts.start = "another".into();
    let plan = check_guest(
        &changed,
        |_| {},
        &[
            ("HAProxy's process", Class::Restart),
            ("/etc/haproxy/haproxy.cfg", Class::Restart),
        ],
        &LATER_STEPS,
        &NOW_STEPS,
    );
    assert!(
        plan.notes[0].contains("the way HAProxy is started"),
        "{plan:?}"
    );
}

#[test]
fn a_live_change_is_made_while_another_waits_for_a_restart() {
    let mut changed = seed("changed");
    changed.parts.boot = "another".into();
    let plan = check_guest(
        &changed,
        |_| {},
        &[
            ("/etc/haproxy/haproxy.cfg", Class::Live),
            ("network configuration", Class::Restart),
        ],
        &LIVE_STEPS,
        &NOW_STEPS,
    );
    let Step::SetOwnership { ownership, .. } = &plan.steps[5] else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (
            ownership.seed.parts.guest.as_str(),
            ownership.seed.parts.boot.as_str()
        ),
        ("guest of changed", "boot"),
        "the guest booted with the old network configuration"
    );
}

#[test]
fn what_waits_for_a_restart_is_not_done_live_the_next_time() {
    // `--restart later` wrote it: seed, definition and drive are as desired.
    let waiting = |o: &mut Observed| {
        let live = domain(o).live.as_mut().unwrap();
        let parts = &mut live.ownership.as_mut().unwrap().seed.parts;
        (parts.guest, parts.start) = ("previous".into(), "previous".into());
    };
    check_guest(
        &seed("hello"),
        waiting,
        &[("guest", Class::Restart)],
        &[],
        &["restart"],
    );
}

#[test]
fn a_guest_that_is_off_gets_it_all_at_its_next_boot() {
    let off = |o: &mut Observed| {
        let domain = domain(o);
        (domain.live, domain.state) = (None, DomainState::ShutOff);
        o.availability = AgentAvailability::NotAsked;
    };
    let what = [
        ("/etc/haproxy/haproxy.cfg", Class::Live),
        ("state", Class::Live),
    ];
    let steps = ["write seed", "define", "start", "delete seed"];
    check_guest(&seed("changed"), off, &what, &steps, &steps);
}

#[test]
fn a_change_killed_between_guest_and_record_is_completed() {
    // The seed is written, defined and in the drive; the guest's ownership record is the previous
    // one.
    let killed = |o: &mut Observed| {
        let live = domain(o).live.as_mut().unwrap();
        live.ownership.as_mut().unwrap().seed.parts.guest = "previous".into();
    };
    check_guest(
        &seed("hello"),
        killed,
        &[("guest", Class::Live)],
        &["set record", "converge", "set record"],
        &["set record", "converge", "set record"],
    );
}

#[test]
fn a_cas_key_that_will_be_missed_is_told() {
    let mut desired = desired();
    let missing = KeyError {
        message: "`ca_key` (lbctl.toml:30) cannot be read".into(),
        hint: "let the user who runs lbctl read the file".into(),
    };
    desired.certificate.as_mut().unwrap().keyless = Some(missing);
    let note = "`ca_key` (lbctl.toml:30) cannot be read: `lbctl up` issues the client certificate with it; let the user \
                who runs lbctl read the file";
    let plan = plan_up(&desired, &bare(), Restart::Later).unwrap();
    assert!(plan.notes.contains(&note.to_owned()), "{:?}", plan.notes);
}

#[test]
fn a_new_sandbox_is_live_and_begins_with_haproxys_next_start() {
    let with_sandbox = |content: &str| {
        let mut seed = seed(content);
        let file = GuestFile {
            path: HAPROXY_SANDBOX.into(),
            content: Secret::new(content),
            affects: Service::Guest,
            ..seed.guest.files[0].clone()
        };
        seed.guest.files = vec![file];
        seed
    };
    let later = |plan: &Plan| {
        let told = |note: &String| note.contains("sandbox at its next start");
        plan.notes.iter().any(told)
    };
    let new = with_sandbox("new");
    let mut old = with_sandbox("old");
    old.guest.files = Vec::new();
    for before in [old, with_sandbox("old")] {
        let found = || {
            Some(SeedContent::Ours(Box::new(FoundSeed {
                made: Vec::new(),
                fingerprint: "of hello".into(),
                files: Vec::new(),
                client_pem: None,
                guest: Some(before.guest.clone()),
            })))
        };
        let ready = |o: &mut Observed| o.seeds[0] = place(desired().seed_volume, found());
        let own = "lbctl's own files in the guest";
        let plan = check_guest(&new, ready, &[(own, Class::Live)], &LIVE_STEPS, &LIVE_STEPS);
        assert!(later(&plan), "{:?}", plan.notes);
        // With a restart it begins with that.
        let silent = |o: &mut Observed| {
            ready(o);
            o.availability = AgentAvailability::NotAsked;
        };
        let plan = check_guest(
            &new,
            silent,
            &[(own, Class::Restart)],
            &LATER_STEPS,
            &NOW_STEPS,
        );
        assert!(!later(&plan), "{:?}", plan.notes);
    }
    let plan = check_guest(
        &seed("changed"),
        |_| {},
        &[("/etc/haproxy/haproxy.cfg", Class::Live)],
        &LIVE_STEPS,
        &LIVE_STEPS,
    );
    assert!(!later(&plan), "{:?}", plan.notes);
}
