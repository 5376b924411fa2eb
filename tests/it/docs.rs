//! The documents say what the code does: every key, command and option is in them, the command
//! lines in them are what lbctl takes, and their links lead somewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use lbctl::testing::cli::Cli;
use lbctl::testing::config::{KEYS, render_warnings};
use lbctl::testing::status::{SIGNS, Sign, TWO, role_word};
use serde_json::Value;

use crate::support::inputs::{inputs, now};

const BEGIN: &str =
    "<!-- keys: made from src/config/keys.rs by `UPDATE_DOCS=1 cargo test --test it docs::` -->\n";
const END: &str = "<!-- end of keys -->";

fn table() -> String {
    let mut text =
        String::from("| key | takes | default | meaning | a change |\n|---|---|---|---|---|\n");
    for key in KEYS {
        let takes = key.takes();
        let default = match (key.default, key.default_or_need()) {
            (None, need) => need,
            (Some(_), default) => format!("`{default}`"),
        };
        let meaning = key.meaning.replace('|', "\\|");
        let effect = if key.is_table() {
            ""
        } else {
            key.effect().word()
        };
        let _ = writeln!(
            text,
            "| `{}` | {takes} | {default} | {meaning} | {effect} |",
            key.path
        );
    }
    text
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is made between two marks of a page is as it would be made now.
fn check_made(page: &str, begin: &str, end: &str, made: &str) {
    // The marks of one page are written one after the other.
    static PAGE: Mutex<()> = Mutex::new(());
    let _alone = PAGE.lock().unwrap();
    let path = root().join(page);
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (listed, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{made}{end}{after}")).unwrap();
        return;
    }
    assert!(
        listed == made,
        "{} is behind: UPDATE_DOCS=1 cargo test --test it docs::",
        path.display()
    );
}

/// What HAProxy says of nodes, and what to do about it: the words of `lbctl status`.
fn signs() -> String {
    let row = |seen: &str, sign: &Sign| {
        let role = role_word(sign.role, "primary");
        let (meaning, advice) = (sign.meaning, sign.advice);
        format!("   | {role} | {seen} | {meaning} | {advice} |\n")
    };
    let mut text =
        "   | role | check | what it means | what to check |\n   |---|---|---|---|\n".to_owned();
    for sign in SIGNS {
        text.push_str(&row(sign.seen, sign));
    }
    let _ = writeln!(
        text,
        "   | primary, on two | `UP` on two | both say primary; new sessions wait | {TWO} |"
    );
    text + "   | no node at all | | DNS names none since the start | `dig @NAMESERVER POSTGRES_DOMAIN` from the VM's network |\n"
}

#[test]
fn the_page_for_the_night_has_the_words_of_status() {
    let begin = "<!-- roles: made from src/status/role.rs by `UPDATE_DOCS=1 cargo test --test it docs::` -->\n\n";
    check_made(
        "docs/operations.md",
        begin,
        "   <!-- end of roles -->",
        &(signs() + "\n"),
    );
}

#[test]
fn the_reference_lists_every_key_and_id_as_it_is() {
    check_made("docs/reference.md", BEGIN, END, &table());
    for (id, heading) in IDS {
        let name = format!(
            "<!-- {id}: made from the JSON Schema by `UPDATE_DOCS=1 cargo test --test it docs::` -->\n"
        );
        check_made(
            "docs/reference.md",
            &name,
            &format!("<!-- end of {id} -->"),
            &ids(id, heading),
        );
    }
}

/// The lists that programs compare with: their names in the JSON Schema, and the head of their
/// table.
const IDS: [(&str, &str); 4] = [
    ("MessageId", "id of a message or a finding"),
    ("ProblemId", "id of a problem"),
    ("SubjectKind", "kind of a change"),
    ("StepKind", "kind of a step"),
];

/// What the JSON Schema of the output has of such a list: each value and its meaning.
fn values(list: &str) -> Vec<(String, String)> {
    let schema = lbctl::testing::output::json::json_schema();
    let values = schema["$defs"][list]["oneOf"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    values
        .iter()
        .map(|value| (text(&value["const"]), text(&value["description"])))
        .collect()
}

fn ids(list: &str, heading: &str) -> String {
    let mut text = format!("| {heading} | |\n|---|---|\n");
    for (id, meaning) in values(list) {
        let meaning = meaning.trim_end_matches('.');
        let _ = writeln!(text, "| `{id}` | {meaning} |");
    }
    text
}

#[test]
fn every_id_is_one_that_lbctl_gives() {
    let sources = sources(&["src"]);
    let mut unused = Vec::new();
    for list in ["MessageId", "ProblemId"] {
        for (id, _) in values(list) {
            let words = id.split('-').map(|word| {
                let (first, rest) = word.split_at(1);
                first.to_uppercase() + rest
            });
            let name = format!("{list}::{}", words.collect::<String>());
            let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
            if !sources.split(&name).skip(1).any(ends) {
                unused.push(name);
            }
        }
    }
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn the_pages_of_benches_show_the_runs_they_keep() {
    for bench in ["failover", "pair"] {
        let script = root().join(format!("tests/bench/{bench}/report.py"));
        let output = Command::new("/usr/bin/python3")
            .arg("-B")
            .arg(script)
            .arg("check")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{bench}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|e| e == end))
        .collect()
}

/// Every page by its path.
fn pages() -> BTreeMap<PathBuf, String> {
    let paths = files(".", "md").into_iter().chain(files("docs", "md"));
    paths
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// The lines of fenced blocks, and the text without them.
fn apart(page: &str) -> (Vec<&str>, String) {
    let (mut fenced, mut text, mut inside) = (Vec::new(), String::new(), false);
    for line in page.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside {
            fenced.push(line);
        } else {
            text += line;
            text += "\n";
        }
    }
    (fenced, text)
}

/// As GitHub names a heading.
fn anchor(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim();
    // Of a link in a heading its text counts.
    let title = title.split_once("](").map_or(title, |(text, _)| text);
    let kept = title.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.collect::<String>().to_lowercase()
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut dead = Vec::new();
    for (path, page) in &pages {
        let (_, text) = apart(page);
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path
                    .parent()
                    .unwrap()
                    .join(file)
                    .canonicalize()
                    .unwrap_or_default(),
            };
            let there = target.exists()
                && (heading.is_empty()
                    || fs::read_to_string(&target)
                        .unwrap()
                        .lines()
                        .any(|line| line.starts_with('#') && anchor(line) == heading));
            if !there {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_command_and_option_is_in_a_page() {
    let text: String = pages().into_values().collect();
    let mut cli = Cli::command();
    cli.build();
    let mut missing = Vec::new();
    for command in cli.get_subcommands().chain([&cli]) {
        let name = command.get_name();
        if name != "help" && name != "lbctl" && !text.contains(&format!("`lbctl {name}")) {
            missing.push(format!("lbctl {name}"));
        }
        for long in command.get_arguments().filter_map(clap::Arg::get_long) {
            let flag = format!("--{long}");
            let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-');
            if !text.split(&flag).skip(1).any(ends) {
                missing.push(format!("lbctl {name} {flag}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The command lines in the pages, in blocks and in the running text.
fn told(page: &str) -> Vec<String> {
    let (fenced, text) = apart(page);
    let blocks = fenced.iter().map(|line| line.trim_start_matches("$ "));
    let spans = text.split('`').skip(1).step_by(2);
    let lines = blocks.chain(spans).map(|line| line.replace('\n', " "));
    // A shell's own words, comments and further commands end one of lbctl's.
    let first = lines.map(|line| {
        line.split(['#', ';', '&', '>', '|', ')'])
            .next()
            .unwrap()
            .trim_end_matches(['\\', ' '])
            .trim_start()
            .to_owned()
    });
    // `SHELL` and the like are placeholders; so is `[=10m]`.
    let stands = |line: &String| {
        line.contains(['[', '…']) || line.split(' ').any(|w| ["SHELL", "COMMAND"].contains(&w))
    };
    first
        .filter(|line| line.starts_with("lbctl ") && !stands(line))
        .collect()
}

#[test]
fn lbctl_accepts_the_command_lines_in_the_pages() {
    let mut count = 0;
    for (path, page) in pages() {
        for line in told(&page) {
            let wrong = Cli::try_parse_from(line.split_whitespace())
                .err()
                .filter(|e| {
                    !matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
                });
            assert!(
                wrong.is_none(),
                "{}: {line}: {}",
                path.display(),
                wrong.unwrap()
            );
            count += 1;
        }
    }
    assert!(count > 30, "only {count} commands were found in the pages");
}

/// Command lines of lbctl are read by lbctl in the test above. Of other commands a page says, in a
/// comment that no reader sees, which test runs them, or why none does.
#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    // Developers run these; each block of the second page has its test in its own suite.
    let others = ["CONTRIBUTING.md", "development.md", "terraform.md"];
    let mut missing = Vec::new();
    for (path, page) in pages() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let lines: Vec<&str> = page.lines().map(str::trim).collect();
        let begins = (0..lines.len()).filter(|at| lines[*at] == "```sh");
        for at in begins.filter(|_| !others.contains(&name)) {
            let block = lines[at + 1..]
                .iter()
                .take_while(|line| !line.starts_with("```"));
            if block
                .clone()
                .all(|line| line.is_empty() || line.starts_with("lbctl "))
            {
                continue;
            }
            let mark = lines[at - 1].strip_prefix("<!-- ").unwrap_or_default();
            let mark = mark.strip_suffix(" -->").unwrap_or_default();
            let is_known = match mark.split_once(": ") {
                Some(("run", file)) => root().join(file).exists(),
                Some(("not run", why)) => !why.is_empty(),
                _ => mark == "run",
            };
            if !is_known {
                missing.push(format!("{name}:{}", at + 1));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_module_and_every_suite_has_its_row() {
    let mut missing = Vec::new();
    for (source, page) in [
        ("src/lib.rs", "docs/architecture.md"),
        ("tests/it/main.rs", "docs/development.md"),
    ] {
        let rows = fs::read_to_string(root().join(page)).unwrap();
        let text = fs::read_to_string(root().join(source)).unwrap();
        let declared = text
            .lines()
            .filter_map(|line| line.strip_suffix(';')?.split_once("mod "));
        let names = declared.map(|(_, name)| name).filter(|n| *n != "support");
        let lacking = names.filter(|name| {
            let cell = format!("`{name}`");
            let first = |row: &str| {
                row.starts_with("| `") && row.split(" | ").next().unwrap().contains(&cell)
            };
            !rows.lines().any(first)
        });
        missing.extend(lacking.map(|name| format!("{page}: {name}")));
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// A file of this repository, as comments and pages name it: from its top, or a page of the top
/// level.
fn cited(line: &str) -> impl Iterator<Item = &str> {
    const FOLDERS: &str = "src templates tests docs fuzz packaging";
    let ends = |c: char| !c.is_ascii_alphanumeric() && !"_./-".contains(c);
    let words = line.split(ends).map(|word| word.trim_end_matches('.'));
    words.filter(|word| {
        let (stem, extension) = word.rsplit_once('.').unwrap_or((word, ""));
        let page =
            extension == "md" && stem.len() > 2 && stem.bytes().all(|b| b.is_ascii_uppercase());
        let folder = word.split_once('/').map_or("", |(folder, _)| folder);
        let inside = FOLDERS.split(' ').any(|known| known == folder);
        page || inside && ["md", "rs", "py", "toml", "json", "xml", "cfg"].contains(&extension)
    })
}

#[test]
fn no_comment_and_no_page_cites_a_file_that_is_not_there() {
    let mut gone = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "corpus"].contains(&&*name) {
                    folders.push(path);
                }
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let all = path.extension().is_some_and(|e| e == "md");
            let comment = |line: &&str| all || line.trim_start().starts_with(['/', '#']);
            for (number, line) in text.lines().enumerate().filter(|(_, line)| comment(line)) {
                let missing = cited(line).filter(|file| !root().join(file).exists());
                gone.extend(
                    missing.map(|file| format!("{}:{}: {file}", path.display(), number + 1)),
                );
            }
        }
    }
    assert!(gone.is_empty(), "{gone:#?}");
}

/// Every variable of the Terraform module, as its README lists them.
const MODULE: &str = "name vcpus memory volume_id libvirt_network libvirt_network.ip libvirt_network.mac \
    libvirt_network.network_id libvirt_network.network_name macvtap_interfaces macvtap_interfaces.interface \
    macvtap_interfaces.prefix_length macvtap_interfaces.ip macvtap_interfaces.mac macvtap_interfaces.gateway \
    macvtap_interfaces.dns_servers cloud_init_volume_pool cloud_init_volume_name ssh_admin_user admin_user_password \
    ssh_admin_public_key haproxy haproxy.postgres_nodes_max_count haproxy.postgres_nameserver_ips \
    haproxy.postgres_domain haproxy.patroni_client haproxy.patroni_client.ca_key haproxy.patroni_client.ca_certificate \
    haproxy.patroni_client.certificate_validity_period haproxy.patroni_client.certificate_early_renewal_period \
    haproxy.timeouts haproxy.timeouts.connect haproxy.timeouts.check haproxy.timeouts.idle chrony chrony.enabled \
    chrony.servers chrony.pools chrony.makestep fluentd fluentd.enabled fluentd.load_balancer_tag \
    fluentd.node_exporter_tag fluentd.forward fluentd.forward.domain fluentd.forward.port fluentd.forward.hostname \
    fluentd.forward.shared_key fluentd.forward.ca_cert fluentd.buffer fluentd.buffer.customized \
    fluentd.buffer.custom_value container_registry container_registry.url container_registry.username \
    container_registry.password install_dependencies";

#[test]
fn every_variable_of_the_module_has_its_row() {
    let page = fs::read_to_string(root().join("docs/terraform.md")).unwrap();
    let missing: Vec<&str> = MODULE
        .split_whitespace()
        .filter(|variable| !page.contains(&format!("\n| `{variable}` |")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/terraform.md: no row for {missing:?}"
    );
}

#[test]
fn whole_configurations_in_the_pages_are_accepted() {
    let mut count = 0;
    for (path, page) in pages() {
        for toml in page.split("```toml\n").skip(1) {
            let toml = toml.split("```").next().unwrap();
            // Others are pieces of one.
            if toml.starts_with("name = ") {
                let read = lbctl::testing::config::parse(toml, "lbctl.toml", &inputs(), now());
                let said = read.map_or_else(
                    |report| report.render(false, None),
                    |loaded| render_warnings(&loaded.warnings, false, None),
                );
                // That plain HTTP has a price is said of every such configuration.
                let plain = toml.contains("patroni_tls = \"off\"");
                let warnings = said.matches("warning").count();
                assert_eq!(warnings, usize::from(plain), "{}: {said}", path.display());
                assert!(!said.contains("error"), "{}: {said}", path.display());
                count += 1;
            }
        }
    }
    assert!(
        count >= 2,
        "the README and the page on Terraform have one each"
    );
}

#[test]
fn pictures_are_small_sound_and_shown() {
    let text: String = pages().into_values().collect();
    for path in files("docs", "svg")
        .into_iter()
        .chain(files("docs/demo", "svg"))
    {
        let name = path.file_name().unwrap().to_str().unwrap();
        let svg = fs::read_to_string(&path).unwrap();
        assert!(svg.len() < 150 * 1024, "{name}: {} bytes", svg.len());
        roxmltree::Document::parse(&svg).unwrap();
        assert!(
            !svg.contains(env!("CARGO_MANIFEST_DIR")),
            "{name} names a folder of this machine"
        );
        assert!(text.contains(name), "no page shows {name}");
    }
}

/// Every file in the folders, as one text.
fn sources(folders: &[&str]) -> String {
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap()));
            }
        }
    }
    text
}

/// Each message on its page is one that lbctl has: its parts between `…` are in the sources, or in
/// what tests expect.
#[test]
fn the_page_of_messages_quotes_what_lbctl_says() {
    let page = fs::read_to_string("docs/messages.md").unwrap();
    // What it says of a configuration is put together from parts; these are whole.
    let sources = sources(&["src", "tests/config", "templates/guest/lbctl_guest"]);
    // A text may continue in the next line of the source; what libvirt says is not in our sources.
    let joined = sources.replace("\\\n", "");
    let sources: String = joined.split_whitespace().collect::<Vec<_>>().join(" ");
    let of_libvirt = ["Failed to connect socket to "];
    let mut looked = 0;
    for row in page.lines().filter(|l| l.starts_with("| `")) {
        let cell = row.split(" | ").next().unwrap();
        for quoted in cell.split('`').skip(1).step_by(2) {
            for part in quoted.split('…').filter(|part| part.trim().len() > 3) {
                let known = of_libvirt.contains(&part) || sources.contains(part.trim());
                assert!(known, "lbctl does not say `{part}`: {row}");
                looked += 1;
            }
        }
    }
    assert!(looked > 50, "{looked}");
}

/// What precedes the pieces of a page, so that each is a whole configuration.
const AROUND: &str = "name = \"postgres-lb-1\"
cloud_init_volume_pool = \"default\"
ssh_admin_public_key = { file = \"admin.pub\" }
volume_id = \"default/postgres-lb-1\"
[libvirt_network]
network_name = \"default\"
ip = \"192.0.2.10\"
";

#[test]
fn each_piece_for_your_patroni_is_a_configuration() {
    let page = fs::read_to_string(root().join("docs/your-patroni.md")).unwrap();
    let pieces: Vec<&str> = page
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let (nodes, pieces) = pieces.split_first().unwrap();
    assert!(nodes.starts_with("[[haproxy.nodes]]"));
    assert!(pieces.len() > 8, "{}", pieces.len());
    for piece in pieces {
        // Plain keys of a table end where the first list of it begins.
        let at = piece.find("\n[").unwrap_or(piece.len());
        let (table, rest) = piece.split_at(at);
        let text = format!("{AROUND}{table}\n{nodes}{rest}");
        let read = lbctl::testing::config::parse(&text, "lbctl.toml", &inputs(), now());
        if let Err(report) = read {
            panic!("{piece}\n{}", report.render(false, None));
        }
    }
}

/// The commands of a page that are marked so, one block after the other in one folder.
#[test]
fn the_commands_that_make_certificates_make_good_ones() {
    let page = fs::read_to_string(root().join("docs/your-patroni.md")).unwrap();
    let blocks: Vec<&str> = page
        .split("<!-- run -->\n```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(blocks.len(), 2);
    let folder = tempfile::tempdir().unwrap();
    let run = |script: &str| {
        let mut shell = Command::new("sh");
        let output = shell.args(["-euc", script]).current_dir(&folder).output();
        let output = output.unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{script}\n{}",
            said(&output.stderr)
        );
        said(&output.stdout)
    };
    for block in &blocks {
        run(block);
    }
    let names = run("openssl x509 -in pg1.crt -noout -ext subjectAltName,extendedKeyUsage");
    for wanted in [
        "DNS:pg1",
        "DNS:pg.example.net",
        "IP Address:192.0.2.11",
        "Client Auth",
    ] {
        assert!(names.contains(wanted), "{names}");
    }
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let key = lbctl::testing::secret::Secret::new(read("patroni-ca.key"));
    lbctl::testing::cert::Ca::load(&key, &read("patroni-ca.crt")).unwrap();
}
