//! What can be done to the host.

use std::io::Read as _;
use std::time::Duration;

use virt::storage_vol::StorageVol;
use virt::sys;

use super::LibvirtHost;
use crate::config::VolumeRef;
use crate::host::handles::Pace;
use crate::host::ownership::{NAMESPACE, Ownership};
use crate::host::stream::send;
use crate::host::{
    AgentChannel, CloneSpec, HostEntry, HostError, HostErrorKind, HostResult, HostWriter,
    NetworkId, Operation, Scope, StopBy, xml,
};
use crate::image::Image;
use crate::text::xml::escape;

/// How long an agent may take to answer a request to shut down.
const SHUTDOWN: Duration = Duration::from_secs(5);

impl HostWriter for LibvirtHost {
    /// On a near host, too: what changes something takes libvirt longer than a thread does.
    fn together<A: Send, B>(
        &self,
        one: impl FnOnce(&Self) -> A + Send,
        other: impl FnOnce(&Self) -> B,
    ) -> (A, B) {
        Pace::AtOnce.together(|| one(self), || other(self))
    }

    fn add_reservation(
        &self,
        network: &NetworkId,
        entry: &HostEntry,
        scope: Scope,
    ) -> HostResult<()> {
        let doing = Operation::Reserve {
            network: network.name.clone(),
            entry: entry.clone(),
        };
        self.update_network(
            network,
            sys::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST,
            entry,
            scope,
            &doing,
        )
    }

    fn remove_reservation(
        &self,
        network: &NetworkId,
        entry: &HostEntry,
        scope: Scope,
    ) -> HostResult<()> {
        let doing = Operation::Release {
            network: network.name.clone(),
            entry: entry.clone(),
        };
        self.update_network(
            network,
            sys::VIR_NETWORK_UPDATE_COMMAND_DELETE,
            entry,
            scope,
            &doing,
        )
    }

    fn clone_volume(&self, spec: &CloneSpec) -> HostResult<()> {
        let doing = Operation::CloneVolume {
            volume: spec.volume.clone(),
            base: spec.base.clone(),
        };
        let base = self.need_volume(&spec.base, &doing)?;
        let base_facts = self
            .volume_facts(spec.base.clone(), &base)?
            .ok_or_else(|| {
                let said = format!("the file of volume {} does not exist any more", spec.base);
                HostError::new(HostErrorKind::NotFound, &doing, said)
            })?;
        let text = xml::clone_xml(spec, &base_facts);
        let volume = self.in_needed_pool(&spec.volume.pool, &doing, |pool| match spec.format {
            // virStorageVolCreateXMLFrom copies; raw cannot have a backing file.
            "raw" => StorageVol::create_xml_from(pool, &text, &base, 0),
            _ => StorageVol::create_xml(pool, &text, 0),
        })?;
        self.handles.volumes.keep(&spec.volume, &volume);
        Ok(())
    }

    fn grow_volume(&self, at: &VolumeRef, capacity: u64) -> HostResult<()> {
        let doing = Operation::GrowVolume {
            at: at.clone(),
            capacity,
        };
        let volume = self.need_volume(at, &doing)?;
        self.call(&doing, || volume.resize(capacity, 0))
    }

    fn grow_live_disk(&self, name: &str, target: &str, capacity: u64) -> HostResult<()> {
        let doing = Operation::GrowLiveDisk {
            domain: name.to_owned(),
            target: target.to_owned(),
            capacity,
        };
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || {
            domain.block_resize(target, capacity, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        })
    }

    fn create_volume(&self, at: &VolumeRef, content: &[u8]) -> HostResult<()> {
        let doing = Operation::WriteSeed(at.clone());
        let text = format!(
            "<volume><name>{}</name><capacity unit='bytes'>{}</capacity>\
             <target><format type='raw'/><permissions><mode>0600</mode></permissions></target></volume>",
            escape(&at.name),
            content.len()
        );
        let volume = self.in_needed_pool(&at.pool, &doing, |pool| {
            StorageVol::create_xml(pool, &text, 0)
        })?;
        self.handles.volumes.keep(at, &volume);
        let sent = self.transfer(&doing, |stream| {
            volume.upload(stream, 0, content.len() as u64, 0)?;
            send(stream, content)
        });
        if sent.is_err() {
            let _ = self.call(&doing, || volume.delete(0)); // half a seed must not stay; the upload's error is reported
        }
        sent
    }

    fn upload_image(
        &self,
        at: &VolumeRef,
        image: &mut Image,
        part: &mut dyn FnMut(u64) -> bool,
    ) -> HostResult<()> {
        let doing = Operation::Ask(format!("uploading the image into volume {at}"));
        let text = format!(
            "<volume><name>{}</name><capacity unit='bytes'>{}</capacity><allocation unit='bytes'>0</allocation>\
             <target><format type='raw'/><permissions><mode>0600</mode></permissions></target></volume>",
            escape(&at.name),
            image.size()
        );
        let volume = self.in_needed_pool(&at.pool, &doing, |pool| {
            StorageVol::create_xml(pool, &text, 0)
        })?;
        self.handles.volumes.keep(at, &volume);
        let failed = |said: String| HostError::new(HostErrorKind::Other, &doing, said);
        let sent = self
            .upload_part(&doing, &volume, image.body(), |buffer, sent| {
                if !part(sent) {
                    return Err(failed("stopped by a signal".into()));
                }
                image
                    .read(buffer)
                    .map_err(|error| failed(error.to_string()))
            })
            .and_then(|()| {
                let mut head = image
                    .head()
                    .map_err(|error| failed(error.to_string()).with_hint(error.hint))?;
                let size = head.len() as u64;
                self.upload_part(&doing, &volume, (0, size), |buffer, _| {
                    Ok(head.read(buffer).unwrap_or_default())
                })
            })
            // libvirt looks at a file's format only when it reads the pool.
            .and_then(|()| {
                self.in_needed_pool(&at.pool, &doing, |pool| pool.refresh(0))
                    .map(drop)
            });
        if sent.is_err() {
            let _ = self.call(&doing, || volume.delete(0)); // the upload's error is reported
        }
        sent
    }

    fn delete_volume(&self, at: &VolumeRef) -> HostResult<()> {
        let doing = Operation::DeleteVolume(at.clone());
        let volume = self.need_volume(at, &doing)?;
        self.handles.volumes.forget(at);
        self.call(&doing, || volume.delete(0))
    }

    fn define(&self, name: &str, text: &str) -> HostResult<()> {
        let doing = Operation::Define(name.to_owned());
        // Without VIR_DOMAIN_DEFINE_VALIDATE: the tests check what lbctl writes against the schema,
        // and libvirt's own parser checks it here; the schema takes longer than all the rest of a
        // definition.
        let domain = self.call(&doing, || self.connection.define_domain_xml(text))?;
        self.handles.domains.keep(&name.to_owned(), &domain);
        Ok(())
    }

    fn undefine(&self, name: &str) -> HostResult<()> {
        let doing = Operation::Undefine(name.to_owned());
        // Without these flags libvirt refuses a domain that has one of them. `plan` has said which.
        let flags = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | sys::VIR_DOMAIN_UNDEFINE_NVRAM
            | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
        let domain = self.lookup(name, &doing)?;
        self.handles.domains.forget(&name.to_owned());
        self.call(&doing, || domain.undefine_flags(flags))
    }

    fn set_autostart(&self, name: &str, on: bool) -> HostResult<()> {
        let doing = Operation::SetAutostart(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.set_autostart(on))
    }

    fn start(&self, name: &str) -> HostResult<()> {
        let doing = Operation::Start(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.create())
    }

    fn resume(&self, name: &str) -> HostResult<()> {
        let doing = Operation::Resume(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.resume())
    }

    fn wake(&self, name: &str) -> HostResult<()> {
        let doing = Operation::Wake(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.pm_wakeup(0))
    }

    fn request_shutdown(&self, name: &str, by: StopBy) -> HostResult<()> {
        match by {
            StopBy::PowerButton => {
                let doing = Operation::RequestShutdown(name.to_owned());
                let domain = self.lookup(name, &doing)?;
                self.call(&doing, || {
                    domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
                })
            }
            // qemu-ga-ref: there is no answer where it succeeds, so a timeout is not a failure.
            // Whatever else an agent answers is not trusted: whether the guest stops is checked
            // anyway.
            StopBy::Agent => match self.agent(name, r#"{"execute":"guest-shutdown"}"#, SHUTDOWN) {
                Err(error) if error.kind == HostErrorKind::Connection => Err(error),
                _ => Ok(()),
            },
        }
    }

    fn power_off(&self, name: &str) -> HostResult<()> {
        let doing = Operation::PowerOff(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.destroy())
    }

    fn update_device(&self, name: &str, text: &str, scope: Scope) -> HostResult<()> {
        let doing = Operation::ChangeMedium(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        self.call(&doing, || domain.update_device_flags(text, impact(scope)))
    }

    fn set_ownership(&self, name: &str, ownership: &Ownership, scope: Scope) -> HostResult<()> {
        let doing = Operation::SetOwnership(name.to_owned());
        let domain = self.lookup(name, &doing)?;
        let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
        let xml = ownership.to_bare_xml();
        self.call(&doing, || {
            domain.set_metadata(
                kind,
                Some(&xml),
                Some("lbctl"),
                Some(NAMESPACE),
                impact(scope),
            )
        })
    }
}

/// libvirt's flags for it.
fn impact(scope: Scope) -> sys::virDomainModificationImpact {
    let config = if scope.config {
        sys::VIR_DOMAIN_AFFECT_CONFIG
    } else {
        0
    };
    let live = if scope.live {
        sys::VIR_DOMAIN_AFFECT_LIVE
    } else {
        0
    };
    config | live
}
