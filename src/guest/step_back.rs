//! Asks a guest to give the shared address to another VM. The guest itself finds out whether one
//! takes it: that holds for two files, two timers and two people at once.

use std::time::Duration;

use serde::Deserialize;

use super::{Guest, GuestError};
use crate::text::sanitize::sanitize_line;

/// What the guest's program answers. Every field may be false.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    ok: bool,
    holder: Option<String>,
    error: Option<String>,
}

/// How a request to step back ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SteppedBack {
    /// The VM does not have the address, and another one does: its own address.
    Taken(String),
    /// Nothing has changed, and why.
    Refused(String),
}

impl Guest<'_> {
    /// Has it give the address away, and not take it again for ten minutes at most.
    pub fn step_back(&self, deadline: Duration) -> Result<SteppedBack, GuestError> {
        let answer = self.asked("yield", deadline)?;
        Ok(match answer.holder.filter(|_| answer.ok) {
            Some(holder) => SteppedBack::Taken(sanitize_line(&holder, 60)),
            None => SteppedBack::Refused(sanitize_line(&answer.error.unwrap_or_default(), 400)),
        })
    }

    /// Ends that: it may have the address again.
    pub fn step_up(&self, deadline: Duration) -> Result<(), GuestError> {
        self.asked("unyield", deadline).map(drop)
    }

    fn asked(&self, command: &str, deadline: Duration) -> Result<Answer, GuestError> {
        let output = self.program(&[command], deadline)?;
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let said = sanitize_line(&String::from_utf8_lossy(&output.stderr), 400);
            GuestError::Malformed(format!(
                "`lbctl-guest {command}` ended with exit code {}: {said}",
                output.exit_code
            ))
        })
    }
}
