//! Takes values out of the TOML tree, one at a time, by the declarations of their keys: what is not
//! given has the declared default, what is out of the declared bounds is refused. That types are
//! right, that nothing is missing and nothing unknown is `schema`'s work, which comes first: of a
//! value of another type nothing is said here. What values mean is the business of the modules that
//! call this.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeInteger, DeTable, DeValue};
use zeroize::Zeroize as _;

use super::checks;
use super::diagnostics::{Diagnostics, Read, Refused, Spanned, all};
use super::extends::Sources;
use super::inputs::{Inputs, MAX_INPUT, reason};
use super::keys::{self, Bounds, Key, Kind, Literal};
use super::report::{ProblemId, quoted};
use super::schema;
use super::types::{HaproxyTime, InvalidValue, Port};
use super::vms::{Claim, Claims, Own, Unique};
use super::words::Word;
use super::{FILL_IN, Needs};
use crate::secret::Secret;

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

/// Where a text is that may be taken from elsewhere.
#[derive(Clone)]
pub(super) enum Referred {
    Text(Secret),
    /// The place of the reference's target in the file is kept beside it.
    File(String, Range<usize>),
    Env(String, Range<usize>),
}

impl Referred {
    /// Its target; of a text, the text.
    pub fn place<T>(&self, of: &Spanned<T>) -> Spanned<()> {
        let place = of.with(());
        match self {
            Self::Text(_) => place,
            Self::File(_, span) | Self::Env(_, span) => Spanned {
                span: span.clone(),
                ..place
            },
        }
    }

    /// Without one line break at its end.
    pub fn read(&self, inputs: &dyn Inputs) -> Result<Secret, InvalidValue> {
        let unreadable = |invalid: InvalidValue| invalid.with_id(ProblemId::ReferenceUnreadable);
        let (content, source) = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path, _) => (read_file(inputs, path), format!("file {}", quoted(path))),
            Self::Env(name, _) => {
                let source = format!("the environment variable {}", quoted(name));
                (read_env(inputs, name), source)
            }
        };
        let mut bytes = content.map_err(unreadable)?;
        let secret = text_of(&bytes, &source);
        bytes.zeroize();
        secret
    }

    /// Whether it could be read now, as far as that is known without its content.
    pub fn ensure_there(&self, inputs: &dyn Inputs) -> Result<(), InvalidValue> {
        match self {
            Self::Text(_) => Ok(()),
            Self::File(path, _) => from_file(path, |path| inputs.ensure_readable(path)),
            Self::Env(name, _) => read_env(inputs, name).map(|mut value| value.zeroize()),
        }
    }

    /// Whether it is just not there, or not for this user: it may be kept elsewhere.
    pub fn is_elsewhere(&self, inputs: &dyn Inputs) -> bool {
        use std::io::ErrorKind::{NotFound, PermissionDenied};
        match self {
            Self::Text(_) => false,
            Self::File(path, _) => {
                !path.is_empty()
                    && !path.starts_with('~')
                    && !path.contains(char::is_control)
                    && inputs
                        .file(Path::new(path))
                        .is_err_and(|error| matches!(error.kind(), NotFound | PermissionDenied))
            }
            Self::Env(name, _) => is_variable(name) && inputs.env(name).is_none(),
        }
    }
}

fn text_of(bytes: &[u8], source: &str) -> Result<Secret, InvalidValue> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        let what = format!("is taken from {source}, which is not UTF-8 text");
        InvalidValue::new(what, "give a text (PEM rather than DER)")
    })?;
    let cut = text.strip_suffix('\n').unwrap_or(text);
    let cut = cut.strip_suffix('\r').unwrap_or(cut);
    if cut.trim().is_empty() {
        let what = format!("is taken from {source}, which is empty");
        return Err(InvalidValue::new(
            what,
            "put the value there, or remove this line",
        ));
    }
    Ok(Secret::new(cut))
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

    /// A text, or what `{ file = … }` or `{ env = … }` refers to, without one line break at its
    /// end. `None`: it is not there, and nobody needs it ([`Needs`]).
    pub fn secret(&self, name: &str) -> Read<Option<Spanned<Secret>>> {
        self.read_referred(name, &self.referred(name)?)
    }

    /// The same after its check; the default stands for what nobody needs.
    pub fn secret_as<T: Default>(
        &self,
        name: &str,
        check: impl FnOnce(&Secret) -> Result<T, InvalidValue>,
    ) -> Read<Spanned<T>> {
        match self.secret(name)? {
            Some(secret) => self.diagnostics().check(&secret, check),
            None => Ok(self.here().with(T::default())),
        }
    }

    /// The same of a key that may be left out.
    pub fn optional_secret<T>(
        &self,
        name: &str,
        check: impl FnOnce(&Secret) -> Result<T, InvalidValue>,
    ) -> Read<Option<Spanned<T>>> {
        let given = self.secret_if_given(name)?;
        let checked = given.map(|secret| self.diagnostics().check(&secret, check));
        checked.transpose()
    }

    /// The same of a key that takes a list of such, too.
    pub fn secrets_as<T>(
        &self,
        name: &str,
        check: impl Fn(&Secret) -> Result<T, InvalidValue>,
    ) -> Read<Vec<Spanned<T>>> {
        let items = self.items(name);
        if items.is_empty() {
            return Ok(self.optional_secret(name, check)?.into_iter().collect());
        }
        let read = all(items.iter().map(|item| {
            let secret = match item.value {
                DeValue::String(text) => Some(item.with(Secret::new(text.as_ref()))),
                DeValue::Table(table) => {
                    let referred = self.reference(item, table)?;
                    self.read_referred(name, &referred.place(item).with(referred))?
                }
                _ => return Err(Refused::BY_SCHEMA),
            };
            let checked = secret.map(|secret| self.diagnostics().check(&secret, &check));
            checked.transpose()
        }));
        Ok(read?.into_iter().flatten().collect())
    }

    fn secret_if_given(&self, name: &str) -> Read<Option<Spanned<Secret>>> {
        match self.referred_if_given(name)? {
            Some(referred) => self.read_referred(name, &referred),
            None => Ok(None),
        }
    }

    /// `None`: it is not there, and nobody needs it.
    fn read_referred(
        &self,
        name: &str,
        referred: &Spanned<Referred>,
    ) -> Read<Option<Spanned<Secret>>> {
        let (reader, inputs) = (self.reader, self.reader.inputs);
        let is_needed = reader.needs.include(&join(&self.declared, name));
        match referred.value.read(inputs) {
            Ok(secret) => Ok(Some(referred.with(secret))),
            Err(invalid) if !is_needed && referred.value.is_elsewhere(inputs) => {
                let place = reader.place(referred);
                let said = format!("`{}` ({place}) {}", referred.key, invalid.what);
                reader.unread.borrow_mut().push(said);
                Ok(None)
            }
            Err(invalid) => Err(self.diagnostics().invalid(referred, invalid)),
        }
    }

    /// Whether there is a text, or a reference to one, however wrong.
    pub fn refers(&self, name: &str) -> Option<Spanned<()>> {
        let found = self.find(name)?;
        let blank = match found.value {
            DeValue::String(text) => text.is_empty(),
            DeValue::Table(table) => table.is_empty(),
            _ => false,
        };
        (!blank).then(|| found.with(()))
    }

    /// A text, or a reference to one, which is not read.
    pub fn referred(&self, name: &str) -> Read<Spanned<Referred>> {
        self.referred_if_given(name)?.ok_or(Refused::BY_SCHEMA)
    }

    fn referred_if_given(&self, name: &str) -> Read<Option<Spanned<Referred>>> {
        let Some(found) = self.find(name) else {
            return Ok(None);
        };
        let referred = match found.value {
            DeValue::Array(items) if items.is_empty() => return Ok(None),
            DeValue::String(text) if text.is_empty() => return Ok(None),
            DeValue::String(text) => Referred::Text(Secret::new(text.as_ref())),
            DeValue::Table(table) if table.is_empty() => return Ok(None),
            DeValue::Table(table) => self.reference(&found, table)?,
            _ => return Err(Refused::BY_SCHEMA),
        };
        if self.key(name)?.kind == Kind::Secret {
            self.watch(&found.with(&referred));
        }
        Ok(Some(referred.place(&found).with(referred)))
    }

    /// Warns of a secret that every user of the machine may read.
    fn watch(&self, secret: &Spanned<&Referred>) {
        match secret.value {
            Referred::Text(_) => {
                let mut first = self.reader.inline_secret.borrow_mut();
                first.get_or_insert_with(|| secret.with(()));
            }
            Referred::File(path, _) if self.reader.inputs.is_open_to_all(Path::new(path)) => {
                let what = format!(
                    "is in file {}, which every user of this machine can read",
                    quoted(path)
                );
                let help = format!("chmod 600 {path}");
                let place = secret.value.place(secret);
                self.diagnostics().warn(&place, &what, &help);
            }
            Referred::File(..) | Referred::Env(..) => {}
        }
    }

    fn reference<T>(&self, found: &Spanned<T>, table: &DeTable<'_>) -> Read<Referred> {
        let diagnostics = self.diagnostics();
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
            let help = "write the text itself, or { file = \"path\" }, or { env = \"VARIABLE\" }";
            return Err(diagnostics.refuse(found, what, help));
        };
        let referred = if kind == "file" {
            Referred::File(target.to_owned(), span)
        } else {
            Referred::Env(target.to_owned(), span)
        };
        // Of the CA's key too, which is otherwise read by what issues alone.
        if kind == "file" && target == FILL_IN {
            let what = format!("is in file \"{FILL_IN}\", which is to be filled in");
            let help = "give the path of the file, which starts at the folder of the configuration";
            return Err(diagnostics.refuse(&referred.place(found), &what, help));
        }
        Ok(referred)
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

fn read_file(inputs: &dyn Inputs, path: &str) -> Result<Vec<u8>, InvalidValue> {
    let content = from_file(path, |path| inputs.file(path))?;
    if content.len() as u64 > MAX_INPUT {
        let what = format!(
            "is taken from file {}, which is larger than 1 MiB",
            quoted(path)
        );
        return Err(InvalidValue::new(
            what,
            "name a file with the value and nothing else",
        ));
    }
    Ok(content)
}

/// What is done with the file that the configuration names.
fn from_file<T>(
    path: &str,
    open: impl FnOnce(&Path) -> std::io::Result<T>,
) -> Result<T, InvalidValue> {
    if path.is_empty() || path.contains(char::is_control) {
        let help = "write { file = \"path\" }, or the text itself without a table";
        return Err(InvalidValue::new(
            "is taken from a file, but not by a path",
            help,
        ));
    }
    open(Path::new(path)).map_err(|error| {
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
        InvalidValue::new(
            format!(
                "cannot be read from file {}: {}",
                quoted(path),
                reason(&error)
            ),
            help,
        )
    })
}

fn read_env(inputs: &dyn Inputs, name: &str) -> Result<Vec<u8>, InvalidValue> {
    if !is_variable(name) {
        return Err(InvalidValue::new(
            "is taken from the environment, but not by the name of a variable",
            "write { env = \"VARIABLE\" }, with letters, digits and _ alone",
        ));
    }
    let value = inputs.env(name).ok_or_else(|| {
        let what = format!(
            "is taken from the environment variable {}, which is not set",
            quoted(name)
        );
        InvalidValue::new(what, "set it, and see that it is exported")
    })?;
    Ok(value.into_encoded_bytes())
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

/// Whether a text may name a variable of the environment. What is something else may be the secret
/// itself.
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
