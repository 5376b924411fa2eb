//! What is known of a load balancer at one moment, as a value: it is the report of `lbctl status`,
//! made a text by `text` and a document by `json`. Texts of the guest in it are cleaned and bounded
//! (by `guest`), so both may show them as they are.

mod json;
mod metrics;
mod role;
mod text;
pub mod together;
mod virtual_ip;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use time::OffsetDateTime;

use crate::cert::{ClientPair, Facts};
use crate::config::{Config, DomainName, Haproxy, Interface, MainRole, Nodes, PatroniTls};
use crate::exit::Exit;
use crate::guest::{AgentAvailability, Guest, GuestStatus, VirtualIpStatus};
use crate::host::{AgentChannel, DomainFacts, DomainState, HostErrorKind, HostReader, HostResult};
use crate::output::json::Answer;
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::reconcile::desired::{Desired, Intent, current_seed};
use crate::reconcile::observe::{Ask, Observed, observe};
use crate::reconcile::plan::{Plan, Restart, ensure_seed_pool, guest_differs, plan_up};
use crate::secret::Secret;

pub use json::certificate as certificate_document;
pub use metrics::{Look, exposition};
pub use role::{SIGNS, Sign, TWO, word as role_word};
pub use text::ago;

/// For the guest's answer.
const ANSWER: Duration = Duration::from_secs(20);
/// For its addresses. An agent that is not there is noticed at once.
const ADDRESSES: Duration = Duration::from_secs(5);

/// The way of asking the nodes that takes a certificate.
const MUTUAL: &str = "mutual";

/// The load balancer, as it was at that time.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub name: String,
    pub at: OffsetDateTime,
    /// Of the libvirt daemon.
    pub uri: String,
    /// `running`, `shut off`, …, `absent`.
    pub state: String,
    /// Why it is in that state, in libvirt's words; `None`: the state says it all.
    pub reason: Option<String>,
    /// Whether lbctl made the domain, or there is none.
    pub is_ours: bool,
    /// The first one is the one that clients use.
    pub addresses: Vec<Address>,
    /// `None`: there is no seed, or it is unknown.
    pub certificate: Option<Certificate>,
    /// How the nodes are asked for their role.
    pub patroni_tls: &'static str,
    /// Why it is unknown whether there is a seed.
    pub seed_unknown: Option<String>,
    /// Which name the nodes' certificates must carry; `None`: any, only their CA is verified.
    pub verify_host: Option<String>,
    /// How far the nodes prove who they are, in words.
    pub verified: String,
    /// Whether new connections are to wait for a primary.
    pub holds: bool,
    /// Who takes the sessions of the main port, in a word.
    pub leader: &'static str,
    pub guest: GuestAnswer,
    /// By which the VMs that share an address know this one; `None`: it shares none.
    pub known_as: Option<Ipv4Addr>,
    /// What `up` would change, or why that is unknown.
    pub drift: Result<Vec<String>, String>,
    /// Whether all of that is written for the next start of the guest.
    pub restart_pending: bool,
    /// What the plan says beside its changes.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `None`: a DHCP server gives it, and the guest does not say which.
    pub ip: Option<IpAddr>,
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
    /// Whether somebody else issues it, so that the next one must be given.
    pub elsewhere: bool,
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
        let stands = domain.map(|d| d.state).filter(|state| match state {
            DomainState::Paused | DomainState::Suspended | DomainState::Crashed => true,
            DomainState::Running | DomainState::ShuttingDown | DomainState::ShutOff => false,
        });
        let is_ours = domain.is_none_or(DomainFacts::is_ours);
        let guest = if !is_ours {
            GuestAnswer::None("not asked, because lbctl did not make the domain".into())
        } else if let Some(state) = stands {
            GuestAnswer::None(format!("not asked, because the domain is {state}"))
        } else if domain.is_some_and(|d| d.live.is_some()) {
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
        let state = domain.map_or_else(|| "absent".into(), |d| d.state.to_string());
        let reason = domain.and_then(|d| d.reason).map(|why| why.to_string());
        let unknown = ensure_seed_pool(&config.seed_volume, &observed).err();
        let certificate = certificate(config, &observed, now);
        let (drift, restart_pending, notes) = match plan(config, &mut observed, &guest, now) {
            Ok(plan) => {
                let changes = plan.changes.iter().map(ToString::to_string);
                (Ok(changes.collect()), plan.awaits_restart(), plan.notes)
            }
            Err(why) => (Err(why), false, Vec::new()),
        };
        Ok(Self {
            name: config.name.to_string(),
            at: now,
            uri: uri.to_owned(),
            state,
            reason,
            is_ours,
            addresses: addresses(config, host),
            seed_unknown: unknown
                .filter(|_| certificate.is_none())
                .map(|r| r.to_string()),
            certificate,
            patroni_tls: config.haproxy.patroni_tls.as_str(),
            verify_host: verify_host(config),
            verified: nodes_are_verified(&config.haproxy),
            holds: config.haproxy.hold.millis() > 0,
            known_as: config.virtual_ip.as_ref().map(|shared| shared.own),
            leader: match config.haproxy.role {
                MainRole::Primary => "primary",
                MainRole::StandbyLeader => "standby leader",
                MainRole::Leader => "leader",
            },
            drift,
            restart_pending,
            notes,
            guest,
        })
    }

    /// `paused (I/O error)`
    #[must_use]
    pub fn state_with_reason(&self) -> String {
        match &self.reason {
            None => self.state.clone(),
            Some(reason) => format!("{} ({reason})", self.state),
        }
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.why_not().is_none()
    }

    /// Why it is not ready; `None`: it is.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        if !self.is_ours {
            return Some("a domain of this name exists, and lbctl did not make it".into());
        }
        let guest = match &self.guest {
            GuestAnswer::Off if self.state == "absent" => {
                return Some("the domain does not exist".into());
            }
            GuestAnswer::Off => return Some(format!("the domain is {}", self.state_with_reason())),
            GuestAnswer::None(_) if self.state != DomainState::Running.to_string() => {
                return Some(format!("the domain is {}", self.state_with_reason()));
            }
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
            _ if guest.ready => guest.virtual_ip.as_ref().and_then(virtual_ip::why_not),
            0 if !guest.haproxy.active => Some("HAProxy is not running".into()),
            0 if role::has_no_leader(&guest.haproxy) => Some("the cluster has no leader".into()),
            0 => Some(format!("no node is the {}", self.leader)),
            1 => Some("the guest reports that it is not ready".into()),
            count => Some(format!("{count} nodes are {}", plural(self.leader))),
        }
    }

    /// What the guest says of the address that it shares.
    #[must_use]
    pub fn shared(&self) -> Option<&VirtualIpStatus> {
        self.answer()?.virtual_ip.as_ref()
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
        vec![TextPart::Block(
            self.lines(options.columns, options.verbose),
        )]
    }
}

/// Of [`Status::leader`].
fn plural(leader: &str) -> String {
    match leader.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{leader}s"),
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
pub fn nodes_are_verified(haproxy: &Haproxy) -> String {
    let client = match haproxy.patroni_tls {
        PatroniTls::Off => {
            return "off: plain HTTP, so nothing proves who answers the health checks".into();
        }
        PatroniTls::Server(_) => "; without a client certificate",
        PatroniTls::Mutual(_) => "",
    };
    let names: Vec<Option<&DomainName>> = match &haproxy.nodes {
        Nodes::Named { .. } => vec![haproxy.verify_host.as_ref()],
        Nodes::Listed { nodes, .. } => nodes.iter().map(|n| haproxy.verify_host_of(n)).collect(),
    };
    let names: BTreeSet<_> = names.into_iter().collect();
    let missing = "haproxy.verify_host = NAME checks their name too";
    let verified = match Vec::from_iter(&names).as_slice() {
        [Some(name)] => format!("verified by CA and by name ({name})"),
        [None] => format!("verified by CA only; {missing}"),
        [None, ..] => format!("verified by CA, some by name too; {missing}"),
        _ => "verified by CA and each by its name".into(),
    };
    verified + client
}

/// Each address of the VM. The guest is asked only for what the configuration does not know; it may
/// be off.
#[must_use]
pub fn addresses(config: &Config, channel: &dyn AgentChannel) -> Vec<Address> {
    let found = if config.has_unknown_address() {
        let guest = Guest::new(channel, config.name.as_str());
        guest.addresses(ADDRESSES).unwrap_or_default()
    } else {
        BTreeMap::new()
    };
    let of_interface = |interface: &Interface| {
        let mut ips: Vec<Option<IpAddr>> = interface.ips().map(Some).collect();
        if ips.is_empty() {
            let found = found.get(&interface.mac).into_iter().flatten();
            ips.extend(found.copied().map(Some));
        }
        if ips.is_empty() {
            ips.push(None);
        }
        let at = interface.source.to_string();
        ips.into_iter()
            .map(move |ip| Address { ip, at: at.clone() })
    };
    config.interfaces.iter().flat_map(of_interface).collect()
}

/// The address that clients use. `None`: the guest does not say it.
#[must_use]
pub fn address(config: &Config, channel: &dyn AgentChannel) -> Option<IpAddr> {
    match config.address() {
        None => addresses(config, channel).first()?.ip,
        known => known,
    }
}

fn certificate(config: &Config, observed: &Observed, now: OffsetDateTime) -> Option<Certificate> {
    let client = config.haproxy.patroni_tls.client()?;
    let pem = current_seed(observed)?.client_pem.as_ref();
    let pem = pem.map(Secret::expose);
    let pair = pem.and_then(|pem| ClientPair::from_pem(pem).ok());
    Some(Certificate {
        facts: pair.map(|pair| pair.facts().clone()),
        due: client.due(pem, now).map(|reason| reason.to_string()),
        elsewhere: client.is_elsewhere(),
    })
}

/// What `plan` would show.
fn plan(
    config: &Config,
    observed: &mut Observed,
    guest: &GuestAnswer,
    now: OffsetDateTime,
) -> Result<Plan, String> {
    let desired =
        Desired::from_config(config, observed, now, Intent::Show).map_err(|e| e.to_string())?;
    if guest_differs(&desired.seed, observed.domain.as_ref()) {
        // A guest that has just answered with its status can run programs.
        observed.availability = match guest {
            GuestAnswer::Off => AgentAvailability::NotAsked,
            GuestAnswer::None(said) => AgentAvailability::Out(said.clone()),
            GuestAnswer::Status(_) => AgentAvailability::Ready,
        };
    }
    if let (GuestAnswer::Status(said), Some(shared)) = (guest, &config.virtual_ip) {
        let known = said.virtual_ip.as_ref();
        observed.spare = known.is_some_and(|known| known.has_spare(shared.address));
    }
    plan_up(&desired, observed, Restart::Later).map_err(|refusal| refusal.to_string())
}
