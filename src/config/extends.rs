//! `extends = "base.toml"`: a configuration that has the keys of another one, but for those that it
//! gives itself. Here the files of such a chain are read and put together into one tree, whose
//! places are those of one text that has all files one after the other: so every problem points to
//! the file that it is in ([`Sources`]).
//!
//! Tables are put together key by key, and everything else of the extending file takes the place of
//! what is in the other. A path in a file starts at the folder of that file; in the tree all start
//! at the folder of the first.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned as InFile;
use toml::de::{DeArray, DeTable, DeValue};

use super::inputs::{Inputs, MAX_INPUT, reason};
use super::keys::{self, Kind};
use super::reader::join;
use super::report::{Draft, ProblemId, Report, SourceText, quoted};
use super::syntax;

pub(super) const EXTENDS: &str = "extends";
/// Files in a chain.
const MOST: usize = 8;

/// The files that a configuration is in, one after the other: each extends the next.
#[derive(Debug)]
pub(super) struct Sources {
    files: Vec<SourceFile>,
    /// Of all files.
    text: String,
}

#[derive(Debug)]
pub(super) struct SourceFile {
    /// As it is shown.
    pub name: String,
    /// Relative to that of the first.
    folder: PathBuf,
    /// Where it begins and ends in the text of all.
    span: Range<usize>,
    /// Every user of this machine may read it.
    pub is_open: bool,
}

impl Sources {
    /// Reads the files that the first one extends. `is_open` is of the first.
    pub fn read(
        text: &str,
        name: &str,
        inputs: &dyn Inputs,
        is_open: bool,
    ) -> Result<Self, Report> {
        let mut sources = Self {
            files: Vec::new(),
            text: String::new(),
        };
        sources.add(name, text, PathBuf::new(), is_open);
        let mut paths: Vec<PathBuf> = Vec::new();
        while let Some((named, span)) = sources.next()? {
            let folder = sources.files.last().map(|file| file.folder.clone());
            let path = folder.unwrap_or_default().join(&named);
            let wrong = |what: String, help: &str| sources.wrong(span.clone(), what, help);
            let real = inputs.path(&path);
            let real = real.canonicalize().unwrap_or(real);
            let is_known = paths.contains(&real) || real == Path::new(name);
            if is_known || sources.files.len() >= MOST {
                let help = "let each extend one that does not lead back to it";
                let what = if is_known {
                    format!(
                        "`{EXTENDS}` leads to {} again: the files extend each other in a circle",
                        quoted(&named)
                    )
                } else {
                    format!("`{EXTENDS}` leads to more than {MOST} files")
                };
                return Err(wrong(what, help));
            }
            let content = inputs.file(&path).map_err(|error| {
                let what = format!(
                    "`{EXTENDS}` is {}, which cannot be read: {}",
                    quoted(&named),
                    reason(&error)
                );
                wrong(
                    what,
                    "correct the path, which starts at the folder of this file",
                )
            })?;
            if content.len() as u64 > MAX_INPUT {
                let what = format!(
                    "`{EXTENDS}` is {}, which is larger than 1 MiB",
                    quoted(&named)
                );
                return Err(wrong(what, "name a configuration"));
            }
            let text = String::from_utf8(content).map_err(|_| {
                let what = format!("`{EXTENDS}` is {}, which is not UTF-8 text", quoted(&named));
                wrong(what, "name a configuration, saved as UTF-8")
            })?;
            let shown = Path::new(name)
                .parent()
                .unwrap_or(Path::new(""))
                .join(&path);
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            let is_open = inputs.is_open_to_all(&path);
            sources.add(&shown.display().to_string(), &text, folder, is_open);
            paths.push(real);
        }
        Ok(sources)
    }

    fn add(&mut self, name: &str, text: &str, folder: PathBuf, is_open: bool) {
        let start = self.text.len();
        self.text.push_str(text);
        let span = start..self.text.len();
        // A line that has no end is not to go on in the next file.
        self.text.push('\n');
        self.files.push(SourceFile {
            name: name.to_owned(),
            folder,
            span,
            is_open,
        });
    }

    /// What the last file extends, and where it says so.
    fn next(&self) -> Result<Option<(String, Range<usize>)>, Report> {
        let Some(file) = self.files.last() else {
            return Ok(None);
        };
        let tree = syntax::tree(self.text_of(file), &file.name)?;
        let Some(value) = tree.get_ref().get(EXTENDS) else {
            return Ok(None);
        };
        let span = moved(&value.span(), file.span.start);
        match value.get_ref() {
            DeValue::String(path) if path.is_empty() => Ok(None),
            DeValue::String(path) if !path.contains(char::is_control) => {
                Ok(Some((path.to_string(), span)))
            }
            _ => {
                let what = format!("`{EXTENDS}` must be the path of one other configuration");
                let help = "write it in quotes, such as: extends = \"base.toml\"";
                Err(self.wrong(span, what, help))
            }
        }
    }

    fn wrong(&self, span: Range<usize>, message: String, help: &str) -> Report {
        let draft = Draft {
            id: ProblemId::ReferenceUnreadable,
            key: EXTENDS.to_owned(),
            span: Some(span),
            message,
            help: help.to_owned(),
            other: None,
        };
        Report {
            file: self.first().to_owned(),
            problems: self.shown(Vec::new()).problems(vec![draft]),
        }
    }

    /// The tree of all files.
    pub fn tree(&self) -> Result<DeTable<'_>, Report> {
        let mut whole: Option<DeTable<'_>> = None;
        // The one that is extended by all others comes first.
        for file in self.files.iter().rev() {
            let tree = syntax::tree(self.text_of(file), &file.name)?;
            let mut table = moved_table(tree.into_inner(), file.span.start);
            // It is followed already; what stays is the key of the first, which shows that there
            // is one.
            if file.span.start > 0 {
                table.remove(EXTENDS);
                from_folder(&mut table, "", &file.folder);
            }
            whole = Some(match whole {
                Some(base) => extended(base, table, ""),
                None => table,
            });
        }
        Ok(whole.unwrap_or_default())
    }

    /// With what must not be shown of it.
    pub fn shown(&self, hidden: Vec<Range<usize>>) -> SourceText<'_> {
        SourceText {
            files: self
                .files
                .iter()
                .map(|file| (file.span.start, file.name.as_str()))
                .collect(),
            text: &self.text,
            hidden,
        }
    }

    /// The name of the file that extends all others.
    pub fn first(&self) -> &str {
        self.files.first().map_or("", |file| &file.name)
    }

    pub fn file_at(&self, place: usize) -> Option<&SourceFile> {
        self.files.iter().rfind(|file| file.span.start <= place)
    }

    /// The file that a place is in, and its line there.
    pub fn line_at(&self, at: usize) -> Option<(String, usize)> {
        let file = self.file_at(at)?;
        let before = self.text.get(file.span.start..at).unwrap_or_default();
        Some((file.name.clone(), before.matches('\n').count() + 1))
    }

    /// The same in words.
    pub fn place(&self, at: usize) -> String {
        let words = |(file, line)| format!("{file}, line {line}");
        self.line_at(at).map_or_else(String::new, words)
    }

    fn text_of(&self, file: &SourceFile) -> &str {
        self.text.get(file.span.clone()).unwrap_or_default()
    }
}

fn moved(span: &Range<usize>, by: usize) -> Range<usize> {
    span.start + by..span.end + by
}

fn moved_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let entries = table.into_iter();
    entries
        .map(|(name, value)| {
            let span = moved(&name.span(), by);
            (InFile::new(span, name.into_inner()), moved_value(value, by))
        })
        .collect()
}

fn moved_value(value: InFile<DeValue<'_>>, by: usize) -> InFile<DeValue<'_>> {
    let span = moved(&value.span(), by);
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved_table(table, by)),
        DeValue::Array(items) => {
            let mut array = DeArray::new();
            for item in items {
                array.push(moved_value(item, by));
            }
            DeValue::Array(array)
        }
        single => single,
    };
    InFile::new(span, value)
}

/// A table with what extends it. `path` is its own.
fn extended<'t>(mut base: DeTable<'t>, over: DeTable<'t>, path: &str) -> DeTable<'t> {
    for (name, value) in over {
        let path = join(path, name.get_ref());
        let is_table = keys::find(&path).is_some_and(|key| key.kind == Kind::Table);
        let there = base.remove(name.get_ref().as_ref());
        let span = value.span();
        let value = match (there.map(InFile::into_inner), value.into_inner()) {
            (Some(DeValue::Table(base)), DeValue::Table(over)) if is_table => {
                DeValue::Table(extended(base, over, &path))
            }
            (_, value) => value,
        };
        base.insert(name, InFile::new(span, value));
    }
    base
}

/// Lets the paths in it start at the folder of the first file.
fn from_folder(table: &mut DeTable<'_>, path: &str, folder: &Path) {
    if folder.as_os_str().is_empty() {
        return;
    }
    for (name, value) in table.iter_mut() {
        let path = join(path, name.get_ref());
        let Some(key) = keys::find(&path) else {
            continue;
        };
        match (key.kind, value.get_mut()) {
            (Kind::Table, DeValue::Table(inner)) => from_folder(inner, &path, folder),
            (Kind::Tables, DeValue::Array(items)) => {
                for item in items.iter_mut() {
                    if let DeValue::Table(inner) = item.get_mut() {
                        from_folder(inner, &format!("{path}[]"), folder);
                    }
                }
            }
            (Kind::LongTexts, DeValue::Array(items)) => {
                for item in items.iter_mut() {
                    in_folder(item.get_mut(), folder);
                }
            }
            (Kind::LongText | Kind::LongTexts | Kind::Secret, reference @ DeValue::Table(_)) => {
                in_folder(reference, folder);
            }
            (Kind::Text, DeValue::String(text)) if keys::is_path(key) && is_path(text) => {
                let joined = folder.join(text.as_ref());
                *text = Cow::Owned(joined.display().to_string());
            }
            _ => {}
        }
    }
}

/// What is refused as a path is left as it was written, so that the report shows that.
fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('~')
}

/// The path of `{ file = "…" }`.
fn in_folder(reference: &mut DeValue<'_>, folder: &Path) {
    let DeValue::Table(table) = reference else {
        return;
    };
    if let Some(DeValue::String(path)) = table.get_mut("file").map(InFile::get_mut)
        && is_path(path)
    {
        let joined = folder.join(path.as_ref());
        *path = Cow::Owned(joined.display().to_string());
    }
}
