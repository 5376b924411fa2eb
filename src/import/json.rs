//! JSON that somebody else wrote and that may be hostile, with secrets in it: bounded in size,
//! depth and number of values, and every text is wiped when it is dropped.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use crate::secret::Secret;

/// Below the depth at which `serde_json` gives up by itself.
const DEEPEST: usize = 64;
/// Each takes some tens of bytes of memory.
const MOST_VALUES: usize = 1_000_000;

/// A value. Its `Debug` masks each text.
#[derive(Debug)]
pub enum Json {
    Null,
    Bool(bool),
    Whole(i64),
    /// Every other number: nobody asks for it.
    Number,
    Text(Secret),
    List(Vec<Json>),
    /// In the order of the document, where a key may come twice.
    Map(Vec<(String, Json)>),
}

/// Why a text is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonError {
    /// Not JSON, at that place, counted from 1.
    Syntax {
        line: usize,
        column: usize,
    },
    /// It is empty, or ends in the middle.
    Cut,
    TooDeep,
    TooMany,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, column } => {
                write!(f, "is not JSON (line {line}, column {column})")
            }
            Self::Cut => f.write_str("is empty or cut off: it ends in the middle"),
            Self::TooDeep => write!(f, "is nested more than {DEEPEST} times"),
            Self::TooMany => write!(f, "holds more than {MOST_VALUES} values"),
        }
    }
}

impl std::error::Error for JsonError {}

impl Json {
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        let limits = Limits {
            left: Cell::new(MOST_VALUES),
            hit: Cell::new(None),
        };
        let mut reader = serde_json::Deserializer::from_slice(text);
        let tree = Tree {
            limits: &limits,
            depth: 0,
        };
        let read = tree.deserialize(&mut reader);
        let read = read.and_then(|json| reader.end().map(|()| json));
        read.map_err(|error| match limits.hit.get() {
            Some(hit) => hit,
            None if error.is_eof() => JsonError::Cut,
            None => JsonError::Syntax {
                line: error.line(),
                column: error.column(),
            },
        })
    }

    /// The value of a key of a map; of two, the last, as Terraform reads it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else {
            return None;
        };
        let mut from_last = entries.iter().rev();
        from_last
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    #[must_use]
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a key of a map, where it is not empty: a provider writes what was left out so.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        let text = self.get(key)?.secret()?.expose();
        (!text.is_empty()).then_some(text)
    }

    #[must_use]
    pub fn whole(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Self::Whole(number) => Some(*number),
            _ => None,
        }
    }

    /// What the list of a key of a map holds.
    #[must_use]
    pub fn list(&self, key: &str) -> &[Self] {
        match self.get(key) {
            Some(Self::List(items)) => items,
            _ => &[],
        }
    }
}

struct Limits {
    left: Cell<usize>,
    hit: Cell<Option<JsonError>>,
}

/// Makes one value, deep within others.
struct Tree<'l> {
    limits: &'l Limits,
    depth: usize,
}

impl Tree<'_> {
    fn beyond<E: serde::de::Error>(&self, hit: JsonError) -> E {
        self.limits.hit.set(Some(hit));
        E::custom("")
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = self.limits.left.get().checked_sub(1);
        self.limits
            .left
            .set(left.ok_or_else(|| self.beyond(JsonError::TooMany))?);
        Ok(())
    }

    /// For what is within this value.
    fn inner<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth == DEEPEST {
            return Err(self.beyond(JsonError::TooDeep));
        }
        Ok(Self {
            limits: self.limits,
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        self.count()?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Whole(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::Number, Json::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(Secret::new(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner()?)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.count::<A::Error>()?;
            map.push((key, entries.next_value_seed(self.inner()?)?));
        }
        Ok(Json::Map(map))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_named() {
        let deep = "[".repeat(100_000);
        let many = format!("[{}0]", "0,".repeat(MOST_VALUES));
        for (text, expected) in [
            ("", JsonError::Cut),
            (r#"{"a": [1, "#, JsonError::Cut),
            (&deep, JsonError::TooDeep),
            (&many, JsonError::TooMany),
            ("{,}", JsonError::Syntax { line: 1, column: 2 }),
            ("{} {}", JsonError::Syntax { line: 1, column: 4 }),
        ] {
            assert_eq!(Json::parse(text.as_bytes()).unwrap_err(), expected);
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn of_two_values_the_last_counts_and_none_is_shown() {
        let json = Json::parse(br#"{"a": "x", "b": 7, "a": "hunter2", "c": ""}"#).unwrap();
        assert_eq!(json.text("a"), Some("hunter2"));
        assert_eq!(json.whole("b"), Some(7));
        assert_eq!(json.text("c"), None);
        assert!(!format!("{json:?}").contains("hunter2"));
    }
}
