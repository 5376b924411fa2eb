//! The ids of messages: what a program compares instead of words. One list for all of lbctl, so
//! that no two mean the same and none is given twice. An id that was published stays.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

/// What a message says, for programs. Words may change, an id keeps its meaning; new ones may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MessageId {
    /// libvirt cannot be reached, or the connection to it broke.
    LibvirtUnreachable,
    /// libvirt or the system denies access.
    LibvirtDenied,
    /// Something on the host is not there, or not any more.
    NotFound,
    /// Something on the host already exists, or was changed by another run.
    AlreadyExists,
    /// The state of a domain, a pool or a network does not allow it.
    WrongState,
    /// The guest agent does not answer, or not in time.
    AgentError,
    /// Any other error of libvirt or QEMU, in its own words.
    LibvirtError,
    /// The guest did not accept a change.
    GuestRefused,

    /// There is a domain of that name, and lbctl did not make it.
    DomainNotOurs,
    /// The domain is shutting down.
    DomainShuttingDown,
    /// There is no domain whose certificate could be renewed.
    DomainMissing,
    /// The running guest cannot take a new certificate, because its agent is not available.
    GuestUnavailable,
    /// The host has no such storage pool.
    PoolMissing,
    /// The storage pool is not active.
    PoolInactive,
    /// The host has no volume of that `volume_id`.
    VolumeMissing,
    /// The base volume is not in its pool.
    BaseVolumeMissing,
    /// `volume.size` is smaller than the base volume.
    SizeBelowBase,
    /// There is a volume of the disk's name, and it is not a clone of the base volume.
    VolumeExists,
    /// `down --delete-volume`: it is not known whether lbctl made the volume.
    VolumeNotOurs,
    /// The volume is a disk of another domain.
    DiskClaimed,
    /// The volume of the domain's root disk is not there any more.
    DiskMissing,
    /// The domain has another root disk.
    DiskDiffers,
    /// The root disk has another format.
    DiskFormatDiffers,
    /// The root disk is a clone of another base volume.
    BaseVolumeDiffers,
    /// `volume.size` is smaller than the disk.
    DiskShrinks,
    /// There is a volume of the seed's name, and it is not a seed of lbctl.
    SeedVolumeExists,
    /// The volume of the seed's name is the seed of another VM.
    SeedOfAnotherVm,
    /// Every volume name that a seed may have is in use.
    SeedNamesInUse,
    /// The host has no such network device.
    DeviceMissing,
    /// The host has no such network.
    NetworkMissing,
    /// The network is not active.
    NetworkInactive,
    /// The network has no addresses, so that none can be reserved in it.
    NetworkWithoutAddresses,
    /// The network serves no DHCP, so that no address can be reserved in it.
    NetworkWithoutDhcp,
    /// The address is in none of the network's subnets.
    AddressOutsideNetwork,
    /// The address is that of the host in the network.
    AddressOfHost,
    /// The address is reserved for another machine.
    AddressReserved,
    /// The address is leased to another machine.
    AddressLeased,
    /// The MAC address is reserved for another machine.
    MacReserved,
    /// The MAC address belongs to another domain.
    MacClaimed,
    /// The host name is reserved for another machine.
    HostNameReserved,

    /// The host cannot run kvm guests, and the configuration asks for kvm.
    KvmMissing,
    /// The pool has not enough free space.
    PoolFull,
    /// DNS has no IPv4 address for `haproxy.postgres_domain`.
    DnsNoAddress,
    /// DNS names more nodes than `haproxy.postgres_nodes_max_count`.
    DnsTooManyNodes,
    /// The DNS server answers with an error.
    DnsError,
    /// The certificate of a node is not good by the configured CA.
    NodeCertificateInvalid,
    /// The certificate of a node does not carry `haproxy.verify_host`.
    NodeCertificateName,
    /// A node refuses a client certificate of the configured CA.
    NodeRefusesClient,
    /// What answers is not the REST API of Patroni with TLS.
    NodeNotPatroni,

    /// A change needs a restart of the guest, and nobody has allowed one.
    RestartNeeded,
    /// Removal needs consent, and there is no terminal to ask on.
    ConsentNeeded,
    /// The answer to the question was no.
    Declined,
    /// Another run changed the same load balancer again and again.
    Overtaken,
    /// Every step was done, and the state still differs.
    StateDiffers,
    /// A signal ended it.
    Interrupted,
    /// The domain stopped while lbctl waited for it.
    DomainStopped,
    /// cloud-init failed in the guest.
    CloudInitFailed,
    /// The load balancer was not ready in time.
    NotReady,
    /// There is no seed, and so no certificate.
    SeedMissing,
    /// The seed was removed by another run.
    SeedVanished,
    /// The seed was written by another version of lbctl.
    SeedOutdated,
    /// The image of the seed could not be made.
    SeedNotMade,
    /// The CA is not in force, so that no certificate can be issued.
    CaNotInForce,
    /// The client certificate could not be issued.
    CertificateNotIssued,
    /// The definition of the domain could not be written.
    DefinitionNotMade,
    /// A file or a folder could not be written.
    FileNotWritten,
    /// The manual has no such page.
    PageUnknown,
    /// `SOURCE_DATE_EPOCH` is not a time.
    SourceDateInvalid,

    /// A note: how many steps were done before the error.
    StepsDone,
    /// A note: who may open a volume.
    VolumeAccess,
    /// A note: another run changes the same load balancer.
    ConcurrentRun,
    /// A note of the plan: why it is as it is.
    PlanNote,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_shown_as_it_is_in_json() {
        assert_eq!(MessageId::DomainNotOurs.to_string(), "domain-not-ours");
    }
}
