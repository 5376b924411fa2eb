//! Between lbctl and libvirtd: a proxy that knows where a message begins and ends (libvirt's RPC: a
//! length, then program, version, procedure and type), and delays, cuts or drops what it is asked
//! to.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A message on its way.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// From lbctl to libvirtd.
    pub asks: bool,
    pub procedure: u32,
    /// Of a stream: an upload or a download.
    pub stream: bool,
    /// How many messages went the same way before.
    pub number: usize,
}

/// `remote_protocol.x` of libvirt.
pub const DOMAIN_CREATE: u32 = 9;
pub const NETWORK_UPDATE: u32 = 291;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Late(Duration),
    /// Both ends find the connection closed.
    Cut,
    /// It never arrives, and nothing after it; the connection stays.
    Lost,
}

type Judge = Arc<Mutex<dyn FnMut(Message) -> Fate + Send>>;

/// Listens at `path` for as long as the test runs.
pub fn proxy(path: &Path, libvirtd: &str, judge: impl FnMut(Message) -> Fate + Send + 'static) {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    let (libvirtd, judge): (String, Judge) = (libvirtd.to_owned(), Arc::new(Mutex::new(judge)));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, UnixStream::connect(&libvirtd)) else {
                continue;
            };
            for (asks, from, to) in [(true, &client, &server), (false, &server, &client)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let judge = Arc::clone(&judge);
                std::thread::spawn(move || {
                    let _ = carry(asks, &from, &to, &judge);
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
}

fn carry(
    asks: bool,
    mut from: &UnixStream,
    mut to: &UnixStream,
    judge: &Judge,
) -> std::io::Result<()> {
    for number in 0.. {
        let mut message = vec![0; 4];
        from.read_exact(&mut message)?;
        let word = |m: &[u8], n: usize| {
            let bytes = m.get(n * 4..n * 4 + 4).unwrap_or(&[0; 4]);
            u32::from_be_bytes(bytes.try_into().unwrap_or_default())
        };
        message.resize(word(&message, 0) as usize, 0);
        from.read_exact(&mut message[4..])?;
        let told = Message {
            asks,
            procedure: word(&message, 3),
            stream: word(&message, 4) == 3,
            number,
        };
        let fate = judge.lock().unwrap()(told);
        match fate {
            Fate::Pass => {}
            Fate::Late(time) => std::thread::sleep(time),
            Fate::Cut => return Ok(()),
            Fate::Lost => {
                std::io::copy(&mut from, &mut std::io::sink())?;
            }
        }
        to.write_all(&message)?;
    }
    Ok(())
}
