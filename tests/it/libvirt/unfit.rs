//! What the host cannot take is named, exit 1, with what to do about it; and nothing is touched.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::sandbox::{Sandbox, as_listed};
use crate::support::{Ran, run};

struct Case {
    /// A table of the configuration that is taken out before `config` is laid over it.
    without: Option<&'static str>,
    config: &'static str,
    says: &'static [&'static str],
}

impl Case {
    const fn new(config: &'static str, says: &'static [&'static str]) -> Self {
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
        for command in ["up", "plan --exit-code"] {
            vm.lbctl(command).ended(1).says(says);
        }
        vm.lbctl("check --host").ended(1).says(&as_listed(says));
        before.assert_same(&vm.snapshot());
    }
}

#[test]
fn networks_and_addresses() {
    each_is_named(&[
        Case::new(
            "libvirt_network.network_name = 'nosuch'",
            &[
                "error: @vm: the host has no network nosuch",
                "networks here: ",
            ],
        ),
        Case {
            without: Some("libvirt_network"),
            config: "libvirt_network = { network_id = '913a24f6-cc7c-4ded-a581-000000000000', ip = '@ip' }",
            says: &["error: @vm: the host has no network 913a24f6-cc7c-4ded-a581-000000000000"],
        },
        Case::new(
            "libvirt_network.network_name = '@sleeping_net'\nlibvirt_network.ip = '192.168.151.20'",
            &[
                "error: @vm: network @sleeping_net is not active",
                "help: start it: `virsh net-start @sleeping_net`",
            ],
        ),
        Case::new(
            "libvirt_network.ip = '192.0.2.20'",
            &["error: @vm: address 192.0.2.20 is outside of network @net (@subnet.1/24)"],
        ),
        Case::new(
            "libvirt_network.ip = '@subnet.1'",
            &["error: @vm: address @subnet.1 belongs to the host in network @net"],
        ),
    ]);
}

#[test]
fn pools() {
    each_is_named(&[
        Case::new(
            "volume.pool = 'nosuch'",
            &[
                "error: @vm: the host has no storage pool nosuch",
                "storage pools here: ",
            ],
        ),
        Case::new(
            "cloud_init_volume_pool = 'nosuch'",
            &[
                "error: @vm: the host has no storage pool nosuch",
                "set `cloud_init_volume_pool` to one of them",
            ],
        ),
        Case::new(
            "volume.base_volume_pool = 'nosuch'",
            &[
                "error: @vm: the host has no storage pool nosuch",
                "set `volume.base_volume_pool` to one of them",
            ],
        ),
        Case::new(
            "volume.pool = '@sleeping_pool'",
            &[
                "error: @vm: storage pool @sleeping_pool is not active",
                "help: start it: `virsh pool-start @sleeping_pool`",
            ],
        ),
        Case::new(
            "cloud_init_volume_pool = '@sleeping_pool'",
            &["error: @vm: storage pool @sleeping_pool is not active"],
        ),
        Case::new(
            "volume.base_volume_pool = '@sleeping_pool'",
            &["error: @vm: storage pool @sleeping_pool is not active"],
        ),
    ]);
}

#[test]
fn volumes() {
    each_is_named(&[
        Case::new(
            "volume.base_volume_name = 'nosuch'",
            &[
                "error: @vm: pool @base_pool has no volume nosuch",
                "volumes here: @base",
            ],
        ),
        Case::new(
            "volume.size = '32 MiB'",
            &[
                "error: @vm: volume.size is 32 MiB, and base volume @base_pool/@base has 64 MiB",
                "help: a disk can grow, but lbctl never shrinks it",
            ],
        ),
        Case {
            without: Some("volume"),
            config: "volume_id = '@pool/nosuch'",
            says: &[
                "error: @vm: the host has no volume @pool/nosuch",
                "help: `virsh vol-list POOL`",
            ],
        },
        Case {
            without: Some("volume"),
            config: "volume_id = '/no/such/path'",
            says: &["error: @vm: the host has no volume /no/such/path"],
        },
        Case {
            without: Some("volume"),
            config: "volume_id = '@sleeping_pool/nosuch'",
            says: &["error: @vm: storage pool @sleeping_pool is not active"],
        },
        Case {
            without: Some("volume"),
            config: "volume_id = 'nosuch/nosuch'",
            says: &["error: @vm: the host has no storage pool nosuch"],
        },
    ]);
}

#[test]
fn all_of_it_at_once() {
    each_is_named(&[Case::new(
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
                "help: check the URI: qemu:///system for this host",
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
                "help: this machine cannot resolve the name nosuch.invalid",
                "`getent hosts nosuch.invalid` shows what is known",
            ],
        ),
    ];
    let vm = Sandbox::new();
    for (uri, says) in cases {
        eprintln!("{uri}");
        for command in ["up", "plan --exit-code", "status", "down --yes"] {
            vm.lbctl(&format!("--connect {uri} {command}"))
                .ended(1)
                .says(says)
                .says(&["error: "])
                .does_not_say(&["not found", "nothing to do"]);
        }
        vm.lbctl(&format!("--connect {uri} check --host"))
            .ended(1)
            .says(&as_listed(says));
    }
}

#[test]
fn a_macvtap_device_that_the_host_does_not_have() {
    let mut vm = Sandbox::new();
    let before = vm.snapshot();
    vm.leave_out("libvirt_network");
    vm.change(
        "[[macvtap_interfaces]]\ninterface = 'nosuch0'\nip = '10.77.0.20'\nprefix_length = 24",
    );
    let says = [
        "error: @vm: the host has no network device nosuch0",
        "interfaces here: ",
        "set `interface` of macvtap_interfaces to one of them",
    ];
    for command in ["up", "plan"] {
        vm.lbctl(command).ended(1).says(&says);
    }
    vm.lbctl("check --host").ended(1).says(&as_listed(&says));
    before.assert_same(&vm.snapshot());
}

/// What libvirt knows of a bridge: whether it is there, and all that it knows of the network that
/// made it.
#[test]
fn bridges_and_addresses_on_them() {
    let on = |config, says| Case {
        without: Some("libvirt_network"),
        config,
        says,
    };
    each_is_named(&[
        on(
            "[[bridge_interfaces]]\nbridge = 'nosuch0'\nip = '10.77.0.20'\nprefix_length = 24",
            &[
                "error: @vm: the host has no bridge nosuch0",
                "set `bridge` of bridge_interfaces to one of them",
            ],
        ),
        on(
            "[[bridge_interfaces]]\nbridge = '@bridge'\nip = '@subnet.1'\nprefix_length = 24",
            &["error: @vm: address @subnet.1 belongs to the host in network @net"],
        ),
        on(
            "[[bridge_interfaces]]\nbridge = '@bridge'\nip = '@subnet.255'\nprefix_length = 16",
            &[
                "error: @vm: address @subnet.255 is the broadcast address of @subnet.0/24 in network @net",
            ],
        ),
        on(
            "[[bridge_interfaces]]\nbridge = '@bridge'\nip = '@subnet.0'\nprefix_length = 16",
            &[
                "error: @vm: address @subnet.0 is the network address of @subnet.0/24 in network @net",
            ],
        ),
        on(
            "[[libvirt_networks]]\nnetwork_name = '@net'\nip = '@subnet.1'\nprefix_length = 24",
            &["error: @vm: address @subnet.1 belongs to the host in network @net"],
        ),
    ]);
}

#[test]
fn an_address_on_a_bridge_that_is_reserved_for_somebody_else() {
    let mut vm = Sandbox::new();
    vm.leave_out("libvirt_network");
    vm.change(
        "[[bridge_interfaces]]\nbridge = '@bridge'\nip = '@ip'\nprefix_length = 24\nmac = '@mac'",
    );
    vm.write(
        "entry",
        &vm.fill("<host mac='@mac2' name='db-1' ip='@ip'/>"),
    );
    vm.virsh("net-update @net add ip-dhcp-host @home/entry --live --config")
        .ok();
    let before = vm.snapshot();
    let says =
        ["error: @vm: address @ip is reserved in network @net for db-1: @ip for @mac2 (db-1)"];
    for command in ["up", "plan"] {
        vm.lbctl(command).ended(4).says(&says);
    }
    vm.lbctl("check --host").ended(4).says(&as_listed(&says));
    before.assert_same(&vm.snapshot());
    vm.virsh("net-update @net delete ip-dhcp-host @home/entry --live --config")
        .ok();
    vm.up();
    vm.lbctl("plan --exit-code").ok();
}

#[test]
fn a_guest_that_the_host_has_no_memory_for() {
    let mut vm = Sandbox::new();
    let before = vm.snapshot();
    vm.change("memory = 16777216");
    for command in ["up", "plan", "check --host"] {
        vm.lbctl(command)
            .ended(1)
            .says(&["memory is 16777216 MiB, and the host has", "lower `memory`"]);
    }
    before.assert_same(&vm.snapshot());
    vm.change("memory = 256");
    vm.up();
    vm.lbctl("plan --exit-code").ok();
}

#[test]
fn a_user_who_may_not_use_libvirt() {
    let vm = Sandbox::new();
    // Everything but libvirt's socket is open to that user.
    let program = vm.home.path().join("lbctl");
    fs::copy(env!("CARGO_BIN_EXE_lbctl"), &program).unwrap();
    for (path, mode) in [
        ("", 0o755),
        ("lbctl", 0o755),
        ("lbctl.toml", 0o644),
        ("ca.key", 0o644),
        ("ca.crt", 0o644),
    ] {
        fs::set_permissions(vm.home.path().join(path), Permissions::from_mode(mode)).unwrap();
    }
    for command in ["up", "plan", "status", "down"] {
        let words = [
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--",
            "@home/lbctl",
            "-c",
            "@home/lbctl.toml",
            command,
        ];
        run("setpriv", words.map(|word| vm.fill(word)))
            .with_words(vm.words())
            .ended(1)
            .says(&["error: @vm: connecting to libvirt at qemu+unix:///system?socket=", "Permission denied"])
            .says(&["help: run lbctl as a user of the group libvirt, or as root: `sudo usermod -aG libvirt $USER`"]);
    }
}

/// A file system of a given size under a pool, where libvirtd sees it and nobody else.
struct SmallPool<'s> {
    vm: &'s Sandbox,
    pid: String,
}

impl<'s> SmallPool<'s> {
    fn new(vm: &'s Sandbox, size: &str) -> Self {
        let pid = fs::read_to_string(Path::new(&vm.lab["LAB_RUN"]).join("libvirtd.pid")).unwrap();
        let small = Self {
            vm,
            pid: pid.trim().to_owned(),
        };
        small
            .inside(&[
                "mount",
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size}"),
                "lbctl-test",
                "@dir",
            ])
            .ok();
        vm.virsh("pool-refresh @pool").ok();
        small
    }

    fn inside(&self, words: &[&str]) -> Ran {
        let words = words.iter().map(|word| self.vm.fill(word));
        run(
            "nsenter",
            ["-m", "-t", &self.pid]
                .map(String::from)
                .into_iter()
                .chain(words),
        )
    }

    fn volumes(&self) -> String {
        self.vm
            .virsh("pool-refresh @pool; vol-list @pool")
            .ok()
            .stdout
    }
}

impl Drop for SmallPool<'_> {
    fn drop(&mut self) {
        self.vm.virsh("destroy @vm");
        self.inside(&["umount", "@dir"]);
    }
}

/// The seed fits, and the clone (a qcow2 of 200 KiB) does not.
#[test]
fn a_pool_that_fills_up_half_way() {
    let vm = Sandbox::new();
    let network = vm.virsh("net-dumpxml @net --inactive").stdout;
    let pool = SmallPool::new(&vm, "560k");
    let empty = pool.volumes();
    let says = [
        "error: @vm: cannot clone volume @pool/@vm",
        "No space left on device",
        "help: the pool is full: `virsh pool-info",
        "2 steps were done before it; run the same command again: it continues from here",
    ];
    vm.lbctl("up").ended(1).says(&says);
    vm.lbctl("up")
        .ended(1)
        .says(&["error: @vm: cannot clone volume @pool/@vm"]);
    vm.lbctl("down --yes --delete-volume").ok();
    assert_eq!(pool.volumes(), empty);
    assert_eq!(vm.virsh("net-dumpxml @net --inactive").stdout, network);

    vm.lbctl("up").ended(1).says(&says);
    pool.inside(&["mount", "-o", "remount,size=2m", "@dir"])
        .ok();
    vm.up();
    vm.lbctl("plan --exit-code").ok();
}

#[test]
fn a_pool_that_is_full_from_the_beginning() {
    let vm = Sandbox::new();
    let pool = SmallPool::new(&vm, "40k");
    let empty = pool.volumes();
    vm.lbctl("up").ended(1).says(&[
        "error: @vm: cannot write seed @pool/@seed",
        "help: the pool is full",
    ]);
    assert_eq!(pool.volumes(), empty);
    vm.lbctl("down --yes --delete-volume").ok();
    assert_eq!(pool.volumes(), empty);
}
