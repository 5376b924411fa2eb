//! What an operator and a script have beside `up`: a restart, a plan that was read, a beginning
//! from what the host has, events, and the whole document of a failure.

use std::fs;

use serde_json::Value;

use super::sandbox::Sandbox;
use crate::support::transcript;
use crate::support::{Ran, lbctl, run};

#[test]
fn a_restart_asks_and_brings_what_waits_for_it() {
    let mut vm = Sandbox::new();
    vm.lbctl("restart --yes")
        .ended(1)
        .says(&["error: @vm: the domain does not exist, so there is nothing to restart"]);
    vm.up();
    vm.change("memory = 320");
    vm.lbctl("up --restart later")
        .ok()
        .says(&["saved for the next start of the guest: memory"]);
    vm.lbctl("status").ended(1).says(&[
        "  drift        none",
        "  pending      restart (`lbctl restart`): memory",
    ]);
    vm.lbctl("restart").ended(4).says(&[
        "error: @vm would be restarted, and there is no terminal to ask on: nothing was changed",
    ]);
    let json = vm
        .lbctl("restart --yes --stop-timeout 1s --json")
        .ok()
        .says(&["@vm: restarted, with what waited for it: memory"]);
    let document = json.json();
    assert_eq!(document["command"], "restart");
    assert_eq!(document["changed"], true);
    assert_eq!(document["step_details"][0]["kind"], "restart");
    assert_eq!(document["step_details"][0]["state"], "done");
    vm.lbctl("plan --exit-code").ok();
}

#[test]
fn what_comes_next_is_said_below_the_plan() {
    let mut vm = Sandbox::new();
    let config = vm.fill("@home/lbctl.toml");
    let line = format!("{} -c {config} plan", env!("CARGO_BIN_EXE_lbctl"));
    let ends_with = |end: &str| {
        let (lines, _) = transcript::on_a_terminal(&line, 200);
        let last = lines.iter().rfind(|line| !line.is_empty());
        assert!(last.is_some_and(|last| last.ends_with(end)), "{lines:#?}");
    };
    ends_with("hint: `lbctl up` does it");
    vm.up();
    // It asks, or is refused.
    vm.change("memory = 384");
    ends_with("applies them at its next start");
    vm.virsh("destroy @vm").ok();
    ends_with("hint: `lbctl up` does it");
}

#[test]
fn the_plan_that_was_read_is_done_or_nothing() {
    let mut vm = Sandbox::new();
    let plan = vm.fill("@home/plan");
    vm.lbctl(&format!("plan --out {plan}")).ok();
    let text = fs::read_to_string(&plan).unwrap();
    assert!(
        !text.contains("correct horse") && !text.contains("PRIVATE KEY"),
        "{text}"
    );
    vm.change("memory = 320");
    let before = vm.snapshot();
    vm.lbctl(&format!("up {plan}")).ended(4).says(&[
        "error: @vm: what would be done now is not the plan in ",
        "  | - domain: ",
        "  | + domain: ",
    ]);
    before.assert_same(&vm.snapshot());
    vm.lbctl(&format!("plan --out {plan}")).ok();
    vm.lbctl(&format!("up {plan}"))
        .ok()
        .says(&["@vm: running, address @ip"]);
    // It is done: now there is another plan.
    vm.lbctl(&format!("up {plan}")).ended(4);
}

#[test]
fn a_beginning_has_what_the_host_has() {
    let vm = Sandbox::new();
    let uri = vm.fill("@uri");
    let ran = lbctl(["--connect", &uri, "init", "--from-host"]).ok();
    let begun: toml::Table = ran.stdout.parse().unwrap();
    assert_eq!(begun["libvirt"]["uri"].as_str(), Some(uri.as_str()));
    let comment = |key: &str| {
        let line = ran
            .stdout
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap();
        line.split_once('#').unwrap().1.to_owned()
    };
    assert!(
        comment("cloud_init_volume_pool").contains("pools here: "),
        "{ran}"
    );
    assert!(comment("network_name").contains("networks here: "), "{ran}");
    assert!(comment("ip").contains("free"), "{ran}");
    assert_eq!(
        begun["volume"]["base_volume_name"].as_str(),
        Some(&*vm.fill("@base"))
    );
    assert_eq!(
        begun["haproxy"]["postgres_domain"].as_str(),
        Some("FILL IN")
    );
}

/// An answer that `check` would refuse is refused when it is given, with what the answers are.
#[test]
fn init_asks_again_after_a_wrong_answer_and_says_why() {
    let vm = Sandbox::new();
    let file = vm.home.path().join("new.toml");
    let line = format!(
        "NO_COLOR=1 HOME=/nonexistent {} --connect {} init --from-host -o {}",
        env!("CARGO_BIN_EXE_lbctl"),
        vm.fill("@uri"),
        file.display()
    );
    let steps = [
        ("name of the load balancer", "my lb", "cannot be a hostname"),
        ("name of the load balancer", "", ""),
        ("image, as a volume", "", ""),
        (
            "pool of the disk and the seed",
            "nowhere",
            "this host has no pool nowhere",
        ),
        ("pool of the disk and the seed", "", ""),
        ("libvirt network", "dmz", "help: networks here: "),
        ("libvirt network", "", ""),
        ("address in it", "192.168.150.300", "not an IPv4 address"),
        ("address in it", "", ""),
        ("file of your public ssh key", "none.pub", "cannot be read"),
        ("file of your public ssh key", "", ""),
        (
            "Patroni's nodes",
            "192.0.2.11, 192.0.2.11",
            "another node's",
        ),
        ("Patroni's nodes", "192.0.2.11, 192.0.2.12", ""),
        (
            "TLS of Patroni's REST API",
            "on",
            "\"on\" is none of off, server and mutual",
        ),
        ("TLS of Patroni's REST API", "off", ""),
    ];
    let typed = steps.iter().flat_map(|(question, answer, said)| {
        let seen = (!said.is_empty()).then(|| format!("see {said}"));
        [format!("see {question}"), format!("type {answer}\\n")]
            .into_iter()
            .chain(seen)
    });
    let typed = typed.chain(["see written; 1 value is to be filled in".to_owned()]);
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/on-a-terminal");
    run(program, std::iter::once(line.clone()).chain(typed)).ok();
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(written.matches("FILL IN").count(), 1, "{written}");
    for answer in ["192.0.2.12", "patroni_tls = \"off\""] {
        assert!(written.contains(answer), "{written}");
    }

    // Where nobody answers any more, the rest is to be filled in.
    fs::remove_file(&file).unwrap();
    let ended = [
        "see name of the load balancer",
        "type lb-7\\n",
        "see image",
        "type \\x04",
        "see written",
    ];
    run(
        program,
        std::iter::once(line).chain(ended.map(str::to_owned)),
    )
    .ok();
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.contains("name = \"lb-7\""), "{written}");
}

#[test]
fn a_network_that_goes_while_it_is_read_is_not_there() {
    let vm = Sandbox::new();
    let uri = vm.fill("@uri");
    let network = vm.fill("<network><name>@vm-goes</name></network>");
    vm.write("network.xml", &network);
    let comes_and_goes = "net-define @home/network.xml; net-undefine @vm-goes; ".repeat(200);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| vm.virsh(&comes_and_goes).ok());
        while !other.is_finished() {
            lbctl(["--connect", &uri, "init", "--from-host"]).ok();
        }
    });
}

/// Of a guest that never gets ready: exit 5 has all that was done, and each event comes before the
/// document.
#[test]
fn a_failure_has_what_was_done_and_events_come_one_by_one() {
    let mut vm = Sandbox::new();
    let ran = vm.lbctl("up --wait=2s --events").ended(5);
    let lines: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (document, events) = lines.split_last().unwrap();
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["plan", "step-begin", "step-end"]);
    assert_eq!(kinds.last(), Some(&"phase"));
    let steps = document["step_details"].as_array().unwrap();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "step-end").count(),
        steps.len()
    );
    assert!(
        steps.iter().all(|step| step["state"] == "done"),
        "{document:#}"
    );
    for (pointer, expected) in [
        ("/changed", true.into()),
        ("/ready", false.into()),
        ("/phase", "booting".into()),
        ("/name", vm.name.as_str().into()),
        ("/address", vm.fill("@ip").into()),
        ("/uri", vm.fill("@uri").into()),
        ("/error/exit_code", 5.into()),
        ("/error/messages/0/id", "not-ready".into()),
    ] {
        let expected: Value = expected;
        assert_eq!(document.pointer(pointer), Some(&expected), "{pointer}");
    }

    // Where there was nothing to do, and where it is refused, too.
    let waited = vm.lbctl("up --wait=1s --json").ended(5).document();
    for (key, expected) in [
        ("changed", Value::from(false)),
        ("empty", true.into()),
        ("ready", false.into()),
        ("phase", "booting".into()),
        ("address", vm.fill("@ip").into()),
    ] {
        assert_eq!(waited[key], expected, "{key}: {waited:#}");
    }
    vm.change("memory = 320");
    let refused = vm.lbctl("up --json").ended(4).document();
    assert_eq!(refused["error"]["messages"][0]["id"], "restart-needed");
    assert_eq!(refused["changed"], false);
    assert_eq!(refused["changes"][0]["class"], "restart", "{refused:#}");
    let steps = refused["step_details"].as_array().unwrap();
    assert!(!steps.is_empty() && steps.iter().all(|step| step["state"] == "skipped"));
}

#[test]
fn the_journal_of_a_guest_without_an_agent_is_said_to_be_out_of_reach() {
    let vm = Sandbox::new();
    vm.lbctl("logs").ended(1).says(&[
        "error: @vm: the domain does not exist, so its journal cannot be read",
        "`lbctl up --wait` creates it",
    ]);
    vm.up();
    vm.lbctl("logs").ended(1).says(&[
        "error: @vm: the journal cannot be read: ",
        "a guest that boots has no agent yet; `lbctl console` needs none",
    ]);
    vm.virsh("suspend @vm").ok();
    vm.lbctl("logs").ended(1).says(&[
        "error: @vm: the domain is paused, so its journal cannot be read",
        "`lbctl up` resumes it",
    ]);
    vm.virsh("destroy @vm").ok();
    vm.lbctl("logs").ended(1).says(&[
        "error: @vm: the domain is shut off, so its journal cannot be read",
        "`lbctl up --wait` starts it",
    ]);
}

#[test]
fn a_handover_says_why_this_vm_can_give_nothing_away() {
    let mut vm = Sandbox::new();
    let address = "virtual_ip = { address = '@subnet.30', peers = ['@subnet.31'] }";
    vm.change(address);
    let refused = |vm: &Sandbox, code: i32, why: &str, help: &str| {
        vm.lbctl("handover").ended(code).says(&[why, help]);
    };
    let so = |state: &str| format!("@vm: the domain {state}, so it cannot give @subnet.30 away");
    refused(
        &vm,
        1,
        &so("does not exist"),
        "`lbctl up --wait` creates it",
    );
    vm.up();
    refused(
        &vm,
        1,
        "its agent does not answer",
        "`lbctl status` shows how the guest is",
    );
    vm.virsh("suspend @vm").ok();
    refused(&vm, 1, &so("is paused"), "`lbctl up` resumes it");
    vm.virsh("destroy @vm").ok();
    refused(&vm, 1, &so("is shut off"), "`lbctl up --wait` starts it");
    vm.lbctl("down --yes --delete-volume").ok();
    let foreign = "<domain type='qemu'><name>@vm</name><memory>65536</memory><os><type>hvm</type></os></domain>";
    vm.write("foreign.xml", &vm.fill(foreign));
    vm.virsh("define @home/foreign.xml").ok();
    refused(
        &vm,
        4,
        "already exists, and lbctl did not make it",
        "lbctl adopt",
    );
    vm.virsh("undefine @vm").ok();
}

#[test]
fn every_vm_is_listed_with_its_configuration_or_without() {
    let vm = Sandbox::new();
    let uri = vm.fill("@uri");
    let list = |arguments: &[&str]| {
        let first = ["--connect", &uri, "list"].map(str::to_owned);
        let more = arguments.iter().map(|argument| vm.fill(argument));
        let ran = lbctl(first.into_iter().chain(more));
        ran.with_words(vm.words())
    };
    let file = vm.fill("@home/lbctl.toml");
    list(&[&file]).ok().says(&["@vm", "absent"]);
    vm.up();
    let listed = list(&["--only", "@vm", "--json", "@home"]).ok().document();
    let [of_vm] = listed["vms"].as_array().unwrap().as_slice() else {
        panic!("{listed:#}");
    };
    assert_eq!(of_vm["relation"], "managed");
    assert_eq!(of_vm["state"], "running");
    assert_eq!(of_vm["layout_is_current"], true);
    assert_eq!(of_vm["version"], env!("CARGO_PKG_VERSION"));
    list(&[&file])
        .ok()
        .says(&["lbctl", env!("CARGO_PKG_VERSION")]);
    assert_eq!(of_vm["address"], vm.fill("@ip").as_str());
    assert_eq!(of_vm["files"][0], file.as_str());
    assert_eq!(listed["complete"], true);
    // Without its configuration, and with one that is wrong.
    fs::create_dir(vm.home.path().join("empty")).unwrap();
    let orphan = list(&["--only", "@vm", "@home/empty"]).ok();
    orphan.says(&["note: @vm: lbctl made it, and no configuration describes it; "]);
    vm.write("empty/wrong.toml", "name = 1\n");
    let wrong = list(&["--only", "@vm", "@home/empty"]).ended(2);
    wrong.says(&[
        "note: @vm: lbctl made it, and no configuration that could be read describes it; ",
        "error: @home/empty/wrong.toml: ",
    ]);
    // A domain of its name that lbctl did not make; and the seed without it.
    vm.virsh("destroy @vm; undefine @vm").ok();
    list(&[&file]).ok().says(&[
        "@vm",
        "absent",
        "note: seed @pool/@seed of @vm: no domain of this host has it",
        "`lbctl up` uses it",
    ]);
    let left = list(&["--only", "@vm", "@home/empty", "--json"])
        .ended(2)
        .document();
    assert_eq!(
        left["seeds_without_domain"][0]["volume"],
        vm.fill("@pool/@seed").as_str()
    );
    vm.write(
        "foreign.xml",
        &vm.fill("<domain type='qemu'><name>@vm</name><memory>65536</memory><os><type>hvm</type></os></domain>"),
    );
    vm.virsh("define @home/foreign.xml").ok();
    list(&[&file]).ok().says(&[
        "shut off, not lbctl's",
        "note: @vm: lbctl did not make the domain of this name",
    ]);
    // A host that is not there keeps no other from being listed.
    let nowhere = "qemu+unix:///system?socket=/nonexistent";
    let config = fs::read_to_string(&file).unwrap();
    vm.write("away.toml", &config.replace(&uri, nowhere));
    let away = vm.fill("@home/away.toml");
    lbctl(["list", &file, &away])
        .ended(1)
        .says(&["shut off, not lbctl's", "unknown", "error: "]);
    // What another host has is nothing that this one could say.
    lbctl(["--connect", nowhere, "list", &file])
        .ended(1)
        .says(&["no host was reached", "error: "]);
}

/// A boot sector that answers each key with the next letter, by the first serial port: it waits for
/// a byte (0x3fd, bit 0), takes it (0x3f8), adds one, and writes it.
const NEXT_LETTER: [u8; 17] = [
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, 0xba, 0xf8, 0x03, 0xec, 0x04, 0x01, 0xee, 0xeb,
    0xef,
];

/// A sandbox whose guest is that boot sector.
fn that_answers() -> Sandbox {
    let mut vm = Sandbox::new();
    let mut disk = vec![0; 1024 * 1024];
    disk[..NEXT_LETTER.len()].copy_from_slice(&NEXT_LETTER);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(vm.home.path().join("disk.img"), disk).unwrap();
    vm.virsh("vol-create-as @pool answers 1M --format raw; vol-upload answers @home/disk.img --pool @pool")
        .ok();
    vm.leave_out("volume");
    vm.change("volume_id = \"@pool/answers\"\nvolume_format = \"raw\"");
    vm
}

/// Runs a shell's line on a terminal, which must be afterwards as it was; for the steps see
/// tests/lab/on-a-terminal.
fn on_a_terminal(vm: &Sandbox, line: &str, steps: &[&str]) -> Ran {
    let lbctl = format!("{} -c @home/lbctl.toml", env!("CARGO_BIN_EXE_lbctl"));
    let line = vm.fill(&line.replace("lbctl ", &format!("{lbctl} ")));
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/on-a-terminal");
    let steps = steps.iter().map(|step| vm.fill(step));
    let line = format!("{line}; echo exit $?");
    run(program, std::iter::once(line).chain(steps))
        .with_words(vm.words())
        .ok()
}

#[test]
fn the_console_is_on_this_terminal_which_is_as_it_was_afterwards() {
    let vm = that_answers();
    vm.lbctl("console")
        .ended(2)
        .says(&["error: `lbctl console` needs a terminal"]);
    on_a_terminal(&vm, "lbctl console", &["see the domain does not exist"]);
    vm.up();
    on_a_terminal(
        &vm,
        "lbctl console",
        &[
            "see Ctrl-] leaves it",
            // Until it has booted it takes none.
            "ask h i",
            "type al",
            "see bm",
            "type \\x1d",
            "see left its console",
            "see exit 0",
        ],
    );
    // By a signal, too.
    on_a_terminal(
        &vm,
        "exec 3<&0; lbctl console <&3 & p=$!; while [ ! -e @home/seen ]; do sleep 0.1; done; kill -TERM $p; wait $p",
        &["see Ctrl-] leaves it", "touch @home/seen", "see exit 143"],
    );
    // The guest's end is its end.
    on_a_terminal(
        &vm,
        "(while [ ! -e @home/open ]; do sleep 0.1; done; virsh -c @uri destroy @vm >/dev/null) & lbctl console",
        &[
            "see Ctrl-] leaves it",
            "touch @home/open",
            "see its console has ended: the domain is shut off",
            "see exit 0",
        ],
    );
}

#[test]
fn a_console_that_another_has_is_taken_over_only_if_that_is_asked_for() {
    let vm = that_answers();
    vm.up();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let steps = [
                "see Ctrl-] leaves it",
                "touch @home/open",
                "see its console has ended, and the domain is running",
                "see exit 1",
            ];
            on_a_terminal(&vm, "lbctl console", &steps)
        });
        let open = vm.home.path().join("open");
        while !open.exists() && !first.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let steps = ["see another program has its console open", "see exit 4"];
        on_a_terminal(&vm, "lbctl console", &steps);
        let steps = [
            "see Ctrl-] leaves it",
            "type \\x1d",
            "see left its console",
            "see exit 0",
        ];
        on_a_terminal(&vm, "lbctl console --force", &steps);
        first.join().unwrap();
    });
}
