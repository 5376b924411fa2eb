//! What is wrong with a configuration, as data and as text with the source line and a caret. Knows
//! nothing of what the keys mean. It never shows a secret: the ranges to hide are given to it, and
//! it cuts them out of the source line.

use std::fmt::{self, Write as _};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use schemars::JsonSchema;
use serde::Serialize;

use crate::secret::MASK;
use crate::text::sanitize::drives_terminal;
use crate::text::width::wrap;

/// How many problems are shown before the rest is only counted.
const SHOWN: usize = 40;
/// Longest part of a source line that is shown on either side, and of a marked value, in
/// characters.
const PART: usize = 60;

/// What is wrong with a configuration, for programs. Words may change, an id keeps its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemId {
    /// The file cannot be read.
    FileUnreadable,
    /// The file is too large to be a configuration.
    FileTooLarge,
    /// The file is not UTF-8 text.
    FileNotText,
    /// The file is empty.
    FileEmpty,
    /// The file is not valid TOML.
    Syntax,
    /// There is no such key, or not in that place.
    UnknownKey,
    /// A key or a section that is needed is missing or empty.
    MissingKey,
    /// The value has another type than the key takes.
    WrongType,
    /// The key does not take that value.
    InvalidValue,
    /// The value comes from a file or a variable that cannot be read.
    ReferenceUnreadable,
    /// Two values do not go together.
    Conflict,
    /// The CA is not in force at this time.
    CaNotInForce,
    /// lbctl cannot say what is wrong, which is a defect of lbctl.
    Unexplained,
    /// A warning: it is worth knowing, and the configuration is accepted.
    Advice,
}

/// One thing that is wrong (or, as a warning, worth knowing), and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub id: ProblemId,
    /// Dotted path of the key, such as `haproxy.check.rise` or `libvirt_networks[0].ip`. Empty:
    /// the file as a whole.
    pub key: String,
    /// First line is 1. 0: no place in the file, for instance a key that is missing at the top
    /// level.
    pub line: usize,
    /// In characters, the first is 1. 0: no place.
    pub column: usize,
    pub message: String,
    /// What to do, in the imperative.
    pub help: String,
    /// The file that it is in: that of the configuration, or one that this extends.
    pub file: String,
    excerpts: Vec<Excerpt>,
}

/// A source line made fit to be shown, with the place the caret points at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    file: String,
    line: usize,
    /// In the file; in `text` it may be another, for what stands before may be masked or cut.
    column: usize,
    text: String,
    span: Range<usize>,
    label: Option<String>,
}

/// What is wrong with a base that several files extend is found in each of them, and told once.
pub(super) fn add_each_once(all: &mut Vec<Problem>, more: Vec<Problem>) {
    for problem in more {
        if !all.contains(&problem) {
            all.push(problem);
        }
    }
}

/// All that is wrong with one file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// As it was named to `parse` or `load`.
    pub file: String,
    /// In the order of the file.
    pub problems: Vec<Problem>,
}

impl Report {
    /// A report of one problem with the file as a whole.
    #[must_use]
    pub(super) fn whole_file(
        id: ProblemId,
        file: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let problem = Problem {
            id,
            key: String::new(),
            line: 0,
            column: 0,
            message: message.into(),
            help: help.into(),
            file: file.into(),
            excerpts: Vec::new(),
        };
        Self {
            file: file.into(),
            problems: vec![problem],
        }
    }

    /// The whole report as text that ends with a newline.
    #[must_use]
    pub fn render(&self, color: bool, columns: Option<usize>) -> String {
        let mut text = render(&self.problems, &Level::ERROR, color, columns);
        if self.problems.len() > SHOWN {
            let _ = write!(text, "... and {} more\n\n", self.problems.len() - SHOWN);
        }
        if self.problems.len() > 1 {
            let _ = writeln!(
                text,
                "{} problems in {}",
                self.problems.len(),
                plain(&self.file)
            );
        } else {
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false, None))
    }
}

impl std::error::Error for Report {}

/// Warnings as text, each followed by an empty line. Empty without any.
#[must_use]
pub fn render_warnings(warnings: &[Problem], color: bool, columns: Option<usize>) -> String {
    render(warnings, &Level::WARNING, color, columns)
}

fn render(
    problems: &[Problem],
    level: &Level<'static>,
    color: bool,
    columns: Option<usize>,
) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut text = String::new();
    for problem in problems.iter().take(SHOWN) {
        text.push_str(&problem.render(level.clone(), &renderer, columns));
        text.push_str("\n\n");
    }
    text
}

/// For a terminal, in lines that leave room for what stands before them.
fn folded(text: &str, columns: Option<usize>) -> String {
    const BEFORE: usize = 12;
    columns.map_or_else(
        || text.to_owned(),
        |columns| wrap(text, columns.saturating_sub(BEFORE)).join("\n"),
    )
}

impl Problem {
    /// The place of a problem with what there is to say of it, and another place that belongs to
    /// it, perhaps in another file.
    pub(super) fn saying(
        mut self,
        id: ProblemId,
        message: String,
        help: &str,
        other: Option<(&Self, &str)>,
    ) -> Self {
        let there = other.and_then(|(there, label)| {
            Some(Excerpt {
                label: Some(label.to_owned()),
                ..there.excerpts.first()?.clone()
            })
        });
        self.excerpts.extend(there);
        Self {
            id,
            message,
            help: help.to_owned(),
            ..self
        }
    }

    fn render(&self, level: Level<'static>, renderer: &Renderer, columns: Option<usize>) -> String {
        let path = plain(&self.file);
        let paths: Vec<String> = self.excerpts.iter().map(|e| plain(&e.file)).collect();
        let (message, help) = (folded(&self.message, columns), folded(&self.help, columns));
        let mut group = Group::with_title(level.primary_title(message.as_str()));
        for (place, (excerpt, path)) in self.excerpts.iter().zip(&paths).enumerate() {
            let kind = if place == 0 {
                AnnotationKind::Primary
            } else {
                AnnotationKind::Context
            };
            let mark = kind
                .span(excerpt.span.clone())
                .label(excerpt.label.as_deref());
            let snippet = Snippet::source(excerpt.text.as_str())
                .line_start(excerpt.line)
                .path(path.as_str());
            group = group.element(snippet.annotation(mark));
        }
        if self.excerpts.is_empty() {
            group = group.element(Origin::path(path.as_str()));
        }
        if !self.help.is_empty() {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let mut text = renderer.render(&[group]);
        for (excerpt, path) in self.excerpts.iter().zip(&paths) {
            let shown = excerpt.text[..excerpt.span.start].chars().count() + 1;
            let wrong = format!("{path}:{}:{shown}", excerpt.line);
            text = text.replacen(
                &wrong,
                &format!("{path}:{}:{}", excerpt.line, excerpt.column),
                1,
            );
        }
        text
    }
}

/// A problem before it is tied to its source: spans are byte offsets into the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub id: ProblemId,
    pub key: String,
    pub span: Option<Range<usize>>,
    pub message: String,
    pub help: String,
    /// A second place that belongs to it, and what to say there.
    pub other: Option<(Range<usize>, String)>,
}

/// The text of a configuration and the byte ranges in it that must not be shown.
#[derive(Debug)]
pub(super) struct SourceText<'a> {
    /// Its files, each with where it begins in the text. Never empty.
    pub files: Vec<(usize, &'a str)>,
    pub text: &'a str,
    pub hidden: Vec<Range<usize>>,
}

impl<'a> SourceText<'a> {
    /// Of one file.
    pub fn of_file(file: &'a str, text: &'a str, hidden: Vec<Range<usize>>) -> Self {
        Self {
            files: vec![(0, file)],
            text,
            hidden,
        }
    }

    /// The file that a place is in, and where that begins.
    fn file_at(&self, place: usize) -> (usize, &'a str) {
        let found = self.files.iter().rfind(|(start, _)| *start <= place);
        found.or(self.files.first()).copied().unwrap_or_default()
    }

    /// The drafts as problems, in the order of the file; those without a place come first.
    pub fn problems(&self, mut drafts: Vec<Draft>) -> Vec<Problem> {
        drafts.sort_by_key(|draft| draft.span.as_ref().map_or(0, |span| span.start + 1));
        drafts
            .into_iter()
            .map(|draft| self.problem(draft))
            .collect()
    }

    pub fn problem(&self, draft: Draft) -> Problem {
        let mut excerpts = Vec::new();
        if let Some(span) = &draft.span {
            excerpts.push(self.excerpt(span, None));
        }
        if let Some((span, label)) = draft.other {
            excerpts.push(self.excerpt(&span, Some(label)));
        }
        let (line, column) = excerpts.first().map_or((0, 0), |e| (e.line, e.column));
        let (_, file) = self.file_at(draft.span.as_ref().map_or(0, |span| span.start));
        let file = file.to_owned();
        Problem {
            id: draft.id,
            key: draft.key,
            line,
            column,
            message: draft.message,
            help: draft.help,
            file,
            excerpts,
        }
    }

    /// The first line of `span`, masked, shortened and with the place of the caret in what is left.
    fn excerpt(&self, span: &Range<usize>, label: Option<String>) -> Excerpt {
        let start = floor(self.text, span.start);
        let (file_start, file) = self.file_at(start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..]
            .find('\n')
            .map_or(self.text.len(), |at| start + at);
        let line_end = line_start + self.text[line_start..line_end].trim_end_matches('\r').len();
        let start = start.min(line_end);
        let end = floor(self.text, span.end).clamp(start, line_end);
        let column = self.text[line_start..start].chars().count() + 1;
        let (start, end) = self.whole_masks(start, end, line_start, line_end);

        let before = self.shown(line_start..start);
        let marked = self.shown(start..end);
        let after = self.shown(end..line_end);
        let before = keep_end(&before);
        let marked = keep_start(&marked);
        let text = format!("{before}{marked}{}", keep_start(&after));
        let span = before.len()..before.len() + marked.len();
        Excerpt {
            file: file.to_owned(),
            line: self.text[file_start..line_start].matches('\n').count() + 1,
            column,
            text,
            span,
            label,
        }
    }

    /// The place widened to the whole of every mask that it touches, within its line.
    fn whole_masks(&self, start: usize, end: usize, first: usize, last: usize) -> (usize, usize) {
        let touched = self
            .hidden
            .iter()
            .filter(|hidden| hidden.start < end.max(start + 1) && hidden.end > start);
        touched.fold((start, end), |(start, end), hidden| {
            (
                start.min(hidden.start).max(first),
                end.max(hidden.end).min(last),
            )
        })
    }

    /// A part of the text with the mask in the place of everything hidden.
    fn shown(&self, part: Range<usize>) -> String {
        let mut shown = String::new();
        let mut at = part.start;
        let mut hidden: Vec<_> = self
            .hidden
            .iter()
            .filter(|h| h.start < part.end && h.end > part.start)
            .collect();
        hidden.sort_by_key(|h| h.start);
        for range in hidden {
            let (from, to) = (range.start.max(at), range.end.min(part.end));
            if from < to {
                shown.push_str(&self.text[at..from]);
                shown.push_str(MASK);
                at = to;
            }
        }
        shown.push_str(&self.text[at..part.end]);
        // The renderer has signs of its own for ASCII's control characters, and none for the
        // others.
        shown.replace(|c: char| drives_terminal(c) && !c.is_ascii(), "\u{fffd}")
    }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn keep_start(part: &str) -> String {
    match part.char_indices().nth(PART) {
        Some((at, _)) => format!("{}...", &part[..at]),
        None => part.to_owned(),
    }
}

fn keep_end(part: &str) -> String {
    let length = part.chars().count();
    match part.char_indices().nth(length.saturating_sub(PART)) {
        Some((at, _)) if at > 0 => format!("...{}", &part[at..]),
        _ => part.to_owned(),
    }
}

/// A value from outside as it may stand in a message: in quotes, control characters escaped, and
/// shortened so that it does not flood the terminal.
pub(super) fn quoted(value: &str) -> String {
    if may_hold_secret(value) {
        return format!("\"{MASK}\"");
    }
    let length = value.chars().count();
    let start: String = value.chars().take(PART).collect();
    let escaped = plain(&start);
    if length > PART {
        format!("\"{escaped}...\" ({length} characters)")
    } else {
        format!("\"{escaped}\"")
    }
}

/// Whether a text has a secret in it wherever it stands: a private key, or a URL with a login or a
/// query, which may be a signature.
pub(super) fn may_hold_secret(text: &str) -> bool {
    let login = text.split_once("://").is_some_and(|(scheme, rest)| {
        let authority = rest.split('/').next().unwrap_or(rest);
        let login = authority.rsplit_once('@').map(|(login, _)| login);
        let query = scheme.starts_with("http") && rest.contains('?');
        query || login.is_some_and(|login| login.contains(':') || scheme.starts_with("http"))
    });
    login || text.contains("PRIVATE KEY")
}

/// Without control and invisible formatting characters, which could rewrite the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escape = drives_terminal(c);
            let escaped = escape.then(|| c.escape_default());
            (!escape)
                .then_some(c)
                .into_iter()
                .chain(escaped.into_iter().flatten())
        })
        .collect()
}
