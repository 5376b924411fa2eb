//! The libvirt host: every call of the two traits, made with the `virt` crate. No decision is taken
//! here, and no XML is interpreted: there are calls, and facts or errors as their results. Reading
//! documents is in `xml` and `definition`, bytes in `stream`, error codes in `error`. What remains
//! is one long list of short calls. In two files each call would have to be searched in both.

use std::cell::Cell;
use std::fmt::Display;
use std::time::Duration;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::network::Network;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt::sys;

use super::definition::{self, Definition};
use super::error::{connect_error, domain_state, error, is};
use super::stream::{receive, send};
use super::{
    AgentChannel, Claims, CloneSpec, DomainFacts, HostEntry, HostError, HostErrorKind, HostReader,
    HostResult, HostWriter, Lease, NetworkFacts, NetworkId, NetworkRef, Operation, Reconnect,
    Scope, StopBy, VolumeFacts, VolumeState, xml,
};
use crate::config::VolumeRef;
use crate::host::ownership::{NAMESPACE, Ownership};
use crate::host::sys as leases;
use crate::text::xml::escape;

/// How long an agent may take to answer a request to shut down.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// A connection to a libvirt daemon.
pub struct LibvirtHost {
    pub(super) connection: Connect,
    uri: String,
    calls: Cell<u32>,
}

impl LibvirtHost {
    /// Connects to the URI, local or remote.
    pub fn connect(uri: &str) -> HostResult<Self> {
        virt::error::clear_error_callback(); // or libvirt prints by itself
        start_event_loop();
        let doing = format!("connecting to libvirt at {uri}");
        tracing::debug!("libvirt: {doing}");
        let connection = open(uri, &doing)?;
        // A peer that has been silent for 30 s is treated as lost: without this a broken TCP
        // connection hangs for ever. Drivers without a connection of their own (test:///) cannot do
        // it and need not.
        let _ = connection.set_keep_alive(5, 5);
        Ok(Self {
            connection,
            uri: uri.to_owned(),
            calls: Cell::new(1),
        })
    }

    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// How many calls were made to libvirt so far.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls.get()
    }

    /// Another connection to the same daemon, for a console that is read while this one works.
    pub fn console(&self, domain: &str) -> HostResult<Console> {
        let second = Self::connect(&self.uri)?;
        let doing = format!("opening the console of {domain}");
        let found = second.lookup(domain, &doing)?;
        let stream = Stream::new(&second.connection, 0).map_err(|e| error(&doing, &e))?;
        found
            .open_console(None, &stream, 0)
            .map_err(|e| error(&doing, &e))?;
        Ok(Console {
            stream,
            _connection: second,
        })
    }

    /// Before each call: counts it, and logs what is about to be done, so that the log's last line
    /// names a call that hangs.
    pub(super) fn begin(&self, doing: impl Display) {
        self.calls.set(self.calls.get() + 1);
        tracing::debug!("libvirt: {doing}");
    }

    pub(super) fn call<T>(
        &self,
        doing: impl Into<Operation>,
        call: impl FnOnce() -> Result<T, Error>,
    ) -> HostResult<T> {
        let doing = doing.into();
        self.begin(&doing);
        call().map_err(|e| error(doing, &e))
    }

    /// Like `call`, but the given error code means "absent".
    fn find<T>(
        &self,
        doing: impl Into<Operation>,
        absent: ErrorNumber,
        call: impl FnOnce() -> Result<T, Error>,
    ) -> HostResult<Option<T>> {
        let doing = doing.into();
        self.begin(&doing);
        match call() {
            Ok(found) => Ok(Some(found)),
            Err(e) if is(&e, absent) => Ok(None),
            Err(e) => Err(error(doing, &e)),
        }
    }

    fn lookup(&self, name: &str, doing: impl Into<Operation>) -> HostResult<Domain> {
        self.call(doing, || self.connection.lookup_domain_by_name(name))
    }

    pub(super) fn pool(&self, name: &str) -> HostResult<Option<StoragePool>> {
        let doing = format!("looking up pool {name}");
        self.find(&doing, ErrorNumber::NoStoragePool, || {
            self.connection.lookup_storage_pool_by_name(name)
        })
    }

    pub(super) fn volume_in(
        &self,
        pool: &StoragePool,
        at: &VolumeRef,
    ) -> HostResult<Option<StorageVol>> {
        let doing = format!("looking up volume {at}");
        self.find(&doing, ErrorNumber::NoStorageVolume, || {
            pool.lookup_storage_vol_by_name(&at.name)
        })
    }

    /// The pool, which must be there, for a call that needs it.
    fn need_pool(&self, name: &str, doing: impl Into<Operation>) -> HostResult<StoragePool> {
        self.pool(name)?.ok_or_else(|| {
            HostError::new(
                HostErrorKind::NotFound,
                doing,
                format!("there is no pool {name}"),
            )
        })
    }

    fn need_volume(&self, at: &VolumeRef, doing: impl Into<Operation>) -> HostResult<StorageVol> {
        let doing = doing.into();
        let pool = self.need_pool(&at.pool, &doing)?;
        self.volume_in(&pool, at)?.ok_or_else(|| {
            HostError::new(
                HostErrorKind::NotFound,
                doing,
                format!("there is no volume {at}"),
            )
        })
    }

    fn need_network(
        &self,
        network: &NetworkId,
        doing: impl Into<Operation>,
    ) -> HostResult<Network> {
        self.call(doing, || {
            self.connection.lookup_network_by_uuid_string(&network.uuid)
        })
    }

    fn volume_facts(&self, at: VolumeRef, volume: &StorageVol) -> HostResult<VolumeFacts> {
        let doing = format!("reading the properties of volume {at}");
        let text = self.call(&doing, || volume.xml_desc(0))?;
        let read = xml::volume(&text)
            .map_err(|said| HostError::new(HostErrorKind::Other, &doing, said))?;
        // The key is asked of the handle, which has it already.
        let key = volume.key().map_err(|e| error(&doing, &e))?;
        Ok(VolumeFacts {
            key,
            source: xml::source(&read, &at),
            capacity: read.capacity,
            allocation: read.allocation,
            format: read.format,
            backing: read.backing,
            mode: read.mode,
            at,
        })
    }

    fn definition(
        &self,
        domain: &Domain,
        name: &str,
        flags: u32,
    ) -> HostResult<(Definition, String)> {
        let doing = format!("reading the definition of domain {name}");
        let text = self.call(&doing, || domain.xml_desc(flags))?;
        let read = Definition::parse(&text)
            .map_err(|said| HostError::new(HostErrorKind::Other, &doing, said))?;
        Ok((read, text))
    }

    fn transfer<T>(
        &self,
        doing: impl Into<Operation>,
        work: impl FnOnce(&Stream) -> Result<T, Error>,
    ) -> HostResult<T> {
        let doing = doing.into();
        let stream = self.call(&doing, || Stream::new(&self.connection, 0))?;
        match work(&stream) {
            Ok(value) => self.call(&doing, || stream.finish()).map(|()| value),
            Err(e) => {
                let _ = stream.abort(); // the first error is the one to report
                Err(error(doing, &e))
            }
        }
    }
}

impl HostReader for LibvirtHost {
    fn architecture(&self) -> HostResult<String> {
        self.call("asking the host for its architecture", || {
            self.connection.node_info()
        })
        .map(|info| info.model)
    }

    fn offers_kvm(&self, architecture: &str) -> HostResult<bool> {
        let doing = "asking the host for its capabilities";
        let text = self.call(doing, || self.connection.capabilities())?;
        xml::offers_kvm(&text, architecture)
            .map_err(|said| HostError::new(HostErrorKind::Other, doing, said))
    }

    fn domain(&self, name: &str) -> HostResult<Option<DomainFacts>> {
        let doing = format!("looking up domain {name}");
        let found = self.find(&doing, ErrorNumber::NoDomain, || {
            self.connection.lookup_domain_by_name(name)
        })?;
        let Some(domain) = found else { return Ok(None) };
        let doing = format!("reading the state of domain {name}");
        let state = self
            .call(&doing, || domain.state())
            .map(|(state, _)| domain_state(state.to_raw()))?;
        let persistent = self.call(&doing, || domain.is_persistent())?;
        let (config, text) = self.definition(&domain, name, sys::VIR_DOMAIN_XML_INACTIVE)?;
        let live = if state.is_active() {
            Some(self.definition(&domain, name, 0)?.0)
        } else {
            None
        };
        let autostart = persistent && self.call(&doing, || domain.autostart())?;
        let uuid = definition::uuid(&text).unwrap_or_default();
        Ok(Some(DomainFacts {
            name: name.to_owned(),
            uuid,
            state,
            autostart,
            persistent,
            config,
            config_xml: text,
            live,
        }))
    }

    fn claims(&self, but: &[String]) -> HostResult<Vec<Claims>> {
        let doing = "listing the host's domains";
        let mut claims = Vec::new();
        for domain in self.call(doing, || self.connection.list_all_domains(0))? {
            let name = domain.name().map_err(|e| error(doing, &e))?;
            if but.contains(&name) {
                continue;
            }
            // A domain that was removed since it was listed claims nothing.
            let doing = format!("reading the definition of domain {name}");
            let Some(text) = self.find(&doing, ErrorNumber::NoDomain, || domain.xml_desc(0))?
            else {
                continue;
            };
            let read = Definition::parse(&text)
                .map_err(|said| HostError::new(HostErrorKind::Other, &doing, said))?;
            claims.push(Claims {
                domain: name,
                macs: read.interfaces.iter().map(|i| i.mac).collect(),
                disks: read.disks.into_iter().filter_map(|d| d.source).collect(),
            });
        }
        Ok(claims)
    }

    fn volume(&self, at: &VolumeRef) -> HostResult<VolumeState> {
        let Some(pool) = self.pool(&at.pool)? else {
            return Ok(VolumeState::NoPool);
        };
        let doing = format!("reading the state of pool {}", at.pool);
        if !self.call(doing, || pool.is_active())? {
            return Ok(VolumeState::PoolInactive);
        }
        Ok(match self.volume_in(&pool, at)? {
            Some(volume) => VolumeState::Present(Box::new(self.volume_facts(at.clone(), &volume)?)),
            None => VolumeState::Absent,
        })
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
            return self
                .volume_facts(at, &volume)
                .map(|facts| VolumeState::Present(Box::new(facts)));
        }
        match id.split_once('/') {
            Some((pool, name)) if !pool.is_empty() => self.volume(&VolumeRef {
                pool: pool.into(),
                name: name.into(),
            }),
            _ => Ok(VolumeState::Absent),
        }
    }

    fn read_volume(&self, at: &VolumeRef, limit: u64) -> HostResult<Vec<u8>> {
        let doing = format!("reading volume {at}");
        let volume = self.need_volume(at, &doing)?;
        let length = self.call(&doing, || volume.info())?.capacity.min(limit);
        self.transfer(&doing, |stream| {
            volume.download(stream, 0, length, 0)?;
            receive(stream, usize::try_from(length).unwrap_or(usize::MAX))
        })
    }

    fn network(&self, which: &NetworkRef) -> HostResult<Option<NetworkFacts>> {
        let doing = format!("looking up network {which}");
        let found = self.find(&doing, ErrorNumber::NoNetwork, || match which {
            NetworkRef::Name(name) => self.connection.lookup_network_by_name(name),
            NetworkRef::Id(id) => self.connection.lookup_network_by_uuid_string(id),
        })?;
        let Some(network) = found else {
            return Ok(None);
        };
        let doing = format!("reading network {which}");
        let active = self.call(&doing, || network.is_active())?;
        let persistent = self.call(&doing, || network.is_persistent())?;
        let read = |flags| {
            let text = self.call(&doing, || network.xml_desc(flags))?;
            xml::network(&text).map_err(|said| HostError::new(HostErrorKind::Other, &doing, said))
        };
        let live = read(0)?;
        let saved = if persistent && active {
            read(sys::VIR_NETWORK_XML_INACTIVE)?.reservations
        } else {
            live.reservations.clone()
        };
        Ok(Some(NetworkFacts {
            id: NetworkId {
                name: network.name().map_err(|e| error(&doing, &e))?,
                uuid: network
                    .uuid_string()
                    .map_err(|e| error(&doing, &e))?
                    .to_ascii_lowercase(),
            },
            active,
            persistent,
            subnets: live.subnets,
            reservations: saved,
            live_reservations: live.reservations,
        }))
    }

    fn leases(&self, network: &NetworkId) -> HostResult<Vec<Lease>> {
        let doing = format!("reading the DHCP leases of network {network}");
        let network = self.need_network(network, &doing)?;
        self.call(&doing, || leases::dhcp_leases(&network))
    }

    fn has_device(&self, name: &str) -> HostResult<Option<bool>> {
        let doing = "listing the host's network devices";
        self.begin(doing);
        // Hosts without a node device driver (no udev in a container) do not say; then the start of
        // the domain shows it.
        let Ok(devices) = self
            .connection
            .list_all_node_devices(sys::VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET)
        else {
            return Ok(None);
        };
        if devices.is_empty() {
            return Ok(None);
        }
        for device in devices {
            // `net_<device>_<mac with underscores>`, with other characters of the device's name
            // replaced by underscores.
            let label = device.name().map_err(|e| error(doing, &e))?;
            let flat: String = name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                .collect();
            if !label.starts_with(&format!("net_{flat}_")) {
                continue;
            }
            self.begin(doing);
            if device
                .xml_desc(0)
                .is_ok_and(|text| xml::device_interface(&text).as_deref() == Some(name))
            {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }
}

impl HostWriter for LibvirtHost {
    fn add_reservation(
        &self,
        network: &NetworkId,
        entry: &HostEntry,
        scope: Scope,
    ) -> HostResult<()> {
        let doing = Operation::Reserve {
            network: network.name.clone(),
            entry: entry.clone(),
        };
        self.update_network(
            network,
            sys::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST,
            entry,
            scope,
            &doing,
        )
    }

    fn remove_reservation(
        &self,
        network: &NetworkId,
        entry: &HostEntry,
        scope: Scope,
    ) -> HostResult<()> {
        let doing = Operation::Release {
            network: network.name.clone(),
            entry: entry.clone(),
        };
        self.update_network(
            network,
            sys::VIR_NETWORK_UPDATE_COMMAND_DELETE,
            entry,
            scope,
            &doing,
        )
    }

    fn clone_volume(&self, spec: &CloneSpec) -> HostResult<()> {
        let doing = Operation::CloneVolume {
            volume: spec.volume.clone(),
            base: spec.base.clone(),
        };
        let pool = self.need_pool(&spec.volume.pool, &doing)?;
        let base = self.need_volume(&spec.base, &doing)?;
        let base_facts = self.volume_facts(spec.base.clone(), &base)?;
        let text = xml::clone_xml(spec, &base_facts);
        if spec.format == "raw" {
            // virStorageVolCreateXMLFrom copies; raw cannot have a backing file.
            self.call(&doing, || {
                StorageVol::create_xml_from(&pool, &text, &base, 0)
            })?;
        } else {
            self.call(&doing, || StorageVol::create_xml(&pool, &text, 0))?;
        }
        Ok(())
    }

    fn grow_volume(&self, at: &VolumeRef, capacity: u64) -> HostResult<()> {
        let doing = Operation::GrowVolume {
            at: at.clone(),
            capacity,
        };
        let volume = self.need_volume(at, &doing)?;
        self.call(&doing, || volume.resize(capacity, 0))
    }

    fn grow_live_disk(&self, name: &str, target: &str, capacity: u64) -> HostResult<()> {
        let doing = Operation::GrowLiveDisk {
            domain: name.to_owned(),
            target: target.to_owned(),
            capacity,
        };
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || {
            domain.block_resize(target, capacity, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        })
    }

    fn create_volume(&self, at: &VolumeRef, content: &[u8]) -> HostResult<()> {
        let doing = Operation::WriteSeed(at.clone());
        let pool = self.need_pool(&at.pool, &doing)?;
        let text = format!(
            "<volume><name>{}</name><capacity unit='bytes'>{}</capacity>\
             <target><format type='raw'/><permissions><mode>0600</mode></permissions></target></volume>",
            escape(&at.name),
            content.len()
        );
        let volume = self.call(&doing, || StorageVol::create_xml(&pool, &text, 0))?;
        let sent = self.transfer(&doing, |stream| {
            volume.upload(stream, 0, content.len() as u64, 0)?;
            send(stream, content)
        });
        if sent.is_err() {
            let _ = self.call(&doing, || volume.delete(0)); // half a seed must not stay; the upload's error is reported
        }
        sent
    }

    fn delete_volume(&self, at: &VolumeRef) -> HostResult<()> {
        let doing = Operation::DeleteVolume(at.clone());
        let volume = self.need_volume(at, &doing)?;
        self.call(&doing, || volume.delete(0))
    }

    fn define(&self, name: &str, text: &str) -> HostResult<()> {
        let doing = Operation::Define(name.to_owned());
        // Without VIR_DOMAIN_DEFINE_VALIDATE: the tests check what lbctl writes against the schema,
        // and libvirt's own parser checks it here; the schema takes longer than all the rest of a
        // definition.
        self.call(&doing, || self.connection.define_domain_xml(text))
            .map(drop)
    }

    fn undefine(&self, name: &str) -> HostResult<()> {
        let doing = Operation::Undefine(name.to_owned());
        let flags = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.undefine_flags(flags))
    }

    fn set_autostart(&self, name: &str, on: bool) -> HostResult<()> {
        let doing = Operation::SetAutostart(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.set_autostart(on))
    }

    fn start(&self, name: &str) -> HostResult<()> {
        let doing = Operation::Start(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.create())
    }

    fn resume(&self, name: &str) -> HostResult<()> {
        let doing = Operation::Resume(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.resume())
    }

    fn request_shutdown(&self, name: &str, by: StopBy) -> HostResult<()> {
        match by {
            StopBy::PowerButton => {
                let doing = Operation::RequestShutdown(name.to_owned());
                let domain = self.lookup(name, &doing)?;
                self.call(&doing, || {
                    domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
                })
            }
            // qemu-ga-ref: there is no answer where it succeeds, so a timeout is not a failure.
            // Whatever else an agent answers is not trusted: whether the guest stops is checked
            // anyway.
            StopBy::Agent => match self.agent(name, r#"{"execute":"guest-shutdown"}"#, SHUTDOWN) {
                Err(error) if error.kind == HostErrorKind::Connection => Err(error),
                _ => Ok(()),
            },
        }
    }

    fn power_off(&self, name: &str) -> HostResult<()> {
        let doing = Operation::PowerOff(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.destroy())
    }

    fn update_device(&self, name: &str, text: &str, scope: Scope) -> HostResult<()> {
        let doing = Operation::ChangeMedium(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.update_device_flags(text, impact(scope)))
    }

    fn set_ownership(&self, name: &str, ownership: &Ownership, scope: Scope) -> HostResult<()> {
        let doing = Operation::SetOwnership(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
        let xml = ownership.to_bare_xml();
        self.call(&doing, || {
            domain.set_metadata(
                kind,
                Some(&xml),
                Some("lbctl"),
                Some(NAMESPACE),
                impact(scope),
            )
        })
    }
}

/// libvirt's flags for it.
fn impact(scope: Scope) -> sys::virDomainModificationImpact {
    let config = if scope.config {
        sys::VIR_DOMAIN_AFFECT_CONFIG
    } else {
        0
    };
    let live = if scope.live {
        sys::VIR_DOMAIN_AFFECT_LIVE
    } else {
        0
    };
    config | live
}

impl AgentChannel for LibvirtHost {
    fn agent(&self, name: &str, command: &str, timeout: Duration) -> HostResult<String> {
        let doing = format!("calling the guest agent of {name}");
        let domain = self.lookup(name, &doing)?;
        let seconds = i32::try_from(timeout.as_secs().max(1)).unwrap_or(i32::MAX);
        self.call(&doing, || domain.qemu_agent_command(command, seconds, 0))
    }
}

impl Reconnect for LibvirtHost {
    fn reconnect(&mut self) -> HostResult<()> {
        let new = Self::connect(&self.uri)?;
        new.calls.set(new.calls.get() + self.calls.get());
        *self = new;
        Ok(())
    }
}

impl LibvirtHost {
    fn update_network(
        &self,
        network: &NetworkId,
        command: sys::virNetworkUpdateCommand,
        entry: &HostEntry,
        scope: Scope,
        doing: &Operation,
    ) -> HostResult<()> {
        let found = self.need_network(network, doing)?;
        // Never restart a network that is not ours: every VM on it would lose its link.
        let config = if scope.config {
            sys::VIR_NETWORK_UPDATE_AFFECT_CONFIG
        } else {
            0
        };
        let live = if scope.live {
            sys::VIR_NETWORK_UPDATE_AFFECT_LIVE
        } else {
            0
        };
        let section = sys::VIR_NETWORK_SECTION_IP_DHCP_HOST;
        self.call(doing, || {
            found.update(command, section, -1, &xml::host_xml(entry), config | live)
        })
    }
}

/// The keep-alive begins with the connection: until then nothing else ends the waiting for a peer
/// that does not answer.
fn open(uri: &str, doing: &str) -> HostResult<Connect> {
    // A person may be asked for a passphrase.
    let patience = Duration::from_secs(if uri.contains("ssh") { 120 } else { 30 });
    let (send, receive) = std::sync::mpsc::channel();
    let asked = uri.to_owned();
    // If nothing comes, the thread is left as it is: the process ends soon.
    std::thread::spawn(move || send.send(Connect::open(Some(&asked))));
    match receive.recv_timeout(patience) {
        Ok(opened) => opened.map_err(|e| connect_error(doing, uri, &e)),
        Err(_) => Err(HostError::new(
            HostErrorKind::Connection,
            doing,
            format!("no answer within {} s", patience.as_secs()),
        )),
    }
}

/// libvirt's keep-alive needs an event loop in the client; it runs until the process ends.
fn start_event_loop() {
    static STARTED: std::sync::Once = std::sync::Once::new();
    STARTED.call_once(|| {
        if virt::event::event_register_default_impl().is_ok() {
            std::thread::spawn(|| while virt::event::event_run_default_impl().is_ok() {});
        }
    });
}

/// The serial console of a running domain, read until it ends.
pub struct Console {
    stream: Stream,
    /// Keeps the connection open.
    _connection: LibvirtHost,
}

impl Console {
    /// Waits for output. `None`: the domain has stopped or the connection has ended.
    pub fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        let received = self.stream.recv(buffer).ok()?;
        usize::try_from(received).ok().filter(|count| *count > 0)
    }
}
