//! `lbctl renew`: the client certificate, by itself. What a timer runs.

use time::OffsetDateTime;

use super::{CommandResult, Session, ask_availability, connect, load, not_so_before};
use crate::cert::{self, ClientPair, Facts};
use crate::cli::Cli;
use crate::config::Config;
use crate::exit::{Exit, Failure, MessageId};
use crate::output::Output;
use crate::output::interrupt::Interrupt;
use crate::output::json::{Answer, RenewDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::reconcile::apply::ApplyError;
use crate::reconcile::desired::{Renewal, current_seed, policy};
use crate::reconcile::observe::{Ask, OBSERVE_AGAIN, Observed, observe};
use crate::reconcile::plan::{Plan, Step, plan_renew};
use crate::reconcile::rounds::{Reconciler, Remaining, in_rounds};
use crate::secret::Secret;
use crate::seed::SeedContent;
use crate::status::certificate_document;

pub(super) fn run(cli: &Cli, out: &Output, check: bool, force: bool) -> CommandResult {
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
            MessageId::SeedMissing,
            format!("{name} has no seed, and so no certificate that could be renewed"),
            "`lbctl up` creates the load balancer; `lbctl status` shows what is there",
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
        let found = certificate(&observed);
        return Ok(Box::new(RenewReport::not_renewed(name, found, reason, now)));
    }
    let Some(renewal) = Renewal::from_config(&config, found, now, force)? else {
        let found = certificate(&observed);
        return Ok(Box::new(RenewReport::not_renewed(name, found, None, now)));
    };
    if let Some(clamp) = &renewal.certificate.clamp {
        out.warn(&clamp.to_string());
    }
    let working = Session {
        host: &host,
        out,
        interrupt: &interrupt,
    };
    let mut renewing = RenewRun {
        config: &config,
        before: certificate(&observed),
        now_there: None,
        working,
    };
    let plan = renewing.plan(&renewal, &mut observed)?;
    for change in &plan.changes {
        out.say(&format!("{name}: {change}"));
    }
    in_rounds(plan, &mut renewing)?;
    let facts = renewing.now_there.unwrap_or(renewal.certificate.facts);
    out.say(&format!(
        "{name}: client certificate renewed, serial {}, until {}",
        facts.serial,
        facts.not_after.date()
    ));
    let reason = renewal.certificate.issued.as_ref().map(ToString::to_string);
    Ok(Box::new(RenewReport {
        name: name.to_owned(),
        facts: Some(facts),
        reason,
        renewed: true,
        now,
    }))
}

/// The client certificate as it is now, and what was found or done about it.
struct RenewReport {
    name: String,
    /// `None`: the one in the seed cannot be read.
    facts: Option<Facts>,
    /// Why it is or was due; `None`: it is not.
    reason: Option<String>,
    renewed: bool,
    now: OffsetDateTime,
}

impl RenewReport {
    fn not_renewed(
        name: &str,
        facts: Option<Facts>,
        reason: Option<String>,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            name: name.to_owned(),
            facts,
            reason,
            renewed: false,
            now,
        }
    }

    fn is_due(&self) -> bool {
        self.reason.is_some() && !self.renewed
    }
}

impl CommandReport for RenewReport {
    fn exit(&self) -> Exit {
        if self.is_due() {
            Exit::Pending
        } else {
            Exit::Done
        }
    }

    fn document(&self) -> Option<Answer> {
        let facts = self.facts.as_ref();
        Some(Answer::Renew(RenewDocument {
            name: self.name.clone(),
            due: self.is_due(),
            reason: self.reason.clone(),
            renewed: self.renewed,
            certificate: facts.map(|facts| certificate_document(facts, self.now)),
        }))
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        if self.renewed {
            return Vec::new();
        }
        let days = |f: &Facts| {
            let left = (f.not_after - self.now).whole_days();
            format!("it ends on {}, in {left} days", f.not_after.date())
        };
        let ends = self.facts.as_ref().map_or_else(String::new, days);
        let verdict = match &self.reason {
            None => format!("the client certificate is not due: {ends}"),
            Some(reason) => format!("the client certificate is due: {reason}"),
        };
        vec![TextPart::Said(format!("{}: {verdict}", self.name))]
    }
}

/// A renewal that is being carried out.
struct RenewRun<'a> {
    config: &'a Config,
    /// The certificate that is to be replaced.
    before: Option<Facts>,
    now_there: Option<Facts>,
    working: Session<'a>,
}

impl RenewRun<'_> {
    fn plan(&self, renewal: &Renewal, observed: &mut Observed) -> Result<Plan, Failure> {
        let (mut rounds, mut newer) = (0, None);
        while !ask_availability(observed, self.working.host)? && rounds < OBSERVE_AGAIN {
            *observed = observe(self.config, self.working.host, Ask::WhatIsNeeded)?;
            // The seed may have changed by now, and a renewal changes nothing of it but the
            // certificate.
            let found = current_seed(observed).ok_or_else(|| seed_missing(self.config))?;
            newer = Renewal::from_config(self.config, found, OffsetDateTime::now_utc(), true)?;
            rounds += 1;
        }
        Ok(plan_renew(newer.as_ref().unwrap_or(renewal), observed)?)
    }
}

impl Reconciler for RenewRun<'_> {
    /// It is done when there is another certificate than before, whoever issued it, in the seed
    /// that the domain refers to.
    fn replan(&mut self) -> Result<Remaining, Failure> {
        self.working.asked()?;
        let mut observed = observe(self.config, self.working.host, Ask::WhatIsNeeded)?;
        let there = certificate(&observed);
        let done = there.is_some() && there != self.before && refers_to_its_seed(&observed);
        let renewal = match current_seed(&observed) {
            Some(found) if !done => {
                Renewal::from_config(self.config, found, OffsetDateTime::now_utc(), true)?
            }
            _ => None,
        };
        self.now_there = there;
        let plan = match renewal {
            Some(renewal) => self
                .plan(&renewal, &mut observed)
                .map_err(|refused| not_so_before(&self.config.name, refused))?,
            None if done => Plan {
                name: self.config.name.as_str().to_owned(),
                changes: Vec::new(),
                steps: Vec::new(),
                notes: Vec::new(),
            },
            None => return Err(seed_missing(self.config)),
        };
        Ok(Remaining { plan, done })
    }

    fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError> {
        self.working.carry_out(steps)
    }

    fn back_off(&mut self, round: usize, why: &str) {
        self.working.back_off(self.config.name.as_str(), round, why);
    }

    fn unfinished(&self, _: &Plan) -> Failure {
        Failure::new(
            Exit::Failed,
            MessageId::StateDiffers,
            format!(
                "every step was done, but the seed of {} contains another certificate",
                self.config.name
            ),
            "perhaps another lbctl run changed it concurrently: `lbctl status` shows the present certificate, `lbctl \
             renew --force` tries again",
        )
    }
}

fn seed_missing(config: &Config) -> Failure {
    Failure::new(
        Exit::Failed,
        MessageId::SeedVanished,
        format!(
            "the seed of {} was deleted while lbctl used it: another lbctl run changed it",
            config.name
        ),
        "`lbctl status` shows what is there; `lbctl up` creates the load balancer",
    )
}

/// Whether the domain's saved ownership record and drive name one seed, and it is the one that is
/// there.
fn refers_to_its_seed(observed: &Observed) -> bool {
    // One without a saved definition ceases to exist when it stops; `up` repairs that.
    let saved = observed.domain.as_ref().filter(|d| d.persistent);
    let definition = saved.map(|d| &d.config);
    if observed.domain.is_some() && definition.is_none() {
        return true;
    }
    let Some((definition, ownership)) = definition.and_then(|d| Some((d, d.ownership.as_ref()?)))
    else {
        return false;
    };
    observed.seeds.iter().any(|seed| {
        let source = seed.volume.present().map(|v| &v.source);
        seed.at == ownership.seed.volume
            && definition.holds(&seed.at, source)
            && matches!(&seed.content, Some(SeedContent::Ours(found)) if found.fingerprint == ownership.seed.fingerprint)
    })
}

/// The certificate in the seed in use.
fn certificate(observed: &Observed) -> Option<Facts> {
    let pem = current_seed(observed)?.client_pem.as_ref()?;
    let pair = ClientPair::from_pem(pem.expose()).ok()?;
    Some(pair.facts().clone())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn report(reason: Option<&str>, renewed: bool) -> RenewReport {
        RenewReport {
            name: "lb-1".into(),
            facts: Some(Facts {
                subject: "CN=patroni-client".into(),
                issuer: "CN=Patroni CA".into(),
                serial: "0a".into(),
                not_before: datetime!(2025-12-31 00:00 UTC),
                not_after: datetime!(2026-01-11 00:00 UTC),
                key_algorithm: "ECDSA P-256".into(),
                fingerprint: "0b".into(),
            }),
            reason: reason.map(str::to_owned),
            renewed,
            now: datetime!(2026-01-01 00:00 UTC),
        }
    }

    fn text(report: &RenewReport) -> Vec<String> {
        let options = TextOptions {
            columns: None,
            verbose: false,
        };
        let parts = report.text(options).into_iter();
        parts
            .map(|part| match part {
                TextPart::Said(said) => said,
                _ => "on standard output".to_owned(),
            })
            .collect()
    }

    #[test]
    fn what_is_due_has_an_exit_code_of_its_own_until_it_is_renewed() {
        for (reason, renewed, exit, said) in [
            (
                None,
                false,
                Exit::Done,
                "lb-1: the client certificate is not due: it ends on 2026-01-11, in 10 days",
            ),
            (
                Some("it ends soon"),
                false,
                Exit::Pending,
                "lb-1: the client certificate is due: it ends soon",
            ),
            (Some("it ends soon"), true, Exit::Done, ""),
        ] {
            let report = report(reason, renewed);
            assert_eq!(report.exit(), exit);
            assert_eq!(text(&report).join("\n"), said);
            let document = serde_json::to_value(report.document()).unwrap_or_default();
            assert_eq!(document["due"], exit == Exit::Pending);
            assert_eq!(document["reason"].as_str(), reason);
        }
    }
}
