//! The libvirt host: every call of the two traits, made with the `virt` crate. No decision is taken
//! here, and no XML is interpreted: there are calls, and facts or errors as their results. Reading
//! documents is in `xml` and `definition`, bytes in `stream`, error codes in `error`.
//!
//! Here are the connection and the looking up of objects; what is asked is in `read`, what is done
//! in `write`, and the longer parts of both by the kind of object.

mod console;
mod domain;
mod network;
mod read;
mod volume;
mod write;

use std::fmt::Display;
use std::fs::File;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;

use crate::config::VolumeRef;
use crate::host::error::{connect_error, error, is};
use crate::host::handles::{Handles, Pace};
use crate::host::{
    AgentChannel, HostError, HostErrorKind, HostResult, Node, Operation, Reconnect, far,
};

pub use console::Console;

/// When the event loop begins, after the first connection was asked for.
const LOOP_BEGINS: Duration = Duration::from_secs(2);

/// A connection to a libvirt daemon.
pub struct LibvirtHost {
    pub(super) connection: Connect,
    uri: String,
    calls: AtomicU32,
    handles: Box<Handles>,
    pub(super) pace: Pace,
    node: OnceLock<Node>,
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
            calls: AtomicU32::new(1),
            handles: Box::default(),
            pace: Pace::of(uri),
            node: OnceLock::new(),
        })
    }

    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// How many calls were made to libvirt so far.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Before each call: counts it, and logs what is about to be done, so that the log's last lines
    /// name a call that hangs.
    pub(super) fn begin(&self, doing: impl Display) {
        self.calls.fetch_add(1, Ordering::Relaxed);
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
    pub(super) fn find<T>(
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

    /// The domain, for a call that changes it: the one that was read under that name, where one
    /// was.
    fn lookup(&self, name: &str, doing: impl Into<Operation>) -> HostResult<Domain> {
        let name = name.to_owned();
        if let Some(kept) = self.handles.domains.get(&name) {
            return Ok(kept);
        }
        let found = self.call(doing, || self.connection.lookup_domain_by_name(&name))?;
        self.handles.domains.keep(&name, &found);
        Ok(found)
    }

    /// Looks it up anew, as whoever wants to know whether it is there must.
    fn find_domain(&self, name: &str, doing: impl Into<Operation>) -> HostResult<Option<Domain>> {
        let key = name.to_owned();
        let found = match self.handles.next_domain.take(&key) {
            Some(foreseen) => foreseen,
            None => self.find(doing, ErrorNumber::NoDomain, || {
                self.connection.lookup_domain_by_name(name)
            })?,
        };
        match &found {
            Some(domain) => self.handles.domains.keep(&key, domain),
            None => self.handles.domains.forget(&key),
        }
        Ok(found)
    }

    fn pool(&self, name: &str) -> Result<Option<StoragePool>, Error> {
        self.begin(format_args!("looking up pool {name}"));
        match self.connection.lookup_storage_pool_by_name(name) {
            Ok(pool) => {
                self.handles.pools.keep(&name.to_owned(), &pool);
                Ok(Some(pool))
            }
            Err(e) if is(&e, ErrorNumber::NoStoragePool) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Looks it up, unless it is known.
    fn keep_pool(&self, name: &str) -> HostResult<()> {
        if self.handles.pools.get(&name.to_owned()).is_some() {
            return Ok(());
        }
        let found = self.pool(name).map(drop);
        found.map_err(|e| error(format!("looking up pool {name}"), &e))
    }

    /// A call on the pool of that name; `None`: there is none.
    pub(super) fn in_pool<T>(
        &self,
        name: &str,
        doing: &Operation,
        call: impl Fn(&StoragePool) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let key = name.to_owned();
        if let Some(kept) = self.handles.pools.get(&key) {
            self.begin(doing);
            match call(&kept) {
                // Another one may have its name now.
                Err(e) if is(&e, ErrorNumber::NoStoragePool) => self.handles.pools.forget(&key),
                done => return done.map(Some),
            }
        }
        let Some(pool) = self.pool(name)? else {
            return Ok(None);
        };
        self.begin(doing);
        call(&pool).map(Some)
    }

    /// The same for a pool that must be there.
    fn in_needed_pool<T>(
        &self,
        name: &str,
        doing: &Operation,
        call: impl Fn(&StoragePool) -> Result<T, Error>,
    ) -> HostResult<T> {
        let done = self.in_pool(name, doing, call);
        done.map_err(|e| error(doing, &e))?.ok_or_else(|| {
            let said = format!("there is no pool {name}");
            HostError::new(HostErrorKind::NotFound, doing, said)
        })
    }

    /// The volume, if it is known or can be looked up.
    fn look_up_volume(&self, at: &VolumeRef) -> Result<Option<StorageVol>, Error> {
        let doing = Operation::Ask(format!("looking up volume {at}"));
        let found = self.in_pool(&at.pool, &doing, |pool| {
            pool.lookup_storage_vol_by_name(&at.name)
        })?;
        if let Some(volume) = &found {
            self.handles.volumes.keep(at, volume);
        }
        Ok(found)
    }

    fn need_volume(&self, at: &VolumeRef, doing: impl Into<Operation>) -> HostResult<StorageVol> {
        if let Some(kept) = self.handles.volumes.get(at) {
            return Ok(kept);
        }
        let missing = match self.look_up_volume(at) {
            Ok(Some(volume)) => return Ok(volume),
            Ok(None) => format!("there is no pool {}", at.pool),
            Err(e) if is(&e, ErrorNumber::NoStorageVolume) => format!("there is no volume {at}"),
            Err(e) => return Err(error(doing, &e)),
        };
        Err(HostError::new(HostErrorKind::NotFound, doing, missing))
    }
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
        new.calls.fetch_add(self.calls(), Ordering::Relaxed);
        *self = new;
        Ok(())
    }
}

/// How long an answer of this libvirt daemon is waited for. With ssh a person may be asked for a
/// passphrase, where there is one.
#[must_use]
pub fn patience(uri: &str) -> Duration {
    let asks = uri.contains("ssh") && File::open("/dev/tty").is_ok();
    Duration::from_secs(if asks { 120 } else { 30 })
}

/// Of libvirt's client library, as `9.0.0`. Nothing is connected for it.
#[must_use]
pub fn library_version() -> Option<String> {
    // Major, minor and release, each with three digits.
    let version = Connect::version().ok()?;
    let [major, minor, release] = [version / 1_000_000, version / 1000 % 1000, version % 1000];
    Some(format!("{major}.{minor}.{release}"))
}

/// The keep-alive begins with the connection: until then nothing else ends the waiting for a peer
/// that does not answer.
fn open(uri: &str, doing: &str) -> HostResult<Connect> {
    let patience = patience(uri);
    let (send, receive) = std::sync::mpsc::channel();
    let asked = uri.to_owned();
    // If nothing comes, the thread is left as it is: the process ends soon.
    std::thread::spawn(move || send.send(Connect::open(Some(&asked))));
    if let Ok(opened) = receive.recv_timeout(patience) {
        return opened.map_err(|e| connect_error(doing, uri, &e));
    }
    let said = format!("no answer within {} s", patience.as_secs());
    let hint = far::hint(uri, &said);
    let error = HostError::new(HostErrorKind::Connection, doing, said);
    Err(HostError { hint, ..error })
}

/// libvirt's keep-alive needs an event loop in the client while no call is made: a daemon closes
/// the connection of a client that leaves its first question after 5 s without an answer
/// (`keepalive_interval` of libvirtd.conf). While one is made, whoever waits for its answer looks
/// to that (virnetclient.c, `virNetClientIOEventLoop`), and a loop would have to be told of each
/// call, which doubles what a near one costs. So it begins when most runs have ended. It runs until
/// the process ends.
fn start_event_loop() {
    static STARTED: std::sync::Once = std::sync::Once::new();
    STARTED.call_once(|| {
        if virt::event::event_register_default_impl().is_ok() {
            std::thread::spawn(|| {
                std::thread::sleep(LOOP_BEGINS);
                while virt::event::event_run_default_impl().is_ok() {}
            });
        }
    });
}
