//! Questions on the terminal.

use std::io::{self, IsTerminal};

use super::Output;
use super::terminal::columns;
use crate::text::sanitize::sanitize_for_terminal;
use crate::text::styled::Style;
use crate::text::width::hang;

/// An answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Now,
    Later,
    Never,
}

impl Output {
    /// Asks on the terminal; `None` where there is none.
    #[must_use]
    pub fn ask(&self, question: &str) -> Option<bool> {
        let answer = self.answer(&format!("{question} [y/N]"))?;
        Some(matches!(answer.as_str(), "y" | "yes"))
    }

    /// Asks on the terminal whether something is done now, later, or not at all; `None` where there
    /// is none.
    #[must_use]
    pub fn ask_when(&self, question: &str) -> Option<When> {
        let answer = self.answer(&format!("{question} [y]es / [l]ater / [N]o"))?;
        Some(match answer.as_str() {
            "y" | "yes" => When::Now,
            "l" | "later" => When::Later,
            _ => When::Never,
        })
    }

    /// Why an answer was not taken; the question comes again.
    pub fn not_taken(&self, why: &str, help: &str) {
        self.labelled("", Style::Bad, "error", why);
        if !help.is_empty() {
            self.labelled("  ", Style::Calm, "help", help);
        }
    }

    /// Asks for a text on the terminal, and offers one; `None` where there is none, or where nobody
    /// answers: the input has ended.
    #[must_use]
    pub fn ask_for(&self, question: &str, offered: &str, beside: &str) -> Option<String> {
        let beside = match beside {
            "" => String::new(),
            beside => format!(" ({beside})"),
        };
        let offer = match offered {
            "" => String::new(),
            offered => format!(" [{offered}]"),
        };
        let typed = self.typed(&format!("{question}{beside}{offer}:"))?;
        if typed.is_empty() {
            eprintln!();
            return None;
        }
        Some(match typed.trim() {
            "" => offered.to_owned(),
            answer => answer.to_owned(),
        })
    }

    /// The answer in lower case.
    fn answer(&self, question: &str) -> Option<String> {
        Some(self.typed(question)?.trim().to_ascii_lowercase())
    }

    /// The line with its end; empty where the input has ended.
    fn typed(&self, question: &str) -> Option<String> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        self.end_live();
        let question = hang(&sanitize_for_terminal(question), columns(&io::stderr()));
        eprint!("{question} ");
        let mut answer = String::new();
        self.pictures.asking(true);
        let read = io::stdin().read_line(&mut answer);
        self.pictures.asking(false);
        read.ok()?;
        Some(answer)
    }
}
