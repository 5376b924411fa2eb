//! `lbctl list`: every VM that lbctl made on a host, and every one that a configuration describes,
//! each with its counterpart or said to have none. Guests are not asked: that is `status`.

use std::io;
use std::path::{Path, PathBuf};

use super::inventory::{Described, HostDomains, Row, rows};
use super::vms::{ask_hosts, joined};
use super::{uri, uri_or};
use crate::cli::{Cli, DEFAULT_CONFIG, ListArgs};
use crate::config::{self, Config, Needs, Problem, Scrutiny, VolumeRef};
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::host::libvirt::LibvirtHost;
use crate::host::{DomainEntry, DomainState, HostReader as _, VolumeFacts};
use crate::output::Output;
use crate::output::json::{
    Answer, LeftoverDocument, ListDocument, ListedFileDocument, ListedHostDocument,
    MessageDocument, ProblemDocument, Relation,
};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::seed;
use crate::text::styled::{Style, Styled};
use crate::text::table::table;

/// Where the renewal timer of the package looks, too.
const FOLDER: &str = "/etc/lbctl";
/// How a seed's name ends, unless `cloud_init_volume_name` says otherwise.
const SEED_END: &str = ".iso";

pub(super) fn run(cli: &Cli, out: &Output, args: &ListArgs) -> Box<dyn CommandReport> {
    let mut read = ReadFiles::default();
    let places = places(cli, args);
    for place in &places {
        read.place(place);
    }
    let described = read.described(cli);
    let hosts = hosts(cli, &described);
    let found = ask_hosts(&hosts, out, census);
    let mut report = ListReport {
        only: cli.global.only.clone(),
        files: read.files,
        messages: read.messages,
        passed_over: read.passed_over,
        named: names_of(cli, args, &places),
        ..ListReport::default()
    };
    let mut domains = Vec::new();
    for (uri, found) in hosts.into_iter().zip(found) {
        let (listed, error) = match found {
            Ok(census) => {
                let named = |vm: &str, at: &VolumeRef| {
                    let is = |d: &Described| d.name == vm && d.uri == uri && d.seed == *at;
                    described.iter().any(is)
                };
                let leftovers = census.leftovers.into_iter();
                report.leftovers.extend(leftovers.map(|(at, vm)| Leftover {
                    is_described: named(&vm, &at),
                    uri: uri.clone(),
                    at,
                    vm,
                }));
                (Some(census.domains), None)
            }
            Err(failure) => {
                let error = failure.messages.first().map(MessageDocument::from);
                report.messages.extend(failure.messages);
                (None, error)
            }
        };
        report.hosts.push(ListedHostDocument {
            uri: uri.clone(),
            error,
        });
        domains.push(HostDomains {
            uri,
            domains: listed,
        });
    }
    report.leftovers.retain(|left| {
        let elsewhere = domains.iter().filter(|host| host.uri != left.uri);
        !elsewhere
            .flat_map(|host| host.domains.iter().flatten())
            .any(|domain| domain.has_seed(&left.at))
    });
    report.rows = rows(&described, &domains);
    Box::new(report)
}

/// What is read: what was named; else the configuration as for every command, where there is one,
/// and the folder of the renewal timer.
fn places(cli: &Cli, args: &ListArgs) -> Vec<PathBuf> {
    if !args.paths.is_empty() {
        return args.paths.clone();
    }
    let configured = &cli.global.config;
    let usual = [configured.as_path(), Path::new(FOLDER)];
    // The two may be missing; one that was named may not.
    let is_there =
        |place: &&Path| place.exists() || (**place != *DEFAULT_CONFIG && **place != *FOLDER);
    let there = usual.into_iter().filter(is_there);
    there.map(Path::to_owned).collect()
}

/// The places that are looked at, those that are missing too.
fn names_of(cli: &Cli, args: &ListArgs, places: &[PathBuf]) -> Vec<String> {
    if args.paths.is_empty() {
        let configured = cli.global.config.display().to_string();
        return vec![configured, FOLDER.to_owned()];
    }
    let names = places.iter().map(|place| place.display().to_string());
    names.collect()
}

/// The configurations that were read.
#[derive(Default)]
struct ReadFiles {
    configs: Vec<(String, Config)>,
    files: Vec<ListedFileDocument>,
    messages: Vec<Message>,
    seen: Vec<PathBuf>,
    /// The usual folder is not this user's to read.
    passed_over: bool,
}

impl ReadFiles {
    /// A file, or the configurations of a folder.
    fn place(&mut self, place: &Path) {
        if !place.is_dir() {
            self.file(place);
            return;
        }
        match config::configurations(place) {
            Ok(files) => {
                for file in files {
                    self.file(&file);
                }
            }
            // Root's alone, as the package makes it: what others describe is listed all the same.
            Err(error)
                if place == Path::new(FOLDER)
                    && error.kind() == io::ErrorKind::PermissionDenied =>
            {
                self.passed_over = true;
            }
            Err(error) => {
                let text = format!("reading the folder {}: {error}", place.display());
                let hint = "run it as a user who may read it, or name files: `lbctl list FILE`";
                let message = Message::new(MessageId::FileUnreadable, text, hint);
                self.messages.push(message);
            }
        }
    }

    fn file(&mut self, file: &Path) {
        let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        if self.seen.contains(&real) {
            return;
        }
        self.seen.push(real);
        let name = file.display().to_string();
        // Nothing is issued: an expired CA is fine, and what the file refers to need not be there.
        let scrutiny = Scrutiny {
            now: None,
            examine_ca_key: false,
            origins: false,
            needs: Needs::None,
        };
        let problems = match config::load(file, scrutiny) {
            Ok(loaded) => {
                let all = std::iter::once(loaded.config).chain(loaded.others.into_iter().flatten());
                self.configs
                    .extend(all.map(|config| (name.clone(), config)));
                Vec::new()
            }
            Err(report) => report.problems,
        };
        if let Some(first) = problems.first() {
            self.messages.push(wrong(&name, first, problems.len()));
        }
        self.files.push(ListedFileDocument {
            file: name,
            problems: problems.iter().map(ProblemDocument::from).collect(),
        });
    }

    fn described(&self, cli: &Cli) -> Vec<Described> {
        let given = cli.global.connect.as_deref();
        let configs = self.configs.iter();
        configs
            .map(|(file, config)| Described {
                name: config.name.to_string(),
                file: file.clone(),
                uri: uri(cli, config),
                is_its_host: given.is_none()
                    || config.libvirt.uri.is_none()
                    || config.libvirt.uri.as_deref() == given,
                address: config.address(),
                seed: config.seed_volume.clone(),
            })
            .collect()
    }
}

fn wrong(file: &str, first: &Problem, count: usize) -> Message {
    let more = match count {
        1 => String::new(),
        count => format!(" ({count} problems)"),
    };
    let text = match first.line {
        // It is about the file, and says so.
        0 if first.key.is_empty() => format!("{}{more}", first.message),
        0 => format!("{}: {}{more}", first.file, first.message),
        line => format!("{}:{line}: {}{more}", first.file, first.message),
    };
    let hint = format!("`lbctl -c {file} check` shows all of it; its VMs are not listed");
    Message::new(MessageId::ConfigWrong, text, hint)
}

/// The one that was given; else those of the configurations; else the usual one.
fn hosts(cli: &Cli, described: &[Described]) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for vm in described {
        if !hosts.contains(&vm.uri) {
            hosts.push(vm.uri.clone());
        }
    }
    if hosts.is_empty() {
        hosts.push(uri_or(cli, None));
    }
    hosts
}

/// What a host has.
struct Census {
    domains: Vec<DomainEntry>,
    /// Seeds that no domain has, and whose they are.
    leftovers: Vec<(VolumeRef, String)>,
}

fn census(host: &LibvirtHost) -> Result<Census, Failure> {
    let domains = host.domains()?;
    let taken = |facts: &VolumeFacts| {
        domains.iter().any(|domain| {
            let mut sources = domain.sources.iter();
            sources.any(|source| source.is(&facts.at, Some(facts))) || domain.has_seed(&facts.at)
        })
    };
    let candidates = host.volumes_like(SEED_END, seed::MAX_SIZE).into_iter();
    let leftovers = candidates
        .filter(|facts| !taken(facts))
        .filter_map(|facts| {
            // What cannot be read is not known to be a seed.
            let head = host.read_volume(&facts.at, seed::HEAD.min(facts.capacity));
            let vm = seed::owner(&head.ok()?)?;
            Some((facts.at, vm))
        });
    let leftovers = leftovers.collect();
    Ok(Census { domains, leftovers })
}

/// A seed that no domain has.
struct Leftover {
    uri: String,
    at: VolumeRef,
    vm: String,
    /// Whether a configuration describes the VM: its next `up` or `down` takes the seed.
    is_described: bool,
}

#[derive(Default)]
struct ListReport {
    /// Names to which it is restricted; empty: all.
    only: Vec<String>,
    rows: Vec<Row>,
    leftovers: Vec<Leftover>,
    hosts: Vec<ListedHostDocument>,
    files: Vec<ListedFileDocument>,
    /// What could not be read or reached.
    messages: Vec<Message>,
    /// The usual folder is not this user's to read.
    passed_over: bool,
    /// Where it looked for configurations, in words.
    named: Vec<String>,
}

impl ListReport {
    /// Whether everything that may describe a VM was read.
    fn is_complete(&self) -> bool {
        self.messages.is_empty() && !self.passed_over
    }

    fn shows(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| self.shows(&row.name))
    }

    fn leftovers(&self) -> impl Iterator<Item = &Leftover> {
        self.leftovers.iter().filter(|left| self.shows(&left.vm))
    }

    fn cells(row: &Row, many_hosts: bool) -> Vec<Styled> {
        let state = row.state();
        let state = match row.relation {
            Relation::Foreign => format!("{state}, not lbctl's"),
            _ => state,
        };
        let mut cells = vec![
            Styled::from(&row.name),
            match style(row) {
                Some(style) => Styled::all(style, &state),
                None => state.into(),
            },
            row.address.as_deref().unwrap_or("-").into(),
        ];
        if many_hosts {
            cells.push(row.uri.as_str().into());
        }
        cells.push(match (row.written_by(), row.is_current()) {
            (Some(writer), Some(false)) => Styled::all(Style::Caution, &writer),
            (Some(writer), _) => writer.into(),
            (None, _) => "-".into(),
        });
        cells.push(match row.files.as_slice() {
            [] => Styled::all(Style::Caution, "none"),
            files => files.join(", ").into(),
        });
        cells
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for row in self.rows() {
            notes.extend(note(row, self.is_complete()));
            if row.files.len() > 1 {
                notes.push(format!(
                    "{}: {} describe it; each `up` would undo the other's: keep one",
                    row.name,
                    joined(&row.files)
                ));
            }
            if row.is_current() == Some(false) && row.relation == Relation::Managed {
                notes.push(format!(
                    "{}: another version of lbctl wrote its definition; `lbctl plan` says what `lbctl up` would bring",
                    row.name
                ));
            }
        }
        notes.extend(self.leftovers().map(|left| {
            let Leftover { uri, at, vm, .. } = left;
            let next = if left.is_described {
                "`lbctl up` uses it, `lbctl down` removes it".to_owned()
            } else {
                format!(
                    "if no other host uses the pool, `virsh -c {uri} vol-delete --pool {} {}` removes it",
                    at.pool, at.name
                )
            };
            format!("seed {at} of {vm}: no domain of this host has it, and it holds the secrets of that guest; {next}")
        }));
        notes
    }
}

fn style(row: &Row) -> Option<Style> {
    match row.relation {
        Relation::Foreign => Some(Style::Bad),
        Relation::Absent | Relation::Unknown => Some(Style::Caution),
        Relation::Managed | Relation::Orphaned => match row.domain.as_ref()?.state {
            DomainState::Running => Some(Style::Good),
            DomainState::ShutOff | DomainState::ShuttingDown => None,
            DomainState::Paused | DomainState::Crashed | DomainState::Suspended => Some(Style::Bad),
        },
    }
}

/// What there is to say of a VM and its configuration. `complete`: everything could be read.
fn note(row: &Row, complete: bool) -> Option<String> {
    let name = &row.name;
    Some(match row.relation {
        Relation::Orphaned if !row.elsewhere.is_empty() => format!(
            "{name}: lbctl made it on {}, and {} is for another host",
            row.uri,
            joined(&row.elsewhere)
        ),
        Relation::Orphaned => {
            let read = if complete { "" } else { " that could be read" };
            format!(
                "{name}: lbctl made it, and no configuration{read} describes it; `lbctl list FILE` looks into others, \
                 `lbctl --connect {} import --domain {name}` makes one",
                row.uri
            )
        }
        Relation::Foreign => format!(
            "{name}: lbctl did not make the domain of this name on {}, and leaves it alone",
            row.uri
        ),
        Relation::Managed | Relation::Absent | Relation::Unknown => return None,
    })
}

impl CommandReport for ListReport {
    fn exit(&self) -> Exit {
        let wrong = |message: &Message| message.id == MessageId::ConfigWrong;
        if self.messages.iter().any(wrong) {
            Exit::Usage
        } else if self.messages.is_empty() {
            Exit::Done
        } else {
            Exit::Failed
        }
    }

    fn document(&self) -> Option<Answer> {
        let leftover = |left: &Leftover| LeftoverDocument {
            name: left.vm.clone(),
            uri: left.uri.clone(),
            volume: left.at.to_string(),
        };
        Some(Answer::List(ListDocument {
            complete: self.is_complete(),
            vms: self.rows().map(Row::to_document).collect(),
            seeds_without_domain: self.leftovers().map(leftover).collect(),
            hosts: self.hosts.clone(),
            files: self.files.clone(),
        }))
    }

    fn text(&self, options: TextOptions) -> Vec<TextPart> {
        let rows: Vec<&Row> = self.rows().collect();
        let many_hosts = self.hosts.len() > 1;
        let mut text = Vec::new();
        if rows.is_empty() {
            text.push(TextPart::Line(nothing(self).into()));
        } else {
            text.extend(lines(&rows, many_hosts, options.columns));
        }
        let notes = self.notes().into_iter();
        text.extend(
            notes.map(|note| {
                TextPart::Line(Styled::all(Style::Calm, "note").plus(": ").plus(&note))
            }),
        );
        if !self.messages.is_empty() {
            text.push(TextPart::Messages(self.messages.clone()));
        }
        text
    }
}

fn nothing(report: &ListReport) -> String {
    let reached = report.hosts.iter().filter(|host| host.error.is_none());
    let hosts: Vec<&str> = reached.map(|host| host.uri.as_str()).collect();
    let hosts = if hosts.is_empty() {
        "no host was reached".to_owned()
    } else {
        format!("lbctl has made nothing on {}", joined(&hosts))
    };
    if !report.only.is_empty() {
        let names = report.only.join(" or ");
        format!("{hosts} that is called {names}, and no configuration that was read describes it")
    } else if report.files.is_empty() {
        let places = report.named.join(" or ");
        format!("{hosts}, and there is no configuration at {places}; `lbctl init` begins one")
    } else {
        format!("{hosts}, and no configuration that was read is for it")
    }
}

/// A table, or, where the terminal has too few columns for it, a block for each VM.
fn lines(rows: &[&Row], many_hosts: bool, columns: Option<usize>) -> Vec<TextPart> {
    let mut heads = vec!["name", "state", "address"];
    if many_hosts {
        heads.push("host");
    }
    heads.extend(["lbctl", "configuration"]);
    let cells: Vec<Vec<Styled>> = rows
        .iter()
        .map(|row| ListReport::cells(row, many_hosts))
        .collect();
    let head: Vec<Styled> = heads.iter().map(|head| Styled::from(*head)).collect();
    let whole: Vec<Vec<Styled>> = std::iter::once(head).chain(cells.iter().cloned()).collect();
    let table = table(&whole, &vec![usize::MAX; heads.len()]);
    let fits = |line: &Styled| columns.is_none_or(|columns| line.text().chars().count() <= columns);
    if table.iter().all(fits) {
        return vec![TextPart::Block(table)];
    }
    let block = |cells: Vec<Styled>| {
        let mut lines = Vec::new();
        for (head, cell) in heads.iter().zip(cells).skip(1) {
            lines.push(TextPart::Line(
                Styled::from(format!("  {head:<13}  ")).join(&cell),
            ));
        }
        lines
    };
    rows.iter()
        .zip(cells)
        .flat_map(|(row, cells)| {
            std::iter::once(TextPart::Heading(row.name.as_str().into())).chain(block(cells))
        })
        .collect()
}
