//! `lbctl handover`: the VM gives the shared address to another one. The guest does it, and finds
//! out itself whether another VM takes the address; nothing of the host is changed.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::running::answering;
use super::vms::{Found, Vms, ask_all, joined};
use super::{CommandResult, connect, load};
use crate::cli::Cli;
use crate::config::{Config, VirtualIp};
use crate::exit::{Exit, Failure, Message, MessageId};
use crate::guest::{Guest, GuestError, GuestStatus, SteppedBack};
use crate::host::libvirt::LibvirtHost;
use crate::output::Output;
use crate::output::interrupt::Interrupt;
use crate::output::json::{Answer, HandoverDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::reconcile::observe::{Ask, observe};
use crate::reconcile::plan::ensure_ours;

/// Beyond what the guest waits for another VM. A slow guest takes seconds to start a program.
const ANSWER: Duration = Duration::from_secs(60);
/// Between two questions whether sessions are left.
const POLL: Duration = Duration::from_secs(2);

pub(super) fn run(cli: &Cli, out: &Output) -> CommandResult {
    let (config, away) = match load(cli, out)? {
        Vms::One(config) => (*config, Vec::new()),
        Vms::Several(vms) => holder(cli, out, vms)?,
    };
    let shared = shared(&config)?;
    let name = &config.name;
    let interrupt = Interrupt::listen(out, &format!("{name}: stopped, the address may have moved"));
    let host = connect(cli, &config, out)?;
    let working = out.working("asking the guest to step back", Some(ANSWER));
    // Why another VM could not take it, or why none is asked.
    let beside = |mut failure: Failure| {
        failure.messages.extend(away.iter().cloned());
        failure
    };
    let mut report = handover(&config, shared, &host).map_err(beside)?;
    drop(working);
    for message in &away {
        out.warn(&message.text);
    }
    interrupt.at_once(&format!(
        "{name}: stopped waiting; {} has {} and keeps it",
        report.holder, report.address
    ));
    report.drain(shared, &Guest::new(&host, name.as_str()), out);
    Ok(Box::new(report))
}

/// Of several VMs the one that has the address: no other one can give it away. With it, what is to
/// be said of those that were not reached or did not answer.
fn holder(
    cli: &Cli,
    out: &Output,
    mut vms: Vec<Config>,
) -> Result<(Config, Vec<Message>), Failure> {
    one_address(cli, &mut vms)?;
    let (place, away) = match vms.as_slice() {
        [_] => (0, Vec::new()),
        several => {
            let found = ask_all(several, cli, out, |config, host, _| {
                let status = Guest::new(host, config.name.as_str()).status(ANSWER);
                let holds = |status: GuestStatus| status.virtual_ip.is_some_and(|known| known.held);
                Ok(status.ok().map(holds))
            });
            let has_it = |found: &Found<_>| matches!(found, Found::Here(_, Ok(Some(true))));
            let away = silent(several, &found);
            match found.iter().position(has_it) {
                Some(place) => (place, away),
                None => return Err(nobody(away)),
            }
        }
    };
    Ok((vms.swap_remove(place), away))
}

/// The VMs of a folder that share an address are one load balancer's, or it must be said whose.
fn one_address(cli: &Cli, vms: &mut Vec<Config>) -> Result<(), Failure> {
    if cli.global.config.is_dir() && vms.iter().any(|vm| vm.virtual_ip.is_some()) {
        vms.retain(|vm| vm.virtual_ip.is_some());
    }
    let mut addresses = Vec::new();
    for config in vms.iter() {
        let address = shared(config)?.address;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.len() < 2 {
        return Ok(());
    }
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Err(Failure::new(
        Exit::Usage,
        MessageId::UsageWrong,
        format!(
            "`lbctl handover` gives one address away, and the configurations have {}",
            joined(&addresses)
        ),
        "name one of the VMs that share it with --only NAME, or their file with -c",
    ))
}

/// Those that did not answer may have the address, or be the ones that would take it.
fn silent(vms: &[Config], found: &[Found<Option<bool>>]) -> Vec<Message> {
    let mut messages = Vec::new();
    for (config, found) in vms.iter().zip(found) {
        let name = config.name.as_str();
        match found {
            Found::Away(why) | Found::Here(_, Err(why)) => {
                messages.extend(why.messages.iter().cloned());
            }
            Found::Here(_, Ok(None)) => {
                let text = format!("{name}: the guest does not answer");
                messages.push(Message::new(MessageId::AgentError, text, ""));
            }
            Found::Here(_, Ok(Some(_))) => {}
        }
    }
    messages
}

fn nobody(away: Vec<Message>) -> Failure {
    let mut failure = Failure::new(
        Exit::Failed,
        MessageId::WrongState,
        "no VM that answers has the shared address",
        "`lbctl status` shows each of them",
    );
    failure.messages.extend(away);
    failure
}

fn shared(config: &Config) -> Result<&VirtualIp, Failure> {
    config.virtual_ip.as_ref().ok_or_else(|| {
        let file = &config.file;
        Failure::new(
            Exit::Usage,
            MessageId::NoSharedAddress,
            format!(
                "{file} has no [virtual_ip]: {} shares no address",
                config.name
            ),
            "add [virtual_ip] to the file of each VM (`lbctl init --full` shows it), and run `lbctl up`",
        )
    })
}

fn handover(
    config: &Config,
    shared: &VirtualIp,
    host: &LibvirtHost,
) -> Result<HandoverReport, Failure> {
    let (name, address) = (config.name.as_str(), shared.address);
    let observed = observe(config, host, Ask::WhatIsNeeded)?;
    ensure_ours(name, &observed)?;
    let so = format!("so it cannot give {address} away");
    answering(name, &observed, &so)?;
    let guest = Guest::new(host, name);
    let failed = |error: GuestError| match error {
        GuestError::Host(error) => Failure::from(error),
        other => {
            let hint = match &other {
                GuestError::Unresponsive(_) => {
                    "`lbctl status` shows how the guest is; whatever was begun ends by itself"
                }
                _ => {
                    "`lbctl up` brings lbctl's program of this version to the guest; whatever was begun ends by itself"
                }
            };
            let text = format!("asking {name} to give {address} away: {other}");
            Failure::new(Exit::Failed, MessageId::AgentError, text, hint)
        }
    };
    let before = guest.status(ANSWER).map_err(failed)?;
    let Some(status) = &before.virtual_ip else {
        let text = format!("{name} does not share {address} yet");
        let hint = "run `lbctl up` first";
        return Err(Failure::new(
            Exit::Failed,
            MessageId::NoSharedAddress,
            text,
            hint,
        ));
    };
    let (held, sessions_before) = (status.held, status.sessions);
    let holder = match guest.step_back(ANSWER).map_err(failed)? {
        SteppedBack::Taken(holder) => holder,
        SteppedBack::Refused(why) => {
            let text = format!("{name} stays as it is: {why}");
            let hint = "`lbctl status` of each VM says how it is";
            return Err(Failure::new(Exit::Refused, MessageId::NoSpare, text, hint));
        }
    };
    // Equal again, it does not get the address back by that.
    guest.step_up(ANSWER).map_err(failed)?;
    let after = guest.status(ANSWER).ok().and_then(|said| said.virtual_ip);
    let sessions = after.and_then(|said| said.sessions).or(sessions_before);
    Ok(HandoverReport {
        name: name.to_owned(),
        uri: host.uri().to_owned(),
        address: address.to_string(),
        holder,
        moved: held,
        sessions,
        overdue: false,
        returned: None,
    })
}

struct HandoverReport {
    name: String,
    uri: String,
    address: String,
    /// The own address of the VM that has it.
    holder: String,
    moved: bool,
    /// Of clients that are still in this VM.
    sessions: Option<u64>,
    /// Whether those have had their time: the other VM passes nothing on to them any more.
    overdue: bool,
    /// The address came back while sessions had their time: the VM's own one.
    returned: Option<Ipv4Addr>,
}

impl HandoverReport {
    /// Waits until nobody is left in the VM, for as long as its sessions may stay.
    fn drain(&mut self, shared: &VirtualIp, guest: &Guest<'_>, out: &Output) {
        let end = Instant::now() + Duration::from_millis(shared.drain.millis());
        let mut said = None;
        while self.moved && self.sessions.is_some_and(|left| left > 0) && Instant::now() < end {
            if said != self.sessions {
                said = self.sessions;
                out.say(format!(
                    "{}: waiting, {} at most",
                    self.words(),
                    shared.drain
                ));
            }
            std::thread::sleep(POLL);
            // A guest that does not answer in the meantime is asked again.
            let Some(known) = guest.status(ANSWER).ok().and_then(|said| said.virtual_ip) else {
                continue;
            };
            self.sessions = known.sessions.or(self.sessions);
            if known.held {
                self.returned = Some(shared.own);
                return;
            }
        }
        self.overdue = self.moved && Instant::now() >= end;
    }

    fn words(&self) -> String {
        let Self {
            name,
            uri: _,
            address,
            holder,
            moved,
            sessions,
            overdue,
            returned,
        } = self;
        if returned.is_some() {
            return format!(
                "{name}: has {address} again: {holder} had it, and has lost it while sessions were still here"
            );
        }
        let who = if *moved {
            format!("{holder} has {address} now")
        } else {
            format!("did not have {address}: {holder} has it")
        };
        let left = match sessions {
            None => "",
            Some(0) => "; no session is left here",
            Some(1) if *overdue => "; 1 session has not ended in time, and is cut",
            Some(several) if *overdue => {
                &format!("; {several} sessions have not ended in time, and are cut")
            }
            Some(1) => "; 1 session is still here",
            Some(several) => &format!("; {several} sessions are still here"),
        };
        format!("{name}: {who}{left}")
    }
}

impl CommandReport for HandoverReport {
    fn exit(&self) -> Exit {
        match self.returned {
            None => Exit::Done,
            Some(_) => Exit::Failed,
        }
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Handover(HandoverDocument {
            name: self.name.clone(),
            uri: self.uri.clone(),
            changed: self.moved,
            address: self.address.clone(),
            holder: self
                .returned
                .map_or_else(|| self.holder.clone(), |own| own.to_string()),
            moved: self.moved,
            sessions: self.sessions,
        }))
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        vec![TextPart::Block(vec![self.words().into()])]
    }
}
