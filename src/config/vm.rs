//! The VM itself: its name, size, disks and administrator. Network interfaces are in `network`,
//! what runs in it elsewhere.

use super::checks;
use super::diagnostics::{Read, Refused, Spanned};
use super::model::{Admin, CloneVolume, Disk};
use super::reader::Section;
use super::report::{ProblemId, quoted};
use super::ssh;
use super::types::{CpuCount, InvalidValue, MemoryMib, Name, VolumeRef, character};
use crate::secret::Secret;

/// What PAM takes (`PAM_MAX_RESP_SIZE`), in bytes.
const LONGEST_PASSWORD: usize = 511;

pub(super) fn name(root: &Section<'_>) -> Read<Spanned<Name>> {
    let name = root.parsed("name", Name::parse)?;
    if name.value.as_str().bytes().any(|b| b.is_ascii_uppercase()) {
        let help = "lower case avoids confusion: hostnames are compared without regard to case, libvirt's names are not";
        root.diagnostics().warn(&name, "has capital letters", help);
    }
    Ok(name)
}

pub(super) fn vcpus(root: &Section<'_>) -> Read<CpuCount> {
    let help = "give the number of virtual CPUs, such as 2";
    root.integer("vcpus", help).map(Spanned::into_value)
}

pub(super) fn memory(root: &Section<'_>) -> Read<MemoryMib> {
    let help = "give the memory in MiB, such as 4096 for 4 GiB";
    root.integer("memory", help).map(Spanned::into_value)
}

pub(super) fn seed_volume(root: &Section<'_>, name: &Read<Spanned<Name>>) -> Read<VolumeRef> {
    let libvirt_name = |s: &Section<'_>, k: &str| s.parsed(k, checks::libvirt_name);
    let pool = libvirt_name(root, "cloud_init_volume_pool");
    let volume = root.optional("cloud_init_volume_name", libvirt_name);
    let name = match (volume?, name) {
        (Some(given), _) => given.value,
        (None, Ok(name)) => format!("{}-cloud-init.iso", name.value),
        (None, Err(refused)) => return Err(*refused),
    };
    Ok(VolumeRef {
        pool: pool?.value,
        name,
    })
}

/// `volume_id` or `[volume]`, exactly one; never the volume of the seed.
pub(super) fn disk(root: &Section<'_>, seed: Option<&VolumeRef>) -> Read<Disk> {
    let diagnostics = root.diagnostics();
    let id = root.optional("volume_id", |s, k| s.parsed(k, checks::volume_id));
    let section = root.section("volume");
    let clone = section.as_ref().map(|section| clone_volume(section, seed));
    match (id?, section.zip(clone)) {
        (Some(id), Some((section, _))) => {
            let what = "and [volume] are both given, but there is one root disk";
            let help =
                "keep volume_id for a disk that exists, or [volume] for one that lbctl makes";
            Err(diagnostics.conflict(&id, &section.here(), what, "the other one", help))
        }
        (Some(id), None) if seed.is_some_and(|seed| seed.to_string() == id.value) => {
            let what = format!(
                "is {}, which is also the cloud-init volume",
                quoted(&id.value)
            );
            Err(diagnostics.refuse(&id, &what, "name another"))
        }
        (Some(id), None) => Ok(Disk::Existing { id: id.value }),
        (None, Some((_, clone))) => clone.map(Disk::Clone),
        (None, None) if root.gives("volume") => Err(Refused::BY_SCHEMA),
        (None, None) => Err(diagnostics.problem(
            ProblemId::MissingKey,
            "volume_id",
            None,
            "no root disk is given: neither `volume_id` nor [volume]",
            "add volume_id = \"pool/name\" for a disk that exists, or a [volume] section for one that lbctl clones",
        )),
    }
}

fn clone_volume(section: &Section<'_>, seed: Option<&VolumeRef>) -> Read<CloneVolume> {
    let diagnostics = section.diagnostics();
    let libvirt_name = |s: &Section<'_>, k: &str| s.parsed(k, checks::libvirt_name);
    let name = libvirt_name(section, "name");
    let pool = libvirt_name(section, "pool");
    let base_name = libvirt_name(section, "base_volume_name");
    let base_pool = section.optional("base_volume_pool", libvirt_name);
    let size = section.optional("size", Section::size);
    let format = section.word("format");

    let (name, pool, base_name) = (name?, pool?.value, base_name?);
    let volume = VolumeRef {
        pool: pool.clone(),
        name: name.value.clone(),
    };
    let base = VolumeRef {
        pool: base_pool?.map_or(pool, Spanned::into_value),
        name: base_name.value.clone(),
    };
    if seed == Some(&volume) {
        let what = format!(
            "is {}, which is also the cloud-init volume in that pool",
            quoted(&volume.name)
        );
        return Err(diagnostics.refuse(&name, &what, "name another"));
    }
    if base == volume {
        let what = "is the same volume that is to be made from it";
        let help = "name the image to clone";
        return Err(diagnostics.conflict(&base_name, &name, what, "to be made", help));
    }
    Ok(CloneVolume {
        volume,
        size: size?.map(Spanned::into_value),
        base,
        format: format?.value,
    })
}

pub(super) fn admin(root: &Section<'_>) -> Read<Admin> {
    let user = root.parsed("ssh_admin_user", checks::user);
    let password = root.optional_secret("admin_user_password", password);
    let keys = root.optional_secret("ssh_admin_public_key", |text| {
        ssh::public_keys(text.expose())
    });
    if !root.gives("admin_user_password") && !root.gives("ssh_admin_public_key") {
        root.diagnostics().warn_whole(
            "ssh_admin_public_key",
            "neither `ssh_admin_public_key` nor `admin_user_password` is given: nobody can log in to the VM",
            "give at least one",
        );
    }
    Ok(Admin {
        user: user?.value,
        password: password?.map(Spanned::into_value),
        public_keys: keys?.map_or_else(Vec::new, Spanned::into_value),
    })
}

fn password(text: &Secret) -> Result<Secret, InvalidValue> {
    let help = "give a password that can be typed at a console";
    if let Some(bad) = text.expose().chars().find(|c| c.is_control()) {
        return Err(InvalidValue::new(
            format!("has {} in it", character(bad)),
            help,
        ));
    }
    if text.expose().len() > LONGEST_PASSWORD {
        return Err(InvalidValue::new(
            format!("is longer than the {LONGEST_PASSWORD} bytes that a login takes"),
            help,
        ));
    }
    Ok(text.clone())
}
