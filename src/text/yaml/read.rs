//! Reading a document of YAML that somebody else wrote, as it was written: no scalar is taken for a
//! number, a truth or a time, for only its reader knows which it is. The parser gives events and
//! does not nest; what nests here is bounded.

use std::collections::HashSet;
use std::fmt;

use yaml_rust2::Event;
use yaml_rust2::parser::Parser;
use yaml_rust2::scanner::TScalarStyle;

use super::Quoted;

/// A value as it was written. Without `Debug`: it may hold secrets.
#[derive(Clone, PartialEq)]
pub enum Node {
    Scalar { text: String, plain: bool },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The value of a key of a map.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(entries) = self else {
            return None;
        };
        let is = |node: &Self| matches!(node, Self::Scalar { text, .. } if text == name);
        let (_, value) = entries.iter().find(|(key, _)| is(key))?;
        Some(value)
    }

    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar { text, .. } => Some(text),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The text of a key of a map.
    #[must_use]
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.get(name)?.text()
    }

    /// What a list holds; nothing for everything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Scalar { .. } | Self::Map(_) => &[],
        }
    }
}

/// In flow style, so that no indentation matters. A plain word of characters that mean nothing
/// there stays as it is, for only its reader knows whether it is a number, a truth or a time;
/// everything else is a text.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar { text, plain: true } if text.is_empty() => f.write_str("~"),
            Self::Scalar { text, plain: true } if is_plain_word(text) => f.write_str(text),
            Self::Scalar { text, .. } => Quoted(text).fmt(f),
            Self::List(items) => {
                f.write_str("[")?;
                for (place, item) in items.iter().enumerate() {
                    let between = if place > 0 { ", " } else { "" };
                    write!(f, "{between}{item}")?;
                }
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("{")?;
                for (place, (key, value)) in entries.iter().enumerate() {
                    let between = if place > 0 { ", " } else { "" };
                    write!(f, "{between}{key}: {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn is_plain_word(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'+' | b'-' | b':');
    let alone = matches!(text, "" | "-" | "---" | "...");
    let edges = text.starts_with(':') || text.ends_with(':');
    text == "~" || (text.bytes().all(fine) && !alone && !edges)
}

/// Why a text was not read. Its words name no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum YamlError {
    /// Not YAML; the place is counted from 1, and 0 where there is none.
    Syntax {
        line: usize,
        column: usize,
    },
    Empty,
    Several,
    TooDeep,
    Tag,
    Alias,
    Merge,
    /// A key that comes twice in one map.
    Twice(String),
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line: 0, .. } => f.write_str("cannot be read as YAML"),
            Self::Syntax { line, column } => {
                write!(f, "cannot be read as YAML: line {line}, column {column}")
            }
            Self::Empty => f.write_str("is empty"),
            Self::Several => f.write_str("has more than one document in it"),
            Self::TooDeep => f.write_str("is nested too deep"),
            Self::Tag => f.write_str("has a tag (`!…`) in it"),
            Self::Alias => f.write_str("has an alias (`*…`) in it"),
            Self::Merge => f.write_str("has a merge key (`<<`) in it"),
            Self::Twice(_) => f.write_str("has a key twice"),
        }
    }
}

impl std::error::Error for YamlError {}

/// Reads the one document of a text, whose values are nested at most `deepest` times.
pub fn read(text: &str, deepest: usize) -> Result<Node, YamlError> {
    let mut events = Events {
        parser: Parser::new_from_str(text),
        depth: 0,
        deepest,
    };
    match events.next()? {
        Event::StreamStart => {}
        _ => return Err(NO_PLACE),
    }
    match events.next()? {
        Event::DocumentStart => {}
        _ => return Err(YamlError::Empty),
    }
    let event = events.next()?;
    let node = events.node(event)?;
    match (events.next()?, events.next()?) {
        (Event::DocumentEnd, Event::StreamEnd) => Ok(node),
        _ => Err(YamlError::Several),
    }
}

const NO_PLACE: YamlError = YamlError::Syntax { line: 0, column: 0 };

struct Events<'t> {
    parser: Parser<std::str::Chars<'t>>,
    depth: usize,
    deepest: usize,
}

impl Events<'_> {
    fn next(&mut self) -> Result<Event, YamlError> {
        let read = self.parser.next_token();
        read.map(|(event, _)| event)
            .map_err(|error| YamlError::Syntax {
                line: error.marker().line(),
                column: error.marker().col() + 1,
            })
    }

    fn node(&mut self, event: Event) -> Result<Node, YamlError> {
        self.depth += 1;
        if self.depth > self.deepest {
            return Err(YamlError::TooDeep);
        }
        let node = match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => return Err(YamlError::Tag),
            Event::Alias(_) => return Err(YamlError::Alias),
            Event::Scalar(text, style, ..) => Node::Scalar {
                text,
                plain: style == TScalarStyle::Plain,
            },
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break Node::List(items),
                        event => items.push(self.node(event)?),
                    }
                }
            }
            Event::MappingStart(..) => Node::Map(self.entries()?),
            _ => return Err(NO_PLACE),
        };
        self.depth -= 1;
        Ok(node)
    }

    fn entries(&mut self) -> Result<Vec<(Node, Node)>, YamlError> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        let mut seen: HashSet<(String, bool)> = HashSet::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(entries),
                event => self.node(event)?,
            };
            if let Node::Scalar { text, plain } = &key {
                if text == "<<" {
                    return Err(YamlError::Merge);
                }
                if !seen.insert((text.clone(), *plain)) {
                    return Err(YamlError::Twice(text.clone()));
                }
            }
            let event = self.next()?;
            entries.push((key, self.node(event)?));
        }
    }
}
