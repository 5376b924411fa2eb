//! Hosts that the lab is not: machines of RHEL, networks of Open vSwitch and of devices, pools of
//! logical volumes. Each in the form in which libvirt shows it, on the host in memory: the plan
//! after `up` is empty, whatever the host has, and `down` leaves nothing.

use lbctl::testing::config::{CloneVolume, Config, Disk, DiskFormat};
use lbctl::testing::exit::MessageId;
use lbctl::testing::host::HostReader;
use lbctl::testing::reconcile::plan::plan_up;

use super::{AT_ONCE, MemoryHost, config, config_with_password, down, observe_all, plan, up};
use crate::support::host::{LVM, NETWORK, Site};

/// A whole life: `up` and nothing to do, a change with a new seed, one with a restart, `down`.
fn lives(site: Site, configure: impl Fn(&mut Config)) {
    let host = MemoryHost::new();
    host.is_at(site);
    for mut wanted in [
        config(""),
        config_with_password("y"),
        config("memory = 4096"),
    ] {
        configure(&mut wanted);
        up(&wanted, &host);
    }
    let mut wanted = config("memory = 4096");
    configure(&mut wanted);
    down(&wanted, &host);
    assert_eq!(host, MemoryHost::new());
}

fn machine(host: &MemoryHost) -> String {
    host.domain("lb-1").unwrap().unwrap().config.machine
}

const RHEL: Site = Site {
    machines: &[("q35", "pc-q35-rhel9.2.0"), ("pc", "pc-i440fx-rhel7.6.0")],
    running: None,
    devices: &[],
};
const RHEL_UPGRADED: Site = Site {
    machines: &[("q35", "pc-q35-rhel9.6.0"), ("pc", "pc-i440fx-rhel7.6.0")],
    ..RHEL
};

#[test]
fn machines_have_the_names_of_their_distribution() {
    let named = |name: Option<&str>| {
        let name = name.map(String::from);
        move |config: &mut Config| config.libvirt.machine.clone_from(&name)
    };
    for (wanted, is) in [
        (None, "pc-q35-rhel9.2.0"),
        (Some("q35"), "pc-q35-rhel9.2.0"),
        (Some("pc-q35-rhel9.2.0"), "pc-q35-rhel9.2.0"),
        (Some("pc"), "pc-i440fx-rhel7.6.0"),
    ] {
        lives(RHEL, named(wanted));
        let host = MemoryHost::new();
        host.is_at(RHEL);
        let mut first = config("");
        named(wanted)(&mut first);
        up(&first, &host);
        assert_eq!(machine(&host), is);

        // An upgrade of the host makes the alias another version: the guest keeps what it has.
        host.is_at(RHEL_UPGRADED);
        assert!(plan(&first, &host).is_empty(), "{wanted:?}");
        let mut second = config("memory = 4096");
        named(wanted)(&mut second);
        up(&second, &host);
        assert_eq!(machine(&host), is);
    }

    // Another family is a change, and one that the host does not have is refused.
    let host = MemoryHost::new();
    host.is_at(RHEL);
    up(&config(""), &host);
    let mut other = config("");
    named(Some("pc"))(&mut other);
    up(&other, &host);
    assert_eq!(machine(&host), "pc-i440fx-rhel7.6.0");
    named(Some("pc-q35-8.1"))(&mut other);
    let (observed, desired) = observe_all(&other, &host);
    let refusal = plan_up(&desired, &observed, AT_ONCE).unwrap_err();
    let ids: Vec<MessageId> = refusal.objections.iter().map(|o| o.id).collect();
    assert_eq!(ids, [MessageId::DomainRejected], "{refusal}");
}

/// What libvirt 9.0 shows of an interface of each kind of network while the guest runs
/// (virDomainNetDefFormat); of a device of the host it does not say the network. That kind cannot
/// be defined in the lab: libvirt wants its devices to be there.
#[test]
fn an_interface_is_in_its_network_whatever_that_gives_it() {
    const PORT: &str = "portid=\"5c1d2f8e-0000-4000-8000-000000000001\"";
    for (kind, source, devices) in [
        (
            "bridge",
            format!("<source network=\"{NETWORK}\" {PORT} bridge=\"br0\"/>"),
            &[][..],
        ),
        (
            "bridge",
            format!(
                "<vlan><tag id=\"42\"/></vlan><source network=\"{NETWORK}\" portgroup=\"db\" {PORT} bridge=\"ovsbr0\"/>\
                 <virtualport type=\"openvswitch\"><parameters interfaceid=\"5c1d2f8e-0000-4000-8000-000000000002\"/>\
                 </virtualport>"
            ),
            &[],
        ),
        (
            "direct",
            format!("<source network=\"{NETWORK}\" {PORT} dev=\"eth1\" mode=\"passthrough\"/>"),
            &[],
        ),
        (
            "direct",
            format!("<source network=\"{NETWORK}\" {PORT} dev=\"eth1\" mode=\"vepa\"/>"),
            &[],
        ),
        (
            "hostdev",
            "<driver name=\"vfio\"/><source><address type=\"pci\" domain=\"0x0000\" bus=\"0x04\" slot=\"0x10\" \
             function=\"0x1\"/></source>"
                .to_owned(),
            &["0000:04:10.0", "0000:04:10.1"],
        ),
    ] {
        let site = Site {
            running: Some((kind, &*source.leak())),
            devices,
            ..Site::default()
        };
        lives(site, |_| {});
        let mut elsewhere = site;
        elsewhere.devices = &["0000:05:00.1"];
        if kind == "hostdev" {
            let host = MemoryHost::new();
            host.is_at(site);
            up(&config(""), &host);
            host.is_at(elsewhere);
            let said = plan(&config(""), &host).changes[0].to_string();
            assert!(said.contains("device 0000:04:10.1 of the host"), "{said}");
        }
    }
}

fn in_lvm(config: &mut Config, size: u64) -> &mut CloneVolume {
    config.seed_volume.pool = LVM.into();
    let Disk::Clone(clone) = &mut config.disk else {
        panic!("a clone");
    };
    (clone.volume.pool, clone.format) = (LVM.into(), DiskFormat::Raw);
    clone.size = Some(size);
    clone
}

#[test]
fn disk_and_seed_may_be_logical_volumes() {
    // The second is no whole number of extents.
    for size in [10 << 30, (10 << 30) + 12345] {
        lives(Site::default(), |config| {
            in_lvm(config, size);
        });
    }

    // libvirt cannot make them larger, which is known before the first step.
    let host = MemoryHost::new();
    let mut wanted = config("");
    in_lvm(&mut wanted, 10 << 30);
    up(&wanted, &host);
    let steps = plan(&wanted, &host).steps.len();
    assert_eq!(steps, 0);
    in_lvm(&mut wanted, 20 << 30);
    let (observed, desired) = observe_all(&wanted, &host);
    let refusal = plan_up(&desired, &observed, AT_ONCE).unwrap_err();
    let said = refusal.to_string();
    assert_eq!(refusal.objections[0].id, MessageId::DiskIsDevice, "{said}");
    assert!(
        said.contains("disk size: 10 GiB -> 20 GiB: volume vg/lb-1 is a block device"),
        "{said}"
    );
    let hint = &refusal.objections[0].hint;
    for command in [
        "`lvextend -L 21474836480B /dev/vg/lb-1`",
        "`virsh pool-refresh vg`",
        "`virsh blockresize lb-1 vda 21474836480B`",
    ] {
        assert!(hint.contains(command), "{hint}");
    }
}
