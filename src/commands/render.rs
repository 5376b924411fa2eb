//! `lbctl render`: everything that the VM is made from, on a machine that needs no libvirt. Also the texts that describe
//! lbctl itself: completion and manual.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use time::OffsetDateTime;

use super::{CommandError, CommandResult, load};
use crate::cli::Cli;
use crate::config::{Attach, Config, Disk, DomainType, VolumeRef};
use crate::exit::{Exit, Failure};
use crate::host::ownership::{LAYOUT, Ownership, SeedRecord};
use crate::host::{NicFacts, NicSource, Source};
use crate::output::Output;
use crate::output::json::{Answer, RenderDocument};
use crate::reconcile::desired;
use crate::render::domain::{self, DomainKind, DomainSpec, RootDisk};
use crate::render::haproxy_cfg;
use crate::seed::Seed;

/// The seed's image, which is bytes and is listed by its size.
const IMAGE: &str = "seed.iso";

struct Rendered {
    name: &'static str,
    data: Vec<u8>,
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
        seed.masked(&config).map_err(other)?
    };
    let files = rendered(&config, shown)?;
    match directory {
        Some(directory) => write_all(directory, &files, out)?,
        None if out.json => {}
        None => list(&files, out),
    }
    if directory.is_some() && !show_secrets {
        out.say("secrets are masked, in seed.iso too, which therefore starts no load balancer: --show-secrets writes the real ones");
    }
    if out.json {
        out.answer(document(&config, &files, directory, !show_secrets));
    }
    Ok(Exit::Done)
}

fn document(config: &Config, files: &[Rendered], directory: Option<&Path>, masked: bool) -> Answer {
    let mut document = RenderDocument {
        name: config.name.to_string(),
        masked,
        files: BTreeMap::new(),
        written: Vec::new(),
    };
    if let Some(directory) = directory {
        let path = |file: &Rendered| directory.join(file.name).display().to_string();
        document.written = files.iter().map(path).collect();
    } else {
        let texts = files.iter().filter(|f| f.name != IMAGE);
        document.files = texts
            .map(|f| {
                let text = String::from_utf8_lossy(&f.data).into_owned();
                (f.name.to_owned(), text)
            })
            .collect();
    }
    Answer::Render(document)
}

fn rendered(config: &Config, seed: Seed) -> Result<Vec<Rendered>, CommandError> {
    let text = |name, text: String| Rendered {
        name,
        data: text.into_bytes(),
    };
    let domain = domain_xml(config, &seed).map_err(|e| other(e.to_string()))?;
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

/// The domain as a host would get it, with volumes by pool and name: their paths are known on the host only.
fn domain_xml(config: &Config, seed: &Seed) -> Result<String, askama::Error> {
    let nic = |i: &crate::config::Interface| NicFacts {
        mac: i.mac,
        source: match &i.attach {
            Attach::NetworkName(name) => NicSource::Network(name.clone()),
            Attach::NetworkId(id) => NicSource::Network(id.clone()),
            Attach::Macvtap(device) => NicSource::Macvtap(device.clone()),
        },
    };
    let architecture = std::env::consts::ARCH;
    let spec = DomainSpec {
        name: config.name.as_str().to_owned(),
        kind: if config.libvirt.domain_type == DomainType::Qemu {
            DomainKind::Qemu
        } else {
            DomainKind::Kvm
        },
        architecture: architecture.to_owned(),
        machine: config
            .libvirt
            .machine
            .clone()
            .unwrap_or_else(|| desired::default_machine(architecture).to_owned()),
        memory_mib: config.memory.get(),
        vcpus: config.vcpus.get(),
        interfaces: config.interfaces.iter().map(nic).collect(),
    };
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
        &spec,
        None,
        &ownership,
        &root,
        &Source::Volume(config.seed_volume.clone()),
    )
}

fn list(files: &[Rendered], out: &Output) {
    for Rendered { name, data } in files {
        out.heading(&format!("==> {name} <=="));
        if *name == IMAGE {
            out.data_line(&format!("({} bytes; --out DIR writes it)", data.len()));
        } else {
            out.data(&String::from_utf8_lossy(data));
        }
        out.data_line("");
    }
}

/// Each file is whole or not there, and 0600 from its first moment.
fn write_all(directory: &Path, files: &[Rendered], out: &Output) -> Result<(), CommandError> {
    let fail = |doing: String, error: &std::io::Error| {
        CommandError::Failure(Failure::new(
            Exit::Failed,
            format!("{doing}: {error}"),
            "give another --out, or make that one writable",
        ))
    };
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(directory);
    made.map_err(|e| fail(format!("creating directory {}", directory.display()), &e))?;
    for Rendered { name, data } in files {
        let path = directory.join(name);
        let aside = directory.join(format!(".{name}.new"));
        let written = fs::remove_file(&aside)
            .or_else(|e| {
                if e.kind() == std::io::ErrorKind::NotFound {
                    Ok(())
                } else {
                    Err(e)
                }
            })
            .and_then(|()| {
                OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&aside)
            })
            .and_then(|mut file| file.write_all(data))
            .and_then(|()| fs::rename(&aside, &path));
        written.map_err(|e| fail(format!("writing {}", path.display()), &e))?;
        out.say(&format!("{}", path.display()));
    }
    Ok(())
}

fn other(said: String) -> CommandError {
    CommandError::Failure(Failure::new(Exit::Failed, said, ""))
}
