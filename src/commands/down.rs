//! `lbctl down`: removes what carries lbctl's ownership record.

use super::vms::{Found, SeveralReport, VmResult, Vms, ask_all, joined};
use super::{CommandResult, Session, asking, beside_jobs, connect, load};
use crate::cli::Cli;
use crate::config::{Config, Peer, VirtualIp};
use crate::exit::{Exit, Failure, MessageId};
use crate::host::libvirt::LibvirtHost;
use crate::output::interrupt::Interrupt;
use crate::output::json::{Answer, PlanDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::output::{Output, done};
use crate::reconcile::apply::ApplyError;
use crate::reconcile::observe::{Ask, observe};
use crate::reconcile::plan::{DownOptions, Plan, Step, plan_down};
use crate::reconcile::rounds::{Again, Reconciler, Remaining, in_rounds};

pub(super) fn run(cli: &Cli, out: &Output, options: DownOptions) -> CommandResult {
    let config = match load(cli, out)? {
        Vms::One(config) => config,
        Vms::Several(vms) => {
            ensure_named(cli, &vms)?;
            return Ok(Box::new(several(cli, out, &vms, options)?));
        }
    };
    let interrupt = Interrupt::listen(
        out,
        &format!("{}: stopped, nothing was changed", config.name),
    );
    let host = connect(cli, &config, out)?;
    let plan = planned(&config, &host, options, out)?;
    if !plan.is_empty() && !cli.global.yes {
        consent(&[&plan], &[], out)?;
    }
    let working = Session {
        host: &host,
        out,
        interrupt: &interrupt,
    };
    Ok(Box::new(remove(&config, &plan, options, working)?))
}

/// A folder may have every load balancer that there is in it: none of them is removed by not being
/// named.
fn ensure_named(cli: &Cli, vms: &[Config]) -> Result<(), Failure> {
    let folder = &cli.global.config;
    if !folder.is_dir() || !cli.global.only.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = vms.iter().map(|vm| vm.name.as_str()).collect();
    Err(Failure::new(
        Exit::Usage,
        MessageId::UsageWrong,
        format!(
            "`lbctl down` removes no whole folder: {} describes {}",
            folder.display(),
            joined(&names)
        ),
        "name what is to be removed with --only NAME, or its file with -c",
    ))
}

/// All of them, after one question. One that cannot be removed does not keep the others.
fn several(
    cli: &Cli,
    out: &Output,
    vms: &[Config],
    options: DownOptions,
) -> Result<SeveralReport, Failure> {
    let interrupt = Interrupt::listen(out, "stopped, nothing was changed");
    let given = options;
    let whole_file = cli.global.only.is_empty() && vms.len() > 1;
    let mut options = DownOptions {
        alone: given.alone || all_go(&sharing(vms), whole_file),
        ..given
    };
    let plan_all = |options: DownOptions| {
        ask_all(vms, cli, out, move |config, host, out| {
            planned(config, host, options, out)
        })
    };
    let mut found = plan_all(options);
    if options.alone != given.alone && found.iter().any(stays) {
        // One that stays can take the address.
        options = given;
        found = plan_all(options);
    }
    let plans = found.iter().filter_map(|found| match found {
        Found::Here(_, Ok(plan)) if !plan.is_empty() => Some(plan),
        _ => None,
    });
    let plans: Vec<&Plan> = plans.collect();
    let others = vms.iter().zip(&found).filter_map(|(config, found)| {
        let why = match found {
            Found::Here(_, Ok(_)) => return None,
            Found::Here(_, Err(failure)) | Found::Away(failure) => failure,
        };
        Some(format!("  note: {} is not removed: {why}", config.name))
    });
    if !plans.is_empty() && !cli.global.yes {
        consent(&plans, &others.collect::<Vec<_>>(), out)?;
    }
    let mut results = Vec::new();
    let mut stopped: Option<String> = None;
    for (config, found) in vms.iter().zip(found) {
        let name = config.name.as_str();
        if let Some(because) = &stopped {
            results.push(VmResult::untouched(name, because));
            continue;
        }
        let own = out.of_vm(name);
        let result = match found {
            Found::Away(failure) | Found::Here(_, Err(failure)) => Err(failure),
            Found::Here(host, Ok(plan)) => {
                own.set_uri(host.uri());
                let working = Session {
                    host: &host,
                    out: &own,
                    interrupt: &interrupt,
                };
                let again = options != given && results.iter().any(VmResult::is_failure);
                if again {
                    // One of those before it is still there, and can take the address.
                    planned(config, &host, given, &own)
                        .and_then(|plan| remove(config, &plan, given, working))
                } else {
                    remove(config, &plan, options, working)
                }
            }
        };
        results.push(match result {
            Ok(report) => VmResult::done(name, report),
            Err(failure) => VmResult::failed(name, failure).after(&own),
        });
        stopped = interrupt.asked().map(|_| "the signal".to_owned());
    }
    Ok(SeveralReport {
        command: "down",
        vms: results,
        apart: false,
    })
}

/// Whether it is not going to be removed.
fn stays(found: &Found<Plan>) -> bool {
    !matches!(found, Found::Here(_, Ok(_)))
}

fn sharing(vms: &[Config]) -> Vec<&VirtualIp> {
    vms.iter().filter_map(|vm| vm.virtual_ip.as_ref()).collect()
}

/// Whether nobody is left to take the address that the VMs share. `whole_file`: they are all of it;
/// those that do not share one in the configuration any more may do so in the guest.
fn all_go(shared: &[&VirtualIp], whole_file: bool) -> bool {
    let goes = |peer: &Peer| shared.iter().any(|other| other.own == peer.address);
    let mut peers = shared.iter().flat_map(|shared| &shared.peers);
    if shared.is_empty() {
        whole_file
    } else {
        peers.all(goes)
    }
}

fn planned(
    config: &Config,
    host: &LibvirtHost,
    options: DownOptions,
    out: &Output,
) -> Result<Plan, Failure> {
    let _working = asking(out, host);
    let observed = observe(config, host, ask(options))?;
    // Those that end with the guest are named before the question.
    beside_jobs(&observed, host, |observed| {
        plan_down(config, observed, options)
    })
}

fn ask(options: DownOptions) -> Ask {
    Ask::Removal {
        disk: options.delete_volume,
    }
}

/// Carries out the plan, and says so.
fn remove(
    config: &Config,
    plan: &Plan,
    options: DownOptions,
    working: Session<'_>,
) -> Result<DownReport, Failure> {
    let (name, out) = (&plan.name, working.out);
    if plan.is_empty() {
        out.say(format!("{name}: does not exist, nothing to do"));
    } else {
        out.planned(plan, "to be removed");
        out.say(format!("{name}: removing it"));
        let mut removal = Removal {
            config,
            ask: ask(options),
            options,
            working,
        };
        in_rounds(plan.clone(), &mut removal)?;
        out.say(done(name, "removed", ""));
    }
    for note in &plan.notes {
        out.say(format!("note: {note}"));
    }
    Ok(DownReport {
        plan: out.carried_out(plan),
    })
}

/// What a successful `down` has done.
struct DownReport {
    plan: PlanDocument,
}

impl CommandReport for DownReport {
    fn exit(&self) -> Exit {
        Exit::Done
    }

    fn document(&self) -> Option<Answer> {
        Some(Answer::Down(self.plan.clone()))
    }

    fn text(&self, _: TextOptions) -> Vec<TextPart> {
        Vec::new()
    }
}

struct Removal<'a> {
    config: &'a Config,
    ask: Ask,
    options: DownOptions,
    working: Session<'a>,
}

impl Reconciler for Removal<'_> {
    fn replan(&mut self) -> Result<Remaining, Failure> {
        self.working.asked()?;
        let observed = observe(self.config, self.working.host, self.ask)?;
        let plan = plan_down(self.config, &observed, self.options)?;
        let done = plan.is_empty();
        Ok(Remaining { plan, done })
    }

    fn carry_out(&mut self, steps: &[Step]) -> Result<(), ApplyError> {
        self.working.carry_out(steps)
    }

    fn back_off(&mut self, round: usize, why: Again<'_>) {
        self.working.back_off(self.config.name.as_str(), round, why);
    }

    fn unfinished(&self, left: &Plan) -> Failure {
        let steps: Vec<String> = left.steps.iter().map(ToString::to_string).collect();
        let text = format!(
            "every step was done, but something of {} still exists: {}",
            self.config.name,
            steps.join("; ")
        );
        let hint = "perhaps another lbctl run created it concurrently: run `lbctl down` again";
        Failure::new(Exit::Failed, MessageId::StateDiffers, text, hint)
    }
}

/// Scripts say `--yes`; people are asked. `more`: what else is to be known.
fn consent(plans: &[&Plan], more: &[String], out: &Output) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for plan in plans {
        lines.extend(plan.steps.iter().map(|step| format!("  {step}")));
        lines.extend(plan.notes.iter().map(|note| format!("  note: {note}")));
    }
    lines.extend(more.iter().cloned());
    let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    let name = joined(&names);
    let (each, were, them) = if names.len() == 1 {
        ("it", "was", "it")
    } else {
        ("them", "were", "them")
    };
    let question = format!(
        "{}\nRemove {name}, and cut every session through {each}?",
        lines.join("\n")
    );
    match out.ask(&question) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(
            Exit::Refused,
            MessageId::Declined,
            format!("{name} {were} not removed: nothing was changed"),
            "",
        )),
        None => Err(Failure::new(
            Exit::Refused,
            MessageId::ConsentNeeded,
            format!(
                "{name} would be removed, and there is no terminal to ask on: nothing was changed"
            ),
            format!(
                "`lbctl down --yes` removes {them} without asking; `lbctl status` shows what it does now"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HaproxyTime;

    fn sharing(own: u8, peers: &[u8]) -> VirtualIp {
        let address = |last: u8| std::net::Ipv4Addr::new(192, 0, 2, last);
        let peer = |last: &u8| Peer {
            address: address(*last),
            mac: None,
            elsewhere: false,
        };
        VirtualIp {
            address: address(20),
            interface: 0,
            own: address(own),
            peers: peers.iter().map(peer).collect(),
            router_id: 20,
            detection: HaproxyTime::zero(),
            drain: HaproxyTime::zero(),
        }
    }

    #[test]
    fn nobody_is_asked_to_take_the_address_where_all_that_share_it_go() {
        let (first, second) = (sharing(21, &[22]), sharing(22, &[21]));
        assert!(all_go(&[&first, &second], false));
        assert!(!all_go(&[&first], false));
        // One of the peers is not in the file.
        let third = sharing(22, &[21, 23]);
        assert!(!all_go(&[&first, &third], true));
        assert!(all_go(&[], true) && !all_go(&[], false));
    }
}
