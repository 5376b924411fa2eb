//! Kind and target of a step are what programs and the reconcile loop compare: they distinguish
//! whatever the words distinguish, in every step that there is and in every plan.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{
    ConvergeStep, DefineStep, Drives, ImageStep, OwnershipKind, RemakeStep, RootRef, plan_renew,
};
use super::hosts::*;
use super::*;
use crate::cert::IssueReason;
use crate::config::{BaseImage, ImageSource, Sha256, VolumeRef};
use crate::guest::Extent;
use crate::host::{CloneSpec, Drive, HostEntry, NetworkId, Operation, Scope};
use crate::reconcile::desired::{DesiredCertificate, Renewal};
use crate::render::domain::edit::Existing;
use crate::secret::Secret;

const BOTH: Scope = Scope {
    config: true,
    live: true,
};
const VARIANTS: usize = 22;

/// Which variant it is: one that is new does not compile until it is here, and in `samples`.
fn variant(step: &Step) -> usize {
    match step {
        Step::Reserve { .. } => 0,
        Step::Release { .. } => 1,
        Step::BringImage(_) => 18,
        Step::CloneVolume(_) => 2,
        Step::RemakeVolume(_) => 21,
        Step::GrowVolume { .. } => 3,
        Step::GrowLiveDisk { .. } => 4,
        Step::DeleteVolume { .. } => 5,
        Step::DeleteSeed { .. } => 6,
        Step::WriteSeed { .. } => 7,
        Step::Converge(_) => 8,
        Step::Define(_) => 9,
        Step::SwapMedium { .. } => 10,
        Step::SetOwnership { .. } => 11,
        Step::SetAutostart { .. } => 12,
        Step::Start { .. } => 13,
        Step::Resume { .. } => 14,
        Step::Stop { .. } => 15,
        Step::Restart { .. } => 16,
        Step::Undefine { .. } => 17,
        Step::Wake { .. } => 19,
        Step::StepBack { .. } => 20,
    }
}

fn converge(domain: &str, extent: Extent) -> Step {
    Step::Converge(Box::new(ConvergeStep {
        domain: domain.into(),
        guest: seed("hello").guest,
        extent,
        despite: Vec::new(),
        new_seed: None,
        ownership: None,
    }))
}

fn define(name: &str, uuid: Option<&str>) -> Step {
    let mut spec = desired().domain;
    spec.name = name.into();
    Step::Define(Box::new(DefineStep {
        spec,
        existing: uuid.map(|xml| Existing {
            xml: Secret::new(xml),
            root: None,
            drive: None,
            other_machine: false,
        }),
        ownership: definition().ownership.unwrap(),
        root: RootRef::Id("default/lb-1".into()),
        format: "raw".into(),
        known: Vec::new(),
    }))
}

fn clone_of(name: &str, base: &str, capacity: u64) -> Step {
    Step::CloneVolume(CloneSpec {
        volume: volume("default", name),
        base: volume("os", base),
        capacity,
        format: "qcow2",
    })
}

fn remake(name: &str, base: &str, capacity: u64) -> Step {
    let Step::CloneVolume(spec) = clone_of(name, base, capacity) else {
        panic!("not a clone")
    };
    Step::RemakeVolume(Box::new(RemakeStep {
        domain: "lb-1".into(),
        was: None,
        spec,
    }))
}

fn bring(name: &str, file: &str, size: Option<u64>) -> Step {
    let image = BaseImage {
        source: ImageSource::File(file.into()),
        sha256: Sha256::of(b"image"),
    };
    Step::BringImage(ImageStep {
        at: volume("os", name),
        image,
        capacity: GIB,
        size,
    })
}

fn note(domain: &str, note: OwnershipKind) -> Step {
    Step::SetOwnership {
        domain: domain.into(),
        ownership: Box::new(definition().ownership.unwrap()),
        note,
    }
}

fn swap(domain: &str, at: VolumeRef) -> Step {
    let mut seed = definition().ownership.unwrap().seed;
    seed.volume = at;
    Step::SwapMedium {
        domain: domain.into(),
        seed,
        drives: Drives {
            config: None,
            live: Some(Drive::new()),
        },
    }
}

fn write(at: VolumeRef, content: &str) -> Step {
    let seed = Box::new(seed(content));
    Step::WriteSeed { at, seed }
}

fn stop(domain: &str, seconds: u64) -> Step {
    Step::Stop {
        domain: domain.into(),
        run: None,
        deadline: Duration::from_secs(seconds),
    }
}

fn grow_live(target: &str, capacity: u64) -> Step {
    Step::GrowLiveDisk {
        domain: "lb-1".into(),
        target: target.into(),
        capacity,
    }
}

fn reservations() -> Vec<Step> {
    let without_mac = HostEntry {
        mac: None,
        ..entry("192.0.2.20", MAC, "lb-1")
    };
    let entries = [
        entry("192.0.2.20", MAC, "lb-1"),
        entry("192.0.2.21", MAC, "lb-1"),
        entry("192.0.2.20", OTHER_MAC, "lb-1"),
        entry("192.0.2.20", MAC, "lb-2"),
        without_mac,
    ];
    let mut steps = Vec::new();
    for name in ["lab", "other"] {
        for entry in entries.clone() {
            let network = NetworkId {
                name: name.into(),
                uuid: format!("{name}-uuid"),
            };
            steps.push(Step::Reserve {
                network: network.clone(),
                entry: entry.clone(),
                scope: BOTH,
            });
            steps.push(Step::Release {
                network,
                entry,
                scope: BOTH,
            });
        }
    }
    steps
}

fn of_domain(name: &str) -> Vec<Step> {
    let domain = name.to_owned();
    let at = volume("default", name);
    let seed = volume("default", &format!("{name}.iso"));
    vec![
        Step::GrowVolume {
            at: at.clone(),
            capacity: GIB,
        },
        Step::GrowVolume {
            at: at.clone(),
            capacity: 2 * GIB,
        },
        Step::DeleteVolume {
            at,
            domain: domain.clone(),
        },
        Step::DeleteSeed {
            at: seed.clone(),
            domain: domain.clone(),
        },
        write(seed.clone(), "hello"),
        converge(name, Extent::All),
        converge(name, Extent::Tls),
        define(name, None),
        define(name, Some("uuid")),
        swap(name, seed),
        swap(name, volume("default", "another.iso")),
        note(name, OwnershipKind::Changing),
        note(name, OwnershipKind::Guest),
        note(name, OwnershipKind::NextBoot),
        Step::SetAutostart {
            domain: domain.clone(),
            on: true,
        },
        Step::SetAutostart {
            domain: domain.clone(),
            on: false,
        },
        Step::Start {
            domain: domain.clone(),
        },
        Step::Resume {
            domain: domain.clone(),
        },
        Step::Wake {
            domain: domain.clone(),
        },
        Step::StepBack {
            domain: domain.clone(),
            drain: Duration::from_secs(1),
        },
        stop(name, 1),
        Step::Restart {
            domain: domain.clone(),
            run: None,
            deadline: Duration::from_secs(1),
            fallback: Secret::new(""),
        },
        Step::Undefine { domain },
    ]
}

/// Of each variant several steps, which differ in one thing that their words show.
fn samples() -> Vec<Step> {
    let disks = [
        clone_of("lb-1", "base", GIB),
        clone_of("lb-2", "base", GIB),
        clone_of("lb-1", "newer", GIB),
        clone_of("lb-1", "base", 2 * GIB),
        remake("lb-1", "base", GIB),
        remake("lb-1", "newer", GIB),
        remake("lb-1", "base", 2 * GIB),
        grow_live("vda", GIB),
        grow_live("vdb", GIB),
        grow_live("vda", 2 * GIB),
        bring("image", "a.qcow2", None),
        bring("other", "a.qcow2", None),
        bring("image", "b.qcow2", None),
        bring("image", "a.qcow2", Some(GIB)),
    ];
    let mut steps = reservations();
    steps.extend(disks);
    steps.extend(["lb-1", "lb-2"].into_iter().flat_map(of_domain));
    steps
}

#[test]
fn kind_and_target_distinguish_what_the_words_distinguish() {
    let samples = samples();
    let variants: BTreeSet<usize> = samples.iter().map(variant).collect();
    assert!(
        variants.into_iter().eq(0..VARIANTS),
        "a variant has no sample"
    );
    for (place, one) in samples.iter().enumerate() {
        for other in &samples[place + 1..] {
            assert_ne!(one.to_string(), other.to_string());
            assert_ne!(one.action(), other.action(), "{one}");
        }
    }
}

#[test]
fn what_is_the_same_work_has_the_same_kind_and_target() {
    let at = volume("default", "lb-1.iso");
    for (one, other) in [
        (write(at.clone(), "one"), write(at, "another")),
        (stop("lb-1", 1), stop("lb-1", 2)),
        (define("lb-1", Some("one")), define("lb-1", Some("another"))),
    ] {
        assert_ne!(one, other);
        assert_eq!(one.action(), other.action());
        assert_eq!(one.to_string(), other.to_string());
    }
}

/// The operation of the host that is the step, as `host` and `apply` name it.
fn operation(step: &Step) -> Operation {
    use Operation as O;
    match step.clone() {
        Step::Reserve { network, entry, .. } => O::Reserve {
            network: network.name,
            entry,
        },
        Step::Release { network, entry, .. } => O::Release {
            network: network.name,
            entry,
        },
        Step::BringImage(step) => O::BringImage {
            at: step.at,
            source: step.image.source,
        },
        Step::CloneVolume(spec) => O::CloneVolume {
            volume: spec.volume,
            base: spec.base,
        },
        // Two operations of the host, and neither is the step.
        Step::RemakeVolume(_) => O::from("making a disk anew"),
        Step::GrowVolume { at, capacity } => O::GrowVolume { at, capacity },
        Step::GrowLiveDisk {
            domain,
            target,
            capacity,
        } => O::GrowLiveDisk {
            domain,
            target,
            capacity,
        },
        Step::DeleteVolume { at, .. } => O::DeleteVolume(at),
        Step::DeleteSeed { at, .. } => O::DeleteSeed(at),
        Step::WriteSeed { at, .. } => O::WriteSeed(at),
        Step::Converge(step) => match step.extent {
            Extent::All => O::ChangeGuest(step.domain),
            Extent::Tls => O::ExchangeCertificate(step.domain),
        },
        Step::Define(step) => O::Define(step.spec.name),
        Step::SwapMedium { domain, .. } => O::ChangeMedium(domain),
        Step::SetOwnership { domain, .. } => O::SetOwnership(domain),
        Step::SetAutostart { domain, .. } => O::SetAutostart(domain),
        Step::Start { domain } => O::Start(domain),
        Step::Resume { domain } => O::Resume(domain),
        Step::Wake { domain } => O::Wake(domain),
        Step::StepBack { domain, .. } => O::StepBack(domain),
        Step::Stop { domain, .. } => O::PowerOff(domain),
        Step::Restart { domain, .. } => O::Restart(domain),
        Step::Undefine { domain } => O::Undefine(domain),
    }
}

#[test]
fn a_step_knows_the_operation_that_it_is() {
    let samples = samples();
    for step in &samples {
        // How a guest was to be stopped is worth saying, and which half of a new disk failed.
        let own = !matches!(step, Step::Stop { .. } | Step::RemakeVolume(_));
        assert_eq!(step.is_done_by(&operation(step)), own, "{step}");
        // A disk and a seed are two volumes, so there is one step at most of that operation.
        for other in samples.iter().filter(|s| variant(s) != variant(step)) {
            let part = matches!((step, other), (Step::Restart { .. }, Step::Start { .. }));
            let of_one_domain = step.target() == other.target();
            assert_eq!(
                step.is_done_by(&operation(other)),
                part && of_one_domain,
                "{step}: {}",
                operation(other)
            );
        }
    }
    let question = Operation::from("starting domain lb-1");
    assert!(!samples.iter().any(|step| step.is_done_by(&question)));
}

fn certificate(desired: &mut Desired) -> &mut DesiredCertificate {
    desired.certificate.as_mut().unwrap()
}

type Turn = fn(&mut Desired, &mut Observed);

/// What may differ, each by itself.
const TURNS: [Turn; 18] = [
    |d, _| d.domain.memory_mib = 2048,
    |d, _| d.domain.vcpus = 4,
    |d, _| {
        d.domain.interfaces[0].source = NicSource::Macvtap {
            device: "eth0".into(),
        }
    },
    |d, _| d.reservations[0].entry = entry("192.0.2.21", MAC, "lb-1"),
    |d, _| d.seed = seed("changed"),
    |d, _| d.seed.parts.boot = "another".into(),
    |d, _| certificate(d).issued = Some(IssueReason::Forced),
    |_, o| wanted_disk(o).size = Some(20 * GIB),
    |_, o| o.availability = AgentAvailability::Ready,
    |_, o| o.networks = bare().networks,
    |_, o| o.seeds[0] = place(o.seeds[0].at.clone(), None),
    |_, o| o.seeds[1] = place(o.seeds[1].at.clone(), Some(ours("previous"))),
    |_, o| o.seeds[2] = place(o.seeds[2].at.clone(), Some(SeedContent::Unfinished)),
    |_, o| o.disk = bare().disk,
    |_, o| o.domain.iter_mut().for_each(|d| d.autostart = false),
    |_, o| {
        o.domain
            .iter_mut()
            .for_each(|d| d.state = DomainState::Paused);
    },
    |_, o| {
        if let Some(domain) = &mut o.domain {
            (domain.state, domain.live) = (DomainState::ShutOff, None);
        }
    },
    |_, o| o.domain = None,
];

/// Two steps of one plan that share kind and target are one step.
fn assert_distinct(plan: &Plan) {
    for (place, one) in plan.steps.iter().enumerate() {
        for other in &plan.steps[place + 1..] {
            assert!(one.action() != other.action(), "twice in {:?}", steps(plan));
        }
    }
}

proptest! {
    #[test]
    fn no_plan_has_two_steps_of_one_kind_and_target(
        turns in proptest::sample::subsequence((0..TURNS.len()).collect::<Vec<_>>(), 0..=6),
        at_once in any::<bool>(),
    ) {
        let (mut desired, mut observed) = (desired(), settled());
        for turn in turns {
            TURNS[turn](&mut desired, &mut observed);
        }
        let restart = if at_once { NOW } else { Restart::Later };
        if let Ok(plan) = plan_up(&desired, &observed, restart) {
            assert_distinct(&plan);
        }
        let renewal = Renewal {
            seed: desired.seed,
            seed_volume: desired.seed_volume,
            certificate: desired.certificate.unwrap(),
            despite: Vec::new(),
        };
        if let Ok(plan) = plan_renew(&renewal, &observed) {
            assert_distinct(&plan);
        }
    }
}
