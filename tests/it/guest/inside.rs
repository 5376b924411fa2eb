//! Looking into a guest: by its agent, and at what its services show on the network.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::Guest;
use crate::support::{Lab, Ran, run_for};

/// The table of a guest that takes its time from the lab: one server by its name, and all that the
/// nodes' name resolves to.
pub fn chrony(lab: &Lab) -> String {
    format!(
        "[chrony]\nenabled = true\nservers = [{{ url = \"{}\", options = [\"iburst\"] }}]\n\
         pools = [{{ url = \"{}\", options = \"maxsources 3\" }}]\nmakestep = {{ threshold = 1.0, limit = 3 }}",
        lab["NTP_HOST"], lab["POSTGRES_DOMAIN"]
    )
}

fn agent(lab: &Lab, name: &str, command: &Value) -> Value {
    let (uri, command) = (&lab["LIBVIRT_URI"], command.to_string());
    let virsh = [
        "-q",
        "-c",
        uri,
        "qemu-agent-command",
        "--timeout=60",
        name,
        &command,
    ];
    run_for(90, "virsh", virsh).ok().json()["return"].clone()
}

/// What a shell in the guest of that name, run by root, prints on standard output. It must succeed.
#[track_caller]
pub fn shell(lab: &Lab, name: &str, script: &str) -> String {
    let arguments = json!({"path": "/bin/sh", "arg": ["-ec", script], "capture-output": true});
    let exec = json!({"execute": "guest-exec", "arguments": arguments});
    let started = agent(lab, name, &exec);
    let end = Instant::now() + Duration::from_secs(300);
    loop {
        let status = json!({"execute": "guest-exec-status", "arguments": {"pid": started["pid"]}});
        let status = agent(lab, name, &status);
        if status["exited"] == true {
            let text = |field: &str| {
                let data = status[field].as_str().unwrap_or_default();
                String::from_utf8_lossy(&BASE64.decode(data).unwrap()).into_owned()
            };
            let (out, err) = (text("out-data"), text("err-data"));
            assert!(status["exitcode"] == 0, "{script}\n{status}\n{out}{err}");
            return out;
        }
        assert!(Instant::now() < end, "{script}: no end after 300 s");
        std::thread::sleep(Duration::from_millis(300));
    }
}

impl Guest {
    /// [`shell`] in this one.
    #[track_caller]
    pub fn inside(&self, script: &str) -> String {
        shell(&self.lab, self.name, script)
    }

    /// Until its next boot. The agent answers before it is stopped.
    pub fn loses_its_agent(&self) {
        self.inside("systemd-run --on-active=1 systemctl stop qemu-guest-agent");
        let (uri, ping) = (&self.lab["LIBVIRT_URI"], r#"{"execute": "guest-ping"}"#);
        let virsh = [
            "-q",
            "-c",
            uri,
            "qemu-agent-command",
            "--timeout=5",
            self.name,
            ping,
        ];
        let end = Instant::now() + Duration::from_secs(60);
        while run_for(30, "virsh", virsh).code == 0 {
            assert!(Instant::now() < end, "its agent still answers");
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Until it holds, for at most two minutes.
    #[track_caller]
    pub fn comes_to(&self, script: &str, holds: impl Fn(&str) -> bool) {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let said = self.inside(script);
            if holds(&said) {
                return;
            }
            assert!(Instant::now() < end, "{script}\n{said}");
            std::thread::sleep(Duration::from_secs(2));
        }
    }

    /// The load balancer began beside cloud-init's last stages, and nothing of that failed.
    pub fn has_started_early(&self) {
        let said = self.inside("journalctl --boot --output cat --no-pager -u lbctl-early");
        let whole = said.contains("Started ") && !said.contains("lbctl-guest: ");
        assert!(whole && !said.contains("Failed"), "{said}");
        // cloud-init's last stage has seen that it was done.
        self.inside("test ! -e /run/lbctl/early");
        // What Python compiled is kept until the next boot, for root only.
        self.inside("sudo ls /run/lbctl-compiled | grep -q ^lbctl_guest.boot-");
        assert_eq!(
            self.inside("stat -c %a:%U /run/lbctl-compiled").trim(),
            "700:root"
        );
    }

    pub fn http(&self, port: u16, path: &str) -> Ran {
        let url = format!("http://{}:{port}{path}", self.ip);
        let curl = [
            "netns",
            "exec",
            &self.client,
            "curl",
            "-sS",
            "-f",
            "-m",
            "20",
        ];
        run_for(30, "ip", [&curl[..], &[url.as_str()]].concat())
    }

    /// Who comes by network scrapes HAProxy and the node exporter, and sees that there is a
    /// primary.
    pub fn shows_metrics(&self) {
        assert_eq!(self.http(8405, "/ready").ok().stdout, "ready");
        self.http(8405, "/metrics").ok().says(&[
            "haproxy_server_status{proxy=\"primary\"",
            "haproxy_process_",
        ]);
        self.http(9100, "/metrics")
            .ok()
            .says(&["node_uname_info{", "node_load1 "]);
    }

    /// Each service runs, in a sandbox that systemd of this guest calls one.
    pub fn runs_in_sandboxes(&self) {
        let running = ["haproxy", "lbctl-liveness", "prometheus-node-exporter"];
        for unit in running {
            self.inside(&format!("systemctl is-active {unit}"));
            let process = format!(
                "grep NoNewPrivs /proc/$(systemctl show --property=MainPID --value {unit})/status"
            );
            assert_eq!(self.inside(&process), "NoNewPrivs:\t1\n", "{unit}");
        }
        self.inside("systemctl start lbctl-save-state && test -s /var/lib/haproxy/server-state");
        for unit in running.iter().chain(&["lbctl-save-state"]) {
            self.is_little_exposed(unit);
        }
        assert_eq!(self.inside("cat /proc/sys/kernel/panic"), "10\n");
        // Debian 12's cloud kernel lacks the device's driver.
        let fed = "for dog in /sys/class/watchdog/watchdog*/; do [ ! -d $dog ] || cat $dog/timeout $dog/state; done";
        let driver = self.inside("modinfo -n i6300esb || true");
        let wanted = if driver.is_empty() {
            ""
        } else {
            "120\nactive\n"
        };
        assert_eq!(self.inside(fed), wanted, "{driver}");
    }

    /// At most 4.0 of 10.
    fn is_little_exposed(&self, unit: &str) {
        self.inside(&format!(
            "systemd-analyze security --no-pager --threshold=40 {unit}.service"
        ));
    }

    pub fn runs_fluentd_in_its_sandbox(&self) {
        self.comes_to(
            "journalctl --boot --output cat --no-pager -u fluentd",
            |said| said.contains("as fluentd does"),
        );
        self.inside("systemctl is-active fluentd && test -s /var/lib/fluentd/buffer");
        let owner = "ps -o user= -p $(systemctl show --property=MainPID --value fluentd)";
        assert_eq!(self.inside(owner), "fluentd\n");
        self.is_little_exposed("fluentd");
    }

    /// The package's unit for the host, with a program that reads what lbctl reads in lbctl's
    /// place: this systemd starts it, and it can.
    pub fn starts_the_hosts_renewal(&self) {
        let unit = BASE64.encode(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/packaging/lbctl-renew.service"
        )));
        self.inside(&format!(
            "echo {unit} | base64 -d >/etc/systemd/system/lbctl-renew.service\n\
             printf '#!/bin/sh\\ncat \"$2\" && cat /home/lab-key && getent hosts pg1.postgres.lab\\n' >/usr/bin/lbctl\n\
             chmod 755 /usr/bin/lbctl\n\
             echo 'name = \"of-somebody\"' >/etc/lbctl/of-somebody.toml\n\
             install -o nobody -m 600 /dev/null /home/lab-key\n\
             systemctl daemon-reload\n\
             systemctl start lbctl-renew"
        ));
        let said = self.inside("journalctl --boot --output cat --no-pager -u lbctl-renew");
        assert!(
            said.contains("of-somebody") && said.contains("pg1.postgres.lab"),
            "{said}"
        );
        self.is_little_exposed("lbctl-renew");
        self.inside(
            "rm /etc/systemd/system/lbctl-renew.service /usr/bin/lbctl /etc/lbctl/of-somebody.toml /home/lab-key\n\
             systemctl daemon-reload",
        );
    }

    /// A worker that hangs is ended and started again; the node exporter goes on.
    pub fn survives_a_haproxy_that_hangs(&self) {
        let worker = "pgrep --newest --exact haproxy";
        let before = self.inside(worker);
        self.inside(&format!("kill -STOP $({worker})"));
        self.comes_to(
            &format!("{worker} || true; systemctl is-active haproxy || true"),
            |said| said.ends_with("\nactive\n") && !said.starts_with(&before),
        );
        self.comes_to("journalctl --boot --no-pager -u lbctl-liveness", |said| {
            said.contains("HAProxy has neither answered nor run")
        });
    }

    /// chrony has the sources that were given, none of its package's own, and the journal has each
    /// session.
    pub fn keeps_time_and_logs(&self, entries: &str) {
        let [server, nodes] = ["NETWORK_DNS", "PG_NODES"].map(|key| self.lab[key].clone());
        self.comes_to("chronyc -n sources", |said| {
            // Mode and state, then the address.
            let sources: Vec<&str> = said
                .lines()
                .filter(|line| line.starts_with('^'))
                .filter_map(|line| line.split_whitespace().nth(1))
                .collect();
            sources.len() == 4
                && sources.contains(&server.as_str())
                && nodes.split(',').all(|node| sources.contains(&node))
        });
        self.query().ok();
        let tcplog = |said: &str| {
            let mut lines = said.lines();
            lines.any(|l| {
                l.contains("frontend=postgres server=primary/node") && l.contains("bytes_out=")
            })
        };
        let journal = format!("journalctl --boot --output cat --no-pager {entries}");
        self.comes_to(&journal, tcplog);
    }
}
