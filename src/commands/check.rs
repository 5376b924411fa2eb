//! `lbctl check`: the configuration alone, or against the host, changing nothing.

use super::{End, Ended, connect, load, look};
use crate::cli::Cli;
use crate::documents::{Answer, CheckDocument};
use crate::failure::{Exit, Failure};
use crate::observe::Ask;
use crate::output::Output;
use crate::plan::{Restart, plan_up};
use crate::status::nodes_are_verified;

pub(super) fn run(cli: &Cli, out: &Output, host: bool) -> Ended {
    let config = load(cli, out)?;
    let file = cli.global.config.display().to_string();
    if host {
        let host = connect(cli, &config)?;
        let (observed, desired) = look(&config, &host, Ask::Everything)?;
        plan_up(&desired, &observed, Restart::Later)
            .map_err(|refusal| End::Failure(Failure::from(refusal)))?;
    }
    if out.json {
        out.answer(Answer::Check(CheckDocument {
            file,
            name: config.name.to_string(),
            ok: true,
            host,
            findings: Vec::new(),
        }));
    } else {
        let what = if host {
            "is valid, and the host can take it"
        } else {
            "is valid"
        };
        out.say(&format!("{file}: {what}"));
        let name = config.haproxy.verify_host.as_ref();
        let verified = nodes_are_verified(name.map(crate::config::DomainName::as_str));
        if host {
            out.say(&format!("the nodes' certificates are {verified}"));
        }
    }
    Ok(Exit::Done)
}
