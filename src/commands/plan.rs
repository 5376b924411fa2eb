//! `lbctl plan`: what `up` would do.

use std::path::Path;
use std::time::Duration;

use super::vms::{Found, Groups, SeveralReport, VmResult, Vms, ask_all, ensure_one};
use super::{
    CommandResult, Consents, connect, load, observe_and_desire, plan_beside_jobs, saved_plan,
};
use crate::cli::Cli;
use crate::config::{Config, VirtualIp};
use crate::exit::{Exit, Failure};
use crate::guest::Guest;
use crate::host::libvirt::LibvirtHost;
use crate::output::json::{Answer, PlanDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::output::{Output, change_line, diff_line};
use crate::reconcile::desired::{Adoption, Desired, Intent};
use crate::reconcile::observe::Observed;
use crate::reconcile::plan::{Plan, Restart, Step, guest_differs, may_share};
use crate::reconcile::turns::{Shares, Standing, Work, in_order};
use crate::text::styled::{Style, Styled};

/// As `lbctl up` has it by default. A plan that is only shown needs some value.
const DEADLINE: Duration = Duration::from_secs(120);
/// For the guest to say whether it has the shared address.
const ANSWER: Duration = Duration::from_secs(15);

/// What was asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Whether something to do has an exit code of its own.
    pub exit_code: bool,
    pub consents: Consents,
    /// Where the plan is written.
    pub file: Option<&'a Path>,
}

impl Wanted<'_> {
    /// What carries the plan out.
    fn command(&self) -> &'static str {
        match self.consents.adoption {
            Adoption::Refused if self.consents.disk.replace => "up --replace-disk",
            Adoption::Refused if self.consents.disk.reuse => "up --reuse-disk",
            Adoption::Refused => "up",
            Adoption::Careful => "adopt",
            Adoption::Forced => "adopt --force",
        }
    }
}

pub(super) fn run(cli: &Cli, out: &Output, wanted: Wanted<'_>) -> CommandResult {
    let config = match load(cli, out)? {
        Vms::Several(vms) if wanted.consents.adoption == Adoption::Refused => {
            return Ok(Box::new(several(cli, out, &vms, wanted)?));
        }
        one => one.one("lbctl plan --adopt", out)?,
    };
    let host = connect(cli, &config, out)?;
    let planned = planned(&config, &host, Intent::Show, wanted.consents, out)?;
    let report = found(planned.into_shown(), &host, wanted, out)?;
    hint(&[&report.plan], wanted, out);
    Ok(Box::new(report))
}

/// Tells it to those who read events, and writes it where that is asked for.
fn found(
    plan: Plan,
    host: &LibvirtHost,
    wanted: Wanted<'_>,
    out: &Output,
) -> Result<PlanReport, Failure> {
    if !plan.is_empty() {
        out.planned(&plan, &summary(&plan));
    }
    if let Some(file) = wanted.file {
        saved_plan::write(file, &plan, host.uri())?;
    }
    Ok(PlanReport {
        plan,
        exit_code: wanted.exit_code,
        command: wanted.command(),
        uri: host.uri().to_owned(),
    })
}

fn hint(plans: &[&Plan], wanted: Wanted<'_>, out: &Output) {
    if let Some(file) = wanted.file {
        out.hint(&format!(
            "`lbctl {} {}` does this plan or nothing",
            wanted.command(),
            file.display()
        ));
    } else if plans.iter().any(|plan| !plan.is_empty()) && !plans.iter().any(|plan| refused(plan)) {
        out.hint(&format!("`lbctl {}` does it", wanted.command()));
    }
}

/// A block for each VM, in the order in which `up` would work on them; those that have no plan come
/// last.
fn several(
    cli: &Cli,
    out: &Output,
    vms: &[Config],
    wanted: Wanted<'_>,
) -> Result<SeveralReport, Failure> {
    if wanted.file.is_some() {
        ensure_one(vms, "lbctl plan --out")?;
    }
    let consents = wanted.consents;
    let answers = ask_all(vms, cli, out, move |config, host, out| {
        planned(config, host, Intent::Show, consents, out)
    });
    let groups = Groups::of(vms);
    let (mut reports, mut turns, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (config, answer) in vms.iter().zip(answers) {
        let name = config.name.as_str();
        match answer {
            Found::Here(host, Ok(planned)) => {
                let turn = Standing {
                    group: groups.group(name),
                    shares: planned.shares,
                    work: planned.work(None),
                };
                match found(planned.into_shown(), &host, wanted, &out.of_vm(name)) {
                    Ok(report) => {
                        turns.push(turn);
                        reports.push(Some((name, report)));
                    }
                    Err(failure) => others.push(VmResult::failed(name, failure)),
                }
            }
            Found::Here(_, Err(failure)) | Found::Away(failure) => {
                others.push(VmResult::failed(name, failure));
            }
        }
    }
    let plans: Vec<&Plan> = reports.iter().flatten().map(|(_, r)| &r.plan).collect();
    if !plans.is_empty() {
        hint(&plans, wanted, out);
    }
    let order = in_order(&turns).into_iter();
    let in_order = order.filter_map(|place| reports.get_mut(place)?.take());
    let mut results: Vec<VmResult> = in_order
        .map(|(name, report)| VmResult::done(name, report))
        .collect();
    results.append(&mut others);
    Ok(SeveralReport {
        command: "plan",
        vms: results,
        apart: true,
    })
}

/// A plan, and what decides when a VM of several has its turn.
pub(super) struct Planned {
    /// With restarts put off.
    pub plan: Plan,
    /// With the restart, where another VM takes the shared address before it, and nobody has put
    /// it off.
    handover: Option<Plan>,
    /// Whether the guest runs.
    runs: bool,
    pub shares: Shares,
}

impl Planned {
    /// What is to be done; `restart`: whether the guest is restarted for what needs that, where
    /// that is decided.
    pub fn work(&self, restart: Option<Restart>) -> Work {
        let later = restart == Some(Restart::Later);
        let restarts = !self.plan.needing_restart().is_empty();
        let hands_over = self.plan.hands_over();
        if self.plan.is_empty() || later && self.plan.awaits_restart() {
            Work::Nothing
        } else if !self.runs {
            Work::Start
        } else if restarts && !later {
            Work::Cut
        } else if hands_over && !later {
            Work::Handover
        } else {
            Work::Live
        }
    }

    /// What `lbctl up` would do by itself.
    pub fn shown(&self) -> &Plan {
        self.handover.as_ref().unwrap_or(&self.plan)
    }

    fn into_shown(self) -> Plan {
        self.handover.unwrap_or(self.plan)
    }
}

/// Observes and plans.
pub(super) fn planned(
    config: &Config,
    host: &LibvirtHost,
    intent: Intent,
    consents: Consents,
    out: &Output,
) -> Result<Planned, Failure> {
    let (observed, desired) = observe_and_desire(config, host, intent, consents, out)?;
    let domain = observed.domain.as_ref();
    let plan = plan_beside_jobs(&desired, &observed, Restart::Later, host)?;
    let handover = handover_of(&plan, &desired, &observed, host)?;
    let runs = domain.is_some_and(|domain| domain.live.is_some());
    Ok(Planned {
        shares: match &config.virtual_ip {
            // It says when the VM has its turn, which one that stays as it is does not have.
            Some(shared) if runs && !plan.is_empty() => {
                asked(shared, config, host, told(&desired, &observed))
            }
            _ => Shares::default(),
        },
        plan,
        handover,
        runs,
    })
}

/// With the restart, where another VM takes the shared address before it, and nobody has put it
/// off. `plan`: with restarts put off.
pub(super) fn handover_of(
    plan: &Plan,
    desired: &Desired,
    observed: &Observed,
    host: &LibvirtHost,
) -> Result<Option<Plan>, Failure> {
    if !plan.hands_over() || plan.awaits_restart() {
        return Ok(None);
    }
    let now = Restart::Now { deadline: DEADLINE };
    plan_beside_jobs(desired, observed, now, host).map(Some)
}

/// What the guest was told of the shared address, as far as the host knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It was given none.
    Nothing,
    /// Not of all VMs that are to share it, perhaps.
    Part,
    /// All that the configuration says.
    All,
}

fn told(desired: &Desired, observed: &Observed) -> Told {
    if !guest_differs(&desired.seed, observed.domain.as_ref()) {
        Told::All
    } else if may_share(observed) {
        Told::Part
    } else {
        Told::Nothing
    }
}

/// How the guest stands with the shared address. One that does not say so is taken for one that has
/// it, if it was ever told of it: it comes last, and what it knows is what it was told.
pub(super) fn asked(shared: &VirtualIp, config: &Config, host: &LibvirtHost, told: Told) -> Shares {
    let unknown = Shares {
        holds: told != Told::Nothing,
        unaware: told == Told::Part,
    };
    let Ok(status) = Guest::new(host, config.name.as_str()).status(ANSWER) else {
        return unknown;
    };
    status
        .virtual_ip
        .map_or_else(Shares::default, |known| Shares {
            holds: known.held,
            unaware: known.held
                && if known.error.is_some() {
                    told != Told::All
                } else {
                    !known.knows_all(shared)
                },
        })
}

struct PlanReport {
    plan: Plan,
    /// Whether something to do has an exit code of its own.
    exit_code: bool,
    /// What carries it out.
    command: &'static str,
    /// Of the libvirt daemon.
    uri: String,
}

impl CommandReport for PlanReport {
    fn exit(&self) -> Exit {
        if self.exit_code && !self.plan.is_empty() {
            Exit::Pending
        } else {
            Exit::Done
        }
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Plan(PlanDocument {
            uri: self.uri.clone(),
            ..(&self.plan).into()
        }))
    }

    fn text(&self, options: TextOptions) -> Vec<TextPart> {
        let Plan {
            name,
            changes,
            steps: _,
            notes,
            continues: _,
            no_spare: _,
        } = &self.plan;
        let mut text = Vec::new();
        if self.plan.is_empty() {
            let done = Styled::from(format!("{name}: ")).and(Style::Good, "nothing to do");
            text.push(TextPart::Line(done));
        } else {
            let heading = format!("{name}: {}", summary(&self.plan));
            text.push(TextPart::Heading(heading.into()));
            for change in changes {
                text.push(TextPart::Line(change_line(change)));
                if options.verbose {
                    let diff = change.diff.lines();
                    text.extend(diff.map(|line| TextPart::LongLine(diff_line(line))));
                }
            }
            text.extend(
                steps(&self.plan, self.command)
                    .into_iter()
                    .map(|line| TextPart::Line(line.into())),
            );
        }
        text.extend(notes.iter().map(|note| TextPart::Line(note_line(note))));
        text
    }
}

/// What `lbctl plan` says of a plan, `-v` or not.
#[must_use]
pub fn plan_text(plan: Plan, verbose: bool) -> Vec<TextPart> {
    let report = PlanReport {
        plan,
        exit_code: false,
        command: "up",
        uri: String::new(),
    };
    report.text(TextOptions {
        columns: None,
        verbose,
        signs: true,
    })
}

fn note_line(note: &str) -> Styled {
    Styled::all(Style::Calm, "note").plus(": ").plus(note)
}

/// Whether `up` asks for the restart on a terminal, and is refused elsewhere: the note below the
/// plan says what does it.
fn refused(plan: &Plan) -> bool {
    puts_off(plan) && (plan.no_spare || !plan.hands_over())
}

/// Whether a restart is not among the steps: nobody has agreed to it.
fn puts_off(plan: &Plan) -> bool {
    let restarts = |step: &Step| matches!(step, Step::Restart { .. } | Step::Stop { .. });
    !plan.needing_boot().is_empty() && !plan.steps.iter().any(restarts)
}

fn steps(plan: &Plan, command: &str) -> Vec<String> {
    let put_off = puts_off(plan);
    let mut lines = Vec::new();
    if !plan.steps.is_empty() {
        let how = if plan.continues {
            ", the first ones; the others are planned after them"
        } else if put_off {
            ", with the restart postponed"
        } else {
            ""
        };
        lines.push(format!("steps{how}:"));
    }
    let numbered = plan.steps.iter().enumerate();
    lines.extend(numbered.map(|(at, step)| format!("  {}. {step}", at + 1)));
    if put_off {
        let note = if plan.replaces_disk() {
            "stops the guest for the new disk, which cuts every session"
        } else if plan.no_spare {
            "is refused while no other VM would take the shared address; with `--alone` it restarts the guest, which cuts every \
             session; `--restart later` applies them at its next start"
        } else if plan.hands_over() {
            "restarts the guest for them, after another VM has taken the shared address; they are saved for its next start"
        } else {
            "restarts the guest for them, which cuts every session; `--restart later` applies them at its next start"
        };
        lines.push(format!("note: `lbctl {command} --restart now` {note}"));
    }
    lines
}

/// `3 changes: 1 live, 2 need a restart of the guest`
pub(super) fn summary(plan: &Plan) -> String {
    if plan.creates() {
        return format!("to be created, in {} steps", plan.steps.len());
    }
    let count = plan.changes.len();
    let restart = plan.needing_restart().len();
    let noun = if count == 1 { "change" } else { "changes" };
    match restart {
        0 if plan.hands_over() => {
            let boots = plan.needing_boot().len();
            format!(
                "{count} {noun}, {boots} by a handover to another VM, for which sessions have `virtual_ip.drain`"
            )
        }
        0 => format!("{count} {noun}, no session is cut"),
        1 => format!("{count} {noun}, 1 needs a restart of the guest"),
        n => format!("{count} {noun}, {n} need a restart of the guest"),
    }
}
