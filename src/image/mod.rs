//! An image of an operating system, of which lbctl makes a base volume: where it comes from, what
//! its header says, and whether its bytes are those that the configuration means. Nothing here
//! knows libvirt.
//!
//! Invariant: an [`Image`] gives its first bytes last, and only if all of it had the digest. Until
//! they are written, what was written of it is no image.

mod fetch;
mod qcow2;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use crate::config::{BaseImage, ImageSource, Sha256};

pub use fetch::Watch;

/// What is given last: no more than a sector, and all that makes a file an image.
pub const HEAD: usize = 512;
/// Larger than any image that is meant so.
pub const MOST: u64 = 1 << 40;
const CHUNK: usize = 256 * 1024;

/// What is known of an image before it is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageFacts {
    /// Bytes of the file. `None`: the server does not say.
    pub size: Option<u64>,
    /// Bytes that the guest sees.
    pub capacity: u64,
}

/// Why an image cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageError {
    pub kind: ImageErrorKind,
    /// What it is about, fit for a message.
    pub what: String,
    pub hint: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageErrorKind {
    /// It cannot be read or fetched.
    Unreadable,
    /// It is none that lbctl takes.
    Unfit,
    /// It has another digest than the configuration says.
    Digest,
    /// A signal came.
    Stopped,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for ImageError {}

impl ImageError {
    fn new(kind: ImageErrorKind, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            hint: hint.into(),
        }
    }

    fn unreadable(of: &impl fmt::Display, said: impl fmt::Display, hint: &str) -> Self {
        Self::new(ImageErrorKind::Unreadable, format!("{of}: {said}"), hint)
    }

    fn stopped() -> Self {
        Self::new(ImageErrorKind::Stopped, "stopped while it was fetched", "")
    }

    fn digest(of: &impl fmt::Display, found: &Sha256, wanted: &Sha256) -> Self {
        Self::new(
            ImageErrorKind::Digest,
            format!("{of} has the digest {found}, not {wanted}"),
            "check where the image is from: if this is the one that is meant, give that digest as sha256",
        )
    }
}

/// What can be said of an image without having it: of a file everything, its digest too; of a URL
/// what its first bytes say.
pub fn inspect(image: &BaseImage) -> Result<ImageFacts, ImageError> {
    match &image.source {
        ImageSource::File(path) => {
            let mut file = open(path)?;
            let facts = facts(&mut file, &image.source)?;
            let found = digest(&mut file).map_err(|error| unreadable_file(path, &error))?;
            if found != image.sha256 {
                return Err(ImageError::digest(&image.source, &found, &image.sha256));
            }
            Ok(facts)
        }
        ImageSource::Url(url) => fetch::peek(url, &image.source),
    }
}

/// An image that is there, to be read once.
#[derive(Debug)]
pub struct Image {
    file: File,
    size: u64,
    capacity: u64,
    /// As found at the beginning, and given last.
    head: [u8; HEAD],
    seen: Hash,
    /// Bytes that were given of what follows the head.
    given: u64,
    wanted: Sha256,
    source: ImageSource,
    /// To be removed when it is not needed any more.
    cached: Option<PathBuf>,
}

impl Image {
    /// Opens or fetches it. What was fetched has the digest; a file is judged while it is read.
    pub fn obtain(image: &BaseImage, watch: &mut Watch<'_>) -> Result<Self, ImageError> {
        let (mut file, cached) = match &image.source {
            ImageSource::File(path) => (open(path)?, None),
            ImageSource::Url(url) => {
                let (file, path) = fetch::fetch(url, image, watch)?;
                (file, Some(path))
            }
        };
        let facts = facts(&mut file, &image.source)?;
        let mut head = [0; HEAD];
        let read = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.read_exact(&mut head));
        let unreadable = |error| ImageError::unreadable(&image.source, error, "");
        read.map_err(unreadable)?;
        let mut seen = Hash::new();
        seen.update(&head);
        Ok(Self {
            file,
            size: facts.size.unwrap_or_default(),
            capacity: facts.capacity,
            head,
            seen,
            given: 0,
            wanted: image.sha256.clone(),
            source: image.source.clone(),
            cached,
        })
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Where what [`Image::read`] gives begins, and how much it is.
    #[must_use]
    pub fn body(&self) -> (u64, u64) {
        (HEAD as u64, self.size.saturating_sub(HEAD as u64))
    }

    /// The next bytes behind the head. 0: there are no more.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.body().1.saturating_sub(self.given);
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = match buffer.get_mut(..most) {
            Some(space) => self.file.read(space)?,
            None => 0,
        };
        self.seen.update(buffer.get(..count).unwrap_or_default());
        self.given += count as u64;
        Ok(count)
    }

    /// The first bytes, once everything behind them was read and had the digest with them.
    pub fn head(&mut self) -> Result<&[u8], ImageError> {
        let seen = std::mem::replace(&mut self.seen, Hash::new());
        let found = seen.finish();
        if self.given != self.body().1 || found != self.wanted {
            return Err(ImageError::digest(&self.source, &found, &self.wanted));
        }
        Ok(&self.head)
    }

    /// Removes what was fetched: the pool has it now.
    pub fn discard(self) {
        if let Some(path) = &self.cached {
            let _ = fs::remove_file(path); // only room on the disk
        }
    }
}

/// SHA-256 as it is made.
struct Hash(Context);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

impl Hash {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Sha256 {
        Sha256::from_bytes(self.0.finish().as_ref())
    }
}

/// Of a whole file.
fn digest(file: &mut File) -> io::Result<Sha256> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut buffer) = (Hash::new(), vec![0; CHUNK]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hash.finish());
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
}

fn open(path: &Path) -> Result<File, ImageError> {
    let opened = File::open(path).and_then(|file| {
        let kind = file.metadata()?.file_type();
        if kind.is_file() {
            Ok(file)
        } else {
            Err(io::Error::other("it is not a regular file"))
        }
    });
    opened.map_err(|error| unreadable_file(path, &error))
}

fn unreadable_file(path: &Path, error: &io::Error) -> ImageError {
    let source = ImageSource::File(path.to_owned());
    let help = "correct the path, which starts at the folder of the configuration";
    ImageError::unreadable(&source, crate::config::reason(error), help)
}

fn facts(file: &mut File, source: &ImageSource) -> Result<ImageFacts, ImageError> {
    let help = "";
    let unreadable = |error: io::Error| ImageError::unreadable(source, error, help);
    let size = file.metadata().map_err(unreadable)?.len();
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    file.take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(unreadable)?;
    let capacity = qcow2::judge(&head, Some(size), source)?;
    let size = Some(size);
    Ok(ImageFacts { size, capacity })
}
