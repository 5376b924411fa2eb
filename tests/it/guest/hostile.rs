//! A hostile guest, on a real virtio channel: in place of the agent runs a program that lies in
//! each way that the protocol leaves open. lbctl comes to an end, says so in words that no terminal
//! obeys, keeps its memory, writes nothing down on such an answer, continues when the real agent
//! runs again, and removes the guest.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::Guest;
use crate::support::{Ran, run_for};

const AGENT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/guest/lying_agent.py"
));

/// What lbctl may take of memory, whatever the guest says: its address space, in KiB. It uses a
/// tenth.
const SPACE: u64 = 400 << 10;
/// What it may print: a status of 200 servers.
const PRINTED: usize = 256 << 10;

/// How the agent lies, and what `status` says of it.
const LIES: [(&str, &str); 15] = [
    ("nasty", "not ready: cloud-init"),
    ("many", "not ready: cloud-init"),
    ("refusing", "not ready"),
    ("much", "longer than lbctl asked for"),
    ("wide", "longer than lbctl asked for"),
    (
        "binary",
        "the answer of `lbctl-guest status` cannot be read",
    ),
    ("deep", "the answer of `lbctl-guest status` cannot be read"),
    ("no base64", "Invalid symbol"),
    ("running", "did not end within 20 s"),
    ("types", "`lbctl-guest status` ended with exit code -1"),
    ("failing", "`lbctl-guest status` ended with exit code"),
    ("no pid", "guest-exec returned no pid"),
    ("error", "unable to execute QEMU agent command"),
    ("noise", "cannot parse json"),
    ("flood", "its agent does not answer"),
];

/// How it lies when it is asked to change the guest, with how `up` and `renew` end.
const REFUSALS: [(&str, i32, &str); 6] = [
    ("refusing", 1, "could not restore everything"),
    ("failing", 1, "the change may be incomplete"),
    ("much", 1, "the change may be incomplete"),
    ("deep", 1, "the change may be incomplete"),
    ("error", 4, "its agent does not answer"),
    ("silent", 4, "its agent does not answer"),
];

pub(super) fn story(guest: &Guest, interface: &str) {
    guest.put_the_lying_agent_in_place();
    for (mode, says) in LIES {
        for arguments in [["status", "-vv"], ["status", "--json"]] {
            guest.lie(mode);
            let ran = guest.bounded(60, &arguments);
            assert_eq!(ran.code, 1, "{mode}: {ran}");
            harmless(&ran);
            if arguments.contains(&"--json") {
                assert_eq!(ran.document()["ready"], false, "{mode}: {ran}");
            } else {
                ran.says(&[says]);
            }
        }
    }

    let (before, volumes) = (guest.domain_xml(), guest.volumes());
    guest.configure(interface, "max_connections = 777");
    for (mode, code, says) in REFUSALS {
        for command in [&["up", "-vv"][..], &["renew", "--force"]] {
            guest.lie(mode);
            let ran = guest.bounded(120, command);
            harmless(&ran);
            ran.ended(code).says(&[says, "help: "]);
        }
        assert_eq!(
            guest.domain_xml(),
            before,
            "{mode}: the next boot is another"
        );
    }

    // The real agent is back, and nothing of all that stays.
    guest.lie("end");
    guest.until_the_agent_says_yes(&json!({"execute": "guest-ping"}));
    let peace = guest.peace();
    guest.lbctl(300, &["up", "--wait=2m"]).ok();
    drop(peace);
    guest.lbctl(60, &["plan", "--exit-code"]).ok();
    assert!(
        guest
            .inside("cat /etc/haproxy/haproxy.cfg")
            .contains("maxconn 777")
    );
    guest.reaches_the_primary();
    assert_eq!(
        guest.volumes(),
        volumes,
        "a seed that was not used has stayed"
    );

    // One that says that all was done is believed, and what it says of that is cut.
    guest.put_the_lying_agent_in_place();
    guest.lie("agreeing");
    guest.configure(interface, "max_connections = 778");
    let ran = guest.bounded(120, &["up"]).ok();
    harmless(&ran);
    assert!(ran.stderr.lines().count() < 50, "{ran}");
    // What follows is `down`, which does not wait for an agent that says nothing.
    guest.lie("silent");
}

/// No escape sequence, nothing else that a terminal obeys, and no more than a person or a script
/// can take.
#[track_caller]
fn harmless(ran: &Ran) {
    for text in [&ran.stdout, &ran.stderr] {
        assert!(text.len() < PRINTED, "{} bytes", text.len());
        let obeyed = |c: char| c != '\n' && lbctl::testing::text::sanitize::drives_terminal(c);
        assert_eq!(text.find(obeyed), None, "{}", text.escape_debug());
        // A guest's text cannot begin a line of its own.
        let forged = text.lines().find(|line| line.starts_with("ready   yes"));
        assert_eq!(forged, None, "{ran}");
    }
}

impl Guest {
    fn bounded(&self, seconds: u64, arguments: &[&str]) -> Ran {
        let config = self.directory.path().join("lbctl.toml");
        let program = env!("CARGO_BIN_EXE_lbctl");
        let limited = format!("ulimit -v {SPACE}; exec \"$@\"");
        let shell = ["-c", &limited, "sh", program, "-c"];
        let words = [&shell[..], &[config.to_str().unwrap()], arguments].concat();
        run_for(seconds, "sh", words)
    }

    /// How many volumes in the pool are this guest's.
    fn volumes(&self) -> usize {
        let (uri, pool) = (&self.lab["LIBVIRT_URI"], &self.lab["POOL"]);
        let listed = run_for(30, "virsh", ["-q", "-c", uri, "vol-list", pool]).ok();
        let names = listed.stdout.lines().map(str::trim_start);
        names.filter(|name| name.starts_with(self.name)).count()
    }

    fn put_the_lying_agent_in_place(&self) {
        let program = BASE64.encode(AGENT);
        self.inside(&format!(
            "echo {program} | base64 -d >/run/lying_agent.py\n\
             systemd-run --collect --unit=lying-agent /usr/bin/python3 /run/lying_agent.py"
        ));
        self.lie("nasty");
    }

    fn lie(&self, mode: &str) {
        self.until_the_agent_says_yes(&json!({"execute": "lab-mode", "arguments": {"mode": mode}}));
    }

    /// Agents start and stop, and each time libvirt opens its side of the channel again.
    fn until_the_agent_says_yes(&self, command: &Value) {
        let (uri, command) = (&self.lab["LIBVIRT_URI"], command.to_string());
        let virsh = ["-q", "-c", uri, "qemu-agent-command", "--timeout=20"];
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let words = [&virsh[..], &[self.name, &command]].concat();
            let ran = run_for(40, "virsh", words);
            if ran.code == 0 {
                return;
            }
            assert!(Instant::now() < end, "{ran}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}
