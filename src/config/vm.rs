//! The VM itself: its name, size, disks and administrator. Network cards are in `network`, what runs in it elsewhere.

use super::checks;
use super::model::{Admin, CloneVolume, Disk, DiskFormat};
use super::reader::{Given, Section};
use super::report::{ProblemId, quoted};
use super::ssh;
use super::types::{CpuCount, MemoryMib, Name, VolumeRef, Wrong, character};
use crate::secret::Secret;

/// More than any machine QEMU makes has use for in front of a database.
const MOST_CPUS: i64 = 512;
/// 16 TiB, in MiB.
const MOST_MEMORY: i64 = 16 * 1024 * 1024;
/// What PAM takes (`PAM_MAX_RESP_SIZE`), in bytes.
const LONGEST_PASSWORD: usize = 511;

pub(super) fn name(root: &Section<'_>) -> Option<Given<Name>> {
    let name = root.parsed("name", Name::parse)?;
    if name.value.as_str().bytes().any(|b| b.is_ascii_uppercase()) {
        let help = "lower case avoids confusion: hostnames are compared without regard to case, libvirt's names are not";
        root.notes().warn(&name, "has capital letters", help);
    }
    Some(name)
}

pub(super) fn vcpus(root: &Section<'_>) -> Option<CpuCount> {
    if !root.gives("vcpus") {
        return Some(2);
    }
    let given = root.integer(
        "vcpus",
        1..=MOST_CPUS,
        "give the number of virtual CPUs, such as 2",
    )?;
    u32::try_from(given.value).ok()
}

/// In MiB.
pub(super) fn memory(root: &Section<'_>) -> Option<MemoryMib> {
    if !root.gives("memory") {
        return Some(8192);
    }
    let given = root.integer(
        "memory",
        256..=MOST_MEMORY,
        "give the memory in MiB, such as 4096 for 4 GiB",
    )?;
    u64::try_from(given.value).ok()
}

pub(super) fn seed_volume(root: &Section<'_>, name: Option<&Given<Name>>) -> Option<VolumeRef> {
    let pool = root.parsed("cloud_init_volume_pool", checks::libvirt_name);
    let volume = if root.gives("cloud_init_volume_name") {
        root.parsed("cloud_init_volume_name", checks::libvirt_name)
            .map(|given| given.value)
    } else {
        name.map(|name| format!("{}-cloud-init.iso", name.value))
    };
    Some(VolumeRef {
        pool: pool?.value,
        name: volume?,
    })
}

/// `volume_id` or `[volume]`, exactly one; never the volume of the seed.
pub(super) fn disk(root: &Section<'_>, seed: Option<&VolumeRef>) -> Option<Disk> {
    let notes = root.notes();
    let id = root.parsed("volume_id", checks::volume_id);
    let section = root.section("volume");
    let clone = section
        .as_ref()
        .and_then(|section| clone_volume(section, seed));
    match (&id, &section) {
        (Some(id), Some(section)) => {
            let help =
                "keep volume_id for a disk that exists, or [volume] for one that lbctl makes";
            notes.conflict(
                id,
                &section.here(),
                "and [volume] are both given, but there is one root disk",
                "the other one",
                help,
            );
            None
        }
        (Some(id), None) if seed.is_some_and(|seed| seed.to_string() == id.value) => {
            notes.refuse(
                id,
                &Wrong::new(
                    format!(
                        "is {}, which is also the cloud-init volume",
                        quoted(&id.value)
                    ),
                    "name another",
                ),
            );
            None
        }
        (Some(id), None) => Some(Disk::Existing {
            id: id.value.clone(),
        }),
        (None, Some(_)) => clone.map(Disk::Clone),
        (None, None) => {
            if !root.gives("volume_id") && !root.gives("volume") {
                let help = "add volume_id = \"pool/name\" for a disk that exists, or a [volume] section for one that lbctl clones";
                notes.problem(
                    ProblemId::MissingKey,
                    "volume_id",
                    None,
                    "no root disk is given: neither `volume_id` nor [volume]",
                    help,
                );
            }
            None
        }
    }
}

fn clone_volume(section: &Section<'_>, seed: Option<&VolumeRef>) -> Option<CloneVolume> {
    let name = section.parsed("name", checks::libvirt_name);
    let pool = section.parsed("pool", checks::libvirt_name);
    let base_name = section.parsed("base_volume_name", checks::libvirt_name);
    let base_pool = if section.gives("base_volume_pool") {
        section.parsed("base_volume_pool", checks::libvirt_name)
    } else {
        pool.clone()
    };
    let size = section.or("size", None, |s, k| {
        let size = s.size(k, checks::size)?;
        Some(size.with(Some(size.value)))
    });
    let format = section.or("format", DiskFormat::Qcow2, |s, k| {
        s.parsed(k, checks::disk_format)
    });

    let (name, pool, base_name) = (name?, pool?, base_name?);
    let volume = VolumeRef {
        pool: pool.value,
        name: name.value.clone(),
    };
    let base = VolumeRef {
        pool: base_pool?.value,
        name: base_name.value.clone(),
    };
    if seed == Some(&volume) {
        let what = format!(
            "is {}, which is also the cloud-init volume in that pool",
            quoted(&volume.name)
        );
        section
            .notes()
            .refuse(&name, &Wrong::new(what, "name another"));
        return None;
    }
    if base == volume {
        section.notes().conflict(
            &base_name,
            &name,
            "is the very volume to be made from it",
            "to be made",
            "name the image to clone",
        );
        return None;
    }
    Some(CloneVolume {
        volume,
        size: size?,
        base,
        format: format?,
    })
}

pub(super) fn admin(root: &Section<'_>) -> Option<Admin> {
    let notes = root.notes();
    let user = root.or("ssh_admin_user", "ubuntu".to_owned(), |s, k| {
        s.parsed(k, checks::user)
    });
    let password_given = root.gives("admin_user_password");
    let password = notes
        .check(root.secret("admin_user_password"), password)
        .map(|given| given.value);
    let keys_given = root.gives("ssh_admin_public_key");
    let keys = notes
        .check(root.secret("ssh_admin_public_key"), |text| {
            ssh::public_keys(text.expose())
        })
        .map(|given| given.value);

    if !password_given && !keys_given {
        notes.warn_whole("ssh_admin_public_key", "neither `ssh_admin_public_key` nor `admin_user_password` is given: nobody can log in to the VM", "give at least one");
    }
    if (password_given && password.is_none()) || (keys_given && keys.is_none()) {
        return None;
    }
    Some(Admin {
        user: user?,
        password,
        public_keys: keys.unwrap_or_default(),
    })
}

fn password(text: &Secret) -> Result<Secret, Wrong> {
    let help = "give a password that can be typed at a console";
    if let Some(bad) = text.expose().chars().find(|c| c.is_control()) {
        return Err(Wrong::new(format!("has {} in it", character(bad)), help));
    }
    if text.expose().len() > LONGEST_PASSWORD {
        return Err(Wrong::new(
            format!("is longer than the {LONGEST_PASSWORD} bytes that a login takes"),
            help,
        ));
    }
    Ok(text.clone())
}
