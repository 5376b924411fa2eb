//! From bytes to a TOML tree: what can be wrong before any key is looked at, and how it is said.
//! Knows keys only so far as to tell which values may be shown beside a syntax error.

use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use toml::Spanned;
use toml::de::DeTable;

use super::inputs::{read_bounded, reason};
use super::keys::{KEYS, Key, Kind};
use super::report::{Draft, ProblemId, Report, SourceText, plain};

/// How many syntax errors are reported: those after the first few are mostly its consequences.
const MOST: usize = 5;
const START: &str = "start with `lbctl init --from-host -o lbctl.toml`";

/// What stands for standard input in the place of a file.
const STDIN: &str = "-";

/// How a file is called in messages.
pub(super) fn shown(path: &Path) -> String {
    if is_stdin(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

pub(super) fn is_stdin(path: &Path) -> bool {
    path == STDIN
}

/// At most `limit` + 1 bytes. Standard input can be read only once, and a command may load its
/// configuration twice.
fn content(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    static READ: OnceLock<Result<Vec<u8>, io::ErrorKind>> = OnceLock::new();
    if !is_stdin(path) {
        return read_bounded(path, limit);
    }
    let read = READ.get_or_init(|| {
        let mut content = Vec::new();
        let read = io::stdin().lock().take(limit + 1).read_to_end(&mut content);
        read.map(|_| content).map_err(|error| error.kind())
    });
    read.clone().map_err(io::Error::from)
}

/// The text of a configuration file.
pub(super) fn read(path: &Path, limit: u64) -> Result<String, Report> {
    let file = shown(path);
    let bytes = content(path, limit).map_err(|error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => format!("name another with -c, or {START}"),
            std::io::ErrorKind::PermissionDenied => {
                "let the user who runs lbctl read it".to_owned()
            }
            std::io::ErrorKind::IsADirectory => "name the file in it with -c".to_owned(),
            _ => "name another with -c".to_owned(),
        };
        Report::whole_file(
            ProblemId::FileUnreadable,
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
            ProblemId::FileTooLarge,
            &file,
            message,
            "name the right file with -c",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Report::whole_file(
            ProblemId::FileNotText,
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
            ProblemId::FileNotText,
            file,
            "the configuration is not a text file: it has NUL bytes in it",
            "name a TOML file with -c, saved as UTF-8",
        ));
    }
    let (tree, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        if tree.get_ref().is_empty() {
            return Err(Report::whole_file(
                ProblemId::FileEmpty,
                file,
                "the configuration is empty",
                START,
            ));
        }
        return Ok(tree);
    }
    let values = harmful_values(text);
    let mut drafts: Vec<Draft> = errors
        .iter()
        .map(|error| draft(error, text, &values))
        .collect();
    drafts.sort_by_key(|draft| draft.span.as_ref().map_or(0, |span| span.start));
    // The second error of a line is mostly a consequence of the first.
    let line = |draft: &Draft| {
        let start = draft.span.as_ref().map_or(0, |span| span.start);
        text.get(..start).map(|before| before.matches('\n').count())
    };
    drafts.dedup_by_key(|draft| line(draft));
    drafts.truncate(MOST);
    let source = SourceText::of_file(file, text, values.hidden);
    Err(Report {
        file: file.to_owned(),
        problems: source.problems(drafts),
    })
}

fn draft(error: &toml::de::Error, text: &str, values: &Harmful) -> Draft {
    let message = error
        .message()
        .trim_end_matches(", expected literal string");
    let expression = error.span().and_then(|span| expression(text, span.start));
    let help = match message {
        m if m.starts_with("string values must be quoted") && expression.is_some() => {
            expression.as_deref().unwrap_or_default()
        }
        m if m.starts_with("string values must be quoted") => {
            "put the text in double quotes, as in name = \"lb-1\""
        }
        m if m.starts_with("duplicate key") => "keep one of the two",
        m if m.starts_with("missing comma") => {
            "between { and } put a comma behind each value, or write [table] on a line of its own and its keys below it"
        }
        m if m.contains("string") => {
            "end the text with the same quotes it began with; within it write \\\" for \" and \\\\ for \\"
        }
        _ => "write `key = value` on one line, text in double quotes, and tables as [table]",
    };
    let start = error.span().map(|span| span.start.min(text.len()));
    let span = error
        .span()
        .zip(start)
        .map(|(span, start)| start..span.end.clamp(start, text.len()));
    let opened = values
        .opened
        .clone()
        .filter(|_| message.contains("multi-line"));
    let other = opened.map(|place| (place, "the text that begins here has no end".to_owned()));
    Draft {
        id: ProblemId::Syntax,
        key: String::new(),
        span,
        message: format!("not valid TOML: {message}"),
        help: help.to_owned(),
        other,
    }
}

/// What to write instead of arithmetic, as Terraform has it: `24 * 365`. `None`: the line has none.
fn expression(text: &str, at: usize) -> Option<String> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let (name, value) = text.get(start..)?.lines().next()?.split_once('=')?;
    let number = |key: &Key| {
        matches!(
            key.kind,
            Kind::Integer | Kind::Number | Kind::Memory | Kind::Hours
        )
    };
    KEYS.iter()
        .find(|key| key.name() == name.trim() && number(key))?;
    let value = value.split('#').next()?.trim();
    let factors = value.split('*').map(|factor| factor.trim().parse::<u64>());
    let arithmetic = |c: char| c.is_ascii_digit() || "+-*/() ".contains(c);
    if !value.contains(['+', '-', '*', '/', '(']) || !value.chars().all(arithmetic) {
        return None;
    }
    let product = factors.collect::<Result<Vec<u64>, _>>().ok();
    let product = product.and_then(|factors| factors.into_iter().try_fold(1, u64::checked_mul));
    Some(product.map_or_else(
        || "TOML has no expressions: write the number itself".to_owned(),
        |number| format!("TOML has no expressions: write {} = {number}", name.trim()),
    ))
}

/// What can be told of the values in a file that has no tree.
struct Harmful {
    /// Every value whose key is not known for a harmless one, to the end of its line, and all
    /// lines of multi-line texts.
    hidden: Vec<Range<usize>>,
    /// The quotes of a multi-line text that never ends.
    opened: Option<Range<usize>>,
}

fn harmful_values(text: &str) -> Harmful {
    let mut hidden = Vec::new();
    let mut at = 0;
    let mut open: Option<(&str, Range<usize>)> = None;
    for line in text.split_inclusive('\n') {
        let end = at + line.trim_end_matches(['\n', '\r']).len();
        if let Some((quotes, _)) = open {
            hidden.push(at..end);
            if line.matches(quotes).count() % 2 == 1 {
                open = None;
            }
        } else if !line.trim_start().starts_with('[') || line.contains(['=', '"', '\'']) {
            hidden.extend(first_hidden(line).map(|from| at + from..end));
            let odd = |quotes: &&str| line.matches(*quotes).count() % 2 == 1;
            open = ["\"\"\"", "\'\'\'"]
                .into_iter()
                .find(odd)
                .and_then(|quotes| {
                    let from = at + line.rfind(quotes)?;
                    Some((quotes, from..from + quotes.len()))
                });
        }
        at += line.len();
    }
    Harmful {
        hidden,
        opened: open.map(|(_, place)| place),
    }
}

/// Where in a line the first value begins that may be a secret.
fn first_hidden(line: &str) -> Option<usize> {
    let trimmed = line.trim_start();
    if trimmed.starts_with('#') || trimmed.trim_end().is_empty() {
        return None;
    }
    let whole = Some(line.len() - trimmed.len());
    let Some(first) = line.find('=') else {
        return whole;
    };
    // `password : "hunter2" # = 1` has a value before its first equals sign.
    let of_keys = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let key = line[..first].trim_start_matches(['[', '{', ' ', '\t']);
    if !key.trim_end().chars().all(of_keys) {
        return whole;
    }
    let named = after_secrets_name(line);
    first_unknown(line).into_iter().chain(named).min()
}

/// Behind the name of a secret that no equals sign follows: `vcpus = 2, password "hunter2"`.
fn after_secrets_name(line: &str) -> Option<usize> {
    let secrets = KEYS.iter().filter(|key| key.kind == Kind::Secret);
    let ends = secrets.flat_map(|key| {
        let named = line.match_indices(key.name());
        named.map(|(at, name)| at + name.len())
    });
    ends.filter(|end| {
        let rest = line[*end..].trim_start_matches(['"', '\'', ' ', '\t']);
        !rest.starts_with('=')
    })
    .min()
}

/// Where the value of the first key begins that is not known for a harmless one.
fn first_unknown(line: &str) -> Option<usize> {
    let first = line.find('=')?;
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
            let value = line[equals + 1..].trim_start();
            return Some(line.len() - value.len());
        }
        from = equals + 1;
    }
    // `name = "…" hunter2` is as far as a harmless key goes; a private key may be pasted behind
    // any.
    line.contains("PRIVATE").then_some(first + 1)
}
