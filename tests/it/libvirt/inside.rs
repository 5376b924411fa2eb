//! lbctl within the test: its own observe, plan and apply on the sandbox's libvirt, so that the
//! host in between can be another one. And what is true of a VM whatever happened to the lbctl that
//! was changing it.

use std::fs;
use std::time::Duration;

use lbctl::testing::config::{self, Config};
use lbctl::testing::host::libvirt::LibvirtHost;
use lbctl::testing::host::{AgentChannel, Definition, HostReader, HostWriter};
use lbctl::testing::reconcile::apply::{ApplyError, Progress, apply};
use lbctl::testing::reconcile::desired::{Desired, Intent, Renewal, current_seed};
use lbctl::testing::reconcile::observe::{Ask, observe};
use lbctl::testing::reconcile::plan::{
    DownOptions, Plan, Restart, Step, plan_down, plan_renew, plan_up,
};
use lbctl::testing::seed::{SeedContent, iso, recognise};
use time::OffsetDateTime;

use super::sandbox::Sandbox;

/// The guests stay in their firmware and do not react to a power button.
const STOP: Duration = Duration::from_millis(100);
pub const NOW: Restart = Restart::Now { deadline: STOP };

/// What lbctl is called to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Up(Restart),
    Renew,
    Down,
}

/// One configuration, and the libvirt it is for.
pub struct Inside {
    pub config: Config,
    pub host: LibvirtHost,
}

impl Inside {
    pub fn new(vm: &Sandbox) -> Self {
        let path = vm.home.path().join("lbctl.toml");
        let loaded = config::load(&path, OffsetDateTime::now_utc());
        let config = loaded.expect("a valid configuration").config;
        let host = LibvirtHost::connect(&vm.fill("@uri")).unwrap();
        Self { config, host }
    }

    /// What the command would do, asked of this host.
    pub fn plan(&self, command: Command, host: &impl HostReader) -> Plan {
        let observed = observe(&self.config, host, Ask::Everything).unwrap();
        let now = OffsetDateTime::now_utc();
        let plan = match command {
            Command::Up(restart) => {
                let mut desired =
                    Desired::from_config(&self.config, &observed, now, Intent::Apply).unwrap();
                // Of a disk that is not the one that is wanted.
                desired.disk.replace = true;
                plan_up(&desired, &observed, restart)
            }
            Command::Renew => {
                let found = current_seed(&observed).expect("a seed");
                let renewal = Renewal::from_config(&self.config, found, now, true).unwrap();
                plan_renew(&renewal.expect("it is forced"), &observed)
            }
            Command::Down => {
                let options = DownOptions {
                    stop_deadline: STOP,
                    delete_volume: true,
                    alone: false,
                };
                plan_down(&self.config, &observed, options)
            }
        };
        plan.unwrap_or_else(|refusal| panic!("refused: {refusal:?}"))
    }

    /// Plans and applies.
    pub fn run(
        &self,
        command: Command,
        host: &(impl HostWriter + AgentChannel),
    ) -> Result<(), ApplyError> {
        apply(&self.plan(command, host).steps, host, &mut Quiet)
    }

    /// `up` ends well, and nothing is left to do.
    pub fn up(&self) {
        self.run(Command::Up(NOW), &self.host).unwrap();
        let left = self.plan(Command::Up(NOW), &self.host);
        assert!(left.is_empty(), "after `up` remains: {:?}", left.changes);
    }

    pub fn down(&self) {
        self.run(Command::Down, &self.host).unwrap();
    }
}

pub struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _: &Step) {}
    fn end(&mut self, _: &Step, _: Duration) {}
    fn note(&mut self, _: &str) {}
}

/// Whatever the drive of the domain holds, now and at its next start, is a whole seed. An upload
/// that was cut off leaves zeros, which no file of a seed has.
#[track_caller]
pub fn a_booting_guest_finds_a_whole_seed(vm: &Sandbox, host: &impl HostReader) {
    let Some(domain) = host.domain(&vm.name).unwrap() else {
        return;
    };
    let definitions = std::iter::once(&domain.config).chain(domain.live.as_ref());
    for drive in definitions.flat_map(Definition::cdroms) {
        let path = drive.source.as_ref().expect("a medium").to_string();
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("the drive's seed {path}: {e}"));
        let SeedContent::Ours(seed) = recognise(&bytes, &vm.name) else {
            panic!("{path} is not a seed of {}", vm.name);
        };
        assert!(seed.guest.is_some() && seed.client_pem.is_some(), "{path}");
        for file in &iso::read(&bytes).unwrap().files {
            let torn = file.data.is_empty() || file.data.contains(&0);
            assert!(!torn, "{} of {path} is torn", file.name);
        }
    }
}
