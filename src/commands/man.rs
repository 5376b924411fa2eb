//! `lbctl man` and `lbctl completions`: what a package or an operator installs beside the program.

use std::fs::{self, DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use clap::CommandFactory;
use clap::builder::PossibleValuesParser;
use time::OffsetDateTime;

use super::CommandResult;
use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::manual::{self, Page};
use crate::output::Output;

pub(super) fn print(command: Option<&str>, out: &Output) -> CommandResult {
    let Some(page) = manual::page(command, &date()?) else {
        let asked = command.unwrap_or_default();
        let text = format!("there is no page of `{asked}` in the manual");
        let topics = manual::topics();
        let near = topics
            .iter()
            .map(|topic| (strsim::jaro_winkler(topic, asked), topic))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = match near {
            Some((_, topic)) => format!("did you mean `{topic}`?"),
            None => format!("there are: {}", topics.join(", ")),
        };
        return Err(Failure::new(Exit::Usage, text, hint).into());
    };
    out.data(&page.text);
    Ok(Exit::Done)
}

/// Every page is whole or not there, and readable by everyone whatever the umask.
pub(super) fn write_all(directory: &Path, out: &Output) -> CommandResult {
    let fail = |doing: String, error: &std::io::Error| {
        let hint = "give another --out, or make that one writable";
        Failure::new(Exit::Failed, format!("{doing}: {error}"), hint)
    };
    let pages = manual::pages(&date()?);
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(|e| fail(format!("creating directory {}", directory.display()), &e))?;
    for page in &pages {
        let path = directory.join(page.file());
        write(directory, page).map_err(|e| fail(format!("writing {}", path.display()), &e))?;
        out.say(&path.display().to_string());
    }
    Ok(Exit::Done)
}

fn write(directory: &Path, page: &Page) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(page.text.as_bytes())?;
    fs::set_permissions(file.path(), Permissions::from_mode(0o644))?;
    file.persist(directory.join(page.file()))?;
    Ok(())
}

/// The date that builders of packages give to what they make (reproducible-builds.org), and none where there is none: a
/// page does not change from one day to the next.
fn date() -> Result<String, Failure> {
    let Some(given) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(String::new());
    };
    let given = given.to_string_lossy();
    let seconds = given.parse().ok();
    let time = seconds.and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let time = time.ok_or_else(|| {
        let text = format!("SOURCE_DATE_EPOCH is `{given}`, which is no time");
        Failure::new(
            Exit::Usage,
            text,
            "give seconds since 1970, or take it away",
        )
    })?;
    Ok(time.date().to_string())
}

pub(super) fn completions(shell: clap_complete::Shell) -> String {
    // The names of pages are those of commands, which the definition of the command line cannot name while it is made.
    let topics = PossibleValuesParser::new(manual::topics());
    let mut command = Cli::command().mut_subcommand("man", |man| {
        man.mut_arg("command", |page| page.value_parser(topics))
    });
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "lbctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
