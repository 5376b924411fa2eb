//! The configuration, from outside: every folder of `tests/config` is a case, a `lbctl.toml` and
//! what is said of it. To write the expected texts again: `LBCTL_BLESS=1 cargo test --test it
//! config::`, then read every one as its reader would.

mod effects;
mod example;
mod extends;
mod loading;
mod properties;
mod values;
mod vms;

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use lbctl::testing::config::{self, render_warnings};

use crate::support::inputs::{inputs, now};

/// What the command line would print: the report, or that the file is accepted, with its warnings.
fn verdict(folder: &Path) -> String {
    let path = folder.join("lbctl.toml");
    let loaded = match String::from_utf8(fs::read(&path).unwrap()) {
        Ok(text) => config::parse(&text, "lbctl.toml", &inputs(), now()),
        // Only `load` sees bytes.
        Err(_) => config::load(&path, now()),
    };
    match loaded {
        Ok(loaded) => format!(
            "accepted\n{}",
            render_warnings(&loaded.warnings, false, None)
        ),
        Err(report) => report.render(false, None),
    }
}

#[test]
fn every_case_is_judged_as_expected() {
    let mut failures = String::new();
    let mut folders: Vec<_> = fs::read_dir("tests/config")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(folders.len() > 5, "cases are missing");
    for folder in folders {
        let found = verdict(&folder);
        if env::var_os("LBCTL_BLESS").is_some() {
            fs::write(folder.join("expected"), &found).unwrap();
        }
        let expected = fs::read_to_string(folder.join("expected")).unwrap_or_default();
        if found != expected {
            let _ = writeln!(
                failures,
                "== {}\n-- expected\n{expected}\n-- found\n{found}",
                folder.display()
            );
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
