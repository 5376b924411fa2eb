//! The commands: read the configuration, then do. Each is one short flow over the modules and gives
//! back its report as a value (`output/report`). None knows in which format that is printed; what
//! is said while something happens goes through `Output` at once.

mod check;
mod down;
mod files;
mod man;
mod plan;
mod render;
mod renew;
mod status;
mod up;
mod wait;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::thread::sleep;
use std::time::Duration;

use time::OffsetDateTime;

use crate::cli::{Cli, Command, SchemaOf};
use crate::config::{self, Config, DEFAULT_URI, Loaded, Name, Report};
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::guest::{AgentAvailability, Guest};
use crate::host::libvirt::LibvirtHost;
use crate::host::{DomainFacts, HostReader as _, HostResult};
use crate::output::interrupt::{Interrupt, Manner};
use crate::output::json;
use crate::output::report::{CommandReport, TextPart, TextReport};
use crate::output::{Output, seconds};
use crate::reconcile::apply::{ApplyError, Progress, apply};
use crate::reconcile::desired::Desired;
use crate::reconcile::observe::{Ask, OBSERVE_AGAIN, Observed, observe};
use crate::reconcile::plan::{DownOptions, Step, guest_differs};

/// For the guest agent to say what it can.
const AVAILABILITY: Duration = Duration::from_secs(15);
const EXAMPLE: &str = include_str!("../../config.example.toml");

/// An end other than success.
enum CommandError {
    Config(Report),
    Failure(Failure),
}

impl<T: Into<Failure>> From<T> for CommandError {
    fn from(failure: T) -> Self {
        Self::Failure(failure.into())
    }
}

type CommandResult = Result<Box<dyn CommandReport>, CommandError>;

/// Runs the command line, prints what there is to print, and says how it ended.
#[must_use]
pub fn run(cli: &Cli) -> Exit {
    let out = Output::new(cli.command.name(), &cli.global);
    match dispatch(cli, &out) {
        Ok(report) => out.report(report.as_ref()),
        Err(CommandError::Config(report)) => {
            out.problems(&report);
            Exit::Usage
        }
        Err(CommandError::Failure(failure)) => {
            out.failure(&failure);
            failure.exit
        }
    }
}

fn dispatch(cli: &Cli, out: &Output) -> CommandResult {
    match &cli.command {
        Command::Init => Ok(text(TextPart::Data(EXAMPLE.to_owned()))),
        Command::Schema { what } => {
            let schema = match what {
                SchemaOf::Config => config::json_schema(),
                SchemaOf::Output => json::json_schema(),
            };
            Ok(text(TextPart::LongLine(format!("{schema:#}"))))
        }
        Command::Completions { shell } => Ok(text(TextPart::Data(man::completions(*shell)))),
        Command::Man {
            command,
            out: directory,
        } => match directory {
            Some(directory) => man::write_all(directory, out),
            None => man::page(command.as_deref()),
        },
        Command::Check { host } => check::run(cli, out, *host),
        Command::Render {
            out: directory,
            show_secrets,
        } => render::run(cli, out, directory.as_deref(), *show_secrets),
        Command::Plan { exit_code } => plan::run(cli, out, *exit_code),
        Command::Up(args) => up::run(cli, out, args),
        Command::Down {
            delete_volume,
            stop_timeout,
        } => {
            let options = DownOptions {
                stop_deadline: *stop_timeout,
                delete_volume: *delete_volume,
            };
            down::run(cli, out, options)
        }
        Command::Status { watch } => status::run(cli, out, *watch),
        Command::Renew { check, force } => renew::run(cli, out, *check, *force),
    }
}

/// The report of a command that is asked for one text.
fn text(part: TextPart) -> Box<dyn CommandReport> {
    Box::new(TextReport::done(vec![part]))
}

/// The configuration, checked; its warnings are printed.
fn load(cli: &Cli, out: &Output) -> Result<Config, CommandError> {
    // A command that issues nothing works with an expired CA, too.
    let issues = !matches!(cli.command, Command::Down { .. } | Command::Status { .. });
    let now = issues.then(OffsetDateTime::now_utc);
    let Loaded { config, warnings } =
        config::load(&cli.global.config, now).map_err(CommandError::Config)?;
    out.warnings(&warnings);
    Ok(config)
}

fn connect(cli: &Cli, config: &Config) -> Result<LibvirtHost, Failure> {
    let from_environment = || {
        std::env::var("LIBVIRT_DEFAULT_URI")
            .ok()
            .filter(|uri| !uri.is_empty())
    };
    let uri = cli
        .global
        .connect
        .clone()
        .or_else(|| config.libvirt.uri.clone())
        .or_else(from_environment);
    Ok(LibvirtHost::connect(uri.as_deref().unwrap_or(DEFAULT_URI))?)
}

/// Observed and desired, as of now.
fn observe_and_desire(
    config: &Config,
    host: &LibvirtHost,
    ask: Ask,
) -> Result<(Observed, Desired), Failure> {
    let mut rounds = 0;
    loop {
        let mut observed = observe(config, host, ask)?;
        let desired = Desired::from_config(config, &observed, OffsetDateTime::now_utc())?;
        if guest_differs(&desired.seed, observed.domain.as_ref())
            && !ask_availability(&mut observed, host)?
            && rounds < OBSERVE_AGAIN
        {
            rounds += 1;
            continue;
        }
        return Ok((observed, desired));
    }
}

/// Asks whether the running guest can be changed. False: it cannot, and it has stopped or was
/// started again since it was observed, by another lbctl or by itself: the host must be observed
/// again.
fn ask_availability(observed: &mut Observed, host: &LibvirtHost) -> HostResult<bool> {
    let run = |d: &DomainFacts| d.live.as_ref().map(|live| live.run);
    let Some(domain) = observed.domain.as_ref().filter(|d| d.live.is_some()) else {
        return Ok(true);
    };
    observed.availability = Guest::new(host, &domain.name).availability(AVAILABILITY);
    if observed.availability == AgentAvailability::Ready {
        return Ok(true);
    }
    let now = host.domain(&domain.name)?;
    Ok(now.as_ref().and_then(run) == run(domain))
}

/// Adds to a refusal that comes after something was done that the state has changed. Other failures
/// have reasons of their own.
fn not_so_before(name: &Name, mut refused: Failure) -> Failure {
    if refused.exit != Exit::Refused {
        return refused;
    }
    let text = format!("another lbctl run, or somebody else, changed {name} after this run began");
    let note = Message::note(MessageId::ConcurrentRun, text);
    refused.messages.push(note);
    refused
}

/// Shows the steps while they are carried out.
#[derive(Clone, Copy)]
struct Session<'a> {
    host: &'a LibvirtHost,
    out: &'a Output,
    interrupt: &'a Interrupt,
}

impl Session<'_> {
    /// The steps, shown one by one. Ctrl-C takes effect between them: each prefix of a plan is
    /// safe.
    fn carry_out(mut self, steps: &[Step]) -> Result<(), ApplyError> {
        self.interrupt.set(Manner::AfterStep {
            words: "stopped within a step; run the same command again: it continues from here"
                .into(),
        });
        apply(steps, self.host, &mut self)
    }

    /// Whether a signal came while the last step was done.
    fn asked(self) -> Result<(), Failure> {
        self.interrupt.asked().map_or(Ok(()), |exit| {
            let text =
                "stopped after the last step; run the same command again: it verifies the result";
            Err(Failure::stopped(exit, text))
        })
    }

    /// Longer each time, with a random part, so that two runs do not wait equally long.
    fn back_off(self, name: &str, round: usize, why: &str) {
        self.out.end_live();
        self.out.say(&format!(
            "  another lbctl run is changing {name} ({why}): planning again from the present state"
        ));
        let random = RandomState::new().build_hasher().finish() % 200;
        let grown = 100 * u64::try_from(round.min(5)).unwrap_or(5);
        sleep(Duration::from_millis(grown + random));
    }
}

impl Progress for Session<'_> {
    fn begin(&mut self, step: &Step) {
        tracing::info!("{step}");
        let _ = self.out.live(&step.to_string());
    }

    fn end(&mut self, step: &Step, took: Duration) {
        self.out.end_live();
        self.out.say(&format!("  {step} ({})", seconds(took)));
    }

    fn note(&mut self, text: &str) {
        self.out.say(&format!("  {text}"));
    }

    fn stop(&self) -> Option<Exit> {
        self.interrupt.asked()
    }
}
