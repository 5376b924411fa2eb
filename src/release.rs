//! Which lbctl this is. Commit and date are those that `packaging/build` gives to the compiler;
//! another build has none, so that no commit makes everything be compiled anew.

/// As in Cargo.toml.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from, with `-dirty` where files were changed.
pub const COMMIT: Option<&str> = option_env!("LBCTL_COMMIT");
/// Of that commit, as `2026-11-27`.
pub const DATE: Option<&str> = option_env!("LBCTL_COMMIT_DATE");

/// What `lbctl --version` says behind the name: what a report of a problem needs. The first line is
/// that of `lbctl -V`. `libvirt`: the version of the client library, where it says one.
#[must_use]
pub fn described(libvirt: Option<&str>) -> String {
    let commit = match (COMMIT, DATE) {
        (Some(commit), Some(date)) => format!("{commit}, {date}"),
        (Some(commit), None) => commit.to_owned(),
        (None, _) => "not recorded (packaging/build records it)".to_owned(),
    };
    let libvirt = libvirt.unwrap_or("unknown");
    format!("{VERSION}\ncommit:          {commit}\nlibvirt library: {libvirt}")
}
