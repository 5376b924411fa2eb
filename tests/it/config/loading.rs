//! `load`: what can be wrong with the file itself, and where references start.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::{fs, io};

use lbctl::testing::config::{
    CertificateSource, Inputs, Loaded, Report, SystemInputs, load, parse,
};
use tempfile::TempDir;

use crate::support::inputs::{inputs, now};

/// The report without the name of the temporary folder.
fn said(folder: &TempDir, loaded: Result<Loaded, Report>) -> String {
    let report = loaded.expect_err("refused");
    report
        .render(false, None)
        .replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn a_file_that_is_not_there() {
    let folder = TempDir::new().unwrap();
    let said = said(&folder, load(&folder.path().join("lbctl.toml"), now()));
    let expected = "\
error: reading the configuration DIR/lbctl.toml: No such file or directory
--> DIR/lbctl.toml
 = help: name another with -c, or start with `lbctl init --from-host -o lbctl.toml`
";
    assert_eq!(said, expected);
}

#[test]
fn a_folder() {
    let folder = TempDir::new().unwrap();
    let said = said(&folder, load(folder.path(), now()));
    let expected = "\
error: there is no configuration in the folder DIR: no *.toml
--> DIR
 = help: name another with -c
";
    assert_eq!(said, expected);
}

#[test]
fn a_file_that_may_not_be_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("lbctl.toml");
    fs::write(&path, "name = 'lb-1'").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    let said = said(&folder, load(&path, now()));
    let expected = "\
error: reading the configuration DIR/lbctl.toml: Permission denied
--> DIR/lbctl.toml
 = help: let the user who runs lbctl read it
";
    assert_eq!(said, expected);
}

#[test]
fn a_file_far_too_large() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("disk.img");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let said = said(&folder, load(&path, now()));
    assert!(
        said.starts_with("error: the configuration is larger than 4 MiB\n"),
        "{said}"
    );
}

#[test]
fn references_start_at_the_folder_of_the_file() {
    let folder = TempDir::new().unwrap();
    let text = fs::read_to_string("tests/config/minimal/lbctl.toml").unwrap();
    fs::write(folder.path().join("lbctl.toml"), text).unwrap();
    for name in ["ca.key", "ca.crt", "admin.pub"] {
        fs::write(
            folder.path().join(name),
            inputs().file(Path::new(name)).unwrap(),
        )
        .unwrap();
    }
    let loaded = load(&folder.path().join("lbctl.toml"), now()).unwrap();
    assert_eq!(
        loaded.config.admin.public_keys,
        [crate::support::inputs::PUBLIC_KEY]
    );
}

#[test]
fn a_cas_key_is_missed_where_it_is_needed_only() {
    let text = fs::read_to_string("tests/config/minimal/lbctl.toml").unwrap();
    let mut inputs = inputs();
    let key = |inputs: &_| {
        let config = parse(&text, "lbctl.toml", inputs, now()).unwrap().config;
        match &config.haproxy.patroni_tls.client().unwrap().source {
            CertificateSource::Issued(issuing) => issuing.ca_key.clone(),
            other => panic!("{other:?}"),
        }
    };
    key(&inputs).ensure_there().unwrap();
    inputs.files.remove(Path::new("ca.key"));
    let missing = key(&inputs).ensure_there().unwrap_err();
    assert!(
        missing
            .message
            .starts_with("`haproxy.patroni_client.ca_key` (lbctl.toml, line "),
        "{missing:?}"
    );
    assert!(
        missing
            .message
            .ends_with("cannot be read from file \"ca.key\": No such file or directory"),
        "{missing:?}"
    );
}

#[test]
fn what_is_there_is_opened_and_not_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ca.key");
    let there = |path: &Path| SystemInputs { base: "/".into() }.ensure_readable(path);
    assert_eq!(there(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    there(&path).unwrap();
    assert!(there(folder.path()).is_err());
}

#[test]
fn endless_files_end() {
    let read = SystemInputs { base: "/".into() }
        .file(Path::new("/dev/zero"))
        .unwrap();
    assert_eq!(read.len() as u64, lbctl::testing::config::MAX_INPUT + 1);
    let none = SystemInputs { base: "/".into() }
        .file(Path::new("does/not/exist"))
        .unwrap_err();
    assert_eq!(none.kind(), io::ErrorKind::NotFound);
}
