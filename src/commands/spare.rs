//! Whether another VM would take the shared address: what decides between a handover and a restart.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::look::AVAILABILITY;
use crate::config::VirtualIp;
use crate::guest::Guest;
use crate::host::libvirt::LibvirtHost;

/// How long a guest waits for another VM to be fit before it refuses to step back, beside
/// `detection` (`vip_yield.py`).
const PATIENCE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(500);

/// Whether it is as the running guest `name` says; one that does not answer knows of none. A VM
/// that is busy may not be heard for a moment: it is asked for as long as the guest itself waits.
pub(super) fn takes(shared: &VirtualIp, name: &str, host: &LibvirtHost) -> bool {
    let limit = PATIENCE + Duration::from_millis(shared.detection.millis());
    within(limit, || {
        let known = Guest::new(host, name).status(AVAILABILITY).ok()?.virtual_ip;
        known.map(|known| known.has_spare(shared.address))
    })
}

/// `None`: it does not say, which took its own time.
fn within(limit: Duration, mut ask: impl FnMut() -> Option<bool>) -> bool {
    let end = Instant::now() + limit;
    loop {
        match ask() {
            Some(false) if Instant::now() < end => sleep(AGAIN.min(limit)),
            said => return said.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_that_is_not_heard_for_a_moment_is_asked_for_again() {
        let ask = |answers: &[Option<bool>]| {
            let mut rest = answers.iter().copied();
            let said = within(Duration::from_millis(10), || rest.next().flatten());
            (said, rest.len())
        };
        assert_eq!(ask(&[Some(true), Some(false)]), (true, 1));
        assert_eq!(ask(&[Some(false), Some(true), Some(false)]), (true, 1));
        // A guest that does not say is asked once.
        assert_eq!(ask(&[None, Some(true)]), (false, 1));
        let never = [Some(false); 9];
        let (said, left) = ask(&never);
        assert!(!said && left > 0);
    }
}
