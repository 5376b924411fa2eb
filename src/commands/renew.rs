//! `lbctl renew`: the client certificate, by itself. What a timer runs.

use time::OffsetDateTime;

use super::vms::{Found, Groups, SeveralReport, VmResult, Vms, ask_all, is_away, joined};
use super::{CommandResult, Session, ask_availability, asking, connect, load, not_so_before};
use crate::cert::{ClientPair, Facts};
use crate::cli::Cli;
use crate::config::{Config, PatroniClient};
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::host::HostReader as _;
use crate::output::interrupt::Interrupt;
use crate::output::json::{Answer, RenewDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::output::{Output, done};
use crate::reconcile::apply::ApplyError;
use crate::reconcile::desired::{Renewal, current_seed};
use crate::reconcile::observe::{Ask, OBSERVE_AGAIN, Observed, observe};
use crate::reconcile::plan::{Plan, Step, ensure_ours, ensure_seed_pool, plan_renew};
use crate::reconcile::rounds::{Again, Reconciler, Remaining, in_rounds};
use crate::secret::Secret;
use crate::seed::SeedContent;
use crate::status::certificate_document;
use crate::text::styled::{Style, Styled};

/// What was asked for.
pub(super) struct Wanted<'a> {
    pub check: bool,
    pub force: bool,
    /// Nodes that have no vote.
    pub despite: &'a [String],
    /// Whether a certificate was taken for it just now.
    pub taken: bool,
}

pub(super) fn run(cli: &Cli, out: &Output, wanted: &Wanted<'_>) -> CommandResult {
    let config = match load(cli, out)? {
        Vms::One(config) => config,
        Vms::Several(vms) => return Ok(Box::new(several(cli, out, &vms, wanted))),
    };
    let interrupt = Interrupt::listen(
        out,
        &format!("{}: stopped, nothing was changed", config.name),
    );
    let host = connect(cli, &config, out)?;
    let working = Session {
        host: &host,
        out,
        interrupt: &interrupt,
    };
    Ok(Box::new(renew(&config, working, wanted)?))
}

/// One after the other. What one refuses the next of the same load balancer would refuse, too: a CA
/// that the nodes do not know, for instance.
fn several(cli: &Cli, out: &Output, vms: &[Config], wanted: &Wanted<'_>) -> SeveralReport {
    let interrupt = Interrupt::listen(out, "stopped, nothing was changed");
    let found = ask_all(vms, cli, out, |_, host, _| Ok(host.node().map(|_| ())?));
    let mut results: Vec<VmResult> = Vec::new();
    let groups = Groups::of(vms);
    // Which groups are not gone on with.
    let mut refused: Vec<(usize, String)> = Vec::new();
    for (config, found) in vms.iter().zip(found) {
        let name = config.name.as_str();
        let group = groups.group(name);
        if interrupt.asked().is_some() {
            results.push(VmResult::untouched(name, "the signal"));
            continue;
        }
        if let Some((_, because)) = refused.iter().find(|(of, _)| *of == group) {
            results.push(VmResult::untouched(name, because));
            continue;
        }
        let own = out.of_vm(name);
        let result = match found {
            Found::Away(failure) | Found::Here(_, Err(failure)) => Err(failure),
            Found::Here(host, Ok(())) => {
                own.set_uri(host.uri());
                let before: Vec<&str> = results.iter().map(|vm| vm.name.as_str()).collect();
                interrupt.at_once(&if before.is_empty() {
                    "stopped, nothing was changed".to_owned()
                } else {
                    format!("stopped after {}; {name} was not touched", joined(&before))
                });
                let working = Session {
                    host: &host,
                    out: &own,
                    interrupt: &interrupt,
                };
                renew(config, working, wanted)
            }
        };
        results.push(match result {
            Ok(report) => VmResult::done(name, report),
            Err(failure) => {
                // Those say nothing of the next one.
                let of_this_one = |m: &Message| {
                    matches!(
                        m.id,
                        MessageId::VmNotReached | MessageId::SeedMissing | MessageId::DomainNotOurs
                    )
                };
                if !is_away(&failure) && !failure.messages.iter().any(of_this_one) {
                    refused.push((group, name.to_owned()));
                }
                VmResult::failed(name, failure).after(&own)
            }
        });
    }
    SeveralReport {
        command: "renew",
        vms: results,
        apart: false,
    }
}

fn renew(
    config: &Config,
    working: Session<'_>,
    wanted: &Wanted<'_>,
) -> Result<RenewReport, Failure> {
    let Session { host, out, .. } = working;
    let name = config.name.as_str();
    let mut observed = {
        let _working = asking(out, host);
        observe(config, host, Ask::WhatIsNeeded)?
    };
    ensure_ours(name, &observed)?;
    let now = OffsetDateTime::now_utc();
    let Some(found) = current_seed(&observed) else {
        if wanted.taken {
            out.say(format!(
                "{name}: there is no load balancer yet: `lbctl up` creates it with this certificate"
            ));
            let facts = config
                .haproxy
                .patroni_tls
                .client()
                .and_then(PatroniClient::given);
            let facts = facts.map(|pair| pair.facts().clone());
            return Ok(RenewReport {
                taken: true,
                ..RenewReport::not_renewed(name, facts, None, now, host.uri())
            });
        }
        ensure_seed_pool(&config.seed_volume, &observed)?;
        return Err(Failure::new(
            Exit::Failed,
            MessageId::SeedMissing,
            format!("{name}: there is no seed, and so no certificate that could be renewed"),
            "`lbctl up` creates the load balancer; `lbctl status` shows what is there",
        ));
    };
    let Some(client) = config.haproxy.patroni_tls.client() else {
        return Ok(RenewReport::without_certificate(name, now, host.uri()));
    };
    if wanted.check {
        let pem = found.client_pem.as_ref().map(Secret::expose);
        let reason = client.due(pem, now).map(|r| r.to_string());
        let found = certificate(&observed);
        return Ok(RenewReport {
            issuer: Issuer::of(client),
            ..RenewReport::not_renewed(name, found, reason, now, host.uri())
        });
    }
    let despite = wanted.despite.to_vec();
    let Some(renewal) = Renewal::from_config(config, found, now, wanted.force)? else {
        // One that somebody else issues may be due all the same.
        let pem = found.client_pem.as_ref().map(Secret::expose);
        let reason = client.due(pem, now).map(|reason| reason.to_string());
        let found = certificate(&observed);
        return Ok(RenewReport {
            issuer: Issuer::of(client),
            ..RenewReport::not_renewed(name, found, reason, now, host.uri())
        });
    };
    if let Some(clamp) = &renewal.certificate.clamp {
        out.warn(&clamp.to_string());
    }
    let mut renewing = RenewRun {
        config,
        before: certificate(&observed),
        now_there: None,
        despite,
        working,
    };
    let plan = renewing.plan(&renewal, &mut observed)?;
    out.planned(&plan, "the client certificate is renewed");
    for change in &plan.changes {
        out.say(format!("{name}: {change}"));
    }
    in_rounds(plan, &mut renewing)?;
    let facts = renewing.now_there.unwrap_or(renewal.certificate.facts);
    let rest = format!(
        ", serial {}, until {}",
        facts.serial,
        facts.not_after.date()
    );
    out.say(done(name, "client certificate renewed", &rest));
    let reason = renewal.certificate.issued.as_ref().map(ToString::to_string);
    Ok(RenewReport {
        name: name.to_owned(),
        issuer: Issuer::of(client),
        taken: wanted.taken,
        facts: Some(facts),
        reason,
        renewed: true,
        now,
        uri: host.uri().to_owned(),
    })
}

/// Who issues the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Issuer {
    Lbctl,
    Elsewhere,
    /// The nodes are asked without one.
    Nobody,
}

impl Issuer {
    fn of(client: &PatroniClient) -> Self {
        if client.is_elsewhere() {
            Self::Elsewhere
        } else {
            Self::Lbctl
        }
    }
}

/// The client certificate as it is now, and what was found or done about it.
struct RenewReport {
    name: String,
    issuer: Issuer,
    /// Whether one was taken for a load balancer that is not there yet.
    taken: bool,
    /// `None`: the one in the seed cannot be read.
    facts: Option<Facts>,
    /// Why it is or was due; `None`: it is not.
    reason: Option<String>,
    renewed: bool,
    now: OffsetDateTime,
    /// Of the libvirt daemon.
    uri: String,
}

impl RenewReport {
    fn not_renewed(
        name: &str,
        facts: Option<Facts>,
        reason: Option<String>,
        now: OffsetDateTime,
        uri: &str,
    ) -> Self {
        Self {
            name: name.to_owned(),
            issuer: Issuer::Lbctl,
            taken: false,
            facts,
            reason,
            renewed: false,
            now,
            uri: uri.to_owned(),
        }
    }

    fn without_certificate(name: &str, now: OffsetDateTime, uri: &str) -> Self {
        Self {
            issuer: Issuer::Nobody,
            ..Self::not_renewed(name, None, None, now, uri)
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
            changed: self.renewed,
            uri: self.uri.clone(),
            certificate: facts.map(|facts| certificate_document(facts, self.now)),
        }))
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        if self.renewed || self.taken {
            return Vec::new();
        }
        if self.issuer == Issuer::Nobody {
            let said =
                "there is no client certificate to renew: haproxy.patroni_tls is not \"mutual\"";
            return vec![TextPart::Said(format!("{}: {said}", self.name).into())];
        }
        let days = |f: &Facts| {
            let left = (f.not_after - self.now).whole_days();
            format!("it ends on {}, in {left} days", f.not_after.date())
        };
        let ends = self.facts.as_ref().map_or_else(String::new, days);
        let verdict = match &self.reason {
            None => format!("the client certificate is not due: {ends}"),
            Some(reason) if self.issuer == Issuer::Elsewhere => format!(
                "the client certificate is due: {reason}; it is issued elsewhere, and the next one must be given (lbctl-renew(1))"
            ),
            Some(reason) => format!("the client certificate is due: {reason}"),
        };
        let name = Styled::from(format!("{}: ", self.name));
        vec![TextPart::Said(match self.reason {
            None => name.plus(&verdict),
            Some(_) => name.and(Style::Caution, &verdict),
        })]
    }
}

/// A renewal that is being carried out.
struct RenewRun<'a> {
    config: &'a Config,
    /// The certificate that is to be replaced.
    before: Option<Facts>,
    now_there: Option<Facts>,
    /// Nodes that have no vote, by address or name.
    despite: Vec<String>,
    working: Session<'a>,
}

impl RenewRun<'_> {
    fn plan(&self, renewal: &Renewal, observed: &mut Observed) -> Result<Plan, Failure> {
        let (mut rounds, mut newer) = (0, None);
        while !ask_availability(observed, self.working.host, self.working.out)?
            && rounds < OBSERVE_AGAIN
        {
            *observed = observe(self.config, self.working.host, Ask::WhatIsNeeded)?;
            // The seed may have changed by now, and a renewal changes nothing of it but the
            // certificate.
            let found = current_seed(observed).ok_or_else(|| seed_missing(self.config))?;
            newer = Renewal::from_config(self.config, found, OffsetDateTime::now_utc(), true)?;
            rounds += 1;
        }
        let newest = Renewal {
            despite: self.despite.clone(),
            ..newer.as_ref().unwrap_or(renewal).clone()
        };
        Ok(plan_renew(&newest, observed)?)
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
                continues: false,
                no_spare: false,
            },
            None => return Err(seed_missing(self.config)),
        };
        Ok(Remaining { plan, done })
    }

    fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError> {
        self.working.carry_out(steps)
    }

    fn back_off(&mut self, round: usize, why: Again<'_>) {
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
        seed.at == ownership.seed.volume
            && definition.holds(&seed.at, seed.volume.present())
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
            issuer: Issuer::Lbctl,
            taken: false,
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
            uri: String::new(),
        }
    }

    fn text(report: &RenewReport) -> Vec<String> {
        let options = TextOptions {
            columns: None,
            verbose: false,
            signs: false,
        };
        let parts = report.text(options).into_iter();
        parts
            .map(|part| match part {
                TextPart::Said(said) => said.text().to_owned(),
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
