//! `lbctl man` and `lbctl completions`: what a package or an operator installs beside the program.

use std::path::Path;

use clap::CommandFactory;
use clap::builder::PossibleValuesParser;
use time::OffsetDateTime;

use super::files::{Readers, write_all as write_files};
use super::{CommandResult, text};
use crate::cli::Cli;
use crate::exit::{Exit, Failure, MessageId};
use crate::manual;
use crate::output::Output;
use crate::output::report::{TextPart, TextReport};

pub(super) fn page(command: Option<&str>) -> CommandResult {
    let Some(page) = manual::page(command, &date()?) else {
        let asked = command.unwrap_or_default();
        let text = format!("the manual has no page `{asked}`");
        let topics = manual::topics();
        let near = topics
            .iter()
            .map(|topic| (strsim::jaro_winkler(topic, asked), topic))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = match near {
            Some((_, topic)) => format!("did you mean `{topic}`?"),
            None => format!("the pages are: {}", topics.join(", ")),
        };
        return Err(Failure::new(Exit::Usage, MessageId::PageUnknown, text, hint).into());
    };
    Ok(text(TextPart::Data(page.text)))
}

pub(super) fn write_all(directory: &Path, out: &Output) -> CommandResult {
    let pages = manual::pages(&date()?);
    let files = pages.iter().map(|page| (page.file(), page.text.as_bytes()));
    write_files(directory, Readers::Everyone, files, out)?;
    Ok(Box::new(TextReport::done(Vec::new())))
}

/// The date that builders of packages give to what they make (reproducible-builds.org), and none
/// where there is none: a page does not change from one day to the next.
fn date() -> Result<String, Failure> {
    let Some(given) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(String::new());
    };
    let given = given.to_string_lossy();
    let seconds = given.parse().ok();
    let time = seconds.and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let time = time.ok_or_else(|| {
        let text = format!("SOURCE_DATE_EPOCH is `{given}`, which is not a time");
        Failure::new(
            Exit::Usage,
            MessageId::SourceDateInvalid,
            text,
            "give seconds since 1970, or unset it",
        )
    })?;
    Ok(time.date().to_string())
}

pub(super) fn completions(shell: clap_complete::Shell) -> String {
    // The names of pages are those of commands, which the definition of the command line cannot
    // name while it is made.
    let topics = PossibleValuesParser::new(manual::topics());
    let mut command = Cli::command().mut_subcommand("man", |man| {
        man.mut_arg("command", |page| page.value_parser(topics))
    });
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "lbctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
