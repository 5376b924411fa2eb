//! `lbctl import` on a domain as the libvirt provider of Terraform makes it: it is read, nothing of
//! it is changed, and the new load balancer is made beside it.

use std::fs;

use super::sandbox::Sandbox;
use crate::import::module::{Cards, Generation, Module};
use crate::support::{Ran, lbctl};

/// What the provider defines: without machine, architecture or metadata, and with a volume as disk.
const DOMAIN: &str = r#"<domain type="qemu"><name>@vm</name><description></description>
<memory unit="MiB">512</memory><vcpu>1</vcpu><os><type>hvm</type></os>
<features><pae/><acpi/><apic/></features><cpu mode="maximum"/>
<devices>
  <disk type="volume" device="disk"><driver name="qemu" type="qcow2"/><source pool="@pool" volume="@vm"/>
    <target dev="vda" bus="virtio"/></disk>
  <disk type="file" device="cdrom"><driver name="qemu" type="raw"/><source file="@dir/@seed"/>
    <target dev="hdd" bus="ide"/><serial>cloudinit</serial></disk>
  <interface type="network"><mac address="@MAC"/><source network="@net"/><model type="virtio"/></interface>
  <console><target type="serial" port="0"/></console><console><target type="virtio" port="1"/></console>
  <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
  <rng model="virtio"><backend model="random">/dev/urandom</backend></rng>
</devices></domain>"#;

const DISK: &str = r#"<volume><name>@vm</name><capacity unit="bytes">2147483648</capacity>
<target><format type="qcow2"/><permissions><mode>644</mode></permissions></target>
<backingStore><path>@base_path</path><format type="qcow2"/></backingStore></volume>"#;

const SEED: &str = r#"<volume><name>@seed</name><capacity unit="B">@size</capacity>
<target><format type="raw"/><permissions><mode>644</mode></permissions></target></volume>"#;

/// The sandbox with a running domain of Terraform's, and its state in the file `state`.
pub fn terraform() -> Sandbox {
    let vm = Sandbox::new();
    let module = Module::new(Generation::Parts, Cards::Dhcp);
    let image = module.image();
    fs::write(vm.home.path().join("seed.iso"), &image).unwrap();
    let base = vm.virsh("vol-path --pool @base_pool @base").ok().stdout;
    let mac = vm.fill("@mac").to_uppercase();
    for (name, text) in [
        ("disk.xml", DISK),
        ("seed.xml", SEED),
        ("domain.xml", DOMAIN),
    ] {
        let text = text
            .replace("@base_path", base.trim())
            .replace("@MAC", &mac)
            .replace("@size", &image.len().to_string());
        vm.write(name, &vm.fill(&text));
    }
    vm.virsh(&format!(
        "vol-create @pool @home/disk.xml; vol-create @pool @home/seed.xml; \
         vol-upload --pool @pool @seed @home/seed.iso; \
         net-update @net add ip-dhcp-host \"<host mac='{mac}' name='@vm' ip='@ip'/>\" --live --config; \
         define @home/domain.xml; autostart @vm; start @vm"
    ))
    .ok();
    let uuid = vm.virsh("domuuid @vm").ok().stdout;
    let state = String::from_utf8(module.state()).unwrap();
    let state = state
        .replace(
            "\"name\":\"postgres-lb-1",
            &format!("\"name\":\"{}", vm.name),
        )
        .replace("/pools/default/postgres-lb-1", &vm.fill("@dir/@vm"))
        .replace("\"pool\":\"default\"", &vm.fill("\"pool\":\"@pool\""))
        .replace(
            "\"base_volume_name\":\"base\"",
            &vm.fill("\"base_volume_name\":\"@base\""),
        )
        .replace(
            "\"network_name\":\"lab\"",
            &vm.fill("\"network_name\":\"@net\""),
        )
        .replace("52:54:00:DE:E3:6B", &mac)
        .replace("192.168.150.20", &vm.fill("@ip"))
        .replace(crate::import::module::UUID, uuid.trim());
    vm.write("state", &state);
    vm
}

/// With a configuration of the arguments' own, or none.
pub fn typed(vm: &Sandbox, arguments: &str) -> Ran {
    let words = arguments.split_whitespace().map(|word| vm.fill(word));
    lbctl(words).with_words(vm.words())
}

#[test]
fn a_domain_of_terraform_is_read_and_left_as_it_is() {
    let vm = terraform();
    let before = vm.snapshot();
    typed(&vm, "--connect @uri import --domain @vm --out @home/host")
        .ended(2)
        .says(&["missing: haproxy.patroni_client.ca_key"]);
    let ran = typed(
        &vm,
        "--connect @uri import --domain @vm --state @home/state --out @home/both",
    )
    .ok();
    ran.says(&[
        "@vm: lbctl.toml is valid",
        "terraform state rm module.postgres_lb_1",
    ])
    .does_not_say(&["notes are at the top"]);
    before.assert_same(&vm.snapshot());

    let config = fs::read_to_string(vm.home.path().join("both/lbctl.toml")).unwrap();
    for line in [
        "name = \"@vm\"",
        "memory = 512",
        "ip = \"@ip\"",
        "mac = \"@mac\"",
        "base_volume_name = \"@base\"",
        "base_volume_pool = \"@base_pool\"",
        "domain_type = \"qemu\"",
        "machine = \"pc-i440fx-",
        "uri = \"@uri\"",
        "postgres_domain = \"server.postgres.local\"",
    ] {
        assert!(
            config.contains(&format!("\n{}", vm.fill(line))),
            "{line}: {config}"
        );
    }
    typed(&vm, "-c @home/both/lbctl.toml check").ok();
    // It is another's domain, and stays so.
    typed(&vm, "-c @home/both/lbctl.toml plan")
        .ended(4)
        .says(&["already exists, and lbctl did not make it"]);
    typed(&vm, "--connect @uri import --domain @other")
        .ended(1)
        .says(&["there is no domain @other"]);
    before.assert_same(&vm.snapshot());
}

/// The way of the page on moving from Terraform that leaves no gap.
#[test]
fn the_imported_configuration_makes_a_load_balancer_beside_the_old_one() {
    let vm = terraform();
    typed(
        &vm,
        "--connect @uri import --domain @vm --state @home/state --out @home/new",
    )
    .ok();
    let config = vm.home.path().join("new/lbctl.toml");
    let text = fs::read_to_string(&config).unwrap();
    let mac = vm.fill("mac = \"@mac\"\n");
    let other = text
        .replace(&vm.fill("name = \"@vm\""), &vm.fill("name = \"@other\""))
        .replace(&vm.fill("ip = \"@ip\""), &vm.fill("ip = \"@ip2\""))
        .replace(&mac, "");
    fs::write(&config, other).unwrap();
    // libvirt counts the guests of a network anew when a reservation is added to it.
    let old = vm.snapshot().without_live();
    typed(&vm, "-c @home/new/lbctl.toml up").ok();
    typed(&vm, "-c @home/new/lbctl.toml plan --exit-code").ok();
    typed(
        &vm,
        "-c @home/new/lbctl.toml down --yes --stop-timeout=1s --delete-volume",
    )
    .ok();
    old.assert_same(&vm.snapshot().without_live());
}

/// The way under the same name and address, and the way back, as the page has them. The guest is in
/// its firmware and hears no power button, so its power is cut.
#[test]
fn the_same_name_and_address_and_the_way_back() {
    let vm = terraform();
    typed(
        &vm,
        "--connect @uri import --domain @vm --state @home/state --out @home/new",
    )
    .ok();
    let config = vm.home.path().join("new/lbctl.toml");
    let text = fs::read_to_string(&config).unwrap();
    let another = text
        .replace(
            &vm.fill("[volume]\nname = \"@vm\""),
            &vm.fill("[volume]\nname = \"@vm-root\""),
        )
        .replace(
            "cloud_init_volume_pool",
            &vm.fill("cloud_init_volume_name = \"@vm-new.iso\"\ncloud_init_volume_pool"),
        );
    fs::write(&config, another).unwrap();
    let old = vm.snapshot().without_live();

    let saved = vm.virsh("dumpxml --inactive @vm").ok().stdout;
    vm.write("old.xml", &saved);
    vm.virsh("destroy @vm; undefine @vm").ok();
    typed(&vm, "-c @home/new/lbctl.toml up").ok().says(&["@ip"]);
    typed(&vm, "-c @home/new/lbctl.toml plan --exit-code").ok();

    typed(
        &vm,
        "-c @home/new/lbctl.toml down --yes --stop-timeout=1s --delete-volume",
    )
    .ok();
    vm.virsh("define @home/old.xml; autostart @vm; start @vm")
        .ok();
    old.assert_same(&vm.snapshot().without_live());
    // Its address is still the network's to give.
    vm.virsh("net-dumpxml @net").ok().says(&["ip='@ip'"]);
}
