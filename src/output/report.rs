//! What a command gives back: a report as a value, with a document for programs and a text for
//! people. The reports themselves are with their commands; `Output` prints them, and `format` says
//! which of the two is asked for.
//!
//! What is said while something happens (steps, questions, warnings) is not part of a report: the
//! operator wants it at once.

use crate::exit::{Exit, Message};
use crate::output::json::{Answer, Body};
use crate::text::styled::Styled;

/// The result of a command.
pub trait CommandReport {
    /// How lbctl ends.
    fn exit(&self) -> Exit;

    /// For programs. `None`: the text is itself for programs, such as a schema or a script.
    fn document(&self) -> Option<Answer>;

    /// For people. Empty where everything was said while it happened.
    fn text(&self, options: TextOptions) -> Vec<TextPart>;

    /// For programs, whole. Another one than the document where there are several.
    fn body(&self) -> Option<Body> {
        self.document().map(Body::from)
    }
}

/// How the text for people is wanted.
#[derive(Debug, Clone, Copy)]
pub struct TextOptions {
    /// Of the terminal; `None`: there is none, and lines may be as long as they are.
    pub columns: Option<usize>,
    /// More than what most people want to read.
    pub verbose: bool,
    /// Whether people get signs that are not ASCII beside the words.
    pub signs: bool,
}

/// A piece of a text, by how it is printed. All but the last three go to standard output. Without
/// `Debug`, for what is asked for with its secrets is among them.
#[derive(Clone, PartialEq, Eq)]
pub enum TextPart {
    /// A heading, broken to the terminal's width.
    Heading(Styled),
    /// A line, broken to the terminal's width.
    Line(Styled),
    /// A line that stays as long as it is.
    LongLine(Styled),
    /// Lines that fit already. The first one is their heading.
    Block(Vec<Styled>),
    /// Data: a file or a pipe gets it to the byte.
    Data(String),
    /// A line on standard error, for what is not data.
    Said(Styled),
    /// The same, for a line that stays as long as it is, such as a command to be copied.
    SaidLong(Styled),
    /// What went wrong with one of several, on standard error.
    Messages(Vec<Message>),
}

impl TextPart {
    /// A line of standard output in its shape for a terminal of so many columns. `None`: it is
    /// something else.
    #[must_use]
    pub fn shaped(&self, columns: Option<usize>) -> Option<Styled> {
        match self {
            Self::Heading(text) => Some(text.hang(columns).into_heading()),
            Self::Line(text) => Some(text.hang(columns)),
            Self::LongLine(text) => Some(text.clone()),
            Self::Block(_)
            | Self::Data(_)
            | Self::Said(_)
            | Self::SaidLong(_)
            | Self::Messages(_) => None,
        }
    }
}

/// A report that is the same for people and programs.
pub struct TextReport {
    pub exit: Exit,
    /// Empty where everything has been printed already.
    pub text: Vec<TextPart>,
}

impl TextReport {
    /// The report of a command that did what it is for.
    #[must_use]
    pub fn done(text: Vec<TextPart>) -> Self {
        Self {
            exit: Exit::Done,
            text,
        }
    }
}

impl CommandReport for TextReport {
    fn exit(&self) -> Exit {
        self.exit
    }

    fn document(&self) -> Option<Answer> {
        None
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        self.text.clone()
    }
}

/// The result of one update of many (`status --watch`).
pub trait WatchReport {
    /// For programs: one line of many.
    fn document(&self) -> Body;

    /// For people who read line after line: one block of many. Its first line is the heading.
    fn block(&self) -> Vec<Styled>;

    /// For people at a terminal: the whole screen. Its first line is the heading.
    fn screen(&self, columns: Option<usize>) -> Vec<Styled>;

    /// Shown below the screen, and removed when it ends.
    fn foot(&self, columns: Option<usize>) -> Vec<String>;
}
