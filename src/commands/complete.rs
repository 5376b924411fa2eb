//! Completions with the values of the moment: the scripts of `lbctl completions` ask lbctl for
//! those that only it knows, by the variable `LBCTL_COMPLETE`. Files are read for it, the
//! configuration for the names in it; libvirt is never asked, and nothing is reported.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::builder::PossibleValuesParser;
use clap_complete::Shell;

use crate::cli::{Cli, DEFAULT_CONFIG};
use crate::config::{self, DEFAULT_URI, MAX_INPUT};
use crate::manual;

/// Names what is asked for.
const VARIABLE: &str = "LBCTL_COMPLETE";
/// Where the package's timers look for configurations.
const CONFIGURATIONS: &str = "/etc/lbctl";

/// Options with values that only lbctl knows.
struct Live {
    /// As it is typed, without the dashes.
    option: &'static str,
    values: fn() -> Vec<String>,
    /// Whether files are values, too.
    files: bool,
}

const LIVE: &[Live] = &[
    Live {
        option: "config",
        values: configurations,
        files: true,
    },
    Live {
        option: "connect",
        values: uris,
        files: false,
    },
    Live {
        option: "only",
        values: vms,
        files: false,
    },
    Live {
        option: "despite",
        values: nodes,
        files: false,
    },
];

impl Live {
    fn of(option: &str) -> Option<&'static Self> {
        LIVE.iter().find(|live| live.option == option)
    }
}

/// What a completion script asks for, a value a line. `None`: nothing asks. The words of the line
/// that is being typed are lbctl's own arguments, behind `--`.
#[must_use]
pub fn values() -> Option<String> {
    let asked = std::env::var(VARIABLE).ok()?;
    let values = Live::of(&asked).map(|live| (live.values)());
    let lines = values.unwrap_or_default().into_iter();
    // bash's `compgen -W` expands its words: a name with a command in it would be run when somebody
    // presses Tab. What would be two values, or drive the terminal, is none either.
    let plain = lines.filter(|value| value.chars().all(is_plain));
    Some(plain.map(|value| value + "\n").collect())
}

/// No shell does anything with it.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "-_.:/@+%,=".contains(c)
}

/// The script of a shell: clap's, in which the options of [`LIVE`] ask lbctl.
pub(super) fn script(shell: Shell) -> String {
    // The names of pages are those of commands, which the definition of the command line cannot
    // name while it is made.
    let topics = PossibleValuesParser::new(manual::topics());
    let mut command = Cli::command().mut_subcommand("man", |man| {
        man.mut_arg("command", |page| page.value_parser(topics))
    });
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "lbctl", &mut script);
    let script = String::from_utf8_lossy(&script);
    match shell {
        Shell::Bash => in_bash(&script),
        Shell::Zsh => in_zsh(&script),
        Shell::Fish => in_fish(&script),
        _ => script.into_owned(),
    }
}

const BASH: &str = r#"_lbctl_values() {
    LBCTL_COMPLETE=$1 lbctl -- "${COMP_WORDS[@]}" 2>/dev/null
}

"#;

fn in_bash(script: &str) -> String {
    let mut text = BASH.to_owned();
    let mut option: Option<&Live> = None;
    for line in script.lines() {
        let label = line.trim().strip_suffix(')').unwrap_or_default();
        let asked = "COMPREPLY=($(compgen -f \"${cur}\"))";
        match option.filter(|_| line.trim() == asked) {
            Some(Live { option, files, .. }) => {
                let indent = line.len() - line.trim_start().len();
                let values = format!("$(compgen -W \"$(_lbctl_values {option})\" -- \"${{cur}}\")");
                let files = if *files {
                    "$(compgen -f \"${cur}\") "
                } else {
                    ""
                };
                text.push_str(&" ".repeat(indent));
                let _ = write!(text, "COMPREPLY=({files}{values})");
            }
            None => text.push_str(line),
        }
        option = match label {
            "-c" => Live::of("config"),
            other => other.strip_prefix("--").and_then(Live::of),
        };
        text.push('\n');
    }
    text
}

/// A subcommand sees its own words alone, and `-c` may stand before it: so the line itself is read.
const ZSH: &str = r#"
_lbctl_values() {
    local -a values
    values=(${(f)"$(LBCTL_COMPLETE=$1 lbctl -- ${(Q)${(z)LBUFFER}} 2>/dev/null)"})
    compadd -a values
}
"#;

fn in_zsh(script: &str) -> String {
    let mut text = String::new();
    for line in script.lines() {
        let live = LIVE.iter().find(|live| {
            let long = format!("--{}=[", live.option);
            line.contains(&long) || (live.option == "config" && line.starts_with("'-c+["))
        });
        let head = line
            .strip_suffix("_files' \\")
            .or_else(|| line.strip_suffix("_default' \\"));
        match head.zip(live) {
            Some((head, live)) => {
                let files = if live.files { "; _files" } else { "" };
                let _ = write!(text, "{head}{{_lbctl_values {}{files}}}' \\", live.option);
            }
            None => text.push_str(line),
        }
        text.push('\n');
        if line == "autoload -U is-at-least" {
            text.push_str(ZSH);
        }
    }
    text
}

const FISH: &str = r"function __lbctl_values
    LBCTL_COMPLETE=$argv[1] command lbctl -- (commandline -opc) 2>/dev/null
end

";

fn in_fish(script: &str) -> String {
    let mut text = FISH.to_owned();
    for line in script.lines() {
        text.push_str(line);
        let live = |live: &&Live| line.contains(&format!(" -l {} ", live.option));
        if let Some(Live { option, files, .. }) = LIVE.iter().find(live) {
            let files = if *files { "" } else { " -f" };
            let _ = write!(text, "{files} -a '(__lbctl_values {option})'");
        }
        text.push('\n');
    }
    text
}

/// Those for the timers, and their folder; others are files, which the shell finds.
fn configurations() -> Vec<String> {
    let folder = Path::new(CONFIGURATIONS);
    let files = config::configurations(folder).unwrap_or_default();
    let folder = (!files.is_empty()).then(|| folder.to_owned());
    let all = folder.into_iter().chain(files);
    all.filter_map(|path| path.to_str().map(str::to_owned))
        .collect()
}

fn uris() -> Vec<String> {
    let mut uris = vec![DEFAULT_URI.to_owned(), "qemu:///session".to_owned()];
    uris.extend(std::env::var("LIBVIRT_DEFAULT_URI"));
    let config = std::env::home_dir().map(|home| home.join(".ssh/config"));
    let text = config
        .and_then(|path| short_file(&path))
        .unwrap_or_default();
    uris.extend(ssh_hosts(&text).map(|host| format!("qemu+ssh://{host}/system")));
    uris
}

/// Those with a name of their own; patterns are none.
fn ssh_hosts(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter_map(|line| {
        let (key, hosts) = line.trim().split_once([' ', '\t', '='])?;
        key.eq_ignore_ascii_case("host").then_some(hosts)
    });
    lines
        .flat_map(str::split_whitespace)
        .filter(|host| !host.contains(['*', '?', '!', '"', '=']))
}

fn vms() -> Vec<String> {
    config::glance(&configuration()).vms
}

/// By name and by address, as `--despite` takes them.
fn nodes() -> Vec<String> {
    config::glance(&configuration()).nodes
}

/// The configuration of the command line that is being typed.
fn configuration() -> PathBuf {
    let typed = std::env::args_os().skip_while(|word| word != "--").skip(1);
    config_of(typed)
        .or_else(|| std::env::var_os("LBCTL_CONFIG").map(PathBuf::from))
        .unwrap_or_else(|| DEFAULT_CONFIG.into())
}

/// What `-c` or `--config` says in it.
fn config_of(mut words: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut found = None;
    while let Some(word) = words.next() {
        let word = word.to_string_lossy();
        if word == "-c" || word == "--config" {
            found = words.next().or(found);
        } else if let Some(path) = word
            .strip_prefix("--config=")
            .or_else(|| word.strip_prefix("-c").filter(|_| !word.starts_with("--")))
        {
            found = Some(path.trim_start_matches('=').into());
        }
    }
    found.map(PathBuf::from)
}

/// A regular file of a size that people write.
fn short_file(path: &Path) -> Option<String> {
    let facts = fs::metadata(path).ok()?;
    let is_short = facts.is_file() && facts.len() <= MAX_INPUT;
    is_short.then(|| fs::read_to_string(path).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_the_one_that_is_being_typed() {
        let of = |words: &str| config_of(words.split(' ').map(OsString::from));
        assert_eq!(of("lbctl -c a.toml status --only "), Some("a.toml".into()));
        assert_eq!(of("lbctl -ca.toml"), Some("a.toml".into()));
        assert_eq!(of("lbctl --config=a b --config c"), Some("c".into()));
        assert_eq!(of("lbctl status --only"), None);
        assert_eq!(of("lbctl -c"), None);
    }

    #[test]
    fn hosts_of_ssh_are_those_with_a_name() {
        let text = "# Host no\nHost kvm1 kvm-2 *.lab !kvm3\n  HostName 192.0.2.1\nhost\tkvm4\nHost=kvm5\nMatch host kvm6\n";
        let hosts: Vec<_> = ssh_hosts(text).collect();
        assert_eq!(hosts, ["kvm1", "kvm-2", "kvm4", "kvm5"]);
    }

    #[test]
    fn every_live_option_asks_in_each_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for Live { option, .. } in LIVE {
                assert!(
                    script.contains(&format!("_lbctl_values {option}")),
                    "{shell}: {option}"
                );
            }
        }
    }
}
