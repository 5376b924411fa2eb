//! The seed: cloud-init's user-data, vendor-data, meta-data and network-config, and the
//! fingerprints that show whether they changed.
//!
//! Nine tenths of the files are the same in every VM. They are in the vendor-data, as a script:
//! cloud-init reads a cloud-config in eight places of a first boot, a character at a time
//! (cloud-init 22.4, `stages.py` and `handlers/cloud_config.py`; PyYAML's scanner).

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::path::Path;

use askama::Template;
use aws_lc_rs::digest::{Context, SHA256};

use super::files::is_fixed;
use super::programs::GUEST_PROGRAM;
use super::services::SERVICES;
use super::spec::GuestSpec;
use super::yaml::{Block, Quoted};
use crate::config::ADDED_LISTS as LISTS;
use crate::secret::Secret;

/// The unit of cloud-init's stage that writes files: until 24.2, and from 24.3 on.
const FILES_WRITTEN: [&str; 2] = ["cloud-init.service", "cloud-init-network.service"];

/// The four files of the NoCloud seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedFiles {
    pub user_data: Secret,
    pub vendor_data: String,
    pub meta_data: String,
    pub network_config: String,
}

#[derive(Template)]
#[template(path = "user-data.yaml", escape = "none")]
struct UserData<'a> {
    name: Quoted<'a>,
    user: Quoted<'a>,
    password_hash: Option<Quoted<'a>>,
    public_keys: Vec<Quoted<'a>>,
    packages: &'a [String],
    files: Vec<FileView<'a>>,
    guest_program: &'static str,
    apt: bool,
    http_proxy: Option<Quoted<'a>>,
    mirror: Option<Quoted<'a>>,
    security_mirror: Option<Quoted<'a>>,
    ca_certificates: Vec<Block<'a>>,
    timezone: Option<Quoted<'a>>,
    /// What the operator adds to lists of lbctl's.
    more_users: Vec<&'a str>,
    more_packages: Vec<&'a str>,
    more_files: Vec<&'a str>,
    more_commands: Vec<&'a str>,
    more: Vec<(&'a str, &'a str)>,
}

struct FileView<'a> {
    path: &'a str,
    mode: String,
    content: Block<'a>,
}

#[derive(Template)]
#[template(path = "vendor-data.sh", escape = "none")]
struct VendorData<'a> {
    folders: BTreeSet<&'a Path>,
    files: Vec<FixedView<'a>>,
    guest_program: &'static str,
    /// Whether the load balancer can start before cloud-init's last stages.
    early: bool,
    /// What it waits for then.
    files_written: [&'static str; 2],
    /// What else it waits for, as far as a boot starts that.
    services: Vec<&'static str>,
}

struct FixedView<'a> {
    path: &'a str,
    text: Word<'a>,
    executable: bool,
}

/// A text as one word of a shell's command. The shell writes it by itself: in a guest that is
/// emulated it takes two seconds to start `cat` for each file.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', r"'\''"))
    }
}

#[derive(Template)]
#[template(path = "meta-data.yaml", escape = "none")]
struct MetaData<'a> {
    instance_id: Quoted<'a>,
    name: Quoted<'a>,
}

/// The seed as the guest gets it. A changed instance-id makes cloud-init run everything again, so a
/// guest that was off during a change has it after its next boot; it is made from all the rest.
#[must_use]
pub fn seed_files(spec: &GuestSpec, network_config: String) -> SeedFiles {
    let user_data = user_data(spec);
    let vendor_data = vendor_data(spec);
    let fingerprint = fingerprint([
        ("user-data", user_data.expose().as_bytes()),
        ("vendor-data", vendor_data.as_bytes()),
        ("network-config", network_config.as_bytes()),
        ("local-hostname", spec.name.as_bytes()),
    ]);
    let name = &spec.name;
    let instance_id = format!("{name}-{}", fingerprint.get(..16).unwrap_or(&fingerprint));
    let meta_data = super::render(&MetaData {
        instance_id: Quoted(&instance_id),
        name: Quoted(name),
    });
    SeedFiles {
        user_data,
        vendor_data,
        meta_data,
        network_config,
    }
}

/// SHA-256 over named contents, in hexadecimal. Lengths are hashed too, so that none can be taken
/// for a part of another.
pub fn fingerprint<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut context = Context::new(&SHA256);
    for part in files
        .into_iter()
        .flat_map(|(name, data)| [name.as_bytes(), data])
    {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context
        .finish()
        .as_ref()
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// All that the guest is told, without what is the same in every VM.
#[must_use]
pub fn user_data(spec: &GuestSpec) -> Secret {
    let GuestSpec {
        name,
        admin,
        packages,
        files,
        first_boot,
        ..
    } = spec;
    let added = |name: &str| {
        let of_key = first_boot.added.iter().filter(|added| added.key == name);
        of_key.flat_map(|a| a.values.expose().lines()).collect()
    };
    let more = first_boot.added.iter();
    let more = more.filter(|added| !LISTS.contains(&added.key.as_str()));
    Secret::new(super::render(&UserData {
        name: Quoted(name),
        user: Quoted(&admin.user),
        password_hash: admin
            .password_hash
            .as_ref()
            .map(|hash| Quoted(hash.expose())),
        public_keys: admin.public_keys.iter().map(|key| Quoted(key)).collect(),
        packages,
        files: files
            .iter()
            .filter(|file| !is_fixed(&file.path))
            .map(file_view)
            .collect(),
        guest_program: GUEST_PROGRAM,
        apt: first_boot.http_proxy.is_some() || !first_boot.apt_mirrors.is_empty(),
        http_proxy: first_boot.http_proxy.as_deref().map(Quoted),
        mirror: first_boot.apt_mirrors.first().map(|url| Quoted(url)),
        security_mirror: first_boot.apt_mirrors.get(1).map(|url| Quoted(url)),
        ca_certificates: first_boot
            .ca_certificates
            .iter()
            .map(|text| Block { text, indent: 6 })
            .collect(),
        timezone: first_boot.timezone.as_deref().map(Quoted),
        more_users: added("users"),
        more_packages: added("packages"),
        more_files: added("write_files"),
        more_commands: added("runcmd"),
        more: more
            .map(|added| (added.key.as_str(), added.values.expose()))
            .collect(),
    }))
}

/// What is the same in every VM, as a boothook, which cloud-init runs before it writes the files of
/// the user-data. It also has the load balancer start as soon as these are written, where none of
/// cloud-init's last stages does anything that it needs.
#[must_use]
pub fn vendor_data(spec: &GuestSpec) -> String {
    let fixed = || spec.files.iter().filter(|file| is_fixed(&file.path));
    let folders = fixed().filter_map(|file| Path::new(file.path.as_ref()).parent());
    super::render(&VendorData {
        folders: folders.collect(),
        files: fixed()
            .map(|file| FixedView {
                path: &file.path,
                text: Word(file.content.expose()),
                executable: file.mode & 0o100 != 0,
            })
            .collect(),
        guest_program: GUEST_PROGRAM,
        early: spec.packages.is_empty() && spec.first_boot.is_empty(),
        files_written: FILES_WRITTEN,
        services: SERVICES.iter().map(|service| service.unit).collect(),
    })
}

fn file_view(file: &super::GuestFile) -> FileView<'_> {
    FileView {
        path: &file.path,
        mode: format!("{:04o}", file.mode),
        content: Block {
            text: file.content.expose(),
            indent: 6,
        },
    }
}
