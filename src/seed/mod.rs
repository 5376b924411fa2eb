//! The seed: the cloud-init volume that a guest boots from, as files, as image and as what is found
//! in a pool.
//!
//! libvirt volumes carry no metadata, so a seed carries lbctl's tag in its own first bytes, with
//! the VM's name. The fingerprint is over the files, never over the image.

pub mod iso;

use std::fmt;

use crate::cert::ClientPair;
use crate::config::{Config, VolumeRef};
use crate::host::ownership::PartPrints;
use crate::render::{self, GuestSpec};
use crate::secret::{MASK, Secret};

/// Volume label that cloud-init's `NoCloud` source looks for.
const LABEL: &str = "cidata";
/// A seed is some tens of KiB; what is larger is not a seed of lbctl, and is not read whole.
pub const MAX_SIZE: u64 = 4 * 1024 * 1024;
/// Beside the files that cloud-init reads, for lbctl to read back: the certificate and key in use,
const CLIENT_PEM: &str = "client.pem";
/// and what the user-data was rendered from.
const GUEST_SPEC: &str = "guest-spec.json";
const NETWORK_CONFIG: &str = "network-config";
const META_DATA: &str = "meta-data";
/// The names that a seed may have: one is in use while its successor is written.
const PLACES: usize = 3;

/// A whole seed.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    /// What the guest is to be.
    pub guest: GuestSpec,
    pub files: Vec<iso::File>,
    /// SHA-256 over names and contents of the files, in hexadecimal.
    pub fingerprint: String,
    pub parts: PartPrints,
    /// The ISO image; the same files give the same bytes.
    pub image: Vec<u8>,
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed({}, {} bytes)", self.fingerprint, self.image.len())
    }
}

/// The fingerprints of a seed's parts.
fn part_prints(guest: &GuestSpec, network_config: &str) -> PartPrints {
    let json = guest.to_json();
    PartPrints {
        guest: render::fingerprint([(GUEST_SPEC, json.expose().as_bytes())]),
        start: guest.start_print(),
        boot: render::fingerprint([
            ("local-hostname", guest.name.as_bytes()),
            (NETWORK_CONFIG, network_config.as_bytes()),
        ]),
    }
}

/// What was found in a volume with a seed's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeedContent {
    Ours(Box<FoundSeed>),
    /// Nothing but zeros, or lbctl's tag for this VM and then no whole image: an upload that was
    /// cut off.
    Unfinished,
    /// lbctl's, of the VM named.
    OfAnother(String),
    /// Anything else.
    Foreign,
}

#[derive(Clone, PartialEq, Eq)]
pub struct FoundSeed {
    pub fingerprint: String,
    pub files: Vec<iso::File>,
    pub client_pem: Option<Secret>,
    /// `None`: of another generation of lbctl.
    pub guest: Option<GuestSpec>,
}

impl FoundSeed {
    /// A file of the seed that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        text(&self.files, name)
    }
}

impl fmt::Debug for FoundSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FoundSeed({})", self.fingerprint)
    }
}

/// Why the image of a seed could not be made.
#[derive(Debug)]
pub struct SeedError(iso::IsoError);

impl fmt::Display for SeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writing the seed's image: {}", self.0)
    }
}

impl std::error::Error for SeedError {}

impl Seed {
    /// Renders the configuration's seed with the certificate given.
    pub fn build(config: &Config, client: &ClientPair) -> Result<Self, SeedError> {
        let pem = client.pem();
        let guest = GuestSpec::from_config(config, &check_tls(config, pem.clone()));
        Self::assemble(guest, render::network_config(config), &pem)
    }

    /// The seed found, with another certificate (and the configuration's CA) and nothing else
    /// changed. `None`: it is of another generation of lbctl.
    #[must_use]
    pub fn renewed(
        found: &FoundSeed,
        config: &Config,
        client: &ClientPair,
    ) -> Option<Result<Self, SeedError>> {
        let network_config = found.text(NETWORK_CONFIG)?.to_owned();
        let pem = client.pem();
        let guest = found.guest.clone()?;
        let guest = guest.with_tls(&check_tls(config, pem.clone()));
        Some(Self::assemble(guest, network_config, &pem))
    }

    /// The seed as it may be shown, each secret masked. It starts no load balancer. Its instance-id
    /// is the real one's.
    pub fn masked(&self, config: &Config) -> Result<Self, SeedError> {
        let pem = text(&self.files, CLIENT_PEM).unwrap_or_default();
        let guest = GuestSpec::masked(config, &check_tls(config, Secret::new(pem)));
        let network_config = render::network_config(config);
        let mut shown = render::seed_files(&guest, network_config);
        text(&self.files, META_DATA)
            .unwrap_or_default()
            .clone_into(&mut shown.meta_data);
        Self::new(guest, &shown, &Secret::new(MASK))
    }

    fn assemble(guest: GuestSpec, network_config: String, pem: &Secret) -> Result<Self, SeedError> {
        let rendered = render::seed_files(&guest, network_config);
        Self::new(guest, &rendered, pem)
    }

    fn new(
        guest: GuestSpec,
        rendered: &render::SeedFiles,
        pem: &Secret,
    ) -> Result<Self, SeedError> {
        let file = |name: &str, text: &str| iso::File {
            name: name.into(),
            data: text.as_bytes().to_vec(),
        };
        let files = vec![
            file(META_DATA, &rendered.meta_data),
            file(NETWORK_CONFIG, &rendered.network_config),
            file("user-data", rendered.user_data.expose()),
            file(CLIENT_PEM, pem.expose()),
            file(GUEST_SPEC, guest.to_json().expose()),
        ];
        let tag = Some(tag(&guest.name));
        let image = iso::write(&iso::Image {
            label: LABEL.into(),
            tag,
            files: files.clone(),
        })
        .map_err(SeedError)?;
        Ok(Self {
            parts: part_prints(&guest, &rendered.network_config),
            fingerprint: fingerprint(&files),
            guest,
            files,
            image,
        })
    }
}

fn text<'a>(files: &'a [iso::File], name: &str) -> Option<&'a str> {
    let file = files.iter().find(|f| f.name == name)?;
    std::str::from_utf8(&file.data).ok()
}

fn check_tls(config: &Config, client_pem: Secret) -> render::CheckTls {
    render::CheckTls {
        client_pem,
        ca_pem: config
            .haproxy
            .patroni_client
            .ca
            .certificate_pem()
            .to_owned(),
    }
}

/// Recognises the content of a volume.
#[must_use]
pub fn recognise(bytes: &[u8], vm: &str) -> SeedContent {
    let Some(found) = iso::read_tag(bytes).and_then(tagged_vm) else {
        return if bytes.iter().all(|b| *b == 0) {
            SeedContent::Unfinished
        } else {
            SeedContent::Foreign
        };
    };
    if found != vm {
        return SeedContent::OfAnother(found.to_owned());
    }
    let Ok(image) = iso::read(bytes) else {
        return SeedContent::Unfinished;
    };
    let spec = image.files.iter().find(|f| f.name == GUEST_SPEC);
    SeedContent::Ours(Box::new(FoundSeed {
        fingerprint: fingerprint(&image.files),
        client_pem: text(&image.files, CLIENT_PEM).map(Secret::new),
        guest: spec.and_then(|f| GuestSpec::from_json(&f.data)),
        files: image.files,
    }))
}

/// The volumes that the VM's seed may have, the configured one first.
#[must_use]
pub fn places(configured: &VolumeRef) -> Vec<VolumeRef> {
    let (stem, end) = match configured.name.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() => (stem.to_owned(), format!(".{end}")),
        _ => (configured.name.clone(), String::new()),
    };
    let other = |n| VolumeRef {
        pool: configured.pool.clone(),
        name: format!("{stem}.{n}{end}"),
    };
    std::iter::once(configured.clone())
        .chain((2..=PLACES).map(other))
        .collect()
}

fn tag(vm: &str) -> String {
    format!("lbctl seed v1 vm={vm}")
}

fn tagged_vm(tag: &str) -> Option<&str> {
    tag.trim_end().strip_prefix("lbctl seed v1 vm=")
}

fn fingerprint(files: &[iso::File]) -> String {
    let mut sorted: Vec<&iso::File> = files.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    render::fingerprint(sorted.into_iter().map(|f| (f.name.as_str(), &f.data[..])))
}
