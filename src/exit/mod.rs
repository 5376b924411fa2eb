//! How a command ends: the exit codes, and an end other than success with all that an operator
//! needs. Plain data: what makes a failure of an error is `output/failure`, and printing is
//! `output`'s.

mod id;

use std::fmt;

pub use id::MessageId;

/// Exit codes (docs/reference.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// There is something to do (`plan --exit-code`).
    Pending = 3,
    /// Needs consent, or is not lbctl's to touch.
    Refused = 4,
    /// Done, and not ready within `--wait`.
    NotReady = 5,
    /// By Ctrl-C (128 and the signal's number, as shells count).
    Interrupted = 130,
    /// By SIGTERM.
    Terminated = 143,
}

/// An end other than success, with everything an operator needs.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// What was being done, to what, and what the system said. Never empty.
    pub messages: Vec<Message>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub text: String,
    /// What to do about it. Empty where there is nothing.
    pub hint: String,
    /// Lines to be shown as they are, such as the console's last.
    pub detail: Vec<String>,
    /// Worth knowing beside the error, but not an error.
    pub note: bool,
}

impl Message {
    #[must_use]
    pub fn new(id: MessageId, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            id,
            text: text.into(),
            hint: hint.into(),
            detail: Vec::new(),
            note: false,
        }
    }

    /// Worth knowing beside an error.
    #[must_use]
    pub fn note(id: MessageId, text: impl Into<String>) -> Self {
        Self {
            note: true,
            ..Self::new(id, text, "")
        }
    }
}

impl Failure {
    #[must_use]
    pub fn new(
        exit: Exit,
        id: MessageId,
        text: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            exit,
            messages: vec![Message::new(id, text, hint)],
        }
    }

    /// A signal ended it, which is not an error.
    #[must_use]
    pub fn stopped(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            exit,
            messages: vec![Message::note(MessageId::Interrupted, text)],
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.messages.iter().map(|m| m.text.as_str()).collect();
        f.write_str(&texts.join("; "))
    }
}

impl std::error::Error for Failure {}
