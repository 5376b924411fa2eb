//! What is not there yet, and what is found in its place.

use super::*;

#[test]
fn an_overlay_is_found_behind_a_disk_that_somebody_added() {
    let mut observed = settled();
    let domain = observed.domain.as_mut().unwrap();
    for definition in std::iter::once(&mut domain.config).chain(&mut domain.live) {
        let root = &mut definition.disks[0];
        root.backing = root
            .source
            .replace(Source::File("/snap".into()))
            .into_iter()
            .collect();
        let mut data = root.clone();
        (data.target, data.backing) = ("vdb".into(), Vec::new());
        data.source = Some(Source::File("/data".into()));
        definition.disks.insert(0, data);
    }
    let what = (RefusalKind::NeedsConsent, MessageId::DiskIsOverlay);
    check_refused(
        &observed,
        &desired(),
        what,
        &["/snap", "volume default/lb-1"],
    );
    // Another disk's overlay is none of lbctl's business.
    let mut observed = settled();
    let domain = observed.domain.as_mut().unwrap();
    for definition in std::iter::once(&mut domain.config).chain(&mut domain.live) {
        let mut data = definition.disks[0].clone();
        data.target = "vdb".into();
        data.source = Some(Source::File("/snap".into()));
        data.backing = vec![Source::File("/data".into())];
        definition.disks.insert(0, data);
    }
    assert!(up(&desired(), &observed).is_empty());
}

/// Its disk is its own: to call that one nobody's would be to offer it.
#[test]
fn the_disk_of_a_foreign_domain_is_not_offered() {
    let mut observed = settled();
    let domain = observed.domain.as_mut().unwrap();
    domain.config.ownership = None;
    domain.live.as_mut().unwrap().ownership = None;
    let found = |observed: &Observed| {
        let objections = refused(&desired(), observed);
        let ids = objections.iter().map(|o| o.id);
        ids.collect::<Vec<_>>()
    };
    assert_eq!(found(&observed), [MessageId::DomainNotOurs]);
    let domain = observed.domain.as_mut().unwrap();
    for definition in std::iter::once(&mut domain.config).chain(&mut domain.live) {
        definition.disks[0].source = Some(Source::File("/other".into()));
    }
    let both = [MessageId::DomainNotOurs, MessageId::DiskNotOurs];
    assert_eq!(found(&observed), both);
}

#[test]
fn what_does_not_differ_is_not_changed() {
    assert!(up(&desired(), &settled()).is_empty());
    assert!(plan_up(&desired(), &settled(), NOW).unwrap().is_empty());
}

#[test]
fn a_first_up_has_the_order_that_makes_every_prefix_safe() {
    let plan = up(&desired(), &bare());
    assert_eq!(
        kinds(&plan),
        [
            "write seed",
            "reserve",
            "clone",
            "define",
            "autostart",
            "start"
        ]
    );
    assert!(plan.creates() && plan.needing_restart().is_empty());
    assert_eq!(
        steps(&plan)[2],
        "clone volume default/lb-1 (10 GiB) from os/base"
    );
}

/// `volume_id`, seen for the first time.
fn existing(source: Source, found: &str, given: Option<DiskFormat>) -> Observed {
    let mut observed = bare();
    let mut state = present(volume("default", "data"), None, GIB);
    if let VolumeState::Present(facts) = &mut state {
        (facts.source, facts.format) = (source, found.into());
    }
    observed.disk = ObservedDisk::Existing {
        id: "default/data".into(),
        format: given,
        volume: state,
        header: None,
    };
    observed
}

#[test]
fn a_block_device_is_raw_whatever_is_said_of_it() {
    let block = || Source::Block("/dev/sdb1".into());
    for found in ["linux", "none", "extended", "raw", "qcow2"] {
        for given in [None, Some(DiskFormat::Raw)] {
            let plan = up(&desired(), &existing(block(), found, given));
            let defined = plan.steps.iter().find_map(|step| match step {
                Step::Define(step) => Some(step.format.as_str()),
                _ => None,
            });
            assert_eq!(defined, Some("raw"), "{found}");
            assert!(plan.notes.is_empty(), "{:?}", plan.notes);
        }
    }
    check_refused(
        &existing(block(), "qcow2", Some(DiskFormat::Qcow2)),
        &desired(),
        (RefusalKind::Unfit, MessageId::DiskFormatDiffers),
        &["block device"],
    );
    check_refused(
        &existing(Source::File("/default/data".into()), "vmdk", None),
        &desired(),
        (RefusalKind::NeedsConsent, MessageId::DiskFormatUncertain),
        &["default/data is vmdk"],
    );
}

#[test]
fn a_pool_of_raw_volumes_takes_no_qcow2() {
    for (kind, format, takes) in [
        ("dir", DiskFormat::Qcow2, true),
        ("netfs", DiskFormat::Qcow2, true),
        ("logical", DiskFormat::Qcow2, false),
        ("disk", DiskFormat::Qcow2, false),
        ("rbd", DiskFormat::Qcow2, false),
        ("logical", DiskFormat::Raw, true),
        ("rbd", DiskFormat::Raw, true),
        ("zfs", DiskFormat::Raw, false),
        ("mpath", DiskFormat::Qcow2, false),
        ("scsi", DiskFormat::Raw, false),
        ("gluster", DiskFormat::Qcow2, false),
    ] {
        let mut observed = bare();
        let ObservedDisk::Clone { wanted, pool, .. } = &mut observed.disk else {
            panic!()
        };
        (wanted.format, *pool) = (format, Some(kind.into()));
        let id = match kind {
            "zfs" | "mpath" | "scsi" | "gluster" => MessageId::PoolMakesNoVolume,
            _ => MessageId::PoolHoldsRaw,
        };
        if takes {
            up(&desired(), &observed);
        } else {
            let (is, says) = (RefusalKind::Unfit, ["of type", kind]);
            check_refused(&observed, &desired(), (is, id), &says);
        }
    }
}

#[test]
fn the_seeds_pool_must_take_what_is_uploaded() {
    for (kind, takes) in [
        ("dir", true),
        ("fs", true),
        ("logical", true),
        ("zfs", true),
        ("rbd", false),
        ("iscsi", false),
        ("mpath", false),
    ] {
        let mut observed = bare();
        observed.seed_pool = Some(kind.into());
        if takes {
            up(&desired(), &observed);
        } else {
            let is = (RefusalKind::Unfit, MessageId::PoolMakesNoVolume);
            check_refused(&observed, &desired(), is, &["of type", kind, "the seed"]);
        }
    }
}

#[test]
fn a_killed_first_up_continues_where_it_was() {
    let mut observed = bare();
    observed.seeds[0] = place(desired().seed_volume, Some(SeedContent::Unfinished));
    assert_eq!(
        kinds(&up(&desired(), &observed)),
        [
            "write seed",
            "reserve",
            "clone",
            "define",
            "autostart",
            "start",
            "delete seed"
        ],
        "another lbctl may be writing it: the seed gets another name"
    );
    let all_places = observed.seeds.clone();
    for seed in &mut observed.seeds {
        *seed = place(seed.at.clone(), Some(SeedContent::Unfinished));
    }
    assert_eq!(
        kinds(&up(&desired(), &observed))[..2],
        ["delete seed", "write seed"],
        "where no place is free, one of those is made free"
    );
    observed.seeds = all_places;
    observed.seeds[0] = place(desired().seed_volume, Some(ours("hello")));
    assert_eq!(
        kinds(&up(&desired(), &observed))[0],
        "write seed",
        "its tag names nothing of what is to be made"
    );
    observed.seeds[0] = place(desired().seed_volume, Some(making("hello")));
    let rest = ["reserve", "clone", "define", "autostart", "start"];
    assert_eq!(kinds(&up(&desired(), &observed)), rest);
    observed.networks = settled().networks;
    assert_eq!(kinds(&up(&desired(), &observed)), rest[1..]);
    observed.disk = settled().disk;
    let plan = up(&desired(), &observed);
    assert_eq!(kinds(&plan), rest[2..]);
    let Step::Define(define) = &plan.steps[0] else {
        panic!("{plan:?}")
    };
    let record = &define.ownership;
    assert!(record.disk.as_ref().unwrap().cloned && record.reservations[0].made);
    observed.domain = settled().domain;
    let facts = domain(&mut observed);
    (facts.live, facts.state, facts.autostart) = (None, DomainState::ShutOff, false);
    assert_eq!(kinds(&up(&desired(), &observed)), ["autostart", "start"]);
}

/// Whatever it looks like: nothing says that lbctl made it.
#[test]
fn what_looks_like_ours_is_taken_over_only_when_told() {
    let mut observed = bare();
    (observed.disk, observed.networks) = (settled().disk, settled().networks);
    let tags = [None, Some(ours("hello")), Some(ours("another"))];
    for tag in tags {
        observed.seeds[0] = place(desired().seed_volume, tag);
        check_not_ours(
            &observed,
            MessageId::DiskNotOurs,
            &["default/lb-1", "os/base"],
        );
        let mut told = desired();
        told.disk.reuse = true;
        let plan = up(&told, &observed);
        assert_eq!(plan.changes[0].subject.to_string(), "reservation");
        assert_eq!(plan.changes[1].subject.to_string(), "disk");
        for taken in &plan.changes[..2] {
            assert!(taken.to_string().contains("taken over"), "{taken}");
        }
        let define = plan.steps.iter().find_map(|step| match step {
            Step::Define(step) => Some(step),
            _ => None,
        });
        let record = &define.unwrap().ownership;
        assert!(!record.disk.as_ref().unwrap().cloned && !record.reservations[0].made);
        assert!(!kinds(&plan).contains(&"reserve") && !kinds(&plan).contains(&"clone"));
    }
    // A tag of this VM that names the volume, and a volume that is no clone: somebody was first.
    observed.seeds[0] = place(desired().seed_volume, Some(making("hello")));
    if let ObservedDisk::Clone { volume: found, .. } = &mut observed.disk {
        *found = present(volume("default", "lb-1"), Some("/os/other"), 10 * GIB);
    }
    check_not_ours(&observed, MessageId::VolumeExists, &["default/lb-1"]);
}
