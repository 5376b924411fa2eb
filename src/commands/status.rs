//! `lbctl status`: domain, address, certificate, cloud-init's verdict, HAProxy's view of each node, drift.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::up::{address, nodes};
use super::{Ended, connect, load};
use crate::cert::{ClientPair, Facts};
use crate::cli::Cli;
use crate::config::Config;
use crate::desired::{Desired, current_seed};
use crate::failure::Exit;
use crate::guest::{Guest, GuestError, GuestStatus, clean};
use crate::host::libvirt::LibvirtHost;
use crate::observe::{Ask, Observed, observe};
use crate::output::Output;
use crate::plan::{Restart, plan_up};

/// For the guest's answer.
const ANSWER: Duration = Duration::from_secs(20);

pub(super) fn run(cli: &Cli, out: &Output) -> Ended {
    let config = load(cli, out)?;
    let host = connect(cli, &config)?;
    let now = OffsetDateTime::now_utc();
    let observed = observe(&config, &host, Ask::WhatIsNeeded)?;
    let running = observed.domain.as_ref().is_some_and(|d| d.live.is_some());
    let guest = running.then(|| Guest::new(&host, config.name.as_str()).status(ANSWER));
    let status = Status {
        state: observed
            .domain
            .as_ref()
            .map_or_else(|| "absent".into(), |d| d.state.to_string()),
        certificate: certificate(&observed),
        drift: drift(&config, &observed, now),
        guest,
    };
    if out.json {
        out.document(status.document(&config, now));
    } else {
        status.show(&config, &host, now, out);
    }
    Ok(if status.ready() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

struct Status {
    state: String,
    certificate: Option<Facts>,
    drift: Result<Vec<String>, String>,
    /// `None`: the domain is not running.
    guest: Option<Result<GuestStatus, GuestError>>,
}

impl Status {
    fn answer(&self) -> Option<&GuestStatus> {
        self.guest.as_ref()?.as_ref().ok()
    }

    fn ready(&self) -> bool {
        self.answer()
            .is_some_and(|g| g.ready && matches!(g.cloud_init.status.as_str(), "done" | "disabled"))
    }

    fn show(&self, config: &Config, host: &LibvirtHost, now: OffsetDateTime, out: &Output) {
        let line = |key: &str, value: &str| out.data_line(&format!("  {key:<13}{value}"));
        let verdict = if self.ready() { "ready" } else { "not ready" };
        out.heading(&format!("{}: {verdict}", config.name));
        line("domain", &format!("{} at {}", self.state, host.uri()));
        line("address", &address(config));
        line(
            "certificate",
            &self
                .certificate
                .as_ref()
                .map_or_else(|| "none".into(), |facts| describe(facts, now)),
        );
        match &self.guest {
            None => {}
            Some(Err(error)) => line("guest", &silence(error)),
            Some(Ok(status)) => show_guest(status, &line),
        }
        line(
            "drift",
            &match &self.drift {
                Ok(changes) if changes.is_empty() => "none".to_owned(),
                Ok(changes) => format!("{} (`lbctl plan` shows all)", changes.join("; ")),
                Err(said) => format!("cannot be told: {said}"),
            },
        );
    }

    fn document(&self, config: &Config, now: OffsetDateTime) -> Value {
        let certificate = self.certificate.as_ref().map(|facts| {
            json!({
                "subject": facts.subject,
                "serial": facts.serial,
                "not_after": facts.not_after.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
                "days_left": (facts.not_after - now).whole_days(),
            })
        });
        let guest = self.answer();
        let servers: Vec<Value> = guest
            .map(|g| g.haproxy.servers.iter().map(server).collect())
            .unwrap_or_default();
        let drift = match &self.drift {
            Ok(changes) => json!(changes),
            Err(said) => json!({"unknown": said}),
        };
        json!({
            "command": "status",
            "name": config.name.as_str(),
            "ready": self.ready(),
            "domain": {"state": self.state},
            "address": address(config),
            "certificate": certificate,
            "guest": self.guest.as_ref().and_then(|g| g.as_ref().err()).map(silence),
            "boot_id": guest.map(|g| clean(&g.boot_id, 40)),
            "uptime_seconds": guest.map(|g| g.uptime_s),
            "cloud_init": guest.map(|g| json!({"status": clean(&g.cloud_init.status, 40), "errors": g.cloud_init.errors.iter().map(|e| clean(e, 500)).collect::<Vec<_>>()})),
            "haproxy": guest.map(|g| json!({
                "version": g.haproxy.version.as_deref().map(|v| clean(v, 60)),
                "primary": g.haproxy.primary.as_deref().map(|p| clean(p, 60)),
                "sessions": g.haproxy.sessions,
                "max_connections": g.haproxy.max_connections,
                "servers": servers,
            })),
            "drift": drift,
        })
    }
}

fn show_guest(status: &GuestStatus, line: &dyn Fn(&str, &str)) {
    let haproxy = &status.haproxy;
    line("cloud-init", &clean(&status.cloud_init.status, 40));
    for error in status.cloud_init.errors.iter().take(5) {
        line("", &clean(error, 200));
    }
    let version = haproxy
        .version
        .as_deref()
        .map_or_else(|| "not answering".into(), |v| clean(v, 40));
    let sessions = haproxy
        .sessions
        .map(|n| format!(", {n} connections"))
        .unwrap_or_default();
    line("haproxy", &format!("{version}{sessions}"));
    line(
        "primary",
        &haproxy.primary.as_deref().map_or_else(
            || {
                format!(
                    "none: {} servers up, and exactly one is wanted",
                    haproxy.servers_up
                )
            },
            |p| clean(p, 60),
        ),
    );
    for node in nodes(haproxy) {
        line("", &node);
    }
}

fn server(server: &crate::guest::Server) -> Value {
    let text = |t: &Option<String>| t.as_deref().map(|t| clean(t, 120));
    json!({
        "backend": clean(&server.backend, 60),
        "name": clean(&server.name, 60),
        "address": text(&server.address),
        "state": clean(&server.state, 40),
        "check": text(&server.check),
        "check_detail": text(&server.check_detail),
        "last_change_seconds": server.last_change_s,
        "sessions": server.sessions,
    })
}

/// The certificate in the seed in use.
fn certificate(observed: &Observed) -> Option<Facts> {
    let pem = current_seed(observed)?.client_pem.as_ref()?;
    ClientPair::from_pem(pem.expose())
        .ok()
        .map(|pair| pair.facts().clone())
}

fn describe(facts: &Facts, now: OffsetDateTime) -> String {
    format!(
        "{}, until {} ({} days left)",
        facts.subject,
        facts.not_after.date(),
        (facts.not_after - now).whole_days()
    )
}

fn drift(config: &Config, observed: &Observed, now: OffsetDateTime) -> Result<Vec<String>, String> {
    let desired = Desired::of(config, observed, now).map_err(|e| e.to_string())?;
    match plan_up(&desired, observed, Restart::Later) {
        Ok(plan) => Ok(plan.changes.iter().map(ToString::to_string).collect()),
        Err(refusal) => Err(refusal
            .objections
            .iter()
            .map(|o| o.message.clone())
            .collect::<Vec<_>>()
            .join("; ")),
    }
}

fn silence(error: &GuestError) -> String {
    match error {
        GuestError::Silent(said) => format!("its agent does not answer: {said}"),
        GuestError::Absent => {
            "its agent answers; cloud-init has not put lbctl's program there yet".into()
        }
        GuestError::Nonsense(said) => format!("its agent answers what lbctl cannot read: {said}"),
        GuestError::Host(error) => error.to_string(),
    }
}
