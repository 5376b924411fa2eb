//! Takes values out of the TOML tree, one at a time, and notes what is wrong with them. That types are right, that
//! nothing is missing and nothing unknown is `schema`'s work, which comes first: of a value of another type nothing is
//! said here. What values mean is the business of the modules that call this.

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeInteger, DeTable, DeValue};
use zeroize::Zeroize as _;

use super::inputs::{Inputs, MAX_INPUT, reason};
use super::report::{Draft, ProblemId, quoted};
use super::types::{HaproxyTime, Wrong};
use crate::secret::Secret;

/// What is found while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub problems: RefCell<Vec<Draft>>,
    pub warnings: RefCell<Vec<Draft>>,
}

/// A value with the place it came from.
#[derive(Debug, Clone)]
pub(super) struct Given<T> {
    pub value: T,
    pub key: String,
    pub span: Range<usize>,
}

impl<T> Given<T> {
    /// Another value from the same place.
    pub fn with<U>(&self, value: U) -> Given<U> {
        Given {
            value,
            key: self.key.clone(),
            span: self.span.clone(),
        }
    }
}

impl Notes {
    /// Something wrong at a place. `message` is a whole sentence without its stop.
    pub fn problem(
        &self,
        id: ProblemId,
        key: &str,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let draft = Draft {
            id,
            key: key.into(),
            span,
            message: message.into(),
            help: help.into(),
            other: None,
        };
        self.problems.borrow_mut().push(draft);
    }

    /// Something wrong with a value, in words that stand behind its key.
    pub fn refuse<T>(&self, given: &Given<T>, wrong: &Wrong) {
        self.problem(
            wrong.id,
            &given.key,
            Some(given.span.clone()),
            format!("`{}` {}", given.key, wrong.what),
            wrong.help.as_str(),
        );
    }

    /// Two places that do not go together: the caret at the first, the label at the other.
    pub fn conflict<T, U>(
        &self,
        given: &Given<T>,
        other: &Given<U>,
        what: &str,
        label: &str,
        help: &str,
    ) {
        let message = format!("`{}` {what}", given.key);
        let other = Some((other.span.clone(), label.to_owned()));
        let draft = Draft {
            id: ProblemId::Conflict,
            key: given.key.clone(),
            span: Some(given.span.clone()),
            message,
            help: help.into(),
            other,
        };
        self.problems.borrow_mut().push(draft);
    }

    pub fn warn<T>(&self, given: &Given<T>, what: &str, help: &str) {
        let message = format!("`{}` {what}", given.key);
        let draft = Draft {
            id: ProblemId::Advice,
            key: given.key.clone(),
            span: Some(given.span.clone()),
            message,
            help: help.into(),
            other: None,
        };
        self.warnings.borrow_mut().push(draft);
    }

    /// Worth knowing of the file as a whole.
    pub fn warn_whole(&self, key: &str, message: &str, help: &str) {
        let draft = Draft {
            id: ProblemId::Advice,
            key: key.into(),
            span: None,
            message: message.into(),
            help: help.into(),
            other: None,
        };
        self.warnings.borrow_mut().push(draft);
    }

    /// The value after a check; a refusal is noted.
    pub fn check<T, U>(
        &self,
        given: Option<Given<T>>,
        check: impl FnOnce(&T) -> Result<U, Wrong>,
    ) -> Option<Given<U>> {
        let given = given?;
        match check(&given.value) {
            Ok(value) => Some(given.with(value)),
            Err(wrong) => {
                self.refuse(&given, &wrong);
                None
            }
        }
    }
}

/// What all sections share.
pub(super) struct Reader<'a> {
    pub inputs: &'a dyn Inputs,
    pub notes: Notes,
    /// `None`: whether certificates are in force is not asked.
    pub now: Option<time::OffsetDateTime>,
}

/// One table of the file.
#[derive(Clone)]
pub(super) struct Section<'a> {
    pub reader: &'a Reader<'a>,
    /// As shown to the reader of a message; empty for the top level.
    pub path: String,
    pub table: &'a DeTable<'a>,
    pub span: Range<usize>,
}

impl<'a> Section<'a> {
    pub fn notes(&self) -> &'a Notes {
        &self.reader.notes
    }

    /// The section itself as a place to point at.
    pub fn here(&self) -> Given<()> {
        Given {
            value: (),
            key: self.path.clone(),
            span: self.span.clone(),
        }
    }

    fn at(&self, name: &str) -> Option<Given<&'a DeValue<'a>>> {
        let (_, value) = self.table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(Given {
            value: value.get_ref(),
            key: join(&self.path, name),
            span: value.span(),
        })
    }

    /// Whether a key is there and not blank, of whatever type.
    pub fn gives(&self, name: &str) -> bool {
        self.at(name).is_some_and(|found| !blank(found.value))
    }

    /// A table that is given: there, and not blank.
    pub fn section(&self, name: &str) -> Option<Section<'a>> {
        let found = self.at(name).filter(|found| !blank(found.value))?;
        let table = found.value.as_table()?;
        Some(Section {
            reader: self.reader,
            path: found.key,
            table,
            span: found.span,
        })
    }

    /// The tables of a list.
    pub fn sections(&self, name: &str) -> Vec<Section<'a>> {
        let Some(found) = self.at(name) else {
            return Vec::new();
        };
        let items = found
            .value
            .as_array()
            .map(|array| array.iter().enumerate())
            .into_iter()
            .flatten();
        let tables =
            items.filter_map(|(place, item)| Some((place, item, item.get_ref().as_table()?)));
        tables
            .map(|(place, item, table)| Section {
                reader: self.reader,
                path: format!("{}[{place}]", found.key),
                table,
                span: item.span(),
            })
            .collect()
    }

    /// What `read` makes of a key that is given, or the default.
    pub fn or<T>(
        &self,
        name: &str,
        default: T,
        read: impl FnOnce(&Self, &str) -> Option<Given<T>>,
    ) -> Option<T> {
        if self.gives(name) {
            read(self, name).map(|given| given.value)
        } else {
            Some(default)
        }
    }

    /// A text that is not empty.
    pub fn text(&self, name: &str) -> Option<Given<String>> {
        let found = self.at(name)?;
        let text = found.value.as_str().filter(|text| !text.is_empty())?;
        Some(found.with(text.to_owned()))
    }

    /// A text after its check.
    pub fn parsed<T>(
        &self,
        name: &str,
        check: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<Given<T>> {
        self.notes().check(self.text(name), |text| check(text))
    }

    pub fn boolean(&self, name: &str) -> Option<Given<bool>> {
        let found = self.at(name)?;
        Some(found.with(found.value.as_bool()?))
    }

    /// An integer within bounds, both included.
    pub fn integer(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<i64>,
        help: &str,
    ) -> Option<Given<i64>> {
        let found = self.at(name)?;
        let DeValue::Integer(integer) = found.value else {
            return None;
        };
        self.notes().check(Some(found.with(())), |()| {
            let value = integer_value(integer).filter(|value| bounds.contains(value));
            let range = format!("{} to {}", bounds.start(), bounds.end());
            value.ok_or_else(|| {
                Wrong::new(
                    format!(
                        "is {}, which is not in the range of {range}",
                        quoted_number(integer)
                    ),
                    help,
                )
            })
        })
    }

    pub fn port(&self, name: &str) -> Option<Given<u16>> {
        let port = self.integer(name, 1..=65535, "give a TCP port")?;
        u16::try_from(port.value).ok().map(|value| port.with(value))
    }

    /// A port that is given and in range, without a note where it is not: for holding ports against one another.
    pub fn given_port(&self, name: &str) -> Option<Given<u16>> {
        let found = self.at(name)?;
        let DeValue::Integer(integer) = found.value else {
            return None;
        };
        let port = integer_value(integer)
            .and_then(|value| u16::try_from(value).ok())
            .filter(|port| *port > 0)?;
        Some(found.with(port))
    }

    /// An integer or a float as seconds or the like.
    pub fn number(&self, name: &str) -> Option<Given<f64>> {
        let found = self.at(name)?;
        let text = match found.value {
            DeValue::Integer(integer) => integer_value(integer)?.to_string(),
            DeValue::Float(float) => float.as_str().to_owned(),
            _ => return None,
        };
        self.notes().check(Some(found.with(())), |()| {
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
            value.ok_or_else(|| {
                Wrong::new(
                    format!("is {text}, which is no number to count with"),
                    "give a number such as 1.0",
                )
            })
        })
    }

    /// The texts of a list, or the one text that stands in its place.
    pub fn texts(&self, name: &str) -> Vec<Given<String>> {
        let Some(found) = self.at(name) else {
            return Vec::new();
        };
        if let Some(text) = self.text(name) {
            return vec![text];
        }
        let items = found
            .value
            .as_array()
            .map(|array| array.iter().enumerate())
            .into_iter()
            .flatten();
        let texts = items.filter_map(|(place, item)| Some((place, item, item.get_ref().as_str()?)));
        texts
            .map(|(place, item, text)| Given {
                value: text.to_owned(),
                key: format!("{}[{place}]", found.key),
                span: item.span(),
            })
            .collect()
    }

    /// A time within bounds in milliseconds; an integer is milliseconds, as in haproxy.cfg.
    pub fn time(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Option<Given<HaproxyTime>> {
        let found = self.at(name)?;
        let text = match found.value {
            DeValue::Integer(integer) => format!("{}ms", quoted_number(integer)),
            DeValue::String(text) if !text.is_empty() => text.to_string(),
            _ => return None,
        };
        self.notes().check(Some(found.with(text)), |text| {
            let time = HaproxyTime::parse(text)?;
            if bounds.contains(&time.millis()) {
                return Ok(time);
            }
            let help = format!(
                "give a time from {} to {}, with its unit, as in \"5s\"",
                duration(*bounds.start()),
                duration(*bounds.end())
            );
            Err(Wrong::new(
                format!(
                    "is {time}, which is too {}",
                    if time.millis() < *bounds.start() {
                        "short"
                    } else {
                        "long"
                    }
                ),
                help,
            ))
        })
    }

    /// A size in bytes, from an integer or a text with a unit.
    pub fn size(
        &self,
        name: &str,
        check: impl FnOnce(&str) -> Result<u64, Wrong>,
    ) -> Option<Given<u64>> {
        let found = self.at(name)?;
        let text = match found.value {
            DeValue::Integer(integer) => quoted_number(integer),
            DeValue::String(text) if !text.is_empty() => text.to_string(),
            _ => return None,
        };
        self.notes()
            .check(Some(found.with(text)), |text| check(text))
    }

    /// A text, or what `{ file = … }` or `{ env = … }` refers to, without one line break at its end.
    pub fn secret(&self, name: &str) -> Option<Given<Secret>> {
        let found = self.at(name)?;
        match found.value {
            DeValue::String(text) if text.is_empty() => None,
            DeValue::String(text) => Some(found.with(Secret::new(text.as_ref()))),
            DeValue::Table(table) if table.is_empty() => None,
            DeValue::Table(table) => self.reference(&found, table),
            _ => None,
        }
    }

    fn reference<T>(&self, found: &Given<T>, table: &DeTable<'_>) -> Option<Given<Secret>> {
        let notes = self.notes();
        let mut entries = table.iter().map(|(key, value)| {
            (
                key.get_ref().as_ref(),
                value.get_ref().as_str(),
                value.span(),
            )
        });
        let (Some((kind @ ("file" | "env"), Some(target), span)), None) =
            (entries.next(), entries.next())
        else {
            let what =
                "is a table, which must have one `file` or one `env`, a text, and nothing else";
            notes.refuse(
                found,
                &Wrong::new(
                    what,
                    "write the text itself, or { file = \"path\" }, or { env = \"VARIABLE\" }",
                ),
            );
            return None;
        };
        let (content, source) = if kind == "file" {
            (self.read_file(target), format!("file {}", quoted(target)))
        } else {
            let source = format!("the environment variable {}", quoted(target));
            (self.read_env(target), source)
        };
        let place = Given {
            value: target,
            key: found.key.clone(),
            span,
        };
        let unreadable = |wrong: Wrong| wrong.with_id(ProblemId::ReferenceUnreadable);
        let mut bytes = notes.check(Some(place), |_| content.map_err(unreadable))?;
        let secret = notes.check(Some(bytes.with(())), |()| {
            let text = std::str::from_utf8(&bytes.value).map_err(|_| {
                let what = format!("is taken from {source}, which is not UTF-8 text");
                Wrong::new(what, "give a text (PEM rather than DER)")
            })?;
            let cut = text.strip_suffix('\n').unwrap_or(text);
            let cut = cut.strip_suffix('\r').unwrap_or(cut);
            if cut.trim().is_empty() {
                let what = format!("is taken from {source}, which is empty");
                return Err(Wrong::new(what, "put the value there, or remove this line"));
            }
            Ok(Secret::new(cut))
        });
        bytes.value.zeroize();
        secret
    }

    fn read_file(&self, path: &str) -> Result<Vec<u8>, Wrong> {
        if path.is_empty() || path.contains(char::is_control) {
            let help = "write { file = \"path\" }, or the text itself without a table";
            return Err(Wrong::new("is taken from a file, but not by a path", help));
        }
        let content = self.reader.inputs.file(Path::new(path)).map_err(|error| {
            let help = match error.kind() {
                std::io::ErrorKind::NotFound if path.starts_with('~') => {
                    "write the whole path: `~` is not replaced here"
                }
                std::io::ErrorKind::NotFound => {
                    "correct the path, which starts at the folder of the configuration"
                }
                std::io::ErrorKind::PermissionDenied => "let the user who runs lbctl read the file",
                _ => "name a file with the value in it",
            };
            Wrong::new(
                format!(
                    "cannot be read from file {}: {}",
                    quoted(path),
                    reason(&error)
                ),
                help,
            )
        })?;
        if content.len() as u64 > MAX_INPUT {
            let what = format!(
                "is taken from file {}, which is larger than 1 MiB",
                quoted(path)
            );
            return Err(Wrong::new(
                what,
                "name a file with the value and nothing else",
            ));
        }
        Ok(content)
    }

    fn read_env(&self, name: &str) -> Result<Vec<u8>, Wrong> {
        if !is_variable(name) {
            return Err(Wrong::new(
                "is taken from the environment, but not by the name of a variable",
                "write { env = \"VARIABLE\" }, with letters, digits and _ alone",
            ));
        }
        let value = self.reader.inputs.env(name).ok_or_else(|| {
            let what = format!(
                "is taken from the environment variable {}, which is not set",
                quoted(name)
            );
            Wrong::new(what, "set it, and see that it is exported")
        })?;
        Ok(value.into_encoded_bytes())
    }
}

/// Whether a text may name a variable of the environment. What is something else may be the secret itself.
pub(super) fn is_variable(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(fine) && !text.as_bytes()[0].is_ascii_digit()
}

/// Whether a value counts as not given: an empty text or list, or a table of nothing else.
pub(super) fn blank(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => text.is_empty(),
        DeValue::Array(array) => array.is_empty(),
        DeValue::Table(table) => table.iter().all(|(_, value)| blank(value.get_ref())),
        _ => false,
    }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn integer_value(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// In decimal where it fits, else shortened.
fn quoted_number(integer: &DeInteger<'_>) -> String {
    integer_value(integer).map_or_else(
        || {
            let digits: String = integer.as_str().chars().take(24).collect();
            format!("{digits}...")
        },
        |value| value.to_string(),
    )
}

fn duration(millis: u64) -> String {
    match millis {
        m if m % 86_400_000 == 0 => format!("{}d", m / 86_400_000),
        m if m % 3_600_000 == 0 => format!("{}h", m / 3_600_000),
        m if m % 60_000 == 0 => format!("{}m", m / 60_000),
        m if m % 1000 == 0 => format!("{}s", m / 1000),
        m => format!("{m}ms"),
    }
}
