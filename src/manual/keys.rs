//! lbctl.toml(5), from the table of keys.

use super::roff::{Inline, Roff, bold, italic, plain};
use super::{Page, see_also};
use crate::config::{KEYS, Key, Kind};

pub(super) const NAME: &str = "lbctl.toml";
const MINIMAL: &str = include_str!("minimal.toml");

const DESCRIPTION: &[&str] = &[
    "A file in TOML that describes one load balancer. `lbctl init --full` prints \
     one with every key, `lbctl check` reports all problems of one, and `lbctl schema config` prints a JSON Schema for \
     editors.",
    "A key that is not in this list is an error. An empty text or list means that the key is not given.",
    "Where a key takes `text, file or env`, three forms are possible: the text itself, { file = \"PATH\" } with a path that \
     starts at the directory of the configuration, or { env = \"VARIABLE\" }. A secret is best kept in a file that only \
     its owner can read.",
    "Every other single text, number, time, size, true or false, and every element of a list of texts, may be { env = \
     \"VARIABLE\" }, too. The variable must be set and not empty.",
    "With `extends` = \"PATH\" a file has the keys of another one, which may extend a third. Tables are put together key by key; any \
     other value, lists and [[vms]] among them, takes the place of the one that was there, and an empty text or list takes it \
     away. A path in a file starts at the directory of that file. The other file need not be whole.",
    "Of several VMs of one load balancer each has a table [[vms]] with its `name` and what else is its own: volumes, network \
     interfaces, [libvirt], `haproxy.address`, `haproxy.metrics.address` and `fluentd.forward.hostname`, each written as it is \
     for one VM. All else is shared and stands where it always does. A table may have keys in both places, and a key may \
     not. Where [volume] has no `name`, the disk has the name of its VM.",
    "A time is text such as \"500ms\", \"30s\", \"5m\", \"1h\" or \"1d\", or a number of milliseconds. A size is text such as \
     \"10 GiB\", or a number of bytes. Where a key takes `MiB` or `hours`, a number is that, and a text has its unit: \"2 GiB\", \
     \"365d\".",
    "`A change` says how a changed value reaches a load balancer that exists: `live`, with the next `lbctl up` and \
     without cutting a session; `restart`, with a restart of the guest; `replace`, with another disk only, which lbctl \
     refuses; `next certificate`, when the next client certificate is issued; `another VM`, the file then describes \
     another load balancer.",
];

pub(super) fn page(date: &str) -> Page {
    let mut roff = Roff::titled(NAME, "5", date);
    roff.name(NAME, "configuration of a load balancer made by lbctl");
    roff.section("DESCRIPTION");
    roff.paragraphs(DESCRIPTION);
    roff.section("KEYS");
    for key in KEYS
        .iter()
        .filter(|k| k.parent().is_empty() && !k.is_table())
    {
        explain(&mut roff, key);
    }
    for table in KEYS.iter().filter(|k| k.is_table()) {
        chapter(&mut roff, table);
    }
    roff.section("EXAMPLES");
    roff.text("A minimal file:");
    roff.literal(&MINIMAL.lines().collect::<Vec<_>>());
    see_also(
        &mut roff,
        ["lbctl", "lbctl-check", "lbctl-init", "lbctl-schema"].map(|page| (page.to_owned(), "1")),
    );
    Page {
        name: NAME.into(),
        section: "5",
        text: roff.end(),
    }
}

fn chapter(roff: &mut Roff, table: &Key) {
    // In TOML a list of tables has its brackets in front.
    let list = table.kind == Kind::Tables;
    let path = table.path.replace("[]", "");
    roff.subsection(&if list {
        format!("[[{path}]]")
    } else {
        format!("[{path}]")
    });
    let need = if table.default_or_need() == "required" {
        " Required."
    } else {
        ""
    };
    let several = if list { " One for each." } else { "" };
    roff.text(&format!("{}.{several}{need}", table.meaning));
    let inside = if list {
        format!("{}[]", table.path)
    } else {
        table.path.to_owned()
    };
    for key in KEYS
        .iter()
        .filter(|k| k.parent() == inside && !k.is_table())
    {
        explain(roff, key);
    }
}

fn explain(roff: &mut Roff, key: &Key) {
    roff.tag(&[bold(key.name()), plain(" = "), takes(key)]);
    roff.text(&format!("{}.", key.meaning));
    let default = match key.default_or_need().as_str() {
        "" => String::new(),
        "required" => "Required. ".into(),
        value => format!("Default: {value}. "),
    };
    roff.text(&format!("{default}A change: {}.", key.effect().word()));
    let example = key.example();
    let short = !example.contains('\n') && example.len() < 60;
    if key.default.is_none() && short {
        roff.text(&format!("Example: {example}"));
    }
}

fn takes(key: &Key) -> Inline {
    italic(&key.takes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_explained_once() {
        let text = page("").text;
        let shown = text.replace('\n', " ").replace("\\%", "");
        for key in KEYS.iter().filter(|k| !k.is_table()) {
            let meaning = super::super::roff::escaped(key.meaning);
            assert!(shown.contains(&meaning), "{}", key.path);
        }
        let tags = text.matches("\n.TP\n").count();
        assert_eq!(tags, KEYS.iter().filter(|k| !k.is_table()).count());
    }
}
