//! The command line: what can be typed, and not what is done then.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Put an HAProxy load balancer VM in front of a Patroni cluster, and keep it right
#[derive(Debug, Parser)]
#[command(name = "lbctl", version, max_term_width = 80, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "Exit codes: 0 done, or nothing to do; 1 failed; 2 usage or configuration wrong; 3 there is \
                          something to do (plan --exit-code); 4 refused: needs consent, or would change what lbctl did \
                          not make; 5 done, but not ready within --wait; 130 stopped by Ctrl-C.";

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Configuration file
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "LBCTL_CONFIG",
        default_value = "lbctl.toml"
    )]
    pub config: PathBuf,
    /// libvirt connection [default: libvirt.uri of the configuration, `LIBVIRT_DEFAULT_URI`,
    /// `qemu:///system`]
    #[arg(long, global = true, value_name = "URI")]
    pub connect: Option<String>,
    /// Print one JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// More output; twice: every call to libvirt
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Answer yes to every question
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Colour the output
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto"
    )]
    pub color: ColorChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print an example configuration with every key
    Init,
    /// Validate the configuration
    Check {
        /// Also check on the libvirt host what would make a first `up` fail; change nothing
        #[arg(long)]
        host: bool,
    },
    /// Write everything that the VM is made from, without libvirt
    Render {
        /// Write the files into this directory, mode 0600, seed.iso among them; otherwise list
        /// them on standard output
        #[arg(short, long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Show passwords, keys and shared keys instead of masking them
        #[arg(long)]
        show_secrets: bool,
    },
    /// Show what `up` would do, and change nothing
    Plan {
        /// Exit with 3 if there is something to do
        #[arg(long)]
        exit_code: bool,
    },
    /// Create or update the load balancer
    Up(UpArgs),
    /// Remove the load balancer: stop the guest, remove domain, seed and DHCP reservation
    Down {
        /// Also delete the disk that lbctl cloned
        #[arg(long)]
        delete_volume: bool,
        /// How long the guest may take to stop, before its power is cut
        #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
        stop_timeout: Duration,
    },
    /// Show the domain, the certificate, and HAProxy's view of each node
    ///
    /// Exit code 0: the load balancer is ready. 1: it is not, and the first line says why.
    Status {
        /// Show it again and again, until Ctrl-C [default: 2s]
        ///
        /// On a terminal the screen is updated in place. Elsewhere each update is a block of
        /// lines, or with --json one line of JSON. The exit code is that of the last
        /// update.
        #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = duration)]
        watch: Option<Duration>,
    },
    /// Renew the client certificate if it is due, in the running guest and in the seed, without
    /// cutting a session
    Renew {
        /// Only check whether it is due: exit with 3 if it is
        #[arg(long, conflicts_with = "force")]
        check: bool,
        /// Renew it even if it is not due
        #[arg(long)]
        force: bool,
    },
    /// Print a JSON Schema: of the configuration, or of what --json prints
    Schema {
        /// What it describes
        #[arg(value_enum)]
        what: SchemaOf,
    },
    /// Print the completion script of a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print a page of the manual, or write all of them
    Man {
        /// Of this command, or `lbctl.toml`; otherwise that of lbctl
        #[arg(conflicts_with = "out")]
        command: Option<String>,
        /// Write every page into this directory, mode 0644
        #[arg(short, long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

impl Command {
    /// As it is typed.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Check { .. } => "check",
            Self::Render { .. } => "render",
            Self::Plan { .. } => "plan",
            Self::Up(_) => "up",
            Self::Down { .. } => "down",
            Self::Status { .. } => "status",
            Self::Renew { .. } => "renew",
            Self::Schema { .. } => "schema",
            Self::Completions { .. } => "completions",
            Self::Man { .. } => "man",
        }
    }
}

#[derive(Debug, Args)]
pub struct UpArgs {
    /// Wait until psql through the load balancer works [default: 10m]
    ///
    /// Ends at once when it works, and when cloud-init failed or the guest stopped. Ctrl-C ends
    /// the waiting only.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "10m", value_parser = duration)]
    pub wait: Option<Duration>,
    /// What to do about changes that need a restart of the guest
    #[arg(long, value_enum, value_name = "WHEN", default_value = "ask")]
    pub restart: RestartPolicy,
    /// How long the guest may take to stop for a restart, before its power is cut
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub stop_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// The configuration, for editors: the line `#:schema lbctl.schema.json` at its top
    Config,
    /// The documents that --json prints, for programs
    Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RestartPolicy {
    /// Ask on a terminal; elsewhere refuse, exit 4
    Ask,
    /// Restart the guest
    Now,
    /// Write them for the next boot
    Later,
    /// Refuse, exit 4
    Never,
}

/// `90`, `90s`, `10m`, `1h`, and sums of them: `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write 90s, 10m or 1h30m".to_owned();
    let mut seconds = 0u64;
    let mut digits = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        seconds = count
            .checked_mul(unit)
            .and_then(|s| seconds.checked_add(s))
            .ok_or_else(wrong)?;
        digits.clear();
    }
    if !digits.is_empty() {
        seconds = digits
            .parse::<u64>()
            .ok()
            .and_then(|s| seconds.checked_add(s))
            .ok_or_else(wrong)?;
    }
    match seconds {
        0 => Err("give at least 1s".into()),
        1..=604_800 => Ok(Duration::from_secs(seconds)),
        _ => Err("give a week at most".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("10m", 600),
            ("1h30m", 5400),
            ("1m30", 90),
        ] {
            assert_eq!(duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in [
            "",
            "0",
            "m",
            "10x",
            "-1",
            "99999999999999999999h",
            "9999999h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
