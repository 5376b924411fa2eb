//! Two load balancers that share an address, as `tests/pair` brings them up: on taps, with
//! keepalived, HAProxy and nft of Debian 12 and 13 and the files that lbctl renders.

use std::path::Path;
use std::process::Command;

#[track_caller]
fn told(suite: &str) {
    let pair = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pair");
    // The namespace of the stories has no way out: what they need is fetched before.
    succeeds(Command::new(pair.join("roots")).arg(suite));
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["/usr/bin/python3", "-B"])
        .arg(pair.join("stories.py"))
        .arg(suite)
        .env("LBCTL", env!("CARGO_BIN_EXE_lbctl"));
    succeeds(&mut command);
}

#[track_caller]
fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn with_the_programs_of_debian_12() {
    told("bookworm");
}

#[test]
fn with_the_programs_of_debian_13() {
    told("trixie");
}
