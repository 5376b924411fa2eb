//! The seed: the cloud-init volume that a guest boots from, as files, as image and as what is found in a pool.
//!
//! libvirt volumes carry no metadata, so a seed carries lbctl's mark in its own first bytes, with the VM's name. The
//! fingerprint is over the files, never over the image.

use std::fmt;

use crate::cert::ClientPair;
use crate::config::{Config, VolumeRef};
use crate::iso;
use crate::render;
use crate::secret::{MASK, Secret};

/// Volume label that cloud-init's `NoCloud` source looks for.
const LABEL: &str = "cidata";
/// A seed is some tens of KiB; what is larger is none of ours, and is not read whole.
pub const MAX_SIZE: u64 = 4 * 1024 * 1024;
/// The certificate and key in use, beside the files that cloud-init reads, for lbctl to read back.
const CLIENT_PEM: &str = "client.pem";
/// The names under which a seed may stand: one is in use while its successor is written.
const PLACES: usize = 3;

/// A whole seed.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    pub files: Vec<iso::File>,
    /// SHA-256 over names and contents of the files, in hexadecimal.
    pub fingerprint: String,
    /// The ISO image; the same files give the same bytes.
    pub image: Vec<u8>,
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed({}, {} bytes)", self.fingerprint, self.image.len())
    }
}

/// What was found in a volume at a seed's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeedContent {
    Ours(FoundSeed),
    /// Nothing but zeros, or lbctl's mark for this VM and then no whole image: an upload that was cut off.
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
}

impl fmt::Debug for FoundSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FoundSeed({})", self.fingerprint)
    }
}

impl Seed {
    /// Renders the configuration's seed with the certificate given.
    pub fn build(config: &Config, client: &ClientPair) -> Result<Self, String> {
        let pem = client.pem();
        let rendered = render::seed_files(config, &check_tls(config, pem.clone()));
        Self::assemble(config, &rendered, &pem)
    }

    /// The seed as it may be shown, each secret masked. It starts no load balancer.
    pub fn masked(&self, config: &Config) -> Result<Self, String> {
        let pem = self
            .files
            .iter()
            .find(|f| f.name == CLIENT_PEM)
            .map(|f| String::from_utf8_lossy(&f.data).into_owned());
        let rendered = render::masked(
            config,
            &check_tls(config, Secret::new(pem.unwrap_or_default())),
        );
        Self::assemble(config, &rendered, &Secret::new(MASK))
    }

    fn assemble(
        config: &Config,
        rendered: &render::SeedFiles,
        pem: &Secret,
    ) -> Result<Self, String> {
        let file = |name: &str, text: &str| iso::File {
            name: name.into(),
            data: text.as_bytes().to_vec(),
        };
        let files = vec![
            file("meta-data", &rendered.meta_data),
            file("network-config", &rendered.network_config),
            file("user-data", rendered.user_data.expose()),
            file(CLIENT_PEM, pem.expose()),
        ];
        let mark = Some(mark(config.name.as_str()));
        let image = iso::write(&iso::Image {
            label: LABEL.into(),
            mark,
            files: files.clone(),
        })
        .map_err(|e| format!("writing the seed's image: {e}"))?;
        Ok(Self {
            fingerprint: fingerprint(&files),
            files,
            image,
        })
    }
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

/// Recognises what stands in a volume.
#[must_use]
pub fn recognise(bytes: &[u8], vm: &str) -> SeedContent {
    let Some(found) = iso::read_mark(bytes).and_then(marked_vm) else {
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
    let pem = image.files.iter().find(|f| f.name == CLIENT_PEM);
    let client_pem = pem
        .and_then(|f| std::str::from_utf8(&f.data).ok())
        .map(Secret::new);
    SeedContent::Ours(FoundSeed {
        fingerprint: fingerprint(&image.files),
        client_pem,
        files: image.files,
    })
}

/// The volumes where the VM's seed may stand, the configured one first.
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

fn mark(vm: &str) -> String {
    format!("lbctl seed v1 vm={vm}")
}

fn marked_vm(mark: &str) -> Option<&str> {
    mark.trim_end().strip_prefix("lbctl seed v1 vm=")
}

fn fingerprint(files: &[iso::File]) -> String {
    let mut sorted: Vec<&iso::File> = files.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    render::fingerprint(sorted.into_iter().map(|f| (f.name.as_str(), &f.data[..])))
}
