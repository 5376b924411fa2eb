//! Sessions of psql through a guest that nothing may cut.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Guest;
use super::promise::Peace;

/// Sessions that do something twice a second, and end when their connection does.
pub(super) struct Sessions {
    clients: Vec<Child>,
    _script: tempfile::NamedTempFile,
    /// Nobody else moves the primary, which would cut them.
    _peace: Peace,
}

impl Sessions {
    const COUNT: usize = 20;

    pub(super) fn open(guest: &Guest) -> Self {
        let peace = guest.peace();
        let script = tempfile::NamedTempFile::new().unwrap();
        fs::write(script.path(), "select 1 \\watch 0.5\n").unwrap();
        let dsn = guest.dsn();
        let client = |_| {
            Command::new("ip")
                .args([
                    "netns",
                    "exec",
                    &guest.client,
                    &guest.lab["PSQL"],
                    &dsn,
                    "-q",
                ])
                .arg("-vON_ERROR_STOP=1")
                .arg("-f")
                .arg(script.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let clients = (0..Self::COUNT).map(client).collect();
        let mut sessions = Self {
            clients,
            _script: script,
            _peace: peace,
        };
        std::thread::sleep(Duration::from_secs(8));
        sessions.none_was_cut("before anything was changed");
        sessions
    }

    pub(super) fn none_was_cut(&mut self, when: &str) {
        // A session that was cut ends at its next query.
        std::thread::sleep(Duration::from_secs(2));
        let ended = self
            .clients
            .iter_mut()
            .filter_map(|c| c.try_wait().unwrap());
        assert_eq!(ended.count(), 0, "sessions were cut {when}");
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        for client in &mut self.clients {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}
