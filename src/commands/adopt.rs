//! `lbctl adopt`: takes over a domain that something else made. Of its own here is what comes
//! before the first change: what stands against it, what stays and what does not, consent, and the
//! way back. Then it is an `up`.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::create_kept;
use super::import::read_state;
use super::up::{self, decide_all};
use super::{
    CommandError, CommandResult, Consents, connect, load, observe_and_desire, plan_beside_jobs,
};
use crate::cli::{AdoptArgs, Cli, RestartPolicy, UpArgs};
use crate::exit::{Exit, Failure, MessageId};
use crate::guest::AgentAvailability;
use crate::host::{DomainFacts, HostReader as _, VolumeFacts};
use crate::output::Output;
use crate::output::json::{AdoptDocument, Answer};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::reconcile::desired::{Adoption, DiskConsent, Intent};
use crate::reconcile::observe::Observed;
use crate::reconcile::plan::{Plan, Restart, Subject};
use crate::seed::SeedContent;

const AGENT: &str = "with a guest agent it needs no restart: run `sudo apt-get install -y qemu-guest-agent` in the \
                     guest, and then the same command";

pub(super) fn run(cli: &Cli, out: &Output, args: &AdoptArgs) -> CommandResult {
    let config = load(cli, out)?.one("lbctl adopt", out)?;
    let name = config.name.as_str();
    let host = connect(cli, &config, out)?;
    let Some(domain) = host.domain(name)? else {
        let said = format!("there is no domain {name} to take over");
        let help = "`lbctl up` makes one; `virsh list --all` shows those that there are";
        return Err(Failure::new(Exit::Failed, MessageId::NotFound, said, help).into());
    };
    if let Some(file) = &args.state {
        ensure_left_terraform(file, &domain)?;
    }
    let is_foreign = domain.definitions().all(|d| d.ownership.is_none());
    let up_args = args.to_up();
    let consents = Consents {
        disk: DiskConsent::default(),
        adoption: if args.force {
            Adoption::Forced
        } else {
            Adoption::Careful
        },
        // What was never lbctl's shares no address with others.
        alone: is_foreign,
    };
    let (mut restart, mut saved) = (None, None);
    // An earlier run may have begun: then it is lbctl's, and this one continues.
    if is_foreign {
        let (observed, desired) = observe_and_desire(&config, &host, Intent::Show, consents, out)?;
        let plan = plan_beside_jobs(&desired, &observed, Restart::Later, &host)?;
        let file = match &args.save {
            Some(file) => file.clone(),
            None => PathBuf::from(format!("{name}.before-lbctl.xml")),
        };
        tell(out, &domain, &observed, &plan, &file);
        let ready = Observed {
            availability: AgentAvailability::Ready,
            ..observed
        };
        let with_agent = plan_beside_jobs(&desired, &ready, Restart::Later, &host)?;
        if !plan.needing_restart().is_empty() && with_agent.needing_restart().is_empty() {
            out.say(format!("  {AGENT}"));
        }
        restart = consent(cli, out, &up_args, &plan)?;
        keep(&file, &domain)?;
        out.say(format!(
            "{name}: the definition of before is in {}",
            file.display()
        ));
        saved = Some(file);
    }
    let done = up::one(cli, out, &up_args, &config, host, consents, restart)?;
    Ok(Box::new(AdoptReport { done, saved }))
}

/// A domain that Terraform knows is destroyed by its next apply.
fn ensure_left_terraform(file: &Path, domain: &DomainFacts) -> Result<(), CommandError> {
    let state = read_state(file)?;
    let is = |id: &str| id.eq_ignore_ascii_case(&domain.uuid);
    let mut domains = state.of("libvirt_domain");
    let Some(known) = domains.find(|found| found.values.text("id").is_some_and(is)) else {
        return Ok(());
    };
    let (name, address) = (&domain.name, crate::import::shown(&known.address));
    Err(Failure::new(
        Exit::Refused,
        MessageId::StateHasDomain,
        format!("the state still has domain {name}, as {address}: the next `terraform apply` could destroy it"),
        "take it out of the state first; `lbctl import --state FILE` prints the commands",
    )
    .into())
}

/// What stays, whose it stays, and the way back. What changes is in the plan.
fn tell(out: &Output, domain: &DomainFacts, observed: &Observed, plan: &Plan, save: &Path) {
    let DomainFacts { name, uuid, .. } = domain;
    out.say(format!("{name}: to be taken over"));
    let of_addresses = plan
        .changes
        .iter()
        .filter(|c| c.subject == Subject::Address);
    let moves: Vec<String> = of_addresses.map(|c| format!("  goes: {c}")).collect();
    let addresses = if moves.is_empty() { " addresses," } else { "" };
    out.say(format!(
        "  stays: uuid {uuid}, MAC addresses,{addresses} the disk with all that is on it, and what the configuration \
         has no key for"
    ));
    for line in moves {
        out.say(line);
    }
    let disk = observed.disk.volume().present();
    let disk = disk.map(|facts| format!("volume {}", facts.at));
    let theirs = observed
        .seeds
        .iter()
        .filter(|seed| matches!(seed.content, Some(SeedContent::Foreign)))
        .filter_map(|seed| seed.volume.present())
        .filter(|facts| domain.config.holds(&facts.at, Some(*facts)))
        .map(old_seed);
    for kept in disk.into_iter().chain(theirs) {
        out.say(format!("  never deleted by lbctl: {kept}"));
    }
    out.say("  a client certificate that the old load balancer has stays valid until its own end");
    let autostart = if domain.autostart {
        String::new()
    } else {
        format!("; `virsh autostart --disable {name}`")
    };
    out.say(format!(
        "  the way back: `virsh define {}`; `virsh destroy {name}`; `virsh start {name}`{autostart}; docs/terraform.md \
         says what it leaves in the guest",
        save.display()
    ));
}

fn old_seed(facts: &VolumeFacts) -> String {
    let readable = match facts.mode {
        Some(mode) if mode & 0o004 != 0 => {
            ", which everybody on the host may read, with the keys and passwords in it"
        }
        _ => ", with the keys and passwords in it",
    };
    let at = &facts.at;
    format!(
        "volume {at}, the seed of before{readable}; when nobody needs the way back: `virsh vol-delete {} --pool {}`",
        at.name, at.pool
    )
}

/// Whether the guest is restarted, where that is needed. Asks once.
fn consent(
    cli: &Cli,
    out: &Output,
    args: &UpArgs,
    plan: &Plan,
) -> Result<Option<Restart>, Failure> {
    let (name, yes) = (&plan.name, cli.global.yes);
    let restarts = !plan.needing_restart().is_empty();
    let asks_for_it = restarts && args.restart == RestartPolicy::Ask;
    let decided = if restarts && (yes || !asks_for_it) {
        Some(decide_all(&[plan], args, yes, false, out).map_err(of_adopt)?)
    } else {
        None
    };
    if yes {
        return Ok(decided);
    }
    let changes = plan.changes.iter().map(|change| format!("  {change}"));
    let notes = plan.notes.iter().map(|note| format!("  note: {note}"));
    let list: Vec<String> = changes.chain(notes).collect();
    let question = if asks_for_it {
        format!("Take {name} over, and restart it now, which cuts every session through it?")
    } else {
        format!("Take {name} over?")
    };
    let (id, said, help) = match out.ask(&format!("{}\n{question}", list.join("\n"))) {
        Some(true) if asks_for_it => {
            let deadline = args.stop_timeout;
            return Ok(Some(Restart::Now { deadline }));
        }
        Some(true) => return Ok(decided),
        Some(false) => (
            MessageId::Declined,
            "nothing was changed",
            if asks_for_it {
                "`--restart later` takes it over without a restart"
            } else {
                ""
            },
        ),
        None => (
            MessageId::ConsentNeeded,
            "taking it over needs consent, and there is no terminal to ask on; nothing was changed",
            if asks_for_it {
                "--yes takes it over and restarts it; --yes --restart later does not restart it"
            } else {
                "--yes takes it over"
            },
        ),
    };
    let said = format!("{name}: {said}");
    Err(Failure::new(Exit::Refused, id, said, help))
}

/// `up` is refused until it is taken over.
fn of_adopt(mut failure: Failure) -> Failure {
    for message in &mut failure.messages {
        message.text = message.text.replace("`lbctl up ", "`lbctl adopt ");
        message.hint = message.hint.replace("`lbctl up ", "`lbctl adopt ");
    }
    failure
}

/// The definition of before. The same file of an earlier try is as good.
fn keep(path: &Path, domain: &DomainFacts) -> Result<(), Failure> {
    let xml = domain.config_xml.expose().as_bytes();
    if fs::read(path).is_ok_and(|there| there == xml) {
        return Ok(());
    }
    create_kept(path, xml)
}

struct AdoptReport {
    done: up::UpReport,
    /// Where the definition of before is; `None`: an earlier run has kept it.
    saved: Option<PathBuf>,
}

impl CommandReport for AdoptReport {
    fn exit(&self) -> Exit {
        self.done.exit()
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Adopt(AdoptDocument {
            done: self.done.to_document(),
            saved: self.saved.as_ref().map(|path| path.display().to_string()),
        }))
    }

    fn text(&self, options: TextOptions) -> Vec<TextPart> {
        self.done.text(options)
    }
}
