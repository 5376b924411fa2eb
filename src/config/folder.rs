//! A folder of configurations (`-c DIR`): every `*.toml` in it is one, but for those that another
//! of them extends and that name no VM. Each is read as a file by itself; what no file can see
//! alone is judged here: a name, an address or a volume that VMs of two files both have.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::extends::EXTENDS;
use super::inputs::{read_bounded, reason};
use super::keys::{DEFAULT_URI, VMS};
use super::report::{Problem, ProblemId, Report, add_each_once, plain};
use super::vms::{Twice, Unique};
use super::{Loaded, MAX_FILE, Scrutiny, load_file};

/// The configurations in a folder, in the order of their names, as `*.toml` has them in a shell.
/// One that is there under two names counts once.
pub fn configurations(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut files = paths.collect::<io::Result<Vec<PathBuf>>>()?;
    files.retain(|file| is_toml(file) && !file.is_dir());
    files.sort();
    let mut seen: Vec<PathBuf> = Vec::new();
    files.retain(|file| {
        let real = real(file);
        let is_new = !seen.contains(&real);
        seen.push(real);
        is_new
    });
    let read: Vec<Outline> = files.iter().map(|file| Outline::of(file)).collect();
    let is_base = |file: &Path, outline: &Outline| {
        let path = real(file);
        let mut extended = read.iter().filter_map(|other| other.extends.as_ref());
        !outline.has_vm && extended.any(|base| *base == path)
    };
    let kept = files.iter().zip(&read);
    let kept = kept.filter(|(file, outline)| !is_base(file, outline));
    Ok(kept.map(|(file, _)| file.clone()).collect())
}

fn is_toml(file: &Path) -> bool {
    let hidden = file
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'));
    !hidden && file.extension().is_some_and(|end| end == "toml")
}

fn real(file: &Path) -> PathBuf {
    file.canonicalize().unwrap_or_else(|_| file.to_owned())
}

/// What tells a configuration from a base. Of a file that cannot be read, nothing: it is reported
/// where it is loaded.
#[derive(Default)]
struct Outline {
    has_vm: bool,
    /// Where `extends` leads.
    extends: Option<PathBuf>,
}

impl Outline {
    fn of(file: &Path) -> Self {
        // A pipe would be waited for.
        let is_file = file.metadata().is_ok_and(|facts| facts.is_file());
        let content = is_file.then(|| read_bounded(file, MAX_FILE).ok());
        let content = content.flatten().unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        let (tree, _) = DeTable::parse_recoverable(&text);
        let table = tree.get_ref();
        let extends = table.get(EXTENDS).and_then(|path| path.get_ref().as_str());
        let folder = file.parent().unwrap_or(Path::new(""));
        Self {
            has_vm: table.contains_key("name") || table.contains_key(VMS),
            extends: extends.map(|path| real(&folder.join(path))),
        }
    }
}

/// All of them, or everything that is wrong with any.
pub(super) fn load(folder: &Path, scrutiny: Scrutiny) -> Result<Loaded, Report> {
    let shown = folder.display().to_string();
    let whole = |message: String, help: &str| {
        Report::whole_file(ProblemId::FileUnreadable, &shown, message, help)
    };
    let files = configurations(folder).map_err(|error| {
        let message = format!("reading the folder {}: {}", plain(&shown), reason(&error));
        whole(
            message,
            "let the user who runs lbctl read it, or name a file with -c",
        )
    })?;
    let mut loaded = Vec::new();
    let mut problems = Vec::new();
    for file in &files {
        match load_file(file, scrutiny) {
            Ok(one) => loaded.push(one),
            Err(report) => add_each_once(&mut problems, report.problems),
        }
    }
    let mut warnings: Vec<Problem> = Vec::new();
    hold_against_each_other(&loaded, &mut problems, &mut warnings);
    if !problems.is_empty() {
        return Err(Report {
            file: shown.clone(),
            problems,
        });
    }
    let mut all = Loaded::together(loaded).ok_or_else(|| {
        let message = format!(
            "there is no configuration in the folder {}: no *.toml",
            plain(&shown)
        );
        whole(message, "name another with -c")
    })?;
    all.warnings.append(&mut warnings);
    Ok(all)
}

/// What VMs of two files both have. Those of one file are held against each other where it is read.
fn hold_against_each_other(
    files: &[Loaded],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    let host = |of: &Option<String>| of.as_deref().unwrap_or(DEFAULT_URI).to_owned();
    for (number, file) in files.iter().enumerate() {
        let earlier = || files.iter().take(number).flat_map(|file| &file.claims);
        for vm in &file.claims {
            for claim in &vm.all {
                let mut same = earlier().filter_map(|other| {
                    // What has its name from that of the VM is the same where that is.
                    if claim.of != Unique::Name && vm.name() == other.name() {
                        return None;
                    }
                    let alike = other.all.iter().find(|there| claim.is_like(there));
                    alike.map(|there| (there, host(&other.host) == host(&vm.host)))
                });
                let Some((other, same_host)) = same.next() else {
                    continue;
                };
                let Twice { what, label, help } = Twice::of(claim.of, &claim.value);
                let key = &claim.place.key;
                if same_host || claim.of == Unique::Name {
                    let place = claim.place.clone();
                    problems.push(place.saying(
                        ProblemId::Conflict,
                        format!("`{key}` {what}"),
                        help,
                        Some((&other.place, label)),
                    ));
                } else if claim.of != Unique::Volume {
                    let what = format!(
                        "`{key}` {what} on another host: right only where they share no network"
                    );
                    let place = claim.place.clone();
                    warnings.push(place.saying(ProblemId::Advice, what, help, None));
                }
            }
        }
    }
}
