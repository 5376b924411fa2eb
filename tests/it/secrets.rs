//! No secret is anywhere but where it belongs: each secret of a configuration is searched for, in
//! every form, in what lbctl prints, in its process, and in the `Debug` of its types. What needs a
//! real libvirt is in tests/it/libvirt/secrets.rs.

use std::fmt::Debug;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lbctl::testing::cert::Resolution;
use lbctl::testing::config::{CertificateSource, Loaded, MemoryInputs, Report, parse};
use lbctl::testing::exit::{Exit, Failure};
use lbctl::testing::guest::Extent;
use lbctl::testing::guest::Guest;
use lbctl::testing::reconcile::apply::{Progress, apply};
use lbctl::testing::reconcile::desired::{Desired, Intent};
use lbctl::testing::reconcile::observe::{Ask, observe};
use lbctl::testing::reconcile::plan::{Restart, Step, guest_differs, plan_up};
use lbctl::testing::render::{CheckTls, GuestSpec};
use lbctl::testing::seed::{Seed, recognise};
use time::OffsetDateTime;

use crate::support::host::MemoryHost;
use crate::support::search::Search;

/// Is shown everywhere, and is not a secret.
const NAME: &str = "lb-zqcontrol";

const PASSWORD: &str = "Sesame \"zq7Kx9\" \\ öffne";
const REGISTRY_PASSWORD: &str = "registry-zq7-Jw2\\n";
const SHARED_KEY: &str = "fluentd-zq7-Gm4\"#{1}";

/// The secrets of a configuration, and how it is given them.
struct Given {
    ca_key: String,
    ca_crt: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Inline,
    File,
    Env,
}

const FORMS: [Form; 3] = [Form::Inline, Form::File, Form::Env];

impl Given {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        Self {
            ca_key: key.serialize_pem(),
            ca_crt: certificate.pem(),
        }
    }

    /// Key of the configuration, file, variable, text.
    fn secrets(&self) -> [(&'static str, &'static str, &'static str, &str); 4] {
        [
            ("admin_user_password", "admin", "ZQ_ADMIN", PASSWORD),
            ("ca_key", "ca.key", "ZQ_CA_KEY", &self.ca_key),
            ("password", "registry", "ZQ_REGISTRY", REGISTRY_PASSWORD),
            ("shared_key", "shared", "ZQ_SHARED", SHARED_KEY),
        ]
    }

    fn search(&self) -> Search {
        let mut search = Search::new(NAME);
        search.secret("the administrator's password", PASSWORD);
        search.secret("the registry's password", REGISTRY_PASSWORD);
        let login = format!("lbops:{REGISTRY_PASSWORD}");
        search.secret("the registry's login", &login);
        search.secret("fluentd's key", SHARED_KEY);
        search.key("the CA's key", &self.ca_key);
        search
    }

    fn config(&self, form: Form) -> String {
        let values = self.secrets().map(|(_, file, variable, text)| match form {
            Form::Inline => toml::Value::from(text).to_string(),
            Form::File => format!("{{ file = \"{file}\" }}"),
            Form::Env => format!("{{ env = \"{variable}\" }}"),
        });
        let [admin, ca_key, registry, shared] = values;
        let ca_crt = toml::Value::from(self.ca_crt.as_str());
        format!(
            r#"name = "{NAME}"
cloud_init_volume_pool = "default"
admin_user_password = {admin}
[volume]
name = "{NAME}"
pool = "default"
size = "10 GiB"
base_volume_pool = "os"
base_volume_name = "base"
[libvirt_network]
network_name = "lab"
ip = "192.0.2.20"
[haproxy]
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["192.0.2.1"]
postgres_domain = "pg.example.org"
[haproxy.patroni_client]
ca_key = {ca_key}
ca_certificate = {ca_crt}
certificate_validity_period = 240
certificate_early_renewal_period = 24
[container_registry]
url = "https://registry.example.org"
username = "lbops"
password = {registry}
[fluentd]
enabled = true
load_balancer_tag = "lb"
node_exporter_tag = "node"
[fluentd.forward]
domain = "logs.example.org"
port = 24224
hostname = "{NAME}"
shared_key = {shared}
ca_cert = {ca_crt}
"#
        )
    }

    fn parse(&self, text: &str) -> Result<Loaded, Report> {
        let mut inputs = MemoryInputs::default();
        for (_, file, variable, text) in self.secrets() {
            inputs.files.insert(file.into(), Ok(text.into()));
            inputs.env.insert(variable.into(), text.into());
        }
        parse(text, "lbctl.toml", &inputs, OffsetDateTime::now_utc())
    }
}

/// A folder with the configuration in one form, and lbctl run there.
struct Place {
    home: tempfile::TempDir,
    given: Given,
    form: Form,
}

impl Place {
    fn new(form: Form) -> Self {
        let place = Self {
            home: tempfile::tempdir().unwrap(),
            given: Given::new(),
            form,
        };
        place.write("lbctl.toml", &place.given.config(form));
        if form == Form::File {
            for (_, file, _, text) in place.given.secrets() {
                place.write(file, text);
            }
        }
        // The CA may be read by the user that one test runs lbctl as.
        fs::set_permissions(place.home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lbctl"));
        command.arg("-c").arg(self.path("lbctl.toml"));
        command.args(["--connect", "test:///default"]);
        command.args(arguments).current_dir(self.home.path());
        command.stdin(Stdio::null());
        if self.form == Form::Env {
            for (_, _, variable, text) in self.given.secrets() {
                command.env(variable, text);
            }
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

#[test]
fn nothing_that_lbctl_prints() {
    let commands: [&[&str]; 9] = [
        &["check"],
        &["check", "--host"],
        &["render"],
        &["plan"],
        &["up"],
        &["up", "--restart=now", "--wait=1s"],
        &["down", "--yes"],
        &["status"],
        &["renew", "--check"],
    ];
    for form in FORMS {
        let place = Place::new(form);
        let mut search = place.given.search();
        for command in commands {
            let levels: [&[&str]; 3] = [&["-vv", "--color=always"], &["-v", "--json"], &[]];
            // How they are given makes no difference later; and `check --host` waits for name
            // servers that are not there.
            let many = form == Form::Inline && !command.contains(&"--host");
            for more in &levels[..if many { 3 } else { 1 }] {
                let ran = place.run(&[command, *more].concat());
                let said = [ran.stdout, ran.stderr].concat();
                let line = format!("{} {}", command.join(" "), more.join(" "));
                search.place(&format!("output of {}", command[0]), &line, said);
            }
        }
        search.nothing_found();

        // The control of the search itself: asked for, they are shown.
        let shown = place.run(&["render", "--show-secrets"]);
        let names = search.names_in(&shown.stdout);
        for one in ["registry's login", "registry's password"] {
            assert!(names.iter().any(|n| n.contains(one)), "{one}: {names:?}");
        }
    }
}

#[test]
fn rendered_files_are_for_their_owner_only() {
    let place = Place::new(Form::File);
    let mut search = place.given.search();
    let out = place.path("masked");
    let umask = format!(
        "umask 0; exec {} -c lbctl.toml render --out masked",
        env!("CARGO_BIN_EXE_lbctl")
    );
    let mut shell = Command::new("sh");
    let ran = shell.args(["-c", &umask]).current_dir(place.home.path());
    assert!(ran.status().unwrap().success());
    assert_eq!(fs::metadata(&out).unwrap().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&out).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(
            fs::metadata(&path).unwrap().mode() & 0o777,
            0o600,
            "{path:?}"
        );
        let name = path.display().to_string();
        search.place("masked files", &name, fs::read(&path).unwrap());
    }
    search.nothing_found();
}

/// Ways to write a secret's line wrongly. `@` is the value as TOML, `=` before it for the key.
const MISTAKES: [&str; 18] = [
    "KEY = @ x",
    "KEY = @,",
    "KEY == @",
    "KEY @",
    "KEY = [@]",
    "KEY = { fil = @ }",
    "KEY = { file = 1, env = @ }",
    "KEX = @",
    "KEY.KEY = @",
    "KEY = @\nKEY = @",
    "[KEY]\nx = @",
    "KEY = #@",
    "= @",
    "KEY : @ # = 1",
    "vcpus = 2, KEY @",
    "vcpus = 2, KEY : @ # = 1",
    "vcpus = 2 KEY @ = 1",
    "\"KEY\" @ = 1",
];

#[test]
fn no_report_of_a_broken_configuration() {
    let given = Given::new();
    let mut search = given.search();
    let whole = given.config(Form::Inline);
    let mut reports = 0;
    for (key, _, _, text) in given.secrets() {
        let value = toml::Value::from(text).to_string();
        let line = format!("{key} = {value}");
        assert!(whole.contains(&line), "{line}");
        let mut wrong: Vec<String> = MISTAKES
            .iter()
            .map(|m| m.replace("KEY", key).replace('@', &value))
            .collect();
        // A quote lost at either end, and none at all.
        wrong.push(format!("{key} = {}", &value[1..]));
        wrong.push(format!("{key} = {}", &value[..value.len() - 1]));
        wrong.push(format!("{key} = {text}"));
        for wrong in wrong {
            let Err(report) = given.parse(&whole.replace(&line, &wrong)) else {
                continue;
            };
            reports += 1;
            let mut texts = vec![format!("{NAME} {report}"), format!("{report:#?}")];
            texts.extend(
                report
                    .problems
                    .iter()
                    .map(|p| format!("{} {}", p.message, p.help)),
            );
            search.place("reports", &wrong, texts.join("\n"));
        }
    }
    assert!(reports > 40, "{reports} of the mistakes were noticed");
    search.nothing_found();
}

struct Debugged(Search);

impl Debugged {
    fn of(&mut self, name: &str, value: &impl Debug) {
        self.0.place("Debug", name, format!("{value:?} {value:#?}"));
        // What a panic would say of it.
        let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            std::panic::panic_any(format!("unexpected: {value:?}"))
        }));
        let said: Box<String> = said.unwrap_err().downcast().unwrap();
        self.0.place("panics", name, *said);
    }
}

struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _: &Step) {}
    fn end(&mut self, _: &Step, _: Duration) {}
    fn note(&mut self, _: &str) {}
}

#[test]
fn no_debug_of_a_type_and_no_panic() {
    let given = Given::new();
    let mut seen = Debugged(given.search());
    let loaded = given.parse(&given.config(Form::Env)).unwrap();
    let config = &loaded.config;
    let now = OffsetDateTime::now_utc();
    let client = config.haproxy.patroni_tls.client().unwrap();
    let CertificateSource::Issued(issuing) = &client.source else {
        panic!("it has a CA key")
    };
    let policy = issuing.policy(&client.ca, false);
    let resolved = lbctl::testing::cert::resolve(None, policy, now, false).unwrap();
    seen.0
        .key("the client's key", resolved.pair().key_pem().expose());
    let tls = CheckTls {
        client_pem: Some(resolved.pair().pem()),
        ca_pem: Some(given.ca_crt.clone()),
    };
    let guest = GuestSpec::from_config(config, &tls);
    let hash = guest.admin.password_hash.as_ref().unwrap();
    seen.0.secret("the password's hash", hash.expose());

    seen.of("Loaded", &loaded);
    seen.of("Policy", &policy);
    seen.of("CaCertificates", &client.ca);
    seen.of("Ca", &policy.source.open().unwrap());
    seen.of("ClientPair", resolved.pair());
    let issued = matches!(resolved, Resolution::Issue { .. });
    assert!(issued);
    seen.of("Resolution", &resolved);
    seen.of("CheckTls", &tls);
    seen.of("GuestSpec", &guest);
    for file in &guest.files {
        seen.of("GuestFile", file);
    }
    seen.of(
        "SeedFiles",
        &lbctl::testing::render::seed_files(&guest, String::new()),
    );
    let built = Seed::build(config, Some(resolved.pair())).unwrap();
    seen.of("Seed", &built);
    seen.of("iso::File", &built.files());
    let image = built.image().unwrap();
    seen.of(
        "iso::Image",
        &lbctl::testing::seed::iso::read(&image).unwrap(),
    );
    seen.of("SeedContent", &recognise(&image, NAME));

    // A first `up`, and a change of every secret of a guest that runs.
    let host = MemoryHost::new();
    for change in ["", "x"] {
        let text = given
            .config(Form::Inline)
            .replace("zq7", &format!("zq7{change}"));
        let config = given.parse(&text).unwrap().config;
        let mut observed = observe(&config, &host, Ask::Everything).unwrap();
        let desired = Desired::from_config(&config, &observed, now, Intent::Apply).unwrap();
        if guest_differs(&desired.seed, observed.domain.as_ref()) {
            observed.availability = Guest::new(&host, NAME).availability(Duration::from_secs(5));
        }
        if let Some(in_use) = lbctl::testing::reconcile::desired::current_seed(&observed) {
            let pem = in_use.client_pem.as_ref().unwrap().expose();
            seen.0.key(
                "the client's key in use",
                pem.split("-----END").next().unwrap(),
            );
        }
        seen.of("Config", &config);
        seen.of("Observed", &observed);
        seen.of("Desired", &desired);
        let plan = plan_up(&desired, &observed, Restart::Later).unwrap();
        assert!(!plan.is_empty());
        seen.of("Plan", &plan);
        for one in &plan.changes {
            seen.of("Change", one);
            let text = format!("{NAME} {one}\n{}", one.diff);
            seen.0.place("plans", "a change with its lines", text);
        }
        for step in &plan.steps {
            seen.of("Step", step);
            seen.0.place("plans", "a step", format!("{NAME} {step}"));
        }
        if change.is_empty() {
            apply(&plan.steps, &host, &mut Quiet).unwrap();
        } else {
            // The guest says no, and repeats what it was sent, as far as it can.
            host.refuse("the guest does not like it");
            let failed = apply(&plan.steps, &host, &mut Quiet).unwrap_err();
            seen.of("ApplyError", &failed);
            let failure = Failure::from(failed);
            assert_eq!(failure.exit, Exit::Failed);
            seen.of("Failure", &failure);
            seen.0.place("plans", "a failure", failure.to_string());
            let spec = &desired.seed.guest;
            let refused =
                Guest::new(&host, NAME).converge(spec, Extent::All, &[], Duration::from_secs(1));
            seen.of("ConvergeError", &refused);
        }
    }
    seen.0.nothing_found();
}

/// An lbctl that keeps running: it asks again and again a libvirt that is in its own process.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Self(child.spawn().unwrap());
        let mut first = [0; 8];
        let out = running.0.stdout.as_mut().unwrap();
        out.read_exact(&mut first)
            .expect("the first status is printed");
        running
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.0.id().to_string()).join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.proc(name)).unwrap()
    }

    /// All memory that it may write to.
    fn memory(&self) -> Vec<u8> {
        let maps = String::from_utf8(self.read("maps")).unwrap();
        let mut memory = fs::File::open(self.proc("mem")).unwrap();
        let mut all = Vec::new();
        for line in maps
            .lines()
            .filter(|l| l.split(' ').nth(1).unwrap().starts_with("rw"))
        {
            let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let [from, to] = [from, to].map(|n| u64::from_str_radix(n, 16).unwrap());
            memory.seek(SeekFrom::Start(from)).unwrap();
            let _ = (&memory).take(to - from).read_to_end(&mut all);
        }
        all
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_argument_variable_or_child_of_the_process() {
    for form in [Form::Inline, Form::File] {
        let place = Place::new(form);
        let mut search = place.given.search();
        let mut command = place.command(&["status", "--watch=1s"]);
        let running = Running::start(command.env("ZQ_CONTROL", NAME));
        search.place("variables", "environ", running.read("environ"));
        let line = [&running.read("cmdline")[..], NAME.as_bytes()].concat();
        search.place("arguments", "cmdline", line);
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end {
            for task in fs::read_dir(running.proc("task")).unwrap() {
                let children = fs::read_to_string(task.unwrap().path().join("children"));
                assert_eq!(children.unwrap_or_default(), "");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for entry in fs::read_dir(running.proc("fd")).unwrap() {
            let target = fs::read_link(entry.unwrap().path()).unwrap();
            let name = target.display().to_string();
            assert!(!target.starts_with(place.home.path()), "open still: {name}");
        }
        search.nothing_found();
    }
    // The control: what is there is found.
    let place = Place::new(Form::Env);
    let running = Running::start(&mut place.command(&["status", "--watch=1s"]));
    assert!(
        !place
            .given
            .search()
            .names_in(&running.read("environ"))
            .is_empty()
    );
}

/// Every freed block is wiped, so of the many copies that reading a configuration makes only those
/// in use are left: the values themselves, and libvirt's and the compiler's own, which are few.
#[test]
fn memory_holds_only_what_is_in_use() {
    let place = Place::new(Form::Inline);
    let running = Running::start(&mut place.command(&["status", "--watch=1s"]));
    let memory = running.memory();
    let found = place.given.search().names_in(&memory);
    let count = |name: &str| found.iter().filter(|n| n.starts_with(name)).count();
    let counts = [
        "the administrator's password",
        "the registry's password",
        "the CA's key, line 1",
    ]
    .map(count);
    println!(
        "copies in {} KiB of memory: {counts:?}",
        memory.len() / 1024
    );
    // The first two stay in the configuration; the key is kept as numbers by the cryptographic
    // library.
    assert!(
        counts[0] >= 1 && counts[1] >= 1,
        "nothing at all was found: {found:?}"
    );
    assert!(
        counts.iter().all(|count| *count <= 2),
        "{counts:?}: {found:#?}"
    );
}

/// No core dump and no debugger of the same user can take the CA's key: the kernel gives such a
/// process's files to root.
#[test]
fn another_process_of_the_same_user_cannot_look_into_it() {
    if !rustix_is_root() {
        let place = Place::new(Form::File);
        let running = Running::start(&mut place.command(&["status", "--watch=1s"]));
        assert!(fs::File::open(running.proc("mem")).is_err());
        return;
    }
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    let place = Place::new(Form::File);
    let program = place.path("lbctl");
    fs::copy(env!("CARGO_BIN_EXE_lbctl"), &program).unwrap();
    for (dumpable, words) in [(true, "sleep 30"), (false, "")] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        if words.is_empty() {
            command
                .arg(&program)
                .arg("-c")
                .arg(place.path("lbctl.toml"));
            command.args(["--connect", "test:///default", "status", "--watch=1s"]);
        } else {
            command.args(["sh", "-c", "echo started; exec sleep 30"]);
        }
        let running = Running::start(&mut command);
        std::thread::sleep(Duration::from_millis(200));
        let expected = if dumpable { 65534 } else { 0 };
        assert_eq!(owner(&running.proc("mem")), expected, "{words}");
    }
}

fn rustix_is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}
