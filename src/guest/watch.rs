//! Waiting inside the guest: one process there watches until there is something to report. Asking
//! for the whole status again and again would start one each time, which takes an emulated guest
//! seconds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::agent::{decode, malformed};
use super::{Guest, GuestError, GuestStatus};
use crate::text::sanitize::sanitize_line;

const PROGRAM: &str = include_str!("../../templates/guest/wait.py");

/// The process in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    pid: i64,
}

impl Guest<'_> {
    /// Starts watching, for at most `patience`. `known`: the number of primaries that need not be
    /// reported.
    pub fn watch(
        &self,
        known: u32,
        patience: Duration,
        deadline: Duration,
    ) -> Result<Watch, GuestError> {
        let (known, patience) = (known.to_string(), patience.as_secs().max(1).to_string());
        // Without the site's packages, which it does not need, Python starts in half the time.
        let args = ["-I", "-S", "-B", "-c", PROGRAM, &known, &patience];
        let arguments = json!({"path": "/usr/bin/python3", "arg": args, "capture-output": true});
        let started = self.ask(
            &json!({"execute": "guest-exec", "arguments": arguments}),
            Instant::now() + deadline,
        )?;
        let pid = started.get("pid").and_then(Value::as_i64);
        let pid = pid.ok_or_else(|| malformed("guest-exec returned no pid"))?;
        Ok(Watch { pid })
    }

    /// What the process reports; `None` while it watches. Of the status, what readiness depends on
    /// is filled in.
    pub fn watched(
        &self,
        watch: &Watch,
        deadline: Duration,
    ) -> Result<Option<GuestStatus>, GuestError> {
        let arguments = json!({"pid": watch.pid});
        let status = self.ask(
            &json!({"execute": "guest-exec-status", "arguments": arguments}),
            Instant::now() + deadline,
        )?;
        if status.get("exited").and_then(Value::as_bool) != Some(true) {
            return Ok(None);
        }
        let said = decode(&status, "out-data")?;
        if let Ok(found) = serde_json::from_slice::<GuestStatus>(&said) {
            return Ok(Some(found.cleaned()));
        }
        let said = String::from_utf8_lossy(&decode(&status, "err-data")?).into_owned();
        Err(GuestError::Malformed(format!(
            "waiting in the guest failed: {}",
            sanitize_line(&said, 400)
        )))
    }
}
