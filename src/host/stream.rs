//! Bytes through libvirt's streams: volumes up and down.

use virt::error::Error;
use virt::stream::Stream;

/// libvirt's own limit for one stream packet is 4 MiB; from 256 KiB on some versions fail.
pub(super) const CHUNK: usize = 256 * 1024;

pub(super) fn send(stream: &Stream, content: &[u8]) -> Result<(), Error> {
    for chunk in content.chunks(CHUNK) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let sent = usize::try_from(stream.send(rest)?).unwrap_or(0);
            rest = rest.get(sent..).unwrap_or_default();
        }
    }
    Ok(())
}

/// `limit`: how much there is, at most.
pub(super) fn receive(stream: &Stream, limit: usize) -> Result<Vec<u8>, Error> {
    // What grows is copied, and each copy is wiped.
    let mut content = vec![0; limit];
    let mut received = 0;
    while received < limit {
        let end = limit.min(received + CHUNK);
        let place = content.get_mut(received..end).unwrap_or_default();
        let count = usize::try_from(stream.recv(place)?).unwrap_or(0);
        if count == 0 {
            break;
        }
        received += count;
    }
    content.truncate(received);
    Ok(content)
}
