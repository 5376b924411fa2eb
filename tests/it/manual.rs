//! The manual and the completions, judged by those who read them: mandoc, groff, bash, zsh and
//! fish.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Ran, lbctl, run};

const DATED: &str = "SOURCE_DATE_EPOCH=1767225600";

fn dated(arguments: &[&str]) -> Ran {
    let program = env!("CARGO_BIN_EXE_lbctl");
    run("env", [&[DATED, program][..], arguments].concat())
}

/// All pages in a directory, and their names.
fn pages(directory: &Path) -> Vec<String> {
    dated(&["man", "--out", directory.to_str().unwrap()]).ok();
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// As `lbctl --help` lists them.
fn commands() -> Vec<String> {
    let help = lbctl(["--help"]).ok().stdout;
    let (_, rest) = help.split_once("Commands:\n").unwrap();
    let (listed, _) = rest.split_once("\n\n").unwrap();
    listed
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|command| command != "help")
        .collect()
}

#[test]
fn there_is_a_page_for_every_command_and_everyone_can_read_it() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("share/man");
    let found = pages(&directory);
    let mut wanted: Vec<String> = commands().iter().map(|c| format!("lbctl-{c}.1")).collect();
    assert!(wanted.len() >= 10, "{wanted:?}");
    wanted.extend(["lbctl.1".to_owned(), "lbctl.toml.5".to_owned()]);
    wanted.sort();
    assert_eq!(found, wanted);
    for name in found {
        let mode = fs::metadata(directory.join(&name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o7777, 0o644, "{name}");
    }
}

#[test]
fn mandoc_and_groff_accept_every_page() {
    let place = tempfile::tempdir().unwrap();
    for name in pages(place.path()) {
        let path = place.path().join(&name);
        let path = path.to_str().unwrap();
        let judged = run("mandoc", ["-T", "lint", "-W", "style", path]);
        assert!(judged.stdout.is_empty() && judged.code == 0, "{judged}");
        let arguments = ["-ww", "-z", "-K", "utf8", "-T", "utf8", "-mandoc", path];
        let judged = run("groff", arguments).ok();
        assert!(judged.stderr.is_empty(), "{judged}");
    }
}

#[test]
fn a_page_has_its_sections_and_names_only_pages_that_exist() {
    let place = tempfile::tempdir().unwrap();
    let names = pages(place.path());
    for name in &names {
        let text = fs::read_to_string(place.path().join(name)).unwrap();
        let of_command = name.ends_with(".1");
        let sections = ["NAME", "DESCRIPTION", "EXAMPLES", "SEE ALSO"];
        let more = ["SYNOPSIS", "OPTIONS", "EXIT STATUS", "ENVIRONMENT"];
        let wanted = sections
            .iter()
            .chain(more.iter().filter(|_| of_command))
            // What was added lately may have no example yet.
            .filter(|s| **s != "EXAMPLES" || text.contains(".EX"));
        for section in wanted {
            assert!(
                text.contains(&format!(".SH \"{section}\"")),
                "{name}: {section}"
            );
        }
        let ours = text
            .lines()
            .filter_map(|line| line.strip_prefix("\\%\\fBlbctl"));
        for line in ours.filter(|line| line.contains("\\fR(")) {
            let (rest, section) = line.split_once("\\fR(").unwrap();
            let page = format!("lbctl{}.{}", rest.replace('\\', ""), &section[..1]);
            assert!(names.contains(&page), "{name} names {page}");
        }
    }
    dated(&["man", "renew"]).ok().says(&[
        "LBCTL_CONFIG",
        "LIBVIRT_DEFAULT_URI",
        "NO_COLOR",
        "\"2026-01-01\"",
        "/etc/lbctl/*.toml",
    ]);
}

#[test]
fn a_page_that_does_not_exist_is_a_wrong_command_line() {
    lbctl(["man", "statsu"])
        .ended(2)
        .says(&["the manual has no page `statsu`", "did you mean `status`?"]);
    lbctl(["man", "lb"])
        .ended(2)
        .says(&["the pages are: init, check"]);
    lbctl(["man", "up", "--out", "/tmp"]).ended(2);
    run(
        "env",
        [
            "SOURCE_DATE_EPOCH=today",
            env!("CARGO_BIN_EXE_lbctl"),
            "man",
        ],
    )
    .ended(2)
    .says(&["SOURCE_DATE_EPOCH is `today`"]);
    lbctl(["man", "--out", "/dev/null"])
        .ended(1)
        .says(&["/dev/null", "choose another directory with --out"]);
}

#[test]
fn bash_completes_commands_options_values_and_pages() {
    let script = r#"
        source <("$1" completions bash)
        # As bash calls it when the Tab key is pressed behind these words.
        complete_words() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _lbctl lbctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${*}: ${COMPREPLY[*]}"
        }
        complete -p lbctl
        complete_words lbctl st
        complete_words lbctl up --rest
        complete_words lbctl up --restart n
        complete_words lbctl man ren
    "#;
    run(
        "bash",
        ["-eu", "-c", script, "bash", env!("CARGO_BIN_EXE_lbctl")],
    )
    .ok()
    .says(&[
        "-F _lbctl lbctl\n",
        "lbctl st: status\n",
        "lbctl up --rest: --restart\n",
        "lbctl up --restart n: now never\n",
        "lbctl man ren: render renew\n",
    ]);
}

#[test]
fn fish_completes_commands_options_and_values() {
    let home = tempfile::tempdir().unwrap();
    let script = r#"
        $argv[1] completions fish | source
        for words in "lbctl st" "lbctl up --rest" "lbctl up --restart n"
            echo "$words:" (complete -C "$words" | string split -f 1 \t)
        end
    "#;
    let home = format!("HOME={}", home.path().display());
    let program = env!("CARGO_BIN_EXE_lbctl");
    run("env", [&home, "fish", "--no-config", "-c", script, program])
        .ok()
        .says(&[
            "lbctl st: status\n",
            "lbctl up --rest: --restart\n",
            "lbctl up --restart n: never now\n",
        ]);
}

#[test]
fn zsh_takes_the_script_for_its_completion_of_lbctl() {
    let place = tempfile::tempdir().unwrap();
    let script = lbctl(["completions", "zsh"]).ok().stdout;
    fs::write(place.path().join("_lbctl"), script).unwrap();
    let directory = place.path().to_str().unwrap();
    let check = r#"
        zsh -n "$1/_lbctl"
        fpath=("$1" $fpath)
        autoload -Uz compinit
        compinit -u -D
        print -- "lbctl: $_comps[lbctl]"
        autoload +X _lbctl
        print -- "$functions[_lbctl_commands]$functions[_lbctl]"
    "#;
    run("zsh", ["-f", "-e", "-c", check, "zsh", directory])
        .ok()
        .says(&["lbctl: _lbctl\n", "status", "restart"]);
}
