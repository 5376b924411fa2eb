//! Takes values out of the TOML tree, one at a time, by the declarations of their keys: what is not
//! given has the declared default, what is out of the declared bounds is refused. That types are
//! right, that nothing is missing and nothing unknown is `schema`'s work, which comes first: of a
//! value of another type nothing is said here. What values mean is the business of the modules that
//! call this.

mod referred;

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use toml::de::{DeInteger, DeTable, DeValue};

use super::checks;
use super::diagnostics::{Diagnostics, Read, Refused, Spanned, all};
use super::extends::Sources;
use super::inputs::Inputs;
use super::keys::{self, Bounds, Key, Kind, Literal};
use super::report::quoted;
use super::schema;
use super::types::{HaproxyTime, InvalidValue, Port};
use super::vms::{Claim, Claims, Own, Unique};
use super::words::Word;
use super::{FILL_IN, Needs};

pub(super) use referred::{Referred, is_variable};

/// What all sections share.
pub(super) struct Reader<'a> {
    pub inputs: &'a dyn Inputs,
    pub diagnostics: Diagnostics,
    /// `None`: whether certificates are in force is not asked.
    pub now: Option<time::OffsetDateTime>,
    /// Whether the CA's key is read, too, to say what is wrong with it.
    pub examine: bool,
    /// What it refers to and must be there.
    pub needs: Needs,
    /// Of the rest, what is not there, and why; in words.
    pub unread: RefCell<Vec<String>>,
    /// The files that it is read from.
    pub sources: &'a Sources,
    /// The first secret that is written in the file itself.
    pub inline_secret: RefCell<Option<Spanned<()>>>,
    /// Of several VMs that which is read.
    pub vm: Option<&'a Own>,
    /// What it has, to be held against the others.
    pub claims: RefCell<Claims>,
}

impl Reader<'_> {
    /// What a key in a table is called in a message.
    fn path_of(&self, table: &str, name: &str, span: &Range<usize>) -> String {
        match self.vm {
            Some(own) => own.path_of(table, name, span),
            None => join(table, name),
        }
    }

    /// Notes what nothing else on the VM's host may have.
    pub fn claim<T>(&self, of: Unique, value: &impl ToString, place: &Spanned<T>) {
        self.claims.borrow_mut().all.push(Claim {
            of,
            value: value.to_string(),
            place: place.with(()),
        });
    }

    /// Where a value is, in words.
    pub fn place<T>(&self, given: &Spanned<T>) -> String {
        self.sources.place(given.span.start)
    }
}

/// One table of the file, or one that is not in it: there every key has its default.
#[derive(Clone)]
pub(super) struct Section<'a> {
    pub reader: &'a Reader<'a>,
    /// Its path in `keys`.
    declared: String,
    /// As shown to the reader of a message; empty for the top level.
    path: String,
    table: Option<&'a DeTable<'a>>,
    span: Range<usize>,
}

/// What a key of `Kind::SwitchOrPort` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SwitchOrPort {
    Switch(bool),
    Port(Port),
}

/// A value as far as its kind does not matter: given, or a default.
enum Raw<'a> {
    Text(Cow<'a, str>),
    Integer(Number),
    Float(&'a str),
    Boolean(bool),
}

/// `None`: beyond any that lbctl takes.
struct Number {
    value: Option<i64>,
    shown: String,
}

impl<'a> Section<'a> {
    pub fn root(reader: &'a Reader<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            reader,
            declared: String::new(),
            path: String::new(),
            table: Some(table),
            span: 0..0,
        }
    }

    pub fn diagnostics(&self) -> &'a Diagnostics {
        &self.reader.diagnostics
    }

    /// The section itself as a place to point at.
    pub fn here(&self) -> Spanned<()> {
        Spanned {
            value: (),
            key: self.path.clone(),
            span: self.span.clone(),
        }
    }

    /// The declaration of a key.
    fn key(&self, name: &str) -> Read<&'static Key> {
        let path = join(&self.declared, name);
        let found = keys::find(&path);
        debug_assert!(found.is_some(), "{path} is not declared");
        found.ok_or(Refused::BY_SCHEMA)
    }

    /// How many entries the key takes.
    pub fn most(&self, name: &str) -> usize {
        self.key(name).map_or(usize::MAX, Key::most)
    }

    fn find(&self, name: &str) -> Option<Spanned<&'a DeValue<'a>>> {
        let mut entries = self.table?.iter();
        let (_, value) = entries.find(|(key, _)| key.get_ref() == name)?;
        Some(Spanned {
            value: value.get_ref(),
            key: self.reader.path_of(&self.path, name, &value.span()),
            span: value.span(),
        })
    }

    /// A value of whatever type, where it is there and not blank.
    pub fn given(&self, name: &str) -> Option<Spanned<&'a DeValue<'a>>> {
        self.find(name).filter(|found| !blank(found.value))
    }

    /// A table that is in the file and says nothing.
    pub fn left_blank(&self, name: &str) -> Option<Spanned<&'a DeValue<'a>>> {
        let found = self.find(name)?;
        (matches!(found.value, DeValue::Table(_)) && blank(found.value)).then_some(found)
    }

    pub fn gives(&self, name: &str) -> bool {
        self.given(name).is_some()
    }

    /// Whether the table is in the file.
    pub fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the key is, with or without a value, or one that was meant for it.
    pub fn has(&self, name: &str) -> bool {
        let misspelled = |table| {
            self.key(name)
                .is_ok_and(|key| schema::misspelled(key, table, &self.declared))
        };
        self.find(name).is_some() || self.table.is_some_and(misspelled)
    }

    /// A table that is given.
    pub fn section(&self, name: &str) -> Option<Section<'a>> {
        let found = self.given(name)?;
        Some(Section {
            reader: self.reader,
            declared: join(&self.declared, name),
            path: found.key,
            table: Some(found.value.as_table()?),
            span: found.span,
        })
    }

    /// A table, given or not.
    pub fn section_or_defaults(&self, name: &str) -> Section<'a> {
        self.section(name).unwrap_or_else(|| Section {
            declared: join(&self.declared, name),
            path: join(&self.path, name),
            table: None,
            ..self.clone()
        })
    }

    /// The tables of a list.
    pub fn sections(&self, name: &str) -> Vec<Section<'a>> {
        let items = self.items(name).into_iter();
        let declared = format!("{}[]", join(&self.declared, name));
        items
            .filter_map(|item| {
                Some(Section {
                    reader: self.reader,
                    declared: declared.clone(),
                    table: Some(item.value.as_table()?),
                    path: item.key,
                    span: item.span,
                })
            })
            .collect()
    }

    /// A key or table that is needed here, and that the declarations cannot know of. `keys` are
    /// those that a table needs.
    pub fn missing(&self, name: &str, keys: &[&str]) -> Refused {
        self.missing_or(name, keys, "")
    }

    /// The same, with what to do instead. Begins with a semicolon, or is empty.
    pub fn missing_or(&self, name: &str, keys: &[&str], instead: &str) -> Refused {
        let (Ok(key), Some(table)) = (self.key(name), self.table) else {
            return Refused::BY_SCHEMA;
        };
        if schema::misspelled(key, table, &self.declared) {
            return Refused::BY_SCHEMA;
        }
        let found = self.find(name);
        let span = found.as_ref().map_or(self.span.clone(), |f| f.span.clone());
        let help = format!("add it, with {}{instead}", keys.join(", "));
        let (diagnostics, span) = (self.diagnostics(), Some(span));
        schema::report_missing(diagnostics, key, &self.path, found.is_some(), span, help)
    }

    /// A table of names and values, in their order, the values as texts.
    pub fn pairs(&self, name: &str) -> Vec<(Spanned<String>, String)> {
        let found = self.given(name);
        let table = found
            .as_ref()
            .and_then(|found| Some((&found.key, found.value.as_table()?)));
        let entries = table
            .into_iter()
            .flat_map(|(key, table)| table.iter().map(move |entry| (key, entry)));
        entries
            .filter_map(|(key, (name, value))| {
                let text = match value.get_ref() {
                    DeValue::String(text) => text.to_string(),
                    DeValue::Integer(integer) => Number::given(integer).shown,
                    DeValue::Boolean(value) => value.to_string(),
                    _ => return None,
                };
                let name = Spanned {
                    value: name.get_ref().to_string(),
                    key: join(key, name.get_ref()),
                    span: value.span(),
                };
                Some((name, text))
            })
            .collect()
    }

    /// The elements of a list.
    fn items(&self, name: &str) -> Vec<Spanned<&'a DeValue<'a>>> {
        let found = self.find(name);
        let array = found
            .as_ref()
            .and_then(|found| Some((&found.key, found.value.as_array()?)));
        let items = array
            .into_iter()
            .flat_map(|(key, array)| array.iter().enumerate().map(move |item| (key, item)));
        items
            .map(|(key, (place, item))| Spanned {
                value: item.get_ref(),
                key: format!("{key}[{place}]"),
                span: item.span(),
            })
            .collect()
    }

    /// What `read` makes of a key that may be left out and has no default.
    pub fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Self, &str) -> Read<Spanned<T>>,
    ) -> Read<Option<Spanned<T>>> {
        let given = self.gives(name);
        given.then(|| read(self, name)).transpose()
    }

    /// What is given; else the default, which has the place of the section.
    fn raw(&self, name: &str) -> Read<Spanned<Raw<'a>>> {
        let key = self.key(name)?;
        let raw = match (self.given(name), key.default) {
            (Some(found), _) => Raw::given(found.value).map(|raw| found.with(raw)),
            (None, Some(default)) => Some(self.here().with(Raw::declared(default))),
            (None, None) => None,
        };
        raw.ok_or(Refused::BY_SCHEMA)
    }

    pub fn text(&self, name: &str) -> Read<Spanned<String>> {
        let raw = self.raw(name)?;
        match &raw.value {
            Raw::Text(text) => Ok(raw.with(text.to_string())),
            _ => Err(Refused::BY_SCHEMA),
        }
    }

    /// A text after its check.
    pub fn parsed<T>(
        &self,
        name: &str,
        check: impl FnOnce(&str) -> Result<T, InvalidValue>,
    ) -> Read<Spanned<T>> {
        let text = self.text(name)?;
        debug_assert!(self.has_form(name), "{name}: a form for the JSON Schema");
        self.diagnostics()
            .check(&text, |text| filled_in(text, check))
    }

    /// Whether it is declared what a right text looks like.
    fn has_form(&self, name: &str) -> bool {
        self.key(name)
            .is_ok_and(|key| !matches!(key.bounds, Bounds::Unbounded))
    }

    /// One of the declared words.
    pub fn word<T: Word>(&self, name: &str) -> Read<Spanned<T>> {
        self.parsed(name, |text| {
            T::from_word(text).ok_or_else(|| {
                let words: Vec<String> =
                    T::WORDS.iter().map(|word| format!("\"{word}\"")).collect();
                InvalidValue::new(
                    format!("is {}, which is not a choice here", quoted(text)),
                    format!("write one of {}", words.join(", ")),
                )
            })
        })
    }

    pub fn boolean(&self, name: &str) -> Read<Spanned<bool>> {
        let raw = self.raw(name)?;
        match raw.value {
            Raw::Boolean(value) => Ok(raw.with(value)),
            _ => Err(Refused::BY_SCHEMA),
        }
    }

    pub fn switch_or_port(&self, name: &str) -> Read<Spanned<SwitchOrPort>> {
        let raw = self.raw(name)?;
        if let Raw::Boolean(value) = raw.value {
            Ok(raw.with(SwitchOrPort::Switch(value)))
        } else {
            let port = self.port(name)?;
            Ok(port.with(SwitchOrPort::Port(port.value)))
        }
    }

    /// An integer within its bounds; of memory and hours also a text with a unit.
    pub fn integer<T: TryFrom<i64>>(&self, name: &str, help: &str) -> Read<Spanned<T>> {
        let (raw, key) = (self.raw(name)?, self.key(name)?);
        let range = key.range();
        let counted;
        let number = match (&raw.value, key.kind) {
            (Raw::Integer(number), _) => number,
            (Raw::Text(text), Kind::Memory | Kind::Hours) => {
                counted = self.diagnostics().check(&raw, |_| {
                    let value = checks::counted(text, key)?;
                    let shown = text.to_string();
                    Ok(Number {
                        value: Some(value),
                        shown,
                    })
                })?;
                &counted.value
            }
            _ => return Err(Refused::BY_SCHEMA),
        };
        let value = number.value.filter(|value| range.contains(value));
        let value = value.and_then(|value| T::try_from(value).ok());
        self.diagnostics().check(&raw, |_| {
            value.ok_or_else(|| {
                let what = format!(
                    "is {}, which is not in the range of {} to {}",
                    number.shown,
                    range.start(),
                    range.end()
                );
                InvalidValue::new(what, help)
            })
        })
    }

    pub fn port(&self, name: &str) -> Read<Spanned<Port>> {
        self.integer(name, "give a TCP port")
    }

    /// A port that is given and fit, where no problem is to be noted: for holding ports against one
    /// another.
    pub fn given_port(&self, name: &str) -> Option<Spanned<Port>> {
        let found = self.given_integer(name)?;
        Some(found.with(Port::try_from(found.value).ok()?))
    }

    /// A number that is given, where no problem is to be noted.
    pub fn given_integer(&self, name: &str) -> Option<Spanned<i64>> {
        let found = self.given(name)?;
        match Raw::given(found.value)? {
            Raw::Integer(number) => Some(found.with(number.value?)),
            _ => None,
        }
    }

    pub fn default_port(&self, name: &str) -> Option<Port> {
        match self.key(name).ok()?.default? {
            Literal::Int(port) => Port::try_from(port).ok(),
            _ => None,
        }
    }

    /// An integer or a float within its bounds. `what`, such as `a weight`, says in a message what
    /// it is not.
    pub fn number(&self, name: &str, what: &str, help: &str) -> Read<Spanned<f64>> {
        let (raw, bounds) = (self.raw(name)?, self.key(name)?.bounds);
        let text = match &raw.value {
            Raw::Integer(Number {
                value: Some(_),
                shown,
            }) => shown.as_str(),
            Raw::Float(text) => text,
            _ => return Err(Refused::BY_SCHEMA),
        };
        self.diagnostics().check(&raw, |_| {
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
            let value = value.ok_or_else(|| {
                let what = format!("is {text}, which is not a number to count with");
                InvalidValue::new(what, "give a number such as 1.0")
            })?;
            match bounds {
                // Bounds are small enough to be exact.
                #[allow(clippy::cast_precision_loss)]
                Bounds::Between { above, below }
                    if value <= above as f64 || value >= below as f64 =>
                {
                    Err(InvalidValue::new(
                        format!("is {value}, which is not {what}"),
                        help,
                    ))
                }
                _ => Ok(value),
            }
        })
    }

    /// The texts of a list, or the one text that stands in its place, each after its check.
    pub fn texts<T>(
        &self,
        name: &str,
        check: impl Fn(&str) -> Result<T, InvalidValue>,
    ) -> Read<Vec<Spanned<T>>> {
        debug_assert!(self.has_form(name), "{name}: a form for the JSON Schema");
        let mut texts: Vec<Spanned<&DeValue<'_>>> = self.items(name);
        texts.extend(self.given(name).filter(|found| found.value.is_str()));
        let texts = texts
            .iter()
            .filter_map(|item| Some((item, item.value.as_str()?)));
        let checked = |(item, text): (&Spanned<_>, _)| {
            let check = |_: &_| filled_in(text, &check);
            self.diagnostics().check(item, check)
        };
        all(texts.map(checked))
    }

    /// A time within its bounds; an integer is milliseconds, as in haproxy.cfg.
    pub fn time(&self, name: &str) -> Read<Spanned<HaproxyTime>> {
        let (raw, key) = (self.raw(name)?, self.key(name)?);
        let text = match &raw.value {
            Raw::Integer(number) => format!("{}ms", number.shown),
            Raw::Text(text) => text.to_string(),
            _ => return Err(Refused::BY_SCHEMA),
        };
        self.diagnostics().check(&raw, |_| {
            let time = HaproxyTime::parse(&text)?;
            let (range, millis) = (key.range(), i64::try_from(time.millis()));
            let millis = millis.unwrap_or(i64::MAX);
            if range.contains(&millis) {
                return Ok(time);
            }
            let wrong = if millis < *range.start() {
                "short"
            } else {
                "long"
            };
            let help = format!(
                "give a time from {} to {}, with its unit, as in \"5s\"",
                key.kind.quantity(*range.start()),
                key.kind.quantity(*range.end())
            );
            let what = format!("is {time}, which is too {wrong}");
            Err(InvalidValue::new(what, help))
        })
    }

    /// A size in bytes within its bounds, from an integer or a text with a unit.
    pub fn size(&self, name: &str) -> Read<Spanned<u64>> {
        let (raw, key) = (self.raw(name)?, self.key(name)?);
        let text = match &raw.value {
            Raw::Integer(number) => &number.shown,
            Raw::Text(text) => text.as_ref(),
            _ => return Err(Refused::BY_SCHEMA),
        };
        self.diagnostics().check(&raw, |_| checks::size(text, key))
    }
}

/// The check of a text: of what `lbctl init` leaves open it is not said that it has a space in it.
fn filled_in<T>(
    text: &str,
    check: impl FnOnce(&str) -> Result<T, InvalidValue>,
) -> Result<T, InvalidValue> {
    check(text).map_err(|invalid| {
        if text != FILL_IN {
            return invalid;
        }
        let what = format!("is \"{FILL_IN}\", which is to be filled in");
        InvalidValue::new(what, invalid.help)
    })
}

impl<'a> Raw<'a> {
    /// `None`: of a type that no single value has.
    fn given(value: &'a DeValue<'a>) -> Option<Self> {
        match value {
            DeValue::String(text) => Some(Self::Text(text.as_ref().into())),
            DeValue::Integer(integer) => Some(Self::Integer(Number::given(integer))),
            DeValue::Float(float) => Some(Self::Float(float.as_str())),
            DeValue::Boolean(value) => Some(Self::Boolean(*value)),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
        }
    }

    fn declared(default: Literal) -> Self {
        match default {
            Literal::Bool(value) => Self::Boolean(value),
            Literal::Int(value) => Self::Integer(Number {
                value: Some(value),
                shown: value.to_string(),
            }),
            Literal::Str(text) => Self::Text(text.into()),
        }
    }
}

impl Number {
    /// Shown in decimal where it fits, else shortened.
    fn given(integer: &DeInteger<'_>) -> Self {
        let value = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let start = || integer.as_str().chars().take(24).collect::<String>();
        let shown = value.map_or_else(|| format!("{}...", start()), |value| value.to_string());
        Self { value, shown }
    }
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
