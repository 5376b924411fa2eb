//! Snippets for chrony's `sources.d` and `conf.d`; the package's own file stays, less what these replace.

use std::fmt::Write;

use crate::config::{Chrony, TimeSource};

const HEAD: &str = "# Rendered by lbctl.\n";

pub(in crate::render) fn sources(chrony: &Chrony) -> String {
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

pub(in crate::render) fn settings(chrony: &Chrony) -> String {
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
