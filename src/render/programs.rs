//! lbctl's programs in the guest, as they are in `templates/guest/`.

/// The folder of the programs in the guest. The units name it, so it stays.
pub(super) const FOLDER: &str = "/usr/local/lib/lbctl";
/// The program that everything else is started by.
pub(super) const GUEST_PROGRAM: &str = "/usr/local/lib/lbctl/lbctl-guest";

macro_rules! module {
    ($name:literal) => {
        (
            concat!("lbctl_guest/", $name),
            include_str!(concat!("../../templates/guest/lbctl_guest/", $name)),
        )
    };
}

/// Each after those that it imports: a change puts one file after the other in place, and the
/// program works at each moment. Of such orders the one that makes the task of a change smallest,
/// 700 bytes less than another one: what resembles each other is near each other.
const PROGRAMS: [(&str, &str); 23] = [
    module!("__init__.py"),
    module!("paths.py"),
    module!("tools.py"),
    module!("additions.py"),
    module!("tracking.py"),
    module!("arp.py"),
    module!("vip_conflict.py"),
    module!("vip.py"),
    module!("vip_watch.py"),
    module!("vip_yield.py"),
    module!("server_state.py"),
    module!("listeners.py"),
    module!("liveness.py"),
    module!("status.py"),
    module!("probe.py"),
    module!("predecessor.py"),
    module!("old_workers.py"),
    module!("beside.py"),
    module!("haproxy.py"),
    module!("services.py"),
    module!("converge.py"),
    module!("boot.py"),
    (
        "lbctl-guest",
        include_str!("../../templates/guest/lbctl-guest.py"),
    ),
];

/// Those that no other one imports, and that only a VM with a shared address runs.
const OF_SHARED_ADDRESS: [&str; 2] = ["lbctl_guest/vip_watch.py", "lbctl_guest/vip_yield.py"];

/// Name in the folder of the programs, and text, of each of this lbctl's programs in a guest that
/// shares an address, or does not.
pub fn programs(shares: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let needed = move |name: &str| shares || !OF_SHARED_ADDRESS.contains(&name);
    PROGRAMS.into_iter().filter(move |(name, _)| needed(name))
}

/// Whether a file in the guest is one of the programs.
pub(super) fn is_program(path: &str) -> bool {
    path.strip_prefix(FOLDER)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Where a program is in the guest.
#[must_use]
pub fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}
