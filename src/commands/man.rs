//! `lbctl man`: pages, for a package or an operator to install beside the program.

use std::io::IsTerminal as _;
use std::path::Path;

use time::OffsetDateTime;

use super::files::{Readers, write_all as write_files};
use super::{CommandResult, text};
use crate::exit::{Exit, Failure, MessageId};
use crate::manual;
use crate::output::Output;
use crate::output::report::{TextPart, TextReport};
use crate::release;

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
    if std::io::stdout().is_terminal() {
        let what = command.map_or_else(String::new, |name| format!(" {name}"));
        let text = "a manual page is written for man, not for a terminal";
        let hint = format!("read it: lbctl man{what} | man -l -");
        return Err(Failure::new(Exit::Usage, MessageId::PageUnreadable, text, hint).into());
    }
    Ok(text(TextPart::Data(page.text)))
}

pub(super) fn write_all(directory: &Path, out: &Output) -> CommandResult {
    let pages = manual::pages(&date()?);
    let files = pages.iter().map(|page| (page.file(), page.text.as_bytes()));
    write_files(directory, Readers::Everyone, files, out)?;
    Ok(Box::new(TextReport::done(Vec::new())))
}

/// The date that builders of packages give to what they make (reproducible-builds.org); else that
/// of the commit, and none where neither is known: a page does not change from one day to the next.
fn date() -> Result<String, Failure> {
    let Some(given) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(release::DATE.unwrap_or_default().to_owned());
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
