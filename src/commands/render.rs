//! `lbctl render`: everything that the VM is made from, on a machine that needs no libvirt.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::files::{Readers, exists, write_all};
use super::vms::{SeveralReport, VmResult, Vms};
use super::{CommandError, CommandResult, load};
use crate::cli::Cli;
use crate::config::{Config, Disk, DiskFormat, VolumeRef};
use crate::exit::{Exit, Failure, MessageId};
use crate::host::Source;
use crate::host::ownership::{LAYOUT, Ownership, SeedRecord};
use crate::output::Output;
use crate::output::json::{Answer, RenderDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::reconcile::desired::{self, Intent};
use crate::render::domain::{self, RootDisk};
use crate::render::haproxy_cfg;
use crate::seed::{self, Seed};

/// The seed's image, which is bytes and is listed by its size.
const IMAGE: &str = "seed.iso";
/// lbctl's programs and units in the guest, which are long, and are listed by their size.
const FIXED: &str = "vendor-data";
const HAPROXY: &str = "haproxy.cfg";
const DOMAIN: &str = "domain.xml";
/// Those that are in the seed, too.
const OF_SEED: [&str; 4] = ["user-data", FIXED, "meta-data", "network-config"];
/// All that is written.
const FILES: [&str; 7] = [
    OF_SEED[0], OF_SEED[1], OF_SEED[2], OF_SEED[3], HAPROXY, DOMAIN, IMAGE,
];

struct Rendered {
    name: &'static str,
    data: Vec<u8>,
}

impl Rendered {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }
}

pub(super) fn run(
    cli: &Cli,
    out: &Output,
    directory: Option<&Path>,
    show_secrets: bool,
) -> CommandResult {
    match load(cli, out)? {
        Vms::One(config) => {
            ensure_replaceable(directory)?;
            let report = render(&config, out, directory, show_secrets, false)?;
            say_masked(out, directory, show_secrets);
            Ok(Box::new(report))
        }
        Vms::Several(vms) => {
            for config in &vms {
                let folder = directory.map(|directory| directory.join(config.name.as_str()));
                ensure_replaceable(folder.as_deref())?;
            }
            let mut results = Vec::new();
            for config in &vms {
                let name = config.name.as_str();
                let folder = directory.map(|directory| directory.join(name));
                let report = render(config, out, folder.as_deref(), show_secrets, true)?;
                results.push(VmResult::done(name, report));
            }
            say_masked(out, directory, show_secrets);
            Ok(Box::new(SeveralReport {
                command: "render",
                vms: results,
                apart: false,
            }))
        }
    }
}

/// Only what lbctl rendered is replaced: files of these names in a folder with a seed of lbctl's.
fn ensure_replaceable(directory: Option<&Path>) -> Result<(), Failure> {
    let Some(directory) = directory else {
        return Ok(());
    };
    let mut paths = FILES.iter().map(|name| directory.join(name));
    match paths.find(|path| path.symlink_metadata().is_ok()) {
        Some(path) if !has_our_seed(directory) => Err(exists(&path)),
        _ => Ok(()),
    }
}

fn has_our_seed(directory: &Path) -> bool {
    let image = directory.join(IMAGE);
    let is_file = image.symlink_metadata().is_ok_and(|facts| facts.is_file());
    let mut head = Vec::new();
    let read = is_file.then(|| File::open(image)?.take(seed::HEAD).read_to_end(&mut head));
    read.is_some_and(|read| read.is_ok()) && seed::owner(&head).is_some()
}

fn say_masked(out: &Output, directory: Option<&Path>, show_secrets: bool) {
    if directory.is_some() && !show_secrets {
        out.say(
            "secrets are masked, also in seed.iso, which therefore cannot start a load balancer: \
                 --show-secrets writes the real ones",
        );
    }
}

/// `of_several`: the VM's name stands before those of its files.
fn render(
    config: &Config,
    out: &Output,
    directory: Option<&Path>,
    show_secrets: bool,
    of_several: bool,
) -> Result<RenderReport, CommandError> {
    // What is masked needs no key.
    let intent = if show_secrets {
        Intent::Apply
    } else {
        Intent::Show
    };
    let (seed, _) = desired::seed(config, None, OffsetDateTime::now_utc(), intent)?;
    let shown = if show_secrets {
        seed
    } else {
        seed.masked(config)
            .map_err(|e| other(MessageId::SeedNotMade, e.to_string()))?
    };
    let files = rendered(config, &shown)?;
    if let Some(directory) = directory {
        // The seed first: where another lbctl is killed in between, what is there is known as
        // lbctl's.
        let (image, texts): (Vec<&Rendered>, Vec<&Rendered>) =
            files.iter().partition(|file| file.name == IMAGE);
        let ordered = image.into_iter().chain(texts);
        let named = ordered.map(|f| (f.name.to_owned(), &*f.data));
        write_all(directory, Readers::Owner, named, out)?;
    }
    Ok(RenderReport {
        name: config.name.to_string(),
        of_several,
        masked: !show_secrets,
        files,
        directory: directory.map(Path::to_owned),
    })
}

struct RenderReport {
    name: String,
    of_several: bool,
    masked: bool,
    files: Vec<Rendered>,
    /// Where they were written; `None`: they are to be shown.
    directory: Option<PathBuf>,
}

impl CommandReport for RenderReport {
    fn exit(&self) -> Exit {
        Exit::Done
    }

    fn document(&self) -> Option<Answer> {
        let mut document = RenderDocument {
            name: self.name.clone(),
            masked: self.masked,
            files: BTreeMap::new(),
            written: Vec::new(),
        };
        if let Some(directory) = &self.directory {
            let path = |file: &Rendered| directory.join(file.name).display().to_string();
            document.written = self.files.iter().map(path).collect();
        } else {
            let texts = self.files.iter().filter(|f| f.name != IMAGE);
            document.files = texts.map(|f| (f.name.to_owned(), f.text())).collect();
        }
        Some(Answer::Render(document))
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        if self.directory.is_some() {
            return Vec::new();
        }
        let mut text = Vec::new();
        for file in &self.files {
            let name = if self.of_several {
                format!("{}/{}", self.name, file.name)
            } else {
                file.name.to_owned()
            };
            text.push(TextPart::Heading(format!("==> {name} <==").into()));
            let size = file.data.len();
            text.push(match file.name {
                IMAGE => TextPart::LongLine(format!("({size} bytes; --out DIR writes it)").into()),
                FIXED => TextPart::LongLine(
                    format!("({size} bytes, lbctl's programs and units; --out DIR writes it)")
                        .into(),
                ),
                _ => TextPart::Data(file.text()),
            });
            text.push(TextPart::LongLine("".into()));
        }
        text
    }
}

fn rendered(config: &Config, seed: &Seed) -> Result<Vec<Rendered>, CommandError> {
    let text = |name, text: String| Rendered {
        name,
        data: text.into_bytes(),
    };
    let domain =
        domain_xml(config, seed).map_err(|e| other(MessageId::DefinitionNotMade, e.to_string()))?;
    let mut files = Vec::new();
    let mut of_seed = seed.files();
    for name in OF_SEED {
        let file = of_seed.iter_mut().find(|f| f.name == name);
        let data = file.map(|f| std::mem::take(&mut f.data));
        let data = data.unwrap_or_default();
        files.push(Rendered { name, data });
    }
    files.push(text(HAPROXY, haproxy_cfg(config)));
    files.push(text(DOMAIN, domain));
    files.push(Rendered {
        name: IMAGE,
        data: seed
            .image()
            .map_err(|e| other(MessageId::SeedNotMade, e.to_string()))?,
    });
    Ok(files)
}

/// The domain as a host would get it, with volumes by pool and name: their paths are known on the
/// host only.
fn domain_xml(config: &Config, seed: &Seed) -> Result<String, askama::Error> {
    let root = match &config.disk {
        Disk::Clone(clone) => RootDisk {
            source: Source::Volume(clone.volume.clone()),
            format: clone.format.as_str().to_owned(),
        },
        Disk::Existing { id, format } if id.starts_with('/') => RootDisk {
            source: Source::File(id.clone()),
            format: format.unwrap_or(DiskFormat::Qcow2).as_str().into(),
        },
        Disk::Existing { id, format } => {
            let (pool, name) = id.split_once('/').unwrap_or(("", id));
            let at = VolumeRef {
                pool: pool.into(),
                name: name.into(),
            };
            RootDisk {
                source: Source::Volume(at),
                format: format.unwrap_or(DiskFormat::Qcow2).as_str().into(),
            }
        }
    };
    let ownership = Ownership {
        layout: LAYOUT,
        seed: SeedRecord {
            volume: config.seed_volume.clone(),
            fingerprint: seed.fingerprint.clone(),
            parts: seed.parts.clone(),
        },
        stale_seeds: Vec::new(),
        disk: None,
        reservations: Vec::new(),
    };
    domain::render(
        &desired::domain(config, None),
        &ownership,
        &root,
        &Source::Volume(config.seed_volume.clone()),
    )
}

fn other(id: MessageId, said: String) -> CommandError {
    CommandError::Failure(Failure::new(Exit::Failed, id, said, ""))
}
