//! What the pages say beyond the command line's own definition. A command that has no entry here still has its page.

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
    /// Commands whose pages are worth a look.
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
    "The command line or the configuration is wrong; nothing was touched.",
);
const REFUSED: (Exit, &str) = (
    Exit::Refused,
    "Refused: it needs consent, or is not lbctl's to touch. Nothing was touched.",
);
const INTERRUPTED: (Exit, &str) = (
    Exit::Interrupted,
    "Stopped by Ctrl-C. The same command goes on from there.",
);
const TERMINATED: (Exit, &str) = (Exit::Terminated, "Stopped by SIGTERM, likewise.");

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
        "Runs that service once a day. It comes switched off: `systemctl enable --now lbctl-renew.timer`.",
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
    "lbctl reads one TOML file and makes from it a virtual machine on a libvirt host: a load balancer, HAProxy, in front of \
     a PostgreSQL cluster that Patroni runs. Connections on port 5432 reach the primary, wherever it is. The health checks \
     are requests to Patroni's REST API with a client certificate that lbctl issues and renews.",
    "Each command can be run again at any time. `up` compares what is desired with what is observed and does the \
     difference: a change that the running guest can take reaches it at once, and no session is cut; one that needs a \
     restart of the guest is done with consent only; one that needs another disk is refused. `plan` shows the difference, \
     with the class of each change.",
    "There is no state beside libvirt's own. The domain's metadata holds lbctl's mark, and lbctl refuses to touch what does \
     not carry it. A command that was killed is run again and goes on from there.",
    "Data is written to standard output, everything else to standard error.",
];

pub(super) const MAIN_EXAMPLES: Pairs = &[
    (
        "lbctl init > lbctl.toml",
        "Begin with a file that explains every key:",
    ),
    (
        "lbctl check --host",
        "Ask whether this host would take it, changing nothing:",
    ),
    (
        "lbctl up --wait",
        "Make the load balancer and return when it is ready:",
    ),
    (
        "lbctl --connect qemu+ssh://kvm1/system -c lb-2.toml status",
        "Look at another load balancer, on another host:",
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
        examples: &[("lbctl init > lbctl.toml", "Begin a configuration:")],
        near: &["check"],
        ..OTHER
    },
    CommandAbout {
        command: "check",
        more: &[
            "All problems of the configuration come in one report, each with file, line, what is wrong and what to do. The \
             files and environment variables that it names are read too: keys must fit their certificates, and a CA must be \
             one and outlive the client certificate.",
            "With `--host` everything that a first `up` would trip over on the libvirt host is looked at and listed, each with \
             a verdict in words; what cannot be looked at from here is said too. Nothing is changed.",
        ],
        exits: &[DONE, FAILED, USAGE, REFUSED],
        reads: Reads::Host,
        examples: &[
            ("lbctl check", "Validate lbctl.toml of this directory:"),
            (
                "lbctl -c lb-2.toml check --host",
                "Ask the libvirt host, too:",
            ),
        ],
        near: &["plan", "init"],
        ..OTHER
    },
    CommandAbout {
        command: "render",
        more: &[
            "Writes user-data, meta-data, network-config, haproxy.cfg, domain.xml and seed.iso. libvirt is not asked, so \
             volumes and networks stand in domain.xml by their names.",
            "Passwords and keys are masked, in seed.iso too, which then starts no load balancer. `--show-secrets` writes the \
             real ones; the files can be read by their owner alone.",
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
            "Shows each difference between the configuration and what is there, and its class: `live`, now and without \
             cutting a session; `restart`, with a restart of the guest; `replace`, with another disk, which `up` refuses. \
             With `-v` changed files are shown line by line. Secrets are named and never shown.",
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
            "Clones the disk, issues the client certificate, builds the seed, reserves the address, defines the domain and \
             starts it, as far as that is not done. Run again it does nothing; after a change of the configuration it does \
             what differs.",
            "A change inside a running guest goes through its guest agent. It is checked there first, and put back if the \
             load balancer does not work with it. What went well stands in the seed too, for the next boot.",
            "A change that needs a restart of the guest is done as `--restart` says. One that needs another disk is refused.",
        ],
        exits: &[
            DONE,
            FAILED,
            USAGE,
            REFUSED,
            (
                Exit::NotReady,
                "Done, but not ready within `--wait`. What was seen last is told.",
            ),
            INTERRUPTED,
            TERMINATED,
        ],
        reads: Reads::Host,
        examples: &[
            (
                "lbctl up --wait",
                "Make the load balancer, and return when it is ready:",
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
            "The guest is asked to stop, and its power is cut if it has not within `--stop-timeout`. Then domain, seed and \
             DHCP reservation are removed. The disk stays, and the next `up` uses it again, unless `--delete-volume` is \
             given. A volume that lbctl did not make is never deleted.",
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
                "It is not ready, or it could not be looked at.",
            ),
            USAGE,
        ],
        reads: Reads::Host,
        examples: &[
            ("lbctl status", "Look once:"),
            ("lbctl status --watch", "Keep looking, until Ctrl-C:"),
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
             `certificate_early_renewal_period`, or when the CA or the key algorithm has changed. Every node is asked from \
             inside the guest whether it takes the new one before HAProxy gets it. No session is cut. Other changes of the \
             configuration are not applied.",
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
            ("lbctl renew --check", "Tell whether it is due:"),
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
            "With the configuration's schema an editor that knows JSON Schema completes keys, explains them, and marks what \
             is wrong while it is typed. Programs that read what `--json` prints can rely on the other: a document's \
             `schema` is the version of its form.",
        ],
        examples: &[
            (
                "lbctl schema config > lbctl.schema.json",
                "Write the schema beside a configuration, for the editor:",
            ),
            (
                "lbctl schema output | jq .title",
                "Look at that of the documents:",
            ),
        ],
        near: &["init", "check"],
        ..OTHER
    },
    CommandAbout {
        command: "completions",
        more: &["The Debian package has these scripts where the shells look for them."],
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
