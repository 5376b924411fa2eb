//! What libvirt needs not be asked twice, and what can be asked at the same time: to a host that is
//! far away each call is a way there and back.
//!
//! A handle is a name and a UUID. None of them says that the thing is still there; the call that
//! uses it does. A volume is found by the names in its handle, everything else by its UUID: so
//! whoever uses a kept handle of a pool looks it up again where that UUID is not known any more.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{ScopedJoinHandle, scope};

use virt::domain::Domain;
use virt::network::Network;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;

use crate::config::{NetworkRef, VolumeRef};

/// How many calls of one client libvirt answers at a time (`max_client_requests` of its
/// configuration; more of them wait).
pub(super) const AT_ONCE: usize = 5;

/// The handles of one connection.
#[derive(Default)]
pub(super) struct Handles {
    pub(super) pools: Kept<String, StoragePool>,
    pub(super) volumes: Kept<VolumeRef, StorageVol>,
    /// By UUID.
    pub(super) networks: Kept<String, Network>,
    /// For calls that change a domain: the one that was read last under that name.
    pub(super) domains: Kept<String, Domain>,
    /// Looked up a moment ago for who asks next, and for nobody after that; `None`: it was not
    /// there.
    pub(super) next_domain: Kept<String, Option<Domain>>,
    pub(super) next_network: Kept<NetworkRef, Option<Network>>,
}

pub(super) struct Kept<K, H>(Mutex<BTreeMap<K, H>>);

impl<K, H> Default for Kept<K, H> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<K: Ord + Clone, H: Clone> Kept<K, H> {
    fn all(&self) -> MutexGuard<'_, BTreeMap<K, H>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &K) -> Option<H> {
        self.all().get(key).cloned()
    }

    pub(super) fn keep(&self, key: &K, handle: &H) {
        self.all().insert(key.clone(), handle.clone());
    }

    pub(super) fn take(&self, key: &K) -> Option<H> {
        self.all().remove(key)
    }

    pub(super) fn forget(&self, key: &K) {
        self.take(key);
    }
}

/// How calls that do not need each other's answers are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// The daemon is on this machine. A call takes 0.1 ms there, which is less than a thread for it
    /// does, and only many of them gain by being made at the same time.
    InTurn,
    /// A call is a way there and back.
    AtOnce,
}

impl Pace {
    /// From how many calls on a near daemon answers several at a time sooner.
    const MANY: usize = 32;

    /// That of the URI. An alias of `libvirt.conf` may be of a host that is far away.
    pub(super) fn of(uri: &str) -> Self {
        let near = uri.split_once("://").is_some_and(|(scheme, rest)| {
            let transport = scheme.split_once('+').map(|(_, transport)| transport);
            // Without a transport and with a host it is TLS (uri.html, "Remote URIs").
            rest.starts_with('/') && matches!(transport, None | Some("unix"))
        });
        if near { Self::InTurn } else { Self::AtOnce }
    }

    /// Does both.
    pub(super) fn together<A: Send, B>(
        self,
        one: impl FnOnce() -> A + Send,
        other: impl FnOnce() -> B,
    ) -> (A, B) {
        match self {
            Self::InTurn => (one(), other()),
            Self::AtOnce => scope(|scope| {
                let one = scope.spawn(one);
                let other = other();
                (joined(one), other)
            }),
        }
    }

    /// Does the same with each, with as many at a time as libvirt answers; the results have the
    /// order of what was given. After an error no more are begun by whoever met it.
    pub(super) fn each<T: Sync, R: Send, E: Send>(
        self,
        all: &[T],
        work: impl Fn(&T) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>, E> {
        let share = match self {
            Self::InTurn if all.len() < Self::MANY => all.len(),
            Self::InTurn | Self::AtOnce => all.len().div_ceil(AT_ONCE),
        };
        let work = &work;
        scope(|scope| {
            let mut shares = all.chunks(share.max(1));
            // The first share needs no thread, and often it is the only one.
            let mine = shares.next().unwrap_or_default();
            let others: Vec<_> = shares
                .map(|share| {
                    scope.spawn(move || share.iter().map(work).collect::<Result<Vec<R>, E>>())
                })
                .collect();
            let mut results = mine.iter().map(work).collect::<Result<Vec<R>, E>>();
            for other in others {
                let more = joined(other);
                results = results.and_then(|mut results| {
                    results.extend(more?);
                    Ok(results)
                });
            }
            results
        })
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_has_its_result_in_its_place_and_the_first_error_is_the_result() {
        for pace in [Pace::InTurn, Pace::AtOnce] {
            for count in (0..20_u32).chain([40]) {
                let all: Vec<u32> = (0..count).collect();
                let doubled = pace.each(&all, |n| {
                    std::thread::sleep(Duration::from_millis(u64::from(3 - n % 3)));
                    Ok::<_, u32>(n * 2)
                });
                assert_eq!(doubled, Ok(all.iter().map(|n| n * 2).collect()));
                let failed = pace.each(&all, |n| if *n < 7 { Ok(*n) } else { Err(*n) });
                assert_eq!(failed.err(), (count > 7).then_some(7));
            }
            assert_eq!(pace.together(|| 1, || "two"), (1, "two"));
        }
    }

    #[test]
    fn only_a_daemon_of_this_machine_is_asked_in_turn() {
        for near in [
            "qemu:///system",
            "qemu+unix:///system?socket=/run/a/libvirt-sock",
            "test:///default",
        ] {
            assert_eq!(Pace::of(near), Pace::InTurn, "{near}");
        }
        for far in [
            "qemu+ssh://root@host/system",
            "qemu+ssh:///system",
            "qemu://host/system",
            "qemu+tls://host/system",
            "qemu+tcp://[::1]/system",
            "an-alias",
        ] {
            assert_eq!(Pace::of(far), Pace::AtOnce, "{far}");
        }
    }
}
