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

/// Of what changes a VM and may wait until it is ready.
const MAKES_READY: Exits = &[
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
];

pub(super) const ALL_EXITS: Exits = &[
    DONE,
    (Exit::Failed, "Failed. `lbctl status`: not ready."),
    USAGE,
    (
        Exit::Pending,
        "There is something to do (`plan --exit-code`, `renew --check`; `renew` of a certificate that somebody else issues).",
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
    (
        "/usr/lib/systemd/system/lbctl-renew@.timer",
        "The same for one load balancer, of /etc/lbctl/NAME.toml: `systemctl enable --now lbctl-renew@NAME.timer`. When it \
         fails, lbctl-renew-failed@.service runs.",
    ),
];

const METRICS_FILES: Pairs = &[(
    "/usr/lib/systemd/system/lbctl-metrics@.timer",
    "Writes the status of the load balancer of /etc/lbctl/NAME.toml as metrics every five minutes, into \
     /var/lib/prometheus/node-exporter: `systemctl enable --now lbctl-metrics@NAME.timer`.",
)];

pub(super) const MAIN_FILES: Pairs = &[
    RENEWAL_FILES[0],
    RENEWAL_FILES[1],
    (
        "/usr/share/doc/lbctl/examples/config.example.toml",
        "Every key of the configuration, explained; `lbctl init --full` prints the same.",
    ),
    (
        "/usr/share/doc/lbctl/examples/pair.toml",
        "One load balancer of two VMs on two hosts.",
    ),
    (
        "/usr/share/doc/lbctl/examples/Makefile, lbctl.cron, gitlab-ci.yml, ansible.yml, check_lbctl",
        "lbctl from make, cron, a CI job, Ansible, and a monitor of the Nagios kind.",
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
    "A configuration may have several VMs, on several hosts ([[vms]] in lbctl.toml(5)). Every command is then for all of \
     them, or with `--only NAME` for one, and the exit code is that of the worst. `up` works on one VM after the other: it \
     restarts one only while another is ready, waits until it is ready again, and stops at the first that does not \
     come up. `renew` stops at the first refusal. A host that is not reached keeps nothing from being done elsewhere.",
    "`--config` may name a folder: every command is then for the VMs of all `*.toml` in it, but for a file without a VM \
     that another one extends. All files must be valid before anything is touched. VMs of one file, and those that \
     share an address, are one load balancer, and another one's being ready counts for nothing. `down` wants the names \
     (`--only`); what is for one VM at a time (`console`, `logs`, `csr`, `plan --out`) wants one.",
    "Data is written to standard output, everything else to standard error.",
];

pub(super) const MAIN_EXAMPLES: Pairs = &[
    (
        "lbctl init --from-host -o lbctl.toml",
        "Start with a file that has what a load balancer needs:",
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
            "What only you know is `FILL IN`; `lbctl check` shows each place. With `--from-host` lbctl reads what the \
             libvirt host has and changes nothing there; on a terminal it asks for the rest.",
            "With `--full` every key is explained. Lines without a # in front are what a working file needs; a # right \
             before a key is an optional setting, shown with its default.",
        ],
        exits: &[
            DONE,
            FAILED,
            USAGE,
            (Exit::Refused, "The file of `--out` exists already."),
        ],
        examples: &[
            (
                "lbctl init --from-host -o lbctl.toml",
                "Start a configuration on this host:",
            ),
            ("lbctl init --full", "Print every key with its meaning:"),
        ],
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
            "With `-v` it says where each key has its value from: a line of the configuration, of one that it extends, of \
             what all VMs share or of the VM itself ([[vms]]), or lbctl's default. Values are not shown.",
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
            "Writes user-data, vendor-data (lbctl's programs and units in the guest), meta-data, network-config, haproxy.cfg, \
             domain.xml and seed.iso. libvirt is not used, so domain.xml refers to volumes and networks by their names.",
            "Passwords and keys are masked, also in seed.iso, which then cannot start a load balancer. \
             `--show-secrets` writes the real ones; only the owner can read the files.",
            "With `--out` files of an earlier render are replaced: a folder with a seed.iso of lbctl's is one. Other \
             files of these names are not, and then nothing is written (exit 4).",
        ],
        exits: &[
            DONE,
            FAILED,
            USAGE,
            (
                Exit::Refused,
                "A file is there that lbctl did not render. Nothing was written.",
            ),
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
             without cutting a session; `handover`, with a restart of the guest after another VM has taken the address \
             that they share; `restart`, with a restart of the guest; `replace`, with another disk, which \
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
            "A change that needs a restart of the guest is done as `--restart` says. One that needs another disk is refused, unless \
             `--replace-disk` is given: then the disk is made anew, and what is on it is lost.",
            "A VM that shares an address (`[virtual_ip]`) gives it to another one before it is restarted, and waits for its \
             sessions, for `virtual_ip.drain` at most; what is left is cut. Where another one is ready that needs no \
             consent. Where none takes it, nothing is changed, exit code 4, unless `--alone` is given.",
            "What lbctl did not make it takes over only when told: a disk with `--reuse-disk`. Such a disk, and a DHCP entry \
             that was there already, are named in the plan and never removed. What was added to the domain by `virsh \
             edit` stays.",
        ],
        exits: MAKES_READY,
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
             domain, seed and DHCP reservation are removed. The disk is kept, and `up --reuse-disk` uses it again, unless \
             `--delete-volume` is given. A volume that lbctl did not make is never deleted.",
            "On a terminal it asks first; elsewhere it refuses without `--yes`.",
            "A VM that shares an address (`[virtual_ip]`) gives it to another one first, unless all that share it go. \
             Where none takes it, nothing is changed, exit code 4; with `--alone` it is removed all the same.",
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
        command: "restart",
        more: &[
            "The guest is asked to stop, and its power is cut if it has not stopped within `--stop-timeout`; then it starts in a \
             new QEMU process, from the saved definition and with its present seed. A reboot within the guest and `virsh \
             reboot` keep the process, and so neither bring a new definition nor mend a lost link.",
            "A VM that shares an address (`[virtual_ip]`) gives it to another one first, and waits for its sessions, for \
             `virtual_ip.drain` at most; what is left is cut. Where none takes it, nothing is changed, exit code 4; with \
             `--alone` it is restarted all the same.",
            "On a terminal it asks first; elsewhere it refuses without `--yes`.",
        ],
        exits: &[
            DONE,
            FAILED,
            USAGE,
            REFUSED,
            (
                Exit::NotReady,
                "Restarted, but not ready within `--wait`. The last state is reported.",
            ),
            INTERRUPTED,
            TERMINATED,
        ],
        reads: Reads::Host,
        examples: &[
            (
                "lbctl up --restart later && lbctl restart --wait",
                "Write a change that needs a restart, and choose the time of the restart:",
            ),
            ("lbctl restart --yes --wait", "From a script:"),
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
            (
                "lbctl status --textfile /var/lib/prometheus/node-exporter/lbctl.prom",
                "Give it to Prometheus's node exporter:",
            ),
        ],
        files: METRICS_FILES,
        near: &["plan", "up", "renew"],
    },
    CommandAbout {
        command: "console",
        more: &[
            "Every key goes to the guest, Ctrl-C too; Ctrl-] leaves, and the terminal is as it was. The user to log in as is \
             `ssh_admin_user`, the password is `admin_user_password`. The guest goes on by itself, and so does a session that is \
             not logged out.",
            "What the guest writes is not cleaned, as a program on it may draw on the whole terminal. Use `lbctl logs` where the \
             guest is not trusted.",
            "One program at a time has the console. With `--force` lbctl takes it from another one, whose session ends.",
        ],
        exits: &[
            (Exit::Done, "Left by Ctrl-], or the guest has stopped."),
            (
                Exit::Failed,
                "The domain does not run, or the console ended while it runs.",
            ),
            (
                Exit::Usage,
                "The command line or the configuration is wrong, or there is no terminal.",
            ),
            (
                Exit::Refused,
                "Another program has the console open, or lbctl did not make the domain.",
            ),
        ],
        reads: Reads::Host,
        examples: &[(
            "lbctl --only postgres-lb-2 console",
            "On one of several VMs:",
        )],
        near: &["logs", "status"],
        ..OTHER
    },
    CommandAbout {
        command: "list",
        more: &[
            "A VM that lbctl made carries its record, so it is found without a configuration, too. Those that no \
             configuration describes, configurations without a VM, domains of the same name that lbctl did not make, and seeds \
             that were left behind are named below the list.",
            "Asked are the hosts of the configurations, or the one of `--connect` alone. What HAProxy does is not asked: that is \
             lbctl-status(1).",
        ],
        exits: &[
            DONE,
            (
                Exit::Failed,
                "A host was not reached, or a folder not read. What is known is listed.",
            ),
            (
                Exit::Usage,
                "The command line or a configuration is wrong. What is known is listed.",
            ),
        ],
        reads: Reads::Host,
        files: &[RENEWAL_FILES[0]],
        examples: &[
            (
                "lbctl list",
                "Every load balancer of this host and of /etc/lbctl:",
            ),
            (
                "lbctl --connect qemu+ssh://root@kvm2/system list configs/",
                "Of another host, with the configurations in a folder:",
            ),
            (
                "lbctl list --json | jq '.vms[] | select(.relation == \"orphaned\").name'",
                "Those without a configuration:",
            ),
        ],
        near: &["status"],
    },
    CommandAbout {
        command: "logs",
        more: &[
            "The lines come through the guest's agent, so neither ssh nor a network is needed. They are the guest's own words: they \
             are cleaned of what would control a terminal, and prove nothing about a guest that is not trusted.",
        ],
        exits: &[DONE, FAILED, USAGE, REFUSED],
        reads: Reads::Host,
        examples: &[
            ("lbctl logs -n 200", "The last lines of HAProxy:"),
            ("lbctl logs -f", "And those that come, until Ctrl-C:"),
            ("lbctl logs all | grep cloud-init", "What cloud-init said:"),
        ],
        near: &["status"],
        ..OTHER
    },
    CommandAbout {
        command: "renew",
        more: &[
            "Issues a new client certificate when the one in use has fewer hours left than \
             `certificate_early_renewal_period`, or when the CA or the key algorithm has changed. Every node is asked \
             from inside the guest whether it accepts the new one, before HAProxy uses it. No session is cut. Other \
             changes of the configuration are not applied.",
            "A certificate that somebody else issues (`certificate` and `key` of the configuration) is taken over when \
             its files hold another one than the guest has. Where it is signed elsewhere, `--certificate FILE` takes the \
             signed one, with those of its issuers in any order, and keeps it with its key in NAME.client.pem beside the \
             configuration, mode 0600. If such a certificate is about to end, lbctl says so and ends with 3.",
            "A node that accepts the old certificate and refuses the new one stops the renewal. `--despite NODE` passes \
             over that one node, which is lost for the load balancer until it accepts the certificate; others still \
             have their say.",
        ],
        exits: &[
            DONE,
            FAILED,
            USAGE,
            (
                Exit::Pending,
                "The certificate is due, and `--check` was given, or somebody else must issue the next one.",
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
            (
                "lbctl renew --certificate lb-1.crt",
                "Take a certificate that was signed elsewhere:",
            ),
        ],
        near: &["status", "up", "csr"],
    },
    CommandAbout {
        command: "adopt",
        more: &[
            "For moving to lbctl: the domain gets lbctl's ownership record and seed, and keeps its uuid, MAC addresses, \
             addresses, disk and devices. The configuration must be its own; `lbctl import` writes it. From then on it is \
             a load balancer like any other, for `up`, `renew`, `status` and `down`.",
            "Everything that stands against it is listed at once, and nothing is changed then: a managed save, snapshots, \
             block jobs, no saved definition, another manager's metadata, another root disk or other network interfaces \
             than the configuration's, a disk or MAC address of another domain. `--force` is for the notes of tools such as \
             kcli, and for disks, devices and firmware that lbctl never makes; all of that stays as it is.",
            "Where the guest agent answers, the guest takes lbctl's files while it runs: HAProxy of lbctl's starts, is \
             seen to have a primary, and the one of before ends with its last session. If that fails the one of before \
             serves on. Without an agent the guest is restarted once, as `--restart` says.",
            "lbctl asks once, unless `--yes` is given. Before the first change the definition of before is written to \
             the file of `--save`. The disk, the old seed and the DHCP entry stay somebody else's: `lbctl down` deletes \
             none of them.",
        ],
        exits: MAKES_READY,
        reads: Reads::Host,
        files: &[(
            "NAME.before-lbctl.xml",
            "The definition of before, mode 0600, unless `--save` names another file. `virsh define` brings it back.",
        )],
        examples: &[
            (
                "lbctl plan --adopt",
                "See what it would do, or what stands against it:",
            ),
            (
                "lbctl adopt --state terraform.tfstate",
                "Take the VM over, unless Terraform still knows it:",
            ),
            (
                "lbctl adopt --yes --restart later",
                "Take it over without a question, for its next start:",
            ),
        ],
        near: &["import", "up", "plan"],
    },
    CommandAbout {
        command: "handover",
        more: &[
            "The guest steps back and waits until another VM has the address. Sessions that are there go on in this VM \
             until they end, for `virtual_ip.drain` at most, and are cut then; new ones go to the other VM. Where no other \
             VM is ready, or none takes the address, nothing is changed. Ctrl-C ends the waiting, and the other VM keeps \
             the address.",
            "It is right on a VM that does not have the address, too: the command then says who has it. Of several VMs \
             of one file it is the one that has the address, unless `--only` names another. The address does not come \
             back by itself.",
        ],
        exits: &[DONE, FAILED, USAGE, REFUSED],
        reads: Reads::Host,
        examples: &[("lbctl handover", "Before the VM's host is restarted:")],
        near: &["status", "up"],
        ..OTHER
    },
    CommandAbout {
        command: "import",
        more: &[
            "For moving to lbctl: the VM may be a load balancer of the Terraform module kvm-postgres-load-balancer, of \
             which every key is filled in, or any other, of which the hardware and the network are. The configuration of \
             `--config` is not read.",
            "With `--domain` the host is asked: the definition, the root disk and its base volume, the DHCP host entry or \
             the lease, and the cloud-init image in the CD-ROM drive. With `--state` a Terraform state of version 4 or \
             what `terraform show -json` prints is read, also from standard input; OpenTofu's is the same, where it is \
             not encrypted. Only a state has the private key of the CA. Where both say something else, the host's value \
             is taken, and the other one is a comment.",
            "With `--out` lbctl.toml and the files that it refers to are written into that directory: ca.key, \
             admin-password, registry-password and fluentd-shared-key with mode 0600, ca.crt, admin.pub and \
             fluentd-ca.crt with mode 0644. A file that is there already is never overwritten. Without `--out` \
             lbctl.toml is printed, and no secret is.",
            "In the end the configuration is checked, and what is missing is listed. With `--state` the commands are \
             printed by which the VM leaves Terraform's state, and what must leave the .tf files: otherwise the next \
             apply destroys the VM, or takes its disk back.",
        ],
        exits: &[
            DONE,
            FAILED,
            (
                Exit::Usage,
                "The command line or the state is wrong, or the configuration is not whole yet: what is missing is listed.",
            ),
            (
                Exit::Refused,
                "A file that was to be written is there already. Nothing was written.",
            ),
        ],
        reads: Reads::Nothing,
        files: &[],
        examples: &[
            (
                "lbctl import --domain postgres-lb-1 --out lb-1",
                "From the host alone; the CA's key is missing then:",
            ),
            (
                "lbctl import --domain postgres-lb-1 --state terraform.tfstate --out lb-1",
                "From the host and the state:",
            ),
            (
                "lbctl import --state terraform.tfstate --address 'module.lbs[\"a\"]'",
                "One of several of a state, printed, where there is no libvirt:",
            ),
        ],
        near: &["check", "up", "init"],
    },
    CommandAbout {
        command: "csr",
        more: &[
            "For a configuration with neither `ca_key` nor `certificate` in [haproxy.patroni_client]: the CA's key is \
             kept where lbctl does not run, and whoever has it signs a request.",
            "The private key is made on this machine and kept in NAME.client.key beside the configuration, mode 0600, \
             readable by the user who runs lbctl alone. From there it goes, with the signed certificate, into the seed \
             and the guest, as a key that lbctl makes for itself does, and nowhere else. Run again before the \
             certificate has come, lbctl prints a request for the same key. The request on standard output holds \
             nothing secret.",
            "On the CA's machine the request is signed for client authentication, by OpenSSL for instance: openssl x509 \
             -req -in lb-1.csr -CA ca.crt -CAkey ca.key -days 90 -extfile client.ext -out lb-1.crt, where client.ext has \
             the line extendedKeyUsage=clientAuth.",
        ],
        exits: &[DONE, FAILED, USAGE],
        reads: Reads::Config,
        files: &[
            (
                "NAME.client.key",
                "Beside the configuration: the private key of an open request, mode 0600.",
            ),
            (
                "NAME.client.pem",
                "Beside the configuration: key and certificate that `lbctl renew --certificate` took, mode 0600.",
            ),
        ],
        examples: &[
            ("lbctl csr > lb-1.csr", "Write the request into a file:"),
            (
                "lbctl renew --certificate lb-1.crt",
                "Take the signed certificate:",
            ),
        ],
        near: &["renew", "up"],
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
