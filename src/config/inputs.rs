//! Access to what a configuration refers to: files and the environment. No meaning of what is read
//! belongs here.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use super::types::Sha256;

/// Longest value that a `{ file = … }` may have, in bytes. Far above any PEM; below what would
/// hurt.
pub const MAX_INPUT: u64 = 1024 * 1024;

/// Where `{ file = … }` and `{ env = … }` are looked up.
pub trait Inputs {
    /// The content of a file, of which no more than [`MAX_INPUT`] + 1 bytes need be given. A
    /// relative path starts at the folder of the configuration.
    fn file(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Whether it can be opened. Nothing is read.
    fn ensure_readable(&self, path: &Path) -> io::Result<()> {
        self.file(path).map(drop)
    }
    /// Where such a path leads.
    fn path(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }
    /// The digest of a file of any length.
    fn digest(&self, path: &Path) -> io::Result<Sha256> {
        self.file(path).map(|content| Sha256::of(&content))
    }
    /// The value of an environment variable; `None` where it is not set.
    fn env(&self, name: &str) -> Option<OsString>;
    /// Whether every user of this machine may read the file.
    fn is_open_to_all(&self, path: &Path) -> bool;
    /// The same for what is read later.
    fn to_shared(&self) -> Arc<dyn Inputs + Send + Sync>;
}

/// The real files, relative to `base`, and the real environment.
#[derive(Debug, Clone)]
pub struct SystemInputs {
    pub base: PathBuf,
}

impl Inputs for SystemInputs {
    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        read_bounded(&self.base.join(path), MAX_INPUT)
    }

    fn ensure_readable(&self, path: &Path) -> io::Result<()> {
        let file = File::open(self.base.join(path))?;
        if file.metadata()?.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        Ok(())
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    fn digest(&self, path: &Path) -> io::Result<Sha256> {
        let mut file = File::open(self.base.join(path))?;
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(Sha256::from_bytes(context.finish().as_ref()));
            }
            context.update(buffer.get(..count).unwrap_or_default());
        }
    }

    fn env(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn is_open_to_all(&self, path: &Path) -> bool {
        is_open_to_all(&self.base.join(path))
    }

    fn to_shared(&self) -> Arc<dyn Inputs + Send + Sync> {
        Arc::new(self.clone())
    }
}

/// Files and variables in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryInputs {
    /// By the path exactly as the configuration has it. An error kind stands for a file that
    /// cannot be read.
    pub files: BTreeMap<PathBuf, Result<Vec<u8>, io::ErrorKind>>,
    pub env: BTreeMap<String, String>,
    /// Those of the files that every user may read.
    pub open_to_all: BTreeSet<PathBuf>,
}

impl Inputs for MemoryInputs {
    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self
            .files
            .get(path)
            .cloned()
            .unwrap_or(Err(io::ErrorKind::NotFound));
        found.map_err(|kind| match kind {
            // In the system's own words.
            io::ErrorKind::NotFound => io::Error::from_raw_os_error(libc::ENOENT),
            io::ErrorKind::PermissionDenied => io::Error::from_raw_os_error(libc::EACCES),
            io::ErrorKind::IsADirectory => io::Error::from_raw_os_error(libc::EISDIR),
            other => io::Error::from(other),
        })
    }

    fn env(&self, name: &str) -> Option<OsString> {
        self.env.get(name).map(OsString::from)
    }

    fn is_open_to_all(&self, path: &Path) -> bool {
        self.open_to_all.contains(path)
    }

    fn to_shared(&self) -> Arc<dyn Inputs + Send + Sync> {
        Arc::new(self.clone())
    }
}

/// Whether others may read the file, by its mode and by those of all folders above it.
pub(super) fn is_open_to_all(path: &Path) -> bool {
    const READ: u32 = 0o004;
    const ENTER: u32 = 0o001;
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    let allows = |path: &Path, bit| {
        path.metadata()
            .is_ok_and(|facts| facts.permissions().mode() & bit != 0)
    };
    allows(&path, READ) && path.ancestors().skip(1).all(|folder| allows(folder, ENTER))
}

/// At most `limit` + 1 bytes of a file, so that the caller can tell that there is more.
pub(super) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(limit + 1)
        .read_to_end(&mut content)?;
    Ok(content)
}

/// What the system said, without the number that only its developers know.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
