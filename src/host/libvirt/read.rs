//! What can be asked of the host.

use virt::error::{Error, ErrorNumber};
use virt::interface::Interface;

use super::LibvirtHost;
use super::volume::read_volume_facts;
use crate::config::{Switch, VolumeRef};
use crate::host::definition::Definition;
use crate::host::error::{error, is};
use crate::host::stream::receive;
use crate::host::sys as unwrapped;
use crate::host::{
    BridgeFacts, Claims, DeviceState, DomainFacts, Foreseen, HostError, HostErrorKind, HostReader,
    HostResult, Lease, Listed, NetworkFacts, NetworkId, NetworkRef, Node, Operation, RunState,
    VolumeState, xml,
};
use crate::secret::Secret;

/// libvirt 11.0.0: "support for VLAN tagging of a standard Linux bridge".
const KERNEL_VLANS: u32 = 11_000_000;

impl HostReader for LibvirtHost {
    fn foresee(&self, next: &Foreseen<'_>) {
        let Foreseen {
            domain,
            networks,
            pools,
        } = next;
        let domain = || {
            let (key, doing) = ((*domain).to_owned(), format!("looking up domain {domain}"));
            self.handles.next_domain.forget(&key);
            if let Ok(found) = self.find_domain(domain, &doing) {
                self.handles.next_domain.keep(&key, &found);
            }
        };
        let networks = || {
            self.pace.each(networks, |which| {
                self.handles.next_network.forget(which);
                let found = self.find_network(which)?;
                self.handles.next_network.keep(which, &found);
                Ok::<_, HostError>(())
            })
        };
        let pools = || self.pace.each(pools, |pool| self.keep_pool(pool));
        // What fails is asked for again by who needs it.
        let pace = self.pace;
        let _ = pace.together(
            || pace.together(|| self.node(), domain),
            || pace.together(networks, pools),
        );
    }

    fn node(&self) -> HostResult<Node> {
        if let Some(known) = self.node.get() {
            return Ok(known.clone());
        }
        let doing = "asking the host for its architecture and memory";
        let info = self.call(doing, || self.connection.node_info())?;
        let node = Node {
            architecture: info.model,
            memory_kib: info.memory,
        };
        Ok(self.node.get_or_init(|| node).clone())
    }

    fn machine(&self, architecture: &str, kind: &str, name: &str) -> HostResult<Option<String>> {
        let doing = format!("asking the host about machine {name}");
        self.begin(&doing);
        let asked = self.connection.domain_capabilities(
            None,
            Some(architecture),
            Some(name),
            Some(kind),
            0,
        );
        match asked {
            Ok(text) => Ok(xml::capable_machine(&text)),
            Err(e)
                if is(&e, ErrorNumber::InvalidArg)
                    || is(&e, ErrorNumber::ConfigUnsupported)
                    || is(&e, ErrorNumber::NoSupport) =>
            {
                Ok(None)
            }
            Err(e) => Err(error(&doing, &e)),
        }
    }

    fn would_accept(&self, xml: &str) -> HostResult<Result<(), String>> {
        let doing = "asking libvirt whether it accepts the domain";
        self.begin(doing);
        match self.connection.domain_xml_to_native("qemu-argv", xml, 0) {
            Ok(_) => Ok(Ok(())),
            Err(e) if is(&e, ErrorNumber::XmlError) || is(&e, ErrorNumber::ConfigUnsupported) => {
                Ok(Err(e.message().to_owned()))
            }
            // A driver that cannot say, or an answer about something else: the definition shows it.
            Err(e) => match error(doing, &e) {
                broken if broken.kind == HostErrorKind::Connection => Err(broken),
                _ => Ok(Ok(())),
            },
        }
    }

    fn names(&self, which: &Listed) -> Vec<String> {
        let doing = "listing what the host has";
        self.begin(doing);
        let connection = &self.connection;
        let mut names: Vec<String> = match which {
            Listed::Pools => connection
                .list_all_storage_pools(0)
                .map(|all| all.iter().filter_map(|p| p.name().ok()).collect()),
            Listed::Networks => connection
                .list_all_networks(0)
                .map(|all| all.iter().filter_map(|n| n.name().ok()).collect()),
            Listed::Devices => connection
                .list_all_interfaces(0)
                .map(|all| all.iter().filter_map(|i| i.name().ok()).collect()),
            Listed::Volumes(pool) => connection
                .lookup_storage_pool_by_name(pool)
                .and_then(|pool| pool.list_volumes()),
        }
        .unwrap_or_default();
        names.sort();
        names
    }

    fn offers_kvm(&self, architecture: &str) -> HostResult<bool> {
        let doing = "asking the host for its capabilities";
        let text = self.call(doing, || self.connection.capabilities())?;
        xml::offers_kvm(&text, architecture)
            .map_err(|said| HostError::new(HostErrorKind::Other, doing, said))
    }

    fn domain(&self, name: &str) -> HostResult<Option<DomainFacts>> {
        unless_gone(self.read_domain(name))
    }

    fn run_state(&self, name: &str) -> HostResult<Option<RunState>> {
        let doing = format!("reading the state of domain {name}");
        let found = self.find_domain(name, &doing)?;
        let Some(domain) = found else { return Ok(None) };
        let (state, _) = self.state_of(&domain, &doing)?;
        let run = domain.id().filter(|_| state.is_active());
        Ok(Some(RunState { state, run }))
    }

    fn checkpoints(&self, name: &str) -> HostResult<Vec<String>> {
        let doing = format!("listing the checkpoints of domain {name}");
        let found = self.find_domain(name, &doing)?;
        let Some(domain) = found else {
            return Ok(Vec::new());
        };
        self.begin(&doing);
        match unwrapped::checkpoints(&domain) {
            // A libvirt without checkpoints has none.
            Err(e) if is(&e, ErrorNumber::NoSupport) => Ok(Vec::new()),
            other => other.map_err(|e| error(&doing, &e)),
        }
    }

    fn saved_definition(&self, name: &str) -> HostResult<Option<Secret>> {
        let doing = format!("looking up domain {name}");
        let found = self.find_domain(name, &doing)?;
        let read = found.map(|domain| self.saved_text(&domain, name));
        read.map(|text| text.map(Secret::new)).transpose()
    }

    fn claims(&self, but: &[String]) -> HostResult<Vec<Claims>> {
        let doing = "listing the host's domains";
        let mut others = Vec::new();
        for domain in self.call(doing, || self.connection.list_all_domains(0))? {
            let name = domain.name().map_err(|e| error(doing, &e))?;
            if !but.contains(&name) {
                others.push((name, domain));
            }
        }
        let claims = self.pace.each(&others, |(name, domain)| {
            // A domain that was removed since it was listed claims nothing.
            let doing = format!("reading the definition of domain {name}");
            let text = self.find(&doing, ErrorNumber::NoDomain, || domain.xml_desc(0))?;
            let Some(text) = text else { return Ok(None) };
            let read = Definition::parse(&text)
                .map_err(|said| HostError::new(HostErrorKind::Other, &doing, said))?;
            Ok(Some(Claims {
                domain: name.clone(),
                macs: read.interfaces.iter().map(|i| i.mac).collect(),
                disks: read.disks.into_iter().filter_map(|d| d.source).collect(),
            }))
        })?;
        Ok(claims.into_iter().flatten().collect())
    }

    fn volume(&self, at: &VolumeRef) -> HostResult<VolumeState> {
        let absent = |e: &Error| {
            is(e, ErrorNumber::NoStorageVolume)
                || is(e, ErrorNumber::NoStoragePool)
                || is(e, ErrorNumber::OperationInvalid)
        };
        if let Some(kept) = self.handles.volumes.get(at) {
            let doing = format!("reading the properties of volume {at}");
            self.begin(&doing);
            match kept.xml_desc(0) {
                Ok(text) => {
                    let facts = read_volume_facts(at.clone(), &text)?;
                    return Ok(VolumeState::Present(Box::new(facts)));
                }
                // What is missing is asked below.
                Err(e) if absent(&e) => self.handles.volumes.forget(at),
                Err(e) => return Err(error(&doing, &e)),
            }
        }
        match self.look_up_volume(at) {
            Ok(Some(volume)) => self.volume_state(at.clone(), &volume),
            Ok(None) => Ok(VolumeState::NoPool),
            Err(e) if is(&e, ErrorNumber::NoStorageVolume) => Ok(VolumeState::Absent),
            // storage_driver.c: "storage pool '%s' is not active".
            Err(e) if is(&e, ErrorNumber::OperationInvalid) => Ok(VolumeState::PoolInactive),
            Err(e) => Err(error(format!("looking up volume {at}"), &e)),
        }
    }

    fn volumes(&self, all: &[VolumeRef]) -> HostResult<Vec<VolumeState>> {
        let mut pools: Vec<&str> = all.iter().map(|at| at.pool.as_str()).collect();
        pools.sort_unstable();
        pools.dedup();
        // Once for all of its volumes. One that is not there is reported by its volumes.
        self.pace.each(&pools, |pool| self.keep_pool(pool))?;
        self.pace.each(all, |at| self.volume(at))
    }

    fn pool_folder(&self, pool: &str) -> HostResult<Option<String>> {
        let doing = Operation::Ask(format!("reading pool {pool}"));
        let text = self.in_pool(pool, &doing, |pool| pool.xml_desc(0));
        let text = text.map_err(|e| error(&doing, &e))?;
        Ok(text.and_then(|text| xml::pool_folder(&text)))
    }

    fn pool_type(&self, name: &str) -> HostResult<Option<String>> {
        let doing = Operation::Ask(format!("reading the type of pool {name}"));
        let text = self.in_pool(name, &doing, |pool| pool.xml_desc(0));
        let text = text.map_err(|e| error(&doing, &e))?;
        Ok(text.and_then(|text| xml::pool_type(&text)))
    }

    fn volume_by_id(&self, id: &str) -> HostResult<VolumeState> {
        let doing = format!("looking up volume {id}");
        let absent = ErrorNumber::NoStorageVolume;
        let mut found = self.find(&doing, absent, || {
            self.connection.lookup_storage_vol_by_key(id)
        })?;
        if found.is_none() && id.starts_with('/') {
            found = self.find(&doing, absent, || {
                self.connection.lookup_storage_vol_by_path(id)
            })?;
        }
        if let Some(volume) = found {
            let pool = self.call(&doing, || volume.lookup_storage_pool())?;
            let at = VolumeRef {
                pool: pool.name().map_err(|e| error(&doing, &e))?,
                name: volume.name().map_err(|e| error(&doing, &e))?,
            };
            return self.volume_state(at, &volume);
        }
        match id.split_once('/') {
            Some((pool, name)) if !pool.is_empty() => self.volume(&VolumeRef {
                pool: pool.into(),
                name: name.into(),
            }),
            _ => Ok(VolumeState::Absent),
        }
    }

    fn read_volume(&self, at: &VolumeRef, length: u64) -> HostResult<Vec<u8>> {
        let doing = format!("reading volume {at}");
        let volume = self.need_volume(at, &doing)?;
        self.transfer(&doing, |stream| {
            volume.download(stream, 0, length, 0)?;
            receive(stream, usize::try_from(length).unwrap_or(usize::MAX))
        })
    }

    fn network(&self, which: &NetworkRef) -> HostResult<Option<NetworkFacts>> {
        unless_gone(self.read_network(which))
    }

    fn leases(&self, network: &NetworkId) -> HostResult<Vec<Lease>> {
        let doing = format!("reading the DHCP leases of network {network}");
        let network = self.need_network(network, &doing)?;
        self.call(&doing, || unwrapped::dhcp_leases(&network))
    }

    fn bridge(&self, name: &str) -> HostResult<BridgeFacts> {
        let doing = format!("looking up the bridge {name} of the host");
        let version = self.call(&doing, || self.connection.lib_version())?;
        let kernel_takes_vlan = version >= KERNEL_VLANS;
        self.begin(&doing);
        // Where libvirt has no driver for interfaces, their devices may still be listed; a bridge
        // of Open vSwitch is an interface like others there.
        let found = self.connection.lookup_interface_by_name(name);
        let kind = found.and_then(|interface| interface.xml_desc(0)).ok();
        let kind = kind.and_then(|text| xml::interface_type(&text));
        let switch = kind.map(|kind| match kind.as_str() {
            "bridge" => Switch::Linux,
            _ => Switch::OpenVswitch,
        });
        let exists = match switch {
            Some(_) => Some(true),
            None => match self.device(name)? {
                DeviceState::Present { .. } => Some(true),
                DeviceState::Absent => Some(false),
                DeviceState::Unknown => None,
            },
        };
        let network = match switch {
            Some(Switch::OpenVswitch) => None,
            Some(Switch::Linux) | None => self.network_with(name)?,
        };
        Ok(BridgeFacts {
            exists,
            switch,
            kernel_takes_vlan,
            network: network.map(Box::new),
        })
    }

    fn device(&self, name: &str) -> HostResult<DeviceState> {
        let doing = "listing the host's network interfaces";
        self.begin(doing);
        let listed = match self.connection.list_all_interfaces(0) {
            Ok(listed) if !listed.is_empty() => listed,
            // A host whose daemon has no driver for them.
            _ => return self.node_device(name),
        };
        let link = |interface: &Interface| {
            self.begin(doing);
            let text = interface.xml_desc(0).ok()?;
            xml::link_is_up(&text)
        };
        if let Some(found) = listed.iter().find(|i| i.name().is_ok_and(|n| n == name)) {
            return Ok(DeviceState::Present {
                up: link(found),
                bridge: None,
            });
        }
        // A port of a bridge is shown with its bridge, and not in the list.
        let absent = ErrorNumber::NoInterface;
        let found = self.find(doing, absent, || {
            self.connection.lookup_interface_by_name(name)
        })?;
        let Some(found) = found else {
            return Ok(DeviceState::Absent);
        };
        let bridge = listed.iter().find(|bridge| {
            self.begin(doing);
            bridge
                .xml_desc(0)
                .is_ok_and(|text| xml::has_port(&text, name))
        });
        Ok(DeviceState::Present {
            up: link(&found),
            bridge: bridge.and_then(|bridge| bridge.name().ok()),
        })
    }
}

/// What was removed while it was read is not there.
fn unless_gone<T>(read: HostResult<Option<T>>) -> HostResult<Option<T>> {
    match read {
        Err(gone) if gone.kind == HostErrorKind::NotFound => Ok(None),
        read => read,
    }
}
