//! A status as a JSON document, for programs.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Answer, Certificate, Status};
use crate::cert::Facts;
use crate::guest::{CertificateFacts, GuestStatus, Server};

impl Status {
    /// The whole of it.
    #[must_use]
    pub fn document(&self) -> Value {
        let guest = self.answer();
        let silent = match &self.guest {
            Answer::None(said) => Some(said),
            Answer::Off | Answer::Status(_) => None,
        };
        let drift = match &self.drift {
            Ok(changes) => json!(changes),
            Err(said) => json!({"unknown": said}),
        };
        let ips = self.addresses.iter().map(|a| a.ip.as_str());
        json!({
            "command": "status",
            "name": self.name,
            "time": rfc3339(self.at),
            "ready": self.is_ready(),
            "not_ready_because": self.why_not(),
            "domain": {"state": self.state},
            "address": self.addresses.first().map(|a| a.ip.as_str()),
            "addresses": ips.collect::<Vec<_>>(),
            "certificate": self.certificate.as_ref().map(|c| in_use(c, guest, self.at)),
            "guest": silent,
            "boot_id": guest.map(|g| g.boot_id.as_str()),
            "uptime_seconds": guest.and_then(uptime),
            "cloud_init": guest.map(|g| json!({
                "status": g.cloud_init.status,
                "errors": g.cloud_init.errors,
            })),
            "haproxy": guest.map(haproxy),
            "verify_host": self.verify_host,
            "drift": drift,
        })
    }
}

/// A certificate, as every command tells it.
#[must_use]
pub fn certificate(facts: &Facts, now: OffsetDateTime) -> Value {
    json!({
        "subject": facts.subject,
        "serial": facts.serial,
        "not_after": rfc3339(facts.not_after),
        "days_left": (facts.not_after - now).whole_days(),
    })
}

/// The seed's certificate, beside what the guest has.
fn in_use(seed: &Certificate, guest: Option<&GuestStatus>, now: OffsetDateTime) -> Value {
    let facts = seed.facts.as_ref();
    let mut document = facts.map_or_else(|| json!({}), |facts| certificate(facts, now));
    let serial = |of: Option<&CertificateFacts>| of.map(|c| c.serial.clone());
    let same = |of: Option<&CertificateFacts>| of.map(|c| seed.is(&c.serial));
    if let Some(object) = document.as_object_mut() {
        object.insert("due".into(), seed.due.is_some().into());
        object.insert("reason".into(), seed.due.clone().into());
        if let Some(guest) = guest {
            let (disk, hand) = (&guest.certificate.on_disk, &guest.certificate.in_use);
            object.insert("serial_on_disk".into(), serial(disk.as_ref()).into());
            object.insert("serial_in_use".into(), serial(hand.as_ref()).into());
            object.insert("on_disk_is_seeds".into(), same(disk.as_ref()).into());
            object.insert("in_use_is_seeds".into(), same(hand.as_ref()).into());
        }
    }
    document
}

fn haproxy(guest: &GuestStatus) -> Value {
    let haproxy = &guest.haproxy;
    json!({
        "active": haproxy.active,
        "version": haproxy.version,
        "primary": haproxy.primary,
        "sessions": haproxy.sessions,
        "max_connections": haproxy.max_connections,
        "servers": haproxy.servers.iter().map(server).collect::<Vec<_>>(),
        "error": haproxy.error,
    })
}

fn server(server: &Server) -> Value {
    json!({
        "backend": server.backend,
        "name": server.name,
        "address": server.address,
        "state": server.state,
        "check": server.check,
        "check_code": server.check_code,
        "check_detail": server.check_detail,
        "last_change_seconds": server.last_change_s,
        "sessions": server.sessions,
    })
}

/// Whole seconds; `None` where it is no time at all.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and what a float holds exactly
pub(super) fn uptime(guest: &GuestStatus) -> Option<u64> {
    let seconds = guest.uptime_s;
    (0.0..9e15).contains(&seconds).then_some(seconds as u64)
}

fn rfc3339(time: OffsetDateTime) -> Option<String> {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).ok()
}
