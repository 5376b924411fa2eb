//! A changed configuration reaches a running guest, or lbctl says how it will; uuid, MAC and disk
//! stay.

use super::facts::{SECOND, with_second_network};
use super::sandbox::Sandbox;
use crate::support::run;

const NOW: &str = "up --restart now --stop-timeout=1s";

/// A running VM, and its configuration then changed.
fn changed(toml: &str) -> Sandbox {
    let mut vm = Sandbox::new();
    vm.up();
    vm.change(toml);
    vm
}

impl Sandbox {
    fn seed_has(&self, volume: &str, path: &str, text: &str) -> bool {
        let volume = self.pool_dir.join(self.fill(volume)).display().to_string();
        run("isoinfo", ["-R", "-x", path, "-i", &volume])
            .ok()
            .stdout
            .contains(text)
    }

    fn live_memory(&self) -> bool {
        self.live_xml()
            .contains("<memory unit='KiB'>393216</memory>")
    }

    #[track_caller]
    fn in_drive(&self, seed: &str) {
        let source = self.fill(&format!("<source file='@dir/{seed}'"));
        assert!(self.live_xml().contains(&source), "live: {source}");
        assert!(self.inactive_xml().contains(&source), "saved: {source}");
    }
}

#[test]
fn what_needs_a_restart_is_refused_without_consent() {
    let vm = changed("memory = 384\nvcpus = 2");
    let before = vm.snapshot();
    for command in [
        "up",
        "up --restart ask",
        "up --restart never",
        "up --restart never --yes",
    ] {
        vm.lbctl(command).ended(4).says(&[
            "2 changes need a restart of the guest, and nothing was changed",
            "memory: 256 MiB -> 384 MiB (restart)",
            "vcpus: 1 -> 2 (restart)",
            "--restart now",
            "--restart later",
        ]);
    }
    vm.lbctl("plan --exit-code")
        .ended(3)
        .says(&["2 changes, 2 need a restart of the guest"]);
    before.assert_same(&vm.snapshot());
}

#[test]
fn restart_later_writes_it_for_the_next_start() {
    let vm = changed("memory = 384");
    let live = vm.live_xml();
    vm.lbctl("up --restart later")
        .ok()
        .says(&["saved for the next start of the guest: memory. `lbctl restart` restarts it"]);
    assert_eq!(vm.live_xml(), live);
    assert!(
        vm.inactive_xml()
            .contains("<memory unit='KiB'>393216</memory>")
    );

    // It waits, and says so, however often it is asked; and nothing is written twice.
    let before = vm.snapshot();
    vm.lbctl("plan --exit-code")
        .ended(3)
        .says(&["memory: 256 MiB -> 384 MiB (restart)"]);
    for command in ["up", "up --restart later"] {
        vm.lbctl(command)
            .ok()
            .says(&["up to date; restart pending: memory"]);
    }
    before.assert_same(&vm.snapshot());

    vm.virsh("destroy @vm; start @vm").ok();
    vm.lbctl("plan --exit-code").ok();
    assert!(vm.live_memory());
}

#[test]
fn restart_now_keeps_uuid_mac_and_disk() {
    for flag in [NOW, "up --yes --stop-timeout=1s"] {
        let vm = changed("memory = 384");
        let uuid = vm.dominfo("UUID");
        vm.lbctl(flag).ok().says(&["restart domain @vm"]);
        assert!(vm.live_memory());
        assert_eq!(vm.dominfo("UUID"), uuid);
        for text in ["<mac address='@mac'/>", "<source file='@dir/@vm'"] {
            assert!(vm.live_xml().contains(&vm.fill(text)), "{text}");
        }
        vm.lbctl("plan --exit-code").ok();
    }
}

#[test]
fn a_guest_that_is_off_needs_no_consent() {
    let vm = changed("memory = 384");
    vm.virsh("destroy @vm").ok();
    vm.up().says(&[
        "memory: 256 MiB -> 384 MiB (live)",
        "state: shut off -> running (live)",
    ]);
    assert!(vm.live_memory());
}

#[test]
fn another_address_takes_another_reservation() {
    let vm = changed("libvirt_network.ip = '@ip2'");
    vm.lbctl("up").ended(4).says(&[
        "this change needs a restart of the guest",
        "address: @ip -> @ip2 (restart)",
    ]);
    vm.lbctl("up --restart later").ok().says(&[
        "reservation: @ip for @mac (@vm) -> @ip2 for @mac (@vm) in network @net (live)",
        "saved for the next start of the guest: address",
    ]);
    vm.lbctl("plan --exit-code")
        .ended(3)
        .says(&["address: @ip -> @ip2 (restart)"]);
    vm.lbctl(NOW).ok();
    for which in ["", "--inactive"] {
        let network = vm.virsh(&format!("net-dumpxml @net {which}"));
        network
            .says(&["<host mac='@mac' name='@vm' ip='@ip2'/>"])
            .does_not_say(&["ip='@ip'"]);
    }
    vm.lbctl("plan --exit-code").ok();
}

#[test]
fn another_network_moves_the_reservation() {
    let mut vm = Sandbox::new();
    vm.write(
        "net2.xml",
        &vm.network_xml("@net2", "@bridge-b", "@subnet2"),
    );
    vm.virsh("net-define @home/net2.xml; net-start @net2").ok();
    let before = vm.virsh("net-dumpxml @net --inactive").stdout;
    vm.up();
    vm.change("libvirt_network.network_name = '@net2'\nlibvirt_network.ip = '@subnet2.30'");
    vm.lbctl(NOW)
        .ok()
        .says(&["interfaces: @mac on network @net -> @mac on network @net2 (restart)"]);
    vm.virsh("net-dumpxml @net2")
        .says(&["<host mac='@mac' name='@vm' ip='@subnet2.30'/>"]);
    assert_eq!(vm.virsh("net-dumpxml @net --inactive").stdout, before);
    assert!(vm.live_xml().contains(&vm.fill("network='@net2'")));
    vm.lbctl("plan --exit-code").ok();
}

/// The new seed exists beside the old one until nothing refers to the old one.
#[test]
fn a_changed_seed_is_put_into_the_drive_and_waits() {
    let vm = changed("haproxy.timeouts = { connect = '7s', check = '3s', idle = '31m' }");
    vm.lbctl("up")
        .ended(4)
        .says(&["/etc/haproxy/haproxy.cfg: +5 -5 lines (restart)", "agent"]);
    vm.in_drive("@seed");
    let uptime = vm.dominfo("Id");
    vm.lbctl("up --restart later").ok().says(&[
        "write seed @pool/@seed2",
        "put seed @pool/@seed2 into the drive",
        "delete seed @pool/@seed",
        "saved for the next start",
    ]);
    assert_eq!(vm.dominfo("Id"), uptime);
    assert_eq!(vm.volumes(), [vm.fill("@vm"), vm.fill("@seed2")]);
    vm.in_drive("@seed2");
    assert!(vm.seed_has("@seed2", "/user-data", "31m"));
    vm.lbctl("plan --exit-code")
        .ended(3)
        .says(&["guest: as it booted -> as its seed, except what waits for a restart (restart)"]);

    vm.lbctl(NOW).ok();
    vm.lbctl("plan --exit-code").ok();
    assert_ne!(vm.dominfo("Id"), uptime);
    vm.in_drive("@seed2");
}

#[test]
fn a_changed_seed_returns_to_its_first_name_the_next_time() {
    let mut vm = changed("haproxy.timeouts = { connect = '7s', check = '3s', idle = '31m' }");
    vm.lbctl(NOW).ok();
    assert_eq!(vm.volumes(), [vm.fill("@vm"), vm.fill("@seed2")]);
    vm.change("haproxy.timeouts.idle = '32m'");
    vm.lbctl(NOW).ok();
    assert_eq!(vm.volumes(), [vm.fill("@vm"), vm.fill("@seed")]);
    vm.in_drive("@seed");
    assert!(vm.seed_has("@seed", "/user-data", "32m"));
    vm.lbctl("plan --exit-code").ok();
}

/// Two changes written for later, and none of them reached the guest.
#[test]
fn a_reverted_change_leaves_what_runs() {
    let mut vm = changed("haproxy.timeouts = { connect = '7s', check = '3s', idle = '31m' }");
    vm.lbctl("up --restart later").ok();
    vm.change("haproxy.timeouts.idle = '32m'");
    vm.lbctl("up --restart later").ok();
    vm.leave_out_of("haproxy", "timeouts");
    // What the guest started with is what is wanted again.
    vm.lbctl("up").ok().does_not_say(&["restart of the guest"]);
    vm.lbctl("plan --exit-code").ok();
    assert_eq!(vm.volumes().len(), 2);
}

#[test]
fn another_name_of_the_seed_volume() {
    let vm = changed("cloud_init_volume_name = '@vm-seed.iso'");
    vm.lbctl("plan").ok().says(&["@vm-seed.iso"]);
    vm.lbctl(NOW).ok();
    assert_eq!(vm.volumes(), [vm.fill("@vm"), vm.fill("@vm-seed.iso")]);
    vm.in_drive("@vm-seed.iso");
    vm.lbctl("plan --exit-code").ok();
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    assert!(vm.volumes().is_empty());
}

#[test]
fn the_disk_grows_under_a_running_guest() {
    let mut vm = changed("volume.size = '128 MiB'");
    let id = vm.dominfo("Id");
    vm.up().says(&[
        "disk size: 64 MiB -> 128 MiB (live)",
        "grow disk vda of the running guest to 128 MiB",
    ]);
    assert_eq!(vm.dominfo("Id"), id);
    vm.virsh("domblkinfo @vm vda")
        .ok()
        .says(&["Capacity:       134217728"]);
    vm.virsh("vol-info @vm --pool @pool")
        .ok()
        .says(&["128.00 MiB"]);
    vm.lbctl("plan --exit-code").ok();

    vm.virsh("destroy @vm").ok();
    vm.change("volume.size = '192 MiB'");
    vm.up().says(&[
        "disk size: 128 MiB -> 192 MiB (live)",
        "grow volume @pool/@vm to 192 MiB",
    ]);
    vm.virsh("domblkinfo @vm vda")
        .ok()
        .says(&["Capacity:       201326592"]);
    vm.lbctl("plan --exit-code").ok();

    let before = vm.snapshot();
    vm.change("volume.size = '96 MiB'");
    vm.lbctl("up").ended(4).says(&[
        "disk size: 192 MiB -> 96 MiB (replace): a disk can grow, but lbctl never shrinks it",
        "`lbctl up --replace-disk` makes @pool/@vm anew",
        "201326592 bytes is what @pool/@vm has",
    ]);
    before.assert_same(&vm.snapshot());
}

#[test]
fn another_mac_address() {
    let vm = changed("libvirt_network.mac = '@mac2'");
    vm.lbctl(NOW)
        .ok()
        .says(&["interfaces: @mac on network @net -> @mac2 on network @net (restart)"]);
    for which in ["", "--inactive"] {
        let network = vm.virsh(&format!("net-dumpxml @net {which}"));
        network
            .says(&["<host mac='@mac2' name='@vm' ip='@ip'/>"])
            .does_not_say(&["'@mac'"]);
    }
    vm.lbctl("plan --exit-code").ok();
}

/// A definition that does not start must not leave a database without its load balancer.
#[test]
fn a_definition_that_does_not_start_is_replaced_by_the_old_one() {
    let mut vm = Sandbox::new();
    // libvirt looks for the bridge of such a network when a guest starts.
    with_second_network(
        &mut vm,
        "<forward mode='bridge'/><bridge name='@bridge-x'/>",
    );
    vm.leave_out("libvirt_networks");
    vm.up();
    vm.change(SECOND);
    let uuid = vm.dominfo("UUID");
    vm.lbctl(NOW).ended(1).says(&[
        "cannot restart domain @vm",
        "the previous definition was restored and the guest runs with it",
    ]);
    assert_eq!(vm.dominfo("State"), "running");
    assert_eq!(vm.dominfo("UUID"), uuid);
    assert_eq!(
        vm.virsh("domiflist @vm")
            .ok()
            .stdout
            .matches("52:54")
            .count(),
        1
    );
    vm.lbctl("plan --exit-code").ended(3).says(&["(restart)"]);
}
