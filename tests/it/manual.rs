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

/// A folder for a shell to be in, with lbctl on the path, a home, and configurations.
fn desk() -> (tempfile::TempDir, Vec<String>) {
    let place = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put(
        "lbctl.toml",
        "[[vms]]\nname = \"lb-1\"\n[[vms]]\nname = \"lb-2\"\n",
    );
    put(
        "other.toml",
        "name = \"alone\"\n[[haproxy.nodes]]\nname = \"pg-1\"\naddress = \"10.0.0.11\"\n",
    );
    put("broken.toml", "name = ");
    // Behind others in a list, so that no shell completes to it.
    put(
        "zone.toml",
        "extends = \"common/base.toml\"\n[[vms]]\nname = \"zone-1\"\n",
    );
    put(
        "common/base.toml",
        "[[haproxy.nodes]]\nname = \"pg-base\"\naddress = \"10.0.0.21\"\n",
    );
    put(
        "farm/1.toml",
        "extends = \"base.toml\"\nname = \"farm-1\"\n",
    );
    put("farm/2.toml", "name = \"farm-2\"\n");
    put("farm/base.toml", "memory = 1024\n");
    put("notes.txt", "");
    put("more/third.toml", "");
    put(".ssh/config", "Host kvm1 *.lab\n");
    let program = Path::new(env!("CARGO_BIN_EXE_lbctl")).parent().unwrap();
    let home = place.path().display();
    let settings = vec![
        "-i".to_owned(),
        "-C".to_owned(),
        home.to_string(),
        format!("HOME={home}"),
        format!("PATH={}:/usr/bin:/bin", program.display()),
        "TERM=dumb".to_owned(),
    ];
    (place, settings)
}

fn on_desk(shell: &[&str]) -> Ran {
    let (_place, settings) = desk();
    run(
        "env",
        settings
            .iter()
            .map(String::as_str)
            .chain(shell.iter().copied()),
    )
}

#[test]
fn bash_completes_commands_options_and_values_of_the_moment() {
    let script = r#"
        source <(lbctl completions bash)
        # As bash calls it when the Tab key is pressed behind these words.
        complete_words() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _lbctl lbctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" || true
            echo "${*}: ${COMPREPLY[*]}"
        }
        complete -p lbctl
        complete_words lbctl sta
        complete_words lbctl up --rest
        complete_words lbctl up --restart n
        complete_words lbctl man ren
        complete_words lbctl status --only ''
        complete_words lbctl status --only l
        complete_words lbctl -c other.toml status --only ''
        complete_words lbctl -c other.toml renew --despite p
        complete_words lbctl -c zone.toml status --only ''
        complete_words lbctl -c zone.toml renew --despite ''
        complete_words lbctl -c farm status --only ''
        complete_words lbctl -c broken.toml status --only ''
        complete_words lbctl -c missing.toml status --only ''
        complete_words lbctl -c o
        complete_words lbctl -c more/
        complete_words lbctl --connect qemu+
        LIBVIRT_DEFAULT_URI=test:///default complete_words lbctl --connect te
        # bash expands the words of compgen: a name may not be a command.
        printf 'name = "%s"\n' '$(touch${IFS}ran)' >evil.toml
        complete_words lbctl -c evil.toml status --only ''
        echo "ran: $(find . -name ran)"
    "#;
    on_desk(&["bash", "--norc", "-eu", "-c", script])
        .ok()
        .says(&[
            "-F _lbctl lbctl\n",
            "lbctl sta: status\n",
            "lbctl up --rest: --restart\n",
            "lbctl up --restart n: now never\n",
            "lbctl man ren: render renew\n",
            "lbctl status --only : lb-1 lb-2\n",
            "lbctl status --only l: lb-1 lb-2\n",
            "lbctl -c other.toml status --only : alone\n",
            "lbctl -c other.toml renew --despite p: pg-1\n",
            "lbctl -c zone.toml status --only : zone-1\n",
            "lbctl -c zone.toml renew --despite : pg-base 10.0.0.21\n",
            "lbctl -c farm status --only : farm-1 farm-2\n",
            "lbctl -c broken.toml status --only : \n",
            "lbctl -c missing.toml status --only : \n",
            "lbctl -c o: other.toml\n",
            "lbctl -c more/: more/third.toml\n",
            "lbctl --connect qemu+: qemu+ssh://kvm1/system\n",
            "lbctl --connect te: test:///default\n",
            "lbctl -c evil.toml status --only : \n",
            "ran: \n",
        ]);
}

#[test]
fn fish_completes_commands_options_and_values_of_the_moment() {
    let script = r#"
        lbctl completions fish | source
        for words in "lbctl sta" "lbctl up --rest" "lbctl up --restart n" "lbctl status --only " "lbctl -c other.toml status --only " "lbctl -c zone.toml renew --despite pg" "lbctl -c farm status --only " "lbctl -c o"
            echo "$words:" (complete -C "$words" | string split -f 1 \t)
        end
        complete -C "lbctl sta"
    "#;
    on_desk(&["fish", "--no-config", "-c", script]).ok().says(&[
        "lbctl sta: status\n",
        "lbctl up --rest: --restart\n",
        "lbctl up --restart n: never now\n",
        "lbctl status --only : lb-1 lb-2\n",
        "lbctl -c other.toml status --only : alone\n",
        "lbctl -c zone.toml renew --despite pg: pg-base\n",
        "lbctl -c farm status --only : farm-1 farm-2\n",
        "lbctl -c o: other.toml\n",
        "status\tShow the domain",
    ]);
}

/// In a terminal of zsh's own, where its completion runs; as a file of fpath, as the packages have
/// it, and sourced.
#[test]
fn zsh_completes_commands_options_and_values_of_the_moment() {
    let script = r#"
        zmodload zsh/zpty
        mkdir site
        lbctl completions zsh >site/_lbctl
        zsh -n site/_lbctl
        for loaded in 'fpath=($PWD/site $fpath); autoload -Uz compinit; compinit -u -D' \
            'autoload -Uz compinit; compinit -u -D; source site/_lbctl'; do
            zpty shell zsh -f -i
            zpty -w shell "PS1=; unsetopt beep zle_bracketed_paste; LISTMAX=1000; $loaded; print re''ady"
            zpty -r -m shell said '*ready*' || exit 1
            for words in 'lbctl sta' 'lbctl up --restart ne' 'lbctl status --only lb-' 'lbctl -c other.toml status --only a' 'lbctl -c zone.toml renew --despite p' 'lbctl -c farm status --only f' 'lbctl -c o' 'lbctl man stat'; do
                zpty -w -n shell "$words"$'\t'
                sleep 0.3
                # What stands on the line then, as an argument of print: in the place of running it.
                zpty -w -n shell $'\x01print -r -- "<" \x05 ">"\n'
                zpty -r -m shell said '*[<] lbctl*[>]*' || exit 1
                print -r -- "$words: ${${said##*[<] }%% [>]*}"
            done
            zpty -d shell
        done
    "#;
    let ran = on_desk(&["zsh", "-f", "-e", "-c", script]).ok();
    for said in [
        "lbctl sta: lbctl status",
        "lbctl up --restart ne: lbctl up --restart never",
        "lbctl status --only lb-: lbctl status --only lb-",
        "lbctl -c other.toml status --only a: lbctl -c other.toml status --only alone",
        "lbctl -c zone.toml renew --despite p: lbctl -c zone.toml renew --despite pg-base",
        "lbctl -c farm status --only f: lbctl -c farm status --only farm-",
        "lbctl -c o: lbctl -c other.toml",
        "lbctl man stat: lbctl man status",
    ] {
        assert_eq!(ran.stdout.matches(said).count(), 2, "{said}: {ran}");
    }
}
