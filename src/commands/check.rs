//! `lbctl check`: the configuration alone, or with everything around it; changes nothing.

use super::{CommandResult, connect, load};
use crate::checklist::{self, Checklist, Outcome};
use crate::cli::Cli;
use crate::config::{Config, DomainName};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::json::{Answer, CheckDocument};
use crate::output::report::{CommandReport, TextOptions, TextPart};
use crate::status::nodes_are_verified;

pub(super) fn run(cli: &Cli, out: &Output, host: bool) -> CommandResult {
    let config = load(cli, out)?;
    let file = cli.global.config.display().to_string();
    let host = host.then(|| whole(cli, &config, &file));
    Ok(Box::new(CheckReport {
        file,
        name: config.name.to_string(),
        host,
    }))
}

/// What `check` has found. A configuration that is not valid has no such report: it is an error.
struct CheckReport {
    file: String,
    name: String,
    /// `None`: nobody asked for the host.
    host: Option<HostCheck>,
}

struct HostCheck {
    list: Checklist,
    /// How lbctl ends if something fails.
    exit: Exit,
}

impl CheckReport {
    fn is_ok(&self) -> bool {
        self.host.as_ref().is_none_or(|host| !host.list.fails())
    }
}

impl CommandReport for CheckReport {
    fn exit(&self) -> Exit {
        match &self.host {
            Some(host) if host.list.fails() => host.exit,
            _ => Exit::Done,
        }
    }

    fn document(&self) -> Option<Answer> {
        let findings = self.host.as_ref().map(|host| host.list.findings.clone());
        Some(Answer::Check(CheckDocument {
            file: self.file.clone(),
            name: self.name.clone(),
            ok: self.is_ok(),
            host: self.host.is_some(),
            findings: findings.unwrap_or_default(),
        }))
    }

    fn text(&self, options: TextOptions) -> Vec<TextPart> {
        let Some(HostCheck { list, .. }) = &self.host else {
            return vec![TextPart::Said(format!("{}: is valid", self.file))];
        };
        let verdict = if self.is_ok() {
            "nothing prevents `lbctl up`"
        } else {
            "`lbctl up` would not succeed"
        };
        let mut lines = vec![format!("{}: {verdict} ({})", self.name, list.summary())];
        lines.extend(list.lines(options.columns));
        vec![TextPart::Block(lines)]
    }
}

/// One list of everything.
fn whole(cli: &Cli, config: &Config, file: &str) -> HostCheck {
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
                let outcome = Outcome::Fails(message.id);
                list.add(outcome, "libvirt", message.text, message.hint);
            }
        }
    }
    list.findings
        .extend(checklist::inspect_outside(config).findings);
    let verify_host = config.haproxy.verify_host.as_ref().map(DomainName::as_str);
    list.ok("nodes' TLS", nodes_are_verified(verify_host));
    HostCheck { list, exit }
}
