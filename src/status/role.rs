//! What a node is, from what HAProxy's checks say of it: one table for `lbctl status` and for the
//! page that explains it (docs/operations.md).

use crate::guest::{HaproxyStatus, Server};
use crate::output::json::ServerRole;
use crate::text::styled::Style;

/// The backend of the main port; others are of further ones.
pub(super) const MAIN: &str = "primary";

/// What HAProxy says of a node's check, and what it means.
#[derive(Debug)]
pub struct Sign {
    pub role: ServerRole,
    /// HAProxy's words for the last check (management guide, section 9.1, `check_status`).
    pub checks: &'static [&'static str],
    /// How the page names it.
    pub seen: &'static str,
    /// In a few words, behind the node. Empty where the role says it all.
    pub words: &'static str,
    /// For the page.
    pub meaning: &'static str,
    /// What to check, or what to do.
    pub advice: &'static str,
    /// Whether `status` gives the advice.
    pub is_trouble: bool,
}

/// The gravest last: `status` gives the advice of the last one that it finds.
pub static SIGNS: &[Sign] = &[
    Sign {
        role: ServerRole::Primary,
        checks: &[],
        seen: "`UP`, `L7OK 200`",
        words: "",
        meaning: "sessions go there",
        advice: "the clients' way to the VM",
        is_trouble: false,
    },
    Sign {
        role: ServerRole::Replica,
        checks: &["L7STS"],
        seen: "`L7STS 503`",
        words: "",
        meaning: "all is well: a replica answers 503 to the question for the primary",
        advice: "",
        is_trouble: false,
    },
    Sign {
        role: ServerRole::Stopping,
        checks: &["L7OKC"],
        seen: "`NOLB`, `L7OKC`",
        words: "PostgreSQL stops there",
        meaning: "PostgreSQL stops there",
        advice: "wait; `patronictl list`",
        is_trouble: false,
    },
    Sign {
        role: ServerRole::Changing,
        checks: &["L7RSP"],
        seen: "`L7RSP` (content check)",
        words: "is being promoted, or PostgreSQL stops",
        meaning: "it is still being promoted, or PostgreSQL is stopping",
        advice: "wait; `patronictl list`",
        is_trouble: false,
    },
    Sign {
        role: ServerRole::Changing,
        checks: &["L7OK"],
        seen: "`DOWN`, `L7OK`",
        words: "answers again, and is up after some more checks",
        meaning: "it answers again, and is up after some more checks",
        advice: "wait",
        is_trouble: false,
    },
    Sign {
        role: ServerRole::Slow,
        checks: &["L7TOUT"],
        seen: "`L7TOUT`",
        words: "takes the request and does not answer",
        meaning: "it takes the request and does not answer; its sessions go on, new ones wait",
        advice: "a frozen node; its load, its disk",
        is_trouble: true,
    },
    Sign {
        role: ServerRole::Slow,
        checks: &["L6TOUT"],
        seen: "`L6TOUT`",
        words: "too slow for TLS",
        meaning: "the node, or the VM, is too slow for TLS within the smaller of `timeouts.connect` and `check.interval`. Its \
                  sessions go on, new ones wait",
        advice: "load on the node and on the VM; who holds connections to its REST port (`ss -tn sport = :4443` on the \
                 node); raise `check.interval`",
        is_trouble: true,
    },
    Sign {
        role: ServerRole::Failed,
        checks: &["L4TOUT", "L4CON"],
        seen: "`L4TOUT`, `L4CON`",
        words: "Patroni's port is not reached",
        meaning: "Patroni's port is not reached",
        advice: "the node, Patroni's service, firewall, route",
        is_trouble: true,
    },
    Sign {
        role: ServerRole::Failed,
        checks: &["L6RSP"],
        seen: "`L6RSP` (SSL handshake failure)",
        words: "its certificate is refused",
        meaning: "HAProxy refuses the node's certificate: ended, of another CA, without the name of `verify_host`",
        advice: "the node's `restapi.certfile`; `lbctl check --host`",
        is_trouble: true,
    },
    Sign {
        role: ServerRole::Failed,
        checks: &["SOCKERR"],
        seen: "`SOCKERR` (SSL fatal error)",
        words: "refuses the client certificate",
        meaning: "the node refuses the client certificate: ended, or of a CA it does not know",
        advice: "`lbctl renew --check`, `restapi.cafile`, the clocks",
        is_trouble: true,
    },
    Sign {
        role: ServerRole::NoLeader,
        checks: &[],
        seen: "`L7STS 503` on all",
        words: "",
        meaning: "the cluster has no leader",
        advice: "`patronictl list`, etcd",
        is_trouble: true,
    },
];

/// Said of two primaries.
pub const TWO: &str = "`patronictl list`: stop the wrong one";

/// What a server is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub role: ServerRole,
    /// `None`: HAProxy's own words say more.
    pub sign: Option<&'static Sign>,
}

/// What each server is, beside the others of its backend. `mutual`: checks show a client
/// certificate.
pub(super) fn standings(haproxy: &HaproxyStatus, mutual: bool) -> Vec<(&Server, Standing)> {
    let no_leader = has_no_leader(haproxy);
    let of = |server| (server, standing(server, no_leader, mutual));
    haproxy.servers.iter().map(of).collect()
}

/// Whether every node says that it is not the primary.
pub(super) fn has_no_leader(haproxy: &HaproxyStatus) -> bool {
    let mut nodes = haproxy
        .servers
        .iter()
        .filter(|s| s.backend == MAIN)
        .peekable();
    nodes.peek().is_some() && nodes.all(|node| !is_up(node) && says_no(node))
}

fn is_up(server: &Server) -> bool {
    server.state.starts_with("UP")
}

/// HAProxy puts an asterisk before the result of a check while the next one is in progress.
pub(super) fn check(server: &Server) -> &str {
    let check = server.check.as_deref().unwrap_or_default();
    check.trim_start_matches("* ")
}

/// Patroni answers 503 where the node has another role. While a check is in progress there is no
/// code.
fn says_no(server: &Server) -> bool {
    check(server) == "L7STS" && matches!(server.check_code, None | Some(0 | 503))
}

fn standing(server: &Server, no_leader: bool, mutual: bool) -> Standing {
    let is_main = server.backend == MAIN;
    let by_role = |role| Standing {
        role,
        sign: SIGNS.iter().find(|sign| sign.role == role),
    };
    if is_up(server) {
        return by_role(if is_main {
            ServerRole::Primary
        } else {
            ServerRole::Serving
        });
    }
    if server.state.starts_with("NOLB") {
        return by_role(ServerRole::Stopping);
    }
    if server.state.starts_with("MAINT") || server.state.starts_with("DRAIN") {
        return by_role(ServerRole::Disabled);
    }
    if says_no(server) {
        return by_role(match () {
            () if !is_main => ServerRole::OtherRole,
            () if no_leader => ServerRole::NoLeader,
            () => ServerRole::Replica,
        });
    }
    let check = check(server);
    if matches!(check, "" | "UNK" | "INI") {
        return by_role(ServerRole::Unknown);
    }
    // Without a client certificate it means something else.
    let sign = SIGNS
        .iter()
        .find(|sign| sign.checks.contains(&check))
        .filter(|sign| sign.role != ServerRole::Replica && (mutual || check != "SOCKERR"));
    Standing {
        role: sign.map_or(ServerRole::Failed, |sign| sign.role),
        sign,
    }
}

/// What to do next; `None`: nothing.
pub(super) fn advice(haproxy: &HaproxyStatus, mutual: bool) -> Option<&'static str> {
    if haproxy.servers_up > 1 {
        return Some(TWO);
    }
    let found = standings(haproxy, mutual);
    let grave = |sign: &&Sign| {
        let is = |standing: &Standing| standing.sign.is_some_and(|s| std::ptr::eq(s, *sign));
        sign.is_trouble && found.iter().any(|(_, standing)| is(standing))
    };
    SIGNS.iter().rev().find(grave).map(|sign| sign.advice)
}

/// In a word. `leader`: who the main port leads to.
#[must_use]
pub fn word(role: ServerRole, leader: &'static str) -> &'static str {
    match role {
        ServerRole::Primary => leader,
        ServerRole::Replica => "replica",
        ServerRole::NoLeader => "no leader",
        ServerRole::Serving => "serves",
        ServerRole::OtherRole => "other role",
        ServerRole::Slow => "slow",
        ServerRole::Failed => "FAILED",
        ServerRole::Changing => "changing",
        ServerRole::Stopping => "stopping",
        ServerRole::Disabled => "disabled",
        ServerRole::Unknown => "unknown",
    }
}

pub(super) fn style(role: ServerRole) -> Option<Style> {
    match role {
        ServerRole::Primary | ServerRole::Serving => Some(Style::Good),
        ServerRole::Replica | ServerRole::OtherRole => None,
        ServerRole::NoLeader | ServerRole::Failed => Some(Style::Bad),
        ServerRole::Slow | ServerRole::Changing | ServerRole::Stopping | ServerRole::Disabled => {
            Some(Style::Caution)
        }
        ServerRole::Unknown => Some(Style::Dim),
    }
}
