//! The seed: the cloud-init volume that a guest boots from, as files, as image and as what is found
//! in a pool.
//!
//! libvirt volumes carry no metadata, so a seed carries lbctl's tag in its own first bytes, with
//! the VM's name and what was made for the VM. The fingerprint is over the files, never over the
//! image.

pub mod iso;

use std::fmt;

use crate::cert::ClientPair;
use crate::config::{Config, VolumeRef};
use crate::host::HostEntry;
use crate::host::ownership::PartPrints;
use crate::render::{self, GuestSpec};
use crate::secret::{MASK, Secret};

/// Volume label that cloud-init's `NoCloud` source looks for.
const LABEL: &str = "cidata";
/// A seed is some hundreds of KiB; what is larger is not a seed of lbctl, and is not read whole.
pub const MAX_SIZE: u64 = 4 * 1024 * 1024;
/// A device has whole extents, and is larger than what is written into it. An empty one that is
/// larger than this was not made for a seed.
pub const MAX_DEVICE: u64 = 64 * 1024 * 1024;
/// As much of a seed's beginning as says whose it is.
pub const HEAD: u64 = 32 * 1024;
/// Beside the files that cloud-init reads, for lbctl to read back: the certificate and key in use,
const CLIENT_PEM: &str = "client.pem";
/// and what the user-data was rendered from.
const GUEST_SPEC: &str = "guest-spec.json";
const NETWORK_CONFIG: &str = "network-config";
const META_DATA: &str = "meta-data";
const USER_DATA: &str = "user-data";
const VENDOR_DATA: &str = "vendor-data";
/// What was rendered from the spec, and the spec: most of a seed, and nobody reads their texts.
const LARGE: [&str; 3] = [USER_DATA, VENDOR_DATA, GUEST_SPEC];
/// The names that a seed may have: one is in use while its successor is written.
const PLACES: usize = 3;

/// A whole seed.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    /// What the guest is to be.
    pub guest: GuestSpec,
    pub meta_data: String,
    pub network_config: String,
    /// The certificate and key for the health checks.
    pub client_pem: Option<Secret>,
    /// SHA-256 over names and contents of the files, in hexadecimal.
    pub fingerprint: String,
    pub parts: PartPrints,
    /// What its tag names as made for the VM.
    pub made: Vec<String>,
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed({})", self.fingerprint)
    }
}

/// The fingerprints of a seed's parts.
fn part_prints(guest: &GuestSpec, json: &[u8], network_config: &str) -> PartPrints {
    PartPrints {
        guest: render::fingerprint([(GUEST_SPEC, json)]),
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
    /// What its tag names as made for the VM.
    pub made: Vec<String>,
    /// Without user-data, vendor-data and the spec.
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
    /// Renders the configuration's seed with the client certificate given, where it has one.
    pub fn build(config: &Config, client: Option<&ClientPair>) -> Result<Self, SeedError> {
        let pem = client.map(ClientPair::pem);
        let guest = GuestSpec::from_config(config, &check_tls(config, pem.clone()));
        Self::assemble(guest, render::network_config(config), pem.as_ref())
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
        let pem = Some(client.pem());
        let guest = found.guest.clone()?;
        let guest = guest.with_tls(&check_tls(config, pem.clone()));
        Some(Self::assemble(guest, network_config, pem.as_ref()))
    }

    /// The seed as it may be shown, each secret masked. It starts no load balancer. Its instance-id
    /// is the real one's.
    pub fn masked(&self, config: &Config) -> Result<Self, SeedError> {
        let pem = self.client_pem.clone();
        let mask = pem.as_ref().map(|_| Secret::new(MASK));
        let guest = GuestSpec::masked(config, &check_tls(config, pem));
        let network_config = render::network_config(config);
        let mut shown = render::seed_files(&guest, network_config);
        self.meta_data.clone_into(&mut shown.meta_data);
        Self::new(guest, shown, mask.as_ref())
    }

    /// The same, with a tag that names what is about to be made for the VM, or was: so lbctl knows
    /// it again where no domain has a record.
    #[must_use]
    pub fn making(self, made: &[String]) -> Self {
        Self {
            made: made.to_vec(),
            ..self
        }
    }

    /// The ISO image; the same files give the same bytes. It is made where it is needed and not
    /// kept, for nothing of it is compared.
    pub fn image(&self) -> Result<Vec<u8>, SeedError> {
        let files = self.files();
        let image = |made: &[String]| iso::write(LABEL, Some(&tag(&self.guest.name, made)), &files);
        // A list too long for a tag is left out.
        image(&self.made).or_else(|_| image(&[])).map_err(SeedError)
    }

    fn assemble(
        guest: GuestSpec,
        network_config: String,
        pem: Option<&Secret>,
    ) -> Result<Self, SeedError> {
        let rendered = render::seed_files(&guest, network_config);
        Self::new(guest, rendered, pem)
    }

    fn new(
        guest: GuestSpec,
        rendered: render::SeedFiles,
        pem: Option<&Secret>,
    ) -> Result<Self, SeedError> {
        let render::SeedFiles {
            user_data,
            vendor_data,
            meta_data,
            network_config,
        } = rendered;
        let json = guest.to_json().into_bytes();
        let mut seed = Self {
            parts: part_prints(&guest, &json, &network_config),
            fingerprint: String::new(),
            guest,
            meta_data,
            network_config,
            client_pem: pem.cloned(),
            made: Vec::new(),
        };
        let files = seed.files_with(user_data, vendor_data, json);
        seed.fingerprint = fingerprint(files.iter().map(|f| (f.name.as_str(), &f.data[..])));
        // What has no image is refused before anything is made.
        iso::ensure_writable(LABEL, Some(&tag(&seed.guest.name, &[])), &files)
            .map_err(SeedError)?;
        Ok(seed)
    }

    /// They are some hundreds of KiB, nearly all of it rendered from the spec: so they are rendered
    /// again where they are needed, and not kept.
    #[must_use]
    pub fn files(&self) -> Vec<iso::File> {
        self.files_with(
            render::user_data(&self.guest),
            render::vendor_data(&self.guest),
            self.guest.to_json().into_bytes(),
        )
    }

    fn files_with(&self, user_data: Secret, vendor_data: String, json: Vec<u8>) -> Vec<iso::File> {
        let mut files = vec![
            iso::File::new(META_DATA, self.meta_data.as_str()),
            iso::File::new(NETWORK_CONFIG, self.network_config.as_str()),
            iso::File::new(USER_DATA, user_data.into_bytes()),
            iso::File::new(VENDOR_DATA, vendor_data),
        ];
        let pem = self.client_pem.as_ref();
        files.extend(pem.map(|pem| iso::File::new(CLIENT_PEM, pem.expose())));
        files.push(iso::File::new(GUEST_SPEC, json));
        files
    }
}

fn text<'a>(files: &'a [iso::File], name: &str) -> Option<&'a str> {
    let file = files.iter().find(|f| f.name == name)?;
    std::str::from_utf8(&file.data).ok()
}

fn check_tls(config: &Config, client_pem: Option<Secret>) -> render::CheckTls {
    render::CheckTls {
        client_pem,
        ca_pem: config.haproxy.patroni_tls.ca_pem().map(str::to_owned),
    }
}

/// Recognises the content of a volume.
#[must_use]
pub fn recognise(bytes: &[u8], vm: &str) -> SeedContent {
    let Some((found, made)) = iso::read_tag(bytes).and_then(read_tag) else {
        return if bytes.iter().all(|b| *b == 0) {
            SeedContent::Unfinished
        } else {
            SeedContent::Foreign
        };
    };
    if found != vm {
        return SeedContent::OfAnother(found.to_owned());
    }
    let Ok((_, entries)) = iso::entries(bytes) else {
        return SeedContent::Unfinished;
    };
    let file = |name: &str| entries.iter().find(|f| f.name == name).map(|f| f.data);
    let pem = file(CLIENT_PEM).and_then(|pem| str::from_utf8(pem).ok());
    let small = |entry: &&iso::Entry<'_>| !LARGE.contains(&entry.name.as_str());
    SeedContent::Ours(Box::new(FoundSeed {
        fingerprint: fingerprint(entries.iter().map(|f| (f.name.as_str(), f.data))),
        made,
        client_pem: pem.map(Secret::new),
        guest: file(GUEST_SPEC).and_then(GuestSpec::from_json),
        files: entries
            .iter()
            .filter(small)
            .map(|f| iso::File::new(f.name.as_str(), f.data))
            .collect(),
    }))
}

/// Whose seed a volume of lbctl's is, by its first bytes ([`HEAD`] of them). `None`: it is none.
#[must_use]
pub fn owner(head: &[u8]) -> Option<String> {
    let (vm, _) = iso::read_tag(head).and_then(read_tag)?;
    Some(vm.to_owned())
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

/// A volume, in the tag of a seed: names may hold what a tag cannot.
#[must_use]
pub fn print_of_volume(at: &VolumeRef) -> String {
    let VolumeRef { pool, name } = at;
    render::fingerprint([("pool", pool.as_bytes()), ("volume", name.as_bytes())])
}

/// A DHCP host entry of the network with that uuid, in the tag of a seed.
#[must_use]
pub fn print_of_entry(network: &str, entry: &HostEntry) -> String {
    let HostEntry { mac, ip, name } = entry;
    let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
    let name = name.as_deref().unwrap_or_default();
    render::fingerprint([
        ("network", network.as_bytes()),
        ("mac", mac.as_bytes()),
        ("ip", ip.to_string().as_bytes()),
        ("name", name.as_bytes()),
    ])
}

const TAG: &str = "lbctl seed v1 vm=";
const MADE: &str = " made=";

fn tag(vm: &str, made: &[String]) -> String {
    if made.is_empty() {
        return format!("{TAG}{vm}");
    }
    format!("{TAG}{vm}{MADE}{}", made.join(","))
}

/// The VM's name, and what was made for it. A seed of lbctl 0.1.0 does not say that.
fn read_tag(tag: &str) -> Option<(&str, Vec<String>)> {
    let rest = tag.trim_end().strip_prefix(TAG)?;
    Some(match rest.split_once(MADE) {
        Some((vm, made)) => (vm, made.split(',').map(String::from).collect()),
        None => (rest, Vec::new()),
    })
}

fn fingerprint<'f>(files: impl Iterator<Item = (&'f str, &'f [u8])>) -> String {
    let mut sorted: Vec<_> = files.collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    render::fingerprint(sorted)
}
