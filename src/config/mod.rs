//! From TOML text to a checked [`Config`]: all problems in one report. The only place that reads
//! files and the environment on behalf of the configuration. Nothing here knows libvirt.
//!
//! The way: `toml` parses (with spans) → `schema` holds the tree against `keys` → the readers
//! (`vm`, `network`, `haproxy`, `ports`, `services`) take and check the values by the same `keys` →
//! `report` shows what is wrong. A reader that finds a value wrong notes it in `diagnostics` and
//! goes on; only at the end is it decided whether there is a [`Config`].

mod checks;
mod clients;
mod diagnostics;
mod haproxy;
mod inputs;
mod json_schema;
mod key;
pub mod keys;
mod model;
mod network;
mod nic;
mod ports;
mod reader;
mod report;
mod schema;
mod services;
mod ssh;
mod syntax;
mod types;
mod vm;
mod words;

use std::path::Path;

pub use inputs::*;
pub use json_schema::json_schema;
pub use keys::{DEFAULT_URI, Effect, KEYS, Key, Kind, Need};
pub use model::*;
pub use nic::*;
pub use report::{Problem, ProblemId, Report, render_warnings};
pub use types::*;

use diagnostics::{Diagnostics, Read};
use reader::{Reader, Section};
use report::SourceText;

/// Longest configuration that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// A configuration that may be used, and what its author should know all the same.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Problem>,
}

/// Reads and checks a file. References in it start at its folder.
pub fn load(path: &Path, now: impl Into<Option<time::OffsetDateTime>>) -> Result<Loaded, Report> {
    let (text, base) = (
        syntax::read(path, MAX_FILE)?,
        path.parent().unwrap_or(Path::new("")),
    );
    parse(
        &text,
        &path.display().to_string(),
        &SystemInputs {
            base: base.to_owned(),
        },
        now,
    )
}

/// Checks a configuration that is already read. `file_name` is only for messages; `now` is held
/// against the CA's life, `None` for commands that issue nothing: a load balancer whose CA has
/// expired must still be shown and removed.
pub fn parse(
    text: &str,
    file_name: &str,
    inputs: &dyn Inputs,
    now: impl Into<Option<time::OffsetDateTime>>,
) -> Result<Loaded, Report> {
    let tree = syntax::tree(text, file_name)?;
    let reader = Reader {
        inputs,
        diagnostics: Diagnostics::default(),
        now: now.into(),
    };
    let hidden = schema::check(tree.get_ref(), &reader.diagnostics);
    let config = config(&Section::root(&reader, tree.get_ref()));

    let source = SourceText {
        file: file_name,
        text,
        hidden,
    };
    let problems = source.problems(reader.diagnostics.problems.take());
    match config {
        Ok(config) if problems.is_empty() => Ok(Loaded {
            config,
            warnings: source.problems(reader.diagnostics.warnings.take()),
        }),
        Err(_) if problems.is_empty() => Err(Report::whole_file(
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
    Ok(Config {
        name: name?.value,
        vcpus: vcpus?,
        memory: memory?,
        disk: disk?,
        interfaces: interfaces?,
        seed_volume: seed_volume?,
        admin: admin?,
        haproxy: haproxy?,
        chrony: chrony?,
        fluentd: fluentd?,
        node_exporter: node_exporter?,
        container_registry: container_registry?,
        install_dependencies: install_dependencies?.value,
        libvirt: libvirt?,
    })
}
