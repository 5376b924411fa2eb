//! chrony: snippets for its `sources.d` and `conf.d`. The package's own file stays, less what these
//! replace.

use std::fmt::Write;

use super::{GuestService, OnChange};
use crate::config::{Chrony, Config, TimeSource};
use crate::render::guest_file::{GuestFile, Service};
use crate::render::{CheckTls, Secrets};

pub(super) const SERVICE: GuestService = GuestService {
    name: Service::Chrony,
    unit: "chrony.service",
    on_change: OnChange::Restart,
    is_wanted: |config| config.chrony.is_some(),
    packages: |_| &["chrony"],
    files,
};

fn files(config: &Config, _: &CheckTls, _: Secrets) -> Vec<GuestFile> {
    let Some(chrony) = &config.chrony else {
        return Vec::new();
    };
    vec![
        GuestFile::public(
            "/etc/chrony/sources.d/lbctl.sources",
            sources(chrony),
            Service::Chrony,
        ),
        GuestFile::public(
            "/etc/chrony/conf.d/lbctl.conf",
            settings(chrony),
            Service::Chrony,
        ),
    ]
}

const HEAD: &str = "# Rendered by lbctl.\n";

fn sources(chrony: &Chrony) -> String {
    let mut text = HEAD.to_owned();
    let kinds = [("server", &chrony.servers), ("pool", &chrony.pools)];
    for (kind, source) in kinds
        .iter()
        .flat_map(|(kind, sources)| sources.iter().map(move |source| (kind, source)))
    {
        text.push_str(kind);
        for word in words(source) {
            text.push(' ');
            text.push_str(word);
        }
        text.push('\n');
    }
    text
}

fn settings(chrony: &Chrony) -> String {
    let mut text = HEAD.to_owned();
    if let Some(step) = &chrony.makestep {
        let _ = writeln!(text, "makestep {} {}", step.threshold, step.limit);
    }
    text
}

/// chrony has no quoting: whatever would end the line or the word separates words instead.
fn words(source: &TimeSource) -> impl Iterator<Item = &str> {
    let separates = |c: char| c.is_whitespace() || c.is_control();
    std::iter::once(source.url.as_str())
        .chain(source.options.iter().map(String::as_str))
        .flat_map(move |text| text.split(separates))
        .filter(|word| !word.is_empty())
}
