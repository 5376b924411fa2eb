//! The commands: read the configuration, then do. Each is one short flow over the modules and gives
//! back its report as a value (`output/report`). None knows in which format that is printed; what
//! is said while something happens goes through `Output` at once.

mod adopt;
mod check;
mod complete;
mod console;
mod csr;
mod down;
mod files;
mod handover;
mod import;
mod init;
mod inventory;
mod list;
mod logs;
mod look;
mod man;
mod plan;
mod render;
mod renew;
mod restart;
mod rolling;
mod running;
mod saved_plan;
mod spare;
mod status;
mod up;
mod vms;
mod wait;

use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use clap::CommandFactory as _;
use time::OffsetDateTime;

use crate::cli::{Cli, Command, Global, SchemaOf, UpArgs};
use crate::config::{self, Config, DEFAULT_URI, Loaded, Name, Needs, Report, Scrutiny};
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::host::libvirt::{LibvirtHost, library_version, patience};
use crate::output::interrupt::{Interrupt, Manner};
use crate::output::json;
use crate::output::report::{CommandReport, TextPart, TextReport};
use crate::output::{Output, Working};
use crate::reconcile::apply::{ApplyError, Progress, apply};
use crate::reconcile::desired::{Adoption, DiskConsent};
use crate::reconcile::plan::{DownOptions, Step};
use crate::reconcile::rounds::Again;
use crate::release;
use crate::text::size::Bytes;

pub use complete::values;
use look::{ask_availability, beside_jobs, observe_and_desire, plan_beside_jobs};
pub use plan::plan_text;
use vms::Vms;

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
            let failure = of_driver(failure, &out);
            out.failure(&failure);
            failure.exit
        }
    }
}

/// What a driver of libvirt's that lbctl does not work with says of itself leads nobody on.
fn of_driver(failure: Failure, out: &Output) -> Failure {
    let (uri, _) = out.so_far();
    let unfit = uri.and_then(|uri| ensure_qemu(&uri).err());
    unfit
        .filter(|_| failure.exit == Exit::Failed)
        .unwrap_or(failure)
}

/// Whether a command line that could not be read asks for JSON.
pub fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json" || argument == "--events")
}

/// What `--version` prints; `-V` prints its first line.
#[must_use]
pub fn version() -> String {
    release::described(library_version().as_deref())
}

/// The document of a command line that could not be read.
pub fn usage(wrong: &clap::Error) {
    let given = std::env::args_os().skip(1);
    let names: Vec<String> = Cli::command()
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let known = |argument: OsString| names.iter().find(|name| argument == name.as_str());
    let command = given.into_iter().find_map(known);
    let text = wrong.render().to_string();
    let what = text.trim_start_matches("error: ").trim_end();
    let global = Global {
        events: std::env::args_os().any(|argument| argument == "--events"),
        ..Global::for_json()
    };
    Output::new(command.map_or("", String::as_str), &global).usage(what);
}

fn dispatch(cli: &Cli, out: &Output) -> CommandResult {
    match &cli.command {
        Command::Init(args) => init::run(cli, out, args),
        Command::Schema { what } => {
            let schema = match what {
                SchemaOf::Config => config::json_schema(),
                SchemaOf::Output => json::json_schema(),
                SchemaOf::Events => json::events_schema(),
            };
            Ok(text(TextPart::LongLine(format!("{schema:#}").into())))
        }
        Command::Completions { shell } => Ok(text(TextPart::Data(complete::script(*shell)))),
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
        Command::Plan {
            exit_code,
            reuse_disk,
            replace_disk,
            adopt,
            force,
            out: file,
        } => {
            let wanted = plan::Wanted {
                exit_code: *exit_code,
                consents: Consents {
                    alone: *adopt,
                    disk: DiskConsent {
                        reuse: *reuse_disk,
                        replace: *replace_disk,
                    },
                    adoption: match (adopt, force) {
                        (false, _) => Adoption::Refused,
                        (true, false) => Adoption::Careful,
                        (true, true) => Adoption::Forced,
                    },
                },
                file: file.as_deref(),
            };
            plan::run(cli, out, wanted)
        }
        Command::Up(args) => up::run(cli, out, args),
        Command::Adopt(args) => adopt::run(cli, out, args),
        Command::Down {
            delete_volume,
            stop_timeout,
            alone,
        } => {
            let options = DownOptions {
                stop_deadline: *stop_timeout,
                delete_volume: *delete_volume,
                alone: *alone,
            };
            down::run(cli, out, options)
        }
        Command::Console(args) => console::run(cli, out, args),
        Command::List(args) => Ok(list::run(cli, out, args)),
        Command::Logs(args) => logs::run(cli, out, args),
        Command::Restart(args) => restart::run(cli, out, args),
        Command::Status { watch, textfile } => match textfile {
            Some(file) => status::write(cli, out, file),
            None => status::run(cli, out, *watch),
        },
        Command::Renew {
            check,
            force,
            certificate,
            despite,
        } => {
            let taken = certificate.as_deref().map(|file| csr::take(cli, out, file));
            let taken = taken.transpose()?;
            let wanted = renew::Wanted {
                check: *check,
                force: *force,
                despite,
                taken: taken.is_some(),
            };
            renew::run(cli, out, &wanted)
        }
        Command::Handover => handover::run(cli, out),
        Command::Import(args) => import::run(cli, out, args),
        Command::Csr => csr::run(cli, out),
    }
}

/// The report of a command that is asked for one text.
fn text(part: TextPart) -> Box<dyn CommandReport> {
    Box::new(TextReport::done(vec![part]))
}

/// What the configuration describes and the command is for, checked; its warnings are printed.
fn load(cli: &Cli, out: &Output) -> Result<Vms, CommandError> {
    ensure_clock(SystemTime::now())?;
    let needs = match cli.command {
        Command::Down { .. }
        | Command::Status { .. }
        | Command::Restart(_)
        | Command::Logs(_)
        | Command::Handover
        | Command::Console(_) => Needs::None,
        Command::Renew { .. } => Needs::Certificate,
        _ => Needs::All,
    };
    // A command that issues nothing works with an expired CA, too.
    let issues = needs != Needs::None;
    load_at(cli, out, issues.then(OffsetDateTime::now_utc), needs)
}

/// The same, held against another time; `None`: whether certificates are in force is not asked.
fn load_at(
    cli: &Cli,
    out: &Output,
    now: Option<OffsetDateTime>,
    needs: Needs,
) -> Result<Vms, CommandError> {
    let scrutiny = Scrutiny {
        now,
        examine_ca_key: false,
        origins: false,
        needs,
    };
    select(read(cli, out, scrutiny)?, cli, out)
}

/// The configuration, checked; its warnings are printed: whole by the command that is for them, and
/// not by another one that is to be quiet.
fn read(cli: &Cli, out: &Output, scrutiny: Scrutiny) -> Result<Loaded, CommandError> {
    let loaded = config::load(&cli.global.config, scrutiny).map_err(CommandError::Config)?;
    match cli.command {
        Command::Check { .. } => out.warnings(&loaded.warnings),
        // A timer says the same every day, and nobody can answer.
        _ if cli.global.quiet => {}
        _ => out.warnings_in_short(&loaded.warnings),
    }
    Ok(loaded)
}

/// What of it the command is for.
fn select(loaded: Loaded, cli: &Cli, out: &Output) -> Result<Vms, CommandError> {
    let vms = Vms::select(loaded, cli)?;
    if let Vms::One(config) = &vms {
        out.set_name(config.name.as_str());
    }
    Ok(vms)
}

/// Certificates know four digits of a year, and so does lbctl.
fn ensure_clock(now: SystemTime) -> Result<(), Failure> {
    /// 9999-01-01 00:00 UTC.
    const LAST: u64 = 253_370_764_800;
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    if since.is_ok_and(|since| since.as_secs() >= LAST) {
        return Err(Failure::new(
            Exit::Failed,
            MessageId::ClockUnfit,
            "the clock of this machine shows a year after 9998, at which no certificate is valid",
            "set the clock (`timedatectl`)",
        ));
    }
    Ok(())
}

/// Where the VM's libvirt is.
fn uri(cli: &Cli, config: &Config) -> String {
    uri_or(cli, config.libvirt.uri.as_deref())
}

/// The URI of the command line comes first, then the one given here.
fn uri_or(cli: &Cli, configured: Option<&str>) -> String {
    let from_environment = || {
        std::env::var("LIBVIRT_DEFAULT_URI")
            .ok()
            .filter(|uri| !uri.is_empty())
    };
    let given = cli.global.connect.clone();
    let uri = given
        .or_else(|| configured.map(String::from))
        .or_else(from_environment);
    uri.unwrap_or_else(|| DEFAULT_URI.to_owned())
}

fn connect(cli: &Cli, config: &Config, out: &Output) -> Result<LibvirtHost, Failure> {
    connect_to(&uri(cli, config), out)
}

fn connect_to(uri: &str, out: &Output) -> Result<LibvirtHost, Failure> {
    let _working = out.working(
        &format!("connecting to libvirt at {uri}"),
        Some(patience(uri)),
    );
    let host = LibvirtHost::connect(uri)?;
    out.set_uri(host.uri());
    Ok(host)
}

/// Shows that the host is asked, if that takes longer than usual.
fn asking<'a>(out: &'a Output, host: &LibvirtHost) -> Working<'a> {
    out.working("asking libvirt", Some(patience(host.uri())))
}

/// What of others may be taken over.
#[derive(Debug, Clone, Copy, Default)]
struct Consents {
    disk: DiskConsent,
    /// A domain of the name.
    adoption: Adoption,
    /// That no other VM takes the address which they share.
    alone: bool,
}

impl Consents {
    fn of_up(args: &UpArgs) -> Self {
        Self {
            disk: DiskConsent {
                reuse: args.reuse_disk,
                replace: args.replace_disk,
            },
            adoption: Adoption::Refused,
            alone: args.alone,
        }
    }
}

/// libvirt's other drivers have no guests of QEMU's, and that for tests none at all.
fn ensure_qemu(uri: &str) -> Result<(), Failure> {
    // Without a scheme it is an alias of libvirt.conf's.
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme);
    let driver = scheme.and_then(|scheme| scheme.split('+').next());
    let what = match driver {
        None | Some("qemu") => return Ok(()),
        Some("test") => "for tests, which runs nothing".to_owned(),
        Some(other) => format!("{other}, and lbctl works with qemu alone"),
    };
    Err(Failure::new(
        Exit::Failed,
        MessageId::DriverUnfit,
        format!("{uri} is of libvirt's driver {what}"),
        "give the URI of a host's QEMU, such as qemu:///system (--connect, libvirt.uri, LIBVIRT_DEFAULT_URI)",
    ))
}

/// Adds to a refusal that comes after something was done that the state has changed. Other failures
/// have reasons of their own.
fn not_so_before(name: &Name, mut refused: Failure) -> Failure {
    if refused.exit != Exit::Refused {
        return refused;
    }
    // A file that somebody put into the pool's folder is listed when libvirt reads the pool again,
    // which an upload makes it do.
    let listed = [
        MessageId::VolumeExists,
        MessageId::DiskNotOurs,
        MessageId::SeedVolumeExists,
        MessageId::SeedOfAnotherVm,
    ];
    let note = if refused.messages.iter().all(|m| listed.contains(&m.id)) {
        let text = "libvirt did not list it when this run began: somebody else made it since, or its file was in the \
                    pool's folder before libvirt read the pool again";
        Message::note(MessageId::PlanNote, text)
    } else {
        let text =
            format!("another lbctl run, or somebody else, changed {name} after this run began");
        Message::note(MessageId::ConcurrentRun, text)
    };
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
    fn carry_out(self, steps: &[Step]) -> Result<(), ApplyError> {
        let words = "stopped within a step; run the same command again: it continues from here";
        self.carry_out_or(steps, words)
    }

    /// The same; `words`: what a second signal within a step says.
    fn carry_out_or(mut self, steps: &[Step], words: &str) -> Result<(), ApplyError> {
        self.interrupt.set(Manner::AfterStep {
            words: words.to_owned(),
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
    fn back_off(self, name: &str, round: usize, why: Again<'_>) {
        self.out.end_live();
        match why {
            Again::Overtaken(why) => self.out.note(&format!(
                "another lbctl run is changing {name} ({why}): planning again from the present state"
            )),
            Again::Left => self.out.note(&format!(
                "every step was done, and {name} still differs: planning again from the present state"
            )),
            Again::Unchanged => {}
        }
        let random = RandomState::new().build_hasher().finish() % 200;
        let grown = 100 * u64::try_from(round.min(5)).unwrap_or(5);
        sleep(Duration::from_millis(grown + random));
    }
}

impl Progress for Session<'_> {
    fn begin(&mut self, step: &Step) {
        tracing::debug!("{step}");
        self.out.step_begins(step);
    }

    fn part(&mut self, step: &str, done: u64, whole: Option<u64>) {
        let done_of = match whole {
            Some(whole) if whole > 0 => format!("{} %", done.saturating_mul(100) / whole),
            _ => Bytes(done).to_string(),
        };
        self.out.progress(&format!("{step}: {done_of}"));
    }

    fn end(&mut self, step: &Step, took: Duration) {
        self.out.step_ends(step, took);
    }

    fn note(&mut self, text: &str) {
        self.out.note(text);
    }

    fn stop(&self) -> Option<Exit> {
        self.interrupt.asked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_has_no_guests_of_qemu_is_refused() {
        for uri in [
            "qemu:///system",
            "qemu+ssh://root@kvm1/system",
            "qemu+unix:///system?socket=/run/x",
            "kvm1",
        ] {
            assert!(ensure_qemu(uri).is_ok(), "{uri}");
        }
        for (uri, says) in [
            ("test:///default", "driver for tests"),
            ("test+ssh://kvm1/default", "driver for tests"),
            ("lxc:///system", "driver lxc"),
            ("xen+tls://kvm1/system", "driver xen"),
        ] {
            let failure = ensure_qemu(uri).err();
            let says = |f: Failure| f.messages[0].text.contains(says);
            assert!(failure.is_some_and(says), "{uri}");
        }
    }

    #[test]
    fn a_clock_beyond_certificates_is_an_error_in_words() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(ensure_clock(at(0)).is_ok());
        assert!(ensure_clock(at(4_102_444_800)).is_ok());
        let failure = ensure_clock(at(253_402_300_800)).err();
        assert!(failure.is_some_and(|f| f.messages[0].id == MessageId::ClockUnfit));
    }
}
