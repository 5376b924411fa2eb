//! What is refused, with whom it belongs to, and what a host lacks.

use super::*;

#[test]
fn what_belongs_to_another_is_refused_with_its_owner() {
    let with = |change: &dyn Fn(&mut Observed)| {
        let mut observed = bare();
        change(&mut observed);
        observed
    };
    let lab = |observed: &mut Observed, found: ObservedNetwork| {
        observed
            .networks
            .insert(NetworkRef::Name("lab".into()), found);
    };
    let taken = with(&|o| lab(o, network(vec![entry("192.0.2.20", OTHER_MAC, "mail")])));
    check_not_ours(
        &taken,
        MessageId::AddressReserved,
        &["192.0.2.20", "mail", "lab"],
    );
    let same_mac = with(&|o| lab(o, network(vec![entry("192.0.2.30", MAC, "mail")])));
    check_not_ours(
        &same_mac,
        MessageId::MacReserved,
        &["52:54:00:01:02:03", "mail"],
    );
    let same_name = with(&|o| lab(o, network(vec![entry("192.0.2.30", OTHER_MAC, "lb-1")])));
    check_not_ours(&same_name, MessageId::HostNameReserved, &["host name lb-1"]);
    let leased = with(&|o| {
        let ip = "192.0.2.20".parse().unwrap();
        let lease = Lease {
            mac: OTHER_MAC,
            ip,
            hostname: Some("laptop".into()),
            expires: 1_800_000_000,
        };
        lab(
            o,
            ObservedNetwork {
                leases: vec![lease],
                ..network(Vec::new())
            },
        );
    });
    check_not_ours(
        &leased,
        MessageId::AddressLeased,
        &["192.0.2.20", "laptop", "until 2027-01-15 08:00 UTC"],
    );
    let claims = |macs: Vec<MacAddr>, disks: Vec<Source>| {
        vec![Claims {
            domain: "mail".into(),
            macs,
            disks,
        }]
    };
    let mac = with(&|o| o.claims = claims(vec![MAC], vec![]));
    check_not_ours(&mac, MessageId::MacClaimed, &["52:54:00:01:02:03", "mail"]);
    let disk = with(&|o| {
        o.disk = settled().disk;
        o.claims = claims(vec![], vec![Source::File("/default/lb-1".into())]);
    });
    check_not_ours(&disk, MessageId::DiskClaimed, &["default/lb-1", "mail"]);
    let other_disk = with(&|o| {
        let ObservedDisk::Clone { volume, .. } = &mut o.disk else {
            panic!("not a clone")
        };
        *volume = present(desired().seed_volume, Some("/os/other"), 10 * GIB);
    });
    check_not_ours(
        &other_disk,
        MessageId::VolumeExists,
        &["default/lb-1", "os/base"],
    );
    for (content, id, word) in [
        (
            SeedContent::Foreign,
            MessageId::SeedVolumeExists,
            "not a seed",
        ),
        (
            SeedContent::OfAnother("lb-2".into()),
            MessageId::SeedOfAnotherVm,
            "lb-2",
        ),
    ] {
        let seed = with(&|o| o.seeds[0] = place(desired().seed_volume, Some(content.clone())));
        check_not_ours(&seed, id, &["lb-1-cloud-init.iso", word]);
    }
    let mut foreign = settled();
    domain(&mut foreign).config.ownership = None;
    domain(&mut foreign).live.as_mut().unwrap().ownership = None;
    check_not_ours(&foreign, MessageId::DomainNotOurs, &["lb-1", "dom-uuid"]);
}

#[test]
fn data_is_destroyed_only_when_asked() {
    use RefusalKind::NeedsConsent;
    let mut observed = settled();
    let ObservedDisk::Clone { base, .. } = &mut observed.disk else {
        panic!("not a clone")
    };
    *base = present(volume("os", "newer"), None, 2 * GIB);
    check_refused(
        &observed,
        &desired(),
        (NeedsConsent, MessageId::BaseVolumeDiffers),
        &["/os/base", "/os/newer", "replace"],
    );
    let mut lost = settled();
    let ObservedDisk::Clone { volume, .. } = &mut lost.disk else {
        panic!("not a clone")
    };
    *volume = VolumeState::Absent;
    check_refused(
        &lost,
        &desired(),
        (NeedsConsent, MessageId::DiskMissing),
        &["default/lb-1"],
    );
}

#[test]
fn everything_that_a_host_lacks_is_reported_at_once() {
    let mut observed = bare();
    observed.networks.insert(
        NetworkRef::Name("lab".into()),
        ObservedNetwork {
            facts: None,
            leases: Vec::new(),
        },
    );
    let ObservedDisk::Clone { base, volume, .. } = &mut observed.disk else {
        panic!("not a clone")
    };
    (*base, *volume) = (VolumeState::Absent, VolumeState::Absent);
    observed.seeds[0].volume = VolumeState::PoolInactive;
    let objections = refused(&desired(), &observed);
    let expected = [
        (MessageId::NetworkMissing, "no network lab"),
        (MessageId::BaseVolumeMissing, "no volume base"),
        (MessageId::PoolInactive, "pool default is not active"),
    ];
    assert_eq!(objections.len(), 3, "{objections:?}");
    for (objection, (id, words)) in objections.iter().zip(expected) {
        assert_eq!((objection.kind, objection.id), (RefusalKind::Unfit, id));
        assert!(
            objection.message.contains(words),
            "{words} is not in: {}",
            objection.message
        );
    }
}

#[test]
fn what_an_interface_needs_of_the_host_is_named_with_its_key() {
    for source in one_of_each_kind() {
        let mut observed = bare();
        match source.host_link() {
            HostLink::Network(_) => observed.networks.clear(),
            HostLink::Device(device) => {
                observed
                    .devices
                    .insert(device.to_owned(), crate::host::DeviceState::Absent);
            }
            HostLink::Bridge(bridge) => {
                let facts = BridgeFacts {
                    exists: Some(false),
                    ..BridgeFacts::default()
                };
                observed.bridges.insert(bridge.to_owned(), facts);
            }
        }
        let mut desired = desired();
        desired.reservations.clear();
        desired.interfaces[0].source = source.clone();
        let objections = refused(&desired, &observed);
        let [objection] = &objections[..] else {
            panic!("{objections:?}")
        };
        let named = objection.message.contains(source.host_link().name());
        assert!(
            named && objection.hint.contains(source.key()),
            "{objection:?}"
        );
    }
}

#[test]
fn a_vlan_is_for_bridges_that_take_it() {
    let bridge = |vlan| NicSource::Bridge {
        bridge: "br0".into(),
        vlan,
        switch: Switch::Linux,
    };
    let refuses = |vlan, switch, kernel_takes_vlan| {
        let mut observed = bare();
        let facts = BridgeFacts {
            exists: Some(true),
            switch,
            kernel_takes_vlan,
            network: None,
        };
        observed.bridges.insert("br0".into(), facts);
        let mut desired = desired();
        desired.reservations.clear();
        desired.interfaces[0].source = bridge(vlan);
        match plan_up(&desired, &observed, Restart::Later) {
            Ok(_) => None,
            Err(refusal) => Some(refusal.objections[0].id),
        }
    };
    let unsupported = Some(MessageId::VlanUnsupported);
    assert_eq!(refuses(Some(42), Some(Switch::Linux), false), unsupported);
    assert_eq!(refuses(Some(42), Some(Switch::Linux), true), None);
    assert_eq!(refuses(Some(42), Some(Switch::OpenVswitch), false), None);
    assert_eq!(refuses(Some(42), None, false), None);
    assert_eq!(refuses(None, Some(Switch::Linux), false), None);
}

#[test]
fn a_bridge_is_defined_as_what_the_host_says_it_is() {
    let wanted = NicSource::Bridge {
        bridge: "br0".into(),
        vlan: Some(7),
        switch: Switch::Linux,
    };
    let of = |switch| NicSource::Bridge {
        bridge: "br0".into(),
        vlan: Some(7),
        switch,
    };
    let mut observed = settled();
    assert_eq!(observed.by_name(&wanted), of(Switch::Linux));
    // The domain knows where the host does not say.
    domain(&mut observed).config.interfaces[0].source =
        ObservedNicSource::Known(of(Switch::OpenVswitch));
    assert_eq!(observed.by_name(&wanted), of(Switch::OpenVswitch));
    let facts = |switch| BridgeFacts {
        exists: Some(true),
        switch,
        kernel_takes_vlan: true,
        network: None,
    };
    observed.bridges.insert("br0".into(), facts(None));
    assert_eq!(observed.by_name(&wanted), of(Switch::OpenVswitch));
    let linux = facts(Some(Switch::Linux));
    observed.bridges.insert("br0".into(), linux);
    assert_eq!(observed.by_name(&wanted), of(Switch::Linux));
}

#[test]
fn addresses_must_fit_the_network() {
    let wanted = |ip: &str| {
        let mut desired = desired();
        desired.interfaces[0].addressing = Addressing::DhcpReservation(ip.parse().unwrap());
        desired.reservations[0].entry.ip = ip.parse().unwrap();
        desired
    };
    check_refused(
        &bare(),
        &wanted("198.51.100.7"),
        (RefusalKind::Unfit, MessageId::AddressOutsideNetwork),
        &["outside", "192.0.2.1/24"],
    );
    check_refused(
        &bare(),
        &wanted("192.0.2.1"),
        (RefusalKind::Unfit, MessageId::AddressOfHost),
        &["belongs to the host"],
    );
    let mut small = bare();
    wanted_disk(&mut small).size = Some(GIB);
    check_refused(
        &small,
        &desired(),
        (RefusalKind::Unfit, MessageId::SizeBelowBase),
        &["1 GiB", "2 GiB"],
    );
}

#[test]
fn a_shared_address_must_be_nobodys_in_its_network() {
    let sharing = |address: &str| {
        let mut desired = desired();
        desired.virtual_ip = Some(VirtualIp {
            address: address.parse().unwrap(),
            interface: 0,
            own: "192.0.2.20".parse().unwrap(),
            peers: Vec::new(),
            router_id: 30,
            detection: HaproxyTime::parse("600ms").unwrap(),
            drain: HaproxyTime::zero(),
        });
        desired
    };
    for (address, id, words) in [
        (
            "192.0.2.150",
            MessageId::SharedAddressInRange,
            "192.0.2.100 to 192.0.2.199",
        ),
        ("192.0.2.1", MessageId::AddressOfHost, "belongs to the host"),
        (
            "192.0.2.255",
            MessageId::AddressUnusable,
            "that no VM can have",
        ),
        (
            "198.51.100.7",
            MessageId::AddressOutsideNetwork,
            "192.0.2.1/24",
        ),
    ] {
        let refused = (RefusalKind::Unfit, id);
        check_refused(
            &bare(),
            &sharing(address),
            refused,
            &["shared address", words],
        );
    }
    assert!(plan_up(&sharing("192.0.2.30"), &bare(), Restart::Later).is_ok());
}
