//! lbctl's programs in the guest, as they are in `templates/guest/`.

/// The folder of the programs in the guest. The units name it, so it stays.
const FOLDER: &str = "/usr/local/lib/lbctl";
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

/// The modules before the program that imports them: a change puts one file after the other in
/// place, and the program works at each moment.
const PROGRAMS: [(&str, &str); 14] = [
    module!("__init__.py"),
    module!("paths.py"),
    module!("wire.py"),
    module!("tools.py"),
    module!("status.py"),
    module!("haproxy.py"),
    module!("additions.py"),
    module!("services.py"),
    module!("probe.py"),
    module!("converge.py"),
    module!("boot.py"),
    module!("old_workers.py"),
    module!("liveness.py"),
    (
        "lbctl-guest",
        include_str!("../../templates/guest/lbctl-guest.py"),
    ),
];

/// Name in the folder of the programs, and text, of each of this lbctl's programs in the guest.
pub fn programs() -> impl Iterator<Item = (&'static str, &'static str)> {
    PROGRAMS.into_iter()
}

/// Where a program is in the guest.
pub(super) fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}
