//! What is known of load balancers as metrics, in Prometheus's text format 0.0.4: for the folder
//! that the node exporter reads (its textfile collector). Numbers and names of VMs alone, so that
//! everybody may read the file.

use std::fmt::Write as _;

use time::OffsetDateTime;

use super::Status;

/// One load balancer, looked at once.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// A DNS label, which needs no escapes.
    pub name: &'a str,
    pub at: OffsetDateTime,
    /// `None`: its libvirt did not say anything.
    pub status: Option<&'a Status>,
}

struct Family {
    name: &'static str,
    help: &'static str,
    /// `None`: nobody knows, and then there is no sample.
    value: fn(&Look<'_>) -> Option<i64>,
}

/// In the order in which they are written. Names are kept for ever: alerts depend on them.
const FAMILIES: &[Family] = &[
    Family {
        name: "lbctl_status_time_seconds",
        help: "When lbctl looked at the load balancer, in seconds since 1970.",
        value: |look| Some(look.at.unix_timestamp()),
    },
    Family {
        name: "lbctl_status_success",
        help: "Whether libvirt answered. If it is 0, nothing else is known.",
        value: |look| Some(look.status.is_some().into()),
    },
    Family {
        name: "lbctl_ready",
        help: "Whether psql through the load balancer works, as its guest says.",
        value: |look| Some(look.status?.is_ready().into()),
    },
    Family {
        name: "lbctl_certificate_not_after_seconds",
        help: "When the client certificate ends, in seconds since 1970.",
        value: |look| {
            let facts = look.status?.certificate.as_ref()?.facts.as_ref()?;
            Some(facts.not_after.unix_timestamp())
        },
    },
    Family {
        name: "lbctl_certificate_due",
        help: "Whether the client certificate is to be renewed.",
        value: |look| {
            let certificate = look.status?.certificate.as_ref()?;
            Some(certificate.due.is_some().into())
        },
    },
    Family {
        name: "lbctl_drift_changes",
        help: "How many changes `lbctl up` would make.",
        value: |look| {
            let drift = look.status?.drift.as_ref().ok()?;
            i64::try_from(drift.len()).ok()
        },
    },
    Family {
        name: "lbctl_restart_pending",
        help: "Whether all of these changes are written and wait for a restart of the guest.",
        value: |look| Some(look.status?.restart_pending.into()),
    },
];

/// The whole file: every family of metrics with all load balancers that have a value of it.
#[must_use]
pub fn exposition(looks: &[Look<'_>]) -> String {
    let mut text = String::new();
    for Family { name, help, value } in FAMILIES {
        let samples: Vec<_> = looks
            .iter()
            .filter_map(|look| Some((look.name, value(look)?)))
            .collect();
        if samples.is_empty() {
            continue;
        }
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (vm, value) in samples {
            let _ = writeln!(text, "{name}{{name=\"{vm}\"}} {value}");
        }
    }
    text
}
