//! What a disk's own header says: whether a disk that is read as qcow2 leads QEMU to other files.

/// Enough of a header's beginning (qcow2's specification, docs/interop/qcow2.rst in QEMU).
pub const HEADER: u64 = 104;

/// A disk by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// qcow2 that refers to no other file: whoever wrote it, it holds nothing of the host's.
    Alone,
    /// qcow2 with a backing file or an external data file, or something else.
    Other,
}

/// A field of a header; its numbers begin with the highest byte.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let field = bytes.get(at..at + length)?;
    Some(
        field
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

/// Whether QEMU cannot grow the disk: a qcow2 of version 2 that holds snapshots.
#[must_use]
pub fn has_a_fixed_size(bytes: &[u8]) -> bool {
    let snapshots = number(bytes, 60, 4).is_some_and(|count| count > 0);
    bytes.starts_with(b"QFI\xfb") && number(bytes, 4, 4) == Some(2) && snapshots
}

impl Header {
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let features = match number(bytes, 4, 4) {
            Some(2) => Some(0),
            Some(3) => number(bytes, 72, 8),
            _ => None,
        };
        // Bit 2 of the incompatible features: the data is in another file.
        let alone = bytes.starts_with(b"QFI\xfb")
            && number(bytes, 8, 8) == Some(0)
            && features.is_some_and(|bits| bits & 4 == 0);
        if alone { Self::Alone } else { Self::Other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_of_version_2_with_snapshots_cannot_grow() {
        let header = |version: u8, snapshots: u8| {
            let mut bytes = vec![0; 104];
            bytes[..4].copy_from_slice(b"QFI\xfb");
            (bytes[7], bytes[63]) = (version, snapshots);
            bytes
        };
        assert!(has_a_fixed_size(&header(2, 1)));
        assert!(!has_a_fixed_size(&header(2, 0)));
        assert!(!has_a_fixed_size(&header(3, 1)));
        assert!(!has_a_fixed_size(&[]));
    }

    #[test]
    fn a_disk_that_leads_elsewhere_is_known_by_its_header() {
        let header = |version: u8, backing: u8, features: u8| {
            let mut bytes = vec![0; 104];
            bytes[..4].copy_from_slice(b"QFI\xfb");
            (bytes[7], bytes[15], bytes[79]) = (version, backing, features);
            bytes
        };
        for (bytes, is) in [
            (header(3, 0, 0), Header::Alone),
            (header(3, 0, 3), Header::Alone),
            (header(3, 0, 4), Header::Other),
            (header(3, 104, 0), Header::Other),
            (header(2, 0, 4), Header::Alone),
            (header(2, 72, 0), Header::Other),
            (header(4, 0, 0), Header::Other),
            (header(3, 0, 0)[..76].to_vec(), Header::Other),
            (b"KDMV".to_vec(), Header::Other),
            (Vec::new(), Header::Other),
        ] {
            assert_eq!(Header::read(&bytes), is, "{bytes:?}");
        }
    }
}
