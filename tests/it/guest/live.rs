//! A load balancer that works takes its changes without dropping a session: twenty psql sessions
//! are busy through it while the certificate is renewed, settings change, changes are refused,
//! lbctl is killed. A guest that was off in the meantime has all of it at its next boot.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::sessions::Sessions;
use super::{BOOT, Guest};
use crate::support::{Ran, run_for};

/// What `status` shows of the certificate: in the seed, on the guest's disk, and in use by HAProxy.
fn serials(guest: &Guest) -> [String; 3] {
    let status = guest.status();
    let certificate = &status["certificate"];
    ["serial", "serial_on_disk", "serial_in_use"]
        .map(|key| certificate[key].as_str().unwrap_or_default().to_owned())
}

/// The whole story, on a guest that is ready. It takes one more boot.
pub(super) fn story(guest: &Guest, interface: &str) {
    let key = guest.directory.path().join("operator");
    let keygen = [
        "-q",
        "-t",
        "ed25519",
        "-N",
        "",
        "-C",
        "operator",
        "-f",
        key.to_str().unwrap(),
    ];
    run_for(30, "ssh-keygen", keygen).ok();
    let boot = guest.boot_id();
    let mut sessions = Sessions::open(guest);

    certificate_is_renewed(guest, &mut sessions);
    settings_change(guest, interface, &mut sessions);
    bad_changes_are_refused(guest, interface, &mut sessions);
    a_killed_change_is_taken_to_its_end(guest, interface, &mut sessions);
    drop(sessions);
    nobody_who_waits_is_lost(guest, interface);
    assert_eq!(guest.boot_id(), boot, "all of it without a restart");

    let [serial, ..] = serials(guest);
    a_guest_that_was_off_has_it_at_its_next_boot(guest, interface);
    assert_eq!(
        serials(guest),
        [&*serial; 3],
        "a reboot keeps the renewed certificate"
    );
}

fn certificate_is_renewed(guest: &Guest, sessions: &mut Sessions) {
    let [before, ..] = serials(guest);
    guest
        .lbctl(60, &["renew", "--check"])
        .ok()
        .says(&["not due"]);
    guest
        .lbctl(300, &["renew", "--force"])
        .ok()
        .says(&["renewed"]);
    sessions.none_was_cut("by the renewal");
    let [seed, disk, in_use] = serials(guest);
    assert_ne!(seed, before);
    assert_eq!((&disk, &in_use), (&seed, &seed));
    guest.nodes_see(&seed);
    guest.lbctl(60, &["plan", "--exit-code"]).ok();
}

const SHOW: &str = "cat /etc/haproxy/haproxy.cfg";

fn settings_change(guest: &Guest, interface: &str, sessions: &mut Sessions) {
    guest.set("ssh_admin_public_key", "{ file = \"operator.pub\" }");
    guest.set("admin_user_password", "\"another secret\"");
    guest.set(
        "postgres_nameserver_ips",
        format!("[\"192.0.2.1\", \"{}\"]", guest.lab["NETWORK_DNS"]),
    );
    guest.idle(interface, "23h");
    guest.lbctl(60, &["plan"]).ok().says(&[
        "/etc/haproxy/haproxy.cfg",
        "ssh keys",
        "admin password",
        "(live)",
    ]);
    guest.lbctl(300, &["up"]).ok();
    sessions.none_was_cut("by changed settings");
    guest.lbctl(60, &["plan", "--exit-code"]).ok();
    // The key opens the way in, and shows what is there.
    let config = guest.ssh("sudo cat /etc/haproxy/haproxy.cfg").ok().stdout;
    for wanted in ["timeout client 23h", "nameserver ns1 192.0.2.1:53"] {
        assert!(config.contains(wanted), "{wanted} is not in {config}");
    }
    let takes = "sudo python3 -W ignore -c \"import crypt, spwd; h = spwd.getspnam('$USER').sp_pwdp; \
                 print(crypt.crypt('another secret', h) == h)\"";
    assert_eq!(guest.ssh(takes).ok().stdout.trim(), "True");
}

fn bad_changes_are_refused(guest: &Guest, interface: &str, sessions: &mut Sessions) {
    let nothing_changed = |sessions: &mut Sessions, what: &str| {
        sessions.none_was_cut(what);
        guest.idle(interface, "23h");
        guest
            .lbctl(60, &["plan", "--exit-code"])
            .ok()
            .says(&["nothing to do"]);
        assert!(guest.inside(SHOW).contains("timeout client 23h"));
    };
    // The guest's HAProxy is 2.6 and does not know the keyword of 3.1.
    guest.configure(interface, "version = \"3.2\"");
    guest
        .lbctl(300, &["up"])
        .ended(1)
        .says(&["HAProxy refuses the configuration", "init-state"]);
    nothing_changed(sessions, "by a configuration that HAProxy refuses");

    let [serial, ..] = serials(guest);
    let at = |name: &str| {
        guest
            .directory
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    };
    let (key, certificate) = (at("foreign.key"), at("foreign.crt"));
    let new_ca = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=foreign",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    run_for(30, "openssl", new_ca).ok();
    guest.set("ca_key", "{ file = \"foreign.key\" }");
    guest.set("ca_certificate", "{ file = \"foreign.crt\" }");
    guest.idle(interface, "23h");
    guest
        .lbctl(300, &["up"])
        .ended(1)
        .says(&["would not accept the new certificate or CA", "unchanged"]);
    guest
        .lbctl(300, &["renew"])
        .ended(1)
        .says(&["would not accept the new certificate or CA"]);
    guest.unset("ca_key");
    guest.unset("ca_certificate");
    nothing_changed(sessions, "by a CA that does not fit the nodes");
    assert_eq!(serials(guest), [&*serial; 3]);

    let fill = "sudo sh -c 'fallocate -l $(stat -f -c \"%f * %S\" / | xargs expr) /fill; cat /dev/zero >/fill2; df /' 2>&1";
    let _ = guest.ssh(fill);
    guest.idle(interface, "22h");
    guest
        .lbctl(300, &["up"])
        .ended(1)
        .says(&["No space left on device"]);
    guest.ssh("sudo rm -f /fill /fill2").ok();
    nothing_changed(sessions, "by a full disk");
}

fn a_killed_change_is_taken_to_its_end(guest: &Guest, interface: &str, sessions: &mut Sessions) {
    let config = guest.directory.path().join("lbctl.toml");
    for after in [300, 3000] {
        guest.idle(interface, &format!("{after}s"));
        let mut lbctl = Command::new(env!("CARGO_BIN_EXE_lbctl"))
            .args(["-c", config.to_str().unwrap(), "up"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(after));
        lbctl.kill().unwrap();
        lbctl.wait().unwrap();
        guest.lbctl(300, &["up"]).ok();
        guest.lbctl(60, &["plan", "--exit-code"]).ok();
        let wanted = format!("timeout client {after}s");
        assert!(guest.inside(SHOW).contains(&wanted));
        sessions.none_was_cut("by an lbctl that was killed");
    }
}

fn nobody_who_waits_is_lost(guest: &Guest, interface: &str) {
    let renew = ["renew", "--force"];
    assert!((0..2).any(|_| guest.keeps_the_promise_during(&renew)));
    // Each attempt has a change of its own: without one `up` does nothing. One that is refused (a
    // busy guest may have no primary when its checks had their time) leaves what was before.
    let kept = ["19h", "18h"].into_iter().any(|idle| {
        guest.idle(interface, idle);
        let kept = guest.keeps_the_promise_during(&["up"]);
        let wanted = format!("timeout client {idle}");
        assert!(!kept || guest.inside(SHOW).contains(&wanted));
        kept
    });
    assert!(kept);
}

fn a_guest_that_was_off_has_it_at_its_next_boot(guest: &Guest, interface: &str) {
    let boot = guest.boot_id();
    let host_keys = guest.inside("cat /etc/ssh/ssh_host_ed25519_key.pub");
    run_for(
        30,
        "virsh",
        ["-q", "-c", &guest.lab["LIBVIRT_URI"], "destroy", guest.name],
    )
    .ok();
    guest.unset("ssh_admin_public_key");
    let second = guest.directory.path().join("second");
    run_for(
        30,
        "ssh-keygen",
        [
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-f",
            second.to_str().unwrap(),
        ],
    )
    .ok();
    guest.set("ssh_admin_public_key", "{ file = \"second.pub\" }");
    guest.idle(interface, "20h");
    let wait = format!("--wait={}", BOOT - 120);
    guest.lbctl(BOOT, &["up", &wait]).ok().says(&["ready"]);
    guest.reaches_the_primary();
    assert_ne!(guest.boot_id(), boot);
    guest.lbctl(60, &["plan", "--exit-code"]).ok();
    assert_ne!(
        guest.ssh("true").code,
        0,
        "the key that was taken away opens nothing"
    );
    assert!(guest.inside(SHOW).contains("timeout client 20h"));
    assert_eq!(
        guest.inside("cat /etc/ssh/ssh_host_ed25519_key.pub"),
        host_keys
    );
}

impl Guest {
    /// Logs a fresh serial number in the REST API of all nodes: the lab's Patroni writes down each
    /// that it sees.
    fn nodes_see(&self, serial: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        for node in ["pg1", "pg2", "pg3"] {
            let log = format!("{}/{node}/clients", self.lab["LAB_STATE"]);
            loop {
                let seen = fs::read_to_string(&log).unwrap_or_default();
                if seen.lines().any(|line| line.eq_ignore_ascii_case(serial)) {
                    break;
                }
                assert!(Instant::now() < end, "{node} has not seen {serial}: {seen}");
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }

    /// With another idle timeout.
    fn idle(&self, interface: &str, time: &str) {
        self.set("check", format!("\"10s\"\nidle = \"{time}\""));
        self.configure(interface, "");
    }

    fn ssh(&self, command: &str) -> Ran {
        let to = format!("{}@{}", self.lab["IMAGE_USER"], self.ip);
        let key = self.directory.path().join("operator");
        let options = [
            "-i",
            key.to_str().unwrap(),
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            "-oLogLevel=ERROR",
            "-oBatchMode=yes",
            "-oIdentitiesOnly=yes",
            "-oConnectTimeout=20",
            &to,
            command,
        ];
        run_for(
            120,
            "ip",
            [&["netns", "exec", &self.client, "ssh"], &options[..]].concat(),
        )
    }

    pub(super) fn status(&self) -> serde_json::Value {
        self.status_when_ready(&["--json"]).json()
    }

    pub(super) fn boot_id(&self) -> String {
        self.status()["boot_id"].as_str().unwrap().to_owned()
    }
}
