//! The demo's page and pictures show what lbctl prints today. What needs no host is printed again
//! and compared, with its colours; of the rest, its words. A picture that is behind is found here,
//! and `./dev record` makes all of them again.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lbctl::testing::commands::plan_text;
use lbctl::testing::config::{Config, MemoryInputs, VolumeRef, parse};
use lbctl::testing::guest::Guest;
use lbctl::testing::reconcile::apply::{Progress, apply};
use lbctl::testing::reconcile::desired::{Desired, Intent, Renewal, current_seed};
use lbctl::testing::reconcile::observe::{Ask, observe};
use lbctl::testing::reconcile::plan::{
    DownOptions, Plan, Restart, Step, guest_differs, plan_down, plan_renew, plan_up,
};
use serde_json::json;

use crate::support::host::MemoryHost;
use crate::support::inputs::{PUBLIC_KEY, inputs, now};
use crate::support::run;
use crate::support::transcript::COLUMNS;

const BEHIND: &str = "docs/demo is behind what lbctl prints: ./dev record";
const NAME: &str = "postgres-lb-1";
/// For the agent, which answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name)
}

/// A command of the page, and what came of it.
struct Shown {
    typed: String,
    lines: Vec<String>,
}

fn page() -> Vec<Shown> {
    let page = fs::read_to_string(docs("demo.md")).unwrap();
    let blocks = page.split("```console\n").skip(1);
    let mut shown: Vec<Shown> = Vec::new();
    for line in blocks.flat_map(|rest| rest.split("```").next().unwrap().lines()) {
        if let Some(typed) = line.strip_prefix("$ ") {
            let (typed, lines) = (typed.to_owned(), Vec::new());
            shown.push(Shown { typed, lines });
        } else {
            shown.last_mut().unwrap().lines.push(line.to_owned());
        }
    }
    assert!(shown.len() > 12, "{}", shown.len());
    shown
}

/// What a command of the page printed, in one line.
fn printed(typed: &str) -> String {
    let page = page();
    let of = page.iter().filter(|shown| shown.typed == typed);
    let words: Vec<String> = of.flat_map(|shown| shown.lines.clone()).collect();
    assert!(!words.is_empty(), "no such command in the demo: {typed}");
    masked(&one_line(&words.join(" ")))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Without what differs from run to run: dates, and the address of the network interface.
fn masked(text: &str) -> String {
    let shapes = ["9999-99-99", "52:54:00:ff:ff:ff"];
    let fits = |rest: &[char], shape: &str| {
        rest.len() >= shape.len()
            && rest.iter().zip(shape.chars()).all(|(c, s)| match s {
                '9' => c.is_ascii_digit(),
                'f' => c.is_ascii_hexdigit(),
                other => *c == other,
            })
    };
    let characters: Vec<char> = text.chars().collect();
    let (mut done, mut at) = (String::new(), 0);
    while at < characters.len() {
        if let Some(shape) = shapes.iter().find(|shape| fits(&characters[at..], shape)) {
            done.push_str(shape);
            at += shape.len();
        } else {
            done.push(characters[at]);
            at += 1;
        }
    }
    done
}

/// The lines of a picture: text and colours, without their places.
fn lines(svg: &str) -> Vec<String> {
    let texts = svg.lines().filter(|line| line.starts_with("<text "));
    texts
        .map(|line| masked(line.split_once('>').unwrap().1))
        .collect()
}

/// A line as a terminal has it: the lines of a file are printed as they are, and it breaks them.
fn broken(line: &str) -> Vec<String> {
    let characters: Vec<char> = line.chars().collect();
    if line.contains('\u{1b}') || characters.len() <= COLUMNS {
        return vec![line.trim_end().to_owned()];
    }
    let lines = characters.chunks(COLUMNS);
    let text = lines.map(|part| part.iter().collect::<String>().trim_end().to_owned());
    text.collect()
}

/// What a terminal got, drawn as the pictures are.
fn drawn(shown: &str) -> Vec<String> {
    let screen: Vec<String> = shown.lines().flat_map(broken).collect();
    let mut python = Command::new("python3")
        .args(["-B", "tests/record", "still"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = json!({"title": "", "lines": screen}).to_string();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(asked.as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    lines(&String::from_utf8(output.stdout).unwrap())
}

/// The picture has these lines, one after the other.
#[track_caller]
fn picture_shows(name: &str, wanted: &[String]) {
    let svg = fs::read_to_string(docs(&format!("demo/{name}.svg"))).unwrap();
    let there = lines(&svg);
    assert!(
        !wanted.is_empty() && there.windows(wanted.len()).any(|part| part == wanted),
        "{BEHIND}\n{name}.svg has\n{}\nand today it is\n{}",
        there.join("\n"),
        wanted.join("\n")
    );
}

#[test]
fn the_report_on_a_configuration_is_the_one_of_today() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(docs("demo/slips.toml"), folder.path().join("slips.toml")).unwrap();
    let files = demo_inputs().files;
    for (name, content) in files {
        fs::write(folder.path().join(name), content.unwrap()).unwrap();
    }
    // Its colours come from a terminal, and so does the place where its lines end.
    let line = format!(
        "cd {}; stty cols {COLUMNS}; {} -c slips.toml check",
        folder.path().display(),
        env!("CARGO_BIN_EXE_lbctl")
    );
    let ran = run("env", ["TERM=xterm", "script", "-qefc", &line, "/dev/null"]).ended(2);
    picture_shows("error", &drawn(&ran.stdout.replace('\r', "")));
}

fn demo_inputs() -> MemoryInputs {
    let mut all = inputs();
    let key = format!("{PUBLIC_KEY}\n").into_bytes();
    all.files.insert("ssh_key.pub".into(), Ok(key));
    let used = ["ssh_key.pub", "patroni-ca.key", "patroni-ca.crt"];
    all.files
        .retain(|name, _| used.iter().any(|used| name == Path::new(used)));
    all
}

/// The demo's configuration, with a line of it changed.
fn config(from: &str, to: &str) -> Config {
    let text = fs::read_to_string(docs("demo/lbctl.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    let text = text.replacen(from, to, 1);
    parse(&text, "lbctl.toml", &demo_inputs(), now())
        .unwrap()
        .config
}

/// The host of the demo, as far as a plan can tell.
fn host() -> MemoryHost {
    let host = MemoryHost::new();
    host.add_base(VolumeRef {
        pool: "os".into(),
        name: "debian-12".into(),
    });
    host
}

fn plan(config: &Config, host: &MemoryHost) -> Plan {
    let mut observed = observe(config, host, Ask::Everything).unwrap();
    let desired = Desired::from_config(config, &observed, now(), Intent::Apply).unwrap();
    if guest_differs(&desired.seed, observed.domain.as_ref()) {
        observed.availability = Guest::new(host, NAME).availability(PATIENCE);
    }
    plan_up(&desired, &observed, Restart::Later)
        .unwrap_or_else(|refusal| panic!("refused: {refusal:?}"))
}

fn renewal(config: &Config, host: &MemoryHost) -> Plan {
    let mut observed = observe(config, host, Ask::WhatIsNeeded).unwrap();
    let found = current_seed(&observed).unwrap();
    let renewal = Renewal::from_config(config, found, now(), true).unwrap();
    observed.availability = Guest::new(host, NAME).availability(PATIENCE);
    plan_renew(&renewal.unwrap(), &observed).unwrap()
}

struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _: &Step) {}
    fn end(&mut self, _: &Step, _: Duration) {}
    fn note(&mut self, _: &str) {}
}

/// As `lbctl plan` prints it on a terminal.
fn on_a_terminal(plan: Plan, verbose: bool) -> String {
    let parts = plan_text(plan, verbose);
    let lines = parts.iter().filter_map(|part| part.shaped(Some(COLUMNS)));
    lines.map(|line| line.colored() + "\n").collect()
}

/// Each step stands in what the command printed, in this order.
#[track_caller]
fn steps_are_printed(typed: &str, steps: &[Step]) {
    let printed = printed(typed);
    let mut rest = printed.as_str();
    for step in steps {
        let step = masked(&step.to_string());
        let found = rest.split_once(&step);
        let (_, after) =
            found.unwrap_or_else(|| panic!("{BEHIND}\n$ {typed}: {step} is not in {rest}"));
        rest = after;
    }
}

/// The scenes one after the other, on a host in memory.
#[test]
fn plans_and_steps_are_those_of_today() {
    let host = host();
    let first = config("", "");
    let create = plan(&first, &host);
    steps_are_printed("lbctl up --wait=30m", &create.steps);
    apply(&create.steps, &host, &mut Quiet).unwrap();
    picture_shows("plan", &drawn(&on_a_terminal(create, false)));

    let second = config("[haproxy]\n", "[haproxy]\nmax_connections = 1500\n");
    let change = plan(&second, &host);
    picture_shows("live", &drawn(&on_a_terminal(change.clone(), true)));
    steps_are_printed("lbctl up", &change.steps);
    apply(&change.steps, &host, &mut Quiet).unwrap();

    let renewal = renewal(&second, &host);
    steps_are_printed("lbctl renew --force", &renewal.steps);
    apply(&renewal.steps, &host, &mut Quiet).unwrap();

    let options = DownOptions {
        stop_deadline: Duration::from_secs(120),
        delete_volume: true,
        alone: false,
    };
    let observed = observe(&second, &host, Ask::Everything).unwrap();
    let down = plan_down(&second, &observed, options).unwrap();
    steps_are_printed("lbctl down --delete-volume --yes", &down.steps);
}

/// The status of the demo has what a status of a load balancer that is ready has: the same lines,
/// and columns for the nodes.
#[test]
fn the_status_is_of_today() {
    let mut status = crate::status::answers(crate::status::guest());
    status.addresses.truncate(1);
    let labels = |lines: &[String]| -> Vec<String> {
        let label = |line: &String| line.get(..15).unwrap_or(line).trim().to_owned();
        let columns = |line: &String| line.contains("name") && line.contains("role");
        let labels = lines.iter().skip(1).map(label);
        let table = lines.iter().filter(|line| columns(line));
        let table = table.map(|line| one_line(&line[15..]));
        labels
            .filter(|label| !label.is_empty())
            .chain(table)
            .collect()
    };
    let today: Vec<String> = status
        .lines(Some(COLUMNS), false)
        .iter()
        .map(ToString::to_string)
        .collect();
    let page = page();
    let shown = page.iter().find(|shown| shown.typed == "lbctl status");
    let shown = &shown.unwrap().lines;
    assert_eq!(labels(shown), labels(&today), "{BEHIND}");
    assert_eq!(shown[0], format!("{NAME}: ready"));
}

/// Sentences that are the same whatever the load balancer, as the kept transcripts have them.
#[test]
fn what_is_said_at_the_end_is_said_so_today() {
    let life = fs::read_to_string(docs("../tests/transcripts/life.txt")).unwrap();
    for (typed, end) in [
        ("lbctl up", "@vm: up to date, nothing to do"),
        ("lbctl down --delete-volume --yes", "@vm: removed"),
        ("lbctl up --wait=30m", "@vm: running, address @ip ("),
        (
            "lbctl renew",
            "@vm: the client certificate is not due: it ends on DATE, in 364 days",
        ),
    ] {
        assert!(life.contains(end), "{BEHIND}: lbctl does not say: {end}");
        let end = end.replace("@vm", NAME).replace("@ip", "192.168.150.20");
        let end = end.replace("DATE", "9999-99-99");
        assert!(printed(typed).contains(&end), "{BEHIND}\n$ {typed}: {end}");
    }
}

/// What other pages show of the demo is of the same run, unless it is marked as something else.
/// `UPDATE_DOCS=1` copies from the demo's page.
#[test]
fn other_pages_quote_the_demo() {
    const BEGIN: &str = "```console\n";
    const OTHER: &str = "<!-- not of the demo -->\n";
    let demo = page();
    for name in ["operations.md", "reference.md"] {
        let before = fs::read_to_string(docs(name)).unwrap();
        let mut after = String::new();
        for (index, part) in before.split(BEGIN).enumerate() {
            if index == 0 {
                after.push_str(part);
                continue;
            }
            let (block, rest) = part.split_once("```").unwrap();
            let block = if after.ends_with(OTHER) {
                block.to_owned()
            } else {
                quoted(block, &demo)
            };
            after.extend([BEGIN, &block, "```", rest]);
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(docs(name), after).unwrap();
        } else {
            assert!(
                before == after,
                "docs/{name} is behind docs/demo.md: UPDATE_DOCS=1 cargo test --test it demo::"
            );
        }
    }
}

/// The commands of a block, each with what it printed in the demo: where there are several, the one
/// after the same command as in the block, or as the block has it, or the longest.
fn quoted(block: &str, demo: &[Shown]) -> String {
    let typed = block.lines().filter_map(|line| line.strip_prefix("$ "));
    let (mut text, mut before) = (String::new(), None);
    for typed in typed {
        let all = demo.iter().enumerate();
        let of = all
            .filter(|(_, shown)| shown.typed == typed)
            .map(|(n, shown)| {
                let lines = shown.lines.iter().map(|line| format!("{line}\n"));
                let follows = before.is_some_and(|before| before + 1 == n);
                (
                    follows,
                    format!("$ {typed}\n{}", lines.collect::<String>()),
                    n,
                )
            });
        let best = of
            .max_by_key(|(follows, text, _)| (*follows, block.contains(text.as_str()), text.len()));
        let (_, best, at) = best.unwrap_or_else(|| panic!("the demo has no such command: {typed}"));
        text += &best;
        before = Some(at);
    }
    text
}
