//! The line in the system area. The area is free by the standard (6.2.1), zero in ordinary images,
//! and boot code in hybrid ones; blkid, the kernel and cloud-init read what follows it.

use super::{IsoError, SECTOR, SYSTEM_AREA};

/// Most bytes of a tag. With the line's end it fits the first 512 bytes, so that reading those is
/// enough.
pub const TAG_MAX: usize = 511;

/// The tag of an image, or of as much of its beginning as was read (at least 512 bytes). `None` for
/// everything that [`super::write`] does not put there: no line, characters other than printable
/// ASCII, anything but zeros behind it.
#[must_use]
pub fn read_tag(bytes: &[u8]) -> Option<&str> {
    let head = bytes.get(..=TAG_MAX)?;
    let end = head.iter().position(|b| *b == b'\n')?;
    let (line, area) = (
        &head[..end],
        &bytes[..bytes.len().min(SYSTEM_AREA * SECTOR)],
    );
    let blank = area[end + 1..].iter().all(|b| *b == 0);
    if !blank || !is_tag(line) {
        return None;
    }
    std::str::from_utf8(line).ok()
}

/// Puts the tag at the beginning of an image whose system area is zero.
pub(super) fn put(image: &mut [u8], tag: &str) -> Result<(), IsoError> {
    ensure_fits(tag)?;
    let line = tag.as_bytes();
    let area = image.get_mut(..=line.len()).ok_or(IsoError::Tag)?;
    area[..line.len()].copy_from_slice(line);
    area[line.len()] = b'\n';
    Ok(())
}

pub(super) fn ensure_fits(tag: &str) -> Result<(), IsoError> {
    let line = tag.as_bytes();
    if is_tag(line) && line.len() <= TAG_MAX {
        Ok(())
    } else {
        Err(IsoError::Tag)
    }
}

fn is_tag(line: &[u8]) -> bool {
    !line.is_empty() && line.iter().all(|b| (b' '..=b'~').contains(b))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_whole_line_and_zeros_are_a_tag() {
        let area = |text: &[u8]| {
            let mut bytes = vec![0u8; 600];
            bytes[..text.len()].copy_from_slice(text);
            bytes
        };
        let longest = [&b"m".repeat(TAG_MAX)[..], b"\n"].concat();
        let too_long = [&b"m".repeat(TAG_MAX + 1)[..], b"\n"].concat();
        for (text, expected) in [
            (
                &b"lbctl seed v1 vm=lb-1\n"[..],
                Some("lbctl seed v1 vm=lb-1"),
            ),
            (b"~ \n", Some("~ ")),
            (&longest, Some(str::from_utf8(&longest[..TAG_MAX]).unwrap())),
            (&too_long, None),
            (b"", None),
            (b"\n", None),
            (b"no end", None),
            (b"a line\nand more", None),
            (b"a line\n\n", None),
            (b"a\ttab\n", None),
            (b"\xc3\xa9\n", None),
            (b"a\0b\n", None),
            (b"cr\r\n", None),
        ] {
            assert_eq!(read_tag(&area(text)), expected, "{text:?}");
        }
        assert_eq!(read_tag(b"short\n"), None);
        let mut late = area(b"line\n");
        late[599] = 1;
        assert_eq!(read_tag(&late), None);
    }
}
