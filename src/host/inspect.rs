//! What only `check --host` asks: nothing that a plan depends on.

use std::fmt;

use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;

use super::error::{error, is};
use super::libvirt::LibvirtHost;
use super::{HostReader, HostResult, Operation, xml};
use crate::config::VolumeRef;

/// `9.0.0`, from libvirt's one number (`virConnectGetLibVersion`: major * 1,000,000 + minor * 1,000
/// + release).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, release) = (self.0 / 1_000_000, self.0 / 1000 % 1000, self.0 % 1000);
        write!(f, "{major}.{minor}.{release}")
    }
}

/// What runs on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub libvirt: Version,
    /// QEMU's.
    pub hypervisor: Version,
}

/// What can be asked of a host beyond what a plan needs. Nothing here changes anything.
pub trait Inspect: HostReader {
    fn versions(&self) -> HostResult<Versions>;
    /// Whether the hypervisor could be started with kvm when libvirt tried; else libvirt's words
    /// (`virConnectGetDomainCapabilities`).
    fn kvm(&self, architecture: &str) -> HostResult<Result<(), String>>;
    /// Path, owner, mode and label of a volume, for people; `None`: it is not there, or libvirt
    /// does not say.
    fn access(&self, at: &VolumeRef) -> HostResult<Option<String>>;
    /// Free bytes of an active pool; `None`: there is no such pool, or it is not started.
    fn available(&self, pool: &str) -> HostResult<Option<u64>>;
}

impl Inspect for LibvirtHost {
    fn versions(&self) -> HostResult<Versions> {
        let doing = "asking the host for its versions";
        let libvirt = self.call(doing, || self.connection.lib_version())?;
        let hypervisor = self.call(doing, || self.connection.hyp_version())?;
        Ok(Versions {
            libvirt: Version(libvirt),
            hypervisor: Version(hypervisor),
        })
    }

    fn kvm(&self, architecture: &str) -> HostResult<Result<(), String>> {
        let doing = "asking the host whether it runs kvm guests";
        self.begin(doing);
        let asked =
            self.connection
                .domain_capabilities(None, Some(architecture), None, Some("kvm"), 0);
        match asked {
            Ok(_) => Ok(Ok(())),
            Err(e) if is(&e, ErrorNumber::InvalidArg) || is(&e, ErrorNumber::ConfigUnsupported) => {
                Ok(Err(e.message().to_owned()))
            }
            Err(e) => Err(error(doing, &e)),
        }
    }

    fn access(&self, at: &VolumeRef) -> HostResult<Option<String>> {
        let doing = Operation::Ask(format!("reading the permissions of volume {at}"));
        let text = self.in_pool(&at.pool, &doing, |pool| {
            match pool.lookup_storage_vol_by_name(&at.name) {
                Ok(volume) => volume.xml_desc(0).map(Some),
                Err(e) if is(&e, ErrorNumber::NoStorageVolume) => Ok(None),
                Err(e) => Err(e),
            }
        });
        let text = text.map_err(|e| error(&doing, &e))?.flatten();
        Ok(text.and_then(|text| xml::access(&text)))
    }

    fn available(&self, pool: &str) -> HostResult<Option<u64>> {
        let doing = Operation::Ask(format!("reading the space of pool {pool}"));
        let info = self.in_pool(pool, &doing, StoragePool::info);
        let info = info.map_err(|e| error(&doing, &e))?;
        // Of a pool that is not started libvirt says 0.
        let info = info.filter(|info| info.state != virt::sys::VIR_STORAGE_POOL_INACTIVE);
        Ok(info.map(|info| info.available))
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn a_version_is_shown_in_its_parts() {
        for (number, shown) in [
            (9_000_000, "9.0.0"),
            (7_002_022, "7.2.22"),
            (11_010_001, "11.10.1"),
        ] {
            assert_eq!(Version(number).to_string(), shown);
        }
    }
}
