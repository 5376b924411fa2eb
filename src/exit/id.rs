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
    /// The URI is of a driver of libvirt's that has no guests of QEMU's.
    DriverUnfit,
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

    /// The VM shares no address with others.
    NoSharedAddress,
    /// No other VM is ready for the shared address, or has taken it.
    NoSpare,

    /// There is a domain of that name, and lbctl did not make it.
    DomainNotOurs,
    /// Another manager of VMs looks after the domain.
    DomainManaged,
    /// Another tool has notes of its own in the domain.
    DomainNoted,
    /// The domain has disks, devices or firmware that lbctl never makes.
    DomainUnusual,
    /// The domain has no saved definition.
    DomainTransient,
    /// The domain has a snapshot, which would bring back what was before.
    SnapshotInTheWay,
    /// The domain has other network interfaces.
    InterfacesDiffer,
    /// The domain is shutting down.
    DomainShuttingDown,
    /// libvirt is saving, migrating, dumping or snapshotting the domain.
    DomainBusy,
    /// The guest's memory is saved, so that the next start resumes it and does not boot.
    GuestSaved,
    /// The managed save of the domain needs a volume that does not exist any more.
    SavedStateBroken,
    /// A block job, such as a backup, runs on a disk of the domain, and a restart would end it.
    BlockJobRunning,
    /// There is no domain whose certificate could be renewed.
    DomainMissing,
    /// The running guest cannot take a new certificate, because its agent is not available.
    GuestUnavailable,
    /// The host has no such storage pool.
    PoolMissing,
    /// The storage pool is not active.
    PoolInactive,
    /// libvirt lists the volume, but its file does not exist any more.
    VolumeFileMissing,
    /// The domain's disk is an overlay that something else made on its volume.
    DiskIsOverlay,
    /// The base volume, which the root disk refers to, does not exist any more.
    BackingVolumeMissing,
    /// The host has no volume of that `volume_id`.
    VolumeMissing,
    /// The base volume is not in its pool.
    BaseVolumeMissing,
    /// The image of the base volume cannot be read or fetched.
    ImageUnreadable,
    /// The file is no image that lbctl takes.
    ImageUnfit,
    /// The image has another digest than the configuration says.
    ImageDigestDiffers,
    /// `volume.size` is smaller than the base volume.
    SizeBelowBase,
    /// There is a volume of the disk's name, and it is not a clone of the base volume.
    VolumeExists,
    /// There is a volume of the disk's name that is as the disk should be, and nothing says that
    /// lbctl made it.
    DiskNotOurs,
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
    /// What the volume of `volume_id` is to be read as is not certain: a guest could have written
    /// what is found in it.
    DiskFormatUncertain,
    /// The pool holds raw volumes only.
    PoolHoldsRaw,
    /// libvirt does not make such a volume in a pool of that type.
    PoolMakesNoVolume,
    /// The root disk is a clone of another base volume.
    BaseVolumeDiffers,
    /// `volume.size` is smaller than the disk.
    DiskShrinks,
    /// The disk is to grow, and cannot with the snapshots in it.
    DiskHoldsSnapshots,
    /// The disk is to grow, and is a block device, which libvirt cannot make larger.
    DiskIsDevice,
    /// There is a volume of the seed's name, and it is not a seed of lbctl.
    SeedVolumeExists,
    /// The volume of the seed's name is the seed of another VM.
    SeedOfAnotherVm,
    /// Every volume name that a seed may have is in use.
    SeedNamesInUse,
    /// The host has no such network device.
    DeviceMissing,
    /// The host has no such bridge.
    BridgeMissing,
    /// The bridge gives its ports no VLAN.
    VlanUnsupported,
    /// The network device is a port of a bridge, so that no macvtap can be on it.
    DeviceInBridge,
    /// libvirt does not accept the domain, for instance its machine type or number of CPUs.
    DomainRejected,
    /// The host has less memory than the guest is to have.
    MemoryExceedsHost,
    /// The MAC address is that of the network's own bridge.
    MacOfNetwork,
    /// The address is the network address or the broadcast address of its subnet.
    AddressUnusable,
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
    /// The shared address is in a DHCP range of the network.
    SharedAddressInRange,
    /// VMs that share an address are on hosts whose networks share no segment.
    SharedAddressApart,
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
    /// What would be done is not what the saved plan says.
    PlanDiffers,
    /// The file is not a plan of lbctl.
    PlanUnreadable,
    /// The sessions of a VM would be cut while no other VM of the load balancer is ready.
    NoOtherReady,
    /// The host of one of several VMs was not reached.
    VmNotReached,
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
    /// The guest asks its nodes without a client certificate so far, so none can be renewed.
    WithoutCertificate,
    /// The image of the seed could not be made.
    SeedNotMade,
    /// The CA is not in force, so that no certificate can be issued.
    CaNotInForce,
    /// The client certificate could not be issued.
    CertificateNotIssued,
    /// A certificate is to be issued, and the CA's private key cannot be read or does not fit.
    CaKeyUnavailable,
    /// There is no client certificate: it is signed elsewhere, and was not given so far.
    CertificateMissing,
    /// The certificate that was given cannot be used.
    CertificateUnfit,
    /// Somebody else makes the key and the certificate: there is nothing to request or to take.
    CertificateNotRequested,
    /// The clock of this machine shows a time that no certificate can have.
    ClockUnfit,
    /// The definition of the domain could not be written.
    DefinitionNotMade,
    /// Another program has the console of the domain open.
    ConsoleBusy,
    /// A configuration is wrong, so that the VMs that it describes are not known.
    ConfigWrong,
    /// The command line is wrong.
    UsageWrong,
    /// A file or a folder could not be written.
    FileNotWritten,
    /// A file that was named could not be read.
    FileUnreadable,
    /// A file that was to be written is there already, and is not overwritten.
    FileExists,
    /// The file is no Terraform state that lbctl reads.
    StateUnfit,
    /// The Terraform state still has the VM that is to be taken over.
    StateHasDomain,
    /// The Terraform state has no such VM, or more than one.
    StateAmbiguous,
    /// The manual has no such page.
    PageUnknown,
    /// A page of the manual is for man, and was to be written to a terminal.
    PageUnreadable,
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
    /// A note: one of several VMs was not touched, because of another one.
    VmsUntouched,
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
