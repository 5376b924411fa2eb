//! What differs inside the guest, and how it gets there: live, by its agent, or with a restart.
//!
//! A restart is needed where the agent does not answer, and where HAProxy's process itself must be
//! another one, because that cuts every session. Then all of it waits: half a change is an untested
//! state.

use similar::TextDiff;

use super::{Change, Class, Condition, ConvergeStep, OwnershipKind, Step, Subject, Value};
use crate::config::VolumeRef;
use crate::guest::{AgentAvailability, Extent};
use crate::host::DomainFacts;
use crate::host::ownership::changing_to;
use crate::reconcile::desired::DesiredCertificate;
use crate::render::{CLIENT_PEM, GuestFile, GuestSpec, HAPROXY_SANDBOX, Service};
use crate::secret::Secret;
use crate::seed::{FoundSeed, Seed};

/// What the guest needs.
pub(super) struct GuestPart {
    pub changes: Vec<Change>,
    /// To be brought about in the running guest.
    pub converge: bool,
    /// Why it is not done live, where it is not; what of it shows later.
    pub notes: Vec<String>,
}

/// The steps that change a running guest. Between the two no ownership record says which seed the
/// guest corresponds to.
pub(super) fn converge(
    domain: &DomainFacts,
    seed: &Seed,
    extent: Extent,
    despite: &[String],
    new_seed: Option<VolumeRef>,
) -> impl Iterator<Item = Step> {
    let ownership = domain.live.as_ref().and_then(|live| live.ownership.clone());
    let changing = ownership.clone().map(|mut ownership| {
        ownership.seed.parts.guest = changing_to(&seed.fingerprint);
        Step::SetOwnership {
            domain: domain.name.clone(),
            ownership: Box::new(ownership),
            note: OwnershipKind::Changing,
        }
    });
    let step = Step::Converge(Box::new(ConvergeStep {
        domain: domain.name.clone(),
        guest: seed.guest.clone(),
        extent,
        despite: despite.to_vec(),
        new_seed,
        ownership,
    }));
    changing.into_iter().chain([step])
}

/// Whether a running guest is to be changed: then it matters whether its agent answers.
#[must_use]
pub fn guest_differs(seed: &Seed, domain: Option<&DomainFacts>) -> bool {
    domain.and_then(|d| d.live.as_ref()).is_some_and(|live| {
        live.ownership
            .as_ref()
            .is_none_or(|m| m.seed.parts.guest != seed.parts.guest)
    })
}

/// Compares the guest that the seed describes with the one that the seed in use describes.
pub(super) fn plan(
    seed: &Seed,
    new: Option<&DesiredCertificate>,
    found: Option<&FoundSeed>,
    domain: &DomainFacts,
    availability: &AgentAvailability,
) -> GuestPart {
    let wanted = &seed.guest;
    let old = found.and_then(|f| f.guest.as_ref());
    let differs = guest_differs(seed, Some(domain));
    let (class, note) = if !differs || domain.live.is_none() {
        (Class::Live, None)
    } else if let AgentAvailability::Out(why) = availability {
        let note = format!("the guest cannot be changed while it runs: {why}");
        (Class::Restart, Some(note))
    } else if started_otherwise(seed, domain) {
        let note = "a change of the way HAProxy is started, of the administrator, of the shared address, or of [guest] \
                    needs a restart of the guest; the restart applies the other changes in the guest, too";
        (Class::Restart, Some(note.into()))
    } else if *availability == AgentAvailability::NotAsked {
        (Class::Restart, None)
    } else {
        (Class::Live, None)
    };
    let mut changes = old.map_or_else(Vec::new, |old| differences(old, wanted, class));
    if let Some(new) = new.filter(|new| new.issued.is_some()) {
        changes.push(Change::new(
            Subject::ClientCertificate,
            Value::Nothing,
            new,
            class,
        ));
    }
    if differs && changes.is_empty() {
        let (from, to) = match class {
            Class::Restart => (Condition::AsBooted, Condition::AsSeedAtRestart),
            _ => (Condition::PerhapsNotAsSeed, Condition::AsSeed),
        };
        changes.push(Change::new(Subject::Guest, from, to, class));
    }
    let live = differs && class == Class::Live;
    let later = old.filter(|old| live && domain.live.is_some() && sandbox_differs(old, wanted));
    GuestPart {
        changes,
        converge: live,
        notes: note
            .into_iter()
            .chain(later.map(|_| SANDBOX_LATER.to_owned()))
            .collect(),
    }
}

const SANDBOX_LATER: &str = "HAProxy's process goes on as it was started: it gets its new sandbox at its next start, \
                             with the next boot of the guest or by `systemctl restart haproxy` in it, which closes \
                             every session";

fn sandbox_differs(old: &GuestSpec, new: &GuestSpec) -> bool {
    let sandbox = |spec: &GuestSpec| {
        let file = spec.files.iter().find(|f| f.path == HAPROXY_SANDBOX);
        file.map(|f| f.content.clone())
    };
    sandbox(old) != sandbox(new)
}

/// Whether the guest runs with another process or account than the seed wants, as far as is known.
fn started_otherwise(seed: &Seed, domain: &DomainFacts) -> bool {
    let ownership = domain
        .live
        .as_ref()
        .and_then(|live| live.ownership.as_ref());
    ownership.is_none_or(|m| {
        let runs_with = &m.seed.parts.start;
        // An address more is no harm to those who come by another one.
        let unshared = seed.guest.start_print_unshared();
        *runs_with != seed.parts.start && Some(runs_with) != unshared.as_ref()
    })
}

fn differences(old: &GuestSpec, new: &GuestSpec, class: Class) -> Vec<Change> {
    // A new field must be considered here.
    let GuestSpec {
        name: _,
        admin,
        packages,
        start,
        files,
        first_boot,
        virtual_ip: _,
        ..
    } = new;
    let mut changes = Vec::new();
    let mut push = |subject: Subject, from: Value, to: Value| {
        if from != to {
            changes.push(Change::new(subject, from, to, class));
        }
    };
    push(
        Subject::AdminUser,
        old.admin.user.clone().into(),
        admin.user.clone().into(),
    );
    if old.first_boot != *first_boot {
        push(
            Subject::FirstBoot,
            Value::Nothing,
            Condition::Changed.into(),
        );
    }
    push(
        Subject::Packages,
        Value::words(&old.packages),
        Value::words(packages),
    );
    push(
        Subject::HaproxyProcess,
        Value::Process(old.start.clone()),
        Value::Process(start.clone()),
    );
    let (before, after) = (&old.admin.password_hash, &admin.password_hash);
    if before != after {
        let has = |password: &Option<Secret>| match password {
            Some(_) => Condition::Set,
            None => Condition::None,
        };
        let to = match (before, after) {
            (Some(_), Some(_)) => Condition::Another,
            _ => has(after),
        };
        changes.push(Change::new(Subject::AdminPassword, has(before), to, class));
    }
    changes.extend(keys(&old.admin.public_keys, &admin.public_keys, class));
    changes.extend(file_changes(&old.files, files, class));
    changes
}

fn keys(old: &[String], new: &[String], class: Class) -> Option<Change> {
    let lacking = |from: &[String], of: &[String]| from.iter().filter(|k| !of.contains(k)).count();
    let (added, removed) = (lacking(new, old), lacking(old, new));
    (added + removed > 0).then(|| {
        let to = Value::Keys { added, removed };
        Change::new(Subject::SshKeys, Value::Nothing, to, class)
    })
}

fn file_changes(old: &[GuestFile], new: &[GuestFile], class: Class) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut own = false;
    for file in new {
        let before = old.iter().find(|f| f.path == file.path);
        if before == Some(file) || file.path == CLIENT_PEM {
            continue;
        }
        if file.affects == Service::Guest {
            own = true;
            continue;
        }
        changes.push(file_change(before, file, class));
    }
    for removed in old.iter().filter(|f| new.iter().all(|n| n.path != f.path)) {
        let subject = Subject::File(removed.path.to_string());
        changes.push(Change::new(
            subject,
            Condition::There,
            Condition::Removed,
            class,
        ));
    }
    if own {
        changes.push(Change::new(
            Subject::OwnFiles,
            Value::Nothing,
            Condition::Renewed,
            class,
        ));
    }
    changes
}

fn file_change(before: Option<&GuestFile>, file: &GuestFile, class: Class) -> Change {
    let change = |to: Value| {
        let subject = Subject::File(file.path.to_string());
        Change::new(subject, Value::Nothing, to, class)
    };
    let Some(before) = before else {
        return change(Condition::New.into());
    };
    if file.secret || before.secret {
        return change(Condition::ChangedSecret.into());
    }
    let diff = TextDiff::from_lines(before.content.expose(), file.content.expose());
    let count = |tag| diff.iter_all_changes().filter(|c| c.tag() == tag).count();
    let (added, removed) = (
        count(similar::ChangeTag::Insert),
        count(similar::ChangeTag::Delete),
    );
    if added + removed == 0 {
        return change(Condition::ModeOrOwner.into());
    }
    let text = diff
        .unified_diff()
        .context_radius(2)
        .header(
            &format!("{} in the guest", file.path),
            &format!("{} desired", file.path),
        )
        .to_string();
    Change {
        diff: text,
        ..change(Value::Lines { added, removed })
    }
}
