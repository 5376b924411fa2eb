//! Volumes: their facts and their content.

use virt::error::{Error, ErrorNumber};
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::LibvirtHost;
use crate::config::VolumeRef;
use crate::host::error::error;
use crate::host::stream::{CHUNK, send};
use crate::host::{HostError, HostErrorKind, HostResult, Operation, VolumeFacts, VolumeState, xml};

impl LibvirtHost {
    /// `None`: libvirt lists the volume, and its file was removed.
    pub(super) fn volume_facts(
        &self,
        at: VolumeRef,
        volume: &StorageVol,
    ) -> HostResult<Option<VolumeFacts>> {
        let doing = format!("reading the properties of volume {at}");
        let absent = ErrorNumber::NoStorageVolume;
        let text = self.find(&doing, absent, || volume.xml_desc(0))?;
        text.map(|text| read_volume_facts(at, &text)).transpose()
    }

    pub(super) fn volume_state(
        &self,
        at: VolumeRef,
        volume: &StorageVol,
    ) -> HostResult<VolumeState> {
        let facts = self.volume_facts(at, volume)?;
        Ok(facts.map_or(VolumeState::Vanished, |facts| {
            VolumeState::Present(Box::new(facts))
        }))
    }

    /// Fills a part of the volume with what `next` gives, which is told how much was sent.
    pub(super) fn upload_part(
        &self,
        doing: &Operation,
        volume: &StorageVol,
        (begin, length): (u64, u64),
        mut next: impl FnMut(&mut [u8], u64) -> HostResult<usize>,
    ) -> HostResult<()> {
        let stream = self.call(doing, || Stream::new(&self.connection, 0))?;
        let opened = self.call(doing, || volume.upload(&stream, begin, length, 0));
        let sent = opened.and_then(|()| {
            let mut buffer = vec![0; CHUNK];
            let mut sent = 0;
            loop {
                let count = next(&mut buffer, sent)?;
                if count == 0 {
                    return Ok(());
                }
                send(&stream, buffer.get(..count).unwrap_or_default())
                    .map_err(|e| error(doing, &e))?;
                sent += count as u64;
            }
        });
        match sent {
            Ok(()) => self.call(doing, || stream.finish()),
            Err(error) => {
                let _ = stream.abort(); // the first error is the one to report
                Err(error)
            }
        }
    }

    pub(super) fn transfer<T>(
        &self,
        doing: impl Into<Operation>,
        work: impl FnOnce(&Stream) -> Result<T, Error>,
    ) -> HostResult<T> {
        let doing = doing.into();
        let stream = self.call(&doing, || Stream::new(&self.connection, 0))?;
        match work(&stream) {
            Ok(value) => self.call(&doing, || stream.finish()).map(|()| value),
            Err(e) => {
                let _ = stream.abort(); // the first error is the one to report
                Err(error(doing, &e))
            }
        }
    }
}

pub(super) fn read_volume_facts(at: VolumeRef, text: &str) -> HostResult<VolumeFacts> {
    let read = xml::volume(text).map_err(|said| {
        let doing = format!("reading the properties of volume {at}");
        HostError::new(HostErrorKind::Other, doing, said)
    })?;
    Ok(VolumeFacts {
        source: xml::source(&read, &at),
        key: read.key,
        capacity: read.capacity,
        allocation: read.allocation,
        format: read.format,
        physical: read.physical,
        backing: read.backing,
        mode: read.mode,
        at,
    })
}
