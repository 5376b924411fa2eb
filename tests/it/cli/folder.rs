//! `-c DIR`: all configurations of a folder at once; and where each key has its value from.

use std::fs;

use super::Place;
use crate::support::{Ran, lbctl};

impl Place {
    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The usual configuration as that of another VM, in a folder below.
    fn of(&self, name: &str, last: u8) -> String {
        let config = self.config().replace("lb-cli", name);
        let config = config.replace("192.168.122.9", &format!("192.168.122.{last}"));
        config.replace("\"ca.", "\"../ca.")
    }

    /// Two VMs, the second on a base that is no configuration by itself, and what is none.
    fn fleet() -> Self {
        let place = Self::new();
        place.put("fleet/lb-1.toml", &place.of("lb-1", 11));
        let (first, rest) = place
            .of("lb-2", 12)
            .split_once('\n')
            .map(|(first, rest)| (first.to_owned(), rest.to_owned()))
            .unwrap();
        place.put("fleet/base.toml", &format!("memory = 1024\n{rest}"));
        place.put(
            "fleet/lb-2.toml",
            &format!("extends = \"base.toml\"\n{first}\nvcpus = 4\n"),
        );
        place.put("fleet/notes.txt", "name = ");
        place.put("fleet/.lb-3.toml", "name = ");
        place.put("fleet/old/lb-4.toml", "name = ");
        place
    }

    fn in_fleet(&self, arguments: &str) -> Ran {
        let fleet = self.path("fleet");
        let first = ["-c", fleet.to_str().unwrap()];
        lbctl(first.into_iter().chain(arguments.split(' ')))
    }
}

#[test]
fn every_configuration_of_a_folder_is_meant() {
    let place = Place::fleet();
    let ran = place.in_fleet("check").ok();
    ran.says(&[
        "fleet/lb-1.toml, lb-1: is valid",
        "fleet/lb-2.toml, lb-2: is valid",
    ])
    .does_not_say(&["base.toml, ", "lb-3", "lb-4"]);
    let document = place.in_fleet("check --json").ok().document();
    let of = |vm: usize, key: &str| document["vms"][vm][key].as_str().unwrap().to_owned();
    assert_eq!(
        (of(0, "name"), of(1, "name")),
        ("lb-1".into(), "lb-2".into())
    );
    assert!(of(1, "file").ends_with("fleet/lb-2.toml"), "{document:#}");
    // For some of them.
    let one = place.in_fleet("check --only lb-2").ok();
    one.says(&["lb-2: is valid"])
        .does_not_say(&["lb-1: is valid"]);
    place
        .in_fleet("check --only lb2")
        .ended(2)
        .says(&["has no VM of that name", "did you mean lb-2?"]);
    // Each host is asked for its own.
    place
        .in_fleet("status")
        .ended(1)
        .says(&["lb-1: not reached", "lb-2: not reached"]);
    let out = place.path("out");
    let render = format!("render --out {}", out.display());
    place.in_fleet(&render).ok();
    for name in ["lb-1", "lb-2"] {
        assert!(out.join(name).join("seed.iso").exists());
    }
    // What is for one VM says so.
    for command in [
        "logs",
        "csr",
        "plan --adopt",
        "adopt",
        "up plan.json",
        "plan --out plan.json",
        "renew --certificate lb.crt",
    ] {
        place
            .in_fleet(command)
            .ended(2)
            .says(&["is for one VM, and the configuration has 2", "--only NAME"]);
    }
    place.in_fleet("down --yes").ended(2).says(&[
        "removes no whole folder",
        "lb-1 and lb-2",
        "--only NAME",
    ]);
    place
        .in_fleet("down --yes --only lb-1")
        .ended(1)
        .says(&["lb-1: not reached"])
        .does_not_say(&["lb-2"]);
    place
        .in_fleet("handover")
        .ended(2)
        .says(&["fleet/lb-1.toml has no [virtual_ip]"]);
}

#[test]
fn a_folder_with_something_wrong_in_it_is_refused_as_a_whole() {
    let place = Place::fleet();
    let out = place.path("out");
    let render = format!("render --out {}", out.display());
    // Both files, each with its place.
    place.put("fleet/lb-5.toml", &place.of("lb-1", 15));
    place
        .in_fleet(&render)
        .ended(2)
        .says(&[
            "`name` is lb-1, which is the name of another VM",
            "fleet/lb-5.toml:1:8",
            "fleet/lb-1.toml:1",
            "the same name",
        ])
        .does_not_say(&["volume"]);
    // An address and a volume of one host.
    let volume =
        place
            .of("lb-5", 11)
            .replacen("[volume]\nname = \"lb-5\"", "[volume]\nname = \"lb-1\"", 1);
    place.put("fleet/lb-5.toml", &volume);
    let ran = place.in_fleet(&render).ended(2);
    ran.says(&[
        "is 192.168.122.11, which another VM has",
        "is for volume default/lb-1, which another VM has on the same host",
        "2 problems in ",
    ]);
    // On another host the address may be right, and the volume is another one.
    let elsewhere = volume.replace("no-such-socket", "another-socket");
    place.put("fleet/lb-5.toml", &elsewhere);
    place.in_fleet("check").ok().says(&[
        "is 192.168.122.11, which another VM has on another host: right only where they share no network",
        "lb-5: is valid",
    ]);
    // Two wrong files are reported at once, and the good ones are not worked on.
    place.put("fleet/lb-5.toml", "nmae = \"lb-5\"\n");
    place.put("fleet/lb-6.toml", "name = ");
    let ran = place.in_fleet(&render).ended(2);
    let ran = ran.says(&["fleet/lb-5.toml:1:1", "fleet/lb-6.toml:1"]);
    ran.does_not_say(&["lb-1.toml"]);
    assert!(!out.exists());
    let json = place.in_fleet("plan --json").ended(2).document();
    let problems = json["error"]["problems"].as_array().unwrap();
    let of = |name: &str| {
        problems
            .iter()
            .any(|p| p["file"].as_str().unwrap().ends_with(name))
    };
    assert!(of("lb-5.toml") && of("lb-6.toml"), "{json:#}");
    // A file that names no VM is a base only where one beside it extends it.
    fs::remove_file(place.path("fleet/lb-5.toml")).unwrap();
    fs::remove_file(place.path("fleet/lb-6.toml")).unwrap();
    fs::remove_file(place.path("fleet/lb-2.toml")).unwrap();
    place
        .in_fleet("check")
        .ended(2)
        .says(&["base.toml", "`name`"]);
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    lbctl(["-c", empty.to_str().unwrap(), "check"])
        .ended(2)
        .says(&["there is no configuration in the folder", "no *.toml"]);
}

/// `list` takes the same files for configurations.
#[test]
fn a_base_is_no_configuration_for_list_either() {
    let place = Place::fleet();
    let fleet = place.path("fleet");
    let listed = lbctl(["list", "--json", fleet.to_str().unwrap()]).ended(1);
    let files = listed.document()["files"].clone();
    let files: Vec<&str> = files
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["file"].as_str().unwrap().rsplit('/').next().unwrap())
        .collect();
    assert_eq!(files, ["lb-1.toml", "lb-2.toml"]);
}

#[test]
fn each_key_says_where_it_has_its_value_from() {
    let place = Place::fleet();
    let told = place.in_fleet("check -v --only lb-2").ok();
    let place_of = |key: &str| {
        let mut lines = told.stdout.lines();
        let line = lines.find(|line| line.trim_start().starts_with(&format!("{key} ")));
        let line = line.unwrap_or_else(|| panic!("{key} is not in {told}"));
        let (_, place) = line.trim().split_once("  ").unwrap();
        place.trim().rsplit('/').next().unwrap().to_owned()
    };
    for (key, expected) in [
        ("name", "lb-2.toml:2"),
        ("vcpus", "lb-2.toml:3"),
        ("memory", "base.toml:1 (extends)"),
        ("libvirt_network.ip", "base.toml:13 (extends)"),
        ("ssh_admin_user", "\"ubuntu\" (default)"),
        ("haproxy.check.fast", "\"50ms\" (default)"),
    ] {
        assert_eq!(place_of(key), expected, "{told}");
    }
    assert!(!told.stdout.contains(super::PASSWORD), "{told}");
    assert!(!told.stdout.contains("virtual_ip"), "{told}");
    let of_all = place.in_fleet("check -v").ok();
    assert_eq!(
        of_all
            .stdout
            .matches("where each key has its value from")
            .count(),
        2
    );
    // Of VMs in one file.
    let text = place.config();
    let text = text.replacen("name = \"lb-cli\"\n", "", 1);
    let text = text.replacen("name = \"lb-cli\"\n", "", 1);
    let text = text.replace("ip = \"192.168.122.9\"\n", "");
    let vms = |last: u8| {
        format!("[[vms]]\nname = \"lb-{last}\"\nlibvirt_network.ip = \"192.168.122.{last}\"\n")
    };
    place.write(&format!("{text}{}{}", vms(1), vms(2)));
    let json = place.lbctl(&["check", "-v", "--json", "--only", "lb-2"]);
    let json = json.ok().document();
    let keys = json["vms"][0]["keys"].as_array().unwrap();
    let of = |key: &str| {
        let found = keys.iter().find(|found| found["key"] == key);
        found.unwrap_or_else(|| panic!("{key} is not in {json:#}"))
    };
    for (key, from) in [
        ("name", "vm"),
        ("libvirt_network.ip", "vm"),
        ("libvirt_network.network_name", "shared-by-vms"),
        ("vcpus", "default"),
    ] {
        assert_eq!(of(key)["from"], from, "{json:#}");
    }
    assert_eq!(of("vcpus")["default"], "2");
    assert!(of("name")["line"].as_u64() > of("libvirt_network.network_name")["line"].as_u64());
    let without = place.lbctl(&["check", "--json"]).ok().document();
    assert!(without["vms"][0].get("keys").is_none());
}

/// Two defaults depend on another key.
#[test]
fn a_default_is_the_one_that_holds() {
    let place = Place::new();
    let config = place.config();
    let (without_client, _) = config.split_once("[haproxy.patroni_client]").unwrap();
    let off = without_client.replace(
        "[haproxy]",
        "[haproxy]\npatroni_tls = \"off\"\nruntime = \"package\"",
    );
    for (text, port, version) in [(&config, "4443", "\"3.2\""), (&off, "8008", "\"2.6\"")] {
        place.write(text);
        let told = place.lbctl(&["check", "-v"]).ok();
        for (key, value) in [("patroni_port", port), ("version", version)] {
            let begins = format!("haproxy.{key} ");
            let mut lines = told.stdout.lines().map(str::trim);
            let line = lines.find(|line| line.starts_with(&begins)).unwrap();
            assert!(line.ends_with(&format!("{value} (default)")), "{told}");
        }
    }
}

#[test]
fn what_is_in_a_base_is_said_once() {
    let place = Place::new();
    let config = place.config();
    let (without_client, _) = config.split_once("[haproxy.patroni_client]").unwrap();
    let base = without_client
        .replace("[haproxy]", "[haproxy]\npatroni_tls = \"off\"")
        .replace("name = \"lb-cli\"\n", "")
        .replace("ip = \"192.168.122.9\"\n", "");
    place.put("fleet/base.toml", &base);
    for last in 1..=3 {
        let own = format!(
            "extends = \"base.toml\"\nname = \"lb-{last}\"\n[volume]\nname = \"lb-{last}\"\n\
             [libvirt_network]\nip = \"192.168.122.{last}\"\n"
        );
        place.put(&format!("fleet/lb-{last}.toml"), &own);
    }
    let told = place.in_fleet("check").ok();
    let count = told
        .stderr
        .matches("nothing proves that a node answers")
        .count();
    assert_eq!(count, 1, "{told}");
    // What is wrong, too; and what is wrong with one file alone is told beside it.
    place.put("fleet/base.toml", &format!("memory = \"much\"\n{base}"));
    place.put("fleet/lb-4.toml", "nmae = \"lb-4\"\n");
    let told = place.in_fleet("check").ended(2);
    assert_eq!(told.stderr.matches("`memory` ").count(), 1, "{told}");
    told.says(&["lb-4.toml:1"]);
}
