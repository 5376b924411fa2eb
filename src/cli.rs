//! The command line: what can be typed, and not what is done then.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
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
                          something to do (plan --exit-code, renew); 4 refused: needs consent, or would change what lbctl did \
                          not make; 5 done, but not ready within --wait; 130 stopped by Ctrl-C.";

/// The configuration where none is named.
pub const DEFAULT_CONFIG: &str = "lbctl.toml";

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub struct Global {
    /// Configuration; `-` is standard input, a folder all of its *.toml
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "LBCTL_CONFIG",
        default_value = DEFAULT_CONFIG
    )]
    pub config: PathBuf,
    /// libvirt connection [default: libvirt.uri of the configuration, `LIBVIRT_DEFAULT_URI`,
    /// `qemu:///system`]
    // An empty one, as of a variable that is not set, must not mean another host.
    #[arg(long, global = true, value_name = "URI", value_parser = NonEmptyStringValueParser::new())]
    pub connect: Option<String>,
    /// Of several VMs ([[vms]], or of a folder) only this one; may be repeated
    #[arg(long, global = true, value_name = "NAME")]
    pub only: Vec<String>,
    /// Print one JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print one JSON object a line for each event while lbctl works, and the document of --json
    /// as the last line
    #[arg(long, global = true)]
    pub events: bool,
    /// More output; twice: every call to libvirt
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Only errors, warnings and questions on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
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

impl Global {
    /// For the document of a command line that could not be read.
    pub fn for_json() -> Self {
        Self {
            config: PathBuf::new(),
            connect: None,
            only: Vec::new(),
            json: true,
            events: false,
            verbose: 0,
            quiet: false,
            yes: false,
            color: ColorChoice::Never,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a configuration to begin with: what a load balancer needs
    Init(InitArgs),
    /// Validate the configuration; with -v say where each key has its value from
    Check {
        /// Also check on the libvirt host what would make a first `up` fail; change nothing
        #[arg(long)]
        host: bool,
    },
    /// Write everything that the VM is made from, without libvirt
    Render {
        /// Write the files into this directory, mode 0600, seed.iso among them, in the place of
        /// those of an earlier render alone; otherwise list them on standard output
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
        /// Plan with an existing disk that lbctl did not make, as `up --reuse-disk` does
        #[arg(long)]
        reuse_disk: bool,
        /// Plan with a new disk in the place of the one that is there, as `up --replace-disk` does
        #[arg(long)]
        replace_disk: bool,
        /// Plan with an existing domain that lbctl did not make, as `lbctl adopt` does
        #[arg(long, conflicts_with = "out")]
        adopt: bool,
        /// With --adopt: as `lbctl adopt --force`
        #[arg(long, requires = "adopt")]
        force: bool,
        /// Also write the plan into this file, mode 0600, for `lbctl up FILE`
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Create or update the load balancer
    Up(UpArgs),
    /// Take over a VM that something else made, with its uuid, addresses and disk
    ///
    /// The configuration must be the domain's own: `lbctl import` writes it. Everything that
    /// stands against it is said at once, and nothing is changed then. Where the guest agent
    /// answers, a running load balancer is handed over without a restart. The disk is never
    /// lbctl's to delete. A run that was stopped is continued by the same command.
    Adopt(AdoptArgs),
    /// Remove the load balancer: stop the guest, remove domain, seed and DHCP reservation
    Down {
        /// Also delete the disk that lbctl cloned
        #[arg(long)]
        delete_volume: bool,
        /// How long the guest may take to stop, before its power is cut
        #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
        stop_timeout: Duration,
        /// Go on though no other VM takes the address of `virtual_ip`
        #[arg(long)]
        alone: bool,
    },
    /// Stop the guest and start it again, from what is saved; every session through it is cut
    ///
    /// What waits for a restart comes with it (`lbctl status`, line `pending`). Nothing else is
    /// changed. There is no `stop`: `virsh shutdown NAME` stops it, `lbctl up` starts it.
    Restart(RestartArgs),
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
        /// Write it as metrics for Prometheus into this file, and print nothing
        ///
        /// For the folder that the node exporter reads (its textfile collector); the name must end
        /// in `.prom`. The file is replaced as a whole, with mode 0644, and has no secret in it.
        /// Exit code 0: it is written, whether the load balancer is ready or not. 1: libvirt did
        /// not answer, which the file says too, or the file could not be written.
        #[arg(long, value_name = "FILE", conflicts_with = "watch", value_parser = prom_file)]
        textfile: Option<PathBuf>,
    },
    /// List the VMs that lbctl made on the host, and those that configurations describe
    ///
    /// Each with its state and its configuration, or that it has none. Guests are not asked. Exit
    /// code 2: a configuration is wrong; 1: a host was not reached.
    List(ListArgs),
    /// Use the serial console of the guest on this terminal; Ctrl-] leaves it
    ///
    /// It needs neither ssh nor a network. What the guest writes reaches the terminal as it is.
    Console(ConsoleArgs),
    /// Print what HAProxy wrote into the guest's journal
    Logs(LogsArgs),
    /// Renew the client certificate if it is due, in the running guest and in the seed, without
    /// cutting a session
    Renew {
        /// Only check whether it is due: exit with 3 if it is
        #[arg(long, conflicts_with = "force")]
        check: bool,
        /// Renew it even if it is not due
        #[arg(long)]
        force: bool,
        /// Take this certificate, signed from the request of `lbctl csr`, with those of its
        /// issuers
        #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "force"])]
        certificate: Option<PathBuf>,
        /// Exchange it even if this node, given by its address or name, would not accept it
        #[arg(long, value_name = "NODE", conflicts_with = "check")]
        despite: Vec<String>,
    },
    /// Give the address that the VM shares with others to one of them, and wait until its sessions
    /// have ended
    ///
    /// They have `virtual_ip.drain` for that; those that are left then are cut, and their number is
    /// said. Exit code 4: no other VM is ready for it, or has taken it, and nothing was changed.
    Handover,
    /// Make a configuration from a VM that is there: one of the Terraform module's, or any other
    ///
    /// Reads the VM's definition, disk, address and seed on the host, a Terraform state, or both,
    /// and changes nothing. Where both know a value and differ, the host's is taken. What is not
    /// known stands in the configuration as a TODO. Exit code 2: the configuration is not whole
    /// yet.
    Import(ImportArgs),
    /// Print a request for a client certificate that somebody else is to sign
    ///
    /// The private key is made here and kept beside the configuration, in NAME.client.key, mode
    /// 0600. It never leaves this machine but for the seed and the guest. The request holds
    /// nothing secret.
    Csr,
    /// Print a JSON Schema: of the configuration, or of what --json or --events prints
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
            Self::Init(_) => "init",
            Self::Check { .. } => "check",
            Self::Render { .. } => "render",
            Self::Plan { .. } => "plan",
            Self::Up(_) => "up",
            Self::Adopt(_) => "adopt",
            Self::Down { .. } => "down",
            Self::Restart(_) => "restart",
            Self::Status { .. } => "status",
            Self::Console(_) => "console",
            Self::List(_) => "list",
            Self::Logs(_) => "logs",
            Self::Renew { .. } => "renew",
            Self::Handover => "handover",
            Self::Import(_) => "import",
            Self::Csr => "csr",
            Self::Schema { .. } => "schema",
            Self::Completions { .. } => "completions",
            Self::Man { .. } => "man",
        }
    }
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Every key, with its meaning
    #[arg(long, conflicts_with = "from_host")]
    pub full: bool,
    /// With the pools, networks and images of the libvirt host, an address that is free, and the
    /// ssh keys of this user
    ///
    /// Nothing on the host is changed. On a terminal lbctl asks for what it does not find and
    /// offers what it does; with --yes, and elsewhere, it asks nothing, and what is not known is
    /// `FILL IN`.
    #[arg(long)]
    pub from_host: bool,
    /// Patroni's nodes: their addresses, with commas between; or one DNS name of all of them
    ///
    /// An address may be a host name, and may have a name for the node before it:
    /// `pg1=192.0.2.11`.
    #[arg(
        long,
        value_name = "ADDRESS",
        value_delimiter = ',',
        conflicts_with = "full"
    )]
    pub nodes: Vec<String>,
    /// How Patroni's REST API is asked: by plain HTTP, as Patroni comes; by TLS; by TLS with a
    /// client certificate [default: mutual]
    #[arg(long, value_name = "MODE", conflicts_with = "full")]
    pub patroni_tls: Option<PatroniMode>,
    /// Write this file, mode 0600, which must not exist yet; otherwise print it
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// The words of `haproxy.patroni_tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PatroniMode {
    Off,
    Server,
    Mutual,
}

#[derive(Debug, Clone, Args)]
pub struct RestartArgs {
    /// Wait until psql through the load balancer works again [default: 10m]
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "10m", value_parser = duration)]
    pub wait: Option<Duration>,
    /// How long the guest may take to stop, before its power is cut
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub stop_timeout: Duration,
    /// Restart it though no other VM takes the address of `virtual_ip`
    ///
    /// Without this option that is refused, exit 4, and nothing is changed.
    #[arg(long)]
    pub alone: bool,
}

#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// Take the console over from another program that has it open
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Configurations, or folders of them [default: that of --config where it exists, and
    /// /etc/lbctl]
    #[arg(value_name = "FILE|DIR")]
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Whose lines
    #[arg(value_enum, default_value = "haproxy")]
    pub of: LogsOf,
    /// Print new lines as they come, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines, at most 1000
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "50", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub lines: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogsOf {
    /// HAProxy's, and systemd's about it
    Haproxy,
    /// Of lbctl's own units in the guest
    Lbctl,
    /// The whole journal, cloud-init's lines too
    All,
}

#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// A plan of `lbctl plan --out`: do that plan or nothing
    ///
    /// lbctl plans again, and refuses, exit 4, if that would do anything else. The file holds no
    /// secret, and nothing is carried out from it.
    #[arg(value_name = "FILE")]
    pub plan: Option<PathBuf>,
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
    /// Take over a volume of the disk's name that exists and that lbctl did not make
    ///
    /// It is used unchanged, with its data, and lbctl never deletes it. Without this option such a
    /// volume is refused, exit 4.
    #[arg(long)]
    pub reuse_disk: bool,
    /// Make the disk anew where the configuration wants another one; what is on it is lost
    ///
    /// For another base volume, base image or format, and for a smaller size. The guest is stopped
    /// for it: after another VM has taken the address of `virtual_ip`, where there is one; else
    /// every session is cut, which needs consent. Without this option such a change is refused,
    /// exit 4.
    #[arg(long)]
    pub replace_disk: bool,
    /// Restart the guest though no other VM takes the address of `virtual_ip`
    ///
    /// Every session through the VM is cut then, so a restart needs consent. Without this option
    /// it is refused where no other VM takes the address, exit 4.
    #[arg(long)]
    pub alone: bool,
}

#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// Wait until psql through the load balancer works, as `up --wait` does [default: 10m]
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "10m", value_parser = duration)]
    pub wait: Option<Duration>,
    /// What to do about changes that need a restart of the guest
    #[arg(long, value_enum, value_name = "WHEN", default_value = "ask")]
    pub restart: RestartPolicy,
    /// How long the guest may take to stop for a restart, before its power is cut
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub stop_timeout: Duration,
    /// Keep the definition of before in this file, mode 0600 [default: NAME.before-lbctl.xml]
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// A Terraform state, or `-` for standard input: refuse if it still has the VM, which the next
    /// `terraform apply` would destroy
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Take it over although another tool has notes in it, or with devices that lbctl never makes
    #[arg(long)]
    pub force: bool,
}

impl AdoptArgs {
    /// What the rest of it is.
    #[must_use]
    pub fn to_up(&self) -> UpArgs {
        UpArgs {
            alone: false,
            plan: None,
            wait: self.wait,
            restart: self.restart,
            stop_timeout: self.stop_timeout,
            // The disk is the domain's own.
            reuse_disk: false,
            replace_disk: false,
        }
    }
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The VM's name on the libvirt host
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,
    /// A Terraform state: the file, what `terraform show -json` prints, or `-` for standard input
    ///
    /// `terraform state pull | lbctl import --state -` reads one of any backend. It alone knows
    /// the CA's private key, and needs no libvirt.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Which VM of the state: the address of its module or of its domain
    #[arg(long, value_name = "ADDRESS", requires = "state")]
    pub address: Option<String>,
    /// Write lbctl.toml and the files that it refers to into this directory, secrets with mode
    /// 0600; nothing is overwritten. Otherwise lbctl.toml alone is printed
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// The configuration, for editors: the line `#:schema lbctl.schema.json` at its top
    Config,
    /// The documents that --json prints, for programs
    Output,
    /// The lines that --events prints before the document, for programs
    Events,
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

/// The node exporter reads no other names.
fn prom_file(text: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(text);
    if file.extension().is_some_and(|end| end == "prom") {
        Ok(file)
    } else {
        Err("the node exporter reads files whose name ends in .prom alone".to_owned())
    }
}

/// `90`, `90s`, `10m`, `1h`, `1d`, and sums of them: `1m30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write 90s, 1h30m or 1d".to_owned();
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
            'd' => 86_400,
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
            ("1d", 86_400),
            ("1d12h", 129_600),
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
