//! The one libvirt call that the `virt` crate has no safe wrapper for: `virNetworkGetDHCPLeases`.
//! The only `unsafe` here.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::ptr;

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
