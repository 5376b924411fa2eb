//! The seed's image: ISO 9660 with Rock Ridge and Joliet for a few flat files, written and read
//! without any tool. Deterministic: the same files, label and tag are the same bytes, in whatever
//! order the files come. What does not belong here: what the files say, and where the image is
//! stored.
//!
//! Sources: ECMA-119 (ISO 9660), IEEE P1281 (SUSP) and P1282 (Rock Ridge, as `RRIP_1991A`),
//! Microsoft's Joliet specification. Section numbers in comments are ECMA-119's (4th edition).

mod names;
mod read;
mod tag;
mod write;

use std::fmt;

pub use read::{entries, read};
pub use tag::read_tag;
pub use write::{IMAGE_MAX, ensure_writable, write};

/// Bytes of a sector, and of a logical block.
pub(crate) const SECTOR: usize = 2048;
/// Sectors before the first volume descriptor, free for other uses (section 6.2.1).
pub(crate) const SYSTEM_AREA: usize = 16;
/// How many files an image may hold, on writing and on reading.
pub const FILES_MAX: usize = 256;

/// One file. Its `Debug` shows the length only: seeds hold keys and passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// To be written: 1 to 64 characters of `a-z A-Z 0-9 . _ -`, a dot neither first nor last.
    pub name: String,
    pub data: Vec<u8>,
}

impl File {
    #[must_use]
    pub fn new(name: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            data: data.into(),
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.data.len())
    }
}

/// One file of an image that was read, within the image's bytes.
pub struct Entry<'a> {
    pub name: String,
    pub data: &'a [u8],
}

/// What a whole image holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The volume label, which blkid reports: `cidata` for cloud-init. 1 to 16 characters of `a-z
    /// A-Z 0-9 _ -`.
    pub label: String,
    /// A line in the system area by which lbctl knows its own seed, for a libvirt volume has no
    /// metadata. Printable ASCII without the line's end, at most [`TAG_MAX`] bytes.
    pub tag: Option<String>,
    pub files: Vec<File>,
}

/// Why an image could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IsoError {
    /// Writing: a label that not every reader shows as it is.
    Label(String),
    /// Writing: a tag that is empty, too long or not one line of printable ASCII.
    Tag,
    /// Writing: a file name that not every reader shows as it is.
    Name(String),
    /// A file name that comes twice.
    Duplicate(String),
    /// More than [`FILES_MAX`] files.
    TooMany,
    /// Writing: the image would be larger than [`IMAGE_MAX`]. Reading: its files claim more than
    /// the image holds.
    TooBig,
    /// Reading: no ISO 9660 at all.
    NotIso,
    /// Reading: an ISO 9660 that contradicts itself or is cut; what is wrong.
    Damaged(&'static str),
    /// Reading: valid, but of a kind that a seed never has; what it has.
    Unsupported(&'static str),
}

impl fmt::Display for IsoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(label) => write!(f, "a label that an image cannot have: {label:?}"),
            Self::Tag => f.write_str(
                "a tag that an image cannot have: one line of printable ASCII is expected",
            ),
            Self::Name(name) => write!(f, "a file name that an image cannot have: {name:?}"),
            Self::Duplicate(name) => write!(f, "a file name that comes twice: {name:?}"),
            Self::TooMany => write!(f, "more than {FILES_MAX} files"),
            Self::TooBig => f.write_str("more data than an image may hold"),
            Self::NotIso => f.write_str("not an ISO 9660 image"),
            Self::Damaged(what) => write!(f, "a damaged ISO 9660 image: {what}"),
            Self::Unsupported(what) => {
                write!(f, "an ISO 9660 image with {what}, which no seed has")
            }
        }
    }
}

impl std::error::Error for IsoError {}
