//! What lbctl and the guest program exchange. The documents in `templates/guest/tests/golden` are
//! read here and by the program's own tests: a key that one side renames fails a test on the other.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lbctl::testing::config::Config;
use lbctl::testing::guest::Extent;
use lbctl::testing::guest::{
    CertificateFacts, Certificates, CloudInit, ConvergeError, Guest, GuestStatus, HaproxyStatus,
    PeerStatus, Server, VirtualIpStatus,
};
use lbctl::testing::host::{AgentChannel, HostResult};
use lbctl::testing::render::{GuestSpec, programs};
use lbctl::testing::secret::Secret;
use serde_json::{Value, json};

use super::sample::{guest_files, sample_config, tls};
use crate::support::unpacked;

const DEADLINE: Duration = Duration::from_secs(5);

fn guest_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/guest")
}

fn golden_path(name: &str) -> PathBuf {
    guest_folder().join("tests/golden").join(name)
}

fn golden(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden_path(name)).unwrap()).unwrap()
}

/// A guest agent whose programs print that, and end.
struct Prints(Value, RefCell<Vec<Value>>);

impl Prints {
    fn new(said: &Value) -> Self {
        Self(said.clone(), RefCell::default())
    }
}

impl AgentChannel for Prints {
    fn agent(&self, _: &str, command: &str, _: Duration) -> HostResult<String> {
        let command: Value = serde_json::from_str(command).unwrap();
        let ended =
            json!({"exited": true, "exitcode": 0, "out-data": BASE64.encode(self.0.to_string())});
        let answer = if command["execute"] == "guest-exec-status" {
            ended
        } else {
            self.1.borrow_mut().push(command["arguments"].clone());
            json!({"pid": 1})
        };
        Ok(json!({"return": answer}).to_string())
    }
}

fn status(said: &Value) -> GuestStatus {
    Guest::new(&Prints::new(said), "lb")
        .status(DEADLINE)
        .unwrap()
}

fn watched(said: &Value) -> GuestStatus {
    let prints = Prints::new(said);
    let guest = Guest::new(&prints, "lb");
    let watch = guest.watch(0, DEADLINE, DEADLINE).unwrap();
    guest.watched(&watch, DEADLINE).unwrap().unwrap()
}

fn differs<T: Default + PartialEq>(field: &T) -> bool {
    *field != T::default()
}

/// The pointers of all keys.
fn keys(document: &Value) -> Vec<String> {
    let below = |(name, inner): (String, &Value)| {
        let deeper = keys(inner);
        std::iter::once(format!("/{name}")).chain(
            deeper
                .into_iter()
                .map(move |pointer| format!("/{name}{pointer}")),
        )
    };
    match document {
        Value::Object(map) => map
            .iter()
            .flat_map(|(name, inner)| below((name.clone(), inner)).collect::<Vec<_>>())
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .flat_map(|(n, inner)| below((n.to_string(), inner)).collect::<Vec<_>>())
            .collect(),
        _ => Vec::new(),
    }
}

fn without(document: &Value, pointer: &str) -> Value {
    let mut less = document.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match less.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.remove(name)),
        Value::Array(list) => drop(list.remove(name.parse().unwrap())),
        _ => unreachable!(),
    }
    less
}

/// Each key of the golden document is one that lbctl reads: without it the document reads
/// otherwise.
fn every_key_is_read(document: &Value, read: impl Fn(&Value) -> GuestStatus) {
    let whole = read(document);
    for key in keys(document) {
        assert_ne!(
            read(&without(document, &key)),
            whole,
            "lbctl does not read {key}"
        );
    }
}

#[test]
fn every_field_of_a_status_is_one_that_the_guest_program_writes() {
    // Without `..`: a new field must be in the golden document too.
    let GuestStatus {
        boot_id,
        uptime_s,
        cloud_init:
            CloudInit {
                status: verdict,
                stage,
                errors,
            },
        haproxy:
            HaproxyStatus {
                active,
                version,
                sessions,
                max_connections,
                held,
                servers,
                servers_up,
                primary,
                error,
            },
        certificate: Certificates { on_disk, in_use },
        virtual_ip,
        ready,
    } = status(&golden("status.json"));
    assert!(differs(&boot_id) && differs(&uptime_s) && differs(&ready));
    assert!(differs(&verdict) && differs(&stage) && differs(&errors));
    assert!(differs(&active) && differs(&version) && differs(&sessions));
    assert!(differs(&max_connections) && differs(&held) && differs(&servers_up));
    assert!(differs(&primary) && differs(&error));
    for facts in [on_disk, in_use] {
        let CertificateFacts { serial, not_after } = facts.unwrap();
        assert!(differs(&serial) && differs(&not_after));
    }
    let VirtualIpStatus {
        address,
        held,
        weight,
        sessions,
        stepped_back,
        taken_by,
        peers,
        error,
    } = virtual_ip.unwrap();
    assert!(differs(&address) && differs(&held) && differs(&weight) && differs(&sessions));
    assert!(differs(&stepped_back) && differs(&taken_by) && differs(&peers) && differs(&error));
    for peer in peers {
        let PeerStatus {
            address,
            alive,
            held,
            weight,
            agrees,
        } = peer;
        assert!(differs(&address) && differs(&alive) && differs(&held));
        assert!(differs(&weight) && differs(&agrees));
    }
    assert!(differs(&servers));
    for server in servers {
        let Server {
            backend,
            name,
            address,
            state,
            check,
            check_code,
            check_detail,
            last_change_s,
            sessions,
        } = server;
        assert!(differs(&backend) && differs(&name) && differs(&address) && differs(&state));
        assert!(differs(&check) && differs(&check_code) && differs(&check_detail));
        assert!(differs(&last_change_s) && differs(&sessions));
    }
}

#[test]
fn lbctl_reads_every_key_of_a_status() {
    every_key_is_read(&golden("status.json"), status);
}

#[test]
fn lbctl_reads_every_key_that_waiting_prints() {
    let said = golden("wait.json");
    every_key_is_read(&said, watched);
    let found = watched(&said);
    assert!(found.ready && differs(&found.cloud_init.status) && differs(&found.cloud_init.errors));
    assert!(differs(&found.haproxy.servers_up) && differs(&found.haproxy.primary));
}

#[test]
fn the_answers_to_a_change_are_read() {
    let spec = GuestSpec::masked(&sample_config(), &tls());
    let answers = golden("converge.json");
    let answered = |said: &Value| {
        Guest::new(&Prints::new(said), "lb").converge(&spec, Extent::All, &[], DEADLINE)
    };
    let done = &answers["done"];
    assert_eq!(json!(answered(done).unwrap().notes), done["notes"]);
    assert!(differs(&answered(done).unwrap().notes));

    let refused = &answers["refused"];
    let Err(ConvergeError::Refused { said, restored }) = answered(refused) else {
        panic!("it is a refusal")
    };
    assert_eq!((json!(said), restored), (refused["error"].clone(), true));
    for key in ["ok", "error", "restored"] {
        let less = answered(&without(refused, &format!("/{key}")));
        assert_ne!(less, answered(refused), "lbctl does not read {key}");
    }
}

/// What `converge` is sent, with the programs' texts left out: they are files of their own.
fn task() -> Value {
    let prints = Prints::new(&golden("converge.json")["done"]);
    let spec = GuestSpec::masked(&sample_config(), &tls());
    Guest::new(&prints, "lb")
        .converge(&spec, Extent::Tls, &[], DEADLINE)
        .unwrap();
    let input = prints.1.borrow()[0]["input-data"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut task = unpacked(&input);
    for file in task["spec"]["files"].as_array_mut().unwrap() {
        if file["path"]
            .as_str()
            .unwrap()
            .starts_with("/usr/local/lib/lbctl/")
        {
            file["content"] = json!("(text)");
        }
    }
    task
}

/// libvirt hangs with a command that is not taken at once: 178 KiB are, and the programs grow.
#[test]
fn a_task_is_half_of_what_may_be_sent_at_most() {
    let prints = Prints::new(&golden("converge.json")["done"]);
    let spec = GuestSpec::from_config(&sample_config(), &tls());
    let guest = Guest::new(&prints, "lb");
    guest.converge(&spec, Extent::All, &[], DEADLINE).unwrap();
    let size = prints.1.borrow()[0].to_string().len();
    assert!(size < 178 * 1024 / 2, "{size}");
}

#[test]
fn a_change_that_libvirt_may_hang_with_is_refused_before_anything_is_sent() {
    let prints = Prints::new(&golden("converge.json")["done"]);
    let mut spec = GuestSpec::from_config(&sample_config(), &tls());
    // What cannot be packed.
    let mut random = String::new();
    let mut state = 1_u64;
    while random.len() < 400_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        random.push_str(&state.to_string());
    }
    spec.admin.public_keys.push(random);
    let guest = Guest::new(&prints, "lb");
    let Err(ConvergeError::Refused { said, restored }) =
        guest.converge(&spec, Extent::All, &[], DEADLINE)
    else {
        panic!("it is refused")
    };
    assert!(said.contains("libvirt may hang") && restored, "{said}");
    assert!(prints.1.borrow().is_empty());
}

fn must_equal(name: &str, document: &Value) {
    let text = format!("{document:#}\n");
    if std::env::var_os("LBCTL_BLESS").is_some() {
        std::fs::write(golden_path(name), &text).unwrap();
    }
    let expected = std::fs::read_to_string(golden_path(name)).unwrap_or_default();
    assert!(
        expected == text,
        "{name} differs from its golden file; look at the difference, LBCTL_BLESS=1 accepts:\n{text}"
    );
}

#[test]
fn the_task_is_what_the_guest_programs_own_tests_read() {
    must_equal("task.json", &task());
}

#[test]
fn the_services_are_those_that_the_guest_programs_own_tests_know() {
    let task = task();
    let files = task["spec"]["files"].as_array().unwrap();
    let settings = files.iter().find(|f| f["path"] == "/etc/lbctl/guest.json");
    let settings: Value =
        serde_json::from_str(settings.unwrap()["content"].as_str().unwrap()).unwrap();
    must_equal("services.json", &settings["services"]);
    // The sample wants all that there are.
    let table = settings["service_table"].as_object().unwrap();
    let mut known: Vec<&str> = table.keys().map(String::as_str).collect();
    let wanted = golden("services.json");
    let mut wanted: Vec<&str> = wanted
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    known.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(known, wanted);
}

#[test]
fn every_module_of_the_guest_program_is_sent() {
    let mut there: Vec<String> = std::fs::read_dir(guest_folder().join("lbctl_guest"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "py")
        })
        // Types, which nothing reads but mypy.
        .filter(|name| name != "wire.py")
        .map(|name| format!("lbctl_guest/{name}"))
        .collect();
    there.push("lbctl-guest".into());
    let mut sent: Vec<&str> = programs(true).map(|(name, _)| name).collect();
    there.sort_unstable();
    sent.sort_unstable();
    assert_eq!(sent, there);
}

/// The names behind `from .` and `import`, over several lines where there are brackets.
fn imported(text: &str) -> Vec<String> {
    let starts = text.split("\nfrom .").skip(1);
    let lists = starts.flat_map(|rest| {
        let (module, names) = rest.split_once(" import ").unwrap();
        let end = if names.starts_with('(') { ')' } else { '\n' };
        match module {
            "" => names.split(end).next().unwrap().split([',', '(']),
            module => module.split([',', '(']),
        }
    });
    let names = lists.map(|name| name.trim().split(' ').next().unwrap());
    names
        .filter(|name| !name.is_empty())
        .map(|name| format!("lbctl_guest/{name}.py"))
        .collect()
}

#[test]
fn each_module_is_put_in_place_after_those_that_it_imports() {
    let mut there = Vec::new();
    let mut seen = 0;
    for (name, text) in programs(true) {
        for needed in imported(text) {
            assert!(there.contains(&needed), "{name} needs {needed}");
            seen += 1;
        }
        there.push(name.to_owned());
    }
    assert!(seen > 50, "{seen}");
    assert_eq!(there.last().unwrap(), "lbctl-guest");
}

#[test]
fn a_guest_that_shares_no_address_gets_no_program_for_that() {
    let names = |config: &Config| -> Vec<String> {
        let files = guest_files(config, &tls());
        let names = files.iter().filter_map(|file| file.path.rsplit('/').next());
        names.map(str::to_owned).collect()
    };
    let shares = sample_config();
    let alone = Config {
        virtual_ip: None,
        ..sample_config()
    };
    for program in ["vip_watch.py", "vip_yield.py"] {
        assert!(!names(&alone).contains(&program.to_owned()));
        assert!(names(&shares).contains(&program.to_owned()));
    }
    // Nor does the task of a change bring one to a guest whose programs are of another lbctl; what
    // is among its files is not sent twice.
    let sent = |config: &Config, older: bool| -> Vec<String> {
        let prints = Prints::new(&golden("converge.json")["done"]);
        let mut spec = GuestSpec::from_config(config, &tls());
        for file in &mut spec.files {
            if older && file.path.starts_with("/usr/local/lib/lbctl/") {
                file.content = Secret::new("older");
            }
        }
        let guest = Guest::new(&prints, "lb");
        guest.converge(&spec, Extent::All, &[], DEADLINE).unwrap();
        let input = prints.1.borrow()[0]["input-data"].clone();
        let task = unpacked(input.as_str().unwrap());
        task["programs"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    let has = |sent: &[String]| sent.iter().any(|name| name == "lbctl_guest/vip_watch.py");
    let (without, with) = (sent(&alone, true), sent(&shares, true));
    assert_eq!((has(&without), has(&with)), (false, true));
    assert_eq!(with.len(), programs(true).count());
    assert_eq!(sent(&shares, false), [""; 0]);
}
