//! Access to what a configuration refers to: files and the environment. No meaning of what is read
//! belongs here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longest value that a `{ file = … }` may have, in bytes. Far above any PEM; below what would
/// hurt.
pub const MAX_INPUT: u64 = 1024 * 1024;

/// Where `{ file = … }` and `{ env = … }` are looked up.
pub trait Inputs {
    /// The content of a file, of which no more than [`MAX_INPUT`] + 1 bytes need be given. A
    /// relative path starts at the folder of the configuration.
    fn file(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The value of an environment variable; `None` where it is not set.
    fn env(&self, name: &str) -> Option<OsString>;
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

    fn env(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }
}

/// Files and variables in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryInputs {
    /// By the path exactly as the configuration has it. An error kind stands for a file that
    /// cannot be read.
    pub files: BTreeMap<PathBuf, Result<Vec<u8>, io::ErrorKind>>,
    pub env: BTreeMap<String, String>,
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
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
