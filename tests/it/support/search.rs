//! Looking for secrets, in every form they could have taken. A search that finds nothing proves
//! nothing by itself: beside the secrets there is a marker that is none, and each kind of place
//! must have it somewhere.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// The length of the search's index entries; no form is shorter.
const HEAD: usize = 8;

/// What could hold a secret.
struct Place {
    kind: String,
    name: String,
    content: Vec<u8>,
}

#[derive(Default)]
pub struct Search {
    /// By its first bytes: a form, and whose it is.
    forms: HashMap<[u8; HEAD], Vec<(Vec<u8>, String)>>,
    marker: String,
    secrets: usize,
    places: Vec<Place>,
}

impl Search {
    /// `marker`: what is not a secret and is shown.
    pub fn new(marker: &str) -> Self {
        Self {
            marker: marker.into(),
            ..Self::default()
        }
    }

    pub fn secret(&mut self, name: &str, text: &str) {
        self.secrets += 1;
        for (form, bytes) in forms(text) {
            let head = bytes[..HEAD].try_into().unwrap();
            let forms = self.forms.entry(head).or_default();
            if forms.iter().all(|(known, _)| *known != bytes) {
                forms.push((bytes, format!("{name} ({form})")));
            }
        }
    }

    /// Each line of the key that is long enough to be its own.
    pub fn key(&mut self, name: &str, pem: &str) {
        let lines = pem
            .lines()
            .filter(|line| line.len() >= 16 && !line.starts_with('-'));
        for (number, line) in lines.enumerate() {
            self.secret(&format!("{name}, line {}", number + 1), line);
        }
    }

    /// The names of the secrets in it, a name for each time that one is there.
    pub fn names_in(&self, content: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        // Of a process's memory nearly every place is passed over by this alone.
        let mut begins = [false; 256];
        for head in self.forms.keys() {
            begins[usize::from(head[0])] = true;
        }
        let last = content.len().saturating_sub(HEAD - 1);
        for (at, _) in content[..last]
            .iter()
            .enumerate()
            .filter(|(_, byte)| begins[usize::from(**byte)])
        {
            let Some(forms) = self.forms.get(&content[at..at + HEAD]) else {
                continue;
            };
            let here = forms
                .iter()
                .filter(|(form, _)| content[at..].starts_with(form));
            names.extend(here.map(|(_, name)| name.clone()));
        }
        names
    }

    /// Keeps what is there to be searched in the end, when every secret is known: some are made
    /// during the test.
    pub fn place(&mut self, kind: &str, place: &str, content: impl AsRef<[u8]>) {
        self.places.push(Place {
            kind: kind.into(),
            name: place.into(),
            content: content.as_ref().to_vec(),
        });
    }

    /// Nothing is found, and each kind of place could have shown it.
    #[track_caller]
    pub fn nothing_found(&self) {
        let mut found = Vec::new();
        // By kind: places, and how many have the marker.
        let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let marker = self.marker.as_bytes();
        for Place {
            kind,
            name,
            content,
        } in &self.places
        {
            let shows = content.windows(marker.len()).any(|w| w == marker);
            let counts = kinds.entry(kind).or_default();
            counts.0 += 1;
            counts.1 += usize::from(shows);
            let names = self.names_in(content).into_iter();
            found.extend(names.map(|secret| format!("{secret} in {kind}: {name}")));
        }
        println!(
            "{} secrets in {} forms searched in {} places: {} found",
            self.secrets,
            self.forms.values().map(Vec::len).sum::<usize>(),
            self.places.len(),
            found.len()
        );
        for (kind, (places, marked)) in kinds {
            println!("  {kind}: {places} places, {marked} with what is not a secret");
            assert!(marked > 0, "not even {:?} is in {kind}", self.marker);
        }
        assert!(found.is_empty(), "found: {found:#?}");
    }
}

/// A secret as it is, and as it is encoded wherever texts are.
fn forms(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = text.as_bytes();
    assert!(bytes.len() >= HEAD, "too short to be searched for: {text}");
    let mut forms = vec![("as it is", bytes.to_vec())];
    // Base64 of a text that the secret is within begins at one of three places of it.
    for before in 0..3 {
        let whole = STANDARD_NO_PAD.encode([&vec![0; before][..], bytes].concat());
        let (from, to) = ([0, 2, 3][before], whole.len() - 1);
        forms.push(("base64", whole.as_bytes()[from..to].to_vec()));
    }
    forms.push(("hexadecimal", hexadecimal(bytes, false).into_bytes()));
    forms.push(("hexadecimal", hexadecimal(bytes, true).into_bytes()));
    let json = serde_json::to_string(text).unwrap();
    forms.push(("JSON", json.as_bytes()[1..json.len() - 1].to_vec()));
    let debug = format!("{text:?}");
    forms.push(("Debug", debug.as_bytes()[1..debug.len() - 1].to_vec()));
    let fluentd = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('#', "\\#");
    forms.push(("fluentd", fluentd.into_bytes()));
    let list = format!("{bytes:?}");
    forms.push((
        "a list of bytes",
        list.as_bytes()[1..list.len() - 1].to_vec(),
    ));
    forms
}

fn hexadecimal(bytes: &[u8], upper: bool) -> String {
    let digits = if upper {
        b"0123456789ABCDEF"
    } else {
        b"0123456789abcdef"
    };
    let pair = |b: &u8| [b >> 4, b & 15].map(|digit| char::from(digits[usize::from(digit)]));
    bytes.iter().flat_map(pair).collect()
}

#[test]
fn a_secret_is_found_in_every_form() {
    let text = "pass \"word\" \\ ö";
    let mut search = Search::new("marker");
    search.secret("it", text);
    let encoded = |before: &str| STANDARD_NO_PAD.encode(format!("{before}{text}{before}"));
    for place in [
        format!("a {text}"),
        encoded(""),
        encoded("x"),
        encoded("xy"),
        serde_json::json!([text]).to_string(),
        format!("{text:?}"),
        format!("{:?}", text.as_bytes()),
        hexadecimal(text.as_bytes(), false),
    ] {
        assert!(!search.names_in(place.as_bytes()).is_empty(), "{place}");
    }
    assert_eq!(search.names_in(b"pass word"), [""; 0]);
}
