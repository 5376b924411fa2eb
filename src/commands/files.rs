//! Files that an operator asks for in a folder: each one is whole or not there.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::exit::{Exit, Failure, MessageId};
use crate::output::Output;

/// Who may read the files, whatever the umask.
#[derive(Clone, Copy)]
pub(super) enum Readers {
    /// They may hold secrets.
    Owner,
    Everyone,
}

impl Readers {
    fn directory_mode(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Everyone => 0o755,
        }
    }

    fn file_mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        }
    }
}

/// Writes the files, each a name and its data, into a folder that is made where it is not there.
/// Each path is said once its file is there.
pub(super) fn write_all<'a>(
    directory: &Path,
    readers: Readers,
    files: impl IntoIterator<Item = (String, &'a [u8])>,
    out: &Output,
) -> Result<(), Failure> {
    let fail = |doing: String, error: &io::Error| {
        let hint = "choose another directory with --out, or make that one writable";
        let id = MessageId::FileNotWritten;
        Failure::new(Exit::Failed, id, format!("{doing}: {error}"), hint)
    };
    DirBuilder::new()
        .recursive(true)
        .mode(readers.directory_mode())
        .create(directory)
        .map_err(|e| fail(format!("creating directory {}", directory.display()), &e))?;
    for (name, data) in files {
        let path = directory.join(&name);
        write_whole(directory, &name, data, readers.file_mode())
            .map_err(|e| fail(format!("writing {}", path.display()), &e))?;
        out.say(&path.display().to_string());
    }
    Ok(())
}

/// Writes the file aside, where nobody else may read it, and puts it in its place when it is whole.
/// The name aside is the same each time: what a killed lbctl has left there, perhaps with secrets
/// in it, is removed by the next one.
fn write_whole(directory: &Path, name: &str, data: &[u8], mode: u32) -> io::Result<()> {
    let aside = directory.join(format!(".{name}.new"));
    remove(&aside)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    let written = file
        .write_all(data)
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&aside, directory.join(name)));
    if written.is_err() {
        // The first error is the one that is reported.
        let _ = remove(&aside);
    }
    written
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_takes_the_place_of_the_old_one_and_of_a_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for mode in [0o600, 0o644] {
            fs::write(folder.join(".a.new"), "half of").unwrap();
            write_whole(folder, "a", b"whole", mode).unwrap();
            assert_eq!(fs::read(folder.join("a")).unwrap(), b"whole");
            let found = fs::metadata(folder.join("a")).unwrap().permissions();
            assert_eq!(found.mode() & 0o777, mode);
            assert_eq!(names(folder), ["a"]);
        }
    }

    #[test]
    fn nothing_is_left_of_a_file_that_could_not_be_put_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir_all(folder.join("a/b")).unwrap();
        write_whole(folder, "a", b"whole", 0o600).unwrap_err();
        assert_eq!(names(folder), ["a"]);
    }
}
