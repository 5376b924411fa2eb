//! What is wrong, or may be: on standard error for people, and a document for programs.

use std::io;

use super::Output;
use super::json::{Body, ErrorDocument, FailureDocument, MessageDocument, ProblemDocument};
use super::terminal::columns;
use crate::config::{Problem, Report, render_warnings};
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::text::styled::Style;

impl Output {
    pub fn warn(&self, text: &str) {
        self.labelled("", Style::Grave, "warning", &self.named(text));
    }

    /// What the author of a configuration should know, each with its line and what to do.
    pub fn warnings(&self, warnings: &[Problem]) {
        if !warnings.is_empty() {
            let text = render_warnings(warnings, self.color_stderr, columns(&io::stderr()));
            self.written_to_stderr(text.trim_end());
        }
    }

    /// The same for who runs a command that does something else: a sentence each.
    pub fn warnings_in_short(&self, warnings: &[Problem]) {
        for (left, warning) in (0..warnings.len()).rev().zip(warnings) {
            let place = match warning.line {
                0 => warning.file.clone(),
                line => format!("{}:{line}", warning.file),
            };
            let more = if left == 0 {
                " (`lbctl check` says more)"
            } else {
                ""
            };
            let text = format!("{place}: {}{more}", warning.message);
            self.labelled("", Style::Caution, "warning", &text);
        }
    }

    /// What is wrong with the configuration.
    pub fn problems(&self, report: &Report) {
        let text = report.render(self.color_stderr, columns(&io::stderr()));
        self.written_to_stderr(text.trim_end());
        self.error(
            Exit::Usage,
            report.problems.iter().map(Into::into).collect(),
            Vec::new(),
        );
    }

    pub fn failure(&self, failure: &Failure) {
        self.messages(&failure.messages);
        self.failed(failure);
    }

    pub(super) fn messages(&self, messages: &[Message]) {
        self.end_live();
        for message in messages {
            let (style, label) = if message.note {
                (Style::Calm, "note")
            } else {
                (Style::Bad, "error")
            };
            self.labelled("", style, label, &self.named(&message.text));
            if !message.hint.is_empty() {
                self.labelled("  ", Style::Calm, "help", &message.hint);
            }
            for line in &message.detail {
                self.stderr(&format!("  | {line}").into());
            }
        }
    }

    fn failed(&self, failure: &Failure) {
        let messages = failure.messages.iter().map(MessageDocument::from);
        self.error(failure.exit, Vec::new(), messages.collect());
    }

    /// The document of a failure, for programs; people have read its text on standard error.
    fn error(&self, exit: Exit, problems: Vec<ProblemDocument>, messages: Vec<MessageDocument>) {
        let (uri, work) = self.so_far();
        let body = Body::Failure(FailureDocument {
            command: self.command.clone(),
            name: self.name.get().cloned(),
            time: None,
            uri,
            work,
            error: ErrorDocument {
                exit_code: Some(exit as u8),
                problems,
                messages,
            },
        });
        if let Some(document) = self.format.document(body) {
            // The exit code is that of a failure already.
            let _ = Self::document_line(&document);
        }
    }

    /// What is wrong with the command line, for programs; people have read it on standard error.
    pub fn usage(&self, message: &str) {
        let failure = Failure::new(Exit::Usage, MessageId::UsageWrong, message, "");
        self.failed(&failure);
    }
}
