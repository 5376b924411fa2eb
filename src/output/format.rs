//! In which format a report is printed. This is the only place that distinguishes the formats: a
//! new one is an option in `cli`, and a variant here.

use serde_json::{to_string, to_string_pretty};

use crate::cli::Global;
use crate::output::json::{Body, Document, EventLine};
use crate::text::sanitize::escape_json;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For programs that read while lbctl works: a line for each event, and the document as the
    /// last one.
    Events,
}

impl Format {
    pub(super) fn new(global: &Global) -> Self {
        if global.events {
            Self::Events
        } else if global.json {
            Self::Json
        } else {
            Self::Text
        }
    }

    /// Whether people read, and not a program.
    pub(super) fn is_text(self) -> bool {
        self == Self::Text
    }

    /// The one document of a command; `None`: people get a text in its place.
    pub(super) fn document(self, body: Body) -> Option<String> {
        match self {
            Self::Text => None,
            Self::Json => Some(json(to_string_pretty(&Document::new(body)))),
            Self::Events => self.line(body),
        }
    }

    /// An event, on a line; `None`: nobody asked for them.
    pub(super) fn event(self, line: &EventLine) -> Option<String> {
        match self {
            Self::Text | Self::Json => None,
            Self::Events => Some(json(to_string(line))),
        }
    }

    /// One document of many, without a line break in it; `None`: people get a text in its place.
    pub(super) fn line(self, body: Body) -> Option<String> {
        match self {
            Self::Text => None,
            Self::Json | Self::Events => Some(json(to_string(&Document::new(body)))),
        }
    }
}

fn json(text: serde_json::Result<String>) -> String {
    escape_json(&text.unwrap_or_default()).into_owned()
}
