//! What a configuration key is declared to be: the types of the declarations in `keys`. No key is
//! named here.

use std::fmt;
use std::ops::RangeInclusive;

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Text, `{ file = … }` or `{ env = … }`.
    LongText,
    /// One or a list of what `LongText` takes.
    LongTexts,
    /// As `LongText`, and never shown.
    Secret,
    Integer,
    /// An integer or a float.
    Number,
    Boolean,
    /// True, false, or the number of a port.
    SwitchOrPort,
    /// A list of texts.
    Texts,
    /// A text or a list of texts.
    TextOrTexts,
    /// A text in HAProxy's syntax, or an integer of milliseconds.
    Time,
    /// A text with a unit, or an integer of bytes.
    Size,
    /// An integer of MiB, or a text with a unit.
    Memory,
    /// An integer of hours, or a text with a unit.
    Hours,
    /// A table whose keys are names of others: each has a text, an integer or a boolean.
    Pairs,
    Table,
    /// A list of tables.
    Tables,
}

impl Kind {
    /// What it takes, in a document's words.
    #[must_use]
    pub fn takes(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::LongText => "text, file or env",
            Self::LongTexts => "text, file or env, or a list of them",
            Self::Secret => "secret: text, file or env",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "true or false",
            Self::SwitchOrPort => "true, false or a port",
            Self::Texts => "list of texts",
            Self::TextOrTexts => "text or list of texts",
            Self::Time => "time",
            Self::Size => "size",
            Self::Memory => "MiB, or a size",
            Self::Hours => "hours, or a time",
            Self::Pairs => "table of names and values",
            Self::Table => "table",
            Self::Tables => "list of tables",
        }
    }

    /// Whether it is a single value that is no secret, which may come from a variable of the
    /// environment.
    #[must_use]
    pub fn is_plain(self) -> bool {
        match self {
            Self::Text
            | Self::Integer
            | Self::Number
            | Self::Boolean
            | Self::SwitchOrPort
            | Self::TextOrTexts
            | Self::Time
            | Self::Size
            | Self::Memory
            | Self::Hours => true,
            Self::LongText
            | Self::LongTexts
            | Self::Secret
            | Self::Texts
            | Self::Pairs
            | Self::Table
            | Self::Tables => false,
        }
    }

    /// A bound of such a value, with its unit. A time is rounded down to whole days where it is
    /// longer than one.
    #[must_use]
    pub fn quantity(self, number: i64) -> String {
        const DAY: i64 = 24 * 60 * 60 * 1000;
        let times = [(DAY, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let sizes = [
            (1 << 50, " PiB"),
            (1 << 40, " TiB"),
            (1 << 30, " GiB"),
            (1 << 20, " MiB"),
        ];
        let (units, least): (&[(i64, &str)], &str) = match self {
            Self::Time if number == 0 => return "0s".to_owned(),
            Self::Time if number > DAY => return format!("{}d", number / DAY),
            Self::Time => (&times, "ms"),
            Self::Size => (&sizes, " bytes"),
            _ => (&[], ""),
        };
        let whole = units.iter().find(|(unit, _)| number % unit == 0);
        match whole {
            Some((unit, name)) => format!("{}{name}", number / unit),
            None => format!("{number}{least}"),
        }
    }
}

/// Whether a key must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Wherever the table that it stands in is given (and is not switched off by its `enabled`).
    Required,
    Optional,
    /// One or the other, by what else is given: its reader decides, and `meaning` says it.
    Conditional,
}

/// A value that a declaration holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Literal {
    Bool(bool),
    Int(i64),
    Str(&'static str),
}

/// As TOML writes it.
impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Str(value) => toml::Value::from(*value).fmt(f),
        }
    }
}

/// What a value must be beyond its kind, as far as numbers or words say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// What its reader takes.
    Unbounded,
    /// Both included. A time counts in milliseconds, a size in bytes.
    Range { min: i64, max: i64 },
    /// Both excluded.
    Between { above: i64, below: i64 },
    /// One of these.
    Words(&'static [&'static str]),
    /// A text of that form (`forms`), or texts of it.
    Form(&'static str),
}

/// How a change of a key's value reaches a load balancer that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Now, without a restart, and no session is cut.
    Live,
    /// With the next restart of the guest, for which lbctl asks.
    Restart,
    /// With a new disk only: refused.
    Replace,
    /// It is another load balancer then; the one of the old name stays.
    Another,
    /// Used when the next certificate is issued.
    NextCertificate,
    /// Nothing of the load balancer depends on it.
    Nothing,
    /// A table: each key in it has its own.
    OfItsKeys,
}

impl Effect {
    /// In a document's words.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
            Self::Replace => "replace",
            Self::Another => "another VM",
            Self::NextCertificate => "next certificate",
            Self::Nothing => "none",
            Self::OfItsKeys => "",
        }
    }
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted; `[]` behind a list of tables.
    pub path: &'static str,
    pub kind: Kind,
    pub need: Need,
    /// `None`: there is none, or `meaning` says what it depends on.
    pub default: Option<Literal>,
    pub bounds: Bounds,
    /// How many entries it takes, of a list or of pairs. `None`: there is no limit.
    pub most: Option<i64>,
    effect: Effect,
    /// A value as it would be written in TOML. Empty for tables, and where the default serves.
    example: &'static str,
    pub meaning: &'static str,
}

impl Key {
    /// The last part of the path: what stands before the `=`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The path of the table it stands in; empty for the top level.
    #[must_use]
    pub fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// Its default as in TOML, `required`, or nothing: in a document's words.
    #[must_use]
    pub fn default_or_need(&self) -> String {
        match (self.default, self.need) {
            (Some(default), _) => default.to_string(),
            (None, Need::Required) => "required".to_owned(),
            (None, Need::Conditional) => "conditional".to_owned(),
            (None, Need::Optional) => String::new(),
        }
    }

    /// A value as it would be written in TOML; empty for tables.
    #[must_use]
    pub fn example(&self) -> String {
        self.default
            .map_or_else(|| self.example.to_owned(), |default| default.to_string())
    }

    /// What it takes and between which bounds, in a document's words. Words are explained in
    /// `meaning`.
    #[must_use]
    pub fn takes(&self) -> String {
        let takes = match self.most {
            Some(most) => format!("{}, at most {most}", self.kind.takes()),
            None => self.kind.takes().to_owned(),
        };
        let quantity = |number| self.kind.quantity(number);
        match self.bounds {
            Bounds::Unbounded | Bounds::Words(_) | Bounds::Form(_) => takes,
            Bounds::Range { min, max } => {
                format!("{takes}, {} to {}", quantity(min), quantity(max))
            }
            Bounds::Between { above, below } => {
                format!(
                    "{takes}, above {} and below {}",
                    quantity(above),
                    quantity(below)
                )
            }
        }
    }

    #[must_use]
    pub fn is_table(&self) -> bool {
        matches!(self.kind, Kind::Table | Kind::Tables)
    }

    /// How a change of its value reaches a load balancer that is there.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// How many entries it takes, of a list or of pairs.
    pub(super) fn most(&self) -> usize {
        let most = self.most.and_then(|most| usize::try_from(most).ok());
        most.unwrap_or(usize::MAX)
    }

    /// The numbers that it takes.
    pub(super) fn range(&self) -> RangeInclusive<i64> {
        match self.bounds {
            Bounds::Range { min, max } => min..=max,
            _ => i64::MIN..=i64::MAX,
        }
    }
}

/// How `keys` declares them. No declaration is complete without an effect.
impl Key {
    pub(super) const fn required(
        path: &'static str,
        kind: Kind,
        effect: Effect,
        example: &'static str,
        meaning: &'static str,
    ) -> Self {
        let need = Need::Required;
        Self {
            need,
            ..Self::optional(path, kind, effect, example, meaning)
        }
    }

    /// Required or not, by what else is given.
    pub(super) const fn conditional(
        path: &'static str,
        kind: Kind,
        effect: Effect,
        example: &'static str,
        meaning: &'static str,
    ) -> Self {
        let need = Need::Conditional;
        Self {
            need,
            ..Self::optional(path, kind, effect, example, meaning)
        }
    }

    pub(super) const fn optional(
        path: &'static str,
        kind: Kind,
        effect: Effect,
        example: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self {
            path,
            kind,
            need: Need::Optional,
            default: None,
            bounds: Bounds::Unbounded,
            most: None,
            effect,
            example,
            meaning,
        }
    }

    /// Optional, with a default that serves as the example.
    pub(super) const fn default(
        path: &'static str,
        kind: Kind,
        effect: Effect,
        default: Literal,
        meaning: &'static str,
    ) -> Self {
        Self {
            default: Some(default),
            ..Self::optional(path, kind, effect, "", meaning)
        }
    }

    pub(super) const fn table(path: &'static str, need: Need, meaning: &'static str) -> Self {
        let table = Self::optional(path, Kind::Table, Effect::OfItsKeys, "", meaning);
        Self { need, ..table }
    }

    /// A list of tables, which may be left out.
    pub(super) const fn tables(path: &'static str, meaning: &'static str) -> Self {
        Self::optional(path, Kind::Tables, Effect::OfItsKeys, "", meaning)
    }

    /// Both included.
    pub(super) const fn within(self, min: i64, max: i64) -> Self {
        let bounds = Bounds::Range { min, max };
        Self { bounds, ..self }
    }

    /// Both excluded.
    pub(super) const fn strictly_between(self, above: i64, below: i64) -> Self {
        let bounds = Bounds::Between { above, below };
        Self { bounds, ..self }
    }

    /// What its texts look like, one of `forms`.
    pub(super) const fn form(self, form: &'static str) -> Self {
        let bounds = Bounds::Form(form);
        Self { bounds, ..self }
    }

    /// No more entries than this, of a list or of pairs.
    pub(super) const fn at_most(self, most: i64) -> Self {
        let most = Some(most);
        Self { most, ..self }
    }

    pub(super) const fn words(self, words: &'static [&'static str]) -> Self {
        let bounds = Bounds::Words(words);
        Self { bounds, ..self }
    }
}
