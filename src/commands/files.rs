//! Files that an operator asks for in a folder: each one is whole or not there.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

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
/// All are written aside first: where one does not fit, none takes its place. Each path is said
/// once all files are there.
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
    let mut staged = Staged::default();
    let mut paths = Vec::new();
    for (name, data) in files {
        let path = directory.join(&name);
        staged
            .add(&path, data, readers.file_mode())
            .map_err(|e| fail(format!("writing {}", path.display()), &e))?;
        paths.push(path);
    }
    staged
        .put_in_place()
        .map_err(|(path, e)| fail(format!("writing {}", path.display()), &e))?;
    for path in paths {
        out.say(path.display().to_string());
    }
    Ok(())
}

/// Writes files, each a name, its data and its readers, into a folder that is made where it is not
/// there. None takes the place of another file: where one is there, none is written.
pub(super) fn create_all(
    directory: &Path,
    files: &[(&str, &[u8], Readers)],
) -> Result<Vec<PathBuf>, Failure> {
    let fail = |doing: String, error: &io::Error| {
        let hint = "choose another directory with --out, or make that one writable";
        let id = MessageId::FileNotWritten;
        Failure::new(Exit::Failed, id, format!("{doing}: {error}"), hint)
    };
    DirBuilder::new()
        .recursive(true)
        .mode(Readers::Owner.directory_mode())
        .create(directory)
        .map_err(|e| fail(format!("creating directory {}", directory.display()), &e))?;
    let mut staged = Staged::default();
    let mut paths = Vec::new();
    for (name, data, readers) in files {
        let path = directory.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(exists(&path));
        }
        staged
            .add(&path, data, readers.file_mode())
            .map_err(|e| fail(format!("writing {}", path.display()), &e))?;
        paths.push(path);
    }
    staged.put_beside().map_err(|(path, error)| {
        if error.kind() == ErrorKind::AlreadyExists {
            return exists(&path);
        }
        fail(format!("writing {}", path.display()), &error)
    })?;
    Ok(paths)
}

pub(super) fn exists(path: &Path) -> Failure {
    Failure::new(
        Exit::Refused,
        MessageId::FileExists,
        format!(
            "{} is there already, and nothing is overwritten",
            path.display()
        ),
        "choose another directory with --out, or move that file away",
    )
}

/// Writes a file for everybody in the place of an older one. Whoever reads it at that moment sees
/// the old one or the new one, whole.
pub(super) fn write_public(path: &Path, data: &[u8]) -> Result<(), Failure> {
    let mut staged = Staged::default();
    let written = staged
        .add(path, data, Readers::Everyone.file_mode())
        .and_then(|()| staged.put_in_place().map_err(|(_, error)| error));
    written.map_err(|error| {
        let text = format!("writing {}: {error}", path.display());
        let hint = "the folder must exist, and be writable for the user who runs lbctl";
        Failure::new(Exit::Failed, MessageId::FileNotWritten, text, hint)
    })
}

/// Writes a file of secrets in the place of an older one.
pub(super) fn write_owned(path: &Path, data: &[u8]) -> Result<(), Failure> {
    replace(path, data).map_err(|error| not_written(path, &error))
}

/// Writes a file that only its owner reads, in the place of an older one.
pub(super) fn replace(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut staged = Staged::default();
    staged
        .add(path, data, Readers::Owner.file_mode())
        .and_then(|()| staged.put_in_place().map_err(|(_, error)| error))
}

/// Writes a file of secrets that is not there yet; another one is never replaced.
pub(super) fn create_owned(path: &Path, data: &[u8]) -> Result<(), Failure> {
    create_new(path, data).map_err(|error| not_written(path, &error))
}

/// Writes the definition of a domain, which may hold passwords of its devices, where no other file
/// is.
pub(super) fn create_kept(path: &Path, data: &[u8]) -> Result<(), Failure> {
    let (show, hint) = (path.display(), "choose another file with --save");
    create_new(path, data).map_err(|error| {
        let (exit, id, said) = if error.kind() == ErrorKind::AlreadyExists {
            let said = "is there already, with another content, and nothing is overwritten";
            (
                Exit::Refused,
                MessageId::FileExists,
                format!("{show} {said}"),
            )
        } else {
            let said = format!("writing {show}: {error}");
            (Exit::Failed, MessageId::FileNotWritten, said)
        };
        Failure::new(exit, id, said, hint)
    })
}

/// Writes a file that is not there yet and only its owner reads; on an error it is not there.
pub(super) fn create_new(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(Readers::Owner.file_mode())
        .open(path)?;
    let written = file.write_all(data).and_then(|()| file.sync_all());
    if written.is_err() {
        // The first error is the one that is reported.
        let _ = remove(path);
    }
    written
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Failed,
        MessageId::FileNotWritten,
        format!("writing {}: {error}", path.display()),
        "lbctl keeps the client's key beside the configuration: make that folder writable for the user who runs lbctl",
    )
}

/// Files that are whole and lie beside their places, where nobody else may read them. What is not
/// put in its place is removed.
#[derive(Default)]
struct Staged {
    /// Where each lies, and where it belongs.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Staged {
    /// The name aside is the same each time: what a killed lbctl has left there, perhaps with
    /// secrets in it, is removed by the next one.
    fn add(&mut self, path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!(".{name}.new"));
        remove(&aside)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)?;
        self.files.push((aside, path.to_owned()));
        file.write_all(data)?;
        // Some file systems say only now that there is no room.
        file.sync_all()?;
        file.set_permissions(Permissions::from_mode(mode))
    }

    fn put_in_place(self) -> Result<(), (PathBuf, io::Error)> {
        self.files.iter().try_for_each(|(aside, path)| {
            fs::rename(aside, path).map_err(|error| (path.clone(), error))
        })
    }
}

impl Staged {
    /// Gives each file its name where no other file has it; those that have theirs already lose it
    /// again where one cannot.
    fn put_beside(self) -> Result<(), (PathBuf, io::Error)> {
        for (place, (aside, path)) in self.files.iter().enumerate() {
            if let Err(error) = fs::hard_link(aside, path) {
                for (_, done) in self.files.iter().take(place) {
                    // The first error is the one that is reported.
                    let _ = remove(done);
                }
                return Err((path.clone(), error));
            }
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (aside, _) in &self.files {
            // The first error is the one that is reported.
            let _ = remove(aside);
        }
    }
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

    fn write(folder: &Path, files: &[(&str, &[u8])], mode: u32) -> io::Result<()> {
        let mut staged = Staged::default();
        for (name, data) in files {
            staged.add(&folder.join(name), data, mode)?;
        }
        staged.put_in_place().map_err(|(_, error)| error)
    }

    #[test]
    fn a_file_takes_the_place_of_the_old_one_and_of_a_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for mode in [0o600, 0o644] {
            fs::write(folder.join(".a.new"), "half of").unwrap();
            write(folder, &[("a", b"whole")], mode).unwrap();
            assert_eq!(fs::read(folder.join("a")).unwrap(), b"whole");
            let found = fs::metadata(folder.join("a")).unwrap().permissions();
            assert_eq!(found.mode() & 0o777, mode);
            assert_eq!(names(folder), ["a"]);
        }
    }

    #[test]
    fn nothing_is_left_of_files_that_could_not_be_put_in_their_places() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir_all(folder.join("b/c")).unwrap();
        write(folder, &[("b", b"whole"), ("d", b"whole")], 0o600).unwrap_err();
        assert_eq!(names(folder), ["b"]);
    }

    #[test]
    fn no_file_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let files: [(&str, &[u8], Readers); 2] = [
            ("a", b"new", Readers::Everyone),
            ("b", b"new", Readers::Owner),
        ];
        fs::write(folder.join("b"), "old").unwrap();
        let refused = create_all(folder, &files).unwrap_err();
        assert_eq!(refused.messages[0].id, MessageId::FileExists);
        assert_eq!(names(folder), ["b"]);
        assert_eq!(fs::read(folder.join("b")).unwrap(), b"old");

        fs::remove_file(folder.join("b")).unwrap();
        assert_eq!(create_all(folder, &files).unwrap().len(), 2);
        let mut there = names(folder);
        there.sort();
        assert_eq!(there, ["a", "b"]);
        for (name, mode) in [("a", 0o644), ("b", 0o600)] {
            let found = fs::metadata(folder.join(name)).unwrap().permissions();
            assert_eq!(found.mode() & 0o777, mode);
        }

        // Somebody else was quicker.
        let mut staged = Staged::default();
        staged.add(&folder.join("c"), b"new", 0o600).unwrap();
        staged.add(&folder.join("a"), b"new", 0o600).unwrap();
        staged.put_beside().unwrap_err();
        let mut there = names(folder);
        there.sort();
        assert_eq!(there, ["a", "b"]);
    }

    /// As on a full disk: the second file cannot be made.
    #[test]
    fn the_first_file_stays_as_it_was_where_the_second_has_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("a"), "old").unwrap();
        fs::create_dir_all(folder.join(".b.new/c")).unwrap();
        write(folder, &[("a", b"new"), ("b", b"new")], 0o600).unwrap_err();
        assert_eq!(fs::read(folder.join("a")).unwrap(), b"old");
        let mut left = names(folder);
        left.sort();
        assert_eq!(left, [".b.new", "a"]);
    }
}
