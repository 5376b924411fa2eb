//! A zoo of CAs and nodes' certificates: for each, what `openssl verify` says, what a real HAProxy
//! before fake nodes says, and what `check` and `check --host` say, which must agree. The result is
//! the table of docs/certificates.md: `UPDATE_DOCS=1` writes it.
//!
//! Never may lbctl say ok where HAProxy says DOWN, nor FAILED where it says UP.

mod cases;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cases::{Case, Maker, SPEC, Spec, cases};
use lbctl::testing::cert::{Ca, CaCertificates, ClientPair, PathVerdict, Purpose, verify};
use lbctl::testing::checklist::nodes::{NodeAnswer, Question};
use lbctl::testing::checklist::{Outcome, judge_node};
use lbctl::testing::render::haproxy_cfg;
use lbctl::testing::secret::Secret;
use time::OffsetDateTime;

use super::workshop::Workshop;
use super::{issued, policy};
use crate::render::oracle::haproxy_root;
use crate::render::sample::sample_config;

const PAGE: &str = "docs/certificates.md";
const BEGIN: &str = "<!-- zoo -->\n";
const END: &str = "<!-- end of zoo -->\n";
const VERSIONS: [(&str, &str); 3] = [("bookworm", "2.6"), ("trixie", "3.0"), ("sid", "3.2")];

/// What was found of a case.
#[derive(Default)]
struct Row {
    /// `accepted`, or why not.
    check: String,
    /// Of the client's certificate and of the node's.
    openssl: [String; 2],
    haproxy: BTreeMap<&'static str, String>,
    host: String,
}

/// The pair that lbctl would use, or why it refuses.
fn pair_of(case: &Case) -> Result<(CaCertificates, ClientPair), String> {
    let now = OffsetDateTime::now_utc();
    let ca = CaCertificates::load(&case.ca).map_err(|e| e.message)?;
    if let Some(given) = &case.given {
        let pair = ClientPair::given(&Secret::new(given.key.clone()), &given.crt, &ca);
        let pair = pair.and_then(|pair| pair.check(&ca, now).map(|()| pair));
        return Ok((ca, pair.map_err(|e| e.message)?));
    }
    let issuer = Ca::new(&Secret::new(case.issuer.key.clone()), &ca);
    let issuer = issuer.map_err(|e| e.message)?;
    issuer.check_time(now).map_err(|e| e.message)?;
    Ok((ca, issued(None, policy(&issuer), now).0))
}

/// The one that somebody would make who does not ask lbctl.
fn pair_by_hand(maker: &Maker, case: &Case) -> String {
    let eku = &["keyUsage=digitalSignature", "extendedKeyUsage=clientAuth"];
    let made = match &case.given {
        Some(given) => given.clone(),
        None => maker.make(
            "/CN=patroni-client",
            Spec { ext: eku, ..SPEC },
            Some(&case.issuer),
        ),
    };
    format!(
        "{}{}{}",
        made.key,
        made.crt,
        if case.given.is_some() {
            ""
        } else {
            &case.issuer.crt
        }
    )
}

/// Of the first certificate in the file, with the others as what was sent.
fn openssl(purpose: &str, ca: &Path, file: &Path) -> String {
    let output = Command::new("openssl")
        .args(["verify", "-purpose", purpose, "-CAfile"])
        .arg(ca)
        .arg("-untrusted")
        .args([file, file])
        .output()
        .expect("package openssl is needed");
    if output.status.success() {
        return "OK".into();
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().find_map(|line| line.strip_prefix("error "));
    let number = error.and_then(|error| error.split(' ').next());
    number.map_or_else(
        || "does not read it".into(),
        |number| format!("error {number}"),
    )
}

struct Nodes(Child);

impl Drop for Nodes {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A fake node for each folder, and its port; 0: Python does not take its files.
fn start_nodes(folders: &[PathBuf]) -> (Nodes, Vec<u16>) {
    let mut child = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/zoo/nodes.py"))
        .args(folders)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("package python3 is needed");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ports = lines
        .take(folders.len())
        .map(|line| line.unwrap().parse().unwrap());
    let ports = ports.collect();
    (Nodes(child), ports)
}

/// lbctl's own lines for the checks, with other files and another port. `verifyhost` is what lbctl
/// writes for `verify_host`.
fn check_lines(at: &str, port: u16, verify_host: Option<&str>) -> String {
    let config = haproxy_cfg(&sample_config());
    let backend = config.split("\nbackend primary\n").nth(1).unwrap();
    let backend = backend.split("\n\n").next().unwrap();
    let mut lines: Vec<String> = Vec::new();
    for line in backend.lines().map(str::trim) {
        if line.starts_with("option httpchk") || line.starts_with("http-check ") {
            lines.push(line.to_owned());
        } else if line.starts_with("default-server check ") {
            let (before, _) = line.split_once(" verifyhost").unwrap_or((line, ""));
            let line = before.replace("/etc/haproxy/", &format!("{at}/"));
            let line = line.replace("port 4443", &format!("port {port}"));
            let name = verify_host.map(|name| format!(" verifyhost {name} check-sni {name}"));
            lines.push(line + &name.unwrap_or_default());
        }
    }
    assert!(lines.len() >= 4, "{lines:?}");
    lines.join("\n    ")
}

/// HAProxy's view of each node.
fn haproxy(suite: &str, dir: &Path, cases: &[Case], ports: &[u16]) -> Vec<String> {
    let root = haproxy_root(suite);
    let head = "global\n    stats socket /mnt/admin.sock mode 600 level admin\ndefaults\n    mode tcp\n    \
                timeout connect 3s\n    timeout check 3s\n    timeout client 5s\n    timeout server 5s\n";
    let backend = |number: usize| {
        let lines = check_lines(
            &format!("/mnt/{number}"),
            ports[number],
            cases[number].verify_host,
        );
        format!(
            "backend c{number}\n    {lines}\n    default-server inter 5s fastinter 5s downinter 1s rise 1 fall 1\n    server node 127.0.0.1:{}\n",
            ports[number]
        )
    };
    let enter = |command: &str| {
        let script = format!(
            "mount --make-rprivate / && mount --bind {} {}/mnt && exec chroot {} {command}",
            dir.display(),
            root.display(),
            root.display()
        );
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            &script,
        ]);
        unshare
    };
    fs::create_dir_all(root.join("mnt")).unwrap();
    let mut all = head.to_owned();
    let mut seen = Vec::new();
    for number in 0..cases.len() {
        fs::write(dir.join("one.cfg"), format!("{head}{}", backend(number))).unwrap();
        let checked = enter("/usr/sbin/haproxy -c -f /mnt/one.cfg")
            .output()
            .unwrap();
        if checked.status.success() {
            all.push_str(&backend(number));
            seen.push(String::new());
        } else {
            seen.push("refuses the file".to_owned());
        }
    }
    fs::write(dir.join("all.cfg"), all).unwrap();
    let _ = fs::remove_file(dir.join("admin.sock"));
    let mut running = enter("/usr/sbin/haproxy -db -f /mnt/all.cfg")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let wanted = seen.iter().filter(|s| s.is_empty()).count();
    let deadline = Instant::now() + Duration::from_secs(90);
    let states = loop {
        sleep(Duration::from_millis(500));
        let states = states(&dir.join("admin.sock"));
        if states.len() == wanted || Instant::now() > deadline {
            break states;
        }
    };
    let _ = running.kill();
    let _ = running.wait();
    for (number, seen) in seen.iter_mut().enumerate().filter(|(_, s)| s.is_empty()) {
        *seen = states
            .get(&number)
            .cloned()
            .unwrap_or_else(|| "no result".into());
    }
    seen
}

/// Those that have been checked twice or more, by the number of the case.
fn states(socket: &Path) -> BTreeMap<usize, String> {
    let mut states = BTreeMap::new();
    let Ok(mut stream) = UnixStream::connect(socket) else {
        return states;
    };
    let mut text = String::new();
    let asked = stream.write_all(b"show stat -1 4 -1\n");
    if asked.is_err() || stream.read_to_string(&mut text).is_err() {
        return states;
    }
    let mut lines = text.lines();
    let heads: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let at = |name: &str| {
        heads
            .iter()
            .position(|head| head.trim_start_matches("# ") == name)
    };
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |name: &str| {
            at(name)
                .and_then(|at| fields.get(at))
                .copied()
                .unwrap_or_default()
        };
        let number = field("pxname")
            .strip_prefix('c')
            .and_then(|n| n.parse().ok());
        let (state, check) = (field("status"), field("check_status"));
        // Before the first check a server is up, and a machine that is busy answers late.
        let undecided =
            check.is_empty() || check.starts_with('*') || check == "INI" || check.ends_with("TOUT");
        if let (Some(number), false) = (number, undecided) {
            let word = if state.starts_with("UP") {
                "UP"
            } else {
                "DOWN"
            };
            states.insert(number, word.to_owned());
        }
    }
    states
}

/// What `check --host` says of the node.
fn asked(ca: &CaCertificates, pair: &ClientPair, case: &Case, port: u16) -> (String, NodeAnswer) {
    let question = Question::tls(ca.pem(), Some(pair)).unwrap();
    let answer = question.ask(SocketAddr::from(([127, 0, 0, 1], port)), case.verify_host);
    let word = match judge_node(&answer, &sample_config().haproxy).0 {
        Outcome::Ok => "ok",
        Outcome::Warning => "warning",
        Outcome::Fails(_) => "FAILED",
        Outcome::Unknown => "unknown",
    };
    (word.to_owned(), answer)
}

/// lbctl's own verdicts are those of `openssl verify`, or unknown.
fn assert_as_openssl(case: &Case, said: &str, verdict: &PathVerdict) {
    match verdict {
        PathVerdict::Good => assert_eq!(said, "OK", "{}", case.name),
        PathVerdict::Bad(why) => assert_ne!(said, "OK", "{}: {why}", case.name),
        PathVerdict::Unsure(_) => {}
    }
}

fn ders(pem: &str) -> Vec<Vec<u8>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let all = CertificateDer::pem_slice_iter(pem.as_bytes());
    all.map(|der| der.unwrap().to_vec()).collect()
}

fn verify_pem(text: &str, trusted: &str, purpose: Purpose) -> PathVerdict {
    let all = ders(text);
    verify(
        &all[0],
        &all[1..],
        &ders(trusted),
        purpose,
        OffsetDateTime::now_utc(),
    )
}

#[test]
fn openssl_haproxy_and_lbctl_agree_about_every_ca() {
    let maker = Maker {
        shop: Workshop::new(),
    };
    let cases = cases(&maker);
    assert!(cases.len() > 40);
    let dir = tempfile::tempdir().unwrap();
    let folder = |number: usize| dir.path().join(number.to_string());
    let mut rows: Vec<Row> = Vec::new();
    let mut pairs = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let at = folder(number);
        fs::create_dir_all(&at).unwrap();
        let put = |name: &str, text: &str| fs::write(at.join(name), text).unwrap();
        put("node.pem", &case.node.crt);
        put("node.key", &case.node.key);
        put("trusts.pem", &case.trusts);
        let pair = pair_of(case);
        if let Ok((ca, pair)) = &pair {
            put("ca.pem", ca.pem());
            put("client.pem", pair.pem().expose());
        } else {
            put("ca.pem", &case.ca);
            put("client.pem", &pair_by_hand(&maker, case));
        }
        let openssl = [
            openssl("sslclient", &at.join("trusts.pem"), &at.join("client.pem")),
            openssl("sslserver", &at.join("ca.pem"), &at.join("node.pem")),
        ];
        if let Ok((ca, pair)) = &pair {
            let client = verify_pem(&pair.chain_pem(), &case.trusts, Purpose::Client);
            assert_as_openssl(case, &openssl[0], &client);
            let node = verify_pem(&case.node.crt, ca.pem(), Purpose::Server);
            assert_as_openssl(case, &openssl[1], &node);
        }
        rows.push(Row {
            check: pair
                .as_ref()
                .err()
                .map_or_else(|| "accepted".into(), |_| "refused".into()),
            openssl,
            ..Row::default()
        });
        pairs.push(pair);
    }
    let folders: Vec<PathBuf> = (0..cases.len()).map(folder).collect();
    let (_nodes, ports) = start_nodes(&folders);
    for (suite, version) in VERSIONS {
        let seen = haproxy(suite, dir.path(), &cases, &ports);
        for (row, seen) in rows.iter_mut().zip(seen) {
            row.haproxy.insert(version, seen);
        }
    }
    let mut wrong = String::new();
    for (number, (case, row)) in cases.iter().zip(&mut rows).enumerate() {
        let up: Vec<bool> = row.haproxy.values().map(|seen| seen == "UP").collect();
        let mut note = String::new();
        match &pairs[number] {
            Ok((ca, pair)) => {
                let (said, answer) = asked(ca, pair, case, ports[number]);
                let right = match said.as_str() {
                    "ok" => up.iter().all(|up| *up),
                    "FAILED" => !up.iter().any(|up| *up),
                    "unknown" => true,
                    _ => false,
                };
                note = format!("{answer:?}");
                row.host = said;
                if !right {
                    let _ = writeln!(wrong, "{}: check --host is wrong", case.name);
                }
            }
            Err(why) => {
                row.host = "not asked".into();
                note.push_str(why);
                if up.iter().any(|up| *up) && !case.damaged {
                    let _ = writeln!(wrong, "{}: refused, and HAProxy is UP", case.name);
                }
            }
        }
        println!(
            "{}: {} {:?} {:?} {} ({note})",
            case.name, row.check, row.openssl, row.haproxy, row.host
        );
    }
    assert!(wrong.is_empty(), "{wrong}");
    publish(&table(&cases, &rows));
}

fn table(cases: &[Case], rows: &[Row]) -> String {
    let mut text = "| | `check` | openssl: client | openssl: node | HAProxy 2.6 | 3.0 | 3.2 | `check --host` |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (case, row) in cases.iter().zip(rows) {
        let haproxy: Vec<&str> = VERSIONS
            .iter()
            .map(|(_, v)| row.haproxy[v].as_str())
            .collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            case.name,
            row.check,
            row.openssl[0],
            row.openssl[1],
            haproxy.join(" | "),
            row.host
        );
    }
    text
}

/// The table in the page is the present one.
fn publish(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let now = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(
        page, now,
        "{PAGE} is behind: UPDATE_DOCS=1 writes the table"
    );
}
