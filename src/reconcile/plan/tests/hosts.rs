//! Hosts and wishes to plan with: a bare host, and one on which all is as desired.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use crate::cert::Facts;
use crate::config::{
    Addressing, CloneVolume, DiskFormat, Interface, MacAddr, NetworkRef, NicSource, VolumeRef,
};
use crate::guest::AgentAvailability;
use crate::host::definition::{DiskDevice, DiskFacts};
use crate::host::ownership::PartPrints;
use crate::host::ownership::{DiskRecord, LAYOUT, Ownership, ReservationRecord, SeedRecord};
use crate::host::{
    Definition, DomainFacts, DomainState, HostEntry, NetworkFacts, NetworkId, NicFacts,
    ObservedNicSource, Source, Subnet, VolumeFacts, VolumeState,
};
use crate::reconcile::desired::{
    Adoption, Desired, DesiredCertificate, DesiredReservation, DiskConsent,
};
use crate::reconcile::observe::{
    Observed, ObservedDisk, ObservedMachine, ObservedNetwork, ObservedSeed,
};
use crate::reconcile::plan::Restart;
use crate::render::GuestSpec;
use crate::render::domain::{DomainKind, DomainSpec, NicSpec};
use crate::secret::Secret;
use crate::seed::{FoundSeed, Seed, SeedContent, places, print_of_entry, print_of_volume};

pub(super) const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 1, 2, 3]);
pub(super) const OTHER_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 9, 9, 9]);
pub(super) const GIB: u64 = 1 << 30;
pub(super) const NOW: Restart = Restart::Now {
    deadline: Duration::from_secs(1),
};

pub(super) fn volume(pool: &str, name: &str) -> VolumeRef {
    VolumeRef {
        pool: pool.into(),
        name: name.into(),
    }
}

pub(super) fn entry(ip: &str, mac: MacAddr, name: &str) -> HostEntry {
    HostEntry {
        mac: Some(mac),
        ip: ip.parse().unwrap(),
        name: Some(name.into()),
    }
}

/// With one file of HAProxy's.
fn guest(content: &str) -> GuestSpec {
    let json = format!(
        r#"{{"schema": 1, "name": "lb-1", "packages": [], "start": {{"image": null, "nofile": 1}},
            "admin": {{"user": "op", "password_hash": null, "public_keys": []}},
            "files": [{{"path": "/etc/haproxy/haproxy.cfg", "content": "{content}\n", "secret": false, "mode": 420,
                       "owner": "root", "affects": "haproxy"}}]}}"#
    );
    GuestSpec::from_json(json.as_bytes()).unwrap()
}

pub(super) fn seed(content: &str) -> Seed {
    Seed {
        guest: guest(content),
        parts: PartPrints {
            guest: format!("guest of {content}"),
            start: "start".into(),
            boot: "boot".into(),
        },
        meta_data: String::new(),
        network_config: String::new(),
        client_pem: None,
        fingerprint: format!("of {content}"),
        made: Vec::new(),
    }
}

pub(super) fn desired() -> Desired {
    let network = NetworkRef::Name("lab".into());
    Desired {
        domain: DomainSpec {
            name: "lb-1".into(),
            kind: DomainKind::Kvm,
            architecture: "x86_64".into(),
            machine: "q35".into(),
            memory_mib: 1024,
            vcpus: 2,
            interfaces: vec![NicSpec {
                mac: MAC,
                source: NicSource::Network(network.clone()),
                ipv6: false,
            }],
        },
        machine_given: false,
        seed: seed("hello"),
        seed_volume: volume("default", "lb-1-cloud-init.iso"),
        interfaces: vec![Interface {
            mac: MAC,
            mac_derived: true,
            source: NicSource::Network(network.clone()),
            addressing: Addressing::DhcpReservation("192.0.2.20".parse().unwrap()),
            mtu: None,
        }],
        reservations: vec![DesiredReservation {
            network,
            entry: entry("192.0.2.20", MAC, "lb-1"),
        }],
        virtual_ip: None,
        certificate: Some(DesiredCertificate {
            facts: facts(),
            issued: None,
            clamp: None,
            keyless: None,
        }),
        disk: DiskConsent::default(),
        adoption: Adoption::Refused,
        alone: false,
    }
}

fn wanted_disk() -> CloneVolume {
    CloneVolume {
        volume: volume("default", "lb-1"),
        size: Some(10 * GIB),
        base: volume("os", "base"),
        image: None,
        format: DiskFormat::Qcow2,
    }
}

pub(super) fn network(reservations: Vec<HostEntry>) -> ObservedNetwork {
    let facts = NetworkFacts {
        id: NetworkId {
            name: "lab".into(),
            uuid: "net-uuid".into(),
        },
        active: true,
        persistent: true,
        subnets: vec![Subnet {
            address: "192.0.2.1".parse().unwrap(),
            prefix_length: 24,
            dhcp: true,
            ranges: vec![(
                "192.0.2.100".parse().unwrap(),
                "192.0.2.199".parse().unwrap(),
            )],
        }],
        own_bridge: true,
        devices: Vec::new(),
        mac: None,
        ports: None,
        live_reservations: reservations.clone(),
        reservations,
    };
    ObservedNetwork {
        facts: Some(facts),
        leases: Vec::new(),
    }
}

pub(super) fn present(at: VolumeRef, backing: Option<&str>, capacity: u64) -> VolumeState {
    let path = format!("/{at}");
    VolumeState::Present(Box::new(VolumeFacts {
        key: path.clone(),
        source: Source::File(path),
        capacity,
        allocation: 0,
        format: "qcow2".into(),
        physical: None,
        backing: backing.map(String::from),
        mode: Some(0o600),
        at,
    }))
}

pub(super) fn place(at: VolumeRef, content: Option<SeedContent>) -> ObservedSeed {
    let volume = if content.is_some() {
        present(at.clone(), None, 4096)
    } else {
        VolumeState::Absent
    };
    ObservedSeed {
        at,
        volume,
        content,
    }
}

pub(super) fn ours(content: &str) -> SeedContent {
    let Seed {
        fingerprint, guest, ..
    } = seed(content);
    SeedContent::Ours(Box::new(FoundSeed {
        fingerprint,
        made: Vec::new(),
        files: Vec::new(),
        client_pem: None,
        guest: Some(guest),
    }))
}

/// With a tag that names disk and reservation.
pub(super) fn making(content: &str) -> SeedContent {
    let SeedContent::Ours(mut found) = ours(content) else {
        unreachable!()
    };
    found.made = vec![
        print_of_volume(&volume("default", "lb-1")),
        print_of_entry("net-uuid", &entry("192.0.2.20", MAC, "lb-1")),
    ];
    SeedContent::Ours(found)
}

/// A host on which nothing of the load balancer is there.
pub(super) fn bare() -> Observed {
    Observed {
        architecture: "x86_64".into(),
        memory_kib: 64 << 20,
        machine: ObservedMachine::NotAsked,
        rejected: None,
        listed: BTreeMap::new(),
        offers_kvm: Some(true),
        domain: None,
        checkpoints: Vec::new(),
        claims: Vec::new(),
        networks: BTreeMap::from([(NetworkRef::Name("lab".into()), network(Vec::new()))]),
        devices: BTreeMap::new(),
        bridges: BTreeMap::new(),
        disk: ObservedDisk::Clone {
            wanted: wanted_disk(),
            volume: VolumeState::Absent,
            base: present(volume("os", "base"), None, 2 * GIB),
            image: None,
            pool: Some("dir".into()),
        },
        disk_is_fixed: false,
        unseen: None,
        seed_pool: None,
        seeds: places(&desired().seed_volume)
            .into_iter()
            .map(|at| place(at, None))
            .collect(),
        availability: AgentAvailability::NotAsked,
        addresses: BTreeMap::new(),
        spare: false,
        jobs: Vec::new(),
    }
}

pub(super) fn definition() -> Definition {
    let disk = |device, target: &str, path: &str| DiskFacts {
        device,
        target: target.into(),
        bus: "virtio".into(),
        source: Some(Source::File(path.into())),
        format: Some("qcow2".into()),
        backing: Vec::new(),
        job: None,
    };
    Definition {
        domain_type: "kvm".into(),
        architecture: "x86_64".into(),
        machine: "pc-q35-7.2".into(),
        memory_kib: 1024 * 1024,
        current_memory_kib: 1024 * 1024,
        vcpus: 2,
        disks: vec![
            disk(DiskDevice::Disk, "vda", "/default/lb-1"),
            disk(DiskDevice::Cdrom, "sda", "/default/lb-1-cloud-init.iso"),
        ],
        interfaces: vec![NicFacts {
            mac: MAC,
            source: ObservedNicSource::Known(NicSource::Network(NetworkRef::Name("lab".into()))),
        }],
        links: Vec::new(),
        agent_channel: true,
        run: None,
        ownership: Some(Ownership {
            layout: LAYOUT,
            seed: SeedRecord {
                volume: desired().seed_volume,
                fingerprint: "of hello".into(),
                parts: seed("hello").parts,
            },
            stale_seeds: Vec::new(),
            disk: Some(DiskRecord {
                volume: volume("default", "lb-1"),
                cloned: true,
            }),
            reservations: vec![ReservationRecord {
                network: "net-uuid".into(),
                entry: entry("192.0.2.20", MAC, "lb-1"),
                made: true,
            }],
        }),
    }
}

/// A host on which everything is as desired, and the guest runs.
pub(super) fn settled() -> Observed {
    let mut observed = bare();
    observed.domain = Some(DomainFacts {
        name: "lb-1".into(),
        uuid: "dom-uuid".into(),
        state: DomainState::Running,
        reason: None,
        autostart: true,
        persistent: true,
        config: definition(),
        config_xml: Secret::new("<domain/>"),
        live: Some(definition()),
        saved: None,
        snapshots: Vec::new(),
    });
    observed.networks = BTreeMap::from([(
        NetworkRef::Name("lab".into()),
        network(vec![entry("192.0.2.20", MAC, "lb-1")]),
    )]);
    observed.disk = ObservedDisk::Clone {
        wanted: wanted_disk(),
        volume: present(volume("default", "lb-1"), Some("/os/base"), 10 * GIB),
        base: present(volume("os", "base"), None, 2 * GIB),
        image: None,
        pool: None,
    };
    observed.seeds[0] = place(desired().seed_volume, Some(ours("hello")));
    observed
}

pub(super) fn facts() -> Facts {
    Facts {
        subject: "CN=patroni-client".into(),
        issuer: "CN=ca".into(),
        serial: "01".into(),
        not_before: OffsetDateTime::UNIX_EPOCH,
        not_after: OffsetDateTime::UNIX_EPOCH,
        key_algorithm: "ECDSA P-256".into(),
        fingerprint: "00".into(),
    }
}
