//! The VM itself: its name, size, disks and administrator. Network interfaces are in `network`,
//! what runs in it elsewhere.

use std::path::PathBuf;
use std::sync::Arc;

use super::checks;
use super::diagnostics::{Diagnostics, Read, Refused, Spanned};
use super::inputs::{Inputs, reason};
use super::model::{Admin, BaseImage, CloneVolume, Disk, DiskFormat, ImageSource};
use super::reader::Section;
use super::report::{ProblemId, quoted};
use super::ssh;
use super::types::{
    CpuCount, ImageUrl, InvalidValue, MemoryMib, Name, Sha256, VolumeRef, character,
};
use super::vms::Unique;
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
        (Some(given), _) => given,
        (None, Ok(name)) => name.with(format!("{}-cloud-init.iso", name.value)),
        (None, Err(refused)) => return Err(*refused),
    };
    let at = VolumeRef {
        pool: pool?.value,
        name: name.value.clone(),
    };
    root.reader.claim(Unique::Volume, &at, &name);
    Ok(at)
}

/// `volume_id` or `[volume]`, exactly one; never the volume of the seed.
pub(super) fn disk(root: &Section<'_>, seed: Option<&VolumeRef>) -> Read<Disk> {
    let diagnostics = root.diagnostics();
    let id = root.optional("volume_id", |s, k| s.parsed(k, checks::volume_id));
    let format = root.optional("volume_format", Section::word::<DiskFormat>);
    let section = root.section("volume");
    let clone = section.as_ref().map(|section| clone_volume(section, seed));
    let format = format?;
    if let (Some(format), Some(section), false) = (&format, &section, root.gives("volume_id")) {
        let what = "is for the volume of volume_id, and [volume] is given";
        let help = "the format of a disk that lbctl makes is `format` in [volume]";
        return Err(diagnostics.conflict(
            format,
            &section.here(),
            what,
            "a disk that lbctl makes",
            help,
        ));
    }
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
        (Some(id), None) => {
            root.reader.claim(Unique::Volume, &id.value, &id);
            Ok(Disk::Existing {
                id: id.value,
                format: format.map(Spanned::into_value),
            })
        }
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
    let base_name = section.optional("base_volume_name", libvirt_name);
    let image = section
        .section("base_image")
        .map(|image| (image.here(), base_image(&image)));
    let base_pool = section.optional("base_volume_pool", libvirt_name);
    let size = section.optional("size", Section::size);
    let format = section.word("format");

    let base_name = match (base_name, &image) {
        (Ok(Some(name)), Some((place, _))) => {
            let what = "and [volume.base_image] are both given, but there is one base volume";
            let help = "keep one of the two";
            Err(diagnostics.conflict(&name, place, what, "the other one", help))
        }
        (Ok(None), None) => {
            let what =
                "names nothing to clone: neither `base_volume_name` nor `base_image` is given";
            let help = "add base_volume_name = \"debian-12\", or base_image = { file = \"debian-12.qcow2\", sha256 = \"...\" }";
            Err(diagnostics.refuse(&section.here(), what, help))
        }
        (name, _) => name,
    };
    let image = image.map(|(place, image)| image.map(|image| place.with(image)));
    let (name, pool, base_name, image) = (name?, pool?.value, base_name?, image.transpose()?);
    let base_name = match (base_name, &image) {
        (Some(name), _) => name,
        (None, Some(image)) => image.with(image.value.volume_name()),
        (None, None) => return Err(Refused::BY_SCHEMA),
    };
    let volume = VolumeRef {
        pool: pool.clone(),
        name: name.value.clone(),
    };
    let base = VolumeRef {
        pool: base_pool?.map_or(pool, Spanned::into_value),
        name: base_name.value.clone(),
    };
    section.reader.claim(Unique::Volume, &volume, &name);
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
        image: image.map(Spanned::into_value),
        format: format?.value,
    })
}

/// An image that lbctl brings into the pool itself. Only with its digest: without it nobody would
/// know whether it is what its publisher made.
fn base_image(section: &Section<'_>) -> Read<BaseImage> {
    let diagnostics = section.diagnostics();
    let inputs = section.reader.inputs;
    let file = section.optional("file", |s, k| s.parsed(k, checks::path));
    let url = section.optional("url", |s, k| s.parsed(k, ImageUrl::parse));
    let sha256 = section.optional("sha256", |s, k| s.parsed(k, Sha256::parse));
    let (source, place) = match (file?, url?) {
        (Some(file), Some(url)) => {
            let what = "and `url` are both given, but there is one image";
            let help = "keep one of the two";
            return Err(diagnostics.conflict(&file, &url, what, "the other one", help));
        }
        (Some(file), None) => {
            let path = inputs.path(&file.value);
            (ImageSource::File(path), file.with(Some(file.value.clone())))
        }
        (None, Some(url)) => (ImageSource::Url(url.value.clone()), url.with(None)),
        (None, None) => {
            let what = "says nothing of where the image is: neither `file` nor `url` is given";
            let help = "add file = \"debian-12.qcow2\", or url = \"https://...\"";
            return Err(diagnostics.refuse(&section.here(), what, help));
        }
    };
    match sha256? {
        Some(sha256) => Ok(BaseImage {
            source,
            sha256: sha256.value,
        }),
        None => Err(without_digest(&place, inputs, diagnostics)),
    }
}

fn without_digest(
    place: &Spanned<Option<PathBuf>>,
    inputs: &dyn Inputs,
    diagnostics: &Diagnostics,
) -> Refused {
    let what = "is given, and its digest is not: nobody could tell whether it is what is meant";
    let help = match place.value.as_ref().map(|path| inputs.digest(path)) {
        Some(Ok(found)) => {
            format!("this file's is: sha256 = \"{found}\"; hold it against that of its publisher")
        }
        Some(Err(error)) => {
            let said = reason(&error);
            format!("add sha256; the file cannot be read to find it: {said}")
        }
        None => "add sha256, as its publisher's SHA256SUMS has it; or fetch the image, hold it against what the \
                 publisher says, and take what `sha256sum FILE` prints"
            .to_owned(),
    };
    diagnostics.refuse(place, what, help)
}

pub(super) fn admin(root: &Section<'_>) -> Read<Admin> {
    let user = root.parsed("ssh_admin_user", checks::user);
    let password = root.optional_secret("admin_user_password", password);
    let keys = root.secrets_as("ssh_admin_public_key", |text| {
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
        password_hash: Arc::default(),
        public_keys: keys?.into_iter().flat_map(Spanned::into_value).collect(),
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
