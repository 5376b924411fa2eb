//! `lbctl render`: everything that the VM is made from, on a machine that needs no libvirt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::files::{Readers, write_all};
use super::{CommandError, CommandResult, load};
use crate::cli::Cli;
use crate::config::{Config, Disk, VolumeRef};
use crate::exit::{Exit, Failure, MessageId};
use crate::host::Source;
use crate::host::ownership::{LAYOUT, Ownership, SeedRecord};
use crate::output::Output;
use crate::output::json::{Answer, RenderDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::reconcile::desired;
use crate::render::domain::{self, RootDisk};
use crate::render::haproxy_cfg;
use crate::seed::Seed;

/// The seed's image, which is bytes and is listed by its size.
const IMAGE: &str = "seed.iso";

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
    let config = load(cli, out)?;
    let (seed, _) = desired::seed(&config, None, OffsetDateTime::now_utc())?;
    let shown = if show_secrets {
        seed
    } else {
        seed.masked(&config)
            .map_err(|e| other(MessageId::SeedNotMade, e.to_string()))?
    };
    let files = rendered(&config, shown)?;
    if let Some(directory) = directory {
        let named = files.iter().map(|f| (f.name.to_owned(), &*f.data));
        write_all(directory, Readers::Owner, named, out)?;
        if !show_secrets {
            out.say("secrets are masked, also in seed.iso, which therefore cannot start a load balancer: \
                     --show-secrets writes the real ones");
        }
    }
    Ok(Box::new(RenderReport {
        name: config.name.to_string(),
        masked: !show_secrets,
        files,
        directory: directory.map(Path::to_owned),
    }))
}

struct RenderReport {
    name: String,
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
            text.push(TextPart::Heading(format!("==> {} <==", file.name)));
            text.push(if file.name == IMAGE {
                let size = file.data.len();
                TextPart::LongLine(format!("({size} bytes; --out DIR writes it)"))
            } else {
                TextPart::Data(file.text())
            });
            text.push(TextPart::LongLine(String::new()));
        }
        text
    }
}

fn rendered(config: &Config, seed: Seed) -> Result<Vec<Rendered>, CommandError> {
    let text = |name, text: String| Rendered {
        name,
        data: text.into_bytes(),
    };
    let domain = domain_xml(config, &seed)
        .map_err(|e| other(MessageId::DefinitionNotMade, e.to_string()))?;
    let mut files = Vec::new();
    for name in ["user-data", "meta-data", "network-config"] {
        let data = seed
            .files
            .iter()
            .find(|f| f.name == name)
            .map(|f| f.data.clone())
            .unwrap_or_default();
        files.push(Rendered { name, data });
    }
    files.push(text("haproxy.cfg", haproxy_cfg(config)));
    files.push(text("domain.xml", domain));
    files.push(Rendered {
        name: IMAGE,
        data: seed.image,
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
        Disk::Existing { id } if id.starts_with('/') => RootDisk {
            source: Source::File(id.clone()),
            format: "qcow2".into(),
        },
        Disk::Existing { id } => {
            let (pool, name) = id.split_once('/').unwrap_or(("", id));
            let at = VolumeRef {
                pool: pool.into(),
                name: name.into(),
            };
            RootDisk {
                source: Source::Volume(at),
                format: "qcow2".into(),
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
        None,
        &ownership,
        &root,
        &Source::Volume(config.seed_volume.clone()),
    )
}

fn other(id: MessageId, said: String) -> CommandError {
    CommandError::Failure(Failure::new(Exit::Failed, id, said, ""))
}
