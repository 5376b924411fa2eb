//! `lbctl import`: reads what there is of a VM, on the host and in a Terraform state, and writes a
//! configuration. Changes nothing but the folder of `--out`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::files::{Readers, create_all};
use super::{CommandResult, asking, connect_to, ensure_clock, uri_or};
use crate::cli::{Cli, ImportArgs};
use crate::config::{self, Loaded, MemoryInputs, Problem, ProblemId, Report, reason};
use crate::exit::{Exit, Failure, MessageId};
use crate::host::{DomainFacts, HostReader};
use crate::import::{
    self, ChoiceError, Chosen, Content, Imported, Leaving, MAX_STATE, Missing, State, Wanted,
};
use crate::output::Output;
use crate::output::json::{Answer, ImportDocument, LeavingDocument, MissingDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};

const CONFIG: &str = "lbctl.toml";

pub(super) fn run(cli: &Cli, out: &Output, args: &ImportArgs) -> CommandResult {
    ensure_clock(std::time::SystemTime::now())?;
    if args.domain.is_none() && args.state.is_none() {
        let said = "neither a domain nor a state is given, and one of them has to be";
        let help = "give --domain NAME, --state FILE, or both";
        return Err(Failure::new(Exit::Usage, MessageId::UsageWrong, said, help).into());
    }
    let state = args.state.as_deref().map(read_state).transpose()?;
    let host = match &args.domain {
        Some(name) => {
            let host = connect_to(&uri_or(cli, None), out)?;
            let _working = asking(out, &host);
            let domain = domain(&host, name)?;
            let found = import::from_host(&host, &domain)?;
            Some((found, domain, host.uri().to_owned()))
        }
        None => None,
    };
    let wanted = Wanted {
        address: args.address.as_deref(),
        name: args.domain.as_deref(),
        uuid: host.as_ref().map(|(_, domain, _)| domain.uuid.as_str()),
    };
    let chosen = state.as_ref().map(|state| choose(state, &wanted));
    let chosen = chosen.transpose()?;
    let mut about = Vec::new();
    if let Some((_, domain, uri)) = &host {
        about.push(format!("domain {} of {uri}", domain.name));
    }
    if let Some(chosen) = &chosen {
        let address = import::shown(&chosen.domain.address);
        about.push(format!("{address} of a Terraform state"));
    }
    let imported = import::import(
        host.map(|(found, ..)| found),
        state.as_ref().zip(chosen.as_ref()),
        &about.join(" and "),
        cli.global.connect.as_deref(),
    );
    let written = match &args.out {
        Some(directory) => write(directory, &imported)?,
        None => Vec::new(),
    };
    let checked = check(&imported, args.out.as_deref());
    let problems = match checked {
        Ok(Loaded { warnings, .. }) => {
            out.warnings(&beside(warnings, &imported.written.missing));
            Vec::new()
        }
        Err(report) => report.problems,
    };
    Ok(Box::new(ImportReport {
        problems: beside(problems, &imported.written.missing),
        imported,
        directory: args.out.clone(),
        written,
    }))
}

pub(super) fn read_state(path: &Path) -> Result<State, Failure> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let mut text = Vec::new();
    let read = if is_stdin {
        io::stdin()
            .lock()
            .take(MAX_STATE + 1)
            .read_to_end(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(MAX_STATE + 1).read_to_end(&mut text))
    };
    read.map_err(|error| {
        let said = format!("reading the state {name}: {}", reason(&error));
        let help = "give the file of a state, or - for standard input";
        Failure::new(Exit::Usage, MessageId::FileUnreadable, said, help)
    })?;
    State::parse(&text).map_err(|error| {
        let said = format!("{name} {error}");
        Failure::new(Exit::Usage, MessageId::StateUnfit, said, error.help())
    })
}

fn domain(host: &dyn HostReader, name: &str) -> Result<DomainFacts, Failure> {
    host.domain(name)?.ok_or_else(|| {
        let said = format!("there is no domain {name} on the host");
        let help = "`virsh list --all` shows those that there are";
        Failure::new(Exit::Failed, MessageId::NotFound, said, help)
    })
}

fn choose<'s>(state: &'s State, wanted: &Wanted<'_>) -> Result<Chosen<'s>, Failure> {
    import::choose(state, wanted).map_err(|error| {
        let (said, help, list) = match error {
            ChoiceError::Several(list) => (
                "the state has several VMs that could be meant",
                "give the address of one of them, or of its module, with --address",
                list,
            ),
            ChoiceError::None(list) if list.is_empty() => {
                ("the state has no libvirt_domain", "give another state", list)
            }
            ChoiceError::None(list) => (
                "the state has no such VM: of its domains none is as was asked for, or a load balancer of the module's",
                "give the address of one of them with --address: the hardware part of its configuration is filled in",
                list,
            ),
        };
        let mut failure = Failure::new(Exit::Usage, MessageId::StateAmbiguous, said, help);
        if let Some(message) = failure.messages.first_mut() {
            message.detail = list;
        }
        failure
    })
}

fn write(directory: &Path, imported: &Imported) -> Result<Vec<PathBuf>, Failure> {
    let config = (CONFIG, imported.written.text.as_bytes(), Readers::Everyone);
    let others = imported.written.files.iter().map(|(name, content)| {
        let readers = match content {
            Content::Open(_) => Readers::Everyone,
            Content::Secret(_) => Readers::Owner,
        };
        (*name, content.text().as_bytes(), readers)
    });
    let files: Vec<_> = std::iter::once(config).chain(others).collect();
    create_all(directory, &files)
}

/// What `lbctl check` says of it.
fn check(imported: &Imported, directory: Option<&Path>) -> Result<Loaded, Report> {
    let now = OffsetDateTime::now_utc();
    if let Some(directory) = directory {
        return config::load(&directory.join(CONFIG), now);
    }
    let files = imported.written.files.iter();
    let inputs = MemoryInputs {
        files: files
            .map(|(name, content)| ((*name).into(), Ok(content.text().into())))
            .collect(),
        ..MemoryInputs::default()
    };
    config::parse(&imported.written.text, CONFIG, &inputs, now)
}

/// The problems that nothing says already which is missing.
fn beside(problems: Vec<Problem>, missing: &[Missing]) -> Vec<Problem> {
    let is_said = |problem: &Problem| {
        let is_missing = problem.id == ProblemId::MissingKey;
        if problem.key.is_empty() {
            return false;
        }
        let within = |m: &Missing| is_missing && m.key.starts_with(&problem.key);
        missing.iter().any(|m| m.key == problem.key || within(m))
    };
    problems.into_iter().filter(|p| !is_said(p)).collect()
}

struct ImportReport {
    imported: Imported,
    /// Beside what is missing.
    problems: Vec<Problem>,
    /// Where it was written; `None`: it is to be printed.
    directory: Option<PathBuf>,
    written: Vec<PathBuf>,
}

impl ImportReport {
    fn is_valid(&self) -> bool {
        self.problems.is_empty() && self.imported.written.missing.is_empty()
    }
}

impl CommandReport for ImportReport {
    fn exit(&self) -> Exit {
        if self.is_valid() {
            Exit::Done
        } else {
            Exit::Usage
        }
    }

    fn document(&self) -> Option<Answer> {
        let Imported {
            name,
            written,
            is_load_balancer,
            notes,
            differences,
            leaving: of_terraform,
        } = &self.imported;
        let missing = |missing: &Missing| MissingDocument {
            key: missing.key.clone(),
            why: missing.why.clone(),
        };
        let leaving = |leaving: &Leaving| LeavingDocument {
            state_rm: leaving.state_rm.clone(),
            removed: leaving.removed.clone(),
            take_out: leaving.take_out.clone(),
            notes: leaving.notes.clone(),
        };
        let paths = self.written.iter().map(|path| path.display().to_string());
        Some(Answer::Import(ImportDocument {
            name: name.clone(),
            of_module: *is_load_balancer,
            valid: self.is_valid(),
            missing: written.missing.iter().map(missing).collect(),
            problems: self.problems.iter().map(Into::into).collect(),
            notes: notes.clone(),
            differences: differences.clone(),
            config: self.directory.is_none().then(|| written.text.clone()),
            written: paths.collect(),
            terraform: of_terraform.as_ref().map(leaving),
        }))
    }

    /// The configuration is data, and what is said about it is not.
    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        let lines = self.lines();
        if self.directory.is_some() {
            let lines = lines.into_iter();
            return lines.map(|line| TextPart::LongLine(line.into())).collect();
        }
        let text = self.imported.written.text.clone();
        let said = lines
            .into_iter()
            .map(|line| TextPart::SaidLong(line.into()));
        std::iter::once(TextPart::Data(text)).chain(said).collect()
    }
}

impl ImportReport {
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .written
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        let written = &self.imported.written;
        let about = self.imported.notes.len() + self.imported.differences.len();
        let verdict = if self.is_valid() {
            "is valid"
        } else {
            "is not whole yet"
        };
        lines.push(format!("{}: {CONFIG} {verdict}", self.imported.name));
        let missing = written.missing.iter();
        lines.extend(missing.map(|m| format!("  missing: {}: {}", m.key, m.why)));
        let problems = self.problems.iter();
        lines.extend(problems.map(|p| format!("  {}: {} ({})", p.key, p.message, p.help)));
        if about > 0 {
            lines.push(format!(
                "  {about} notes are at the top of {CONFIG}: read them"
            ));
        }
        if self.directory.is_none() && !written.files.is_empty() {
            let names: Vec<&str> = written.files.iter().map(|(name, _)| *name).collect();
            let what = names.join(", ");
            lines.push(format!(
                "  not shown: {what}; --out DIR writes them, secrets with mode 0600"
            ));
        }
        if let Some(leaving) = &self.imported.leaving {
            lines.extend(terraform(leaving));
        }
        lines
    }
}

fn terraform(leaving: &Leaving) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        "If the VM is to stay, it must leave Terraform before the next `terraform apply`:"
            .to_owned(),
    ];
    let mut push = |text: &str| lines.extend(text.lines().map(|line| format!("  {line}")));
    for note in &leaving.notes {
        push(note);
    }
    if let Some(command) = &leaving.state_rm {
        push(command);
    }
    if !leaving.removed.is_empty() {
        push("or, with Terraform 1.7 and newer, in the .tf files:");
        for block in &leaving.removed {
            push(block);
        }
    }
    if !leaving.take_out.is_empty() {
        push("and, or the next apply takes the disk back into the state, out of the .tf files:");
        for block in &leaving.take_out {
            push(&format!("- {block}"));
        }
    }
    lines
}
