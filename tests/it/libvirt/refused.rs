//! What is not lbctl's is refused with its owner's name, exit 4, and nothing is touched.

use super::sandbox::{Sandbox, as_listed};
use crate::support::Ran;

/// A domain that lbctl did not make.
const OTHER: &str = "<domain type='qemu'><name>NAME</name><memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>DEVICES</devices></domain>";

struct Case {
    /// What already exists, made by virsh commands.
    there: &'static str,
    /// What the configuration says beyond the sandbox's own.
    config: &'static str,
    says: &'static [&'static str],
}

impl Case {
    #[track_caller]
    fn is_refused(&self) {
        let mut vm = Sandbox::new();
        vm.write(
            "domain.xml",
            &vm.fill(&OTHER.replace("NAME", "@vm").replace("DEVICES", "")),
        );
        let devices =
            "<interface type='network'><source network='@net'/><mac address='@mac'/></interface>
          <disk type='file'><source file='@dir/taken'/><target dev='vda'/></disk>";
        vm.write(
            "other.xml",
            &vm.fill(&OTHER.replace("NAME", "@other").replace("DEVICES", devices)),
        );
        vm.write("content", &"somebody's ".repeat(1000));
        vm.virsh(self.there).ok();
        vm.change(self.config);
        let before = vm.snapshot();
        let check = |ran: Ran| ran.ended(4).says(self.says).says(&["help: "]);
        check(vm.lbctl("plan"));
        vm.lbctl("check --host")
            .ended(4)
            .says(&as_listed(self.says));
        check(vm.lbctl("up --restart now --yes"));
        before.assert_same(&vm.snapshot());
    }
}

#[test]
fn a_domain_of_the_same_name() {
    let vm = Sandbox::new();
    vm.write(
        "domain.xml",
        &vm.fill(&OTHER.replace("NAME", "@vm").replace("DEVICES", "")),
    );
    vm.virsh("define @home/domain.xml").ok();
    let before = vm.snapshot();
    for command in [
        "plan",
        "up --restart now --yes",
        "down --yes",
        "down --yes --delete-volume",
        "check --host",
    ] {
        let says = [
            "error: @vm: domain @vm (shut off, uuid ",
            "lbctl did not make it",
            "help: choose another `name`",
            "`lbctl adopt` takes it over (docs/terraform.md)",
        ];
        vm.lbctl(command).ended(4).says(&as_listed(&says));
    }
    before.assert_same(&vm.snapshot());
}

#[test]
fn a_volume_at_the_disks_name() {
    Case {
        there: "vol-create-as @pool @vm 10M; vol-upload @vm @home/content --pool @pool",
        config: "",
        says: &[
            "error: @vm: volume @pool/@vm already exists, and it is not a clone of @base_pool/@base",
            "volume_id = \"@pool/@vm\"",
        ],
    }
    .is_refused();
}

#[test]
fn a_volume_at_the_seeds_name() {
    Case {
        there: "vol-create-as @pool @seed 1M; vol-upload @seed @home/content --pool @pool",
        config: "",
        says: &[
            "error: @vm: volume @pool/@seed already exists, and it is not a seed of lbctl",
            "choose another cloud_init_volume_name",
        ],
    }
    .is_refused();
}

#[test]
fn an_address_reserved_for_another_machine() {
    Case {
        there: "net-update @net add ip-dhcp-host \"<host mac='@mac2' name='db-1' ip='@ip'/>\" --live --config",
        config: "",
        says: &["error: @vm: address @ip is reserved in network @net for db-1: @ip for @mac2 (db-1)"],
    }
    .is_refused();
}

#[test]
fn an_address_reserved_in_the_saved_network_only() {
    Case {
        there: "net-update @net add ip-dhcp-host \"<host mac='@mac2' ip='@ip'/>\" --config",
        config: "",
        says: &["error: @vm: address @ip is reserved in network @net for @mac2: @ip for @mac2"],
    }
    .is_refused();
}

#[test]
fn a_mac_address_reserved_for_another_machine() {
    Case {
        there: "net-update @net add ip-dhcp-host \"<host mac='@mac' name='db-1' ip='@ip2'/>\" --live --config",
        config: "",
        says: &["error: @vm: MAC address @mac is reserved in network @net for db-1"],
    }
    .is_refused();
}

#[test]
fn a_host_name_reserved_for_another_network_interface() {
    Case {
        there: "net-update @net add ip-dhcp-host \"<host mac='@mac2' name='@vm' ip='@ip2'/>\" --live --config",
        config: "",
        says: &["error: @vm: host name @vm is reserved in network @net for @vm: @ip2 for @mac2 (@vm)"],
    }
    .is_refused();
}

#[test]
fn the_mac_address_of_another_domain() {
    Case {
        there: "define @home/other.xml",
        config: "",
        says: &[
            "error: @vm: MAC address @mac belongs to domain @other",
            "leave it out and let lbctl derive one",
        ],
    }
    .is_refused();
}

#[test]
fn a_name_that_controls_a_terminal_is_shown_without_that() {
    let vm = Sandbox::new();
    // libvirt takes every character that XML takes: C1 controls, too, with which escape sequences
    // begin.
    let name = "@other\u{9b}31m\u{85}\u{202e}live\u{200b}";
    let devices =
        "<interface type='network'><source network='@net'/><mac address='@mac'/></interface>";
    let other = OTHER.replace("NAME", name).replace("DEVICES", devices);
    vm.write("other.xml", &vm.fill(&other));
    vm.virsh("define @home/other.xml").ok();
    let listed = vm.virsh("list --all --name").ok().stdout;
    assert!(listed.contains(&vm.fill(name)), "{}", listed.escape_debug());
    for command in [
        "plan",
        "up",
        "check --host",
        "plan --json",
        "up --json",
        "check --host --json",
    ] {
        let ran = vm.lbctl(command).ended(4).says(&["domain @other", "live"]);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let obeyed = |c: char| c != '\n' && lbctl::testing::text::sanitize::drives_terminal(c);
        assert_eq!(said.find(obeyed), None, "{}", said.escape_debug());
    }
}

#[test]
fn a_disk_of_another_domain() {
    for id in ["@pool/taken", "@dir/taken"] {
        let mut vm = Sandbox::new();
        vm.leave_out("volume");
        vm.change(&format!(
            "volume_id = '{id}'\nlibvirt_network.mac = '@mac2'"
        ));
        let devices = "<disk type='file'><source file='@dir/taken'/><target dev='vda'/></disk>";
        vm.write(
            "other.xml",
            &vm.fill(&OTHER.replace("NAME", "@other").replace("DEVICES", devices)),
        );
        vm.virsh("vol-create-as @pool taken 10M; define @home/other.xml")
            .ok();
        let before = vm.snapshot();
        let says = [
            "error: @vm: volume @pool/taken is a disk of domain @other",
            "help: two machines that write one disk destroy it",
        ];
        vm.lbctl("up").ended(4).says(&says);
        before.assert_same(&vm.snapshot());
    }
}

#[test]
fn all_reasons_are_reported_at_once() {
    Case {
        there: "define @home/other.xml; vol-create-as @pool @seed 1M; vol-upload @seed @home/content --pool @pool;
                net-update @net add ip-dhcp-host \"<host mac='@mac2' name='db-1' ip='@ip'/>\" --live --config",
        config: "volume.name = 'taken'",
        says: &[
            "address @ip is reserved in network @net for db-1",
            "MAC address @mac belongs to domain @other",
            "volume @pool/@seed already exists",
        ],
    }
    .is_refused();
}

#[test]
fn the_seed_of_another_load_balancer() {
    let mut vm = Sandbox::new();
    vm.up();
    let seed = vm.fill("cloud_init_volume_name = '@seed'");
    vm.change("name = '@other'\nvolume.name = '@other'\nlibvirt_network.ip = '@ip2'\nlibvirt_network.mac = '@mac2'");
    vm.change(&seed);
    let before = vm.snapshot();
    vm.lbctl("up")
        .ended(4)
        .says(&["error: @other: volume @pool/@seed is the seed of another VM, @vm"]);
    vm.lbctl("down --yes").ok().says(&["nothing to do"]);
    before.assert_same(&vm.snapshot());
}

#[test]
fn another_base_or_another_disk_under_a_disk_with_data() {
    let mut vm = Sandbox::new();
    vm.up();
    vm.virsh("vol-create-as @pool newer 64M --format qcow2; vol-create-as @pool taken 64M")
        .ok();
    let before = vm.snapshot();
    vm.change("volume.base_volume_pool = '@pool'\nvolume.base_volume_name = 'newer'");
    let says = [
        "error: @vm: base volume: ",
        "/@base -> @dir/newer (replace)",
        "`lbctl up --replace-disk` makes @pool/@vm anew, and what is on it is lost",
    ];
    vm.lbctl("up --restart now --yes").ended(4).says(&says);

    vm.change("volume.base_volume_pool = '@base_pool'\nvolume.base_volume_name = '@base'\nvolume.name = '@vm-2'");
    let says = ["error: @vm: disk: @pool/@vm -> @pool/@vm-2 (replace)"];
    vm.lbctl("up --restart now --yes").ended(4).says(&says);

    vm.leave_out("volume");
    vm.change("volume_id = '@pool/taken'");
    let says = [
        "error: @vm: disk: @dir/@vm -> @dir/taken (replace): the domain would boot from another disk",
    ];
    vm.lbctl("up --restart now --yes").ended(4).says(&says);
    before.assert_same(&vm.snapshot());
}

/// The DHCP server's own list of leases, as libvirt keeps it.
#[test]
fn an_address_that_another_machine_has_leased() {
    let vm = Sandbox::new();
    let leases = format!(
        "{}/libvirt/var/lib/libvirt/dnsmasq/{}.status",
        vm.lab["LAB_STATE"],
        vm.fill("@bridge")
    );
    let lease = r#"[{"ip-address": "@ip", "mac-address": "@mac2", "hostname": "laptop", "expiry-time": 4102444800}]"#;
    std::fs::write(&leases, vm.fill(lease)).unwrap();
    let before = vm.snapshot();
    let says = [
        "error: @vm: address @ip is in use in network @net: leased to @mac2 (laptop) until 2100-01-01 00:00 UTC",
        "help: choose another `ip`; or stop that machine and wait for the end of its lease",
    ];
    vm.lbctl("up").ended(4).says(&says);
    before.assert_same(&vm.snapshot());
    std::fs::remove_file(leases).unwrap();
    vm.up();
}

/// A file that was put into the pool's folder behind libvirt's back.
#[test]
fn a_file_that_libvirt_has_not_seen_yet() {
    for name in ["@vm", "@seed"] {
        let vm = Sandbox::new();
        let path = vm.fill(&format!("@dir/{name}"));
        std::fs::write(&path, "somebody's").unwrap();
        let first = vm.lbctl("up").says(&["already exists", "help: "]);
        // The upload of the seed makes libvirt read the pool again.
        assert!([1, 4].contains(&first.code), "{first}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's");
        vm.virsh("pool-refresh @pool").ok();
        vm.lbctl("up").ended(4).says(&["already exists"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's");
    }
}
