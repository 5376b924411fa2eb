//! What clients of a real Patroni see through a guest: `tests/dataplane/promise.py`.

use std::fs::File;
use std::time::Instant;

use super::Guest;
use crate::support::{Ran, run_for};

/// Seconds that one of its stories may take, and wait for those of other guests.
const STORY: u64 = 600;

/// While it lives no story of another guest moves the primary of the cluster that all guests serve.
pub(super) struct Peace(#[expect(dead_code, reason = "its lock ends with it")] File);

impl Guest {
    /// No session is cut and no connect fails, whatever these stories do.
    pub fn keeps_the_promise(&self, stories: &[&str]) {
        let ran = self.told(stories).ok();
        println!("{}", ran.stdout);
    }

    fn told(&self, stories: &[&str]) -> Ran {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dataplane/promise.py");
        let env = format!("{}/env", self.lab["LAB_RUN"]);
        let words = ["-B", script, &env, &self.client, &self.ip];
        let seconds = STORY * u64::try_from(stories.len()).unwrap();
        let began = Instant::now();
        let ran = run_for(seconds, "/usr/bin/python3", [&words[..], stories].concat());
        self.notes(&format!("promise.py {}", stories.join(" ")), began);
        ran
    }

    /// Whether it does while clients wait for the end of a switchover. `promise.py` says why a
    /// guest that is busy may need a second attempt.
    pub fn keeps_the_promise_during(&self, arguments: &[&str]) -> bool {
        let config = self.directory.path().join("lbctl.toml");
        let program = env!("CARGO_BIN_EXE_lbctl");
        let command = format!("{program} -c {} {}", config.display(), arguments.join(" "));
        let ran = self.told(&[&format!("held={command}")]);
        println!("{ran}");
        ran.code == 0
    }

    /// Waits for the end of such a story.
    pub(super) fn peace(&self) -> Peace {
        let began = Instant::now();
        let path = format!("{}/cluster.lock", self.lab["LAB_RUN"]);
        let lock = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
        self.notes("another guest's story", began);
        Peace(lock)
    }
}
