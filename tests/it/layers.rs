//! The order of the layers: a module of `src/` uses itself and those before it, never one that
//! comes after. Without this test the tree would grow into a circle again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// From the ones that use nobody to the ones that use everything. A new module gets its place here.
const ORDER: &[&str] = &[
    "text",
    "secret",
    "exit",
    "release",
    "cli",
    "cert",
    "config",
    "image",
    "host",
    "render",
    "manual",
    "seed",
    "guest",
    "import",
    "reconcile",
    "output",
    "status",
    "checklist",
    "commands",
    "testing",
];

/// Files that declare the modules or start the program, and so are above all.
const ABOVE: &[&str] = &["lib.rs", "main.rs"];

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == module)
}

/// The names that follow `crate::` in a line of code; comments do not count.
fn used(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("crate::").map(move |(at, path)| {
        let rest = &code[at + path.len()..];
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if end == 0 { "{" } else { &rest[..end] }
    })
}

/// Everything in a file that is against the order, as `FILE:LINE: MODULE uses OTHER`.
fn offenders(file: &str, text: &str) -> Vec<String> {
    let module = file.split('/').next().unwrap_or_default();
    let module = module.strip_suffix(".rs").unwrap_or(module);
    let Some(own) = rank(module) else {
        return vec![format!(
            "src/{file}: module {module} has no place in the order"
        )];
    };
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for other in used(line) {
            let place = format!("src/{file}:{}", number + 1);
            match rank(other) {
                Some(rank) if rank <= own => {}
                Some(_) => found.push(format!("{place}: {module} uses {other}")),
                None if other == "{" => found.push(format!("{place}: one `use` for each module")),
                None => found.push(format!("{place}: {other} has no place in the order")),
            }
        }
    }
    found
}

fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    let mut files = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn no_module_uses_one_above_it() {
    let files = sources();
    assert!(files.len() > 80, "the walk has found {} files", files.len());
    let found: Vec<String> = files
        .iter()
        .filter(|(file, _)| !ABOVE.contains(&file.as_str()))
        .flat_map(|(file, text)| offenders(file, text))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_place_in_the_order_is_taken() {
    let files = sources();
    for module in ORDER {
        let own = |file: &String| {
            *file == format!("{module}.rs") || file.starts_with(&format!("{module}/"))
        };
        assert!(files.keys().any(own), "no file of {module}");
    }
}

#[test]
fn what_is_against_the_order_is_found() {
    for (file, text, expected) in [
        (
            "text/width.rs",
            "use crate::commands::run;",
            "src/text/width.rs:1: text uses commands",
        ),
        (
            "text/width.rs",
            "\nuse crate::{config, output};",
            "src/text/width.rs:2: one `use` for each module",
        ),
        (
            "host/mod.rs",
            "    let _ = crate::reconcile::plan::up();",
            "src/host/mod.rs:1: host uses reconcile",
        ),
        (
            "new/mod.rs",
            "",
            "src/new/mod.rs: module new has no place in the order",
        ),
        (
            "cert/ca.rs",
            "use crate::unknown;",
            "src/cert/ca.rs:1: unknown has no place in the order",
        ),
    ] {
        assert_eq!(offenders(file, text), [expected]);
    }
    for (file, text) in [
        ("commands/up.rs", "use crate::text::width;"),
        ("text/width.rs", "// crate::commands is not used here"),
        ("text/width.rs", "use crate::text::size::Bytes;"),
    ] {
        assert_eq!(offenders(file, text), [""; 0]);
    }
}

/// What a line of code does with displayed text that only a person should: compare it, or cut it.
fn judges_words(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let words = ["to_string()", "ToString::to_string", "format!("];
    let made = words.iter().any(|made| code.contains(made));
    let compared = code.contains("==") || code.contains("!=");
    let cuts = [
        "contains(",
        "starts_with(",
        "ends_with(",
        "split(",
        "strip_prefix(",
    ];
    let cut = cuts.iter().any(|cut| {
        let behind = code.split("to_string().").skip(1);
        behind.into_iter().any(|rest| rest.starts_with(cut))
    });
    made && compared || cut || code.contains("split_once(' ')")
}

/// Steps, changes, errors and objections are compared by their values: kind, target, id.
#[test]
fn nothing_compares_or_cuts_what_people_read() {
    let mut found = Vec::new();
    for (file, text) in sources() {
        let judged = file.starts_with("reconcile/") || file.starts_with("output/");
        if !judged || file.contains("/tests/") {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code.lines().enumerate();
        let judging = lines.filter(|(_, line)| judges_words(line));
        found.extend(judging.map(|(number, line)| format!("src/{file}:{}: {line}", number + 1)));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_line_that_compares_or_cuts_words_is_found() {
    for line in [
        "if step.to_string() == other {",
        "let same = a.iter().map(ToString::to_string).eq(b) && x != y;",
        "if format!(\"{step}\") != said {",
        "let rest = |text: &str| text.split_once(' ');",
        "if error.to_string().contains(\"volume\") {",
    ] {
        assert!(judges_words(line), "{line}");
    }
    for line in [
        "if step.action() == other.action() {",
        "let text = step.to_string();",
        "// step.to_string() == other",
    ] {
        assert!(!judges_words(line), "{line}");
    }
}
