//! Asking the host for everything that a plan needs, and nothing more: where nothing differs the
//! fewest calls are made. Nothing here changes or decides anything.

mod observed;

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::{
    BaseImage, CloneVolume, Config, Disk, DiskFormat, DomainType, HostLink, NetworkRef, NicSource,
    VolumeRef,
};
use crate::guest::AgentAvailability;
use crate::host::{
    Claims, Definition, DeviceState, DomainFacts, Foreseen, HEADER, Header, HostError,
    HostErrorKind, HostReader, HostResult, Listed, NetworkFacts, Node, ObservedNicSource, Source,
    VolumeFacts, VolumeState, has_a_fixed_size,
};
use crate::reconcile::desired;
use crate::render;
use crate::seed::{self, SeedContent};

pub use observed::{Observed, ObservedDisk, ObservedMachine, ObservedNetwork, ObservedSeed};

/// How often a host that changes while it is observed is observed again.
pub const OBSERVE_AGAIN: u32 = 3;
/// Between two such looks: another lbctl needs some time for what it does.
pub const BETWEEN_ROUNDS: Duration = Duration::from_millis(150);
/// How often a volume without a file is looked for again: libvirt lists one that another lbctl is
/// making before `qemu-img` has written its file.
const VANISHED_AGAIN: u32 = 6;
/// lbctl's volumes have it from the first moment.
const SEED_MODE: u32 = 0o600;
/// How often a guest that is being started is looked at again: it is neither running nor paused.
const STARTING_AGAIN: u32 = 40;
/// No further look is begun after it: on a host that is far away each of them takes seconds.
const LONGEST: Duration = Duration::from_secs(6);

/// How much to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The claims of other domains only where something is about to be claimed.
    WhatIsNeeded,
    Everything,
    /// What is removed with the domain, too. `disk`: its disk is to be deleted, so that the claims
    /// of other domains matter.
    Removal {
        disk: bool,
    },
}

/// Asks the host. What was listed may not exist any more, or not be ready, when it is read, because
/// another lbctl changes it: then it is observed again.
pub fn observe(config: &Config, host: &impl HostReader, ask: Ask) -> HostResult<Observed> {
    let began = Instant::now();
    let mut rounds = 0;
    loop {
        let result = observe_once(config, host, ask);
        let again = match &result {
            Err(HostError { kind, .. }) => match kind {
                HostErrorKind::NotFound | HostErrorKind::State | HostErrorKind::Other => {
                    OBSERVE_AGAIN
                }
                _ => 0,
            },
            Ok(observed) if observed.is_starting_up() => STARTING_AGAIN,
            Ok(observed) if observed.lacks_a_file() => VANISHED_AGAIN,
            Ok(observed) if observed.may_be_written_to() => OBSERVE_AGAIN,
            Ok(observed) if observed.may_have_an_owner_soon() => OBSERVE_AGAIN,
            Ok(_) => 0,
        };
        if rounds >= again || began.elapsed() >= LONGEST {
            return result;
        }
        rounds += 1;
        sleep(BETWEEN_ROUNDS);
    }
}

fn observe_once(config: &Config, host: &impl HostReader, ask: Ask) -> HostResult<Observed> {
    let name = config.name.as_str();
    host.foresee(&foreseen(config));
    let Node {
        architecture,
        memory_kib,
    } = host.node()?;
    let mut domain = host.domain(name)?;
    let claiming = match ask {
        Ask::WhatIsNeeded | Ask::Removal { disk: false } => {
            claims_something_new(config, domain.as_ref())
        }
        Ask::Everything | Ask::Removal { disk: true } => true,
    };
    let checkpoints = match (ask, &domain) {
        (Ask::Removal { .. }, Some(domain)) => host.checkpoints(&domain.name)?,
        _ => Vec::new(),
    };
    let undecided = domain.is_none() && config.libvirt.domain_type == DomainType::Auto;
    let offers_kvm = if undecided {
        Some(host.offers_kvm(&architecture)?)
    } else {
        None
    };
    let claims = if claiming {
        host.claims(&[name.to_owned()])?
    } else {
        Vec::new()
    };
    let mut networks = BTreeMap::new();
    let mut devices = BTreeMap::new();
    let mut bridges = BTreeMap::new();
    for interface in &config.interfaces {
        match interface.source.host_link() {
            HostLink::Network(network) if networks.contains_key(network) => {} // several on one
            HostLink::Network(network) => {
                let facts = host.network(network)?;
                let leases = match &facts {
                    Some(facts) if claiming && facts.active => host.leases(&facts.id)?,
                    _ => Vec::new(),
                };
                networks.insert(network.clone(), ObservedNetwork { facts, leases });
            }
            HostLink::Bridge(bridge) => {
                if claiming && !bridges.contains_key(bridge) {
                    bridges.insert(bridge.to_owned(), host.bridge(bridge)?);
                }
            }
            HostLink::Device(device) => {
                let state = if claiming {
                    host.device(device)?
                } else {
                    DeviceState::Unknown
                };
                devices.insert(device.to_owned(), state);
            }
        }
    }
    add_recorded_networks(domain.as_ref(), host, &mut networks)?;
    if let Some(domain) = &mut domain {
        name_networks(domain, &networks);
    }
    let (disk, seeds) = observe_volumes(config, domain.as_ref(), host)?;
    let seed_pool = match ask {
        Ask::WhatIsNeeded | Ask::Everything => seed_pool(config, &disk, &seeds, host)?,
        Ask::Removal { .. } => None,
    };
    let mut observed = Observed {
        architecture,
        memory_kib,
        machine: ObservedMachine::NotAsked,
        rejected: None,
        listed: BTreeMap::new(),
        offers_kvm,
        domain,
        checkpoints,
        networks,
        devices,
        bridges,
        unseen: unseen(&disk, &claims, host)?,
        disk_is_fixed: is_fixed(&disk, host)?,
        disk,
        claims,
        seeds,
        seed_pool,
        availability: AgentAvailability::NotAsked,
        addresses: BTreeMap::new(),
        spare: false,
        jobs: Vec::new(),
    };
    if !matches!(ask, Ask::Removal { .. }) {
        observe_definition(config, host, &mut observed)?;
    }
    list_names(config, host, &mut observed);
    Ok(observed)
}

/// What is asked for in any case.
fn foreseen(config: &Config) -> Foreseen<'_> {
    let networks = config.interfaces.iter().filter_map(|i| i.source.network());
    let networks: BTreeSet<&NetworkRef> = networks.collect();
    let mut pools = BTreeSet::from([config.seed_volume.pool.as_str()]);
    if let Disk::Clone(clone) = &config.disk {
        pools.extend([clone.volume.pool.as_str(), clone.base.pool.as_str()]);
    }
    Foreseen {
        domain: config.name.as_str(),
        networks: networks.into_iter().collect(),
        pools: pools.into_iter().collect(),
    }
}

fn is_fixed(disk: &ObservedDisk, host: &impl HostReader) -> HostResult<bool> {
    let ObservedDisk::Clone { wanted, volume, .. } = disk else {
        return Ok(false);
    };
    let Some(facts) = volume.present() else {
        return Ok(false);
    };
    let qcow2 = wanted.format == DiskFormat::Qcow2 && matches!(facts.source, Source::File(_));
    let grows = wanted.size.is_some_and(|size| size > facts.capacity);
    if !qcow2 || !grows {
        return Ok(false);
    }
    Ok(has_a_fixed_size(&host.read_volume(&facts.at, HEADER)?))
}

/// The pool is asked only where another domain has a file of that name.
fn unseen(
    disk: &ObservedDisk,
    claims: &[Claims],
    host: &impl HostReader,
) -> HostResult<Option<String>> {
    let ObservedDisk::Clone {
        wanted,
        volume: VolumeState::Absent,
        ..
    } = disk
    else {
        return Ok(None);
    };
    let VolumeRef { pool, name } = &wanted.volume;
    let ends = format!("/{name}");
    let files = claims
        .iter()
        .flat_map(|c| c.disks.iter().map(move |disk| (c, disk)));
    let mut alike = files
        .filter_map(|(claims, disk)| match disk {
            Source::File(path) if path.ends_with(&ends) => Some((claims, path)),
            _ => None,
        })
        .peekable();
    if alike.peek().is_none() {
        return Ok(None);
    }
    let Some(folder) = host.pool_folder(pool)? else {
        return Ok(None);
    };
    let path = format!("{}{ends}", folder.trim_end_matches('/'));
    let same = alike.find(|(_, used)| **used == path);
    Ok(same.map(|(claims, _)| claims.domain.clone()))
}

/// What the host says of the domain as it is to be, where it is not so already.
fn observe_definition(
    config: &Config,
    host: &impl HostReader,
    observed: &mut Observed,
) -> HostResult<()> {
    let spec = desired::domain(config, Some(observed));
    let has = |of: &dyn Fn(&Definition) -> bool| {
        let domain = observed.domain.as_ref();
        domain.is_some_and(|d| of(&d.config) && d.live.as_ref().is_none_or(of))
    };
    let kind = spec.kind.as_str();
    if let Some(name) = &config.libvirt.machine
        && !has(&|d| d.machine == *name)
    {
        let found = host.machine(&spec.architecture, kind, name)?;
        observed.machine = found.map_or(ObservedMachine::Missing, ObservedMachine::Named);
    }
    let same_machine = match &observed.machine {
        ObservedMachine::NotAsked => true,
        ObservedMachine::Missing => false,
        ObservedMachine::Named(name) => has(&|d| same_machine(&d.machine, &spec.machine, name)),
    };
    let known = same_machine && has(&|d| d.vcpus == spec.vcpus && d.domain_type == kind);
    if !known {
        // A template that cannot be written is reported where the domain is defined.
        if let Ok(xml) = render::domain::sketch(&spec) {
            observed.rejected = host.would_accept(&xml)?.err();
        }
    }
    Ok(())
}

/// Whether a domain has the machine that the configuration names: the very one, or, where it names
/// an alias, one of the same family. An upgrade of QEMU makes the alias another version, and that
/// is no reason to restart a guest.
#[must_use]
pub fn same_machine(is: &str, wanted: &str, full: &str) -> bool {
    let family = |name: &str| name.rsplit_once('-').map(|(family, _)| family.to_owned());
    is == wanted
        || is == full
        || wanted != full && family(is).is_some() && family(is) == family(full)
}

/// Only for messages about what is missing.
fn list_names(config: &Config, host: &impl HostReader, observed: &mut Observed) {
    let mut wanted: Vec<Listed> = Vec::new();
    let volumes = observed.seeds.iter().map(|s| &s.volume);
    let (disk, base) = match &observed.disk {
        ObservedDisk::Existing { volume, .. } => (volume, None),
        ObservedDisk::Clone { volume, base, .. } => (volume, Some(base)),
    };
    if volumes
        .chain([disk])
        .chain(base)
        .any(|v| *v == VolumeState::NoPool)
    {
        wanted.push(Listed::Pools);
    }
    if let (Disk::Clone(clone), Some(VolumeState::Absent)) = (&config.disk, base) {
        wanted.push(Listed::Volumes(clone.base.pool.clone()));
    }
    if observed.networks.values().any(|n| n.facts.is_none()) {
        wanted.push(Listed::Networks);
    }
    if observed.devices.values().any(|d| *d == DeviceState::Absent) {
        wanted.push(Listed::Devices);
    }
    for which in wanted {
        let names = host.names(&which);
        observed.listed.insert(which, names);
    }
}

/// The image, where there is neither a base volume of it nor a disk that is made of that, or of
/// nothing that is known.
fn wanted_image<'c>(
    clone: &'c CloneVolume,
    volume: &VolumeState,
    base: &VolumeState,
) -> Option<&'c BaseImage> {
    let there = base.present().is_some_and(VolumeFacts::is_whole_image);
    let image = clone.image.as_ref()?;
    let of_another = |facts: &VolumeFacts| {
        let backing = facts.backing.as_deref();
        backing.is_some_and(|backing| !backing.ends_with(&format!("/{}", clone.base.name)))
    };
    (volume.present().is_none_or(of_another) && !there).then_some(image)
}

/// The root disk, its base and the seeds. What is known by its pool and name is asked for at once.
fn observe_volumes(
    config: &Config,
    domain: Option<&DomainFacts>,
    host: &impl HostReader,
) -> HostResult<(ObservedDisk, Vec<ObservedSeed>)> {
    let mut all = seed_places(config, domain);
    if let Disk::Clone(clone) = &config.disk {
        all.extend([clone.volume.clone(), clone.base.clone()]);
    }
    let mut volumes: Vec<_> = all.iter().cloned().zip(host.volumes(&all)?).collect();
    let disk = match &config.disk {
        Disk::Existing { id, format } => {
            let volume = host.volume_by_id(id)?;
            ObservedDisk::Existing {
                id: id.clone(),
                format: *format,
                header: header(&volume, *format, domain, host)?,
                volume,
            }
        }
        Disk::Clone(clone) => {
            // In the order in which they were asked for.
            let mut last = || {
                volumes
                    .pop()
                    .map_or(VolumeState::Absent, |(_, state)| state)
            };
            let (base, volume) = (last(), last());
            let pool = match volume {
                VolumeState::Absent => host.pool_type(&clone.volume.pool)?,
                _ => None,
            };
            ObservedDisk::Clone {
                wanted: clone.clone(),
                base,
                image: None,
                volume,
                pool,
            }
        }
    };
    let seeds = volumes
        .into_iter()
        .map(|(at, volume)| observe_seed(at, volume, config.name.as_str(), host))
        .collect::<HostResult<_>>()?;
    Ok((disk, seeds))
}

fn seed_pool(
    config: &Config,
    disk: &ObservedDisk,
    seeds: &[ObservedSeed],
    host: &impl HostReader,
) -> HostResult<Option<String>> {
    let there = seed::places(&config.seed_volume);
    let mut there = seeds.iter().filter(|seed| there.contains(&seed.at));
    if !there.all(|seed| seed.volume == VolumeState::Absent) {
        return Ok(None);
    }
    match disk {
        // It was asked about a moment ago.
        ObservedDisk::Clone {
            wanted,
            pool: Some(kind),
            ..
        } if wanted.volume.pool == config.seed_volume.pool => Ok(Some(kind.clone())),
        _ => host.pool_type(&config.seed_volume.pool),
    }
}

/// Read only where nobody has said yet what the disk is, and no guest can be writing it.
fn header(
    volume: &VolumeState,
    format: Option<DiskFormat>,
    domain: Option<&DomainFacts>,
    host: &impl HostReader,
) -> HostResult<Option<Header>> {
    let Some(facts) = volume.present() else {
        return Ok(None);
    };
    let pinned = domain.is_some_and(|domain| domain.config.disk_of(facts).is_some());
    let file = matches!(facts.source, Source::File(_));
    if format.is_some() || pinned || !file || facts.format == "raw" {
        return Ok(None);
    }
    let bytes = host.read_volume(&facts.at, HEADER.min(facts.capacity))?;
    Ok(Some(Header::read(&bytes)))
}

/// Whether `up` may have to claim an address, a MAC or a disk, so that the claims of others matter.
/// Where the domain has its network interfaces already, and its own ownership record lists its
/// reservations, nothing new is claimed.
fn claims_something_new(config: &Config, domain: Option<&DomainFacts>) -> bool {
    let Some(domain) = domain else { return true };
    let Some(ownership) = &domain.config.ownership else {
        return true;
    };
    config.interfaces.iter().any(|interface| {
        let known =
            domain.config.interfaces.iter().any(|nic| {
                nic.mac == interface.mac && attached_alike(&nic.source, &interface.source)
            });
        let reserved = interface.reserved().is_none_or(|ip| {
            let mut records = ownership.reservations.iter();
            records.any(|r| r.entry.mac == Some(interface.mac) && r.entry.ip == ip)
        });
        !known || !reserved
    })
}

/// Whether the host has a place for it already. A network that is named by its UUID is not
/// compared.
fn attached_alike(found: &ObservedNicSource, wanted: &NicSource) -> bool {
    let ObservedNicSource::Known(found) = found else {
        return false;
    };
    match (found, wanted) {
        (NicSource::Network(_), NicSource::Network(_)) => true,
        (
            NicSource::Bridge {
                bridge: found,
                vlan: tag,
                ..
            },
            NicSource::Bridge { bridge, vlan, .. },
        ) => found == bridge && tag == vlan,
        (found, wanted) => found == wanted,
    }
}

/// Networks that have an earlier reservation and are not in the configuration any more.
fn add_recorded_networks(
    domain: Option<&DomainFacts>,
    host: &impl HostReader,
    networks: &mut BTreeMap<NetworkRef, ObservedNetwork>,
) -> HostResult<()> {
    let recorded = domain
        .and_then(|d| d.config.ownership.as_ref())
        .map(|m| m.reservations.as_slice())
        .unwrap_or_default();
    for reservation in recorded {
        let known = networks.values().any(|n| {
            n.facts
                .as_ref()
                .is_some_and(|f| f.id.uuid == reservation.network)
        });
        let which = NetworkRef::Id(reservation.network.clone());
        if !known && !networks.contains_key(&which) {
            let facts = host.network(&which)?;
            networks.insert(
                which,
                ObservedNetwork {
                    facts,
                    leases: Vec::new(),
                },
            );
        }
    }
    Ok(())
}

/// The definitions of a guest that runs or was saved name its networks only by what these gave it.
fn name_networks(domain: &mut DomainFacts, networks: &BTreeMap<NetworkRef, ObservedNetwork>) {
    let facts: Vec<&NetworkFacts> = networks.values().filter_map(|n| n.facts.as_ref()).collect();
    let saved = domain.saved.as_mut().and_then(|s| s.definition.as_mut());
    for definition in domain.live.iter_mut().chain(saved) {
        definition.name_networks(&facts);
    }
}

/// The configured place and its alternates, and those that the domain's ownership record names.
fn seed_places(config: &Config, domain: Option<&DomainFacts>) -> Vec<VolumeRef> {
    let mut places = seed::places(&config.seed_volume);
    let records = domain
        .into_iter()
        .flat_map(DomainFacts::definitions)
        .filter_map(|d| d.ownership.as_ref());
    for ownership in records {
        for at in std::iter::once(&ownership.seed.volume).chain(&ownership.stale_seeds) {
            // A domain that was being adopted may have had no seed at a place of lbctl's.
            if !at.pool.is_empty() && !places.contains(at) {
                places.push(at.clone());
            }
        }
    }
    places
}

/// A device has whole extents, of any size.
fn is_larger_than_a_seed(facts: &VolumeFacts) -> bool {
    facts.capacity > seed::MAX_SIZE && !matches!(facts.source, Source::Block(_))
}

fn observe_seed(
    at: VolumeRef,
    volume: VolumeState,
    vm: &str,
    host: &impl HostReader,
) -> HostResult<ObservedSeed> {
    let content = match volume.present() {
        None => None,
        Some(facts) if is_larger_than_a_seed(facts) => Some(SeedContent::Foreign),
        Some(facts) => match seed::recognise(
            &host.read_volume(&at, facts.capacity.min(seed::MAX_SIZE))?,
            vm,
        ) {
            SeedContent::Unfinished if facts.capacity > seed::MAX_DEVICE => {
                Some(SeedContent::Foreign)
            }
            // An empty volume of somebody else has another mode.
            SeedContent::Unfinished if facts.mode.is_some_and(|mode| mode != SEED_MODE) => {
                Some(SeedContent::Foreign)
            }
            content => Some(content),
        },
    };
    Ok(ObservedSeed {
        at,
        volume,
        content,
    })
}
