//! What the host cannot take is named, exit 1, with what to do about it; and nothing is touched.

use crate::sandbox::Sandbox;

struct Case {
    /// A table of the configuration that is taken out before `config` is laid over it.
    without: Option<&'static str>,
    config: &'static str,
    says: &'static [&'static str],
}

impl Case {
    const fn of(config: &'static str, says: &'static [&'static str]) -> Self {
        Self {
            without: None,
            config,
            says,
        }
    }
}

/// Nothing is made on the way to the error.
fn each_is_named(cases: &[Case]) {
    let mut vm = Sandbox::new();
    let before = vm.snapshot();
    for Case {
        without,
        config,
        says,
    } in cases
    {
        eprintln!("config: {config}");
        vm.start_over();
        if let Some(table) = without {
            vm.leave_out(table);
        }
        vm.change(config);
        for command in ["up", "plan --exit-code", "check --host"] {
            vm.lbctl(command).ended(1).says(says);
        }
        before.assert_same(&vm.snapshot());
    }
}

#[test]
fn networks_and_addresses() {
    each_is_named(&[
        Case::of(
            "libvirt_network.network_name = 'nosuch'",
            &[
                "error: the host has no network nosuch",
                "help: `virsh net-list --all` lists them",
            ],
        ),
        Case {
            without: Some("libvirt_network"),
            config: "libvirt_network = { network_id = '913a24f6-cc7c-4ded-a581-000000000000', ip = '@ip' }",
            says: &["error: the host has no network 913a24f6-cc7c-4ded-a581-000000000000"],
        },
        Case::of(
            "libvirt_network.network_name = '@sleeping_net'\nlibvirt_network.ip = '192.168.151.20'",
            &[
                "error: network @sleeping_net is not active",
                "help: start it: `virsh net-start @sleeping_net`",
            ],
        ),
        Case::of(
            "libvirt_network.ip = '192.0.2.20'",
            &["error: address 192.0.2.20 is outside of network @net (@subnet.1/24)"],
        ),
        Case::of(
            "libvirt_network.ip = '@subnet.1'",
            &["error: address @subnet.1 is the host's own in network @net"],
        ),
    ]);
}

#[test]
fn pools() {
    each_is_named(&[
        Case::of(
            "volume.pool = 'nosuch'",
            &[
                "error: the host has no storage pool nosuch",
                "help: `virsh pool-list --all` lists them; set `volume.pool`",
            ],
        ),
        Case::of(
            "cloud_init_volume_pool = 'nosuch'",
            &[
                "error: the host has no storage pool nosuch",
                "set `cloud_init_volume_pool` to one of them",
            ],
        ),
        Case::of(
            "volume.base_volume_pool = 'nosuch'",
            &[
                "error: the host has no storage pool nosuch",
                "set `volume.base_volume_pool` to one of them",
            ],
        ),
        Case::of(
            "volume.pool = '@sleeping_pool'",
            &[
                "error: storage pool @sleeping_pool is not active",
                "help: start it: `virsh pool-start @sleeping_pool`",
            ],
        ),
        Case::of(
            "cloud_init_volume_pool = '@sleeping_pool'",
            &["error: storage pool @sleeping_pool is not active"],
        ),
        Case::of(
            "volume.base_volume_pool = '@sleeping_pool'",
            &["error: storage pool @sleeping_pool is not active"],
        ),
    ]);
}

#[test]
fn volumes() {
    each_is_named(&[
        Case::of(
            "volume.base_volume_name = 'nosuch'",
            &[
                "error: pool @base_pool has no volume nosuch",
                "help: `virsh vol-list @base_pool` lists its volumes",
            ],
        ),
        Case::of(
            "volume.size = '32 MiB'",
            &[
                "error: volume.size is 32 MiB, and base volume @base_pool/@base has 64 MiB",
                "help: a disk is grown and never shrunk",
            ],
        ),
        Case {
            without: Some("volume"),
            config: "volume_id = '@pool/nosuch'",
            says: &[
                "error: the host has no volume @pool/nosuch",
                "help: `virsh vol-list POOL`",
            ],
        },
        Case {
            without: Some("volume"),
            config: "volume_id = '/no/such/path'",
            says: &["error: the host has no volume /no/such/path"],
        },
        Case {
            without: Some("volume"),
            config: "volume_id = '@sleeping_pool/nosuch'",
            says: &["error: storage pool @sleeping_pool is not active"],
        },
        Case {
            without: Some("volume"),
            config: "volume_id = 'nosuch/nosuch'",
            says: &["error: the host has no storage pool nosuch"],
        },
    ]);
}

#[test]
fn all_of_it_at_once() {
    each_is_named(&[Case::of(
        "libvirt_network.network_name = 'nosuch-1'\nvolume.pool = 'nosuch-2'\ncloud_init_volume_pool = 'nosuch-3'",
        &["nosuch-1", "nosuch-2", "nosuch-3"],
    )]);
}

#[test]
fn libvirt_that_cannot_be_reached() {
    let cases: &[(&str, &[&str])] = &[
        (
            "qemu+unix:///system?socket=@home/absent",
            &[
                "connecting to libvirt at qemu+unix:///system?socket=@home/absent",
                "No such file or directory",
                "help: is libvirt running there?",
            ],
        ),
        (
            "nosuch:///system",
            &[
                "connecting to libvirt at nosuch:///system",
                "help: look at the URI: qemu:///system for this host",
            ],
        ),
        (
            "qemu+nosuch:///system",
            &["connecting to libvirt at qemu+nosuch:///system", "help: "],
        ),
        (
            "qemu:///nosuch",
            &["connecting to libvirt at qemu:///nosuch", "help: "],
        ),
        (
            "qemu+tcp://127.0.0.1:1/system",
            &["Connection refused", "help: "],
        ),
        (
            "qemu+ssh://nosuch.invalid/system",
            &[
                "nosuch.invalid",
                "help: try `virsh -c 'qemu+ssh://nosuch.invalid/system' uri`",
            ],
        ),
    ];
    let vm = Sandbox::new();
    for (uri, says) in cases {
        eprintln!("{uri}");
        for command in [
            "up",
            "plan --exit-code",
            "status",
            "down --yes",
            "check --host",
        ] {
            vm.lbctl(&format!("--connect {uri} {command}"))
                .ended(1)
                .says(says)
                .says(&["error: "])
                .does_not_say(&["not found", "nothing to do"]);
        }
    }
}
