//! The libvirt calls that the `virt` crate has no safe wrapper for. The only `unsafe` here.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::ptr;

use virt::domain::Domain;
use virt::error::Error;
use virt::network::Network;
use virt::sys;

use super::Lease;
use crate::config::MacAddr;

/// The leases that a network's DHCP server has handed out
/// (libvirt-network.html#virNetworkGetDHCPLeases).
pub(super) fn dhcp_leases(network: &Network) -> Result<Vec<Lease>, Error> {
    let mut list: *mut sys::virNetworkDHCPLeasePtr = ptr::null_mut();
    // SAFETY: the network outlives the call; libvirt allocates the list and its entries and gives
    // them to the caller.
    let count =
        unsafe { sys::virNetworkGetDHCPLeases(network.as_ptr(), ptr::null(), &raw mut list, 0) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut leases = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: index is below the count that libvirt gave; each entry is freed once, after it
        // was copied.
        unsafe {
            let entry = *list.add(index);
            leases.extend(lease(&*entry));
            sys::virNetworkDHCPLeaseFree(entry);
        }
    }
    // SAFETY: the list was allocated by libvirt with malloc, as its documentation says; null is
    // allowed.
    unsafe { libc::free(list.cast()) };
    Ok(leases)
}

/// # Safety
/// The pointers of the entry must be null or point to NUL-terminated strings, as libvirt gives
/// them.
unsafe fn lease(entry: &sys::virNetworkDHCPLease) -> Option<Lease> {
    // SAFETY: as this function's caller promises.
    let string = |p: *const c_char| unsafe {
        (!p.is_null()).then(|| CStr::from_ptr(p).to_string_lossy().into_owned())
    };
    Some(Lease {
        mac: MacAddr::parse(&string(entry.mac)?).ok()?,
        ip: string(entry.ipaddr)?.parse().ok()?, // an IPv6 lease is ignored
        hostname: string(entry.hostname),
        expires: entry.expirytime,
    })
}

/// The definition in a managed save (libvirt-domain.html#virDomainManagedSaveGetXMLDesc).
pub(super) fn managed_save_xml(domain: &Domain) -> Result<String, Error> {
    // SAFETY: the domain outlives the call; the text is libvirt's, NUL-terminated, and the caller's
    // to free.
    unsafe {
        let text = sys::virDomainManagedSaveGetXMLDesc(domain.as_ptr(), 0);
        if text.is_null() {
            return Err(Error::last_error());
        }
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        libc::free(text.cast());
        Ok(copy)
    }
}

/// Ends the process without what libraries do at its end. Whatever is to be printed is, and every
/// value was dropped. The fifty libraries that libvirt brings free for a millisecond what the
/// kernel frees at once, while libvirt's event loop may still be using it.
pub fn leave(code: u8) -> ! {
    // SAFETY: it runs nothing of this process any more.
    unsafe { libc::_exit(i32::from(code)) }
}

/// The names of a domain's checkpoints
/// (libvirt-domain-checkpoint.html#virDomainListAllCheckpoints).
pub(super) fn checkpoints(domain: &Domain) -> Result<Vec<String>, Error> {
    let mut list: *mut sys::virDomainCheckpointPtr = ptr::null_mut();
    // SAFETY: the domain outlives the call; libvirt allocates the list and gives it and a reference
    // to each entry to the caller.
    let count = unsafe { sys::virDomainListAllCheckpoints(domain.as_ptr(), &raw mut list, 0) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut names = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: index is below the count that libvirt gave; the name lives as long as its
        // checkpoint, which is freed once, after it was copied.
        unsafe {
            let checkpoint = *list.add(index);
            let name = sys::virDomainCheckpointGetName(checkpoint);
            if !name.is_null() {
                names.push(CStr::from_ptr(name).to_string_lossy().into_owned());
            }
            sys::virDomainCheckpointFree(checkpoint);
        }
    }
    // SAFETY: the list was allocated by libvirt with malloc; null is allowed.
    unsafe { libc::free(list.cast()) };
    Ok(names)
}

/// The kind of the block job that runs on a disk, as a definition names it
/// (libvirt-domain.html#virDomainGetBlockJobInfo); `None`: there is none.
pub(super) fn block_job(domain: &Domain, target: &CStr) -> Result<Option<&'static str>, Error> {
    let mut info = sys::virDomainBlockJobInfo {
        type_: 0,
        bandwidth: 0,
        cur: 0,
        end: 0,
    };
    // SAFETY: the domain and the name outlive the call, which fills in the info.
    let found = unsafe {
        sys::virDomainGetBlockJobInfo(domain.as_ptr(), target.as_ptr(), &raw mut info, 0)
    };
    if found < 0 {
        return Err(Error::last_error());
    }
    let kind = match u32::try_from(info.type_).unwrap_or_default() {
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_PULL => "pull",
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_COPY => "copy",
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT => "commit",
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT => "active-commit",
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP => "backup",
        _ => "unknown",
    };
    Ok((found > 0).then_some(kind))
}

/// The UUIDs of a network's ports, one for each interface that is connected to it
/// (libvirt-network.html#virNetworkListAllPorts).
pub(super) fn network_ports(network: &Network) -> Result<Vec<String>, Error> {
    let mut list: *mut sys::virNetworkPortPtr = ptr::null_mut();
    // SAFETY: the network outlives the call; libvirt allocates the list and gives it and a
    // reference to each entry to the caller.
    let count = unsafe { sys::virNetworkListAllPorts(network.as_ptr(), &raw mut list, 0) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut ports = Vec::with_capacity(count);
    for index in 0..count {
        // VIR_UUID_STRING_BUFLEN, with its NUL.
        let mut uuid: [c_char; 37] = [0; 37];
        // SAFETY: index is below the count that libvirt gave; the buffer has the length that
        // libvirt writes; each entry is freed once.
        unsafe {
            let port = *list.add(index);
            if sys::virNetworkPortGetUUIDString(port, uuid.as_mut_ptr()) == 0 {
                ports.push(CStr::from_ptr(uuid.as_ptr()).to_string_lossy().into_owned());
            }
            sys::virNetworkPortFree(port);
        }
    }
    // SAFETY: the list was allocated by libvirt with malloc; null is allowed.
    unsafe { libc::free(list.cast()) };
    Ok(ports)
}
