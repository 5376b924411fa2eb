//! Writing. Order of the image: tag and zeros, primary and Joliet descriptors, terminator, path
//! tables (one sector each), the two directories, the files' data, each from a sector's beginning.
//! Nothing behind it.

use super::{FILES_MAX, File, IsoError, SECTOR, SYSTEM_AREA, names, tag};

/// Most bytes of an image: far above any seed, and low enough that every number in it fits 32 bits.
pub const IMAGE_MAX: usize = 64 << 20;

/// The moment in all timestamps, 1980-01-01 00:00:00 UTC: long past for every reader, and the same
/// for ever. As in directory records (section 9.1.5: years since 1900 … offset from GMT).
const TIME: [u8; 7] = [80, 1, 1, 0, 0, 0, 0];
/// As in descriptors (section 8.4.26.1: digits, then the offset from GMT).
const LONG_TIME: &[u8; 17] = b"1980010100000000\0";
/// "Not specified" in the same form.
const NO_TIME: &[u8; 17] = b"0000000000000000\0";

/// POSIX modes (Rock Ridge): only root reads.
const DIRECTORY_MODE: u32 = 0o040_500;
const FILE_MODE: u32 = 0o100_400;
/// Directory record flag (section 9.1.6).
const IS_DIRECTORY: u8 = 2;

const PATH_TABLES: usize = SYSTEM_AREA + 3;
const PATH_TABLE_BYTES: u32 = 10;
const PRIMARY_ROOT: usize = PATH_TABLES + 4;

/// Where something lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileExtent {
    sector: u32,
    bytes: u32,
}

/// Which of the two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tree {
    Primary,
    Joliet,
}

/// Where everything of an image lies.
struct Layout<'a> {
    files: Vec<&'a File>,
    /// Of the files, in their order.
    extents: Vec<FileExtent>,
    roots: [FileExtent; 2],
    whole: FileExtent,
}

/// What [`write`] would fail with, without the image.
pub fn ensure_writable(label: &str, tag: Option<&str>, files: &[File]) -> Result<(), IsoError> {
    lay_out(label, files)?;
    tag.map_or(Ok(()), tag::ensure_fits)
}

fn lay_out<'a>(label: &str, files: &'a [File]) -> Result<Layout<'a>, IsoError> {
    names::check_label(label)?;
    let files = sorted(files)?;
    // Sizes do not depend on where things lie: a first pass with null extents measures the
    // directories.
    let null = vec![
        FileExtent {
            sector: 0,
            bytes: 0
        };
        files.len()
    ];
    let sizes = [Tree::Primary, Tree::Joliet]
        .map(|tree| directory(tree, &files, &null, null_extent()).len());
    let joliet_root = PRIMARY_ROOT + sizes[0] / SECTOR;
    let mut next = joliet_root + sizes[1] / SECTOR;
    let mut extents = Vec::with_capacity(files.len());
    for file in &files {
        extents.push(extent(next, file.data.len())?);
        next = next
            .checked_add(file.data.len().div_ceil(SECTOR))
            .ok_or(IsoError::TooBig)?;
    }
    Ok(Layout {
        whole: extent(next, 0)?,
        roots: [
            extent(PRIMARY_ROOT, sizes[0])?,
            extent(joliet_root, sizes[1])?,
        ],
        files,
        extents,
    })
}

/// The bytes of the [`super::Image`] of these, a whole number of sectors.
///
/// Errors: an unfit or repeated name, label or tag, too many files or too much data.
pub fn write(label: &str, tag: Option<&str>, files: &[File]) -> Result<Vec<u8>, IsoError> {
    let Layout {
        files,
        extents,
        roots,
        whole,
    } = lay_out(label, files)?;
    let mut out = vec![0; whole.sector as usize * SECTOR];
    if let Some(line) = tag {
        tag::put(&mut out, line)?;
    }
    let mut place =
        |sector: usize, bytes: &[u8]| out[sector * SECTOR..][..bytes.len()].copy_from_slice(bytes);
    for (i, (tree, root)) in [Tree::Primary, Tree::Joliet]
        .into_iter()
        .zip(roots)
        .enumerate()
    {
        place(
            SYSTEM_AREA + i,
            &descriptor(tree, label, whole.sector, root),
        );
        let [little, big] = path_tables(root);
        place(PATH_TABLES + 2 * i, &little);
        place(PATH_TABLES + 2 * i + 1, &big);
        place(
            root.sector as usize,
            &directory(tree, &files, &extents, root),
        );
    }
    place(SYSTEM_AREA + 2, b"\xffCD001\x01");
    for (file, extent) in files.iter().zip(&extents) {
        place(extent.sector as usize, &file.data);
    }
    Ok(out)
}

/// By name, which makes the image independent of the order given.
fn sorted(files: &[File]) -> Result<Vec<&File>, IsoError> {
    if files.len() > FILES_MAX {
        return Err(IsoError::TooMany);
    }
    for file in files {
        names::check_file(&file.name)?;
    }
    let mut files: Vec<&File> = files.iter().collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    match files.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(IsoError::Duplicate(pair[0].name.clone())),
        None => Ok(files),
    }
}

fn null_extent() -> FileExtent {
    FileExtent {
        sector: 0,
        bytes: 0,
    }
}

fn extent(sector: usize, bytes: usize) -> Result<FileExtent, IsoError> {
    let end = sector
        .checked_mul(SECTOR)
        .and_then(|start| start.checked_add(bytes))
        .ok_or(IsoError::TooBig)?;
    if end > IMAGE_MAX {
        return Err(IsoError::TooBig);
    }
    let number = |n: usize| u32::try_from(n).map_err(|_| IsoError::TooBig);
    Ok(FileExtent {
        sector: number(sector)?,
        bytes: number(bytes)?,
    })
}

/// A volume descriptor (sections 8.4 and 8.5).
fn descriptor(tree: Tree, label: &str, sectors: u32, root: FileExtent) -> Vec<u8> {
    let (kind, escape): (u8, &[u8]) = match tree {
        Tree::Primary => (1, b""),
        // UCS-2 level 3, the tag of Joliet.
        Tree::Joliet => (2, b"%/E"),
    };
    let first_table = u32_of(PATH_TABLES + if tree == Tree::Primary { 0 } else { 2 });
    let mut out = vec![kind];
    out.extend(b"CD001\x01\0");
    out.extend(text(tree, "LINUX", 32));
    out.extend(text(tree, label, 32));
    out.extend([0; 8]);
    out.extend(both_32(sectors));
    out.extend(padded(escape, 32, 0));
    // One volume in the set, this is the first, and a block is a sector.
    out.extend([1, 1, 2048].map(both_16).concat());
    out.extend(both_32(PATH_TABLE_BYTES));
    out.extend(first_table.to_le_bytes());
    out.extend([0; 4]);
    out.extend((first_table + 1).to_be_bytes());
    out.extend([0; 4]);
    out.extend(record(b"\0", root, IS_DIRECTORY, &[]));
    for (value, length) in [
        ("", 128),
        ("", 128),
        ("", 128),
        ("LBCTL", 128),
        ("", 37),
        ("", 37),
        ("", 37),
    ] {
        out.extend(text(tree, value, length));
    }
    for time in [LONG_TIME, LONG_TIME, NO_TIME, NO_TIME] {
        out.extend(time);
    }
    out.push(1);
    padded(&out, SECTOR, 0)
}

/// The path tables with the root alone, little and big endian (section 9.4).
fn path_tables(root: FileExtent) -> [Vec<u8>; 2] {
    let little = [&[1, 0][..], &root.sector.to_le_bytes(), &[1, 0, 0, 0]].concat();
    let big = [&[1, 0][..], &root.sector.to_be_bytes(), &[0, 1, 0, 0]].concat();
    [little, big]
}

/// The root directory: itself, its parent (itself again) and the files, sorted as section 9.3 asks.
fn directory(tree: Tree, files: &[&File], extents: &[FileExtent], root: FileExtent) -> Vec<u8> {
    let given: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let names = match tree {
        Tree::Primary => names::primary(&given),
        // Without the version that the specification asks for, as genisoimage and xorriso write
        // them.
        Tree::Joliet => given.iter().map(|name| (*name).to_owned()).collect(),
    };
    let mut entries: Vec<(String, &str, FileExtent)> = names
        .into_iter()
        .zip(given)
        .zip(extents)
        .map(|((name, given), extent)| (name, given, *extent))
        .collect();
    entries.sort_by(|a, b| names::sort_key(&a.0).cmp(&names::sort_key(&b.0)));

    let mut records = match tree {
        Tree::Primary => vec![
            record(
                b"\0",
                root,
                IS_DIRECTORY,
                &[sharing(), posix(DIRECTORY_MODE, 2), extensions()].concat(),
            ),
            record(b"\x01", root, IS_DIRECTORY, &posix(DIRECTORY_MODE, 2)),
        ],
        Tree::Joliet => vec![
            record(b"\0", root, IS_DIRECTORY, &[]),
            record(b"\x01", root, IS_DIRECTORY, &[]),
        ],
    };
    records.extend(entries.iter().map(|(name, given, extent)| match tree {
        Tree::Primary => record(
            name.as_bytes(),
            *extent,
            0,
            &[posix(FILE_MODE, 1), real_name(given)].concat(),
        ),
        Tree::Joliet => record(&ucs2(name), *extent, 0, &[]),
    }));

    let mut out = Vec::new();
    for record in records {
        // No record crosses a sector's end (section 6.8.1.1).
        if out.len() % SECTOR + record.len() > SECTOR {
            out.resize(out.len().next_multiple_of(SECTOR), 0);
        }
        out.extend(record);
    }
    out.resize(out.len().next_multiple_of(SECTOR), 0);
    out
}

/// A directory record (section 9.1) with its system use field.
fn record(identifier: &[u8], extent: FileExtent, flags: u8, system_use: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(both_32(extent.sector));
    out.extend(both_32(extent.bytes));
    out.extend(TIME);
    out.extend([flags, 0, 0]);
    out.extend(both_16(1));
    out.push(u8_of(identifier.len()));
    out.extend(identifier);
    even(&mut out);
    out.extend(system_use);
    even(&mut out);
    out[0] = u8_of(out.len());
    out
}

/// SUSP's own entry, first in the root: `SP`.
fn sharing() -> Vec<u8> {
    b"SP\x07\x01\xbe\xef\x00".to_vec()
}

/// SUSP's entry that names Rock Ridge: `ER`. Short enough to need no continuation area.
fn extensions() -> Vec<u8> {
    const ID: &[u8] = b"RRIP_1991A";
    const TEXT: &[u8] =
        b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS";
    let lengths = [8 + ID.len() + TEXT.len(), 1, ID.len(), TEXT.len(), 0, 1].map(u8_of);
    [b"ER", &lengths[..], ID, TEXT].concat()
}

/// Rock Ridge's `PX` (mode, links, owner and group root) and `TF` (modified, accessed, changed).
fn posix(mode: u32, links: u32) -> Vec<u8> {
    let numbers = [mode, links, 0, 0].map(both_32).concat();
    [
        b"PX\x24\x01",
        &numbers[..],
        b"TF\x1a\x01\x0e",
        &TIME,
        &TIME,
        &TIME,
    ]
    .concat()
}

/// Rock Ridge's `NM`.
fn real_name(name: &str) -> Vec<u8> {
    [b"NM", &[u8_of(5 + name.len()), 1, 0][..], name.as_bytes()].concat()
}

fn text(tree: Tree, value: &str, length: usize) -> Vec<u8> {
    match tree {
        Tree::Primary => padded(value.as_bytes(), length, b' '),
        // Of an odd length, the last byte stays zero.
        Tree::Joliet => padded(
            &ucs2(&format!("{value:<width$}", width = length / 2)),
            length,
            0,
        ),
    }
}

fn ucs2(value: &str) -> Vec<u8> {
    value.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn padded(bytes: &[u8], length: usize, filler: u8) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(length, filler);
    out
}

fn even(bytes: &mut Vec<u8>) {
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
}

/// Both byte orders, one behind the other (section 7.3.3).
fn both_32(n: u32) -> Vec<u8> {
    [n.to_le_bytes(), n.to_be_bytes()].concat()
}

fn both_16(n: u16) -> Vec<u8> {
    [n.to_le_bytes(), n.to_be_bytes()].concat()
}

/// For lengths that the names' limits keep below 256.
fn u8_of(n: usize) -> u8 {
    debug_assert!(n < 256);
    n.to_le_bytes()[0]
}

/// For sector numbers fixed in this file.
fn u32_of(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
