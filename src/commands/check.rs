//! `lbctl check`: the configuration alone, or with everything around it; changes nothing.

use std::collections::HashMap;
use std::time::SystemTime;

use time::OffsetDateTime;
use unicode_width::UnicodeWidthStr as _;

use super::vms::{Found, SeveralReport, VmResult, Vms, ask_all};
use super::{CommandResult, asking, connect, ensure_clock, ensure_qemu, read, select};
use crate::checklist::{self, Checklist, Inspected, Outcome};
use crate::cli::Cli;
use crate::config::{Config, Giver, KeyOrigin, Loaded, Needs, Runtime, Scrutiny};
use crate::exit::{Exit, Failure};
use crate::host::libvirt::LibvirtHost;
use crate::output::json::{Answer, CheckDocument, KeyDocument, KeySource};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::output::{Output, done};
use crate::render::image_reference;
use crate::status::nodes_are_verified;
use crate::text::styled::{Style, Styled};
use crate::text::table::table;

/// What is waited for beside the host.
const OUTSIDE: &str = "asking DNS and the nodes";

pub(super) fn run(cli: &Cli, out: &Output, host: bool) -> CommandResult {
    ensure_clock(SystemTime::now())?;
    let scrutiny = Scrutiny {
        now: Some(OffsetDateTime::now_utc()),
        examine_ca_key: true,
        origins: cli.global.verbose > 0,
        needs: Needs::All,
    };
    let mut loaded = read(cli, out, scrutiny)?;
    let mut origins = Origins::of(&mut loaded);
    match select(loaded, cli, out)? {
        Vms::One(config) => {
            let host = host.then(|| {
                let mut uri = None;
                let found = connect(cli, &config, out).and_then(|host| {
                    uri = Some(host.uri().to_owned());
                    inspect(&config, &host, out)
                });
                whole(&config, HostAnswer { found, uri }, out)
            });
            let keys = origins.take(&config);
            Ok(Box::new(CheckReport::new(&config, false, host, keys)))
        }
        Vms::Several(vms) => Ok(Box::new(several(cli, out, &vms, origins, host))),
    }
}

/// Where the keys of each VM have their values from, by its name.
struct Origins(HashMap<String, Vec<KeyOrigin>>);

impl Origins {
    fn of(loaded: &mut Loaded) -> Self {
        let others = loaded.others.iter().flatten();
        let vms = std::iter::once(&loaded.config).chain(others);
        let names = vms.map(|vm| vm.name.to_string());
        Self(names.zip(std::mem::take(&mut loaded.origins)).collect())
    }

    fn take(&mut self, config: &Config) -> Vec<KeyDocument> {
        let found = self.0.remove(config.name.as_str()).unwrap_or_default();
        found.into_iter().map(KeyDocument::from).collect()
    }
}

impl From<KeyOrigin> for KeyDocument {
    fn from(origin: KeyOrigin) -> Self {
        let (file, line) = origin.place.unzip();
        Self {
            key: origin.key,
            from: match origin.giver {
                Giver::File => KeySource::File,
                Giver::Base => KeySource::Extends,
                Giver::Shared => KeySource::SharedByVms,
                Giver::Vm => KeySource::Vm,
                Giver::Default => KeySource::Default,
            },
            file,
            line,
            default: origin.default,
        }
    }
}

fn several(
    cli: &Cli,
    out: &Output,
    vms: &[Config],
    mut origins: Origins,
    host: bool,
) -> SeveralReport {
    let answers: Vec<Option<HostAnswer>> = if host {
        let answer = |found: Found<Inspected>| match found {
            Found::Here(host, found) => HostAnswer {
                found,
                uri: Some(host.uri().to_owned()),
            },
            Found::Away(failure) => HostAnswer {
                found: Err(failure),
                uri: None,
            },
        };
        let asked = ask_all(vms, cli, out, inspect).into_iter();
        asked.map(|found| Some(answer(found))).collect()
    } else {
        vms.iter().map(|_| None).collect()
    };
    // The nodes and DNS are asked about every VM at the same time, too.
    let working = host.then(|| out.working(OUTSIDE, None));
    let beside = out.beside_others();
    let lists = std::thread::scope(|scope| {
        let asked = vms.iter().zip(answers).map(|(config, answer)| {
            let beside = &beside;
            scope.spawn(move || answer.map(|answer| whole(config, answer, beside)))
        });
        let threads: Vec<_> = asked.collect();
        let joined = threads.into_iter().map(|t| t.join().unwrap_or(None));
        joined.collect::<Vec<Option<HostCheck>>>()
    });
    drop(working);
    let reports = vms.iter().zip(lists).map(|(config, host)| {
        let report = CheckReport::new(config, true, host, origins.take(config));
        VmResult::done(config.name.as_str(), report)
    });
    SeveralReport {
        command: "check",
        vms: reports.collect(),
        apart: true,
    }
}

/// The image that is taken by its tag alone. What a tag names may change.
fn loose_image(config: &Config) -> Option<String> {
    let is_loose =
        config.haproxy.runtime == Runtime::Container && config.haproxy.image_digest.is_none();
    is_loose.then(|| image_reference(config))
}

/// What `check` has found. A configuration that is not valid has no such report: it is an error.
struct CheckReport {
    file: String,
    name: String,
    /// Whether it is one of several in the file.
    of_several: bool,
    loose_image: Option<String>,
    /// `None`: nobody asked for the host.
    host: Option<HostCheck>,
    /// Where its keys have their values from; empty: nobody asked.
    keys: Vec<KeyDocument>,
}

struct HostCheck {
    list: Checklist,
    /// How lbctl ends if something fails.
    exit: Exit,
    /// Of the libvirt daemon that was reached.
    uri: Option<String>,
}

impl CheckReport {
    fn new(
        config: &Config,
        of_several: bool,
        host: Option<HostCheck>,
        keys: Vec<KeyDocument>,
    ) -> Self {
        Self {
            file: config.file.clone(),
            name: config.name.to_string(),
            of_several,
            loose_image: loose_image(config),
            host,
            keys,
        }
    }

    fn is_ok(&self) -> bool {
        self.host.as_ref().is_none_or(|host| !host.list.fails())
    }
}

impl CommandReport for CheckReport {
    fn exit(&self) -> Exit {
        match &self.host {
            Some(host) if host.list.fails() => host.exit,
            _ => Exit::Done,
        }
    }

    fn document(&self) -> Option<Answer> {
        let findings = self.host.as_ref().map(|host| host.list.findings.clone());
        Some(Answer::Check(CheckDocument {
            file: self.file.clone(),
            name: self.name.clone(),
            ok: self.is_ok(),
            host: self.host.is_some(),
            uri: self.host.as_ref().and_then(|host| host.uri.clone()),
            findings: findings.unwrap_or_default(),
            keys: self.keys.clone(),
        }))
    }

    fn text(&self, options: TextOptions) -> Vec<TextPart> {
        let mut parts = vec![self.verdict(options)];
        if !self.keys.is_empty() {
            let heading = format!("{}: where each key has its value from", self.name);
            parts.push(TextPart::Heading(heading.into()));
            parts.push(TextPart::Block(origin_lines(&self.keys, options.columns)));
        }
        if let (true, Some(image)) = (options.verbose, &self.loose_image) {
            let note = format!(
                "note: {image} is an image by its tag: each guest takes what that names when it first needs it. \
                 haproxy.image_digest pins one"
            );
            parts.push(TextPart::Said(note.into()));
        }
        parts
    }
}

impl CheckReport {
    fn verdict(&self, options: TextOptions) -> TextPart {
        let Some(HostCheck { list, .. }) = &self.host else {
            let of = if self.of_several {
                format!(", {}", self.name)
            } else {
                String::new()
            };
            return TextPart::Said(done(&format!("{}{of}", self.file), "is valid", ""));
        };
        let (style, verdict) = if self.is_ok() {
            (Style::Good, "nothing prevents `lbctl up`")
        } else {
            (Style::Bad, "`lbctl up` would fail")
        };
        let heading = Styled::all(Style::Strong, &format!("{}: ", self.name))
            .and(style, verdict)
            .plus(&format!(" ({})", list.summary()));
        let mut lines = match options.columns {
            Some(columns) => heading.wrap(columns),
            None => vec![heading],
        };
        lines.extend(list.lines(options.columns, options.signs));
        TextPart::Block(lines)
    }
}

/// Two columns, or, where the terminal has too few for them, the place under its key.
fn origin_lines(keys: &[KeyDocument], columns: Option<usize>) -> Vec<Styled> {
    let place = |key: &KeyDocument| match (&key.file, key.line, &key.default) {
        (Some(file), Some(line), _) => format!("{file}:{line}"),
        (_, _, Some(default)) => default.clone(),
        _ => String::new(),
    };
    let from = |key: &KeyDocument| match key.from {
        KeySource::File => "",
        KeySource::Extends => " (extends)",
        KeySource::SharedByVms => " (for all VMs)",
        KeySource::Vm => " (of this VM)",
        KeySource::Default => " (default)",
    };
    let told: Vec<(String, String)> = keys
        .iter()
        .map(|key| (key.key.clone(), format!("{}{}", place(key), from(key))))
        .collect();
    let rows: Vec<Vec<Styled>> = told
        .iter()
        .map(|(key, place)| vec![format!("  {key}").into(), place.as_str().into()])
        .collect();
    let table = table(&rows, &[usize::MAX, usize::MAX]);
    let fits = |columns| table.iter().all(|line| line.text().width() <= columns);
    if columns.is_none_or(fits) {
        return table;
    }
    told.iter()
        .flat_map(|(key, place)| [format!("  {key}").into(), format!("    {place}").into()])
        .collect()
}

/// What the host says, and whose libvirt was reached.
struct HostAnswer {
    found: Result<Inspected, Failure>,
    uri: Option<String>,
}

fn inspect(config: &Config, host: &LibvirtHost, out: &Output) -> Result<Inspected, Failure> {
    ensure_qemu(host.uri())?;
    let _working = asking(out, host);
    Ok(checklist::inspect(config, host, host.uri())?)
}

/// One list of everything.
fn whole(config: &Config, answer: HostAnswer, out: &Output) -> HostCheck {
    let HostAnswer { found, uri } = answer;
    let mut list = Checklist::default();
    list.ok("configuration", format!("{} is valid", config.file));
    let mut exit = Exit::Failed;
    let mut in_use = None;
    match found {
        Ok(host) => {
            list.findings.extend(host.list.findings);
            in_use = host.in_use;
            if host.is_about_ownership {
                exit = Exit::Refused;
            }
        }
        Err(failure) => {
            for message in failure.messages {
                let outcome = Outcome::Fails(message.id);
                list.add(outcome, "libvirt", message.text, message.hint);
            }
        }
    }
    let _working = out.working(OUTSIDE, None);
    let outside = checklist::inspect_outside(config, in_use.as_ref());
    list.findings.extend(outside.list.findings);
    if outside.verified {
        list.ok("nodes' TLS", nodes_are_verified(&config.haproxy));
    }
    HostCheck { list, exit, uri }
}
