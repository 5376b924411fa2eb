//! Several VMs of one load balancer, worked on one after the other, so that a change that is wrong
//! is met by the first of them, and so that sessions can always be made through another one. VMs of
//! several load balancers (`-c DIR`) are groups ([`Member::group`]): one comes after the other, and
//! what is said of other VMs here is said of those of the same group.
//!
//! Rules:
//! - A VM is stopped only while another VM is ready ([`Gate::before`]). Where that is not so, the
//!   VM is held back, the others are worked on, and it is tried again after each that became ready.
//! - Of VMs that share an address the one that has it comes last, whatever is to be done to it: the
//!   others are changed and ready by then, and keepalived's settings reach those that only listen
//!   first. A VM that it was not told of yet is started after it: before, both would have the
//!   address. How it gives the address away is a step of its own plan, for the guest alone can say
//!   whether another one takes it.
//! - As soon as two VMs are touched and one of them runs, each that boots is ready before the next
//!   one is touched.
//! - The first failure ends it: what is left is not touched.
//!
//! What is to be done to a VM, and how, is its [`Member`]'s business.

use std::collections::VecDeque;

use crate::exit::{Exit, Failure, MessageId};

/// The most that is to be done to a VM, in the order in which VMs are worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    Nothing,
    /// It is made or started: nobody is disturbed.
    Start,
    /// It runs, and no session is cut.
    Live,
    /// It is restarted, after another VM has taken the address that they share.
    Handover,
    /// It is restarted or stopped: every session through it is cut.
    Cut,
}

impl Work {
    /// Whether the guest boots afterwards.
    fn boots(self) -> bool {
        matches!(self, Self::Start | Self::Handover | Self::Cut)
    }

    /// Whether a guest that runs is touched.
    fn touches(self) -> bool {
        matches!(self, Self::Live | Self::Handover | Self::Cut)
    }
}

/// One VM.
pub trait Member {
    fn name(&self) -> &str;
    /// Which of the members belong together: clients of one may come to the others.
    fn group(&self) -> usize {
        0
    }
    /// As it was found before anything was done.
    fn work(&self) -> Work;
    /// How it stands with the address that the VMs share: as it was found, until it was worked on.
    fn shares(&self) -> Shares;
    /// Why psql through it does not work now; `None`: it does.
    fn why_not_ready(&mut self) -> Option<String>;
    fn carry_out(&mut self) -> Result<(), Failure>;
    /// Waits. `left`: the VMs that come after it, for the words of whoever stops that.
    fn until_ready(&mut self, left: &[String]) -> Result<(), Failure>;
    /// Whether a signal asks to stop, and how lbctl ends then.
    fn asked_to_stop(&self) -> Option<Exit>;
    /// How an operator goes on where not all were worked on.
    fn goes_on(&self) -> &'static str {
        "the same command goes on from here"
    }
}

/// How a VM stands with the address that it shares with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shares {
    /// Whether it has it.
    pub holds: bool,
    /// Whether it has it, or may have it, and was not told of all the VMs that share it: to those
    /// it says nothing.
    pub unaware: bool,
}

/// What is known of the VMs beside their plans: which one comes when, and what must be so before
/// one is started or stopped.
pub trait Gate<M: Member> {
    /// The places of the members, in the order of work.
    fn order(&mut self, members: &mut [M]) -> Vec<usize>;
    /// An error: nothing of `next` is done now.
    fn before(&mut self, next: usize, members: &mut [M]) -> Result<(), Failure>;
}

/// In the order of [`in_order`]; one is stopped while another one is ready.
#[derive(Debug, Default)]
pub struct AnotherReady {
    /// The VMs whose hosts do not answer, each with its group.
    pub away: Vec<(usize, String)>,
}

/// What decides when a VM has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub group: usize,
    pub shares: Shares,
    pub work: Work,
}

/// The places of VMs in the order of work: group by group, the one that has the shared address
/// last, then by [`Work`], and then as in the file. Where the one that has it was not told of all,
/// those that do not run come after it.
#[must_use]
pub fn in_order(vms: &[Standing]) -> Vec<usize> {
    let unaware = |group: usize| {
        let mut group = vms.iter().filter(|vm| vm.group == group);
        group.any(|vm| vm.shares.unaware)
    };
    let key = |place: &usize| {
        let vm = vms.get(*place)?;
        let after = unaware(vm.group) && vm.work == Work::Start;
        Some((vm.group, after, vm.shares.holds, vm.work))
    };
    let mut places: Vec<usize> = (0..vms.len()).collect();
    places.sort_by_key(key);
    places
}

impl<M: Member> Gate<M> for AnotherReady {
    fn order(&mut self, members: &mut [M]) -> Vec<usize> {
        let standing = |member: &M| Standing {
            group: member.group(),
            shares: member.shares(),
            work: member.work(),
        };
        let all: Vec<Standing> = members.iter().map(standing).collect();
        in_order(&all)
    }

    fn before(&mut self, next: usize, members: &mut [M]) -> Result<(), Failure> {
        match members.get(next).map(Member::work) {
            Some(Work::Start) => alone_with_it(next, members),
            Some(Work::Handover | Work::Cut) => self.another_ready(next, members),
            Some(Work::Nothing | Work::Live) | None => Ok(()),
        }
    }
}

/// An error: another VM has the shared address, and would say nothing to the one that is to start.
fn alone_with_it<M: Member>(next: usize, members: &[M]) -> Result<(), Failure> {
    let Some(member) = members.get(next) else {
        return Ok(());
    };
    let mut others = members.iter().enumerate();
    let holder = others.find(|(place, other)| {
        *place != next && other.group() == member.group() && other.shares().unaware
    });
    let Some((_, holder)) = holder else {
        return Ok(());
    };
    let (name, holder) = (member.name(), holder.name());
    Err(Failure::new(
        Exit::Refused,
        MessageId::WrongState,
        format!(
            "{name}: not started, for as far as is known {holder} has the shared address and was not told of {name}: both \
             would have it"
        ),
        format!(
            "`lbctl up --restart later` tells {holder}, unless that waits for its restart: then `--restart now` does"
        ),
    ))
}

impl AnotherReady {
    fn another_ready<M: Member>(&self, next: usize, members: &mut [M]) -> Result<(), Failure> {
        let mut others: Vec<String> = Vec::new();
        let Some(group) = members.get(next).map(Member::group) else {
            return Ok(());
        };
        let mut name = String::new();
        let members = members.iter_mut().enumerate();
        for (place, member) in members.filter(|(_, member)| member.group() == group) {
            if place == next {
                member.name().clone_into(&mut name);
                continue;
            }
            match member.why_not_ready() {
                None => return Ok(()),
                Some(why) => others.push(format!("{}: {why}", member.name())),
            }
        }
        let away = self.away.iter().filter(|(of, _)| *of == group);
        others.extend(away.map(|(_, name)| format!("{name}: not reached")));
        if others.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Refused,
            MessageId::NoOtherReady,
            format!(
                "{name}: its sessions would be cut while no other VM is ready, and nothing of it was changed ({})",
                others.join("; ")
            ),
            format!(
                "`lbctl status` shows the others; with `--only {name}` it is done all the same"
            ),
        ))
    }
}

/// How it ended. The places of members.
#[derive(Debug, Default)]
pub struct Ended {
    /// In this order.
    pub done: Vec<usize>,
    /// Nothing of them was done, and why.
    pub held: Vec<(usize, Failure)>,
    pub failed: Option<(usize, Failure)>,
    /// Nothing was done, because of the failure.
    pub untouched: Vec<usize>,
}

/// Works on all of them. `wait`: each is ready before the next is looked at, whatever was done.
pub fn in_turns<M: Member>(members: &mut [M], gate: &mut dyn Gate<M>, wait: bool) -> Ended {
    let mut pending: VecDeque<usize> = gate.order(members).into();
    let work = || members.iter().map(Member::work);
    let several = work().filter(|work| *work != Work::Nothing).count() > 1;
    let waiting = Waiting {
        always: wait,
        for_boots: several && work().any(Work::touches),
    };
    let mut ended = Ended::default();
    while let Some(next) = pending.pop_front() {
        let asked = |member: &M| Some((member.asked_to_stop()?, member.goes_on()));
        if let Some((exit, goes_on)) = members.get(next).and_then(asked) {
            let text = format!("stopped between two VMs; {goes_on}");
            ended.failed = Some((next, Failure::stopped(exit, text)));
            pending.push_front(next);
            break;
        }
        let work = members.get(next).map_or(Work::Nothing, Member::work);
        if let Err(why) = gate.before(next, members) {
            ended.held.push((next, why));
            continue;
        }
        let later = pending
            .iter()
            .chain(ended.held.iter().map(|(place, _)| place));
        let later: Vec<usize> = later.copied().collect();
        if let Err(failure) = turn(members, next, &later, waiting) {
            ended.failed = Some((next, failure));
            break;
        }
        ended.done.push(next);
        if work != Work::Nothing {
            // It may be the one that those were held back for.
            pending.extend(ended.held.drain(..).map(|(place, _)| place));
        }
    }
    if ended.failed.is_some() {
        let held = ended.held.drain(..).map(|(place, _)| place);
        ended.untouched = pending.into_iter().chain(held).collect();
        ended.untouched.sort_unstable();
    }
    ended
}

/// After which work a VM is waited for.
#[derive(Clone, Copy)]
struct Waiting {
    always: bool,
    for_boots: bool,
}

/// `later`: the members that are still to be worked on.
fn turn<M: Member>(
    members: &mut [M],
    next: usize,
    later: &[usize],
    waiting: Waiting,
) -> Result<(), Failure> {
    let left: Vec<String> = later
        .iter()
        .filter_map(|place| members.get(*place))
        .filter(|member| member.work() != Work::Nothing)
        .map(|member| member.name().to_owned())
        .collect();
    let Some(member) = members.get_mut(next) else {
        return Ok(());
    };
    member.carry_out()?;
    if waiting.always || waiting.for_boots && member.work().boots() {
        member.until_ready(&left)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// What was done to whom, in its order.
    type Log = Rc<RefCell<Vec<String>>>;

    struct Scripted {
        name: &'static str,
        group: usize,
        work: Work,
        shares: Shares,
        ready: bool,
        /// Whether it is ready after its turn.
        comes_up: bool,
        fails: bool,
        stop: Option<Exit>,
        log: Log,
    }

    impl Scripted {
        fn note(&self, what: &str) {
            self.log.borrow_mut().push(format!("{what} {}", self.name));
        }
    }

    impl Member for Scripted {
        fn name(&self) -> &str {
            self.name
        }

        fn group(&self) -> usize {
            self.group
        }

        fn work(&self) -> Work {
            self.work
        }

        fn shares(&self) -> Shares {
            self.shares
        }

        fn why_not_ready(&mut self) -> Option<String> {
            (!self.ready).then(|| "no node is the primary".to_owned())
        }

        fn carry_out(&mut self) -> Result<(), Failure> {
            if self.work != Work::Nothing {
                self.note(&format!("{:?}", self.work));
            }
            if self.fails {
                return Err(Failure::new(
                    Exit::Failed,
                    MessageId::LibvirtError,
                    "no",
                    "",
                ));
            }
            if self.work != Work::Nothing {
                self.ready = self.comes_up;
                self.shares.unaware = false;
            }
            Ok(())
        }

        fn until_ready(&mut self, left: &[String]) -> Result<(), Failure> {
            self.note("wait");
            if self.comes_up {
                return Ok(());
            }
            let text = format!("before {}", left.join(","));
            Err(Failure::new(Exit::NotReady, MessageId::NotReady, text, ""))
        }

        fn asked_to_stop(&self) -> Option<Exit> {
            self.stop
        }
    }

    fn vms(of: &[(&'static str, Work, bool)]) -> (Vec<Scripted>, Log) {
        let log = Log::default();
        let vm = |(name, work, ready): &(&'static str, Work, bool)| Scripted {
            name,
            group: 0,
            work: *work,
            shares: Shares::default(),
            ready: *ready,
            comes_up: true,
            fails: false,
            stop: None,
            log: Rc::clone(&log),
        };
        (of.iter().map(vm).collect(), log)
    }

    fn run(members: &mut [Scripted], away: &[&str], wait: bool) -> Ended {
        let away = away.iter().map(|name| (0, (*name).to_owned())).collect();
        in_turns(members, &mut AnotherReady { away }, wait)
    }

    fn said(log: &Log) -> String {
        log.borrow().join(", ")
    }

    #[test]
    fn restarts_come_last_one_by_one_and_each_is_ready_before_the_next() {
        let of = [
            ("a", Work::Cut, true),
            ("b", Work::Live, true),
            ("c", Work::Cut, true),
            ("d", Work::Start, false),
            ("e", Work::Nothing, true),
        ];
        let (mut members, log) = vms(&of);
        let ended = run(&mut members, &[], false);
        assert_eq!(
            said(&log),
            "Start d, wait d, Live b, Cut a, wait a, Cut c, wait c"
        );
        assert_eq!(ended.done, [4, 3, 1, 0, 2]);
        assert!(ended.failed.is_none() && ended.held.is_empty() && ended.untouched.is_empty());
        let (mut members, log) = vms(&of);
        run(&mut members, &[], true);
        assert_eq!(
            said(&log),
            "wait e, Start d, wait d, Live b, wait b, Cut a, wait a, Cut c, wait c"
        );
    }

    #[test]
    fn new_ones_are_not_waited_for_unless_that_is_asked() {
        let of = [("a", Work::Start, false), ("b", Work::Start, false)];
        for (wait, expected) in [
            (false, "Start a, Start b"),
            (true, "Start a, wait a, Start b, wait b"),
        ] {
            let (mut members, log) = vms(&of);
            run(&mut members, &[], wait);
            assert_eq!(said(&log), expected);
        }
    }

    #[test]
    fn the_first_that_does_not_come_up_ends_it() {
        let of = [
            ("a", Work::Cut, true),
            ("b", Work::Cut, true),
            ("c", Work::Cut, true),
        ];
        let (mut members, log) = vms(&of);
        members[0].comes_up = false;
        let ended = run(&mut members, &[], false);
        assert_eq!(said(&log), "Cut a, wait a");
        let (place, failure) = ended.failed.unwrap();
        assert_eq!((place, failure.exit), (0, Exit::NotReady));
        assert_eq!(failure.to_string(), "before b,c");
        assert_eq!((ended.done, ended.untouched), (vec![], vec![1, 2]));
    }

    #[test]
    fn a_failed_step_ends_it_too() {
        let (mut members, log) = vms(&[("a", Work::Live, true), ("b", Work::Live, true)]);
        members[0].fails = true;
        let ended = run(&mut members, &[], false);
        assert_eq!(said(&log), "Live a");
        assert_eq!(ended.untouched, [1]);
    }

    #[test]
    fn the_one_that_is_not_ready_comes_before_the_one_that_is() {
        let (mut members, log) = vms(&[("a", Work::Cut, true), ("b", Work::Cut, false)]);
        let ended = run(&mut members, &[], false);
        assert_eq!(said(&log), "Cut b, wait b, Cut a, wait a");
        assert!(ended.held.is_empty());
    }

    #[test]
    fn nobody_is_restarted_while_no_other_is_ready() {
        let (mut members, log) = vms(&[
            ("a", Work::Cut, true),
            ("b", Work::Nothing, false),
            ("c", Work::Live, false),
        ]);
        members[2].comes_up = false;
        let ended = run(&mut members, &["d"], false);
        assert_eq!(said(&log), "Live c");
        assert_eq!(ended.held.len(), 1, "{ended:?}");
        let (place, failure) = ended.held.first().unwrap();
        assert_eq!((*place, failure.exit), (0, Exit::Refused));
        let said = failure.to_string();
        assert!(said.contains("b: no node is the primary; c: "), "{said}");
        assert!(said.contains("d: not reached"), "{said}");
    }

    #[test]
    fn one_alone_is_restarted_and_one_beside_a_host_that_is_away_is_not() {
        let (mut members, log) = vms(&[("a", Work::Cut, true)]);
        assert!(run(&mut members, &[], false).held.is_empty());
        assert_eq!(said(&log), "Cut a");
        let (mut members, log) = vms(&[("a", Work::Cut, true)]);
        assert_eq!(run(&mut members, &["b"], false).held.len(), 1);
        assert_eq!(said(&log), "");
    }

    #[test]
    fn the_one_that_has_the_shared_address_comes_last_whatever_is_done_to_it() {
        for (of_holder, expected) in [
            (
                Work::Handover,
                "Live b, Handover c, wait c, Handover a, wait a",
            ),
            (Work::Live, "Live b, Handover c, wait c, Live a"),
            (Work::Start, "Live b, Handover c, wait c, Start a, wait a"),
        ] {
            let (mut members, log) = vms(&[
                ("a", of_holder, true),
                ("b", Work::Live, true),
                ("c", Work::Handover, true),
            ]);
            members[0].shares.holds = true;
            let ended = run(&mut members, &[], false);
            assert_eq!(said(&log), expected);
            assert!(ended.failed.is_none() && ended.held.is_empty());
        }
    }

    #[test]
    fn the_holder_is_not_touched_where_the_one_before_it_does_not_come_up() {
        let (mut members, log) = vms(&[("a", Work::Handover, true), ("b", Work::Handover, true)]);
        members[0].shares.holds = true;
        members[1].comes_up = false;
        let ended = run(&mut members, &[], false);
        assert_eq!(said(&log), "Handover b, wait b");
        let (place, failure) = ended.failed.unwrap();
        assert_eq!((place, failure.exit), (1, Exit::NotReady));
        assert_eq!(ended.untouched, [0]);
    }

    #[test]
    fn a_new_one_starts_when_the_one_that_has_the_address_was_told_of_it() {
        let of = [
            ("new", Work::Start, false),
            ("holder", Work::Live, true),
            ("c", Work::Live, true),
        ];
        for (unaware, expected) in [
            (true, "Live c, Live holder, Start new, wait new"),
            (false, "Start new, wait new, Live c, Live holder"),
        ] {
            let (mut members, log) = vms(&of);
            (members[1].shares.holds, members[1].shares.unaware) = (true, unaware);
            assert!(run(&mut members, &[], false).held.is_empty());
            assert_eq!(said(&log), expected);
        }
        // Held back with the holder, which nobody takes over from.
        let (mut members, log) = vms(&of[..2]);
        members[1].work = Work::Cut;
        (members[1].shares.holds, members[1].shares.unaware) = (true, true);
        let ended = run(&mut members, &[], false);
        assert_eq!(said(&log), "");
        assert!(ended.held.iter().all(|(_, why)| why.exit == Exit::Refused));
        assert_eq!(ended.held.len(), 2);
    }

    #[test]
    fn a_handover_too_waits_for_another_one_that_is_ready() {
        let (mut members, log) = vms(&[("a", Work::Handover, true), ("b", Work::Nothing, false)]);
        members[0].shares.holds = true;
        let ended = run(&mut members, &[], false);
        assert_eq!(said(&log), "");
        assert_eq!(ended.held.first().unwrap().1.exit, Exit::Refused);
    }

    #[test]
    fn what_is_ready_of_another_load_balancer_does_not_count() {
        let of = [
            ("a1", Work::Cut, true),
            ("b1", Work::Cut, true),
            ("a2", Work::Nothing, false),
            ("b2", Work::Cut, true),
            ("c", Work::Cut, true),
        ];
        let (mut members, log) = vms(&of);
        for (place, group) in [(1, 1), (3, 1), (4, 2)] {
            members[place].group = group;
        }
        members[1].shares.holds = true;
        let ended = run(&mut members, &[], false);
        assert_eq!(
            said(&log),
            "Cut b2, wait b2, Cut b1, wait b1, Cut c, wait c"
        );
        let held: Vec<usize> = ended.held.iter().map(|(place, _)| *place).collect();
        assert_eq!(held, [0]);
        // A host of another one that is away holds nothing back.
        let (mut members, log) = vms(&[("a", Work::Cut, true)]);
        members[0].group = 1;
        assert!(run(&mut members, &["b"], false).held.is_empty());
        assert_eq!(said(&log), "Cut a");
    }

    #[test]
    fn a_signal_between_two_leaves_the_second_untouched() {
        let (mut members, log) = vms(&[("a", Work::Live, true), ("b", Work::Live, true)]);
        members[1].stop = Some(Exit::Interrupted);
        let ended = run(&mut members, &[], false);
        assert_eq!(said(&log), "Live a");
        assert_eq!(ended.failed.unwrap().1.exit, Exit::Interrupted);
        assert_eq!((ended.done, ended.untouched), (vec![0], vec![1]));
    }
}
