//! What was observed, and what it says by itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{SEED_MODE, wanted_image};
use crate::config::{
    CloneVolume, DiskFormat, HostLink, MacAddr, NetworkRef, NicSource, Switch, VolumeRef,
};
use crate::guest::AgentAvailability;
use crate::host::{
    BridgeFacts, Claims, DeviceState, DiskJob, DomainFacts, Header, Lease, Listed, NetworkFacts,
    ObservedNicSource, StateReason, VolumeState,
};
use crate::image::{self, ImageError, ImageFacts};
use crate::seed::SeedContent;

/// The host, as far as one load balancer is concerned.
#[derive(Debug, Clone)]
pub struct Observed {
    pub architecture: String,
    pub memory_kib: u64,
    /// What the configured machine type is here; asked only where the domain does not have the
    /// very same name.
    pub machine: ObservedMachine,
    /// Why libvirt would not accept the domain; asked only where something of it is new.
    pub rejected: Option<String>,
    /// The names that the host has of what it was asked for in vain.
    pub listed: BTreeMap<Listed, Vec<String>>,
    /// `None`: not asked, because the answer would change nothing.
    pub offers_kvm: Option<bool>,
    pub domain: Option<DomainFacts>,
    /// Of the domain, by their names. Asked only for its removal.
    pub checkpoints: Vec<String>,
    /// What the host's other domains claim. Asked only where something is about to be claimed;
    /// empty otherwise.
    pub claims: Vec<Claims>,
    pub networks: BTreeMap<NetworkRef, ObservedNetwork>,
    /// The network devices that are named.
    pub devices: BTreeMap<String, DeviceState>,
    /// Asked only where something is about to be claimed.
    pub bridges: BTreeMap<String, BridgeFacts>,
    pub disk: ObservedDisk,
    /// The disk is to grow and cannot, because of the snapshots in it. Looked at only where it is
    /// to grow.
    pub disk_is_fixed: bool,
    /// Another domain that uses a file in the place of the disk that is to be made: its pool has
    /// not seen the file.
    pub unseen: Option<String>,
    /// Every volume name that a seed of this VM may have.
    pub seeds: Vec<ObservedSeed>,
    /// The type of the pool that seeds are written in; asked only while none is there.
    pub seed_pool: Option<String>,
    /// Whether the running guest can be changed: asked last, and only where it is to be.
    pub availability: AgentAvailability,
    /// What the interfaces of a domain have that is to be taken over, as far as it is known: asked
    /// last.
    pub addresses: BTreeMap<MacAddr, Vec<IpAddr>>,
    /// Whether the running guest says that another VM would take the address that they share:
    /// asked last, and only where the guest is to be restarted.
    pub spare: bool,
    /// Block jobs that no definition shows: asked last, and only where a step would end them.
    pub jobs: Vec<DiskJob>,
}

impl Observed {
    /// A network that was asked about; `None`: the host does not have it.
    #[must_use]
    pub fn network(&self, which: &NetworkRef) -> Option<&NetworkFacts> {
        self.networks.get(which)?.facts.as_ref()
    }

    /// The libvirt network that an interface is in, whether by the network's name or by that of its
    /// bridge.
    #[must_use]
    pub fn network_of(&self, source: &NicSource) -> Option<&NetworkFacts> {
        match source.host_link() {
            HostLink::Network(which) => self.network(which),
            HostLink::Bridge(bridge) => self.bridges.get(bridge)?.network.as_deref(),
            HostLink::Device(_) => None,
        }
    }

    /// Looks at the image that the base volume is to be made from, if it is: a file is read to its
    /// end, and a server is asked. Only for those who may bring it.
    pub fn look_at_image(&mut self) {
        if let ObservedDisk::Clone {
            wanted,
            volume,
            base,
            image,
            pool: _,
        } = &mut self.disk
        {
            *image = wanted_image(wanted, volume, base)
                .map(image::inspect)
                .map(Box::new);
        }
    }

    /// Whether a volume is listed whose file is not there: removed, or not written yet.
    pub(super) fn lacks_a_file(&self) -> bool {
        let disk = match &self.disk {
            ObservedDisk::Clone { volume, base, .. } => {
                [volume, base].contains(&&VolumeState::Vanished)
            }
            ObservedDisk::Existing { volume, .. } => *volume == VolumeState::Vanished,
        };
        disk || self
            .seeds
            .iter()
            .any(|seed| seed.volume == VolumeState::Vanished)
    }

    /// Whether a volume that is no seed may become one: who reads it while another lbctl writes it
    /// may have its beginning from before and its end from after.
    pub(super) fn may_be_written_to(&self) -> bool {
        self.seeds.iter().any(|seed| {
            let mode = seed.volume.present().and_then(|facts| facts.mode);
            seed.content == Some(SeedContent::Foreign) && mode == Some(SEED_MODE)
        })
    }

    /// Whether the disk that is to be made is there and nothing says whose it is: another lbctl
    /// that has just made it defines its domain next.
    pub(super) fn may_have_an_owner_soon(&self) -> bool {
        let Some(facts) = self.disk.volume().present() else {
            return false;
        };
        let is_to_be_made = matches!(self.disk, ObservedDisk::Clone { .. });
        let mut seeds = self.seeds.iter();
        let has_own = seeds.any(|seed| matches!(seed.content, Some(SeedContent::Ours(_))));
        let mut claimed = self.claims.iter().flat_map(|claims| &claims.disks);
        is_to_be_made
            && self.domain.is_none()
            && !has_own
            && !claimed.any(|source| facts.is(source))
    }

    /// Whether somebody is starting the domain at this moment.
    pub(super) fn is_starting_up(&self) -> bool {
        let reason = self.domain.as_ref().and_then(|domain| domain.reason);
        reason == Some(StateReason::StartingUp)
    }

    /// As a definition has it, which names a network by its name and never by its UUID, and says
    /// what kind of bridge it is. What does not exist stays as configured: the plan refuses before
    /// anything is made of it.
    #[must_use]
    pub fn by_name(&self, source: &NicSource) -> NicSource {
        match source {
            NicSource::Bridge { bridge, vlan, .. } => NicSource::Bridge {
                bridge: bridge.clone(),
                vlan: *vlan,
                switch: self.switch(bridge),
            },
            NicSource::Network(which) => match self.network(which) {
                Some(facts) => NicSource::Network(NetworkRef::Name(facts.id.name.clone())),
                None => source.clone(),
            },
            NicSource::Macvtap { .. } => source.clone(),
        }
    }

    /// What kind of bridge it is: as the domain has it, where the host was not asked or does not
    /// say.
    fn switch(&self, name: &str) -> Switch {
        if let Some(BridgeFacts {
            switch: Some(switch),
            ..
        }) = self.bridges.get(name)
        {
            return *switch;
        }
        let nics = self.domain.iter().flat_map(|d| &d.config.interfaces);
        let mut known = nics.filter_map(|nic| match &nic.source {
            ObservedNicSource::Known(NicSource::Bridge { bridge, switch, .. })
                if bridge == name =>
            {
                Some(*switch)
            }
            _ => None,
        });
        known.next().unwrap_or(Switch::Linux)
    }
}

/// A machine type, as this host understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedMachine {
    NotAsked,
    /// The host has no machine of that name.
    Missing,
    /// Its full name.
    Named(String),
}

#[derive(Debug, Clone)]
pub struct ObservedNetwork {
    /// `None`: there is no such network.
    pub facts: Option<NetworkFacts>,
    /// Asked only while a reservation is lacking.
    pub leases: Vec<Lease>,
}

/// The root disk that the configuration asks for, and what the host has of it. Both are one value,
/// so that no plan can compare one disk with what was observed of another.
#[derive(Debug, Clone)]
pub enum ObservedDisk {
    /// `volume_id`
    Existing {
        id: String,
        format: Option<DiskFormat>,
        volume: VolumeState,
        /// `None`: what the disk is read as is known without it.
        header: Option<Header>,
    },
    /// `[volume]`
    Clone {
        wanted: CloneVolume,
        volume: VolumeState,
        base: VolumeState,
        /// What is known of the image that the base volume is to be made from. `None`: nothing is
        /// to be made of it, or it was not looked at.
        image: Option<Box<Result<ImageFacts, ImageError>>>,
        /// The type of the pool that it is to be made in; `None`: nothing is to be made.
        pool: Option<String>,
    },
}

impl ObservedDisk {
    /// The root disk itself.
    #[must_use]
    pub fn volume(&self) -> &VolumeState {
        match self {
            Self::Existing { volume, .. } | Self::Clone { volume, .. } => volume,
        }
    }
}

#[derive(Debug, Clone)]
pub struct ObservedSeed {
    pub at: VolumeRef,
    pub volume: VolumeState,
    /// `None` where there is no volume.
    pub content: Option<SeedContent>,
}
