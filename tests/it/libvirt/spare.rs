//! A lab beside the others' whose libvirtd may be ended and started again. One test at a time has
//! it (`.config/nextest.toml`).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Lab;

pub struct Spare {
    pub lab: Lab,
    name: String,
}

impl Spare {
    pub fn up() -> Self {
        Self::with(&[])
    }

    /// With the modular daemons of Debian 13's libvirt in the place of libvirtd; what
    /// [`Self::kill`] ends is virtqemud.
    pub fn modular() -> Self {
        Self::with(&[("LAB_LIBVIRT", "trixie"), ("LAB_DAEMONS", "modular")])
    }

    fn with(environment: &[(&str, &str)]) -> Self {
        let name = format!("{}x", Lab::bare()["LAB_NAME"]);
        let mut up = script("up", &name);
        let ran = up.arg("bare").envs(environment.iter().copied()).output();
        let ran = ran.unwrap();
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        let lab = Lab::at(&format!("/run/lbctl-lab/{name}/env"));
        Self { lab, name }
    }

    pub fn pid(&self) -> u32 {
        let path = format!("{}/libvirtd.pid", self.lab["LAB_RUN"]);
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }

    /// `kill -9`, which its clients see as a crash; guests and networks keep running.
    pub fn kill(&self) {
        let pid = self.pid();
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(killed.unwrap().success());
        let gone = || !Path::new(&format!("/proc/{pid}/exe")).exists();
        within(10, "the end of libvirtd", gone);
    }

    pub fn start(&self) {
        Command::new("setsid")
            .arg("--fork")
            .args(["ip", "netns", "exec", &self.lab["LAB_NETNS"]])
            .arg(format!("{}/start-libvirtd", self.lab["LAB_RUN"]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        self.answers();
    }

    #[track_caller]
    pub fn answers(&self) {
        within(30, "libvirtd", || self.lab.virsh("version").code == 0);
    }

    pub fn restart(&self) {
        self.kill();
        self.start();
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let _ = script("down", &self.name).output();
    }
}

fn script(what: &str, name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab");
    let mut command = Command::new(path.join(what));
    command.env("LAB_NAME", name).stdin(Stdio::null());
    command
}

#[track_caller]
pub fn within(seconds: u64, what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !is() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
