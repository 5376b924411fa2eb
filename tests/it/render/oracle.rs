//! The programs that judge what was rendered. One that is missing fails the test and names its
//! package.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Runs it, gives it `input`, and waits. `package` is what brings the program.
pub fn run(package: &str, command: &mut Command, input: &str) -> Output {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|e| {
        panic!(
            "{}: {e}; install {package}",
            command.get_program().to_string_lossy()
        )
    });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // The program may write before it has read everything.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    output
}

/// Both streams, in one text.
pub fn words(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Standard output of a program that must succeed.
pub fn must(package: &str, command: &mut Command, input: &str) -> String {
    let output = run(package, command, input);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        words(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What PyYAML, cloud-init's reader, makes of many documents.
pub fn pyyaml(documents: &[String]) -> Vec<serde_json::Value> {
    let program = "import json, sys, yaml\njson.dump([yaml.safe_load(d) for d in json.load(sys.stdin)], sys.stdout)";
    let input = serde_json::to_string(documents).unwrap();
    // Debian's own interpreter: another one may be first on PATH, without Debian's modules.
    let output = must(
        "python3-yaml",
        Command::new("/usr/bin/python3").args(["-c", program]),
        &input,
    );
    serde_json::from_str(&output).unwrap()
}

/// A root directory with the HAProxy of that Debian suite, and the certificates the configuration
/// names.
pub fn haproxy_root(suite: &str) -> PathBuf {
    static ROOTS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/render/haproxy-versions");
        let roots: Vec<PathBuf> = must("mmdebstrap", &mut Command::new(script), "")
            .lines()
            .map(PathBuf::from)
            .collect();
        for root in &roots {
            write(&root.join("etc/haproxy/ca.pem"), super::sample::CA);
            write(&root.join("etc/haproxy/client.pem"), super::sample::CLIENT);
            // Without this line HAProxy warns; the guest script sees to it there.
            write(&root.join("run/haproxy/server-state"), "1\n");
        }
        roots
    });
    roots
        .iter()
        .find(|root| root.ends_with(format!("haproxy-{suite}")))
        .unwrap()
        .clone()
}

/// Has a program of these tests, in Python, tell its stories before a HAProxy of that suite. They
/// are in namespaces of their own, which the program makes.
pub fn tell(program: &str, suite: &str, arguments: &[&OsStr]) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new("/usr/bin/python3");
    python
        .arg("-B")
        .arg(here.join("tests").join(program))
        .arg(haproxy_root(suite))
        .arg(here.join("templates/guest/lbctl-guest.py"))
        .args(arguments);
    let output = run("python3", &mut python, "");
    println!("{}", words(&output));
    assert!(output.status.success(), "{}", words(&output));
}

/// A new directory that is removed when it is dropped.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub fn write(path: &Path, text: &str) {
    let folder = path.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    // At one stroke: a HAProxy of another test process may be reading it.
    let new = tempfile::NamedTempFile::new_in(folder).unwrap();
    std::fs::write(new.path(), text).unwrap();
    std::fs::set_permissions(new.path(), Permissions::from_mode(0o644)).unwrap();
    new.persist(path).unwrap();
}
