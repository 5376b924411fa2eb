//! `lbctl status`: domain, address, certificate, cloud-init's verdict, HAProxy's view of each node,
//! drift; once, or again and again.

mod watch;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use time::OffsetDateTime;

use self::watch::{Watched, watch_all};
use super::files::write_public;
use super::vms::{Found, SeveralReport, VmResult, Vms, ask_all};
use super::{CommandResult, connect, load, uri};
use crate::cli::Cli;
use crate::config::{Config, VirtualIp};
use crate::exit::{Exit, Failure};
use crate::guest::VirtualIpStatus;
use crate::host::HostResult;
use crate::host::libvirt::{LibvirtHost, patience};
use crate::output::Output;
use crate::output::json::{Answer, Body, SharedDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart, TextReport};
use crate::status::together::{One, Together};
use crate::status::{Look, Status, exposition};

pub(super) fn run(cli: &Cli, out: &Output, interval: Option<Duration>) -> CommandResult {
    let verbose = cli.global.verbose > 0;
    match (load(cli, out)?, interval) {
        (Vms::One(config), None) => {
            let host = connect(cli, &config, out)?;
            let working = out.working("asking libvirt and the guest", Some(patience(host.uri())));
            let status = fetch_status(&config, &host)?;
            drop(working);
            Ok(Box::new(status))
        }
        (Vms::One(config), Some(interval)) => {
            let watched = Watched::new(connect(cli, &config, out)?);
            Ok(watch_all(vec![(*config, watched)], interval, verbose, out))
        }
        (Vms::Several(vms), None) => Ok(several(cli, out, &vms)),
        (Vms::Several(vms), Some(interval)) => {
            // Those that are not reached are tried again and again.
            let watched = vms.into_iter().map(|config| {
                let watched = Watched::later(uri(cli, &config));
                (config, watched)
            });
            Ok(watch_all(watched.collect(), interval, verbose, out))
        }
    }
}

fn several(cli: &Cli, out: &Output, vms: &[Config]) -> Box<dyn CommandReport> {
    let found = ask_all(vms, cli, out, |config, host, _| {
        Ok(fetch_status(config, host)?)
    });
    let said = found.iter().map(|found| match found {
        Found::Here(_, Ok(status)) => status.shared(),
        Found::Here(_, Err(_)) | Found::Away(_) => None,
    });
    let sharing = vms
        .iter()
        .map(|vm| (vm.name.as_str(), vm.virtual_ip.as_ref()));
    let together = together(sharing.zip(said));
    let results = vms.iter().zip(found).map(|(config, found)| {
        let name = config.name.as_str();
        match found {
            Found::Here(_, Ok(status)) => VmResult::done(name, status),
            Found::Here(_, Err(failure)) | Found::Away(failure) => VmResult::failed(name, failure),
        }
    });
    let each = SeveralReport {
        command: "status",
        vms: results.collect(),
        apart: true,
    };
    if together.is_empty() {
        Box::new(each)
    } else {
        Box::new(SharingReport { each, together })
    }
}

/// Of each address that several VMs share, in the order of the VMs; one alone says it all itself.
fn together<'a>(
    vms: impl Iterator<
        Item = (
            (&'a str, Option<&'a VirtualIp>),
            Option<&'a VirtualIpStatus>,
        ),
    >,
) -> Vec<Together> {
    let mut addresses: Vec<(Ipv4Addr, Vec<One<'_>>)> = Vec::new();
    for ((name, shared), said) in vms {
        let Some(shared) = shared else { continue };
        let own = shared.own;
        let one = One { name, own, said };
        let place = addresses
            .iter()
            .position(|(address, _)| *address == shared.address);
        match place.and_then(|place| addresses.get_mut(place)) {
            Some((_, ones)) => ones.push(one),
            None => addresses.push((shared.address, vec![one])),
        }
    }
    let several = addresses.into_iter().filter(|(_, ones)| ones.len() > 1);
    several
        .map(|(address, ones)| Together::of(address, &ones))
        .collect()
}

/// Each VM, and what all of them together say of each address that some share.
struct SharingReport {
    each: SeveralReport,
    together: Vec<Together>,
}

impl CommandReport for SharingReport {
    fn exit(&self) -> Exit {
        match self.each.exit() {
            Exit::Done if !self.together.iter().all(Together::is_well) => Exit::Failed,
            exit => exit,
        }
    }

    fn document(&self) -> Option<Answer> {
        None
    }

    fn body(&self) -> Option<Body> {
        let mut body = self.each.body()?;
        if let Body::Several(several) = &mut body {
            several.exit_code = self.exit() as u8;
            let documents = self.together.iter().map(Together::document);
            let mut documents: Vec<SharedDocument> = documents.collect();
            if documents.len() == 1 {
                several.virtual_ip = documents.pop();
            }
            several.virtual_ips = documents;
        }
        Some(body)
    }

    fn text(&self, options: TextOptions) -> Vec<TextPart> {
        let mut text = self.each.text(options);
        text.push(TextPart::LongLine("".into()));
        let lines = self.together.iter().map(Together::line);
        text.extend(lines.map(|line| TextPart::Line(line.into())));
        text
    }
}

/// As metrics, into a file. It is written also where a libvirt did not answer, for that is what it
/// says then.
pub(super) fn write(cli: &Cli, out: &Output, file: &Path) -> CommandResult {
    let (vms, seen) = match load(cli, out)? {
        Vms::One(config) => {
            let seen =
                connect(cli, &config, out).and_then(|host| Ok(fetch_status(&config, &host)?));
            (vec![*config], vec![seen])
        }
        Vms::Several(vms) => {
            let found = ask_all(&vms, cli, out, |config, host, _| {
                Ok(fetch_status(config, host)?)
            });
            let seen = found.into_iter().map(|found| match found {
                Found::Here(_, seen) => seen,
                Found::Away(failure) => Err(failure),
            });
            let seen = seen.collect();
            (vms, seen)
        }
    };
    let now = OffsetDateTime::now_utc();
    let mut looks = Vec::new();
    let mut failed = Vec::new();
    for (config, seen) in vms.iter().zip(&seen) {
        let name = config.name.as_str();
        let status = seen.as_ref().ok();
        let at = status.map_or(now, |status| status.at);
        looks.push(Look { name, at, status });
        if let Err(failure) = seen {
            failed.extend(failure.messages.iter().cloned());
        }
    }
    write_public(file, exposition(&looks).as_bytes())?;
    if failed.is_empty() {
        return Ok(Box::new(TextReport::done(Vec::new())));
    }
    Err(Failure {
        exit: Exit::Failed,
        messages: failed,
    }
    .into())
}

fn fetch_status(config: &Config, host: &LibvirtHost) -> HostResult<Status> {
    Status::fetch(config, host, host.uri(), OffsetDateTime::now_utc())
}
