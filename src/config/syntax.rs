//! From bytes to a TOML tree: what can be wrong before any key is looked at, and how it is said. Knows keys only so far
//! as to tell which values may be shown beside a syntax error.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use super::inputs::{read_bounded, reason};
use super::keys::{KEYS, Kind};
use super::report::{Draft, Report, Source, plain};

/// How many syntax errors are reported: those after the first few are mostly its consequences.
const MOST: usize = 5;
const START: &str = "start with `lbctl init > lbctl.toml`, which writes every key with its meaning";

/// The text of a configuration file.
pub(super) fn read(path: &Path, limit: u64) -> Result<String, Report> {
    let file = path.display().to_string();
    let bytes = read_bounded(path, limit).map_err(|error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => format!("name another with -c, or {START}"),
            std::io::ErrorKind::PermissionDenied => {
                "let the user who runs lbctl read it".to_owned()
            }
            std::io::ErrorKind::IsADirectory => "name the file in it with -c".to_owned(),
            _ => "name another with -c".to_owned(),
        };
        Report::whole_file(
            &file,
            format!(
                "reading the configuration {}: {}",
                plain(&file),
                reason(&error)
            ),
            help,
        )
    })?;
    if bytes.len() as u64 > limit {
        let message = format!(
            "the configuration is larger than {} MiB",
            limit / 1024 / 1024
        );
        return Err(Report::whole_file(
            &file,
            message,
            "name the right file with -c",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Report::whole_file(
            &file,
            format!(
                "the configuration is not UTF-8 text (byte {} is not)",
                at + 1
            ),
            "name a TOML file with -c, saved as UTF-8",
        )
    })
}

/// The tree, or a report of what TOML does not allow.
pub(super) fn tree<'t>(text: &'t str, file: &str) -> Result<Spanned<DeTable<'t>>, Report> {
    if text.contains('\0') {
        return Err(Report::whole_file(
            file,
            "the configuration is not a text file: it has NUL bytes in it",
            "name a TOML file with -c, saved as UTF-8",
        ));
    }
    let (tree, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        if tree.get_ref().is_empty() {
            return Err(Report::whole_file(
                file,
                "the configuration is empty",
                START,
            ));
        }
        return Ok(tree);
    }
    let mut drafts: Vec<Draft> = errors.iter().map(|error| draft(error, text)).collect();
    drafts.sort_by_key(|draft| draft.span.as_ref().map_or(0, |span| span.start));
    drafts.truncate(MOST);
    let source = Source {
        file,
        text,
        hidden: hidden(text),
    };
    Err(Report {
        file: file.to_owned(),
        problems: source.problems(drafts),
    })
}

fn draft(error: &toml::de::Error, text: &str) -> Draft {
    let message = error.message();
    let help = match message {
        m if m.starts_with("string values must be quoted") => {
            "put the text in double quotes, as in name = \"lb-1\""
        }
        m if m.starts_with("duplicate key") => "keep one of the two",
        m if m.contains("string") => {
            "end the text with the same quotes it began with; within it write \\\" for \" and \\\\ for \\"
        }
        _ => "write `key = value` on one line, text in double quotes, and tables as [table]",
    };
    let span = error
        .span()
        .map(|span| span.start..span.end.max((span.start + 1).min(text.len())));
    Draft {
        key: String::new(),
        span,
        message: format!("not valid TOML: {message}"),
        help: help.to_owned(),
        other: None,
    }
}

/// What must not be shown of a file that has no tree: every value whose key is not known for a harmless one, to the end
/// of its line, and the lines of multi-line texts.
fn hidden(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    let mut open: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let end = at + line.trim_end_matches(['\n', '\r']).len();
        if let Some(quotes) = open {
            ranges.push(at..end);
            if line.matches(quotes).count() % 2 == 1 {
                open = None;
            }
        } else if line.trim_start().starts_with('[') && !line.contains(['=', '"', '\'']) {
            // A table's name.
        } else {
            if let Some(from) = first_hidden(line) {
                ranges.push(at + from..end);
            }
            open = ["\"\"\"", "'''"]
                .into_iter()
                .find(|quotes| line.matches(quotes).count() % 2 == 1);
        }
        at += line.len();
    }
    ranges
}

/// Where in a line the first value begins that may be a secret.
fn first_hidden(line: &str) -> Option<usize> {
    let trimmed = line.trim_start();
    if trimmed.starts_with('#') || trimmed.trim_end().is_empty() {
        return None;
    }
    let Some(first) = line.find('=') else {
        return Some(line.len() - trimmed.len());
    };
    let harmless = |key: &str| {
        KEYS.iter()
            .any(|known| known.name() == key && known.kind != Kind::Secret)
    };
    let mut from = 0;
    for (equals, _) in line.match_indices('=') {
        let key = line[from..equals].trim_end();
        let key = key
            .rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
            .next()
            .unwrap_or("");
        if !harmless(key) {
            return Some(equals + 1);
        }
        from = equals + 1;
    }
    // `name = "…" hunter2` is as far as a harmless key goes; a private key may be pasted behind any.
    line.contains("PRIVATE").then_some(first + 1)
}
