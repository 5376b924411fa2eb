//! `lbctl renew`: the client certificate, by itself. What a timer runs.

use time::OffsetDateTime;

use super::{Ended, REACH, carry_out, connect, load};
use crate::cert::{self, ClientPair, Facts};
use crate::cli::Cli;
use crate::config::Config;
use crate::desired::{Renewal, current_seed, policy};
use crate::documents::{Answer, RenewDocument};
use crate::failure::{Exit, Failure};
use crate::guest::Guest;
use crate::host::libvirt::LibvirtHost;
use crate::interrupt::Interrupt;
use crate::observe::{Ask, Observed, observe};
use crate::output::Output;
use crate::plan::plan_renew;
use crate::secret::Secret;
use crate::status::certificate_document;

pub(super) fn run(cli: &Cli, out: &Output, check: bool, force: bool) -> Ended {
    let config = load(cli, out)?;
    let interrupt = Interrupt::listen(
        out,
        &format!("{}: stopped, nothing was changed", config.name),
    );
    let host = connect(cli, &config)?;
    let mut observed = observe(&config, &host, Ask::WhatIsNeeded)?;
    let name = config.name.as_str();
    let now = OffsetDateTime::now_utc();
    let Some(found) = current_seed(&observed) else {
        return Err(Failure::new(
            Exit::Failed,
            format!("{name} has no seed, so no certificate that could be renewed"),
            "`lbctl up` makes the load balancer; `lbctl status` shows what is there",
        )
        .into());
    };
    if check {
        let reason = cert::due(
            found.client_pem.as_ref().map(Secret::expose),
            policy(&config),
            now,
        );
        let reason = reason.map(|r| r.to_string());
        return Ok(told(&observed, reason.as_deref(), name, now, out));
    }
    let Some(renewal) = Renewal::of(&config, found, now, force)? else {
        told(&observed, None, name, now, out);
        return Ok(Exit::Done);
    };
    if let Some(clamp) = &renewal.certificate.clamp {
        out.warn(&clamp.to_string());
    }
    if observed.domain.as_ref().is_some_and(|d| d.live.is_some()) {
        observed.reach = Guest::new(&host, name).reach(REACH);
    }
    let plan = plan_renew(&renewal, &observed)?;
    for change in &plan.changes {
        out.say(&format!("{name}: {change}"));
    }
    carry_out(&plan.steps, &host, out, &interrupt)?;
    let facts = verify(&config, &host, &renewal)?;
    out.say(&format!(
        "{name}: client certificate renewed, serial {}, until {}",
        facts.serial,
        facts.not_after.date()
    ));
    if out.json {
        let reason = renewal.certificate.issued.as_ref().map(ToString::to_string);
        out.answer(document(name, Some(&facts), reason.as_deref(), true, now));
    }
    Ok(Exit::Done)
}

/// The certificate in the seed in use.
fn certificate(observed: &Observed) -> Option<Facts> {
    let pem = current_seed(observed)?.client_pem.as_ref()?;
    let pair = ClientPair::from_pem(pem.expose()).ok()?;
    Some(pair.facts().clone())
}

/// Whether it is due, for a person or a program.
fn told(
    observed: &Observed,
    reason: Option<&str>,
    name: &str,
    now: OffsetDateTime,
    out: &Output,
) -> Exit {
    let facts = certificate(observed);
    let days = |f: &Facts| {
        let left = (f.not_after - now).whole_days();
        format!("it ends on {}, in {left} days", f.not_after.date())
    };
    let ends = facts.as_ref().map_or_else(String::new, days);
    let verdict = match reason {
        None => format!("the client certificate is not due: {ends}"),
        Some(reason) => format!("the client certificate is due: {reason}"),
    };
    if out.json {
        out.answer(document(name, facts.as_ref(), reason, false, now));
    } else {
        out.say(&format!("{name}: {verdict}"));
    }
    if reason.is_some() {
        Exit::Pending
    } else {
        Exit::Done
    }
}

fn verify(config: &Config, host: &LibvirtHost, renewal: &Renewal) -> Result<Facts, Failure> {
    let observed = observe(config, host, Ask::WhatIsNeeded)?;
    match certificate(&observed) {
        Some(facts) if facts == renewal.certificate.facts => Ok(facts),
        _ => Err(Failure::new(
            Exit::Failed,
            format!(
                "every step was done, and yet the seed of {} holds another certificate",
                config.name
            ),
            "is another lbctl at work at the same time? `lbctl status` shows what is there, `lbctl renew --force` tries again",
        )),
    }
}

fn document(
    name: &str,
    facts: Option<&Facts>,
    reason: Option<&str>,
    renewed: bool,
    now: OffsetDateTime,
) -> Answer {
    Answer::Renew(RenewDocument {
        name: name.to_owned(),
        due: reason.is_some() && !renewed,
        reason: reason.map(str::to_owned),
        renewed,
        certificate: facts.map(|facts| certificate_document(facts, now)),
    })
}
