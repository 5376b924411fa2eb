//! `lbctl check`: the configuration alone, or with everything around it, changing nothing.

use super::{CommandResult, connect, load};
use crate::checklist::{self, Checklist};
use crate::cli::Cli;
use crate::config::{Config, DomainName};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::json::{Answer, CheckDocument, Verdict};
use crate::status::nodes_are_verified;

pub(super) fn run(cli: &Cli, out: &Output, host: bool) -> CommandResult {
    let config = load(cli, out)?;
    let file = cli.global.config.display().to_string();
    if host {
        return Ok(whole(cli, &config, file, out));
    }
    if out.json {
        out.answer(Answer::Check(CheckDocument {
            file,
            name: config.name.to_string(),
            ok: true,
            host: false,
            findings: Vec::new(),
        }));
    } else {
        out.say(&format!("{file}: is valid"));
    }
    Ok(Exit::Done)
}

/// One list of everything; its worst decides how it ends.
fn whole(cli: &Cli, config: &Config, file: String, out: &Output) -> Exit {
    let mut list = Checklist::default();
    list.ok("configuration", format!("{file} is valid"));
    let mut exit = Exit::Failed;
    match connect(cli, config)
        .and_then(|host| checklist::inspect(config, &host, host.uri()).map_err(Failure::from))
    {
        Ok(host) => {
            list.findings.extend(host.list.findings);
            if host.is_about_ownership {
                exit = Exit::Refused;
            }
        }
        Err(failure) => {
            for message in failure.messages {
                list.add(Verdict::Fails, "libvirt", message.text, message.hint);
            }
        }
    }
    list.findings
        .extend(checklist::inspect_outside(config).findings);
    let verify_host = config.haproxy.verify_host.as_ref().map(DomainName::as_str);
    list.ok("nodes' TLS", nodes_are_verified(verify_host));
    let ok = !list.fails();
    if out.json {
        out.answer(Answer::Check(CheckDocument {
            file,
            name: config.name.to_string(),
            ok,
            host: true,
            findings: list.findings,
        }));
    } else {
        let verdict = if ok {
            "the host can take it"
        } else {
            "`lbctl up` would not go well"
        };
        let mut lines = vec![format!("{}: {verdict} ({})", config.name, list.summary())];
        lines.extend(list.lines(out.columns()));
        out.block(&lines);
    }
    if ok { Exit::Done } else { exit }
}
