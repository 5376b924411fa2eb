//! The look at a host before anything is done: what a plan is made from, asked once more where the
//! host changes meanwhile, and the plan beside the block jobs that it would end.

use std::thread;
use std::time::Duration;

use time::OffsetDateTime;

use super::{Consents, asking, ensure_qemu, spare};
use crate::config::Config;
use crate::exit::Failure;
use crate::guest::{AgentAvailability, Guest};
use crate::host::libvirt::LibvirtHost;
use crate::host::{DomainFacts, DomainState, HostErrorKind, HostReader, HostResult};
use crate::output::Output;
use crate::reconcile::desired::{Adoption, Desired, Intent};
use crate::reconcile::observe::{Ask, BETWEEN_ROUNDS, OBSERVE_AGAIN, Observed, observe};
use crate::reconcile::plan::{Plan, Refusal, Restart, guest_differs, plan_up};

/// For the guest agent to say what it can.
pub(super) const AVAILABILITY: Duration = Duration::from_secs(15);

/// Observed and desired, as of now, with everything that a plan needs.
pub(super) fn observe_and_desire(
    config: &Config,
    host: &LibvirtHost,
    intent: Intent,
    consents: Consents,
    out: &Output,
) -> Result<(Observed, Desired), Failure> {
    let _working = asking(out, host);
    let found = look(config, host, intent, consents, out);
    // The reason for whatever it said, or failed with.
    ensure_qemu(host.uri())?;
    found
}

fn look(
    config: &Config,
    host: &LibvirtHost,
    intent: Intent,
    consents: Consents,
    out: &Output,
) -> Result<(Observed, Desired), Failure> {
    let mut rounds = 0;
    loop {
        let mut observed = thread::scope(|scope| {
            // libvirt works meanwhile.
            scope.spawn(|| crate::render::hash_password(config));
            observe(config, host, Ask::WhatIsNeeded)
        })?;
        observed.look_at_image();
        let now = OffsetDateTime::now_utc();
        let mut desired = Desired::from_config(config, &observed, now, intent)?;
        desired.disk = consents.disk;
        desired.adoption = consents.adoption;
        desired.alone = consents.alone;
        if guest_differs(&desired.seed, observed.domain.as_ref())
            && !ask_availability(&mut observed, host, out)?
            && rounds < OBSERVE_AGAIN
        {
            rounds += 1;
            continue;
        }
        if consents.adoption != Adoption::Refused
            && let Err(error) = ask_addresses(&mut observed, host)
        {
            // What was observed a moment ago is being changed or removed by somebody.
            let again = matches!(error.kind, HostErrorKind::NotFound | HostErrorKind::State);
            if !again || rounds >= OBSERVE_AGAIN {
                return Err(error.into());
            }
            rounds += 1;
            thread::sleep(BETWEEN_ROUNDS);
            continue;
        }
        ask_spare(&mut observed, &desired, host);
        return Ok((observed, desired));
    }
}

/// Which addresses a domain has that is to be taken over: nothing but the configuration says so of
/// one that is lbctl's. What the guest says itself counts most.
fn ask_addresses(observed: &mut Observed, host: &LibvirtHost) -> HostResult<()> {
    let mut definitions = observed.domain.iter().flat_map(DomainFacts::definitions);
    let is_foreign = definitions.any(|definition| definition.ownership.is_none());
    let Some(domain) = observed.domain.as_ref().filter(|_| is_foreign) else {
        return Ok(());
    };
    let mut found = crate::import::addresses(host, domain)?;
    if observed.availability == AgentAvailability::Ready
        && let Ok(said) = Guest::new(host, &domain.name).addresses(AVAILABILITY)
    {
        found.extend(said.into_iter().filter(|(_, all)| !all.is_empty()));
    }
    observed.addresses = found;
    Ok(())
}

/// Asks the running guest whether another VM would take the address that they share, where it is to
/// be restarted. One that does not answer has nobody to take it, as far as is known.
fn ask_spare(observed: &mut Observed, desired: &Desired, host: &LibvirtHost) {
    let Some(shared) = &desired.virtual_ip else {
        return;
    };
    let gentle = plan_up(desired, observed, Restart::Later);
    if !gentle.is_ok_and(|plan| !plan.needing_restart().is_empty()) {
        return;
    }
    let runs =
        |domain: &&DomainFacts| domain.live.is_some() && domain.state == DomainState::Running;
    let Some(domain) = observed.domain.as_ref().filter(runs) else {
        return;
    };
    observed.spare = spare::takes(shared, &domain.name, host);
}

/// Asks whether the running guest can be changed. False: it cannot, and it has stopped or was
/// started again since it was observed, by another lbctl or by itself: the host must be observed
/// again.
pub(super) fn ask_availability(
    observed: &mut Observed,
    host: &LibvirtHost,
    out: &Output,
) -> HostResult<bool> {
    // A guest that stands still would be asked in vain for the whole time.
    let stands = |d: &&DomainFacts| matches!(d.state, DomainState::Paused | DomainState::Suspended);
    let domain = observed.domain.as_ref().filter(|d| d.live.is_some());
    let Some(domain) = domain.filter(|d| !stands(d)) else {
        return Ok(true);
    };
    let _working = out.working("asking the guest's agent", Some(AVAILABILITY));
    observed.availability = Guest::new(host, &domain.name).availability(AVAILABILITY);
    if observed.availability == AgentAvailability::Ready {
        return Ok(true);
    }
    let now = host.run_state(&domain.name)?.and_then(|now| now.run);
    Ok(now == domain.live.as_ref().and_then(|live| live.run))
}

/// The plan of `up`. Where it has a step that would end a block job, the host is asked for those
/// that no definition shows.
pub(super) fn plan_beside_jobs(
    desired: &Desired,
    observed: &Observed,
    restart: Restart,
    host: &LibvirtHost,
) -> Result<Plan, Failure> {
    beside_jobs(observed, host, |observed| {
        plan_up(desired, observed, restart)
    })
}

/// The same of any plan.
pub(super) fn beside_jobs(
    observed: &Observed,
    host: &LibvirtHost,
    plan_of: impl Fn(&Observed) -> Result<Plan, Refusal>,
) -> Result<Plan, Failure> {
    let plan = plan_of(observed)?;
    let domain = observed.domain.as_ref();
    let live = domain.and_then(|domain| domain.live.as_ref());
    let (Some(live), Some(_)) = (live, plan.ending_jobs()) else {
        return Ok(plan);
    };
    let disks = live.disks.iter().filter(|disk| disk.is_disk());
    let targets: Vec<String> = disks.map(|disk| disk.target.clone()).collect();
    let jobs = host.block_jobs(&plan.name, &targets)?;
    if jobs.is_empty() {
        return Ok(plan);
    }
    let observed = Observed {
        jobs,
        ..observed.clone()
    };
    Ok(plan_of(&observed)?)
}
