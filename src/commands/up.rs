//! `lbctl up`: observe, plan, apply, verify, and wait if asked to.

use std::time::{Duration, Instant};

use super::plan::{handover_of, summary};
use super::vms::{Vms, joined};
use super::wait::until_ready;
use super::{
    CommandResult, Consents, Session, connect, load, not_so_before, observe_and_desire,
    plan_beside_jobs, rolling, saved_plan,
};
use crate::cli::{Cli, RestartPolicy, UpArgs};
use crate::config::{Config, Disk};
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::host::libvirt::LibvirtHost;
use crate::host::{DomainState, Inspect, StateReason};
use crate::output::interrupt::Interrupt;
use crate::output::json::{Answer, PlanDocument, UpDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::output::{Output, When, change_line, done, named, seconds};
use crate::reconcile::apply::ApplyError;
use crate::reconcile::desired::{Desired, Intent};
use crate::reconcile::observe::Observed;
use crate::reconcile::plan::{Change, Class, DownOptions, Plan, Restart, Step, Value, plan_down};
use crate::reconcile::rounds::{Again, Reconciler, Remaining, in_rounds};
use crate::status::address;
use crate::text::styled::{Style, Styled};

pub(super) fn run(cli: &Cli, out: &Output, args: &UpArgs) -> CommandResult {
    if args.replace_disk && args.restart == RestartPolicy::Later {
        return Err(Failure::new(
            Exit::Usage,
            MessageId::UsageWrong,
            "--replace-disk stops the guest now, and --restart later keeps it running: one of both",
            "`lbctl plan --replace-disk` shows what would be done",
        )
        .into());
    }
    // Meant for `--wait`, whatever else there is to say.
    if let Some(file) = args
        .plan
        .as_ref()
        .filter(|file| saved_plan::is_duration(file))
    {
        saved_plan::ensure_readable(file)?;
    }
    match load(cli, out)? {
        Vms::One(config) => {
            if let Some(file) = &args.plan {
                saved_plan::ensure_readable(file)?;
            }
            let host = connect(cli, &config, out)?;
            let consents = Consents::of_up(args);
            let done = one(cli, out, args, &config, host, consents, None)?;
            Ok(Box::new(done))
        }
        Vms::Several(vms) => rolling::up(cli, out, args, &vms),
    }
}

/// `restart`: what was consented to before.
pub(super) fn one(
    cli: &Cli,
    out: &Output,
    args: &UpArgs,
    config: &Config,
    mut host: LibvirtHost,
    consents: Consents,
    restart: Option<Restart>,
) -> Result<UpReport, Failure> {
    let started = Instant::now();
    let name = config.name.as_str();
    let interrupt = Interrupt::listen(out, &format!("{name}: stopped, nothing was changed"));
    let working = Session {
        host: &host,
        out,
        interrupt: &interrupt,
    };
    let plan = bring_up(config, args, consents, cli.global.yes, restart, working)?;
    if let Some(deadline) = args.wait {
        interrupt.at_once(&format!(
            "{name}: lbctl stopped waiting; the VM continues by itself. `lbctl up --wait` waits again, `lbctl status` \
             shows how far it is"
        ));
        out.set_facts(address_of(config, &host), host.calls());
        until_ready(config, &mut host, deadline, out)?;
    } else if !plan.steps.is_empty() {
        out.hint("`lbctl up --wait` waits until psql works; `lbctl status` shows how far it is");
    }
    tracing::info!("{} calls to libvirt", host.calls());
    let ready = args.wait.map(|_| true);
    Ok(UpReport::new(config, &host, out, &plan, ready, started))
}

/// Observes, plans and applies until nothing differs. `restart`: what was consented to before.
pub(super) fn bring_up(
    config: &Config,
    args: &UpArgs,
    consents: Consents,
    yes: bool,
    restart: Option<Restart>,
    working: Session<'_>,
) -> Result<Plan, Failure> {
    let (observed, desired) =
        observe_and_desire(config, working.host, Intent::Apply, consents, working.out)?;
    let certificate = desired.certificate.as_ref();
    if let Some(clamp) = certificate.and_then(|c| c.clamp.as_ref()) {
        working.out.warn(&clamp.to_string());
    }
    if let Some(file) = &args.plan {
        let found = plan_beside_jobs(&desired, &observed, Restart::Later, working.host)?;
        let handover = handover_of(&found, &desired, &observed, working.host)?;
        saved_plan::ensure_same(file, handover.as_ref().unwrap_or(&found))?;
    }
    let mut making = UpRun {
        config,
        args,
        consents,
        yes,
        restart,
        seed: None,
        so_far: SoFar::default(),
        access: Vec::new(),
        working,
    };
    let plan = making.plan(&desired, &observed)?;
    working.out.found(&plan);
    // What its steps need is in the plan, and while it is verified all of it is there again.
    drop((observed, desired));
    reconcile(&plan, &mut making)?;
    Ok(plan)
}

pub(super) fn address_of(config: &Config, host: &LibvirtHost) -> Option<String> {
    address(config, host).map(|ip| ip.to_string())
}

/// What a successful `up` has done.
pub(super) struct UpReport {
    plan: PlanDocument,
    /// `None`: lbctl did not wait for it.
    ready: Option<bool>,
    address: String,
    took: Duration,
    libvirt_calls: u32,
}

impl UpReport {
    /// `ready`: whether it is known to be.
    pub fn new(
        config: &Config,
        host: &LibvirtHost,
        out: &Output,
        plan: &Plan,
        ready: Option<bool>,
        started: Instant,
    ) -> Self {
        Self {
            ready,
            address: address_of(config, host).unwrap_or_default(),
            took: started.elapsed(),
            libvirt_calls: host.calls(),
            plan: out.carried_out(plan),
        }
    }

    pub fn to_document(&self) -> UpDocument {
        UpDocument {
            plan: self.plan.clone(),
            ready: self.ready,
            address: self.address.clone(),
            seconds: self.took.as_secs_f64(),
            libvirt_calls: self.libvirt_calls,
        }
    }
}

impl CommandReport for UpReport {
    fn exit(&self) -> Exit {
        Exit::Done
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Up(self.to_document()))
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        Vec::new()
    }
}

/// Applies the plan and plans again: what remains is an error, unless it was postponed.
fn reconcile(plan: &Plan, making: &mut UpRun<'_>) -> Result<(), Failure> {
    let (name, config, out) = (&plan.name, making.config, making.working.out);
    if plan.is_empty() {
        out.say(done(name, "up to date", ", nothing to do"));
        return Ok(());
    }
    let restarts = if plan.no_spare {
        "`lbctl restart --alone` restarts it, for no other VM would take the shared address now"
    } else {
        "`lbctl restart` restarts it"
    };
    if plan.awaits_restart() && making.restart == Some(Restart::Later) {
        let pending = format!(
            "restart pending: {}",
            subjects(&plan.needing_boot()).join(", ")
        );
        let line = Styled::from(format!("{name}: up to date; ")).and(Style::Caution, &pending);
        out.say(line.plus(&format!(" ({restarts})")));
        return Ok(());
    }
    let started = Instant::now();
    out.planned(plan, &summary(plan));
    out.say(format!("{name}: {}", summary(plan)));
    if !plan.creates() {
        for change in &plan.changes {
            out.say(change_line(change));
        }
    }
    for note in &plan.notes {
        out.say(format!("  note: {note}"));
    }
    if !plan.steps.is_empty() {
        in_rounds(plan.clone(), making).map_err(|mut failure| {
            failure.messages.append(&mut making.access);
            failure
        })?;
    }
    let waiting: Vec<String> = match making.restart {
        Some(Restart::Later) => subjects(&plan.needing_boot()),
        _ => Vec::new(),
    };
    if waiting.is_empty() {
        let address = address(config, making.working.host).map_or_else(
            || "its address comes from a DHCP server: `lbctl status` shows it".to_owned(),
            |ip| format!("address {ip}"),
        );
        let took = seconds(started.elapsed());
        out.say(done(name, "running", &format!(", {address} ({took})")));
    } else {
        out.say(format!(
            "{name}: saved for the next start of the guest: {}. {restarts}",
            waiting.join(", ")
        ));
    }
    Ok(())
}

fn subjects(changes: &[&Change]) -> Vec<String> {
    changes.iter().map(|c| c.subject.to_string()).collect()
}

/// What a run has done.
#[derive(Debug, Clone, Copy, Default)]
struct SoFar {
    /// Something, and the disk too.
    made: bool,
    cloned: bool,
    /// There was no domain, and this run has not come to define it.
    undefined: bool,
}

/// An `up` that is being carried out.
struct UpRun<'a> {
    config: &'a Config,
    args: &'a UpArgs,
    consents: Consents,
    yes: bool,
    /// What was consented to; `None` while nothing needs a restart.
    restart: Option<Restart>,
    /// The seed of the last plan.
    seed: Option<String>,
    so_far: SoFar,
    /// Who may open the volumes, where one could not be opened.
    access: Vec<Message>,
    working: Session<'a>,
}

impl UpRun<'_> {
    fn plan(&mut self, desired: &Desired, observed: &Observed) -> Result<Plan, Failure> {
        self.seed = Some(desired.seed.fingerprint.clone());
        let host = self.working.host;
        let gentle = plan_beside_jobs(desired, observed, Restart::Later, host)?;
        let agreed = match self.args.restart {
            RestartPolicy::Now => false,
            RestartPolicy::Ask => !self.yes,
            RestartPolicy::Later | RestartPolicy::Never => true,
        };
        if self.restart.is_none() && agreed && !self.so_far.made && gentle.awaits_restart() {
            // An earlier run was told to wait with it.
            self.restart = Some(Restart::Later);
        }
        if self.restart.is_none() && !gentle.needing_restart().is_empty() {
            self.restart = Some(
                decide(
                    &gentle,
                    self.args,
                    self.yes,
                    self.so_far.made,
                    self.working.out,
                )
                .inspect_err(|_| self.working.out.found(&gentle))?,
            );
        }
        if self.restart.is_none() && gentle.hands_over() {
            let decided = hand_over(&gentle, self.args, self.so_far.made);
            self.restart = Some(decided.inspect_err(|_| self.working.out.found(&gentle))?);
        }
        Ok(match self.restart {
            Some(now @ Restart::Now { .. }) => plan_beside_jobs(desired, observed, now, host)?,
            _ => gentle,
        })
    }

    /// Who may open each volume of the guest, where libvirt still answers.
    fn volumes(&self) -> Vec<Message> {
        let disk = match &self.config.disk {
            Disk::Clone(clone) => Some(&clone.volume),
            Disk::Existing { .. } => None,
        };
        let volumes = disk.into_iter().chain([&self.config.seed_volume]);
        let reported = volumes.filter_map(|at| {
            let access = self.working.host.access(at).ok()??;
            let text = format!("volume {at} is {access}");
            Some(Message::note(MessageId::VolumeAccess, text))
        });
        reported.collect()
    }

    /// Another load balancer has claimed what this one was to have: what this run made for it is
    /// removed again.
    fn take_back(&self, observed: &Observed) -> Result<(), Failure> {
        if observed.domain.is_some() || !self.so_far.made {
            return Ok(());
        }
        let options = DownOptions {
            stop_deadline: Duration::ZERO,
            delete_volume: self.so_far.cloned,
            alone: true,
        };
        let plan = plan_down(self.config, observed, options)?;
        Ok(self.working.carry_out(&plan.steps)?)
    }
}

impl Reconciler for UpRun<'_> {
    fn replan(&mut self) -> Result<Remaining, Failure> {
        self.working.asked()?;
        let (observed, desired) = observe_and_desire(
            self.config,
            self.working.host,
            Intent::Apply,
            self.consents,
            self.working.out,
        )?;
        // What this run writes it finds again: another seed is another run's.
        let another_seed = self.seed.as_ref() != Some(&desired.seed.fingerprint);
        let plan = match self.plan(&desired, &observed) {
            Ok(plan) => plan,
            Err(refused) => {
                self.take_back(&observed)?;
                // A restart may be needed because of what this run itself has brought about. All
                // else that was not so at the first look is another's doing.
                let for_a_restart = |m: &Message| m.id == MessageId::RestartNeeded;
                let anothers = another_seed || (self.so_far.undefined && observed.domain.is_some());
                let ours =
                    self.so_far.made && !anothers && refused.messages.iter().any(for_a_restart);
                return Err(if ours {
                    refused
                } else {
                    not_so_before(&self.config.name, refused)
                });
            }
        };
        let later = self.restart == Some(Restart::Later);
        let put_off = |c: &Change| later && c.class.boots();
        let done = plan.changes.iter().all(put_off);
        Ok(Remaining { plan, done })
    }

    fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError> {
        let ended = self.working.carry_out(steps);
        let done = match &ended {
            Err(ApplyError::Failed { done, .. }) => steps.get(..*done).unwrap_or_default(),
            _ => steps,
        };
        let beside = ended.as_ref().err().and_then(ApplyError::beside);
        self.so_far.made |= !done.is_empty() || beside.is_some();
        let defines = |s: &Step| matches!(s, Step::Define(step) if step.existing.is_none());
        if steps.iter().any(defines) {
            self.so_far.undefined = !done.iter().any(defines);
        }
        if ended.as_ref().is_err_and(ApplyError::is_denied) {
            self.access = self.volumes();
        }
        let mut all = done.iter().chain(beside);
        self.so_far.cloned |= all.any(|s| matches!(s, Step::CloneVolume(_)));
        ended
    }

    fn back_off(&mut self, round: usize, why: Again<'_>) {
        self.working.back_off(self.config.name.as_str(), round, why);
    }

    fn unfinished(&self, left: &Plan) -> Failure {
        let name = &self.config.name;
        let is_paused_again = |change: &Change| {
            matches!(
                change.from,
                Value::State(DomainState::Paused, Some(StateReason::IoError))
            )
        };
        if left.changes.iter().any(is_paused_again) {
            return Failure::new(
                Exit::Failed,
                MessageId::StateDiffers,
                format!(
                    "the guest was resumed, and QEMU paused it again: the storage of {name} gives an error"
                ),
                "mend the storage, or make room in it, and run the same command again",
            );
        }
        let left: Vec<String> = left.changes.iter().map(ToString::to_string).collect();
        Failure::new(
            Exit::Failed,
            MessageId::StateDiffers,
            format!(
                "every step was done, but {name} still differs: {}",
                left.join("; ")
            ),
            "`lbctl plan -v` shows the difference. If nothing else changes the VM, please report it as a fault of lbctl",
        )
    }
}

/// What is done about changes for which the guest is restarted after another VM has taken the
/// shared address: sessions have their time to end in, so nobody is asked.
fn hand_over(plan: &Plan, args: &UpArgs, made: bool) -> Result<Restart, Failure> {
    match args.restart {
        RestartPolicy::Ask | RestartPolicy::Now => Ok(Restart::Now {
            deadline: args.stop_timeout,
        }),
        RestartPolicy::Later => Ok(Restart::Later),
        RestartPolicy::Never => Err(restart_refused(plan, made)),
    }
}

/// Whether the guest may be restarted for the changes that need it; there are some.
fn decide(
    plan: &Plan,
    args: &UpArgs,
    yes: bool,
    made: bool,
    out: &Output,
) -> Result<Restart, Failure> {
    decide_all(&[plan], args, yes, made, out)
}

/// The same for the guests of several plans at once.
pub(super) fn decide_all(
    plans: &[&Plan],
    args: &UpArgs,
    yes: bool,
    made: bool,
    out: &Output,
) -> Result<Restart, Failure> {
    let now = Restart::Now {
        deadline: args.stop_timeout,
    };
    let refused = || {
        let refused = plans.iter().flat_map(|plan| {
            let messages = restart_refused(plan, made).messages.into_iter();
            // A note does not say whose it is.
            messages.map(|message| Message {
                text: named(&plan.name, &message.text),
                ..message
            })
        });
        Failure {
            exit: Exit::Refused,
            messages: refused.collect(),
        }
    };
    match args.restart {
        RestartPolicy::Now => Ok(now),
        RestartPolicy::Later => Ok(Restart::Later),
        RestartPolicy::Ask if yes => Ok(now),
        // A new disk cannot wait for a start that somebody else brings about.
        RestartPolicy::Ask if plans.iter().any(|plan| plan.replaces_disk()) => {
            match out.ask(&question(plans)) {
                Some(true) => Ok(now),
                Some(false) | None => Err(refused()),
            }
        }
        RestartPolicy::Ask => match out.ask_when(&question(plans)) {
            Some(When::Now) => Ok(now),
            Some(When::Later) => Ok(Restart::Later),
            Some(When::Never) | None => Err(refused()),
        },
        RestartPolicy::Never => Err(refused()),
    }
}

fn question(plans: &[&Plan]) -> String {
    let mut list: Vec<String> = Vec::new();
    for plan in plans {
        // Of one VM the question itself names it.
        if plans.len() > 1 {
            list.push(format!("{}:", plan.name));
        }
        let changes = plan.needing_restart().into_iter();
        list.extend(changes.map(|change| format!("  {change}")));
        list.extend(plan.notes.iter().map(|note| format!("  note: {note}")));
    }
    let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    let (how, later, them) = if names.len() == 1 {
        (
            "which cuts every session through it",
            "; later: at its next start",
            "it",
        )
    } else {
        (
            "one after the other, which cuts every session through each",
            "; later: at their next start",
            "them",
        )
    };
    let anew = plans.iter().any(|plan| plan.replaces_disk());
    let later = if anew { "" } else { later };
    format!(
        "{}\nThese need a restart of {}, {how}{later}. Restart {them} now?",
        list.join("\n"),
        joined(&names)
    )
}

/// The commands that restart the guest for a plan, and what they do to sessions.
fn how_to_restart(plan: &Plan) -> String {
    let alone = if plan.no_spare && !plan.hands_over() {
        " --alone"
    } else {
        ""
    };
    let meaning = if plan.hands_over() {
        ", after another VM has taken the shared address"
    } else {
        " (every session through it is cut)"
    };
    if plan.replaces_disk() {
        return if plan.hands_over() {
            format!("`lbctl up --replace-disk` makes the disk anew{meaning}")
        } else {
            format!(
                "`lbctl up --replace-disk --restart now{alone}` makes the disk anew now{meaning}"
            )
        };
    }
    let them = match plan.needing_boot().len() {
        1 => "it",
        _ => "them",
    };
    format!(
        "`lbctl up --restart now{alone}` restarts it now{meaning}; `--restart later` saves {them} for its next start"
    )
}

/// `made`: steps were done before it.
fn restart_refused(plan: &Plan, made: bool) -> Failure {
    let mut message = Message::new(
        MessageId::RestartNeeded,
        format!(
            "{}: {} restart of the guest, and {}",
            plan.name,
            match plan.needing_boot().len() {
                1 => "this change needs a".to_owned(),
                n => format!("{n} changes need a"),
            },
            if made {
                "the steps done before it remain"
            } else {
                "nothing was changed"
            }
        ),
        how_to_restart(plan),
    );
    message.detail = plan
        .needing_boot()
        .iter()
        .map(ToString::to_string)
        .collect();
    // Why they do, where that is not obvious: the guest's agent does not answer, for instance.
    let notes = plan.notes.iter();
    let why = notes.map(|note| Message::note(MessageId::PlanNote, note));
    let live: Vec<&Change> = plan
        .changes
        .iter()
        .filter(|c| c.class == Class::Live)
        .collect();
    let waiting = (!live.is_empty() && !made).then(|| {
        let waits = subjects(&live).join(", ");
        let text = if plan.replaces_disk() {
            format!("what needs no restart waits, too: {waits}")
        } else {
            format!(
                "what needs no restart waits, too: {waits}; `lbctl up --restart later` does that now, and saves the rest"
            )
        };
        Message::note(MessageId::PlanNote, text)
    });
    Failure {
        exit: Exit::Refused,
        messages: std::iter::once(message).chain(why).chain(waiting).collect(),
    }
}
