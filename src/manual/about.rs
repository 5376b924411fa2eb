//! What the pages say beyond the command line's own definition. A command that has no entry here
//! still has its page.

use crate::exit::Exit;

/// What a command reads, each with what the one before it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reads {
    Nothing,
    Config,
    Host,
}

pub(super) type Exits = &'static [(Exit, &'static str)];
type Pairs = &'static [(&'static str, &'static str)];

pub(super) struct CommandAbout {
    pub command: &'static str,
    /// Paragraphs.
    pub more: &'static [&'static str],
    pub exits: Exits,
    pub reads: Reads,
    /// Beside those of what it reads.
    pub files: Pairs,
    /// A line as it is typed, and what it does.
    pub examples: Pairs,
    /// Commands whose pages are related.
    pub near: &'static [&'static str],
}

impl CommandAbout {
    pub fn find(command: &str) -> &'static Self {
        let found = COMMANDS.iter().find(|about| about.command == command);
        found.unwrap_or(&OTHER)
    }
}

const DONE: (Exit, &str) = (Exit::Done, "Done, or nothing to do.");
const FAILED: (Exit, &str) = (
    Exit::Failed,
    "Failed. Standard error says what was being done, to what, and what libvirt or the system said.",
);
const USAGE: (Exit, &str) = (
    Exit::Usage,
    "The command line or the configuration is wrong. Nothing was changed.",
);
const REFUSED: (Exit, &str) = (
    Exit::Refused,
    "Refused: it needs consent, or would change what lbctl did not make. Nothing was changed.",
);
const INTERRUPTED: (Exit, &str) = (
    Exit::Interrupted,
    "Stopped by Ctrl-C. Run the same command again: it continues from there.",
);
const TERMINATED: (Exit, &str) = (
    Exit::Terminated,
    "Stopped by SIGTERM. Run the same command again: it continues from \
                                                     there.",
);

pub(super) const ALL_EXITS: Exits = &[
    DONE,
    (Exit::Failed, "Failed. `lbctl status`: not ready."),
    USAGE,
    (
        Exit::Pending,
        "There is something to do (`plan --exit-code`, `renew --check`).",
    ),
    REFUSED,
    (Exit::NotReady, "Done, but not ready within `up --wait`."),
    INTERRUPTED,
    TERMINATED,
];

pub(super) const ENVIRONMENT: &[(&str, Reads, &str)] = &[
    (
        "LBCTL_CONFIG",
        Reads::Config,
        "Configuration file, where `--config` is not given.",
    ),
    (
        "LIBVIRT_DEFAULT_URI",
        Reads::Host,
        "libvirt connection, where neither `--connect` nor `libvirt.uri` of the configuration is given.",
    ),
    (
        "NO_COLOR",
        Reads::Nothing,
        "Set and not empty: no colour, unless `--color always`.",
    ),
];

pub(super) const CONFIG_FILES: Pairs = &[(
    "lbctl.toml",
    "The configuration, in the current directory, unless `--config` or LBCTL_CONFIG names another. See lbctl.toml(5).",
)];

const RENEWAL_FILES: Pairs = &[
    (
        "/etc/lbctl/*.toml",
        "Configurations of the load balancers whose certificates lbctl-renew.service renews, one after the other.",
    ),
    (
        "/usr/lib/systemd/system/lbctl-renew.timer",
        "Runs that service once a day. It is not enabled at installation: `systemctl enable --now lbctl-renew.timer`.",
    ),
];

pub(super) const MAIN_FILES: Pairs = &[
    RENEWAL_FILES[0],
    RENEWAL_FILES[1],
    (
        "/usr/share/doc/lbctl/examples/config.example.toml",
        "Every key of the configuration, explained; `lbctl init` prints the same.",
    ),
];

pub(super) const MAIN: &[&str] = &[
    "lbctl reads one TOML file and creates from it a virtual machine on a libvirt host: a load balancer, HAProxy, in \
     front of a PostgreSQL cluster that Patroni runs. Connections on port 5432 reach the primary, wherever it is. The \
     health checks are requests to Patroni's REST API with a client certificate that lbctl issues and renews.",
    "Each command can be run again at any time. `up` compares what is desired with what is observed and applies the \
     difference: a change that is possible in the running guest is made at once, and no session is cut; one that needs \
     a restart of the guest is done with consent only; one that needs another disk is refused. `plan` shows the \
     difference, with the class of each change.",
    "lbctl keeps no state of its own beside libvirt's. The domain's metadata contains lbctl's ownership record, and \
     lbctl refuses to change a domain without one. If a command was killed, run it again: it continues from there.",
    "Data is written to standard output, everything else to standard error.",
];

pub(super) const MAIN_EXAMPLES: Pairs = &[
    (
        "lbctl init > lbctl.toml",
        "Start with a file that explains every key:",
    ),
    (
        "lbctl check --host",
        "Check whether it would work on this host, and change nothing:",
    ),
    (
        "lbctl up --wait",
        "Create the load balancer and return when it is ready:",
    ),
    (
        "lbctl --connect qemu+ssh://kvm1/system -c lb-2.toml status",
        "Show the status of another load balancer, on another host:",
    ),
];

pub(super) const MAIN_SEE: &[(&str, &str)] = &[
    ("lbctl.toml", "5"),
    ("virsh", "1"),
    ("haproxy", "1"),
    ("systemd.timer", "5"),
];

const OTHER: CommandAbout = CommandAbout {
    command: "",
    more: &[],
    exits: &[DONE, FAILED, USAGE],
    reads: Reads::Nothing,
    files: &[],
    examples: &[],
    near: &[],
};

pub(super) const COMMANDS: &[CommandAbout] = &[
    CommandAbout {
        command: "init",
        more: &[
            "The example explains every key. Lines without a # in front are what a working file needs; a # right before a \
             key is an optional setting, shown with its default.",
        ],
        examples: &[("lbctl init > lbctl.toml", "Start a configuration:")],
        near: &["check"],
        ..OTHER
    },
    CommandAbout {
        command: "check",
        more: &[
            "All problems of the configuration come in one report, each with file, line, what is wrong and what to do. \
             The files and environment variables that it names are read too: keys must belong to their certificates, \
             and the CA's certificate must be one of a CA and valid for longer than the client certificate.",
            "With `--host` lbctl also checks everything on the libvirt host that could make a first `up` fail, and \
             lists each result. It says what cannot be checked from here. Nothing is changed.",
        ],
        exits: &[DONE, FAILED, USAGE, REFUSED],
        reads: Reads::Host,
        examples: &[
            ("lbctl check", "Validate lbctl.toml of this directory:"),
            (
                "lbctl -c lb-2.toml check --host",
                "Check the libvirt host, too:",
            ),
        ],
        near: &["plan", "init"],
        ..OTHER
    },
    CommandAbout {
        command: "render",
        more: &[
            "Writes user-data, meta-data, network-config, haproxy.cfg, domain.xml and seed.iso. libvirt is not used, \
             so domain.xml refers to volumes and networks by their names.",
            "Passwords and keys are masked, also in seed.iso, which then cannot start a load balancer. \
             `--show-secrets` writes the real ones; only the owner can read the files.",
        ],
        reads: Reads::Config,
        examples: &[
            ("lbctl render | less", "Read it:"),
            (
                "lbctl render --show-secrets --out seed-files",
                "Write the seed with its secrets into a directory:",
            ),
        ],
        near: &["plan", "check"],
        ..OTHER
    },
    CommandAbout {
        command: "plan",
        more: &[
            "Shows each difference between the configuration and the present state, and its class: `live`, now and \
             without cutting a session; `restart`, with a restart of the guest; `replace`, with another disk, which \
             `up` refuses. With `-v` changed files are shown line by line. Secrets are named and never shown.",
        ],
        exits: &[
            DONE,
            FAILED,
            USAGE,
            (
                Exit::Pending,
                "There is something to do, and `--exit-code` was given.",
            ),
            REFUSED,
        ],
        reads: Reads::Host,
        examples: &[
            ("lbctl -v plan", "Show what would be done, line by line:"),
            (
                "lbctl plan --exit-code || echo something to do",
                "Use it in a script:",
            ),
        ],
        near: &["up", "status"],
        ..OTHER
    },
    CommandAbout {
        command: "up",
        more: &[
            "Clones the disk, issues the client certificate, builds the seed, reserves the address, defines the domain \
             and starts it, and leaves out what is done already. Run again, it does nothing; after a change of the \
             configuration it applies what differs.",
            "A change inside a running guest is made through its guest agent. It is checked there first, and undone if \
             the load balancer does not work with it. A change that succeeded is in the seed, too, for the next boot.",
            "A change that needs a restart of the guest is done as `--restart` says. One that needs another disk is refused.",
        ],
        exits: &[
            DONE,
            FAILED,
            USAGE,
            REFUSED,
            (
                Exit::NotReady,
                "Done, but not ready within `--wait`. The last state is reported.",
            ),
            INTERRUPTED,
            TERMINATED,
        ],
        reads: Reads::Host,
        examples: &[
            (
                "lbctl up --wait",
                "Create the load balancer, and return when it is ready:",
            ),
            (
                "lbctl up --wait=15m --restart now",
                "Apply a changed configuration from a script, with a restart of the guest if one is needed:",
            ),
            (
                "lbctl up --restart later",
                "Leave such changes to the next start of the guest:",
            ),
        ],
        near: &["plan", "status", "down", "renew"],
        ..OTHER
    },
    CommandAbout {
        command: "down",
        more: &[
            "The guest is asked to stop, and its power is cut if it has not stopped within `--stop-timeout`. Then \
             domain, seed and DHCP reservation are removed. The disk is kept, and the next `up` uses it again, unless \
             `--delete-volume` is given. A volume that lbctl did not make is never deleted.",
            "On a terminal it asks first; elsewhere it refuses without `--yes`.",
        ],
        exits: &[DONE, FAILED, USAGE, REFUSED, INTERRUPTED, TERMINATED],
        reads: Reads::Host,
        examples: &[
            ("lbctl down", "Remove the load balancer, keep its disk:"),
            (
                "lbctl down --yes --delete-volume",
                "Remove everything, without a question:",
            ),
        ],
        near: &["up", "status"],
        ..OTHER
    },
    CommandAbout {
        command: "status",
        more: &[
            "Shows the domain, its addresses, the client certificate and whether it is due, cloud-init's verdict, HAProxy's \
             view of each node, and how the load balancer differs from its configuration. The first line says whether it is \
             ready, and if not, why.",
        ],
        exits: &[
            (Exit::Done, "The load balancer is ready."),
            (
                Exit::Failed,
                "It is not ready, or its state could not be read.",
            ),
            USAGE,
        ],
        reads: Reads::Host,
        examples: &[
            ("lbctl status", "Show it once:"),
            (
                "lbctl status --watch",
                "Show it again and again, until Ctrl-C:",
            ),
            (
                "lbctl --json status | jq .certificate.days_left",
                "Watch the certificate from a monitoring script:",
            ),
        ],
        near: &["plan", "up", "renew"],
        ..OTHER
    },
    CommandAbout {
        command: "renew",
        more: &[
            "Issues a new client certificate when the one in use has fewer hours left than \
             `certificate_early_renewal_period`, or when the CA or the key algorithm has changed. Every node is asked \
             from inside the guest whether it accepts the new one, before HAProxy uses it. No session is cut. Other \
             changes of the configuration are not applied.",
        ],
        exits: &[
            DONE,
            FAILED,
            USAGE,
            (
                Exit::Pending,
                "The certificate is due, and `--check` was given.",
            ),
            REFUSED,
            INTERRUPTED,
            TERMINATED,
        ],
        reads: Reads::Host,
        files: RENEWAL_FILES,
        examples: &[
            ("lbctl renew --check", "Check whether it is due:"),
            (
                "lbctl -c /etc/lbctl/lb-1.toml renew",
                "Renew it, as the timer does:",
            ),
        ],
        near: &["status", "up"],
    },
    CommandAbout {
        command: "schema",
        more: &[
            "With the configuration's schema an editor that knows JSON Schema completes keys, explains them, and marks \
             what is wrong while it is typed. The other schema is for programs that read what `--json` prints: \
             `schema` in a document is the version of its format.",
        ],
        examples: &[
            (
                "lbctl schema config > lbctl.schema.json",
                "Write the schema beside a configuration, for the editor:",
            ),
            (
                "lbctl schema output | jq .title",
                "Show the schema of the documents:",
            ),
        ],
        near: &["init", "check"],
        ..OTHER
    },
    CommandAbout {
        command: "completions",
        more: &["The Debian package installs these scripts where the shells find them."],
        examples: &[
            (
                "lbctl completions bash > ~/.local/share/bash-completion/completions/lbctl",
                "For bash:",
            ),
            (
                "lbctl completions fish > ~/.config/fish/completions/lbctl.fish",
                "For fish:",
            ),
            (
                "lbctl completions zsh > /usr/local/share/zsh/site-functions/_lbctl",
                "For zsh:",
            ),
        ],
        near: &["man"],
        ..OTHER
    },
    CommandAbout {
        command: "man",
        more: &[
            "Where SOURCE_DATE_EPOCH is set, as builders of packages do, the pages carry its date; otherwise none.",
        ],
        examples: &[
            ("lbctl man up | man -l -", "Read a page:"),
            (
                "lbctl man --out /usr/local/share/man/man1",
                "Install every page of this version:",
            ),
        ],
        near: &["completions"],
        ..OTHER
    },
];
