//! Several VMs one after the other, for `lbctl up` and `lbctl restart`: look at all at once, ask
//! once, then give each its turn (`reconcile/turns` has the rules).

use std::thread::sleep;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::plan::{Told, asked, planned};
use super::restart::RestartReport;
use super::up::{UpReport, address_of, bring_up, decide_all};
use super::vms::{
    Found, Groups, SeveralReport, VmResult, ask_all, ensure_one, is_away, joined, not_reached,
};
use super::wait::until_ready;
use super::{CommandResult, Consents, Session, saved_plan};
use crate::cli::{Cli, RestartPolicy, UpArgs};
use crate::config::Config;
use crate::exit::{Exit, Failure, MessageId};
use crate::guest::Guest;
use crate::host::libvirt::LibvirtHost;
use crate::output::Output;
use crate::output::interrupt::Interrupt;
use crate::reconcile::desired::Intent;
use crate::reconcile::plan::{Plan, Restart, Step};
use crate::reconcile::turns::{AnotherReady, Ended, Member, Shares, Work, in_turns};
use crate::status::Status;

/// How long each may take to be ready, where nobody said.
const READY: Duration = Duration::from_secs(600);
/// How long a VM that is ready may take until it would have the shared address, and between two
/// questions for that.
const FIT: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(500);

pub(super) fn up(cli: &Cli, out: &Output, args: &UpArgs, vms: &[Config]) -> CommandResult {
    if args.plan.is_some() {
        ensure_one(vms, "lbctl up FILE")?;
    }
    let interrupt = Interrupt::listen(out, "stopped, nothing was changed");
    let (consents, saved) = (Consents::of_up(args), args.plan.clone());
    let found = ask_all(vms, cli, out, move |config, host, out| {
        let planned = planned(config, host, Intent::Apply, consents, out)?;
        if let Some(file) = &saved {
            saved_plan::ensure_same(file, planned.shown())?;
        }
        Ok(planned)
    });
    let looked = match look(Roll::Up, vms, found, out) {
        Ok(looked) => looked,
        Err(report) => return Ok(Box::new(report)),
    };
    let yes = cli.global.yes;
    let plans: Vec<&Plan> = looked.seen.iter().map(|vm| &vm.found.plan).collect();
    let restart = consent(&plans, args, yes, out)?;
    let groups = Groups::of(vms);
    let rolling = Rolling {
        roll: Roll::Up,
        groups: &groups,
        wait: args.wait,
        interrupt: &interrupt,
        out,
    };
    let seen = looked.seen.into_iter().zip(restart);
    let turns = seen.map(|(vm, restart)| {
        let work = vm.found.work(restart);
        let shares = vm.found.shares;
        rolling.turn(
            vm.config,
            vm.host,
            (work, shares),
            move |config, working| {
                let args = UpArgs {
                    restart: behind_the_gate(work, args.restart),
                    ..args.clone()
                };
                bring_up(config, &args, Consents::of_up(&args), yes, restart, working)
            },
        )
    });
    Ok(Box::new(rolling.carry_out(
        turns.collect(),
        looked.away,
        vms,
    )))
}

/// For each plan what is done about the changes that need a restart, where it has any: asked once.
fn consent(
    plans: &[&Plan],
    args: &UpArgs,
    yes: bool,
    out: &Output,
) -> Result<Vec<Option<Restart>>, Failure> {
    let asks = match args.restart {
        RestartPolicy::Now => false,
        RestartPolicy::Ask => !yes,
        RestartPolicy::Later | RestartPolicy::Never => true,
    };
    // An earlier run was told to wait with those, or this one is.
    let later = |plan: &Plan| args.restart == RestartPolicy::Later && plan.hands_over();
    let agreed = |plan: &Plan| asks && plan.awaits_restart() || later(plan);
    let never = |plan: &Plan| args.restart == RestartPolicy::Never && plan.hands_over();
    let needs = |plan: &Plan| never(plan) || !plan.needing_restart().is_empty();
    let open = plans.iter().filter(|plan| !agreed(plan) && needs(plan));
    let open: Vec<&Plan> = open.copied().collect();
    let decided = if open.is_empty() {
        None
    } else {
        Some(decide_all(&open, args, yes, false, out)?)
    };
    let of = |plan: &&Plan| match decided {
        _ if agreed(plan) => Some(Restart::Later),
        decided if !plan.needing_restart().is_empty() => decided,
        _ => None,
    };
    Ok(plans.iter().map(of).collect())
}

/// The command that goes from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Roll {
    Up,
    Restart,
}

impl Roll {
    fn command(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Restart => "restart",
        }
    }

    /// How an operator goes on where not all were worked on: a second `up` finds the first ones as
    /// they are to be, and a second `restart` would restart them again.
    fn goes_on(self) -> &'static str {
        match self {
            Self::Up => "the same command goes on from here",
            Self::Restart => "`lbctl restart --only NAME` restarts what is left",
        }
    }
}

/// One VM as it was found before any was touched.
pub(super) struct Seen<'a, T> {
    pub config: &'a Config,
    pub host: LibvirtHost,
    pub found: T,
}

/// The VMs as they were found.
pub(super) struct Looked<'a, T> {
    pub seen: Vec<Seen<'a, T>>,
    pub away: Vec<(&'a str, Failure)>,
}

/// What is wrong with one is known before any is touched: then this is the report. Those whose
/// hosts were not reached do not keep the others.
pub(super) fn look<'a, T>(
    roll: Roll,
    vms: &'a [Config],
    found: Vec<Found<T>>,
    out: &Output,
) -> Result<Looked<'a, T>, SeveralReport> {
    let (mut seen, mut away, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for (config, found) in vms.iter().zip(found) {
        let name = config.name.as_str();
        match found {
            Found::Here(host, Ok(found)) => seen.push(Seen {
                config,
                host,
                found,
            }),
            Found::Here(_, Err(failure)) => results.push(VmResult::failed(name, failure)),
            Found::Away(failure) => away.push((name, failure)),
        }
    }
    if !results.is_empty() {
        let names: Vec<&str> = results.iter().map(|vm| vm.name.as_str()).collect();
        let because = joined(&names);
        let others = seen.iter().map(|vm| vm.config.name.as_str());
        let untouched = others.map(|name| VmResult::untouched(name, &because));
        results.extend(untouched);
        results.extend(away_results(roll, away));
        return Err(report(roll, results, vms));
    }
    for (name, _) in away.iter().filter(|_| !seen.is_empty()) {
        out.say(format!(
            "{name}: not reached, lbctl continues with the others"
        ));
    }
    Ok(Looked { seen, away })
}

/// What is done to a VM in its turn. It gives back what was planned and done.
type Act<'a> = Box<dyn Fn(&Config, Session<'_>) -> Result<Plan, Failure> + 'a>;

/// What all VMs of a run have in common.
#[derive(Clone, Copy)]
pub(super) struct Rolling<'a> {
    pub roll: Roll,
    /// Which of them belong together.
    pub groups: &'a Groups,
    /// Whether each is waited for whatever was done, and how long.
    pub wait: Option<Duration>,
    pub interrupt: &'a Interrupt,
    /// Of all of them.
    pub out: &'a Output,
}

impl<'a> Rolling<'a> {
    pub fn turn(
        self,
        config: &'a Config,
        host: LibvirtHost,
        (work, shares): (Work, Shares),
        act: impl Fn(&Config, Session<'_>) -> Result<Plan, Failure> + 'a,
    ) -> Turn<'a> {
        let out = self.out.of_vm(config.name.as_str());
        out.set_uri(host.uri());
        Turn {
            config,
            host,
            work,
            shares,
            act: Box::new(act),
            out,
            rolling: self,
            done: None,
            ready: None,
        }
    }

    /// One after the other; what came of it.
    pub fn carry_out(
        self,
        mut turns: Vec<Turn<'a>>,
        away: Vec<(&str, Failure)>,
        vms: &[Config],
    ) -> SeveralReport {
        let of_group = |(name, _): &(&str, Failure)| (self.groups.group(name), (*name).to_owned());
        let mut gate = AnotherReady {
            away: away.iter().map(of_group).collect(),
        };
        let ended = in_turns(&mut turns, &mut gate, self.wait.is_some());
        if self.roll == Roll::Up && ended.failed.is_none() && turns.iter().any(Turn::may_boot) {
            self.out.hint(
                "`lbctl up --wait` waits until psql works; `lbctl status` shows how far it is",
            );
        }
        let mut results = results_of(turns, ended);
        results.extend(away_results(self.roll, away));
        report(self.roll, results, vms)
    }
}

/// One VM and its turn.
pub(super) struct Turn<'a> {
    config: &'a Config,
    host: LibvirtHost,
    work: Work,
    shares: Shares,
    act: Act<'a>,
    /// Of this VM.
    out: Output,
    rolling: Rolling<'a>,
    /// What was done, and when that began.
    done: Option<(Plan, Instant)>,
    ready: Option<bool>,
}

impl Member for Turn<'_> {
    fn name(&self) -> &str {
        self.config.name.as_str()
    }

    fn group(&self) -> usize {
        self.rolling.groups.group(self.name())
    }

    fn work(&self) -> Work {
        self.work
    }

    fn shares(&self) -> Shares {
        self.shares
    }

    fn why_not_ready(&mut self) -> Option<String> {
        let asking = format!("asking whether {} is ready", self.config.name);
        let _working = self.out.working(&asking, None);
        let now = OffsetDateTime::now_utc();
        match Status::fetch(self.config, &self.host, self.host.uri(), now) {
            Ok(status) => status.why_not(),
            Err(error) => Some(error.to_string()),
        }
    }

    fn carry_out(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let name = self.config.name.as_str();
        // What it took begins now, and not when the first VM had its turn.
        self.out = self.out.of_vm(name);
        self.out.set_uri(self.host.uri());
        let goes_on = self.rolling.roll.goes_on();
        self.rolling
            .interrupt
            .at_once(&format!("stopped before {name}; {goes_on}"));
        let working = Session {
            host: &self.host,
            out: &self.out,
            interrupt: self.rolling.interrupt,
        };
        let plan = (self.act)(self.config, working)?;
        if self.rolling.roll == Roll::Up && self.shares.unaware {
            // What it was to be told may wait for a restart of it.
            let restarts = |step: &Step| matches!(step, Step::Restart { .. } | Step::Stop { .. });
            let tells = |step: &Step| matches!(step, Step::Converge(_));
            let told = if plan.steps.iter().any(tells) {
                Told::All
            } else {
                Told::Part
            };
            let shared = self.config.virtual_ip.as_ref();
            self.shares.unaware = !plan.steps.iter().any(restarts)
                && shared
                    .is_some_and(|shared| asked(shared, self.config, &self.host, told).unaware);
        }
        self.done = Some((plan, started));
        Ok(())
    }

    fn until_ready(&mut self, left: &[String]) -> Result<(), Failure> {
        let Rolling {
            roll,
            wait,
            interrupt,
            ..
        } = self.rolling;
        let name = self.config.name.as_str();
        let untouched = if left.is_empty() {
            String::new()
        } else {
            format!("; not touched: {}", joined(left))
        };
        let then = match roll {
            Roll::Up => "The same command goes on from here, ",
            Roll::Restart if left.is_empty() => "",
            Roll::Restart => "`lbctl restart --only NAME` restarts what is left, ",
        };
        interrupt.at_once(&format!(
            "{name}: lbctl stopped waiting; the VM continues by itself{untouched}. {then}`lbctl status` shows how far \
             it is"
        ));
        let address = address_of(self.config, &self.host);
        self.out.set_facts(address, self.host.calls());
        let deadline = wait.unwrap_or(READY);
        until_ready(self.config, &mut self.host, deadline, &self.out)?;
        self.until_fit()?;
        self.ready = Some(true);
        Ok(())
    }

    fn asked_to_stop(&self) -> Option<Exit> {
        self.rolling.interrupt.asked()
    }

    fn goes_on(&self) -> &'static str {
        self.rolling.roll.goes_on()
    }
}

impl Turn<'_> {
    /// Waits until the guest would take the shared address, where there is one: only then may the
    /// VM that has it step back. It is so a second after HAProxy has seen a primary.
    fn until_fit(&self) -> Result<(), Failure> {
        let Some(shared) = &self.config.virtual_ip else {
            return Ok(());
        };
        let name = self.config.name.as_str();
        let guest = Guest::new(&self.host, name);
        let end = Instant::now() + FIT;
        loop {
            let why = match guest.status(FIT) {
                Ok(status) => match status.virtual_ip {
                    Some(known) if known.is_fit() => return Ok(()),
                    Some(known) => known
                        .error
                        .unwrap_or_else(|| "it has stepped back, or sees no primary".into()),
                    None => "it does not share it yet".to_owned(),
                },
                Err(error) => error.to_string(),
            };
            if Instant::now() >= end {
                let address = shared.address;
                return Err(Failure::new(
                    Exit::NotReady,
                    MessageId::NotReady,
                    format!(
                        "{name} is ready, but would not take the shared address {address}: {why}"
                    ),
                    format!("`lbctl status` shows more; {}", self.rolling.roll.goes_on()),
                ));
            }
            sleep(AGAIN);
        }
    }
}

/// What may be done about changes that need a restart. The gate was asked only about a VM whose
/// sessions were to be cut as it was found first: where others have changed it since, they are not.
fn behind_the_gate(found: Work, policy: RestartPolicy) -> RestartPolicy {
    match (found, policy) {
        (Work::Handover | Work::Cut, policy) | (_, policy @ RestartPolicy::Later) => policy,
        (Work::Nothing | Work::Start | Work::Live, _) => RestartPolicy::Never,
    }
}

impl Turn<'_> {
    /// Whether something was done and nobody waited for it.
    fn may_boot(&self) -> bool {
        let done = self.done.as_ref();
        self.ready.is_none() && done.is_some_and(|(plan, _)| !plan.steps.is_empty())
    }

    fn report(&self, plan: &Plan, started: Instant) -> VmResult {
        let (config, host, out, ready) = (self.config, &self.host, &self.out, self.ready);
        let name = config.name.as_str();
        match self.rolling.roll {
            Roll::Up => {
                let report = UpReport::new(config, host, out, plan, ready, started);
                VmResult::done(name, report)
            }
            Roll::Restart => {
                let report = RestartReport::new(config, host, out, plan, ready, started);
                VmResult::done(name, report)
            }
        }
    }

    fn failed(&self, failure: Failure) -> VmResult {
        let name = self.config.name.as_str();
        let failure = if is_away(&failure) {
            // Its host went away in the middle.
            not_reached(name, &failure, &then(self.rolling.roll))
        } else {
            failure
        };
        VmResult::failed(name, failure).after(&self.out)
    }
}

fn results_of(turns: Vec<Turn<'_>>, ended: Ended) -> Vec<VmResult> {
    let Ended {
        done,
        held,
        failed,
        untouched,
    } = ended;
    let because = failed
        .as_ref()
        .and_then(|(place, failure)| {
            let stopped = matches!(failure.exit, Exit::Interrupted | Exit::Terminated);
            let name = turns.get(*place)?.name().to_owned();
            Some(if stopped {
                "the signal".to_owned()
            } else {
                name
            })
        })
        .unwrap_or_default();
    let mut failures: Vec<(usize, Failure)> = held.into_iter().chain(failed).collect();
    let turns = turns.into_iter().enumerate();
    turns
        .filter_map(|(place, turn)| {
            if let Some(at) = failures.iter().position(|(of, _)| *of == place) {
                let (_, failure) = failures.swap_remove(at);
                return Some(turn.failed(failure));
            }
            if untouched.contains(&place) {
                return Some(VmResult::untouched(turn.name(), &because));
            }
            let (plan, started) = turn.done.as_ref().filter(|_| done.contains(&place))?;
            Some(turn.report(plan, *started))
        })
        .collect()
}

fn away_results(roll: Roll, away: Vec<(&str, Failure)>) -> Vec<VmResult> {
    let result = |(name, mut failure): (&str, Failure)| {
        if let Some(message) = failure.messages.first_mut() {
            message.text.push_str(&then(roll));
        }
        VmResult::failed(name, failure)
    };
    away.into_iter().map(result).collect()
}

fn then(roll: Roll) -> String {
    format!("; {}", roll.goes_on())
}

/// In the order of the file.
fn report(roll: Roll, mut vms: Vec<VmResult>, file: &[Config]) -> SeveralReport {
    vms.sort_by_key(|vm| {
        file.iter()
            .position(|config| config.name.as_str() == vm.name)
    });
    SeveralReport {
        command: roll.command(),
        vms,
        apart: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_session_is_cut_that_the_gate_was_not_asked_about() {
        use RestartPolicy::{Ask, Later, Never, Now};
        for policy in [Ask, Now, Later, Never] {
            assert_eq!(behind_the_gate(Work::Cut, policy), policy);
            assert_eq!(behind_the_gate(Work::Handover, policy), policy);
        }
        for found in [Work::Nothing, Work::Start, Work::Live] {
            for (policy, expected) in [(Ask, Never), (Now, Never), (Later, Later), (Never, Never)] {
                assert_eq!(behind_the_gate(found, policy), expected, "{found:?}");
            }
        }
    }
}
