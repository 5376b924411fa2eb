//! Where bytes that lbctl did not write enter it, a function for each door. A target must neither
//! panic nor take memory out of proportion, and what it shows must be fit for a terminal: that is
//! asserted here, so a fuzzer sees it as a crash.
//!
//! Compiled twice: for the fuzzer, and into lbctl's own tests, which run the corpus.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lbctl::testing::cert::{Ca, ClientPair};
use lbctl::testing::checklist::dns::{DnsAnswer, MOST, read};
use lbctl::testing::config::{self, MemoryInputs};
use lbctl::testing::guest::Extent;
use lbctl::testing::guest::{AgentAvailability, Guest, GuestStatus};
use lbctl::testing::host::{
    AgentChannel, Definition, HostError, HostErrorKind, HostResult, xml as documents,
};
use lbctl::testing::import::{Imported, State, UserData, Wanted, choose, ethernets, import};
use lbctl::testing::render::{self, CheckTls, GuestSpec};
use lbctl::testing::secret::Secret;
use lbctl::testing::seed::iso;
use lbctl::testing::seed::{SeedContent, recognise};
use lbctl::testing::status::{GuestAnswer, Status};
use serde_json::json;
use time::OffsetDateTime;
use time::macros::datetime;
use unicode_width::UnicodeWidthStr as _;

/// A target's function.
pub type Target = fn(&[u8]);

/// Every target, by the name of its binary and its folder of the corpus.
pub const ALL: [(&str, Target); 9] = [
    ("config", config),
    ("seed", seed),
    ("xml", xml),
    ("agent", agent),
    ("pem", pem),
    ("spec", spec),
    ("dns", dns),
    ("state", state),
    ("userdata", userdata),
];

const CA_KEY: &str = include_str!("../../tests/render/tls/ca.key");
const CA_PEM: &str = include_str!("../../tests/render/tls/ca.pem");
const CLIENT_PEM: &str = include_str!("../../tests/render/tls/client.pem");
const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

/// Whether a terminal would do anything else with it than show it: control characters, and the
/// invisible ones that turn the direction of writing or hide text (Unicode's category Cf, where it
/// concerns terminals).
#[must_use]
pub fn drives_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[track_caller]
fn assert_one_line(text: &str) {
    assert!(
        !text.chars().any(drives_terminal),
        "not fit for a terminal: {text:?}"
    );
}

#[track_caller]
fn assert_lines(text: &str) {
    text.split('\n').for_each(assert_one_line);
}

/// The text of a configuration. What it refers to is not read from anywhere; one that is accepted
/// is rendered too.
pub fn config(data: &[u8]) {
    static INPUTS: LazyLock<MemoryInputs> = LazyLock::new(|| MemoryInputs {
        files: [
            ("ca.key", CA_KEY),
            ("ca.crt", CA_PEM),
            ("bin", "\0\u{1b}[2J"),
        ]
        .map(|(name, text)| (name.into(), Ok(text.into())))
        .into(),
        env: BTreeMap::from([("PW".into(), "hunter2".into())]),
        open_to_all: std::collections::BTreeSet::new(),
    });
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match config::parse(text, "lbctl.toml", &*INPUTS, NOW) {
        Err(report) => {
            assert!(!report.problems.is_empty());
            assert_lines(&report.render(false, None));
        }
        Ok(loaded) => {
            assert_lines(&config::render_warnings(&loaded.warnings, false, None));
            let tls = CheckTls {
                client_pem: Some(Secret::new(CLIENT_PEM)),
                ca_pem: Some(CA_PEM.into()),
            };
            let guest = GuestSpec::masked(&loaded.config, &tls);
            let network = render::network_config(&loaded.config);
            let seed = render::seed_files(&guest, network);
            assert!(!seed.user_data.expose().is_empty());
            assert!(!format!("{:?}", loaded.config).is_empty());
        }
    }
}

/// A volume at a seed's place. The image is written sparsely, or no fuzzer would get beyond its
/// zeros: a byte for the number of its sectors, then pieces of the number of a sector, a length (16
/// bits, the lower byte first) and that many bytes.
pub fn seed(data: &[u8]) {
    let image = unfolded(data);
    let read = iso::read(&image);
    if let Ok(found) = &read {
        let total: usize = found
            .files
            .iter()
            .map(|f| f.name.len() + f.data.len())
            .sum();
        assert!(
            total <= image.len(),
            "{total} bytes of files out of {}",
            image.len()
        );
        assert!(found.files.len() <= iso::FILES_MAX);
    }
    match recognise(&image, "lb-1") {
        SeedContent::Ours(found) => {
            assert!(read.is_ok());
            let pair = found
                .client_pem
                .as_ref()
                .map(|pem| ClientPair::from_pem(pem.expose()));
            if let Some(Ok(pair)) = pair {
                assert_one_line(&pair.facts().subject);
                assert_one_line(&pair.facts().issuer);
            }
            assert!(!format!("{found:?}").contains("PRIVATE"));
        }
        SeedContent::OfAnother(vm) => assert_one_line(&vm),
        SeedContent::Unfinished | SeedContent::Foreign => {}
    }
}

/// The image that the bytes of [`seed`] stand for.
#[must_use]
pub fn unfolded(data: &[u8]) -> Vec<u8> {
    const SECTOR: usize = 2048;
    let Some((sectors, mut rest)) = data.split_first() else {
        return Vec::new();
    };
    let mut image = vec![0; usize::from(*sectors) * SECTOR];
    while let [sector, low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (piece, tail) = tail.split_at(length);
        let at = usize::from(*sector) * SECTOR;
        let room = image.len().saturating_sub(at).min(length);
        if let Some(place) = image.get_mut(at..at + room) {
            place.copy_from_slice(&piece[..room]);
        }
        rest = tail;
    }
    image
}

/// The other way, for images to begin with.
#[must_use]
pub fn folded(image: &[u8]) -> Vec<u8> {
    let mut out = vec![u8::try_from(image.len().div_ceil(2048)).unwrap_or(u8::MAX)];
    for (number, sector) in (0..=u8::MAX).zip(image.chunks(2048)) {
        let Some(last) = sector.iter().rposition(|b| *b != 0) else {
            continue;
        };
        let length = u16::try_from(last + 1).unwrap_or_default();
        out.push(number);
        out.extend(length.to_le_bytes());
        out.extend(&sector[..=last]);
    }
    out
}

/// libvirt's documents.
pub fn xml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(definition) = Definition::parse(text)
        && let Some(ownership) = &definition.ownership
    {
        let again = format!(
            "<domain><metadata>{}</metadata><memory>1</memory><devices/></domain>",
            ownership.to_xml()
        );
        let again = Definition::parse(&again).map(|d| d.ownership);
        assert_eq!(
            again,
            Ok(Some(ownership.clone())),
            "a mark is read as it was written"
        );
    }
    let _ = documents::network(text);
    let _ = documents::volume(text);
    let _ = documents::offers_kvm(text, "x86_64");
    let _ = documents::device_interface(text);
}

/// An agent that answers what it was given, and then no more.
struct Answers<'a>(Cell<&'a [Vec<u8>]>);

impl AgentChannel for Answers<'_> {
    fn agent(&self, _: &str, _: &str, _: Duration) -> HostResult<String> {
        let silent = |said: &str| HostError::new(HostErrorKind::Agent, "asking", said);
        let (first, rest) = self
            .0
            .get()
            .split_first()
            .ok_or_else(|| silent("not connected"))?;
        self.0.set(rest);
        // libvirt hands over a C string.
        String::from_utf8(first.clone()).map_err(|e| silent(&String::from_utf8_lossy(e.as_bytes())))
    }
}

/// The guest agent's answers. The first byte chooses the question. With its lowest bit the rest is
/// one answer to a line; else it is what a program in the guest wrote, within sound answers.
pub fn agent(data: &[u8]) {
    let Some((first, said)) = data.split_first() else {
        return;
    };
    let answers: Vec<Vec<u8>> = if first & 1 == 1 {
        said.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
    } else {
        wrapped(first >> 1, said)
    };
    let channel = Answers(Cell::new(&answers));
    let guest = Guest::new(&channel, "lb-1");
    // No time at all: a program that does not end is given up at once.
    let now = Duration::ZERO;
    match (first >> 1) % 6 {
        0 => match guest.status(now) {
            Ok(status) => shown(status),
            Err(error) => assert_one_line(&error.to_string()),
        },
        1 => {
            if let AgentAvailability::Out(why) = guest.availability(now) {
                assert_one_line(&why);
            }
        }
        2 => {
            if let Ok(lbctl::testing::guest::BootProgress::Running(stage)) =
                guest.boot_progress(now)
            {
                assert_one_line(&stage);
            }
        }
        3 => converge(&guest),
        4 => {
            let lines = guest.tail("/var/log/x", 12, now);
            assert!(lines.len() <= 12, "{} lines", lines.len());
            for line in &lines {
                assert_one_line(line);
            }
        }
        _ => {
            if let Ok(watch) = guest.watch(0, now, now) {
                match guest.watched(&watch, now) {
                    Ok(Some(status)) => shown(status),
                    Ok(None) => {}
                    Err(error) => assert_one_line(&error.to_string()),
                }
            }
        }
    }
}

fn wrapped(question: u8, said: &[u8]) -> Vec<Vec<u8>> {
    let answer = |value: serde_json::Value| json!({ "return": value }).to_string().into_bytes();
    let text = BASE64.encode(said);
    match question % 6 {
        2 => vec![
            answer(json!(1)),
            answer(json!({"count": said.len(), "buf-b64": text})),
            answer(json!({})),
        ],
        1 => vec![[b"{\"return\":", said, b"}"].concat()],
        _ => vec![
            answer(json!({"pid": 1})),
            answer(
                json!({"exited": true, "exitcode": question / 64, "out-data": text, "err-data": text}),
            ),
        ],
    }
}

fn converge(guest: &Guest<'_>) {
    static SPEC: LazyLock<Option<GuestSpec>> =
        LazyLock::new(|| GuestSpec::from_json(include_bytes!("../corpus/spec/whole")));
    let Some(spec) = &*SPEC else {
        panic!("the corpus has no sound spec");
    };
    match guest.converge(spec, Extent::All, &[], Duration::ZERO) {
        Ok(done) => done.notes.iter().for_each(|note| assert_one_line(note)),
        Err(error) => {
            let error = error.into_host_error("changing the guest");
            assert_one_line(&error.to_string());
            assert!(error.said.chars().count() < 3000);
        }
    }
}

/// A status on a terminal, and as a document.
fn shown(guest: GuestStatus) {
    let status = Status {
        name: "lb-1".into(),
        at: NOW,
        uri: "qemu:///system".into(),
        state: "running".into(),
        reason: None,
        addresses: Vec::new(),
        certificate: None,
        patroni_tls: "mutual",
        seed_unknown: None,
        verify_host: None,
        verified: String::new(),
        known_as: None,
        holds: true,
        leader: "primary",
        is_ours: true,
        guest: GuestAnswer::Status(Box::new(guest)),
        drift: Ok(Vec::new()),
        restart_pending: false,
        notes: Vec::new(),
    };
    for columns in [20, 80] {
        let lines = status.lines(Some(columns), true);
        assert!(lines.len() < 20_000, "{} lines", lines.len());
        for line in lines {
            let line = line.text();
            assert_one_line(line);
            assert!(
                line.width() <= columns,
                "{} columns: {line:?}",
                line.width()
            );
        }
    }
    status
        .lines(None, false)
        .iter()
        .for_each(|line| assert_one_line(line.text()));
    let document = serde_json::to_string(&status.to_document()).unwrap_or_default();
    assert!((2..1_000_000).contains(&document.len()));
}

/// A CA as its owner gives it (key and certificate, parted by a NUL byte), and a client's pair.
pub fn pem(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (key, certificate) = text.split_once('\0').unwrap_or((text, text));
    match Ca::load(&Secret::new(key), certificate) {
        Ok(ca) => {
            assert_one_line(ca.subject());
            let _ = ca.check_time(NOW);
        }
        Err(error) => {
            assert_one_line(&error.to_string());
            let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
            let line = key.lines().find(|line| {
                line.len() >= 32 && line.bytes().all(base64) && error.message.contains(line)
            });
            assert_eq!(line, None, "a piece of the key in {error}");
        }
    }
    match ClientPair::from_pem(key) {
        Ok(pair) => {
            assert_one_line(&pair.facts().subject);
            assert_one_line(&pair.facts().issuer);
            let again = ClientPair::from_pem(pair.pem().expose());
            assert_eq!(again.map(|p| p.facts().clone()), Ok(pair.facts().clone()));
        }
        Err(error) => assert_one_line(&error.to_string()),
    }
}

/// `guest-spec.json` of a seed that was found.
pub fn spec(data: &[u8]) {
    let Some(spec) = GuestSpec::from_json(data) else {
        return;
    };
    let json = spec.to_json();
    assert_eq!(
        GuestSpec::from_json(json.expose().as_bytes()).as_ref(),
        Some(&spec)
    );
    assert!(!spec.start_print().is_empty());
    let seed = render::seed_files(&spec, String::new());
    assert!(!seed.meta_data.is_empty());
}

/// What a DNS server answers `check --host`: the first two bytes are the question's number.
pub fn dns(data: &[u8]) {
    let Some([high, low]) = data.first_chunk() else {
        return;
    };
    match read(data, u16::from_be_bytes([*high, *low])) {
        Some(DnsAnswer::Addresses(all)) => {
            assert!(all.len() <= MOST && all.is_sorted());
        }
        Some(DnsAnswer::Refused(said)) => assert!(!said.chars().any(drives_terminal)),
        Some(DnsAnswer::Silent(_)) => unreachable!("bytes are no silence"),
        None => {}
    }
}

/// A Terraform state that `lbctl import` is given. The first byte chooses which of its domains is
/// meant, where there are several.
pub fn state(data: &[u8]) {
    let Some((first, text)) = data.split_first() else {
        return;
    };
    let state = match State::parse(text) {
        Ok(state) => state,
        Err(error) => return assert_one_line(&error.to_string()),
    };
    let addresses: Vec<String> = state
        .of("libvirt_domain")
        .map(|domain| domain.address.to_string())
        .collect();
    let address = addresses.get(usize::from(*first) % addresses.len().max(1));
    let wanted = Wanted {
        address: address.map(String::as_str),
        ..Wanted::default()
    };
    if let Ok(chosen) = choose(&state, &wanted) {
        let imported = import(None, Some((&state, &chosen)), "a state", None);
        assert_imported(&imported);
    }
}

/// The configuration is TOML whatever the names are, and what is said of it is fit for a terminal.
fn assert_imported(imported: &Imported) {
    let text = &imported.written.text;
    assert!(
        !text
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t'),
        "{text:?}"
    );
    if let Err(error) = toml::from_str::<toml::Table>(text) {
        panic!("{error} in {text}");
    }
    for said in imported.notes.iter().chain(&imported.differences) {
        assert_one_line(said);
    }
    if let Some(leaving) = &imported.leaving {
        leaving
            .state_rm
            .iter()
            .for_each(|line| assert_one_line(line));
    }
}

/// User-data and network-config of a seed that is found. The first byte says which it is.
pub fn userdata(data: &[u8]) {
    let Some((first, text)) = data.split_first() else {
        return;
    };
    if first & 1 == 1 {
        let (found, _) = ethernets(text);
        assert!(found.len() <= 64);
        return;
    }
    let found = UserData::read(text);
    assert!(!format!("{found:?}").contains("PRIVATE"));
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let state = json!({"version": 4, "resources": [
        {"type": "libvirt_domain", "name": "n", "instances": [{"attributes": {"name": "lb-1", "cloudinit": "s"}}]},
        {"type": "libvirt_cloudinit_disk", "name": "n", "instances": [{"attributes": {"id": "s", "user_data": text}}]}]});
    let Ok(state) = State::parse(state.to_string().as_bytes()) else {
        panic!("a state of this form is read");
    };
    let wanted = Wanted {
        name: Some("lb-1"),
        ..Wanted::default()
    };
    let Ok(chosen) = choose(&state, &wanted) else {
        panic!("it has one domain");
    };
    assert_imported(&import(None, Some((&state, &chosen)), "a seed", None));
}
