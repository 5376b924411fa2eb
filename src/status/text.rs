//! A status as lines for people, in as many columns as there are.

use super::json::uptime;
use super::role::{MAIN, Standing, advice, check, standings, style, word};
use super::{Certificate, GuestAnswer, MUTUAL, Status, virtual_ip};
use crate::guest::{CertificateFacts, GuestStatus, Server};
use crate::host::StateReason;
use crate::text::styled::{Style, Styled};
use crate::text::table::table;
use crate::text::width::fit;

/// Of each line, before the value.
const LABEL: usize = 15;
const LABEL_TEXT: usize = LABEL - 4;
/// Where the label is above the value, as the terminal has few columns.
const NARROW: usize = 60;
const NARROW_LABEL: usize = 4;
/// Errors of cloud-init that are worth reading.
const ERRORS: usize = 5;

/// Lines with a label each, of at most so many columns.
struct Lines {
    columns: Option<usize>,
    lines: Vec<Styled>,
}

impl Status {
    /// The first line is the heading. `columns`: no line is longer; `None`: lines are as long as
    /// they are. `verbose`: with HAProxy's own words for each node.
    #[must_use]
    pub fn lines(&self, columns: Option<usize>, verbose: bool) -> Vec<Styled> {
        let mut lines = Lines::new(columns, &self.heading());
        lines.add(
            "domain",
            format!("{} at {}", self.state_with_reason(), self.uri),
        );
        if let Some(hint) = self.of_nothing() {
            lines.add("hint", Styled::all(Style::Calm, hint));
            return lines.lines;
        }
        for (index, address) in self.addresses.iter().enumerate() {
            let label = if index == 0 { "address" } else { "" };
            let ip = address.ip.map_or_else(
                || "from a DHCP server, and the guest does not say which".to_owned(),
                |ip| ip.to_string(),
            );
            lines.add(label, format!("{ip} ({})", address.at));
        }
        let guest = self.answer();
        let shared = guest.and_then(|guest| guest.virtual_ip.as_ref());
        let shared = shared.map_or_else(Vec::new, virtual_ip::lines);
        for (index, line) in shared.iter().enumerate() {
            lines.add(if index == 0 { "virtual ip" } else { "" }, line);
        }
        if let GuestAnswer::None(said) = &self.guest {
            lines.add("guest", said);
        }
        if let Some(guest) = guest {
            if let Some(seconds) = uptime(guest) {
                lines.add("uptime", ago(seconds));
            }
            let said = match guest.cloud_init.status.as_str() {
                // What `up --restart` and a renewal by a restart rely on.
                "disabled" => "disabled: no boot of the guest reads its seed",
                other => other,
            };
            lines.add("cloud-init", said);
            for error in guest.cloud_init.errors.iter().take(ERRORS) {
                lines.add("", error);
            }
        }
        self.certificate(&mut lines);
        lines.add("nodes' TLS", &self.verified);
        if let Some(guest) = guest {
            self.haproxy(guest, verbose, &mut lines);
        }
        self.drift(&mut lines);
        for (index, note) in self.notes.iter().enumerate() {
            lines.add(if index == 0 { "notes" } else { "" }, note);
        }
        if let Some(hint) = self.next_step() {
            lines.add("hint", Styled::all(Style::Calm, hint));
        }
        lines.lines
    }

    /// What to type next, where one command has the answer.
    fn next_step(&self) -> Option<&'static str> {
        match (&self.drift, self.state.as_str()) {
            (Err(_), _) => Some("`lbctl plan` says what to do about it"),
            (_, "shut off" | "crashed") => Some("`lbctl up` starts it"),
            (_, "paused") if self.has_io_error() => {
                Some("mend the storage, or make room in it; then `lbctl up` resumes it")
            }
            (_, "paused" | "suspended") => Some("`lbctl up` resumes it"),
            // Where there are several, their line says so.
            (Ok(changes), _) if changes.len() == 1 && !self.restart_pending => {
                Some("`lbctl plan` shows what `lbctl up` would do about it")
            }
            _ => None,
        }
    }

    fn has_io_error(&self) -> bool {
        self.reason == Some(StateReason::IoError.to_string())
    }

    fn heading(&self) -> Styled {
        let name = Styled::all(Style::Strong, &format!("{}: ", self.name));
        match self.why_not() {
            None => name.and(Style::Good, "ready"),
            Some(why) => name.and(Style::Bad, &format!("not ready: {why}")),
        }
    }

    /// What to do about a load balancer that is not there; `None`: it is.
    fn of_nothing(&self) -> Option<&'static str> {
        if !self.is_ours {
            Some("`lbctl plan` says what is in the way")
        } else if self.state == "absent" {
            Some("`lbctl up --wait` creates it")
        } else {
            None
        }
    }

    fn certificate(&self, lines: &mut Lines) {
        let Some(certificate) = &self.certificate else {
            match &self.seed_unknown {
                Some(why) => lines.add("certificate", format!("unknown: {why}")),
                // Where one is wanted, it is in the seed.
                None if self.patroni_tls == MUTUAL => {
                    lines.add("certificate", "none: there is no seed");
                }
                None => {}
            }
            return;
        };
        if let Some(facts) = &certificate.facts {
            let days = (facts.not_after - self.at).whole_days();
            let (ends, expired) = match days {
                _ if facts.not_after < self.at => ("has expired".to_owned(), true),
                1 => ("1 day left".to_owned(), false),
                _ => (format!("{days} days left"), false),
            };
            let until = facts.not_after.date();
            let line = Styled::from(format!("{}, until {until}, ", facts.subject));
            let line = if expired {
                line.and(Style::Bad, &ends)
            } else {
                line.plus(&ends)
            };
            lines.add(
                "certificate",
                match certificate.due {
                    Some(_) => line.plus(", ").and(Style::Caution, "renewal due"),
                    None => line,
                },
            );
            lines.add("", format!("serial {}", facts.serial));
        } else {
            lines.add("certificate", "the one in the seed cannot be read");
        }
        if let Some(reason) = &certificate.due {
            let how = if certificate.elsewhere {
                "it is issued elsewhere: `lbctl renew` takes the next one"
            } else {
                "`lbctl renew` renews it"
            };
            lines.add("", format!("due: {reason}; {how}"));
        }
        if let Some(guest) = self.answer() {
            in_guest(certificate, guest, lines);
        }
    }

    fn drift(&self, lines: &mut Lines) {
        match &self.drift {
            Err(said) => lines.add_one("drift", format!("unknown: {said}")),
            Ok(changes) if self.restart_pending => {
                lines.add_one("drift", "none");
                let waits = format!("restart (`lbctl restart`): {}", changes.join("; "));
                lines.add_one("pending", Styled::all(Style::Caution, &waits));
            }
            Ok(changes) => match changes.as_slice() {
                [] => lines.add_one("drift", "none"),
                [one] => lines.add_one("drift", Styled::all(Style::Caution, one)),
                many => lines.add_one(
                    "drift",
                    Styled::default()
                        .and(Style::Caution, &format!("{} changes", many.len()))
                        .plus(&format!(" (see `lbctl plan`): {}", many.join("; "))),
                ),
            },
        }
    }

    fn haproxy(&self, guest: &GuestStatus, verbose: bool, lines: &mut Lines) {
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
        lines.add("haproxy", format!("{text}{connections}"));
        let label = if self.leader.len() <= LABEL_TEXT {
            self.leader
        } else {
            "leader"
        };
        lines.add(label, primary(guest));
        match haproxy.held {
            Some(0) => {}
            Some(1) => lines.add("", format!("1 client waits for a {}", self.leader)),
            Some(count) => lines.add("", format!("{count} clients wait for a {}", self.leader)),
            None if self.holds && haproxy.version.is_some() => lines.add(
                "",
                "no client can wait for one: this HAProxy has not loaded lbctl's Lua",
            ),
            None => {}
        }
        let mutual = self.patroni_tls == MUTUAL;
        let found = standings(haproxy, mutual);
        let mut backends: Vec<&str> = Vec::new();
        for (server, _) in &found {
            if !backends.contains(&server.backend.as_str()) {
                backends.push(&server.backend);
            }
        }
        for backend in backends {
            let of_backend = found.iter().filter(|(s, _)| s.backend == backend);
            let label = if backend == MAIN { "nodes" } else { backend };
            let label = lines.heading(label);
            table_of_nodes(
                &of_backend.collect::<Vec<_>>(),
                self.leader,
                verbose,
                label,
                lines,
            );
        }
        if let Some(advice) = advice(haproxy, mutual) {
            lines.add("hint", Styled::all(Style::Calm, advice));
        }
    }
}

/// Who takes the sessions of the main port.
fn primary(guest: &GuestStatus) -> Styled {
    let haproxy = &guest.haproxy;
    let Some(address) = haproxy.primary.as_deref() else {
        let none = format!(
            "none: {} nodes are up, but exactly one is required",
            haproxy.servers_up
        );
        return Styled::all(Style::Bad, &none);
    };
    let is = |s: &&Server| s.backend == MAIN && s.address.as_deref() == Some(address);
    match haproxy.servers.iter().find(is) {
        Some(node) => format!("{address} ({})", node.name).into(),
        None => address.into(),
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
            format!("on the guest's disk and in use by HAProxy: {disk}"),
        );
    } else {
        lines.add("", format!("on the guest's disk: {disk}"));
        lines.add("", format!("in use by HAProxy: {in_use}"));
    }
}

/// A column of the table of nodes: its head, and the columns of a terminal that it has at most.
type Column = (&'static str, usize);

const COLUMNS: [Column; 5] = [
    ("name", 16),
    ("address", 40),
    ("role", 14),
    ("since", 10),
    ("sessions", 10),
];
const RAW: [Column; 2] = [("state", 12), ("check", 60)];

/// HAProxy's view of each node. Last comes what is wrong with it, in what is left of the line.
fn table_of_nodes(
    servers: &[&(&Server, Standing)],
    leader: &'static str,
    verbose: bool,
    label: &str,
    lines: &mut Lines,
) {
    let raw = if verbose { &RAW[..] } else { &[] };
    let columns: Vec<Column> = COLUMNS.iter().chain(raw).copied().collect();
    let rows: Vec<Vec<Styled>> = servers
        .iter()
        .map(|(server, standing)| row(server, *standing, leader, verbose))
        .collect();
    let heads = columns.iter().map(|(head, _)| Styled::from(*head));
    let mut head: Vec<Styled> = heads.collect();
    head.push("".into());
    let most: Vec<usize> = columns.iter().map(|(_, most)| *most).collect();
    let rows: Vec<Vec<Styled>> = std::iter::once(head).chain(rows).collect();
    for (index, line) in table(&rows, &most).into_iter().enumerate() {
        lines.add_one(if index == 0 { label } else { "" }, line);
    }
}

fn row(server: &Server, standing: Standing, leader: &'static str, verbose: bool) -> Vec<Styled> {
    let role = word(standing.role, leader);
    let role = match style(standing.role) {
        Some(style) => Styled::all(style, role),
        None => role.into(),
    };
    let sessions = server.sessions.map(|count| count.to_string());
    let mut cells: Vec<Styled> = vec![
        server.name.as_str().into(),
        server.address.as_deref().unwrap_or("-").into(),
        role,
        server.last_change_s.map_or_else(|| "-".into(), ago).into(),
        sessions.unwrap_or_else(|| "-".into()).into(),
    ];
    // While a check is in progress there is no answer yet.
    let code = server.check_code.filter(|code| *code > 0);
    let mut raw: Vec<String> = vec![check(server).to_owned()];
    raw.extend(code.map(|code| code.to_string()));
    raw.extend(server.check_detail.clone());
    let raw = raw.join(" ");
    if verbose {
        cells.push(server.state.as_str().into());
        cells.push(raw.as_str().into());
    }
    cells.push(match standing.sign {
        Some(sign) if sign.words.is_empty() => "".into(),
        Some(sign) if verbose => sign.words.into(),
        Some(sign) => format!("{} ({})", sign.words, check(server)).into(),
        None if style(standing.role) == Some(Style::Bad) && !verbose => raw.into(),
        None => "".into(),
    });
    cells
}

impl Lines {
    fn new(columns: Option<usize>, heading: &Styled) -> Self {
        let lines = match columns {
            Some(columns) => heading.wrap(columns),
            None => vec![heading.clone()],
        };
        Self { columns, lines }
    }

    fn is_narrow(&self) -> bool {
        self.columns.is_some_and(|columns| columns < NARROW)
    }

    /// Columns before a value.
    fn indent(&self) -> usize {
        if self.is_narrow() {
            NARROW_LABEL
        } else {
            LABEL
        }
    }

    /// A value in as many lines as it takes.
    fn add(&mut self, label: &str, value: impl Into<Styled>) {
        let value = value.into();
        let broken = match self.columns {
            Some(columns) => value.wrap(columns.saturating_sub(self.indent())),
            None => vec![value],
        };
        self.push(label, broken);
    }

    /// A value in one line; what does not fit is cut.
    fn add_one(&mut self, label: &str, value: impl Into<Styled>) {
        let value = value.into();
        let room = self
            .columns
            .map(|columns| columns.saturating_sub(self.indent()));
        let value = room.map_or_else(|| value.clone(), |room| value.fit(room));
        self.push(label, vec![value]);
    }

    /// A label that is too long for its column has a line of its own. Returns what is left to be
    /// written beside the value.
    fn heading<'a>(&mut self, label: &'a str) -> &'a str {
        if label.chars().count() <= LABEL_TEXT {
            return label;
        }
        let room = self
            .columns
            .map_or(usize::MAX, |columns| columns.saturating_sub(2));
        self.lines.push(format!("  {}", fit(label, room)).into());
        ""
    }

    fn push(&mut self, label: &str, values: Vec<Styled>) {
        let label = fit(label, LABEL_TEXT);
        let mut beside = label.as_str();
        if self.is_narrow() {
            if !label.is_empty() {
                self.lines.push(format!("  {label}").into());
            }
            beside = "";
        }
        let width = self.indent() - 4;
        for value in values {
            let before = format!("  {beside:<width$}  ");
            let line = Styled::from(before).join(&value);
            let end = line.text().trim_end().to_owned();
            self.lines.push(line.reshaped(end));
            beside = "";
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
