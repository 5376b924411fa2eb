//! The examples for cron, make, a CI job, Ansible and a monitor, run as they stand. Only their
//! waiting is taken out: no guest of this lab becomes ready.

use std::fs;
use std::path::Path;

use yaml_rust2::{Yaml, YamlLoader};

use super::sandbox::Sandbox;
use crate::support::{Ran, run};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    fs::read_to_string(path).unwrap().replace(" --wait=10m", "")
}

/// In the folder of the configuration, where `lbctl` is this one.
fn shell(vm: &Sandbox, script: &str) -> Ran {
    let program = Path::new(env!("CARGO_BIN_EXE_lbctl"));
    let script = format!(
        "cd {}; export PATH={}:$PATH\n{script}",
        vm.home.path().display(),
        program.parent().unwrap().display(),
    );
    run("sh", ["-ec", &script]).with_words(vm.words())
}

/// What a job of the CI example runs.
fn job(name: &str) -> String {
    let yaml = YamlLoader::load_from_str(&example("gitlab-ci.yml")).unwrap();
    let text = |value: &Yaml| value.as_str().unwrap().to_owned();
    let variable = text(&yaml[0]["variables"]["LBCTL_CONFIG"]);
    let lines = yaml[0][name]["script"].as_vec().unwrap();
    let lines: Vec<String> = lines.iter().map(text).collect();
    format!("export LBCTL_CONFIG={variable}\n{}", lines.join("\n"))
}

#[test]
fn make_applies_and_finds_what_somebody_changed() {
    let mut vm = Sandbox::new();
    vm.write("Makefile", &example("Makefile"));
    shell(&vm, "make check").ok();
    shell(&vm, "make drift")
        .ended(2)
        .says(&["@vm: to be created"]);
    shell(&vm, "make up").ok();
    shell(&vm, "make up drift").ok();
    vm.virsh("autostart --disable @vm").ok();
    shell(&vm, "make drift").ended(2).says(&["autostart"]);
    shell(&vm, "make up drift").ok();
    // Nobody is asked, and no session is cut.
    let id = vm.dominfo("Id");
    vm.change("memory = 320");
    shell(&vm, "make up").ok();
    assert_eq!(vm.dominfo("Id"), id);
    shell(&vm, "make up").ok();
}

#[test]
fn cron_says_nothing_unless_it_fails() {
    let mut vm = Sandbox::new();
    // Worth a warning, which is said by `check`, and not every night.
    vm.change("chrony = { servers = [{ url = 'ntp1.example.com' }] }");
    vm.lbctl("check").ok().says(&["not switched on"]);
    vm.up();
    let cron = example("lbctl.cron");
    let line = cron.lines().find(|line| !line.starts_with('#')).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[5], "root", "minute to weekday, and who");
    let command = words[6..]
        .join(" ")
        .replace("/etc/lbctl/lb-1.toml", "lbctl.toml");
    let ran = shell(&vm, &command).ok();
    assert_eq!(format!("{}{}", ran.stdout, ran.stderr), "");
    vm.down();
    let ran = shell(&vm, &command);
    assert_ne!(ran.code, 0);
    ran.says(&["error: @vm"]);
}

/// The block of docs/operations.md, with the sandbox's pool for the one called `os`.
#[test]
fn an_image_gets_into_a_pool_as_the_page_says() {
    let mut vm = Sandbox::new();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md"));
    let page = page.unwrap();
    let (_, block) = page
        .split_once("<!-- run: tests/it/libvirt/scripts.rs -->\n```sh\n")
        .unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let block = block
        .replace("as os ", "as @pool ")
        .replace("--pool os", "--pool @pool");
    let image = "qemu-img create -q -f qcow2 debian-12-genericcloud-amd64.qcow2 64M";
    let script = vm.fill(&format!(
        "export LIBVIRT_DEFAULT_URI=@uri\n{image}\n{block}"
    ));
    shell(&vm, &script).ok();
    vm.change("volume.base_volume_pool = '@pool'\nvolume.base_volume_name = 'debian-12'\nvolume.size = '3 GiB'");
    vm.lbctl("plan").ok().says(&["a clone of @pool/debian-12"]);
}

/// What it says of a load balancer that is ready is in `status`, which needs no guest.
#[test]
fn a_monitor_hears_why_it_is_not_ready() {
    let mut vm = Sandbox::new();
    vm.write("check_lbctl", &example("check_lbctl"));
    let says = |vm: &Sandbox, code: i32, said: &str| {
        let ran = shell(vm, "sh check_lbctl lbctl.toml").ended(code);
        assert_eq!(ran.stdout.trim(), said, "{ran}");
    };
    says(&vm, 2, "CRITICAL: the domain does not exist");
    vm.up();
    vm.virsh("suspend @vm").ok();
    says(&vm, 2, "CRITICAL: the domain is paused");
    vm.change("memory = 1");
    says(&vm, 3, "UNKNOWN: lbctl ended with 2");
}

#[test]
fn a_ci_job_does_the_plan_that_was_shown() {
    let mut vm = Sandbox::new();
    shell(&vm, &job("plan")).ok().says(&["@vm: to be created"]);
    shell(&vm, &job("apply")).ok();
    vm.lbctl("plan --exit-code").ok();
    shell(&vm, &job("plan")).ok();
    vm.change("memory = 320");
    shell(&vm, &job("apply"))
        .ended(4)
        .says(&["is not the plan in plan.json"]);
}

#[test]
fn ansible_tells_a_change_from_none() {
    let vm = Sandbox::new();
    vm.write("ansible.yml", &example("ansible.yml"));
    let play = |changed: u8| {
        let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/python/bin");
        let ran = shell(
            &vm,
            &format!(
                "export HOME=$PWD ANSIBLE_LOCAL_TEMP=$PWD/tmp ANSIBLE_REMOTE_TEMP=$PWD/tmp\n\
                 {tools}/ansible-playbook -i localhost, -c local \
                 -e ansible_python_interpreter=/usr/bin/python3 \
                 -e lbctl_config=$PWD/lbctl.toml ansible.yml"
            ),
        );
        ran.ok()
            .says(&[&format!("ok=2    changed={changed}"), "failed=0"]);
    };
    play(1);
    play(0);
}
