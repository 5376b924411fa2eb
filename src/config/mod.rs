//! From TOML text to a checked [`Config`]: all problems in one report. The only place that reads
//! files and the environment on behalf of the configuration. Nothing here knows libvirt.
//!
//! The way: `toml` parses (with spans) → `extends` puts the files of a chain together → `env` puts
//! in what variables hold → `schema` holds the tree against `keys` → the readers (`vm`, `network`,
//! `haproxy`, `ports`, `services`) take and check the values by the same `keys` → `report` shows
//! what is wrong. A reader that finds a value wrong notes it in `diagnostics` and goes on; only at
//! the end is it decided whether there is a [`Config`].

mod addresses;
mod checks;
mod clients;
mod cloud_config;
mod diagnostics;
mod env;
mod extends;
mod folder;
mod forms;
mod glance;
mod guest;
mod haproxy;
mod inputs;
mod json_schema;
mod key;
pub mod keys;
mod listeners;
mod model;
mod network;
mod nic;
mod nodes;
mod origins;
mod pace;
mod patroni;
mod patroni_client;
mod ports;
mod reader;
mod report;
mod schema;
mod services;
mod ssh;
mod syntax;
mod types;
mod units;
mod virtual_ip;
mod vm;
mod vms;
mod words;

use std::cell::RefCell;
use std::path::Path;

use time::OffsetDateTime;

pub use cloud_config::ADDED_LISTS;
pub use folder::configurations;
pub use glance::glance;
pub use inputs::*;
pub use json_schema::json_schema;
pub use keys::{DEFAULT_URI, Effect, KEYS, Key, Kind, Need};
pub use model::*;
pub use nic::*;
pub use origins::{Giver, KeyOrigin};
pub use patroni_client::{pair_file, request_key_file};
pub use report::{Problem, ProblemId, Report, render_warnings};
pub use types::*;

/// What `lbctl init` writes where only the operator knows the value: no value is that.
pub const FILL_IN: &str = "FILL IN";

use diagnostics::{Diagnostics, Read, Spanned};
use extends::Sources;
use reader::{Reader, Section};
use report::{Draft, add_each_once};
use vms::{KnownClaims, Unique};

/// Longest configuration that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// A configuration that may be used, and what its author should know all the same.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The VM; of several the first.
    pub config: Config,
    /// The VMs behind the first, in the order of the file. `None`: it has no `[[vms]]`, and is no
    /// folder.
    pub others: Option<Vec<Config>>,
    pub warnings: Vec<Problem>,
    /// Of each VM, in the same order, where its keys have their values from; empty where nobody
    /// asked.
    pub origins: Vec<Vec<KeyOrigin>>,
    /// Of each VM, in the same order, what no VM of another file may have.
    claims: Vec<KnownClaims>,
}

impl Loaded {
    /// Those of several files as those of one; `None` without any.
    fn together(files: Vec<Self>) -> Option<Self> {
        let mut files = files.into_iter();
        let mut all = files.next()?;
        let mut others = all.others.take().unwrap_or_default();
        for mut file in files {
            others.push(file.config);
            others.extend(file.others.into_iter().flatten());
            add_each_once(&mut all.warnings, file.warnings);
            all.origins.append(&mut file.origins);
            all.claims.append(&mut file.claims);
        }
        all.others = Some(others);
        Some(all)
    }
}

/// How closely a configuration is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrutiny {
    /// Held against the lives of certificates. `None` for commands that issue nothing: a load
    /// balancer whose CA has expired must still be shown and removed.
    pub now: Option<OffsetDateTime>,
    /// Whether the CA's private key is read, only to say what is wrong with it.
    pub examine_ca_key: bool,
    /// Whether it is told where each key has its value from.
    pub origins: bool,
    pub needs: Needs,
}

/// Which of the files and variables that a configuration refers to must be there: no command stops
/// for the lack of one that it does not use. What is there is checked all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    All,
    /// Those of `[haproxy.patroni_client]`.
    Certificate,
    None,
}

impl Needs {
    /// `key`: as it is declared.
    fn include(self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Certificate => key.starts_with("haproxy.patroni_client."),
            Self::None => false,
        }
    }
}

impl From<OffsetDateTime> for Scrutiny {
    fn from(now: OffsetDateTime) -> Self {
        Some(now).into()
    }
}

impl From<Option<OffsetDateTime>> for Scrutiny {
    fn from(now: Option<OffsetDateTime>) -> Self {
        Self {
            now,
            examine_ca_key: true,
            origins: false,
            needs: Needs::All,
        }
    }
}

/// Reads and checks a file, or all of a folder; `-` is standard input. References in a file start
/// at its folder, and those of standard input at the working directory.
pub fn load(path: &Path, scrutiny: impl Into<Scrutiny>) -> Result<Loaded, Report> {
    let scrutiny = scrutiny.into();
    if path.is_dir() {
        folder::load(path, scrutiny)
    } else {
        load_file(path, scrutiny)
    }
}

fn load_file(path: &Path, scrutiny: Scrutiny) -> Result<Loaded, Report> {
    let (text, base) = (
        syntax::read(path, MAX_FILE)?,
        path.parent().unwrap_or(Path::new("")),
    );
    let inputs = SystemInputs {
        base: base.to_owned(),
    };
    let is_open = !syntax::is_stdin(path) && inputs::is_open_to_all(path);
    parse_file(&text, &syntax::shown(path), &inputs, scrutiny, is_open)
}

/// Checks a configuration that is already read. `file_name` is only for messages.
pub fn parse(
    text: &str,
    file_name: &str,
    inputs: &dyn Inputs,
    scrutiny: impl Into<Scrutiny>,
) -> Result<Loaded, Report> {
    parse_file(text, file_name, inputs, scrutiny, false)
}

/// `is_open`: every user of this machine may read the file.
fn parse_file(
    text: &str,
    file_name: &str,
    inputs: &dyn Inputs,
    scrutiny: impl Into<Scrutiny>,
    is_open: bool,
) -> Result<Loaded, Report> {
    let sources = Sources::read(text, file_name, inputs, is_open)?;
    let mut root = sources.tree()?;
    let Scrutiny {
        now,
        examine_ca_key,
        origins,
        needs,
    } = scrutiny.into();
    let whole = Diagnostics::default();
    let variables = env::read(&root, inputs, &whole);
    env::put(&mut root, &variables);
    let hidden = schema::check(&root, &whole);
    // Said already, with the reason.
    let said = |draft: &Draft| {
        let span = draft.span.as_ref();
        draft.id == ProblemId::WrongType && span.is_some_and(|s| variables.failed.contains(s))
    };
    whole.problems.borrow_mut().retain(|draft| !said(draft));
    let views = vms::views(&root, &whole);
    let mut configs = Vec::new();
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let mut claims = Vec::new();
    let mut inline_secret = None;
    for view in &views {
        let own = view.own.as_ref();
        let reader = Reader {
            inputs,
            diagnostics: Diagnostics::default(),
            now,
            examine: examine_ca_key,
            needs,
            unread: RefCell::default(),
            sources: &sources,
            inline_secret: RefCell::default(),
            vm: own,
            claims: RefCell::default(),
        };
        if let Some(own) = own {
            schema::check_vm(&view.table, own, &reader.diagnostics);
        }
        configs.push(config(&Section::root(&reader, &view.table)));
        problems.push((reader.diagnostics.problems.take(), own));
        warnings.push((reader.diagnostics.warnings.take(), own));
        claims.push(reader.claims.take());
        inline_secret = inline_secret.or(reader.inline_secret.take());
    }
    vms::ensure_distinct(&claims, &whole);
    let configs: Read<Vec<Config>> = configs.into_iter().collect();
    let mut configs = configs.unwrap_or_default();
    virtual_ip::introduce(&mut configs, &claims, &whole);
    let open_file = |secret: &Spanned<()>| {
        let file = sources.file_at(secret.span.start)?;
        file.is_open.then_some(file.name.as_str())
    };
    if let Some(secret) = &inline_secret
        && let Some(file_name) = open_file(secret)
    {
        whole.warn(
            secret,
            "is written in this file, which every user of this machine can read",
            &format!("chmod 600 {file_name}; or {{ file = \"path\" }}, with that file's mode 600"),
        );
    }

    let source = sources.shown(hidden);
    let mut of_all: Vec<Draft> = whole.problems.take();
    of_all.extend(vms::together(problems));
    let problems = source.problems(of_all);
    let is_list = views.iter().any(|view| view.own.is_some());
    let mut configs = configs.into_iter();
    match configs.next() {
        Some(config) if problems.is_empty() => {
            let mut drafts = vms::together(warnings);
            drafts.extend(whole.warnings.take());
            Ok(Loaded {
                config,
                others: is_list.then(|| configs.collect()),
                warnings: source.problems(drafts),
                origins: if origins {
                    let views = views.iter();
                    views.map(|view| origins::of(view, &sources)).collect()
                } else {
                    Vec::new()
                },
                claims: claims.iter().map(|vm| vm.known(&source)).collect(),
            })
        }
        None if problems.is_empty() => Err(Report::whole_file(
            ProblemId::Unexplained,
            file_name,
            "the configuration is refused, but lbctl cannot say why",
            "this is a defect of lbctl: please report it with the file, its secrets taken out",
        )),
        _ => Err(Report {
            file: file_name.to_owned(),
            problems,
        }),
    }
}

/// Reads every section before any gives up, so that all problems are found.
fn config(root: &Section<'_>) -> Read<Config> {
    let name = vm::name(root);
    if let Ok(name) = &name {
        root.reader.claim(Unique::Name, &name.value, name);
    }
    let seed_volume = vm::seed_volume(root, &name);
    let disk = vm::disk(root, seed_volume.as_ref().ok());
    let vcpus = vm::vcpus(root);
    let memory = vm::memory(root);
    let admin = vm::admin(root);
    let interfaces = network::interfaces(root, &name);
    let install_dependencies = root.boolean("install_dependencies");
    let node_exporter = services::node_exporter(root);
    let machine = haproxy::Machine {
        memory: memory.ok(),
        interfaces: interfaces.as_deref().ok(),
        node_exporter: node_exporter != Ok(false),
    };
    let haproxy = haproxy::haproxy(root, &machine);
    let chrony = services::chrony(root);
    let fluentd = services::fluentd(root);
    let runtime = haproxy.as_ref().ok().map(|haproxy| haproxy.runtime);
    let container_registry = services::container_registry(root, runtime);
    let libvirt = services::libvirt(root);
    let first_boot = guest::first_boot(root, admin.as_ref().ok().map(|a| a.user.as_str()));
    if let Ok(guest) = &first_boot {
        let install = install_dependencies.as_ref().ok();
        let interfaces = interfaces.as_deref().ok();
        guest::ways_out(
            root.diagnostics(),
            install,
            interfaces,
            guest,
            haproxy.as_ref().ok(),
        );
    }
    let others = virtual_ip::Others {
        interfaces: interfaces.as_deref().ok(),
        haproxy: haproxy.as_ref().ok(),
    };
    let virtual_ip = virtual_ip::virtual_ip(root, &others);
    Ok(Config {
        file: root.reader.sources.first().to_owned(),
        unread: root.reader.unread.take(),
        name: name?.value,
        vcpus: vcpus?,
        memory: memory?,
        disk: disk?,
        interfaces: interfaces?,
        seed_volume: seed_volume?,
        admin: admin?,
        haproxy: haproxy?,
        virtual_ip: virtual_ip?,
        chrony: chrony?,
        fluentd: fluentd?,
        node_exporter: node_exporter?,
        container_registry: container_registry?,
        install_dependencies: install_dependencies?.value,
        first_boot: first_boot?,
        libvirt: libvirt?,
    })
}
