//! What a person sees of a command, kept in a file beside the test and compared with what is seen
//! now. What differs from run to run (names, times, serial numbers) stands there as a word.
//!
//! To write the files again: `LBCTL_BLESS=1`, then read every one as its reader would.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Ran, run};

/// Columns of the terminal that texts are made for, and of a narrow and a wide one.
pub const COLUMNS: usize = 80;
pub const NARROW: usize = 60;
pub const WIDE: usize = 120;
/// All of them.
pub const WIDTHS: [usize; 3] = [NARROW, COLUMNS, WIDE];

/// Commands and what came of them, in order.
pub struct Transcript {
    file: PathBuf,
    /// What differs, and the word that replaces it.
    words: Vec<(&'static str, String)>,
    text: String,
}

impl Transcript {
    pub fn new(file: &str, words: Vec<(&'static str, String)>) -> Self {
        Self {
            file: Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/transcripts")
                .join(file),
            words,
            text: String::new(),
        }
    }

    /// Notes a command as a person would have typed it, and all that it printed.
    pub fn note(&mut self, typed: &str, ran: &Ran) {
        let _ = writeln!(self.text, "$ {typed}");
        self.text.push_str(&ran.stdout);
        for line in ran.stderr.lines() {
            let _ = writeln!(self.text, "2> {line}");
        }
        let _ = writeln!(self.text, "[{}]\n", ran.code);
    }

    /// Something else that differs from run to run.
    pub fn also(&mut self, word: &'static str, value: String) {
        self.words.push((word, value));
    }

    /// What has happened before the next command.
    pub fn headed(&mut self, what: &str) {
        let _ = writeln!(self.text, "# {what}\n");
    }

    /// Notes what is left on a terminal of that many columns, where no line is longer, unless it is
    /// one word. `command`: what is run.
    #[track_caller]
    pub fn note_on_a_terminal(&mut self, columns: usize, typed: &str, command: &str) {
        let (lines, code) = on_a_terminal(command, columns);
        ensure_fit(command, columns, &lines);
        let text = lines.join("\n");
        let _ = writeln!(self.text, "$ {typed}\n{}\n[{code}]\n", text.trim_end());
    }

    /// Compares it with what is kept.
    #[track_caller]
    pub fn compare(self) {
        let found = self.masked();
        if std::env::var_os("LBCTL_BLESS").is_some() {
            fs::create_dir_all(self.file.parent().unwrap()).unwrap();
            fs::write(&self.file, found).unwrap();
            return;
        }
        let kept = fs::read_to_string(&self.file).unwrap_or_default();
        assert!(
            kept == found,
            "{} differs\n-- kept\n{kept}\n-- found\n{found}",
            self.file.display()
        );
    }

    fn masked(&self) -> String {
        let mut words: Vec<_> = self
            .words
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        words.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        let put = |text: String, (word, value): &&(&str, String)| replace(&text, value, word);
        let text = words.iter().fold(self.text.clone(), put);
        let lines = text.lines().map(|line| {
            let words: Vec<String> = line.split(' ').map(masked).collect();
            seconds(&words.join(" "))
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }
}

/// Where the value is by itself, and not as a part of another word.
fn replace(text: &str, value: &str, word: &str) -> String {
    let (mut done, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(value) {
        let (before, after) = (&rest[..at], &rest[at + value.len()..]);
        let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let last = before.chars().last().or_else(|| done.chars().last());
        let inside = part(last) || part(after.chars().next());
        done.push_str(before);
        done.push_str(if inside { value } else { word });
        rest = after;
    }
    done + rest
}

/// A date, a serial number, a uuid, a version or a free size in a word becomes its name.
fn masked(word: &str) -> String {
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let shaped = |shape: &str| {
        core.len() == shape.len()
            && core.chars().zip(shape.chars()).all(|(c, s)| match s {
                '9' => c.is_ascii_digit(),
                'f' => c.is_ascii_hexdigit(),
                other => c == other,
            })
    };
    let parts: Vec<&str> = core.split('.').collect();
    let numbers = parts
        .iter()
        .all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let name = match () {
        () if core.is_empty() => return word.to_owned(),
        () if shaped("9999-99-99") => "DATE",
        () if shaped("9999-99-99T99:99:99Z") => "TIME",
        () if shaped(&"f".repeat(32)) => "SERIAL",
        () if shaped("ffffffff-ffff-ffff-ffff-ffffffffffff") => "UUID",
        () if numbers && parts.len() == 3 => "VERSION",
        () => return word.to_owned(),
    };
    word.replace(core, name)
}

/// `(0.41 s)` becomes `(TIME)`, `201.7 GiB free` `SIZE free`.
fn seconds(line: &str) -> String {
    let mut line = line.to_owned();
    if let Some(open) = line.rfind('(') {
        let inner = &line[open + 1..];
        let time = inner
            .strip_suffix(" s)")
            .or_else(|| inner.strip_suffix(" min)"));
        if time.is_some_and(|t| {
            t.bytes()
                .all(|b| b.is_ascii_digit() || b" .min".contains(&b))
        }) {
            line.replace_range(open + 1..line.len() - 1, "TIME");
            // A step says how long it took only where that is worth a word.
            if line.starts_with("2>   ") {
                line.truncate(open - 1);
            }
        }
    }
    if let Some(at) = line.find(" GiB free") {
        let start = line[..at].rfind(' ').map_or(0, |s| s + 1);
        line.replace_range(start..at + " GiB".len(), "SIZE");
    }
    line
}

/// Runs a command line on a terminal, colours and all; what is left on it, line by line, as plain
/// text, and how it ended.
pub fn on_a_terminal(command: &str, columns: usize) -> (Vec<String>, i32) {
    let inner = format!("stty cols {columns} rows 50; {command}");
    let arguments = [
        "TERM=xterm-256color",
        "script",
        "-qefc",
        &inner,
        "/dev/null",
    ];
    let ran = run("env", arguments);
    // A live line is drawn again and again; what is removed is not seen.
    let seen = |line: &str| {
        let line = line.trim_end_matches('\r');
        let line = line.rsplit("\r\u{1b}[K").next().unwrap_or_default();
        let line = line.rsplit('\r').next().unwrap_or_default();
        without_colour(line).trim_end().to_owned()
    };
    (ran.stdout.split('\n').map(seen).collect(), ran.code)
}

fn without_colour(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after
            .find(|c: char| c.is_ascii_alphabetic())
            .map_or(after.len(), |at| at + 1);
        rest = &after[end..];
    }
    plain + rest
}

/// What is shown in colours is the same text to the byte: no colour says anything alone.
#[track_caller]
pub fn same_without_its_colours(plain: &Ran, coloured: &Ran) {
    assert_eq!(coloured.code, plain.code, "{coloured}");
    assert_eq!(without_colour(&coloured.stdout), plain.stdout);
    assert_eq!(without_colour(&coloured.stderr), plain.stderr);
}

/// No line is longer than the terminal, unless it is one word; what does not fit may be cut.
#[track_caller]
pub fn fits_a_terminal(command: &str, columns: usize, piped: &Ran) -> Vec<String> {
    let (lines, code) = on_a_terminal(command, columns);
    assert_eq!(code, piped.code, "{command}: {lines:#?}");
    ensure_fit(command, columns, &lines);
    lines
}

#[track_caller]
fn ensure_fit(command: &str, columns: usize, lines: &[String]) {
    // A word that is longer stays whole, by itself.
    let is_one_word = |line: &str| !line.trim().contains(' ');
    let long: Vec<_> = lines
        .iter()
        .filter(|line| line.chars().count() > columns && !is_one_word(line))
        .collect();
    assert!(long.is_empty(), "{command} at {columns} columns: {long:#?}");
}

/// No line is longer than the terminal, unless it is one word, and the words are those that a pipe
/// gets, in the same order.
#[track_caller]
pub fn same_on_a_terminal(command: &str, piped: &Ran) {
    for columns in WIDTHS {
        same_at(command, columns, piped);
    }
}

#[track_caller]
pub fn same_at(command: &str, columns: usize, piped: &Ran) {
    let lines = fits_a_terminal(command, columns, piped);
    // What comes next is said to people only.
    let lines: Vec<_> = lines.iter().filter(|l| !l.starts_with("hint: ")).collect();
    let letters = |text: &str| -> Vec<char> {
        let mut letters: Vec<char> = text.chars().filter(|c| c.is_alphanumeric()).collect();
        // Standard output and standard error have no order between them.
        letters.sort_unstable();
        letters
    };
    let seen = lines
        .iter()
        .map(|l| l.as_str())
        .collect::<Vec<_>>()
        .join("\n");
    let told = format!("{}{}", piped.stdout, piped.stderr);
    assert!(
        letters(&seen) == letters(&told),
        "{command} says other words on a terminal of {columns} columns\n-- there\n{seen}\n-- in a pipe\n{told}"
    );
}
