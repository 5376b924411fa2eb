//! Bounds and cleans what the guest says, once, where it comes in: after that every text of a
//! [`GuestStatus`] is fit for a terminal, and every list has an end.

use super::{
    CertificateFacts, CloudInit, GuestStatus, HaproxyStatus, PeerStatus, Server, VirtualIpStatus,
};
use crate::text::sanitize::sanitize_line;

/// HAProxy's nodes, and those of the read-only backend.
const MOST_SERVERS: usize = 200;
const MOST_ERRORS: usize = 10;
const MOST_PEERS: usize = 16;

impl GuestStatus {
    /// The same, cleaned.
    #[must_use]
    pub(super) fn cleaned(self) -> Self {
        let Self {
            boot_id,
            uptime_s,
            cloud_init,
            haproxy,
            mut certificate,
            virtual_ip,
            ready,
        } = self;
        for facts in [&mut certificate.on_disk, &mut certificate.in_use] {
            *facts = facts.take().map(CertificateFacts::cleaned);
        }
        Self {
            boot_id: sanitize_line(&boot_id, 40),
            uptime_s,
            cloud_init: cloud_init.cleaned(),
            haproxy: haproxy.cleaned(),
            certificate,
            virtual_ip: virtual_ip.map(VirtualIpStatus::cleaned),
            ready,
        }
    }
}

impl VirtualIpStatus {
    fn cleaned(self) -> Self {
        let peers = self.peers.into_iter().take(MOST_PEERS);
        Self {
            address: sanitize_line(&self.address, 60),
            peers: peers.map(PeerStatus::cleaned).collect(),
            taken_by: tidy(self.taken_by, 40),
            error: tidy(self.error, 400),
            ..self
        }
    }
}

impl PeerStatus {
    fn cleaned(self) -> Self {
        Self {
            address: sanitize_line(&self.address, 60),
            ..self
        }
    }
}

impl CloudInit {
    fn cleaned(self) -> Self {
        let errors = self.errors.iter().take(MOST_ERRORS);
        Self {
            status: sanitize_line(&self.status, 40),
            stage: tidy(self.stage, 40),
            errors: errors.map(|said| sanitize_line(said, 500)).collect(),
        }
    }
}

impl CertificateFacts {
    fn cleaned(self) -> Self {
        Self {
            serial: sanitize_line(&self.serial, 80),
            not_after: sanitize_line(&self.not_after, 40),
        }
    }
}

impl HaproxyStatus {
    fn cleaned(self) -> Self {
        let servers = self.servers.into_iter().take(MOST_SERVERS);
        Self {
            version: tidy(self.version, 60),
            servers: servers.map(Server::cleaned).collect(),
            primary: tidy(self.primary, 60),
            error: tidy(self.error, 400),
            ..self
        }
    }
}

impl Server {
    fn cleaned(self) -> Self {
        Self {
            backend: sanitize_line(&self.backend, 60),
            name: sanitize_line(&self.name, 60),
            address: tidy(self.address, 60),
            state: sanitize_line(&self.state, 40),
            check: tidy(self.check, 60),
            check_detail: tidy(self.check_detail, 120),
            ..self
        }
    }
}

fn tidy(text: Option<String>, limit: usize) -> Option<String> {
    text.map(|text| sanitize_line(&text, limit))
}
