//! Two VMs in one file on a real libvirtd. The guests stay in their firmware, so none is ever
//! ready: what restarts one is held back, unless it is asked for that one alone.

use std::fs;

use serde_json::Value;

use super::sandbox::Sandbox;
use crate::support::lbctl;

/// The sandbox's configuration with a second VM, `@vm2`, in the same network and pool, but for what
/// is laid over it.
pub fn two(vm: &mut Sandbox, second: &str) {
    vm.leave_out("name");
    vm.leave_out_of("volume", "name");
    vm.leave_out_of("libvirt", "uri");
    for key in ["ip", "mac", "network_name"] {
        vm.leave_out_of("libvirt_network", key);
    }
    vm.leave_out_of("volume", "pool");
    vm.leave_out("cloud_init_volume_pool");
    let first =
        "libvirt = { uri = '@uri' }, cloud_init_volume_pool = '@pool', volume = { pool = '@pool' }";
    vm.change(&format!(
        "vms = [{{ name = '@vm', {first}, libvirt_network = {{ network_name = '@net', ip = '@ip', mac = '@mac' }} }}, {second}]"
    ));
}

pub const BESIDE: &str = "{ name = '@vm2', libvirt = { uri = '@uri' }, cloud_init_volume_pool = '@pool', \
                      volume = { pool = '@pool' }, libvirt_network = { network_name = '@net', ip = '@ip2', mac = '@mac2' } }";

fn names(document: &Value) -> Vec<&str> {
    let vms = document["vms"].as_array().unwrap().iter();
    vms.map(|vm| vm["name"].as_str().unwrap()).collect()
}

#[test]
fn two_vms_come_change_and_go() {
    let mut vm = Sandbox::new();
    two(&mut vm, BESIDE);
    let before = vm.snapshot();
    vm.lbctl("check")
        .ok()
        .says(&["@vm: is valid", "@vm2: is valid"]);
    let plan = vm.lbctl("plan --exit-code").ended(3);
    plan.says(&["@vm: to be created", "@vm2: to be created"]);
    let plan = vm.lbctl("plan --json").ok().document();
    assert_eq!(names(&plan), [vm.fill("@vm"), vm.fill("@vm2")]);
    before.assert_same(&vm.snapshot());

    // Nothing runs yet, so nobody is waited for.
    let up = vm.lbctl("up").ok();
    up.says(&["@vm: running, address @ip", "@vm2: running, address @ip2"]);
    let again = vm.lbctl("up --json").ok();
    let document = again.document();
    assert_eq!(document["exit_code"], 0);
    assert!(
        document["vms"]
            .as_array()
            .unwrap()
            .iter()
            .all(|vm| vm["empty"] == true)
    );
    vm.lbctl("plan --exit-code").ok();
    let status = vm.lbctl("status").ended(1);
    status.says(&["@vm: not ready", "@vm2: not ready"]);
    vm.lbctl("status --only @vm2")
        .ended(1)
        .says(&["@vm2: not ready"])
        .does_not_say(&["@vm: "]);

    // A live change of both, one after the other.
    vm.change("volume.size = '80 MiB'");
    let changed = vm.lbctl("up").ok();
    changed.says(&[
        "@vm: 1 change, no session is cut",
        "@vm2: 1 change, no session is cut",
    ]);

    // No other VM is ready, so neither is restarted; one alone is.
    vm.change("memory = 300");
    let refused = vm.lbctl("up").ended(4);
    refused.says(&[
        "@vm: this change needs a restart",
        "@vm2: this change needs a restart",
    ]);
    let held = vm.lbctl("up --restart now").ended(4);
    held.says(&[
        "@vm: its sessions would be cut while no other VM is ready",
        "`--only @vm2`",
    ]);
    let document = vm.lbctl("up --restart now --json").ended(4).document();
    let error = &document["vms"][0]["error"];
    assert_eq!(error["messages"][0]["id"], "no-other-ready", "{document}");
    assert_eq!(vm.dominfo("Max memory"), "262144 KiB");
    vm.lbctl("up --restart now --stop-timeout=1s --only @vm")
        .ok();
    assert_eq!(vm.dominfo("Max memory"), "307200 KiB");
    vm.lbctl("up --restart later").ok();

    vm.lbctl("down --only @vm2")
        .ended(4)
        .says(&["@vm2 would be removed"]);
    let refused = vm.lbctl("down").ended(4);
    refused.says(&["@vm and @vm2 would be removed, and there is no terminal"]);
    vm.lbctl("down --yes --delete-volume --stop-timeout=1s")
        .ok()
        .says(&["@vm: removed", "@vm2: removed"]);
    before.assert_same(&vm.snapshot());
}

#[test]
fn the_first_that_does_not_come_up_ends_it_and_the_second_is_untouched() {
    let mut vm = Sandbox::new();
    two(&mut vm, BESIDE);
    let ended = vm.lbctl("up --wait=2s").ended(5);
    ended.says(&[
        "@vm: running, but not ready within",
        "note: @vm2: not touched, because of @vm",
    ]);
    vm.virsh("dominfo @vm2").ended(1);
    let document = vm.lbctl("up --wait=2s --json").ended(5).document();
    assert_eq!(document["exit_code"], 5);
    assert_eq!(document["vms"][0]["error"]["exit_code"], 5);
    assert_eq!(document["vms"][1]["error"]["exit_code"], Value::Null);
    assert_eq!(
        document["vms"][1]["error"]["messages"][0]["id"],
        "vms-untouched"
    );
}

/// What a plan, an event, a restart and the journal are of.
#[test]
fn what_is_of_one_says_of_which() {
    let mut vm = Sandbox::new();
    two(&mut vm, BESIDE);
    let before = vm.snapshot();
    vm.lbctl("plan --out @home/plan")
        .ended(2)
        .says(&["error: `lbctl plan --out` is for one VM, and the configuration has 2"]);
    vm.lbctl("plan --out @home/plan --only @vm").ok();
    vm.lbctl("up @home/plan")
        .ended(2)
        .says(&["error: `lbctl up FILE` is for one VM, and the configuration has 2"]);
    vm.lbctl("up @home/plan --only @vm2")
        .ended(4)
        .says(&["error: @vm2: what would be done now is not the plan in "]);
    before.assert_same(&vm.snapshot());

    let ran = vm
        .lbctl("up --events --quiet")
        .ok()
        .does_not_say(&["running, address"]);
    let lines: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (document, events) = lines.split_last().unwrap();
    assert_eq!(names(document), [vm.fill("@vm"), vm.fill("@vm2")]);
    for vm in document["vms"].as_array().unwrap() {
        let steps = vm["step_details"].as_array().unwrap();
        assert!(steps.iter().all(|step| step["state"] == "done"), "{vm:#}");
        let own = events.iter().filter(|event| event["name"] == vm["name"]);
        let kinds: Vec<&str> = own.map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(kinds[0], "plan");
        let ended = kinds.iter().filter(|kind| **kind == "step-end");
        assert_eq!(ended.count(), steps.len());
    }
    assert!(events.iter().all(|event| event["name"] != ""));

    vm.lbctl("restart")
        .ended(4)
        .says(&["error: @vm and @vm2 would be restarted, and there is no terminal"]);
    let held = vm
        .lbctl("restart --yes --json")
        .ended(4)
        .says(&["error: @vm: its sessions would be cut while no other VM is ready"]);
    let document = held.document();
    for place in 0..2 {
        let message = &document["vms"][place]["error"]["messages"][0];
        assert_eq!(message["id"], "no-other-ready", "{document:#}");
    }
    let alone = vm
        .lbctl("restart --yes --stop-timeout=1s --only @vm --json")
        .ok()
        .says(&["@vm: restarted"]);
    let document = alone.document();
    assert_eq!(document["vms"][0]["command"], "restart");
    assert_eq!(document["vms"][0]["changed"], true);
    vm.lbctl("logs")
        .ended(2)
        .says(&["error: `lbctl logs` is for one VM, and the configuration has 2"]);
    vm.lbctl("logs --only @vm2")
        .ended(1)
        .says(&["error: @vm2: the journal cannot be read: "]);
    vm.virsh("destroy @vm2").ok();
    vm.lbctl("restart --yes").ended(1).says(&[
        "error: @vm2: the domain is shut off",
        "note: @vm: not touched, because of @vm2",
    ]);
}

#[test]
fn what_is_wrong_with_one_is_known_before_any_is_touched() {
    let mut vm = Sandbox::new();
    let elsewhere = BESIDE.replace("network_name = '@net'", "network_name = 'nowhere'");
    two(&mut vm, &elsewhere);
    let before = vm.snapshot();
    vm.lbctl("up").ended(1).says(&[
        "the host has no network nowhere",
        "@vm: not touched, because of @vm2",
    ]);
    before.assert_same(&vm.snapshot());
    let checked = vm.lbctl("check --host --json").ended(1).document();
    assert_eq!(checked["vms"][1]["ok"], false);
}

#[test]
fn a_host_that_is_away_keeps_nothing_from_being_done_elsewhere() {
    let mut vm = Sandbox::new();
    let away = "uri = 'qemu+unix:///system?socket=@home/nobody'";
    two(&mut vm, &BESIDE.replace("uri = '@uri'", away));
    let goes_on = "the same command goes on from here";
    let plan = vm.lbctl("plan --exit-code").ended(1);
    plan.says(&["@vm: to be created", "@vm2: not reached ("]);
    vm.lbctl("up")
        .ended(1)
        .says(&["@vm: running", "@vm2: not reached (", goes_on]);
    vm.change("volume.size = '80 MiB'");
    vm.lbctl("up").ended(1).says(&["@vm: running", goes_on]);
    // A restart waits for the other one.
    vm.change("memory = 300");
    vm.lbctl("up --restart now").ended(1).says(&[
        "@vm: its sessions would be cut",
        "@vm2: not reached)",
        goes_on,
    ]);
    let list = vm.lbctl("check --host").ended(1);
    list.says(&["@vm2: `lbctl up` would fail", "FAILED   libvirt"]);
    vm.lbctl("status")
        .ended(1)
        .says(&["@vm: not ready", "@vm2: not reached"]);
    vm.lbctl("renew --check")
        .ended(1)
        .says(&["@vm: the client certificate is not due"]);
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ended(1)
        .says(&["@vm: removed", "@vm2: not reached"]);
    vm.lbctl("up --only @vm").ok();
}

#[test]
fn two_vms_that_share_an_address() {
    let mut vm = Sandbox::new();
    two(&mut vm, BESIDE);
    let before = vm.snapshot();
    vm.change("virtual_ip = { address = '@subnet.150' }");
    let in_range = "shared address @subnet.150 is in a DHCP range of network @net";
    vm.lbctl("up").ended(1).says(&[in_range]);
    vm.lbctl("check --host").ended(1).says(&[in_range]);
    before.assert_same(&vm.snapshot());

    vm.change("virtual_ip.address = '@subnet.30'");
    vm.lbctl("check --host")
        .ok()
        .says(&["in no DHCP range of network @net"]);
    // Both are started: neither has the address.
    vm.lbctl("up").ok();
    vm.lbctl("status").ended(1).says(&[
        "virtual ip @subnet.30: no VM that answers has it, and no other VM would take it; of @vm and @vm2 nothing is known",
    ]);
    let document = vm.lbctl("status --json").ended(1).document();
    let shared = &document["virtual_ip"];
    assert_eq!(shared["holders"], serde_json::json!([]), "{document}");
    assert_eq!(shared["unknown"].as_array().unwrap().len(), 2);
    // A guest that does not answer may have it, and not know of one that is new.
    vm.lbctl("down --yes --alone --delete-volume --stop-timeout=1s --only @vm2")
        .ok();
    vm.change("virtual_ip.detection = '700ms'");
    let told = "as far as is known @vm has the shared address and was not told of @vm2";
    vm.lbctl("up --restart later").ended(4).says(&[told]);
    // Where all go nobody is asked to take it.
    vm.lbctl("down --yes --delete-volume --stop-timeout=1s")
        .ok()
        .does_not_say(&["hand over"]);
    before.assert_same(&vm.snapshot());
}

/// Each file of a folder is a load balancer of its own: none waits until another one is ready
/// before it cuts its sessions, and what fails stops all that is left.
#[test]
fn the_files_of_a_folder_are_load_balancers_of_their_own() {
    let vm = Sandbox::new();
    fs::create_dir(vm.home.path().join("fleet")).unwrap();
    let text = fs::read_to_string(vm.home.path().join("lbctl.toml")).unwrap();
    let text = text.replace("\"ca.", "\"../ca.");
    let write = |memory: u16| {
        let text = text.replace("memory = 256", &format!("memory = {memory}"));
        vm.write("fleet/1.toml", &text);
        let mut second = text;
        for (word, other) in [("@vm", "@vm2"), ("@ip", "@ip2"), ("@mac", "@mac2")] {
            let quoted = |word: &str| format!("\"{}\"", vm.fill(word));
            second = second.replace(&quoted(word), &quoted(other));
        }
        vm.write("fleet/2.toml", &second);
    };
    write(256);
    let fleet = vm.fill("@home/fleet");
    let run = |arguments: &str| {
        let words = ["-c", fleet.as_str()].into_iter();
        let arguments = vm.fill(arguments);
        lbctl(words.chain(arguments.split(' '))).with_words(vm.words())
    };
    let before = vm.snapshot();
    let plan = run("plan --exit-code").ended(3);
    plan.says(&["@vm: to be created", "@vm2: to be created"]);
    let up = run("up --json").ok().document();
    assert_eq!(names(&up), [vm.fill("@vm"), vm.fill("@vm2")]);
    run("plan --exit-code").ok();
    run("status")
        .ended(1)
        .says(&["@vm: not ready", "@vm2: not ready"]);

    // Two names that are one: nothing is begun.
    vm.write("fleet/3.toml", &text);
    run("down --yes --only @vm")
        .ended(2)
        .says(&["which is the name of another VM"]);
    assert_eq!(vm.dominfo("State"), "running");
    fs::remove_file(vm.home.path().join("fleet/3.toml")).unwrap();

    write(300);
    run("up").ended(4).says(&[
        "@vm: this change needs a restart",
        "@vm2: this change needs a restart",
    ]);
    run("up --restart now --stop-timeout=1s --wait=1s")
        .ended(5)
        .says(&[
            "@vm: running, but not ready within",
            "note: @vm2: not touched, because of @vm",
        ])
        .does_not_say(&["no other VM is ready"]);
    assert_eq!(vm.dominfo("Max memory"), "307200 KiB");
    run("handover").ended(2).says(&["has no [virtual_ip]"]);
    run("down --yes")
        .ended(2)
        .says(&["removes no whole folder"]);
    run("down --yes --delete-volume --stop-timeout=1s --only @vm --only @vm2")
        .ok()
        .says(&["@vm: removed", "@vm2: removed"]);
    before.assert_same(&vm.snapshot());
}
