//! A status as a document, for programs.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::role::{Standing, standings};
use super::{Address, Certificate, GuestAnswer, MUTUAL, Status, virtual_ip};
use crate::cert::Facts;
use crate::guest::{CertificateFacts, GuestStatus, HaproxyStatus, Server};
use crate::output::json::{
    CertificateDocument, CloudInitDocument, DomainDocument, HaproxyDocument, ServerDocument,
    StatusCertificateDocument, StatusDocument,
};

impl Status {
    /// The whole of it.
    #[must_use]
    pub fn to_document(&self) -> StatusDocument {
        let guest = self.answer();
        let silent = match &self.guest {
            GuestAnswer::None(said) => Some(said.clone()),
            GuestAnswer::Off | GuestAnswer::Status(_) => None,
        };
        let text = |address: &Address| address.ip.map(|ip| ip.to_string());
        StatusDocument {
            name: self.name.clone(),
            time: rfc3339(self.at),
            ready: self.is_ready(),
            not_ready_because: self.why_not(),
            uri: self.uri.clone(),
            domain: DomainDocument {
                state: self.state.clone(),
                reason: self.reason.clone(),
            },
            address: self.addresses.first().and_then(text),
            addresses: self.addresses.iter().filter_map(text).collect(),
            certificate: self.certificate.as_ref().map(|c| in_use(c, guest, self.at)),
            guest: silent,
            boot_id: guest.map(|g| g.boot_id.clone()),
            uptime_seconds: guest.and_then(uptime),
            cloud_init: guest.map(|g| CloudInitDocument {
                status: g.cloud_init.status.clone(),
                errors: g.cloud_init.errors.clone(),
            }),
            haproxy: guest.map(|g| haproxy(&g.haproxy, self.patroni_tls == MUTUAL)),
            virtual_ip: guest.and_then(|g| g.virtual_ip.as_ref()).map(|shared| {
                let own = self.known_as.map(|ip| ip.to_string());
                virtual_ip::document(shared, own.as_deref())
            }),
            patroni_tls: self.patroni_tls.to_owned(),
            verify_host: self.verify_host.clone(),
            drift: self.drift.as_ref().ok().cloned(),
            drift_unknown_because: self.drift.as_ref().err().cloned(),
            restart_pending: self.restart_pending,
            notes: self.notes.clone(),
            seed_unknown_because: self.seed_unknown.clone(),
        }
    }
}

/// A certificate, as every command shows it.
#[must_use]
pub fn certificate(facts: &Facts, now: OffsetDateTime) -> CertificateDocument {
    CertificateDocument {
        subject: facts.subject.clone(),
        serial: facts.serial.clone(),
        not_after: rfc3339(facts.not_after),
        days_left: (facts.not_after - now).whole_days(),
    }
}

/// The seed's certificate, beside what the guest has.
fn in_use(
    seed: &Certificate,
    guest: Option<&GuestStatus>,
    now: OffsetDateTime,
) -> StatusCertificateDocument {
    let serial = |of: Option<&CertificateFacts>| of.map(|c| c.serial.clone());
    let same = |of: Option<&CertificateFacts>| of.map(|c| seed.is(&c.serial));
    let disk = guest.and_then(|g| g.certificate.on_disk.as_ref());
    let in_use = guest.and_then(|g| g.certificate.in_use.as_ref());
    StatusCertificateDocument {
        facts: seed.facts.as_ref().map(|facts| certificate(facts, now)),
        due: seed.due.is_some(),
        reason: seed.due.clone(),
        serial_on_disk: serial(disk),
        serial_in_use: serial(in_use),
        on_disk_is_seeds: same(disk),
        in_use_is_seeds: same(in_use),
    }
}

fn haproxy(haproxy: &HaproxyStatus, mutual: bool) -> HaproxyDocument {
    let servers = standings(haproxy, mutual).into_iter();
    HaproxyDocument {
        active: haproxy.active,
        version: haproxy.version.clone(),
        primary: haproxy.primary.clone(),
        sessions: haproxy.sessions,
        max_connections: haproxy.max_connections,
        held_clients: haproxy.held,
        servers: servers.map(|(of, standing)| server(of, standing)).collect(),
        error: haproxy.error.clone(),
    }
}

fn server(server: &Server, standing: Standing) -> ServerDocument {
    ServerDocument {
        backend: server.backend.clone(),
        name: server.name.clone(),
        address: server.address.clone(),
        role: standing.role,
        state: server.state.clone(),
        check: server.check.clone(),
        check_code: server.check_code,
        check_detail: server.check_detail.clone(),
        last_change_seconds: server.last_change_s,
        sessions: server.sessions,
    }
}

/// Whole seconds; `None` where it is not a time.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and what a float holds exactly
pub(super) fn uptime(guest: &GuestStatus) -> Option<u64> {
    let seconds = guest.uptime_s;
    (0.0..9e15).contains(&seconds).then_some(seconds as u64)
}

fn rfc3339(time: OffsetDateTime) -> Option<String> {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).ok()
}
