//! No secret of a configuration is anywhere on a real host but in the seed: not in libvirt's
//! documents and logs, not in arguments, variables or files, not in what lbctl calls.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use lbctl::testing::seed::{SeedContent, recognise};

use super::sandbox::Sandbox;
use crate::support::run;
use crate::support::search::Search;

const MORE: &str = r#"
admin_user_password = "zq7-Admin-Kx93"
[container_registry]
url = "https://registry.example.org"
username = "lbops"
password = "zq7-Registry-Jw2"
[fluentd]
enabled = true
load_balancer_tag = "lb"
node_exporter_tag = "node"
[fluentd.forward]
domain = "logs.example.org"
port = 24224
hostname = "lb"
shared_key = "zq7-Shared-Gm4"
ca_cert = { file = "ca.crt" }
"#;

#[test]
fn are_in_the_seed_and_nowhere_else() {
    let mut sandbox = Sandbox::new();
    sandbox.change(MORE);
    let mut search = Search::new(&sandbox.name);
    for (name, secret) in [
        ("the administrator's password", "zq7-Admin-Kx93"),
        ("the registry's password", "zq7-Registry-Jw2"),
        ("the registry's login", "lbops:zq7-Registry-Jw2"),
        ("fluentd's key", "zq7-Shared-Gm4"),
    ] {
        search.secret(name, secret);
    }
    let home = sandbox.home.path().to_owned();
    search.key(
        "the CA's key",
        &fs::read_to_string(home.join("ca.key")).unwrap(),
    );

    opened_and_called(&sandbox, &mut search, "up");
    in_the_seed(&sandbox, &mut search);
    commands_and_documents(&sandbox, &mut search);
    files_and_processes(&sandbox, &mut search);
    for name in sandbox.volumes() {
        let mode = fs::metadata(sandbox.pool_dir.join(&name)).unwrap().mode() & 0o777;
        assert!(!name.contains("iso") || mode == 0o600, "{name}: {mode:o}");
    }
    sandbox.change("memory = 300\nadmin_user_password = 'zq7-Admin-Second-Lp4'");
    search.secret("the new password", "zq7-Admin-Second-Lp4");
    opened_and_called(&sandbox, &mut search, "plan");
    opened_and_called(&sandbox, &mut search, "up --restart now --stop-timeout=1s");
    // Here no guest has an agent: its certificate is renewed while it is off.
    sandbox.virsh("destroy @vm").ok();
    opened_and_called(&sandbox, &mut search, "renew --force");
    in_the_seed(&sandbox, &mut search);
    opened_and_called(&sandbox, &mut search, "down --yes --stop-timeout=1s");
    search.nothing_found();
}

/// Everything that lbctl opens and calls while a command does its work: it calls no program and
/// writes no file.
fn opened_and_called(sandbox: &Sandbox, search: &mut Search, command: &str) {
    let home = sandbox.home.path();
    let trace = home.join("trace");
    let (config, trace_path) = (home.join("lbctl.toml"), trace.display().to_string());
    let program = env!("CARGO_BIN_EXE_lbctl");
    let calls =
        "trace=execve,execveat,openat,open,creat,mkdir,mkdirat,memfd_create,rename,renameat2";
    let traced = [
        "-f",
        "-qq",
        "-s",
        "100000",
        "-o",
        &trace_path,
        "-e",
        calls,
        program,
        "-c",
    ];
    let rest = [config.to_str().unwrap(), "-vv"].into_iter();
    let rest = rest.chain(command.split_whitespace());
    let ran = run("strace", traced.into_iter().chain(rest)).ok();
    search.place(
        "lbctl's output",
        command,
        format!("{}{}", ran.stdout, ran.stderr),
    );
    let calls = fs::read_to_string(&trace).unwrap();
    fs::remove_file(&trace).unwrap();
    search.place(
        "lbctl's calls",
        command,
        format!("{} {calls}", sandbox.name),
    );
    let of = |call: &str| -> Vec<&str> { calls.lines().filter(|l| l.contains(call)).collect() };
    assert_eq!(
        of("execve").len(),
        1,
        "{command}: lbctl itself, and no child: {:#?}",
        of("execve")
    );
    let writes = |line: &&&str| {
        line.contains("O_WRONLY") || line.contains("O_RDWR") || line.contains("O_CREAT")
    };
    let written: Vec<_> = calls.lines().collect();
    let written: Vec<_> = written
        .iter()
        .filter(writes)
        .filter(|l| !l.contains("\"/dev/"))
        .collect();
    assert!(
        written.is_empty(),
        "{command}: no file is written, temporary or not: {written:#?}"
    );
    for call in ["creat(", "mkdir", "memfd_create", "rename"] {
        assert_eq!(of(call), [""; 0], "{command}: {call}");
    }
    assert!(
        of("openat(").iter().any(|line| line.contains("lbctl.toml")),
        "the trace shows what is opened"
    );
}

/// The one place where they belong. The client's key and the password's hash of that seed are known
/// from here.
fn in_the_seed(sandbox: &Sandbox, search: &mut Search) {
    let seeds = sandbox.volumes().into_iter().filter(|v| v.contains("iso"));
    let [seed] = &seeds.collect::<Vec<_>>()[..] else {
        panic!("{:?}", sandbox.volumes())
    };
    let seed = sandbox.pool_dir.join(seed);
    assert_eq!(fs::metadata(&seed).unwrap().mode() & 0o777, 0o600);
    let image = fs::read(&seed).unwrap();
    assert!(
        search
            .names_in(&image)
            .iter()
            .any(|n| n.contains("fluentd's key"))
    );
    let SeedContent::Ours(found) = recognise(&image, &sandbox.name) else {
        panic!("no seed")
    };
    let pem = found.client_pem.as_ref().unwrap().expose();
    search.key("the client's key", pem.split("-----END").next().unwrap());
    let admin = found.guest.as_ref().unwrap().admin.password_hash.as_ref();
    search.secret("the password's hash", admin.unwrap().expose());
}

/// What lbctl says of a renewal and a look, and libvirt of what it has.
fn commands_and_documents(sandbox: &Sandbox, search: &mut Search) {
    for command in [
        "plan -v",
        "status",
        "renew --force",
        "up --json",
        "plan --json",
    ] {
        let ran = sandbox.lbctl(command);
        search.place(
            "lbctl's output",
            command,
            format!("{}{}", ran.stdout, ran.stderr),
        );
    }
    for command in [
        "dumpxml @vm --security-info",
        "dumpxml @vm --inactive --security-info",
        "metadata @vm --uri urn:lbctl:mark:1",
        "net-dumpxml @net",
        "vol-dumpxml @vm --pool @pool",
        "vol-list @pool --details",
        "dominfo @vm",
    ] {
        let ran = sandbox.virsh(command).ok();
        search.place(
            "libvirt's documents",
            command,
            format!("{} {}", sandbox.name, ran.stdout),
        );
    }
}

/// Everything else of the lab's that is a file, and every process of the machine.
fn files_and_processes(sandbox: &Sandbox, search: &mut Search) {
    let mut files = Vec::new();
    for folder in ["LAB_STATE", "LAB_RUN"] {
        walk(Path::new(&sandbox.lab[folder]), &mut files);
    }
    let foreign = |file: &&std::path::PathBuf| {
        let name = file.display().to_string();
        // The operator's own files are where the secrets come from.
        !file.starts_with(&sandbox.pool_dir)
            && !file.starts_with(sandbox.home.path())
            && !name.contains("/pools/t")
            && !name.contains("/cache/")
    };
    for file in files.iter().filter(foreign) {
        let name = file.display().to_string();
        let small = fs::metadata(file).is_ok_and(|m| m.len() < 8 << 20);
        if let (true, Ok(content)) = (small, fs::read(file)) {
            search.place("libvirt's files and logs", &name, content);
        }
    }
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let place = process.path();
        for what in ["cmdline", "environ"] {
            if let Ok(content) = fs::read(place.join(what)) {
                search.place("processes", &format!("{} {what}", place.display()), content);
            }
        }
    }
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let kept = entry
            .metadata()
            .is_ok_and(|m| m.is_file() && m.len() < 1 << 20);
        if let (true, Ok(content)) = (kept, fs::read(entry.path())) {
            let name = entry.path().display().to_string();
            search.place("processes", &name, content);
        }
    }
}

fn walk(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&path, files),
            Ok(kind) if kind.is_file() => files.push(path),
            _ => {}
        }
    }
}
