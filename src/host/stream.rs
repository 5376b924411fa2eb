//! Bytes through libvirt's streams: volumes up and down.

use virt::error::Error;
use virt::stream::Stream;

/// libvirt's own limit for one stream packet is 4 MiB; from 256 KiB on some versions fail.
const CHUNK: usize = 256 * 1024;

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

pub(super) fn receive(stream: &Stream, limit: usize) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    let mut buffer = vec![0; CHUNK];
    while content.len() < limit {
        let count = usize::try_from(stream.recv(&mut buffer)?).unwrap_or(0);
        if count == 0 {
            break;
        }
        content.extend_from_slice(&buffer[..count]);
    }
    content.truncate(limit);
    Ok(content)
}
