//! The header of a qcow2 image (QEMU, docs/interop/qcow2.txt), as far as it says whether lbctl
//! takes the file. Whoever made it decides nothing on the host: one that refers to other files is
//! refused.

use super::{HEAD, ImageError, ImageErrorKind, MOST};
use crate::config::ImageSource;

const MAGIC: &[u8] = b"QFI\xfb";
/// Of the features that a reader must know: the data are in another file.
const EXTERNAL_DATA: u64 = 1 << 2;
/// It was being written when its writer ended; or QEMU itself has found it damaged.
const DIRTY_OR_CORRUPT: u64 = 0b11;

/// What other files begin with, what they are, and what to do about it.
const OTHERS: &[(usize, &[u8], &str, &str)] = &[
    (
        0,
        b"\xfd7zXZ\0",
        "compressed by xz",
        "unpack it: `xz -dk FILE`",
    ),
    (
        0,
        b"\x1f\x8b",
        "compressed by gzip",
        "unpack it: `gzip -dk FILE`",
    ),
    (
        0,
        b"BZh",
        "compressed by bzip2",
        "unpack it: `bzip2 -dk FILE`",
    ),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        "compressed by zstd",
        "unpack it: `zstd -d FILE`",
    ),
    (0, b"PK\x03\x04", "a zip archive", "unpack it: `unzip FILE`"),
    (257, b"ustar", "a tar archive", "unpack it: `tar -xf FILE`"),
    (0, b"KDMV", "an image of VMware", CONVERT),
    (0, b"vhdxfile", "an image of Hyper-V", CONVERT),
    (0, b"conectix", "an image of Virtual PC", CONVERT),
    (0, b"<", "a text, perhaps a page of HTML", TEXT),
    (510, b"\x55\xaa", "a raw image", CONVERT),
];

const CONVERT: &str = "lbctl takes qcow2: `qemu-img convert -O qcow2 FILE IMAGE.qcow2`";
const TEXT: &str = "give the address of the image itself, not that of a page about it";
const AND_THEN: &str = "; then give the result as `file`, with the digest that it has";

/// The bytes that a guest sees. `size`: of the whole file, where it is known.
pub(super) fn judge(
    head: &[u8],
    size: Option<u64>,
    source: &ImageSource,
) -> Result<u64, ImageError> {
    let unfit = |what: &str, hint: &str| {
        let what = format!("{source} is {what}");
        Err(ImageError::new(ImageErrorKind::Unfit, what, hint))
    };
    if !head.starts_with(MAGIC) {
        let begins = |at: usize, mark: &[u8]| head.get(at..).is_some_and(|r| r.starts_with(mark));
        let other = OTHERS.iter().find(|(at, mark, ..)| begins(*at, mark));
        let letters = |text: &str| !text.contains(|c: char| c.is_control() && !c.is_whitespace());
        let text = std::str::from_utf8(head).is_ok_and(letters);
        return match other {
            _ if head.is_empty() => unfit("empty", "copy the image again"),
            Some((_, _, what, hint)) if *hint == TEXT => unfit(what, hint),
            Some((_, _, what, hint)) => unfit(what, &format!("{hint}{AND_THEN}")),
            None if text => unfit("a text", TEXT),
            None => unfit("no image that lbctl knows", &format!("{CONVERT}{AND_THEN}")),
        };
    }
    if head.len() < HEAD {
        return unfit("cut short", "copy the image again");
    }
    let field = |at: usize| Header(head).u64(at);
    let version = Header(head).u32(4);
    if !(2..=3).contains(&version) {
        let what = format!("an image of qcow version {version}");
        return unfit(&what, &format!("{CONVERT}{AND_THEN}"));
    }
    if field(8) != 0 {
        return unfit(
            "an image that refers to another one, its backing file",
            "make one that has everything: `qemu-img convert -O qcow2 FILE IMAGE.qcow2`",
        );
    }
    if Header(head).u32(32) != 0 {
        return unfit(
            "encrypted",
            "decrypt it: a guest of lbctl's has no key for it",
        );
    }
    let features = if version >= 3 { field(72) } else { 0 };
    if features & EXTERNAL_DATA != 0 {
        return unfit("an image whose data are in another file", CONVERT);
    }
    if features & DIRTY_OR_CORRUPT != 0 {
        return unfit(
            "damaged, or was not closed by its writer",
            "`qemu-img check -r all FILE` repairs what can be repaired; then give its new digest",
        );
    }
    let capacity = field(24);
    let clusters = (9..=21).contains(&Header(head).u32(20));
    let sensible = (1 << 20..=MOST).contains(&capacity) && capacity.is_multiple_of(512);
    if !clusters || !sensible {
        return unfit("damaged: its header makes no sense", "copy the image again");
    }
    // What the header refers to must be in the file; whether all of it is, the digest says.
    let ends = [
        field(40).saturating_add(u64::from(Header(head).u32(36)).saturating_mul(8)),
        field(48).saturating_add(1),
    ];
    if size.is_some_and(|size| ends.iter().any(|end| *end > size)) {
        return unfit("cut short", "copy the image again");
    }
    Ok(capacity)
}

struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn u32(&self, at: usize) -> u32 {
        let bytes = self.0.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> u64 {
        let bytes = self.0.get(at..at + 8).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u64::from_be_bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    /// A header of version 3 for 2 GiB.
    pub(in crate::image) fn header() -> Vec<u8> {
        let mut head = vec![0; HEAD];
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(4, &3_u32.to_be_bytes());
        put(20, &16_u32.to_be_bytes());
        put(24, &(2_u64 << 30).to_be_bytes());
        put(36, &4_u32.to_be_bytes());
        put(40, &196_608_u64.to_be_bytes());
        put(48, &65_536_u64.to_be_bytes());
        put(56, &1_u32.to_be_bytes());
        put(100, &112_u32.to_be_bytes());
        head
    }

    fn said(head: &[u8], size: Option<u64>) -> Result<u64, String> {
        let source = ImageSource::File("x".into());
        judge(head, size, &source).map_err(|error| format!("{} ({})", error.what, error.hint))
    }

    #[track_caller]
    fn refused(head: &[u8], words: &[&str]) {
        let said = said(head, Some(1 << 20)).unwrap_err();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut head = header();
        head[at..at + bytes.len()].copy_from_slice(bytes);
        head
    }

    #[test]
    fn an_image_says_what_its_guest_sees() {
        assert_eq!(said(&header(), Some(1 << 20)), Ok(2 << 30));
        assert_eq!(said(&header(), None), Ok(2 << 30));
        assert_eq!(said(&with(4, &2_u32.to_be_bytes()), None), Ok(2 << 30));
    }

    #[test]
    fn what_is_none_is_named() {
        refused(b"", &["empty"]);
        refused(b"#!/bin/sh\necho hello\n", &["a text", "address"]);
        refused(b"<!DOCTYPE html><html>", &["HTML", "address"]);
        refused(b"\xfd7zXZ\0\0\x04", &["xz", "xz -dk", "digest"]);
        refused(b"\x1f\x8b\x08", &["gzip -dk"]);
        refused(b"KDMV\x01", &["VMware", "qemu-img convert"]);
        let mut tar = vec![0; HEAD];
        tar[257..262].copy_from_slice(b"ustar");
        refused(&tar, &["tar archive"]);
        let mut raw = vec![0; HEAD];
        raw[510..].copy_from_slice(b"\x55\xaa");
        refused(&raw, &["a raw image", "qemu-img convert"]);
        refused(&[0; HEAD], &["no image that lbctl knows"]);
        refused(&header()[..200], &["cut short"]);
        assert!(said(&header(), Some(70_000)).unwrap_err().contains("cut"));
    }

    #[test]
    fn an_image_decides_nothing_on_the_host() {
        refused(&with(8, &1000_u64.to_be_bytes()), &["backing file"]);
        refused(&with(72, &4_u64.to_be_bytes()), &["in another file"]);
        refused(&with(32, &2_u32.to_be_bytes()), &["encrypted"]);
        refused(&with(72, &2_u64.to_be_bytes()), &["damaged"]);
        refused(&with(4, &9_u32.to_be_bytes()), &["version 9"]);
        for capacity in [0, 1, 513, u64::MAX, 1 << 50] {
            refused(&with(24, &capacity.to_be_bytes()), &["no sense"]);
        }
        refused(&with(20, &60_u32.to_be_bytes()), &["no sense"]);
        refused(&with(40, &u64::MAX.to_be_bytes()), &["cut short"]);
    }
}
