//! Reading: what [`super::write`] writes, and the flat images of genisoimage, xorriso and
//! cloud-localds. Names come from Rock Ridge where there is one, else from Joliet, else from the
//! primary tree (lower case, without version).
//!
//! The bytes may be hostile. Every offset is checked by `get`, every loop moves forward in the
//! input or is counted, and what is copied (names and data) is never more than the input.

use super::{Entry, FILES_MAX, File, Image, IsoError, SECTOR, SYSTEM_AREA, read_tag};

/// Volume descriptors that are read; ordinary images have three or four.
const DESCRIPTORS_MAX: usize = 32;
/// Continuation areas followed for one record; names of up to 255 bytes need one.
const CONTINUATIONS_MAX: usize = 4;
/// Bytes of a name, as on POSIX systems.
const NAME_MAX: usize = 255;

/// Directory record flags (section 9.1.6).
const IS_DIRECTORY: u8 = 0x02;
const IS_ASSOCIATED: u8 = 0x04;
const IS_CONTINUED: u8 = 0x80;

type Slice<'a> = Result<&'a [u8], IsoError>;

/// The files in the root directory, sorted by name, with the label and the tag. Directories, links
/// and devices are passed over.
///
/// Errors: not ISO 9660, a damaged one, or one with what this reader does not know (other block
/// sizes, files in several pieces or compressed).
pub fn read(bytes: &[u8]) -> Result<Image, IsoError> {
    let (label, entries) = entries(bytes)?;
    let owned = |entry: Entry<'_>| File::new(entry.name, entry.data);
    Ok(Image {
        label,
        tag: read_tag(bytes).map(str::to_owned),
        files: entries.into_iter().map(owned).collect(),
    })
}

/// The same without a copy of the files' data: the label, and the files.
pub fn entries(bytes: &[u8]) -> Result<(String, Vec<Entry<'_>>), IsoError> {
    let volumes = descriptors(bytes)?;
    let primary = volumes.primary.ok_or(IsoError::NotIso)?;
    // A truncated image may still contain whole directories.
    if bytes.len() / SECTOR < number_32(primary, 80)? as usize {
        return Err(IsoError::Damaged("it is shorter than its header says"));
    }
    let root = Directory::open(bytes, primary)?;
    let sharing = root.sharing()?;
    let mut files = match (sharing, volumes.joliet) {
        (Some(skip), _) => root.files(&Names::RockRidge { skip })?,
        (None, Some(joliet)) => Directory::open(bytes, joliet)?.files(&Names::Joliet)?,
        (None, None) => root.files(&Names::Primary)?,
    };
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = files.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(IsoError::Duplicate(pair[0].name.clone()));
    }
    let label = String::from_utf8_lossy(field(primary, 40, 32)?);
    let label = label.trim_end_matches([' ', '\0']).to_owned();
    Ok((label, files))
}

struct Volumes<'a> {
    primary: Option<&'a [u8]>,
    joliet: Option<&'a [u8]>,
}

/// The first descriptor of each kind, up to the terminator (section 8.1).
fn descriptors(bytes: &[u8]) -> Result<Volumes<'_>, IsoError> {
    let mut found = Volumes {
        primary: None,
        joliet: None,
    };
    for sector in SYSTEM_AREA..SYSTEM_AREA + DESCRIPTORS_MAX {
        let descriptor = match bytes.get(sector * SECTOR..(sector + 1) * SECTOR) {
            Some(descriptor) if &descriptor[1..6] == b"CD001" => descriptor,
            _ if found.primary.is_none() => return Err(IsoError::NotIso),
            _ => return Err(IsoError::Damaged("its volume descriptors have no end")),
        };
        match descriptor[0] {
            1 => found.primary = found.primary.or(Some(descriptor)),
            2 if is_joliet(descriptor) => found.joliet = found.joliet.or(Some(descriptor)),
            255 => return Ok(found),
            _ => {}
        }
    }
    Err(IsoError::Damaged("its volume descriptors have no end"))
}

fn is_joliet(descriptor: &[u8]) -> bool {
    matches!(&descriptor[88..91], b"%/@" | b"%/C" | b"%/E")
}

/// How the files of a directory are named.
enum Names {
    RockRidge {
        /// Bytes to pass over at each system use field's beginning.
        skip: usize,
    },
    Joliet,
    Primary,
}

struct Directory<'a> {
    image: &'a [u8],
    records: Vec<Record<'a>>,
}

/// A directory record (section 9.1).
struct Record<'a> {
    sector: u32,
    bytes: u32,
    /// Sectors of an extended attribute record, which the data follows.
    attributes: u8,
    flags: u8,
    interleaved: bool,
    identifier: &'a [u8],
    system_use: &'a [u8],
}

impl<'a> Directory<'a> {
    /// The root directory of a volume.
    fn open(image: &'a [u8], descriptor: &'a [u8]) -> Result<Self, IsoError> {
        if number_16(descriptor, 128)? as usize != SECTOR {
            return Err(IsoError::Unsupported(
                "blocks of another size than 2048 bytes",
            ));
        }
        let root = Record::parse(field(descriptor, 156, 34)?)?;
        let content = root.data(image)?;
        let mut records = Vec::new();
        for sector in content.chunks(SECTOR) {
            let mut rest = sector;
            // A zero length ends the sector's records.
            while let Some(length) = rest.first().copied().filter(|length| *length > 0) {
                let (record, tail) = rest
                    .split_at_checked(usize::from(length))
                    .ok_or(IsoError::Damaged("a directory record is cut"))?;
                // Itself, its parent, and as many again for what is passed over.
                if records.len() > 2 * FILES_MAX {
                    return Err(IsoError::TooMany);
                }
                records.push(Record::parse(record)?);
                rest = tail;
            }
        }
        Ok(Self { image, records })
    }

    /// What the `SP` entry in the directory's own record says (SUSP, 5.3), if there is one.
    fn sharing(&self) -> Result<Option<usize>, IsoError> {
        let own = self
            .records
            .first()
            .ok_or(IsoError::Damaged("its root directory is empty"))?;
        match own.system_use {
            [b'S', b'P', 7, _, 0xbe, 0xef, skip, ..] => Ok(Some(usize::from(*skip))),
            // CD-ROM XA puts 14 bytes of its own before it.
            system_use => match system_use.get(14..) {
                Some([b'S', b'P', 7, _, 0xbe, 0xef, skip, ..]) => Ok(Some(usize::from(*skip))),
                _ => Ok(None),
            },
        }
    }

    fn files(&self, names: &Names) -> Result<Vec<Entry<'a>>, IsoError> {
        let mut budget = self.image.len();
        let mut files = Vec::new();
        let wanted = |record: &&Record<'_>| {
            record.flags & (IS_DIRECTORY | IS_ASSOCIATED) == 0
                && !matches!(record.identifier, [0 | 1])
        };
        for record in self.records.iter().filter(wanted) {
            let Some(name) = record.name(self.image, names)? else {
                continue;
            };
            if files.len() == FILES_MAX {
                return Err(IsoError::TooMany);
            }
            let data = record.file_data(self.image)?;
            budget = budget
                .checked_sub(data.len() + name.len())
                .ok_or(IsoError::TooBig)?;
            files.push(Entry { name, data });
        }
        Ok(files)
    }
}

impl<'a> Record<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, IsoError> {
        let byte = |at: usize| {
            bytes
                .get(at)
                .copied()
                .ok_or(IsoError::Damaged("a directory record is too short"))
        };
        let identifier = field(bytes, 33, usize::from(byte(32)?))?;
        // A pad byte makes the identifier's end even.
        let system_use = bytes.get(33 + (identifier.len() | 1)..).unwrap_or_default();
        Ok(Self {
            sector: number_32(bytes, 2)?,
            bytes: number_32(bytes, 10)?,
            attributes: byte(1)?,
            flags: byte(25)?,
            interleaved: byte(26)? != 0 || byte(27)? != 0,
            identifier,
            system_use,
        })
    }

    fn data(&self, image: &'a [u8]) -> Slice<'a> {
        // An empty file may point anywhere.
        if self.bytes == 0 {
            return Ok(&[]);
        }
        let sector = u64::from(self.sector) + u64::from(self.attributes);
        let start = usize::try_from(sector)
            .ok()
            .and_then(|s| s.checked_mul(SECTOR));
        let end = start.and_then(|s| s.checked_add(usize::try_from(self.bytes).ok()?));
        match (start, end) {
            (Some(start), Some(end)) => image.get(start..end),
            _ => None,
        }
        .ok_or(IsoError::Damaged(
            "a file or directory lies outside of the image",
        ))
    }

    fn file_data(&self, image: &'a [u8]) -> Slice<'a> {
        if self.flags & IS_CONTINUED != 0 || self.interleaved {
            return Err(IsoError::Unsupported("a file in several pieces"));
        }
        self.data(image)
    }

    /// The file's name, or `None` where this is not an ordinary file.
    fn name(&self, image: &'a [u8], names: &Names) -> Result<Option<String>, IsoError> {
        let name = match names {
            Names::RockRidge { skip } => {
                match RockRidge::read(image, self.system_use.get(*skip..).unwrap_or_default())? {
                    RockRidge {
                        ordinary: false, ..
                    } => return Ok(None),
                    RockRidge { name, .. } if name.is_empty() => self.primary_name(),
                    RockRidge { name, .. } => String::from_utf8(name)
                        .map_err(|_| IsoError::Damaged("a file name is not UTF-8"))?,
                }
            }
            Names::Joliet => self.joliet_name()?,
            Names::Primary => self.primary_name(),
        };
        let bad = name.is_empty() || name == "." || name == ".." || name.len() > NAME_MAX;
        if bad || name.contains(|c: char| c == '/' || c.is_control()) {
            return Err(IsoError::Damaged("a file name that no file can have"));
        }
        Ok(Some(name))
    }

    fn joliet_name(&self) -> Result<String, IsoError> {
        let units = self
            .identifier
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        let name: Result<String, _> = char::decode_utf16(units).collect();
        let name = name.map_err(|_| IsoError::Damaged("a Joliet name is not Unicode"))?;
        Ok(without_version(&name).to_owned())
    }

    fn primary_name(&self) -> String {
        let name = String::from_utf8_lossy(self.identifier);
        without_version(&name)
            .trim_end_matches('.')
            .to_ascii_lowercase()
    }
}

fn without_version(name: &str) -> &str {
    match name.rsplit_once(';') {
        Some((stem, version)) if version.bytes().all(|b| b.is_ascii_digit()) => stem,
        _ => name,
    }
}

/// What the system use entries of a record say (SUSP and Rock Ridge).
struct RockRidge {
    name: Vec<u8>,
    /// Neither link, device nor relocated directory.
    ordinary: bool,
}

impl RockRidge {
    fn read(image: &[u8], system_use: &[u8]) -> Result<Self, IsoError> {
        let mut found = Self {
            name: Vec::new(),
            ordinary: true,
        };
        let mut area = system_use;
        for _ in 0..=CONTINUATIONS_MAX {
            match found.entries(area)? {
                Some(next) => area = next.slice(image)?,
                None => return Ok(found),
            }
        }
        Err(IsoError::Damaged(
            "the fields of a directory record have no end",
        ))
    }

    /// Takes in the entries of one area; the continuation area, where one is named.
    fn entries(&mut self, mut area: &[u8]) -> Result<Option<Continuation>, IsoError> {
        let mut next = None;
        // Less than an entry's head is padding.
        while let [kind_0, kind_1, length, _version, ..] = *area {
            if length == 0 {
                break;
            }
            let (entry, rest) = area
                .split_at_checked(usize::from(length))
                .filter(|(entry, _)| entry.len() >= 4)
                .ok_or(IsoError::Damaged("a field of a directory record is cut"))?;
            match &[kind_0, kind_1] {
                b"NM" => self.name_piece(entry)?,
                b"PX" => self.ordinary &= number_32(entry, 4)? & 0o170_000 == 0o100_000,
                b"SL" | b"CL" | b"PN" => self.ordinary = false,
                b"ZF" => return Err(IsoError::Unsupported("compressed files")),
                b"CE" => next = Some(Continuation::parse(entry)?),
                b"ST" => break,
                _ => {}
            }
            area = rest;
        }
        Ok(next)
    }

    fn name_piece(&mut self, entry: &[u8]) -> Result<(), IsoError> {
        let piece = entry.get(5..).unwrap_or_default();
        if self.name.len() + piece.len() > NAME_MAX {
            return Err(IsoError::Damaged("a file name is too long"));
        }
        self.name.extend_from_slice(piece);
        Ok(())
    }
}

/// Where a record's system use field continues (SUSP, 5.1).
struct Continuation {
    sector: u32,
    offset: u32,
    length: u32,
}

impl Continuation {
    fn parse(entry: &[u8]) -> Result<Self, IsoError> {
        Ok(Self {
            sector: number_32(entry, 4)?,
            offset: number_32(entry, 12)?,
            length: number_32(entry, 20)?,
        })
    }

    fn slice<'a>(&self, image: &'a [u8]) -> Slice<'a> {
        let start = u64::from(self.sector) * SECTOR as u64 + u64::from(self.offset);
        let end = start + u64::from(self.length);
        match (usize::try_from(start), usize::try_from(end)) {
            // An area is a part of one sector.
            (Ok(start), Ok(end)) if self.length as usize <= SECTOR => image.get(start..end),
            _ => None,
        }
        .ok_or(IsoError::Damaged(
            "a continuation area lies outside of the image",
        ))
    }
}

fn field(bytes: &[u8], at: usize, length: usize) -> Slice<'_> {
    bytes
        .get(at..)
        .and_then(|rest| rest.get(..length))
        .ok_or(IsoError::Damaged("a record is too short"))
}

/// The little-endian half of a number in both orders.
fn number_32(bytes: &[u8], at: usize) -> Result<u32, IsoError> {
    let mut octets = [0; 4];
    octets.copy_from_slice(field(bytes, at, 4)?);
    Ok(u32::from_le_bytes(octets))
}

fn number_16(bytes: &[u8], at: usize) -> Result<u16, IsoError> {
    let mut octets = [0; 2];
    octets.copy_from_slice(field(bytes, at, 2)?);
    Ok(u16::from_le_bytes(octets))
}
