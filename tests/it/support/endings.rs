//! Every way in which a command ends with a document of `--json`: run with `--json` and `--events`,
//! and each line held against the published schemas. tests/it/endings.rs has those that need no
//! libvirt, and tests/it/libvirt/endings.rs the others.

use super::Ran;

/// The command, its exit code, and what is typed, in which the suite's own words stand.
pub type Ending = (&'static str, i32, &'static str);

/// What those need that no libvirt has to be there for.
pub const ALONE: &[Ending] = &[
    ("init", 1, "init -o @home/nowhere/lbctl.toml"),
    ("init", 2, "init --frob"),
    ("init", 4, "init -o @home/lbctl.toml"),
    ("check", 0, "check"),
    ("check", 0, "check -v"),
    ("check", 0, "-c @home/fleet check -v"),
    ("check", 1, "check --host"),
    ("check", 2, "-c @home/bad.toml check"),
    ("check", 2, "-c @home/twice check"),
    ("render", 0, "render"),
    ("render", 0, "render --out @home/out"),
    ("render", 0, "-c @home/fleet render"),
    ("render", 1, "render --out @home/lbctl.toml"),
    ("render", 2, "-c @home/bad.toml render"),
    ("render", 4, "render --out @home/others"),
    ("plan", 1, "plan"),
    ("plan", 1, "-c @home/fleet plan"),
    ("plan", 2, "plan now"),
    ("up", 1, "up"),
    ("up", 1, "-c @home/fleet up"),
    ("up", 2, "up --wait=soon"),
    ("adopt", 1, "adopt"),
    ("adopt", 2, "-c @home/fleet adopt"),
    ("down", 1, "down --yes"),
    ("down", 1, "-c @home/fleet down --yes --only lb-2"),
    ("down", 2, "-c @home/fleet down --yes"),
    ("restart", 1, "restart --yes"),
    ("restart", 2, "-c @home/nowhere.toml restart"),
    ("status", 1, "status"),
    ("status", 1, "-c @home/fleet status"),
    ("status", 2, "status --watch=0"),
    ("list", 1, "list @home/lbctl.toml"),
    ("list", 2, "list @home/bad.toml"),
    ("logs", 1, "logs"),
    ("logs", 2, "-c @home/fleet logs"),
    ("console", 2, "console"),
    ("renew", 1, "renew"),
    ("renew", 1, "-c @home/fleet renew"),
    ("renew", 2, "renew --check --force"),
    ("handover", 1, "-c @home/sharing.toml handover"),
    ("handover", 2, "handover"),
    ("import", 1, "import --domain lb-1"),
    ("import", 2, "import --frob"),
    ("csr", 0, "-c @home/requested.toml csr"),
    ("csr", 2, "csr"),
    ("schema", 2, "schema configuration"),
    ("completions", 2, "completions tcsh"),
    ("man", 1, "man --out /dev/null"),
    ("man", 2, "man upp"),
];

/// In this order on a host, where no guest ever answers.
pub const ON_A_HOST: &[Ending] = &[
    ("down", 0, "down --yes"),
    ("renew", 1, "renew"),
    ("plan", 0, "plan"),
    ("plan", 3, "plan --exit-code"),
    ("up", 5, "up --wait=1s"),
    ("up", 0, "up"),
    ("plan", 0, "plan --exit-code"),
    ("status", 1, "status"),
    ("logs", 1, "logs"),
    ("list", 0, "list @home/lbctl.toml"),
    ("renew", 0, "renew"),
    ("down", 4, "down"),
    ("restart", 4, "restart"),
    ("restart", 0, "restart --yes --stop-timeout 1s"),
    ("restart", 5, "restart --yes --stop-timeout 1s --wait=1s"),
    ("renew", 4, "renew --force"),
];

/// The same with a certificate that is due, and with memory that differs.
pub const OF_A_CHANGE: &[Ending] = &[
    ("renew", 3, "renew --check"),
    ("plan", 3, "plan --exit-code"),
    ("up", 4, "up --restart never"),
    ("up", 0, "up --restart later"),
    ("down", 0, "down --yes --stop-timeout 1s --delete-volume"),
];

/// With a domain of the name that something else made.
pub const OF_OTHERS: &[Ending] = &[
    ("check", 4, "check --host"),
    ("plan", 4, "plan"),
    ("adopt", 4, "adopt"),
    ("renew", 4, "renew"),
    ("logs", 4, "logs"),
    ("status", 1, "status"),
];

/// By a signal while it waits; the name of the signal stands in the place of what is typed.
pub const STOPPED: &[Ending] = &[("up", 130, "INT"), ("up", 143, "TERM")];

/// Those that end otherwise, and where that is tried.
pub const ELSEWHERE: &[(&str, &[i32], &str)] = &[
    (
        "init",
        &[0],
        "a text: cli::the_example_and_the_texts_about_lbctl_are_printed",
    ),
    (
        "schema",
        &[0, 1],
        "a text: transcripts::data_for_other_programs, cli::what_was_not_written_is_a_failure",
    ),
    ("completions", &[0, 1], "a text: as schema"),
    ("man", &[0], "a text: as schema"),
    ("console", &[0, 1, 4], "no document: libvirt::surface"),
    ("csr", &[1], "a folder that cannot be written: csr"),
    ("import", &[0, 4], "import, libvirt::import"),
    (
        "adopt",
        &[0, 5, 130, 143],
        "the documents of up: libvirt::adopt",
    ),
    (
        "down",
        &[130, 143],
        "the documents of up: libvirt::interrupted",
    ),
    (
        "restart",
        &[130, 143],
        "the documents of up: libvirt::interrupted",
    ),
    (
        "renew",
        &[130, 143],
        "the documents of up: libvirt::interrupted",
    ),
    ("status", &[0], "a guest that works: guest::live"),
    ("logs", &[0], "a guest that works: guest::inside"),
    ("handover", &[0, 4], "two guests that work: pair"),
];

/// A document is as it is published, and says with what lbctl ended.
#[track_caller]
pub fn ended_as_published((command, code, typed): Ending, with: &str, ran: Ran) {
    let ran = ran.ended(code);
    let (events, document) = match with {
        "--json" => (Vec::new(), ran.document()),
        _ => ran.events(),
    };
    // The end of one of several is in the place of the whole.
    let said = document["command"].as_str();
    assert_eq!(said, Some(command), "{typed} {with}: {document:#}");
    let failure = &document["error"]["exit_code"];
    let several = &document["exit_code"];
    let is_failure = !matches!(code, 0 | 3);
    let told = [failure, several].map(serde_json::Value::as_i64);
    match told {
        [Some(told), _] | [None, Some(told)] => assert_eq!(told, i64::from(code), "{document:#}"),
        // A report that has its verdict by itself.
        [None, None] => assert!(
            !is_failure || matches!(command, "check" | "status" | "list"),
            "{typed} {with}: {document:#}"
        ),
    }
    assert!(events.iter().all(|event| event["schema"] == 1), "{typed}");
}
