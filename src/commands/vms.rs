//! The VMs that a command is for: the one of the file, or those of its `[[vms]]` or of a folder,
//! all or some (`--only`). A file with a list, and a folder, has a list as its report, however many
//! VMs are in it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::uri;
use crate::cli::Cli;
use crate::config::{Config, Loaded};
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::host::libvirt::LibvirtHost;
use crate::output::json::{
    Answer, Body, ErrorDocument, FailureDocument, MessageDocument, SeveralDocument, VmDocument,
    WorkDocument,
};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::output::{Output, named};

/// How long each host of several may take to be reached.
const REACH: Duration = Duration::from_secs(10);
/// How alike a name must be for "did you mean" (Jaro-Winkler; 1.0 is equal).
const ALIKE: f64 = 0.8;

/// What a configuration describes, as far as the command is for it.
pub(super) enum Vms {
    One(Box<Config>),
    /// Those of a list. Never empty.
    Several(Vec<Config>),
}

impl Vms {
    /// Those that are asked for.
    pub fn select(loaded: Loaded, cli: &Cli) -> Result<Self, Failure> {
        let only = &cli.global.only;
        let is_list = loaded.others.is_some();
        let mut list = vec![loaded.config];
        list.extend(loaded.others.into_iter().flatten());
        let names: Vec<String> = list.iter().map(|config| config.name.to_string()).collect();
        if let Some(unknown) = only.iter().find(|name| !names.contains(name)) {
            return Err(no_such_vm(unknown, &names, cli));
        }
        if !only.is_empty() {
            list.retain(|config| only.iter().any(|name| name == config.name.as_str()));
        }
        if is_list {
            ensure_one_host(&list, cli)?;
            return Ok(Self::Several(list));
        }
        let mut list = list.into_iter();
        list.next()
            .map(|config| Self::One(Box::new(config)))
            .ok_or_else(|| no_such_vm("", &names, cli))
    }

    /// For a command that is for one VM at a time.
    pub fn one(self, command: &str, out: &Output) -> Result<Config, Failure> {
        let list = match self {
            Self::One(config) => return Ok(*config),
            Self::Several(list) => list,
        };
        ensure_one(&list, command)?;
        let config = list.into_iter().next();
        let config = config.ok_or_else(|| not_one(0, command))?;
        out.set_name(config.name.as_str());
        Ok(config)
    }
}

/// Which VMs of a list belong to one load balancer: those of one file, and those that share an
/// address. Clients of one may come to the others of its group, and to no VM of another one.
#[derive(Debug)]
pub(super) struct Groups(Vec<(String, usize)>);

impl Groups {
    pub fn of(vms: &[Config]) -> Self {
        let address = |vm: &Config| vm.virtual_ip.as_ref().map(|shared| shared.address);
        let belong = |a: &Config, b: &Config| {
            a.file == b.file || address(a).is_some() && address(a) == address(b)
        };
        let mut groups: Vec<usize> = Vec::new();
        for (place, vm) in vms.iter().enumerate() {
            let earlier = vms.iter().zip(&groups);
            let with: Vec<usize> = earlier
                .filter(|(other, _)| belong(vm, other))
                .map(|(_, group)| *group)
                .collect();
            let own = with.iter().min().copied().unwrap_or(place);
            // It may belong to two that did not know of each other.
            for group in &mut groups {
                if with.contains(group) {
                    *group = own;
                }
            }
            groups.push(own);
        }
        let names = vms.iter().map(|vm| vm.name.to_string());
        Self(names.zip(groups).collect())
    }

    /// Of a VM by its name, in the order of the first of each.
    pub fn group(&self, name: &str) -> usize {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or(0, |(_, group)| *group)
    }
}

/// For what can be done with one VM at a time only, as it was typed.
pub(super) fn ensure_one(list: &[Config], command: &str) -> Result<(), Failure> {
    match list.len() {
        1 => Ok(()),
        count => Err(not_one(count, command)),
    }
}

fn not_one(count: usize, command: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        MessageId::UsageWrong,
        format!("`{command}` is for one VM, and the configuration has {count}"),
        "name it with --only NAME",
    )
}

fn no_such_vm(name: &str, names: &[String], cli: &Cli) -> Failure {
    let score = |known: &&String| strsim::jaro_winkler(name, known);
    let alike = names.iter().filter(|known| score(known) >= ALIKE);
    let best = alike.max_by(|a, b| score(a).total_cmp(&score(b)));
    let hint = best.map_or_else(
        || format!("it has {}", joined(names)),
        |best| format!("did you mean {best}? It has {}", joined(names)),
    );
    let text = format!(
        "--only {name}: {} has no VM of that name",
        cli.global.config.display()
    );
    Failure::new(Exit::Usage, MessageId::UsageWrong, text, hint)
}

/// `--connect` names one host.
fn ensure_one_host(list: &[Config], cli: &Cli) -> Result<(), Failure> {
    let mut hosts = list.iter().map(|config| &config.libvirt.uri);
    let first = hosts.next();
    if cli.global.connect.is_none() || hosts.all(|host| Some(host) == first) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        MessageId::UsageWrong,
        "--connect names one host, and the VMs of the configuration are on several",
        "name the VM that it is for with --only NAME",
    ))
}

/// `a, b and c`
pub(super) fn joined<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// What was found of a VM.
pub(super) enum Found<T> {
    Here(LibvirtHost, Result<T, Failure>),
    /// Its host was not reached, or does not answer any more.
    Away(Failure),
}

/// Asks about every VM at the same time, each over a connection of its own. A host is given
/// [`REACH`] to be reached; what it is asked then has the limits that libvirt's calls have.
pub(super) fn ask_all<T: Send + 'static>(
    vms: &[Config],
    cli: &Cli,
    out: &Output,
    ask: impl Fn(&Config, &LibvirtHost, &Output) -> Result<T, Failure> + Clone + Send + 'static,
) -> Vec<Found<T>> {
    let started = Instant::now();
    let _working = out.working(&format!("asking about {}", counted(vms.len())), None);
    let asked: Vec<_> = vms
        .iter()
        .map(|config| {
            let own = out.of_vm(config.name.as_str()).beside_others();
            let (asked, ask) = (config.clone(), ask.clone());
            let answers = begin(&uri(cli, config), move |host| ask(&asked, host, &own));
            (config, answers)
        })
        .collect();
    let heard = asked.into_iter().map(|(config, answers)| {
        let patience = REACH.saturating_sub(started.elapsed());
        match hear(&uri(cli, config), &answers, patience) {
            Found::Away(failure) => Found::Away(not_reached(config.name.as_str(), &failure, "")),
            here @ Found::Here(..) => here,
        }
    });
    heard.collect()
}

/// The same of hosts, for what is not about one VM.
pub(super) fn ask_hosts<T: Send + 'static>(
    uris: &[String],
    out: &Output,
    ask: impl Fn(&LibvirtHost) -> Result<T, Failure> + Clone + Send + 'static,
) -> Vec<Result<T, Failure>> {
    let started = Instant::now();
    let _working = out.working("asking libvirt", None);
    let asked: Vec<_> = uris
        .iter()
        .map(|uri| (uri, begin(uri, ask.clone())))
        .collect();
    let heard = asked.into_iter().map(|(uri, answers)| {
        let patience = REACH.saturating_sub(started.elapsed());
        match hear(uri, &answers, patience) {
            Found::Away(failure) => Err(failure),
            Found::Here(_, answer) => answer,
        }
    });
    heard.collect()
}

fn counted(vms: usize) -> String {
    match vms {
        1 => "1 VM".to_owned(),
        count => format!("{count} VMs"),
    }
}

/// What comes from the thread that asks.
enum News<T> {
    Reached,
    Found(Box<Found<T>>),
}

fn begin<T: Send + 'static>(
    uri: &str,
    ask: impl FnOnce(&LibvirtHost) -> Result<T, Failure> + Send + 'static,
) -> Receiver<News<T>> {
    let (send, news) = channel();
    let uri = uri.to_owned();
    // One that hangs ends with the process.
    std::thread::spawn(move || {
        let found = match LibvirtHost::connect(&uri) {
            Ok(host) => {
                let _ = send.send(News::Reached);
                match ask(&host) {
                    Err(failure) if is_away(&failure) => Found::Away(failure),
                    answer => Found::Here(host, answer),
                }
            }
            Err(error) => Found::Away(error.into()),
        };
        let _ = send.send(News::Found(Box::new(found)));
    });
    news
}

fn hear<T>(uri: &str, news: &Receiver<News<T>>, patience: Duration) -> Found<T> {
    let silent = || {
        let seconds = REACH.as_secs();
        let text = format!("connecting to libvirt at {uri}: no answer within {seconds} s");
        let hint = "check that the host is up, and that nothing between drops the connection";
        let id = MessageId::LibvirtUnreachable;
        Found::Away(Failure::new(Exit::Failed, id, text, hint))
    };
    match news.recv_timeout(patience) {
        Ok(News::Found(found)) => *found,
        Ok(News::Reached) => match news.recv() {
            Ok(News::Found(found)) => *found,
            Ok(News::Reached) | Err(_) => silent(),
        },
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => silent(),
    }
}

/// Whether it is about the connection to libvirt.
pub(super) fn is_away(failure: &Failure) -> bool {
    let unreachable = |m: &Message| m.id == MessageId::LibvirtUnreachable;
    failure.messages.iter().any(unreachable)
}

/// That a VM's host was not reached. `then`: what follows from it; begins with a semicolon.
pub(super) fn not_reached(name: &str, why: &Failure, then: &str) -> Failure {
    let said = why.messages.first();
    let hint = said.map(|message| message.hint.clone()).unwrap_or_default();
    let said = said.map_or("", |message| message.text.as_str());
    let text = format!("{name}: not reached ({said}){then}");
    Failure::new(Exit::Failed, MessageId::VmNotReached, text, hint)
}

/// What came of the command for one VM.
pub(super) struct VmResult {
    pub name: String,
    pub result: Result<Box<dyn CommandReport>, Failure>,
    /// How lbctl would end for this one; `None`: it was not touched.
    pub exit: Option<Exit>,
    /// Whose libvirt was reached, and what was done before it failed.
    so_far: (Option<String>, Option<WorkDocument>),
}

impl VmResult {
    pub fn is_failure(&self) -> bool {
        self.result.is_err()
    }

    pub fn new(name: &str, result: Result<Box<dyn CommandReport>, Failure>) -> Self {
        let exit = result.as_ref().map_or_else(|f| f.exit, |r| r.exit());
        Self {
            name: name.to_owned(),
            result,
            exit: Some(exit),
            so_far: (None, None),
        }
    }

    pub fn done(name: &str, report: impl CommandReport + 'static) -> Self {
        Self::new(name, Ok(Box::new(report)))
    }

    /// Each message says whose it is.
    pub fn failed(name: &str, mut failure: Failure) -> Self {
        for message in &mut failure.messages {
            if !mentions(&message.text, name) {
                message.text = named(name, &message.text);
            }
        }
        Self::new(name, Err(failure))
    }

    /// One that failed after something was done, which the VM's own output knows.
    #[must_use]
    pub fn after(self, out: &Output) -> Self {
        Self {
            so_far: out.so_far(),
            ..self
        }
    }

    /// Nothing was done, because of another one.
    pub fn untouched(name: &str, because: &str) -> Self {
        let text = format!("{name}: not touched, because of {because}");
        Self {
            exit: None,
            ..Self::failed(
                name,
                Failure {
                    exit: Exit::Done,
                    messages: vec![Message::note(MessageId::VmsUntouched, text)],
                },
            )
        }
    }
}

/// Whether the name is in the text, and not only as a part of another one.
fn mentions(text: &str, name: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | '@');
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let mut after = text[at + name.len()..].chars();
        let next = after.next();
        // A point may end the sentence, or go on with the name.
        let goes_on = next == Some('.') && after.next().is_some_and(|c| !c.is_whitespace());
        !before.is_some_and(|c| of_name(c) || c == '.') && !next.is_some_and(of_name) && !goes_on
    })
}

/// The report of a command for the VMs of a list.
pub(super) struct SeveralReport {
    pub command: &'static str,
    pub vms: Vec<VmResult>,
    /// Whether an empty line stands between the texts of two.
    pub apart: bool,
}

impl SeveralReport {
    /// A host that was not reached counts more than a VM that was held back because of it.
    fn worst(&self) -> Exit {
        let rank = |exit: &Exit| match exit {
            Exit::Done => 0,
            Exit::Pending => 1,
            Exit::NotReady => 2,
            Exit::Refused => 3,
            Exit::Failed => 4,
            Exit::Usage => 5,
            Exit::Interrupted | Exit::Terminated => 6,
        };
        let exits = self.vms.iter().filter_map(|vm| vm.exit);
        exits.max_by_key(rank).unwrap_or(Exit::Done)
    }
}

impl CommandReport for SeveralReport {
    fn exit(&self) -> Exit {
        self.worst()
    }

    fn document(&self) -> Option<Answer> {
        None
    }

    fn body(&self) -> Option<Body> {
        let vm = |vm: &VmResult| match &vm.result {
            Ok(report) => report.document().map(VmDocument::Answer),
            Err(failure) => Some(VmDocument::Failure(FailureDocument {
                command: self.command.to_owned(),
                name: Some(vm.name.clone()),
                time: None,
                uri: vm.so_far.0.clone(),
                work: vm.so_far.1.clone(),
                error: ErrorDocument {
                    exit_code: vm.exit.map(|exit| exit as u8),
                    problems: Vec::new(),
                    messages: failure.messages.iter().map(MessageDocument::from).collect(),
                },
            })),
        };
        Some(Body::Several(SeveralDocument {
            command: self.command.to_owned(),
            exit_code: self.exit() as u8,
            vms: self.vms.iter().filter_map(vm).collect(),
            virtual_ip: None,
            virtual_ips: Vec::new(),
        }))
    }

    fn text(&self, options: TextOptions) -> Vec<TextPart> {
        let mut text = Vec::new();
        for vm in &self.vms {
            let parts = match &vm.result {
                Ok(report) => report.text(options),
                Err(failure) => vec![TextPart::Messages(failure.messages.clone())],
            };
            let on_stdout = |part: &TextPart| {
                !matches!(
                    part,
                    TextPart::Said(_) | TextPart::SaidLong(_) | TextPart::Messages(_)
                )
            };
            if self.apart && text.iter().any(on_stdout) && parts.iter().any(on_stdout) {
                text.push(TextPart::LongLine("".into()));
            }
            text.extend(parts);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_as_in_a_sentence() {
        assert_eq!(joined::<&str>(&[]), "");
        assert_eq!(joined(&["a"]), "a");
        assert_eq!(joined(&["a", "b"]), "a and b");
        assert_eq!(joined(&["a", "b", "c"]), "a, b and c");
    }

    #[test]
    fn each_message_of_a_failure_says_whose_it_is_and_says_it_once() {
        let text = |said: &str| {
            let failure = Failure::new(Exit::Failed, MessageId::LibvirtError, said, "");
            let failed = VmResult::failed("lb-1", failure);
            failed
                .result
                .err()
                .map(|failure| failure.to_string())
                .unwrap_or_default()
        };
        assert_eq!(
            text("storage pool default is not active"),
            "lb-1: storage pool default is not active"
        );
        for named in [
            "domain lb-1 is busy",
            "lb-1: not reached",
            "nothing is left of lb-1.",
        ] {
            assert_eq!(text(named), named);
        }
        // Names of other things.
        for other in [
            "domain lb-10 is busy",
            "volume default/lb-1 exists",
            "connecting to libvirt at qemu+ssh://lb-1.example.com/system",
        ] {
            assert_eq!(text(other), format!("lb-1: {other}"));
        }
    }

    #[test]
    fn the_worst_of_all_codes_counts_and_one_that_was_not_touched_has_none() {
        let failed = |exit| {
            let id = MessageId::LibvirtError;
            VmResult::failed("a", Failure::new(exit, id, "no", ""))
        };
        let report = |vms| SeveralReport {
            command: "up",
            vms,
            apart: false,
        };
        for (exits, worst) in [
            (vec![], Exit::Done),
            (vec![Exit::NotReady, Exit::Refused], Exit::Refused),
            (vec![Exit::Failed, Exit::Refused], Exit::Failed),
            (vec![Exit::Pending, Exit::Done], Exit::Pending),
        ] {
            let mut vms: Vec<VmResult> = exits.into_iter().map(failed).collect();
            vms.push(VmResult::untouched("b", "a"));
            assert_eq!(report(vms).exit(), worst);
        }
    }
}
