//! What is known of a load balancer at one moment, as a value: it is the report of `lbctl status`,
//! made a text by `text` and a document by `json`. Texts of the guest in it are cleaned and bounded
//! (by `guest`), so both may show them as they are.

mod json;
mod text;

use std::time::Duration;

use time::OffsetDateTime;

use crate::cert::{self, ClientPair, Facts};
use crate::config::Config;
use crate::exit::Exit;
use crate::guest::{AgentAvailability, Guest, GuestStatus};
use crate::host::{AgentChannel, HostErrorKind, HostReader, HostResult};
use crate::output::json::Answer;
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::reconcile::desired::{Desired, current_seed, policy};
use crate::reconcile::observe::{Ask, Observed, observe};
use crate::reconcile::plan::{Restart, guest_differs, plan_up};
use crate::secret::Secret;

pub use json::certificate as certificate_document;
pub use text::ago;

/// For the guest's answer.
const ANSWER: Duration = Duration::from_secs(20);

/// The load balancer, as it was at that time.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub name: String,
    pub at: OffsetDateTime,
    /// Of the libvirt daemon.
    pub uri: String,
    /// `running`, `shut off`, …, `absent`.
    pub state: String,
    /// The first one is the one that clients use.
    pub addresses: Vec<Address>,
    /// `None`: there is no seed.
    pub certificate: Option<Certificate>,
    /// Which name the nodes' certificates must carry; `None`: any, only their CA is verified.
    pub verify_host: Option<String>,
    /// Whether new connections are to wait for a primary.
    pub holds: bool,
    pub guest: GuestAnswer,
    /// What `up` would change, or why that is unknown.
    pub drift: Result<Vec<String>, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub ip: String,
    /// `network default`
    pub at: String,
}

/// The client certificate in the seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// `None`: the one there cannot be read.
    pub facts: Option<Facts>,
    /// Why it is to be renewed; `None`: it is not.
    pub due: Option<String>,
}

/// What the guest says.
#[derive(Debug, Clone, PartialEq)]
pub enum GuestAnswer {
    /// It does not run.
    Off,
    /// It runs, but gave no answer that could be read.
    None(String),
    Status(Box<GuestStatus>),
}

impl Status {
    /// Asks host and guest. An error: libvirt's.
    pub fn fetch(
        config: &Config,
        host: &(impl HostReader + AgentChannel),
        uri: &str,
        now: OffsetDateTime,
    ) -> HostResult<Self> {
        let mut observed = observe(config, host, Ask::WhatIsNeeded)?;
        let domain = observed.domain.as_ref();
        let guest = if domain.is_some_and(|d| d.live.is_some()) {
            match Guest::new(host, config.name.as_str()).status(ANSWER) {
                Ok(status) => GuestAnswer::Status(Box::new(status)),
                Err(crate::guest::GuestError::Host(error))
                    if error.kind == HostErrorKind::Connection =>
                {
                    return Err(error);
                }
                Err(error) => GuestAnswer::None(error.to_string()),
            }
        } else {
            GuestAnswer::Off
        };
        Ok(Self {
            name: config.name.to_string(),
            at: now,
            uri: uri.to_owned(),
            state: domain.map_or_else(|| "absent".into(), |d| d.state.to_string()),
            addresses: addresses(config),
            certificate: certificate(config, &observed, now),
            verify_host: verify_host(config),
            holds: config.haproxy.hold.millis() > 0,
            drift: drift(config, &mut observed, &guest, now),
            guest,
        })
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.why_not().is_none()
    }

    /// Why it is not ready; `None`: it is.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        let guest = match &self.guest {
            GuestAnswer::Off if self.state == "absent" => {
                return Some("the domain does not exist".into());
            }
            GuestAnswer::Off => return Some(format!("the domain is {}", self.state)),
            GuestAnswer::None(_) => return Some("the guest does not answer".into()),
            GuestAnswer::Status(guest) => guest,
        };
        match guest.cloud_init.status.as_str() {
            "done" | "disabled" => {}
            "error" => return Some("cloud-init failed".into()),
            "running" => return Some("cloud-init is running".into()),
            other => return Some(format!("cloud-init: {other}")),
        }
        match guest.haproxy.servers_up {
            _ if guest.ready => None,
            0 if !guest.haproxy.active => Some("HAProxy is not running".into()),
            0 => Some("no node is the primary".into()),
            1 => Some("the guest reports that it is not ready".into()),
            count => Some(format!("{count} nodes are primaries")),
        }
    }

    fn answer(&self) -> Option<&GuestStatus> {
        match &self.guest {
            GuestAnswer::Status(guest) => Some(guest),
            GuestAnswer::Off | GuestAnswer::None(_) => None,
        }
    }
}

impl CommandReport for Status {
    fn exit(&self) -> Exit {
        if self.is_ready() {
            Exit::Done
        } else {
            Exit::Failed
        }
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Status(Box::new(self.to_document())))
    }

    fn text(&self, options: TextOptions) -> Vec<TextPart> {
        vec![TextPart::Block(self.lines(options.columns))]
    }
}

impl Certificate {
    /// Whether the guest's certificate is this one, by its serial number.
    fn is(&self, serial: &str) -> bool {
        self.facts.as_ref().is_some_and(|f| f.serial == serial)
    }
}

fn verify_host(config: &Config) -> Option<String> {
    let name = config.haproxy.verify_host.as_ref()?;
    Some(name.as_str().to_owned())
}

/// In words, for `status` and `check`.
#[must_use]
pub fn nodes_are_verified(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("verified by CA and by name ({name})"),
        None => "verified by CA only; haproxy.verify_host = NAME checks their name too".into(),
    }
}

fn addresses(config: &Config) -> Vec<Address> {
    let address = |i: &crate::config::Interface| Address {
        ip: i.ip.to_string(),
        at: i.source.to_string(),
    };
    config.interfaces.iter().map(address).collect()
}

fn certificate(config: &Config, observed: &Observed, now: OffsetDateTime) -> Option<Certificate> {
    let pem = current_seed(observed)?.client_pem.as_ref();
    let pem = pem.map(Secret::expose);
    let pair = pem.and_then(|pem| ClientPair::from_pem(pem).ok());
    Some(Certificate {
        facts: pair.map(|pair| pair.facts().clone()),
        due: cert::due(pem, policy(config), now).map(|reason| reason.to_string()),
    })
}

/// What `plan` would show.
fn drift(
    config: &Config,
    observed: &mut Observed,
    guest: &GuestAnswer,
    now: OffsetDateTime,
) -> Result<Vec<String>, String> {
    let desired = Desired::from_config(config, observed, now).map_err(|e| e.to_string())?;
    if guest_differs(&desired.seed, observed.domain.as_ref()) {
        // A guest that has just answered with its status can run programs.
        observed.availability = match guest {
            GuestAnswer::Off => AgentAvailability::NotAsked,
            GuestAnswer::None(said) => AgentAvailability::Out(said.clone()),
            GuestAnswer::Status(_) => AgentAvailability::Ready,
        };
    }
    match plan_up(&desired, observed, Restart::Later) {
        Ok(plan) => Ok(plan.changes.iter().map(ToString::to_string).collect()),
        Err(refusal) => Err(refusal.to_string()),
    }
}
