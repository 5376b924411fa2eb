//! A serial console, on a connection of its own.

use virt::error::ErrorNumber;
use virt::stream::Stream;
use virt::sys;

use super::LibvirtHost;
use crate::host::error::{error, is};
use crate::host::stream::send;
use crate::host::{HostError, HostErrorKind, HostResult};

impl LibvirtHost {
    /// Another connection to the same daemon, for a console that is used while this one works.
    /// `take_over`: from another program that has it open, which is an error (`Exists`) otherwise.
    pub fn console(&self, domain: &str, take_over: bool) -> HostResult<Console> {
        let second = Self::connect(&self.uri)?;
        let doing = format!("opening the console of {domain}");
        let found = second.lookup(domain, &doing)?;
        let stream = Stream::new(&second.connection, 0).map_err(|e| error(&doing, &e))?;
        let flags = if take_over {
            sys::VIR_DOMAIN_CONSOLE_FORCE
        } else {
            0
        };
        found.open_console(None, &stream, flags).map_err(|e| {
            // qemu_driver.c and virchrdev.c: a session, or a lock file, of another one.
            if is(&e, ErrorNumber::OperationFailed) {
                HostError::new(HostErrorKind::Exists, &doing, e.message())
            } else {
                error(&doing, &e)
            }
        })?;
        Ok(Console {
            stream,
            _connection: second,
        })
    }
}

/// The serial console of a running domain, until it ends. One thread may read while another writes.
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

    /// As if it were typed there.
    pub fn write(&self, bytes: &[u8]) -> HostResult<()> {
        send(&self.stream, bytes).map_err(|e| error("writing to the console", &e))
    }
}
