//! The documents say what the code does: every key of the configuration stands in the README, with its default.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use lbctl::config::KEYS;

const BEGIN: &str =
    "<!-- keys: made from src/config/keys.rs by `UPDATE_DOCS=1 cargo test --test docs` -->\n";
const END: &str = "<!-- end of keys -->";

fn table() -> String {
    let mut text =
        String::from("| key | takes | default | meaning | a change |\n|---|---|---|---|---|\n");
    for key in KEYS {
        let takes = key.kind.takes();
        let default = match key.default_or_need() {
            "" | "required" => key.default_or_need().to_owned(),
            default => format!("`{default}`"),
        };
        let meaning = key.meaning.replace('|', "\\|");
        let effect = if key.is_table() {
            ""
        } else {
            key.effect().word()
        };
        let _ = writeln!(
            text,
            "| `{}` | {takes} | {default} | {meaning} | {effect} |",
            key.path
        );
    }
    text
}

#[test]
fn the_readme_lists_every_key_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (listed, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
        return;
    }
    assert!(
        listed == table(),
        "README.md is behind src/config/keys.rs: UPDATE_DOCS=1 cargo test --test docs"
    );
}

#[test]
fn the_failover_page_shows_the_run_it_keeps() {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/bench/failover/report.py"
    );
    let output = Command::new("/usr/bin/python3")
        .args(["-B", script, "check"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
