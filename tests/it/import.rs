//! `lbctl import`: from a VM of the Terraform module's, in all its forms, to a configuration that
//! `lbctl check` takes; and what is refused, without a libvirt. tests/it/libvirt/import.rs has the
//! rest.

pub mod module;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use lbctl::testing::config::{MemoryInputs, VolumeRef, parse};
use lbctl::testing::host::{HostReader as _, HostWriter as _};
use lbctl::testing::import::{
    ChoiceError, Chosen, Imported, State, Wanted, choose, from_host, import,
};
use serde_json::json;
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::support::search::Search;
use crate::support::{Ran, lbctl};
use module::{
    CA_KEY, CA_PEM, CLIENT_PEM, Cards, Generation, Module, NAME, PASSWORD, REGISTRY_PASSWORD,
    Resource, SHARED_KEY, UUID, as_it_is, as_sha1, shown, version_4,
};

const GENERATIONS: [Generation; 3] = [Generation::Single, Generation::Parts, Generation::Journal];
const CARDS: [Cards; 3] = [Cards::Dhcp, Cards::Static, Cards::Macvtap];

fn plain() -> Module {
    Module::new(Generation::Parts, Cards::Dhcp)
}

fn of_host(module: Module) -> Imported {
    let host = module.host();
    let domain = host.domain(NAME).unwrap().unwrap();
    let found = from_host(&host, &domain).unwrap();
    import(Some(found), None, "the host", None)
}

fn of_state(state: &[u8]) -> Imported {
    let state = State::parse(state).unwrap();
    let chosen = choose(&state, &Wanted::default()).unwrap();
    import(None, Some((&state, &chosen)), "a state", None)
}

fn of_both(module: Module) -> Imported {
    let host = module.host();
    let domain = host.domain(NAME).unwrap().unwrap();
    let found = from_host(&host, &domain).unwrap();
    let state = State::parse(&module.state()).unwrap();
    let wanted = Wanted {
        uuid: Some(&domain.uuid),
        name: Some(NAME),
        address: None,
    };
    let chosen = choose(&state, &wanted).unwrap();
    import(Some(found), Some((&state, &chosen)), "both", None)
}

/// The keys of which `lbctl check` says anything: none, where it is whole.
fn problems(imported: &Imported) -> Vec<String> {
    let files = imported.written.files.iter();
    let inputs = MemoryInputs {
        files: files
            .map(|(name, content)| ((*name).into(), Ok(content.text().into())))
            .collect(),
        ..MemoryInputs::default()
    };
    let text = &imported.written.text;
    match parse(text, "lbctl.toml", &inputs, OffsetDateTime::now_utc()) {
        Ok(loaded) => loaded.warnings.into_iter().map(|w| w.key).collect(),
        Err(report) => report.problems.into_iter().map(|p| p.key).collect(),
    }
}

/// The lines that are settings.
fn settings(imported: &Imported) -> Vec<String> {
    let lines = imported.written.text.lines();
    let bare = lines.map(|line| line.split("  #").next().unwrap().to_owned());
    bare.filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect()
}

#[test]
fn every_form_of_the_module_becomes_a_valid_configuration() {
    for generation in GENERATIONS {
        for cards in CARDS {
            let module = Module::new(generation, cards);
            let imported = of_both(module);
            assert_eq!(imported.differences, [""; 0]);
            assert_eq!(problems(&imported), [""; 0], "{}", imported.written.text);
            golden(&module.file_name(), &imported.written.text);
        }
    }
    let full = Module {
        is_full: true,
        ..Module::new(Generation::Journal, Cards::Static)
    };
    let imported = of_both(full);
    assert_eq!(problems(&imported), [""; 0], "{}", imported.written.text);
    golden("full.toml", &imported.written.text);
}

/// `LBCTL_BLESS=1` accepts what differs.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/import")
        .join(name);
    if std::env::var_os("LBCTL_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{name} differs; LBCTL_BLESS=1 accepts:\n{text}"
    );
}

#[test]
fn the_host_and_a_state_say_the_same() {
    for generation in GENERATIONS {
        for cards in CARDS {
            let module = Module {
                is_full: cards == Cards::Dhcp,
                ..Module::new(generation, cards)
            };
            let (host, state) = (of_host(module), of_state(&module.state()));
            let of_state = settings(&state)
                .join("\n")
                .replace("machine = \"pc\"", "machine = \"pc-i440fx-7.2\"");
            assert_eq!(settings(&host).join("\n"), of_state);
            assert_eq!(problems(&state), [""; 0], "{}", state.written.text);
            // The one thing that no host knows.
            let missing: Vec<&str> = host
                .written
                .missing
                .iter()
                .map(|m| m.key.as_str())
                .collect();
            assert_eq!(missing, ["haproxy.patroni_client.ca_key"]);
            assert_eq!(problems(&host), missing);
        }
    }
}

#[test]
fn the_key_of_the_ca_is_found_by_each_version_of_the_tls_provider() {
    let expected = settings(&of_both(plain())).join("\n");
    let key = |imported: &Imported| {
        let mut files = imported.written.files.iter();
        let (_, content) = files.find(|(name, _)| *name == "ca.key").unwrap();
        content.text().to_owned()
    };
    let of_3 = plain().resources("module.postgres_lb_1", as_sha1);
    // The certificate is not the module's own: any key that fits the CA's certificate.
    let without: Vec<Resource> = of_3
        .iter()
        .filter(|resource| resource.kind != "tls_locally_signed_cert")
        .cloned()
        .collect();
    for state in [version_4(&of_3), shown(&of_3), version_4(&without)] {
        let imported = of_state(&state);
        let said = settings(&imported).join("\n");
        assert_eq!(said.replace("\"pc\"", "\"pc-i440fx-7.2\""), expected);
        assert_eq!(key(&imported), CA_KEY);
    }
    let none: Vec<Resource> = without
        .into_iter()
        .filter(|resource| resource.kind != "tls_private_key")
        .collect();
    let imported = of_state(&version_4(&none));
    assert_eq!(
        imported.written.missing[0].key,
        "haproxy.patroni_client.ca_key"
    );
    assert!(
        imported
            .written
            .text
            .contains("# TODO: put it into the file ca.key")
    );
}

#[test]
fn the_host_wins_and_the_state_is_told() {
    let host = plain().host();
    let domain = host.domain(NAME).unwrap().unwrap();
    let found = from_host(&host, &domain).unwrap();
    let mut resources = plain().resources("module.postgres_lb_1", as_it_is);
    for resource in &mut resources {
        if resource.kind == "libvirt_domain" {
            resource.values["memory"] = 1024.into();
        }
    }
    let state = State::parse(&version_4(&resources)).unwrap();
    let chosen = choose(&state, &Wanted::default()).unwrap();
    let imported = import(Some(found), Some((&state, &chosen)), "both", None);
    assert_eq!(
        imported.differences,
        ["memory is 512 on the host, and 1024 in the state"]
    );
    assert!(imported.written.text.contains("\nmemory = 512\n"));
}

/// Terraform's addresses, quoted, and what must leave the files.
#[test]
fn how_a_vm_leaves_terraform() {
    let leaving = |resources: &[Resource]| of_state(&version_4(resources)).leaving.unwrap();
    let in_module = leaving(&plain().resources("module.postgres_lb_1", as_it_is));
    assert_eq!(
        in_module.state_rm.as_deref(),
        Some("terraform state rm module.postgres_lb_1 libvirt_volume.postgres_lb_1")
    );
    assert_eq!(in_module.removed.len(), 2);
    assert!(in_module.removed[0].contains("from = module.postgres_lb_1\n"));
    assert_eq!(
        in_module.take_out,
        [
            "module \"postgres_lb_1\"",
            "resource \"libvirt_volume\" \"postgres_lb_1\""
        ]
    );

    let mut keyed = plain().resources("module.lbs[\"it's\"]", as_it_is);
    for resource in &mut keyed {
        match resource.kind {
            "libvirt_volume" => resource.index = Some(0.into()),
            "libvirt_domain" => resource.is_tainted = true,
            _ => {}
        }
    }
    let keyed = leaving(&keyed);
    assert_eq!(
        keyed.state_rm.as_deref(),
        Some(r#"terraform state rm 'module.lbs["it'\''s"]' 'libvirt_volume.postgres_lb_1[0]'"#)
    );
    assert_eq!(keyed.removed, [""; 0]);
    assert!(keyed.notes[0].contains("TAINTED"));
    assert!(keyed.take_out[1].contains("the instance 0 of resource"));

    // Without a module, and in one that holds more than this VM, each resource goes by itself.
    let root = leaving(&plain().resources("", as_it_is));
    assert_eq!(
        root.state_rm.as_deref(),
        Some(
            "terraform state rm libvirt_domain.postgres_lb_node libvirt_cloudinit_disk.postgres_lb_node \
             libvirt_volume.postgres_lb_1"
        )
    );
    let mut shared = plain().resources("module.stack", as_it_is);
    let network = Resource {
        kind: "libvirt_network",
        values: json!({}),
        ..shared.last().unwrap().clone()
    };
    shared.push(network);
    let shared = leaving(&shared);
    assert!(
        shared
            .state_rm
            .unwrap()
            .contains("module.stack.libvirt_domain.postgres_lb_node ")
    );

    let mut hostile = plain().resources("module.x\u{1b}[2J", as_it_is);
    hostile.truncate(6);
    assert_eq!(leaving(&hostile).state_rm, None);
}

#[test]
fn which_vm_is_meant() {
    let a = plain().resources("module.lbs[\"a\"]", as_it_is);
    let mut b = plain().resources("module.lbs[\"b\"]", as_it_is);
    for resource in &mut b {
        if resource.kind == "libvirt_domain" {
            resource.values["name"] = "postgres-lb-2".into();
            resource.values["id"] = "22222222-2222-3333-4444-555555555555".into();
        }
    }
    let mut other = a
        .iter()
        .find(|r| r.kind == "libvirt_domain")
        .unwrap()
        .clone();
    other.module = String::new();
    other.values["cloudinit"] = "".into();
    other.values["name"] = "web".into();
    other.values["id"] = "33333333-2222-3333-4444-555555555555".into();
    let all: Vec<Resource> = a.into_iter().chain(b).chain([other]).collect();
    let state = State::parse(&version_4(&all)).unwrap();
    let chosen = |wanted: Wanted<'_>| {
        let chosen: Result<Chosen<'_>, ChoiceError> = choose(&state, &wanted);
        chosen.map(|chosen| chosen.domain.address.to_string())
    };
    let address = |address| Wanted {
        address: Some(address),
        ..Wanted::default()
    };
    let of_a = r#"module.lbs["a"].libvirt_domain.postgres_lb_node"#;
    let of_b = r#"module.lbs["b"].libvirt_domain.postgres_lb_node"#;
    let several = Err(ChoiceError::Several(vec![of_a.into(), of_b.into()]));
    assert_eq!(chosen(Wanted::default()), several);
    assert_eq!(chosen(address("module.lbs")), several);
    assert_eq!(chosen(address(r#"module.lbs["b"]"#)), Ok(of_b.into()));
    assert_eq!(chosen(address(of_a)), Ok(of_a.into()));
    let web = "libvirt_domain.postgres_lb_node";
    assert_eq!(chosen(address(web)), Ok(web.into()));
    let of_host = |name, uuid| Wanted {
        address: None,
        name: Some(name),
        uuid,
    };
    assert_eq!(chosen(of_host("postgres-lb-2", None)), Ok(of_b.into()));
    // The uuid says more than the name.
    assert_eq!(chosen(of_host("web", Some(UUID))), Ok(of_a.into()));
    let none = Err(ChoiceError::None(vec![
        web.into(),
        of_a.into(),
        of_b.into(),
    ]));
    let sorted = |result: Result<String, ChoiceError>| match result {
        Err(ChoiceError::None(mut list)) => {
            list.sort();
            Err(ChoiceError::None(list))
        }
        other => other,
    };
    assert_eq!(sorted(chosen(address("module.nothing"))), none);
    assert_eq!(sorted(chosen(of_host("nothing", None))), none);
}

/// virt-install's, kcli's, or made by hand.
#[test]
fn any_other_domain_gives_a_skeleton_that_says_what_it_cannot_express() {
    let xml = plain()
        .domain_xml()
        .replace(
            "<devices>",
            "<metadata><k:info xmlns:k='kcli'/></metadata><devices><hostdev mode='subsystem' type='pci'/>\
             <disk type='file' device='disk'><source file='/data.img'/><target dev='vdb' bus='virtio'/></disk>\
             <interface type='bridge'><source bridge='br0'/><mac address='52:54:00:de:e3:6c'/></interface>\
             <interface type='user'><mac address='52:54:00:de:e3:6d'/></interface>",
        )
        .replace("<boot dev='hd'/>", "<loader type='pflash'>/x</loader>")
        .replace("postgres-lb-1-cloud-init.iso", "nothing.iso");
    let host = plain().host();
    host.define(NAME, &xml).unwrap();
    let domain = host.domain(NAME).unwrap().unwrap();
    let found = from_host(&host, &domain).unwrap();
    let imported = import(
        Some(found),
        None,
        "the host",
        Some("qemu+ssh://root@kvm1/system"),
    );
    assert!(!imported.is_load_balancer);
    let text = &imported.written.text;
    for words in [
        "more than one disk",
        "hostdev",
        "boots by UEFI",
        "(kcli)",
        "nothing.iso, is in no pool",
        "kind for which lbctl has no key: user",
        "another order",
        "no configuration of HAProxy",
    ] {
        assert!(
            imported.notes.iter().any(|n| n.contains(words)),
            "{words}: {:#?}",
            imported.notes
        );
    }
    for line in [
        "\nname = \"postgres-lb-1\"\n",
        "\nuri = \"qemu+ssh://root@kvm1/system\"\n",
        "\n[[bridge_interfaces]]\nbridge = \"br0\"\ndhcp = true\n",
        "\n# TODO: postgres_domain = \"server.postgres.local\"  # ",
        "\n# TODO: ca_key = { file = ",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let missing: Vec<&str> = imported
        .written
        .missing
        .iter()
        .map(|m| m.key.as_str())
        .collect();
    assert!(missing.contains(&"cloud_init_volume_pool"), "{missing:?}");
    // Filled in, it is one.
    let whole: String = text
        .lines()
        .map(|line| line.strip_prefix("# TODO: ").unwrap_or(line).to_owned() + "\n")
        .collect();
    let inputs = MemoryInputs {
        files: [("patroni-ca.key", CA_KEY), ("patroni-ca.crt", CA_PEM)]
            .map(|(name, text)| (name.into(), Ok(text.into())))
            .into(),
        ..MemoryInputs::default()
    };
    let loaded = parse(&whole, "lbctl.toml", &inputs, OffsetDateTime::now_utc());
    if let Err(report) = loaded {
        panic!("{}\n{whole}", report.render(false, None));
    }
}

#[test]
fn a_seed_that_vanishes_before_it_is_read_is_told() {
    let host = plain().host();
    let domain = host.domain(NAME).unwrap().unwrap();
    let seed = VolumeRef {
        pool: "default".into(),
        name: format!("{NAME}-cloud-init.iso"),
    };
    host.list_without_file(&seed, 0);
    let imported = import(
        Some(from_host(&host, &domain).unwrap()),
        None,
        "the host",
        None,
    );
    let told = "CD-ROM drive is not there any more";
    let notes = &imported.notes;
    assert!(notes.iter().any(|note| note.contains(told)), "{notes:#?}");
    assert!(
        imported
            .written
            .text
            .contains(&format!("\nname = \"{NAME}\"\n"))
    );
}

#[test]
fn reading_changes_nothing() {
    let host = plain().host();
    let before = host.changes();
    let domain = host.domain(NAME).unwrap().unwrap();
    from_host(&host, &domain).unwrap();
    assert_eq!(host.changes(), before);
}

/// A folder with a state in it, and lbctl run there.
struct Desk(TempDir);

impl Desk {
    fn new(state: &[u8]) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        fs::write(desk.at("state"), state).unwrap();
        desk
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn import(&self, more: &[&str]) -> Ran {
        let state = self.at("state");
        lbctl([&["import", "--state", &state], more].concat())
    }
}

#[test]
fn files_of_secrets_are_for_their_owner_and_nothing_is_overwritten() {
    let full = Module {
        is_full: true,
        ..plain()
    };
    let desk = Desk::new(&full.state());
    let out = desk.at("new/lb");
    let ran = desk.import(&["--out", &out]).ok();
    ran.says(&[
        "postgres-lb-1: lbctl.toml is valid",
        "terraform state rm module.postgres_lb_1 libvirt_volume.postgres_lb_1",
        "resource \"libvirt_volume\" \"postgres_lb_1\"",
    ]);
    let mut modes = Vec::new();
    for entry in fs::read_dir(&out).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        modes.push((entry.file_name().into_string().unwrap(), mode));
    }
    modes.sort();
    let expected = [
        ("admin-password", 0o600),
        ("admin.pub", 0o644),
        ("ca.crt", 0o644),
        ("ca.key", 0o600),
        ("fluentd-ca.crt", 0o644),
        ("fluentd-shared-key", 0o600),
        ("lbctl.toml", 0o644),
        ("registry-password", 0o600),
    ];
    assert_eq!(modes, expected.map(|(name, mode)| (name.to_owned(), mode)));
    let folder = fs::metadata(&out).unwrap().permissions().mode() & 0o777;
    assert_eq!(folder, 0o700);
    assert_eq!(
        fs::read_to_string(desk.at("new/lb/ca.key")).unwrap(),
        CA_KEY
    );
    assert_eq!(
        fs::read_to_string(desk.at("new/lb/registry-password")).unwrap(),
        REGISTRY_PASSWORD
    );
    lbctl(["-c", &desk.at("new/lb/lbctl.toml"), "check"]).ok();

    fs::write(desk.at("new/lb/lbctl.toml"), "mine").unwrap();
    desk.import(&["--out", &out])
        .ended(4)
        .says(&["lbctl.toml is there already, and nothing is overwritten"]);
    assert_eq!(
        fs::read_to_string(desk.at("new/lb/lbctl.toml")).unwrap(),
        "mine"
    );
}

#[test]
fn a_state_comes_by_standard_input_too() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lbctl"))
        .args(["import", "--state", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&plain().state())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["valid"], true);
    assert_eq!(
        document["terraform"]["take_out"][0],
        "module \"postgres_lb_1\""
    );
}

#[test]
fn documents_are_as_the_schema_describes_them() {
    let whole = Desk::new(&plain().state())
        .import(&["--json"])
        .ok()
        .document();
    assert_eq!(whole["of_module"], true);
    assert!(
        whole["config"]
            .as_str()
            .unwrap()
            .contains("name = \"postgres-lb-1\"")
    );
    let mut resources = plain().resources("module.lb", as_it_is);
    resources.retain(|r| r.kind != "tls_private_key" && r.kind != "tls_locally_signed_cert");
    let desk = Desk::new(&version_4(&resources));
    let part = desk
        .import(&["--json", "--out", &desk.at("out")])
        .ended(2)
        .document();
    assert_eq!(part["valid"], false);
    assert_eq!(part["missing"][0]["key"], "haproxy.patroni_client.ca_key");
    assert_eq!(part["problems"], json!([]));
    assert_eq!(part["config"], json!(null));
}

#[test]
fn what_is_no_state_or_no_single_vm_is_refused_in_words() {
    let two = [
        plain().resources("module.a", as_it_is),
        plain().resources("module.b", as_it_is),
    ];
    let mut plan = json!({"format_version": "1.2", "planned_values": {}});
    plan["x"] = "y".into();
    let deep = format!("{{\"version\": 4, \"resources\": {}", "[".repeat(100_000));
    let whole = plain().state();
    for (state, words) in [
        (&b""[..], "is empty or cut off"),
        (&whole[..whole.len() / 2], "cut off: it ends in the middle"),
        (b"resource \"x\" {}", "is not JSON (line 1"),
        (
            b"{\"version\": 3, \"modules\": []}",
            "is a state of version 3, and lbctl reads version 4",
        ),
        (b"{\"encryption_version\": \"v0\"}", "is an encrypted state"),
        (plan.to_string().as_bytes(), "is a plan and not a state"),
        (b"[]", "is no state of Terraform"),
        (deep.as_bytes(), "is nested more than"),
        (&vec![b' '; 17 << 20], "is longer than 16 MiB"),
        (
            b"{\"version\": 4, \"resources\": []}",
            "has no libvirt_domain",
        ),
        (
            &version_4(&two.concat()),
            "module.b.libvirt_domain.postgres_lb_node",
        ),
    ] {
        let desk = Desk::new(state);
        desk.import(&["--out", &desk.at("out")])
            .ended(2)
            .says(&[words]);
        assert!(!fs::exists(desk.at("out")).unwrap(), "{words}");
    }
    let nothing = lbctl(["import", "--state", "/nowhere/state"]).ended(2);
    nothing.says(&["reading the state /nowhere/state: No such file or directory"]);
    lbctl(["import"]).ended(2).says(&["--domain", "--state"]);
    lbctl(["import", "--domain", "x", "--address", "y"]).ended(2);
}

/// Names with what drives a terminal, or ends a text of TOML, get no further than their value.
#[test]
fn hostile_names_stay_in_their_values() {
    let nasty = "a\u{1b}[2J\0\"\"\"'''\n[libvirt]\nuri = \"x\"\u{202e}";
    let mut resources = plain().resources("module.lb", as_it_is);
    for resource in &mut resources {
        for key in [
            "name",
            "pool",
            "base_volume_name",
            "machine",
            "network_name",
        ] {
            if resource.values.get(key).is_some() {
                resource.values[key] = nasty.into();
            }
        }
        if resource.kind == "libvirt_domain" {
            resource.values["network_interface"][0]["network_name"] = nasty.into();
        }
    }
    let state = version_4(&resources);
    let imported = of_state(&state);
    let tree: toml::Table = toml::from_str(&imported.written.text).unwrap();
    assert_eq!(tree["name"].as_str(), Some(nasty));
    assert_eq!(tree["libvirt"].get("uri"), None);
    assert!(!imported.written.text.contains(['\u{1b}', '\0']));
    let ran = Desk::new(&state).import(&[]).ended(2);
    assert!(!ran.stderr.contains(['\u{1b}', '\u{202e}']), "{ran}");
}

#[test]
fn no_secret_is_printed() {
    let full = Module {
        is_full: true,
        ..plain()
    };
    let mut search = Search::new(NAME);
    search.secret("the administrator's password", PASSWORD);
    search.secret("the registry's password", REGISTRY_PASSWORD);
    search.secret(
        "the registry's login",
        &format!("lbops:{REGISTRY_PASSWORD}"),
    );
    search.secret("fluentd's key", SHARED_KEY);
    search.key("the CA's key", CA_KEY);
    let (_, client) = CLIENT_PEM.split_once("-----END CERTIFICATE-----").unwrap();
    search.key("the client's key", client);
    let desk = Desk::new(&full.state());
    let cut = full.state();
    let broken = Desk::new(&cut[..cut.len() - 100]);
    let out = desk.at("out");
    let commands: [&[&str]; 6] = [
        &[],
        &["--json"],
        &["-vv", "--color=always"],
        &["--address", "module.none"],
        &["--out", &out],
        &["--out", &out, "--json"],
    ];
    for command in commands {
        for desk in [&desk, &broken] {
            let ran = desk.import(command);
            let said = [ran.stdout, ran.stderr].concat();
            let kind = if said.contains(NAME) {
                "output"
            } else {
                "output of an error"
            };
            search.place(
                "output of import",
                &format!("{kind}: {}", command.join(" ")),
                said,
            );
        }
    }
    let text = fs::read(desk.at("out/lbctl.toml")).unwrap();
    search.place("the configuration", "lbctl.toml", text);
    let imported = of_state(&full.state());
    search.place("Debug", "Imported", format!("{imported:?}"));
    let state = State::parse(&full.state()).unwrap();
    let chosen = choose(&state, &Wanted::default()).unwrap();
    search.place("Debug", "Chosen", format!("{chosen:?} {NAME}"));
    search.place("Debug", "State", format!("{state:?} {NAME}"));
    search.nothing_found();
}
