//! `extends`: what comes from which file, and where problems are said to be.

use std::path::PathBuf;

use lbctl::testing::config::{Loaded, MemoryInputs, Report, parse};

use crate::support::inputs::{inputs, now};

const BASE: &str = r#"
volume_id = "default/lb-1"
cloud_init_volume_pool = "default"
ssh_admin_public_key = { file = "admin.pub" }
memory = 1024

[libvirt_network]
network_name = "default"

[haproxy]
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["192.168.122.161", "192.168.122.160"]
postgres_domain = "server.postgres.local"

[haproxy.patroni_client]
ca_key = { file = "ca.key" }
ca_certificate = { file = "ca.crt" }
certificate_validity_period = 8760
certificate_early_renewal_period = 720
"#;

const OVER: &str = r#"extends = "common/base.toml"
name = "lb-2"
memory = 2048

[libvirt_network]
ip = "192.168.122.163"

[haproxy]
postgres_nameserver_ips = ["192.168.122.9"]
"#;

/// The files of the tests below `common` as well, and those given.
fn with(files: &[(&str, &str)]) -> MemoryInputs {
    let mut all = inputs();
    let below: Vec<_> = all.files.clone().into_iter().collect();
    for (path, content) in below {
        all.files
            .insert(PathBuf::from("common").join(path), content);
    }
    // What stands beside the base alone is found only from there.
    for name in ["admin.pub", "ca.key", "ca.crt"] {
        all.files.remove(&PathBuf::from(name));
    }
    for (path, text) in files {
        all.files
            .insert(PathBuf::from(path), Ok(text.as_bytes().to_vec()));
    }
    all
}

fn load(text: &str, files: &[(&str, &str)]) -> Result<Loaded, Report> {
    parse(text, "lbctl.toml", &with(files), now())
}

fn refused(text: &str, files: &[(&str, &str)]) -> String {
    load(text, files).expect_err("refused").render(false, None)
}

#[test]
fn a_file_has_the_keys_of_the_one_that_it_extends_but_for_its_own() {
    let config = load(OVER, &[("common/base.toml", BASE)]).unwrap().config;
    assert_eq!(config.name.as_str(), "lb-2");
    assert_eq!(format!("{:?}", config.memory), "MemoryMib(2048)");
    let whole = format!("{config:?}");
    // A list is replaced whole; the rest of its table stays.
    assert!(whole.contains("192.168.122.9"), "{whole}");
    assert!(!whole.contains("192.168.122.161"), "{whole}");
    assert!(whole.contains("server.postgres.local"), "{whole}");
}

#[test]
fn a_chain_is_followed_and_each_path_starts_at_its_own_folder() {
    let middle = format!("extends = \"deep/er.toml\"\n{}", "vcpus = 4\n");
    let base = BASE.replace("{ file = \"", "{ file = \"../");
    let files = [
        ("common/base.toml", middle.as_str()),
        ("common/deep/er.toml", &base),
    ];
    let mut inputs = with(&files);
    for name in ["admin.pub", "ca.key", "ca.crt"] {
        let content = inputs.files[&PathBuf::from("common").join(name)].clone();
        inputs
            .files
            .insert(PathBuf::from("common/deep/..").join(name), content);
    }
    let loaded = parse(OVER, "lbctl.toml", &inputs, now()).unwrap();
    assert_eq!(format!("{:?}", loaded.config.vcpus), "CpuCount(4)");
}

#[test]
fn a_problem_is_in_the_file_that_it_is_in() {
    let base = BASE.replace("memory = 1024", "memroy = 1024");
    let said = refused(OVER, &[("common/base.toml", &base)]);
    assert!(said.contains("--> common/base.toml:5:1\n"), "{said}");
    let over = OVER.replace("lb-2", "lb 2");
    let said = refused(&over, &[("common/base.toml", BASE)]);
    assert!(said.contains("--> lbctl.toml:2:8\n"), "{said}");
    // Two places in two files.
    let over = OVER.replace(
        "memory = 2048",
        "[volume]\nname = \"x\"\npool = \"p\"\nbase_volume_name = \"b\"",
    );
    let said = refused(&over, &[("common/base.toml", BASE)]);
    assert!(said.contains("--> common/base.toml:2:13\n"), "{said}");
    assert!(said.contains("::: lbctl.toml:3:1\n"), "{said}");
    // Not even TOML.
    let said = refused(OVER, &[("common/base.toml", "a = \n")]);
    assert!(said.contains("--> common/base.toml:1:"), "{said}");
    // A secret of the base is hidden in its own lines.
    let base = BASE.replace("memory = 1024", "admin_user_pasword = \"hunter2\"");
    let said = refused(OVER, &[("common/base.toml", &base)]);
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn what_cannot_be_extended_is_said_at_its_place() {
    let files = &[("common/base.toml", BASE)][..];
    for (from, to, expected) in [
        (
            "common/base.toml",
            "nowhere.toml",
            "`extends` is \"nowhere.toml\", which cannot be read: No such file",
        ),
        (
            "\"common/base.toml\"",
            "3",
            "`extends` must be the path of one other configuration",
        ),
        (
            "\"common/base.toml\"",
            "{ env = \"LB_NAME\" }",
            "`extends` must be the path",
        ),
        (
            "\"common/base.toml\"",
            "[\"a\", \"b\"]",
            "`extends` must be the path",
        ),
    ] {
        let said = refused(&OVER.replacen(from, to, 1), files);
        assert!(
            said.contains(expected) && said.contains("--> lbctl.toml:1:11\n"),
            "{said}"
        );
    }
    let circle = format!("extends = \"base.toml\"\n{BASE}");
    let said = refused(OVER, &[("common/base.toml", &circle)]);
    assert!(said.contains("in a circle"), "{said}");
    assert!(said.contains("--> common/base.toml:1:11\n"), "{said}");
    // An empty text is as good as none.
    let alone = format!(
        "extends = \"\"\nname = \"lb-1\"\n{}",
        BASE.replace("\"admin.pub", "\"common/admin.pub")
            .replace("\"ca.", "\"common/ca.")
    );
    let alone = alone.replace(
        "network_name = \"default\"",
        "network_name = \"default\"\nip = \"192.168.122.5\"",
    );
    load(&alone, &[]).unwrap();
}

#[test]
fn an_empty_value_takes_the_one_of_the_base_away() {
    let over = OVER.replace("memory = 2048", "volume_id = \"\"\n[volume]\nname = \"lb-2\"\npool = \"default\"\nbase_volume_name = \"debian-12\"");
    let config = load(&over, &[("common/base.toml", BASE)]).unwrap().config;
    assert!(
        format!("{:?}", config.disk).starts_with("Clone"),
        "{:?}",
        config.disk
    );
    // One secret does not mix with another: { file } of the base, and a text here.
    let over = OVER.replace(
        "memory = 2048",
        "ssh_admin_public_key = \"\"\nadmin_user_password = \"secret\"",
    );
    load(&over, &[("common/base.toml", BASE)]).unwrap();
}
