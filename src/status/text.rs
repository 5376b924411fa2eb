//! A status as lines for people, in as many columns as there are.

use std::fmt::Write as _;

use super::json::uptime;
use super::{Certificate, GuestAnswer, Status, nodes_are_verified};
use crate::guest::{CertificateFacts, GuestStatus, Server};
use crate::text::width::{fit, wrap};

/// Of each line, before the value.
const LABEL: usize = 15;
/// Errors of cloud-init that are worth reading.
const ERRORS: usize = 5;
/// The backend of the primary; the other one is for reading.
const PRIMARY: &str = "primary";

/// Lines with a label each, of at most so many columns.
struct Lines {
    columns: Option<usize>,
    lines: Vec<String>,
}

impl Status {
    /// The first line is the heading. `columns`: no line is longer; `None`: lines are as long as
    /// they are.
    #[must_use]
    pub fn lines(&self, columns: Option<usize>) -> Vec<String> {
        let verdict = self
            .why_not()
            .map_or_else(|| "ready".to_owned(), |why| format!("not ready: {why}"));
        let mut lines = Lines::new(columns, &format!("{}: {verdict}", self.name));
        lines.add("domain", &format!("{} at {}", self.state, self.uri));
        for (index, address) in self.addresses.iter().enumerate() {
            let label = if index == 0 { "address" } else { "" };
            lines.add(label, &format!("{} ({})", address.ip, address.at));
        }
        let guest = self.answer();
        if let GuestAnswer::None(said) = &self.guest {
            lines.add("guest", said);
        }
        if let Some(guest) = guest {
            if let Some(seconds) = uptime(guest) {
                lines.add("uptime", &ago(seconds));
            }
            lines.add("cloud-init", &guest.cloud_init.status);
            for error in guest.cloud_init.errors.iter().take(ERRORS) {
                lines.add("", error);
            }
        }
        self.certificate(&mut lines);
        let verified = nodes_are_verified(self.verify_host.as_deref());
        lines.add("nodes' TLS", &verified);
        if let Some(guest) = guest {
            haproxy(guest, self.holds, &mut lines);
        }
        lines.add_one("drift", &self.drift_line());
        lines.lines
    }

    fn certificate(&self, lines: &mut Lines) {
        let Some(certificate) = &self.certificate else {
            lines.add("certificate", "none: there is no seed");
            return;
        };
        if let Some(facts) = &certificate.facts {
            let days = (facts.not_after - self.at).whole_days();
            let ends = match days {
                _ if facts.not_after < self.at => "has expired".to_owned(),
                1 => "1 day left".to_owned(),
                _ => format!("{days} days left"),
            };
            let due = if certificate.due.is_some() {
                "due"
            } else {
                "not due"
            };
            let until = facts.not_after.date();
            let subject = &facts.subject;
            lines.add(
                "certificate",
                &format!("{subject}, until {until}, {ends}, {due}"),
            );
            lines.add("", &format!("serial {}", facts.serial));
        } else {
            lines.add("certificate", "the one in the seed cannot be read");
        }
        if let Some(reason) = &certificate.due {
            lines.add("", &format!("due: {reason}; `lbctl renew` renews it"));
        }
        if let Some(guest) = self.answer() {
            in_guest(certificate, guest, lines);
        }
    }

    fn drift_line(&self) -> String {
        match &self.drift {
            Err(said) => format!("unknown: {said}"),
            Ok(changes) => match changes.as_slice() {
                [] => "none".into(),
                [one] => one.clone(),
                many => format!(
                    "{} changes (see `lbctl plan`): {}",
                    many.len(),
                    many.join("; ")
                ),
            },
        }
    }
}

fn in_guest(seed: &Certificate, guest: &GuestStatus, lines: &mut Lines) {
    let has = |of: &Option<CertificateFacts>| match of {
        None => "unknown".to_owned(),
        Some(facts) if seed.is(&facts.serial) => "this one".into(),
        Some(facts) => format!("another one, serial {}", facts.serial),
    };
    let (disk, in_use) = (
        has(&guest.certificate.on_disk),
        has(&guest.certificate.in_use),
    );
    if disk == in_use {
        lines.add(
            "",
            &format!("on the guest's disk and in use by HAProxy: {disk}"),
        );
    } else {
        lines.add("", &format!("on the guest's disk: {disk}"));
        lines.add("", &format!("in use by HAProxy: {in_use}"));
    }
}

fn haproxy(guest: &GuestStatus, holds: bool, lines: &mut Lines) {
    let haproxy = &guest.haproxy;
    let text = match (&haproxy.version, &haproxy.error) {
        (Some(version), _) => format!("version {version}"),
        (None, Some(error)) => format!("does not answer: {error}"),
        (None, None) => "does not answer".into(),
    };
    let connections = match (haproxy.sessions, haproxy.max_connections) {
        (Some(now), Some(most)) => format!(", {now} of {most} connections"),
        (Some(now), None) => format!(", {now} connections"),
        (None, _) => String::new(),
    };
    lines.add("haproxy", &format!("{text}{connections}"));
    let primary = haproxy.primary.as_deref().map_or_else(
        || {
            format!(
                "none: {} nodes are up, but exactly one is required",
                haproxy.servers_up
            )
        },
        |address| {
            let is = |s: &&Server| s.backend == PRIMARY && s.address.as_deref() == Some(address);
            let node = haproxy.servers.iter().find(is);
            node.map_or_else(
                || address.to_owned(),
                |node| format!("{address} ({})", node.name),
            )
        },
    );
    lines.add("primary", &primary);
    match haproxy.held {
        Some(0) => {}
        Some(1) => lines.add("", "1 client waits for a primary"),
        Some(count) => lines.add("", &format!("{count} clients wait for a primary")),
        None if holds && haproxy.version.is_some() => lines.add(
            "",
            "no client can wait for one: this HAProxy has not loaded lbctl's Lua",
        ),
        None => {}
    }
    let mut backends: Vec<&str> = Vec::new();
    for server in &haproxy.servers {
        if !backends.contains(&server.backend.as_str()) {
            backends.push(&server.backend);
        }
    }
    for backend in backends {
        let servers: Vec<&Server> = haproxy
            .servers
            .iter()
            .filter(|s| s.backend == backend)
            .collect();
        let label = if backend == PRIMARY { "nodes" } else { backend };
        table(&servers, label, lines);
    }
}

/// HAProxy's view of each node.
fn table(servers: &[&Server], label: &str, lines: &mut Lines) {
    let head = ["name", "address", "state", "since", "sessions", "check"].map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(servers.iter().map(|server| row(server)));
    // The check's words come last, and get what is left.
    let most = [16, 40, 12, 10, 10];
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max();
        widest.unwrap_or(0).min(most[column])
    };
    let widths = [0, 1, 2, 3, 4].map(width);
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let cell = fit(cell, width);
            let _ = write!(line, "{cell:<width$}  ");
        }
        line.push_str(&row[5]);
        lines.add_one(if index == 0 { label } else { "" }, line.trim_end());
    }
}

/// HAProxy's word, but for a node that has no time to answer, and one whose PostgreSQL stops.
fn state(server: &Server) -> String {
    let check = server.check.as_deref().unwrap_or_default();
    if server.state.starts_with("NOLB") {
        "stopping".to_owned()
    } else if server.state.starts_with("DOWN") && check.ends_with("TOUT") {
        "slow".to_owned()
    } else {
        server.state.clone()
    }
}

fn row(server: &Server) -> [String; 6] {
    // HAProxy puts an asterisk before the state of a check that is in progress.
    let check = server.check.as_deref().unwrap_or_default();
    let mut words: Vec<String> = vec![check.trim_start_matches("* ").to_owned()];
    // While one is in progress there is no answer yet.
    let code = server.check_code.filter(|code| *code > 0);
    words.extend(code.map(|code| code.to_string()));
    words.extend(server.check_detail.clone());
    [
        server.name.clone(),
        server.address.clone().unwrap_or_else(|| "-".into()),
        state(server),
        server.last_change_s.map_or_else(|| "-".into(), ago),
        server
            .sessions
            .map_or_else(|| "-".into(), |count| count.to_string()),
        words.join(" "),
    ]
}

impl Lines {
    fn new(columns: Option<usize>, heading: &str) -> Self {
        let mut this = Self {
            columns,
            lines: Vec::new(),
        };
        this.lines = this.broken(heading, 0);
        this
    }

    /// A value in as many lines as it takes.
    fn add(&mut self, label: &str, value: &str) {
        let broken = self.broken(value, LABEL);
        self.push(label, broken);
    }

    /// A value in one line; what does not fit is cut.
    fn add_one(&mut self, label: &str, value: &str) {
        let room = self.columns.map(|columns| columns.saturating_sub(LABEL));
        let value = room.map_or_else(|| value.to_owned(), |room| fit(value, room));
        self.push(label, vec![value]);
    }

    fn broken(&self, value: &str, used: usize) -> Vec<String> {
        match self.columns {
            Some(columns) => wrap(value, columns.saturating_sub(used)),
            None => vec![value.to_owned()],
        }
    }

    fn push(&mut self, label: &str, values: Vec<String>) {
        let labels = std::iter::once(label).chain(std::iter::repeat(""));
        for (label, value) in labels.zip(values) {
            let line = format!("  {:<11}  {value}", fit(label, 11));
            self.lines.push(line.trim_end().to_owned());
        }
    }
}

/// `45 s`, `12 min`, `3 h`, `20 days`
#[must_use]
pub fn ago(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
