//! What a domain has beside its two definitions, and what others did to its pool: managed save,
//! snapshots, checkpoints, overlays, block jobs, stopped pools, files that are gone. Each is known
//! before anything is stopped or deleted, and no command ends with a false sentence.

use std::fs;
use std::path::PathBuf;

use super::sandbox::Sandbox;
use crate::support::Ran;

/// What an operator or a tool has done to a VM that `up` made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Saved,
    /// A snapshot inside the disk, of the running guest.
    Snapshot,
    Checkpoint,
    /// A snapshot in files beside the disk, which libvirt knows of.
    ExternalSnapshot,
    /// As backup tools make them: libvirt knows of the overlay only.
    Overlay,
    BlockCopy,
    Paused,
    /// QEMU was killed.
    Killed,
    PoolStopped,
    SeedFileGone,
    DiskFileGone,
    Transient,
}

const STATES: [State; 12] = [
    State::Saved,
    State::Snapshot,
    State::Checkpoint,
    State::ExternalSnapshot,
    State::Overlay,
    State::BlockCopy,
    State::Paused,
    State::Killed,
    State::PoolStopped,
    State::SeedFileGone,
    State::DiskFileGone,
    State::Transient,
];

const DOWN: &str = "down --yes --stop-timeout=1s";
const DELETE: &str = "down --yes --stop-timeout=1s --delete-volume";
const NOW: &str = "up --restart now --stop-timeout=1s";

impl State {
    fn bring_about(self, vm: &Sandbox) {
        match self {
            Self::Saved => vm.virsh("managedsave @vm").ok(),
            Self::Snapshot => vm.virsh("snapshot-create-as @vm s1").ok(),
            // libvirt's own clones are of an older qcow2, which holds no bitmaps.
            Self::Checkpoint => {
                vm.virsh("destroy @vm").ok();
                amend(vm, "1.1");
                vm.virsh("start @vm; checkpoint-create-as @vm c1").ok()
            }
            Self::ExternalSnapshot => vm.virsh("snapshot-create-as @vm s1 --disk-only").ok(),
            Self::Overlay => vm
                .virsh("snapshot-create-as @vm s1 --disk-only --no-metadata")
                .ok(),
            // Slow enough to be there when lbctl looks: it does not end by itself.
            Self::BlockCopy => vm
                .virsh("blockcopy @vm vda --dest @home/copy.qcow2 --format qcow2 --transient-job")
                .ok(),
            Self::Paused => vm.virsh("suspend @vm").ok(),
            Self::Killed => {
                let id = fs::read_to_string(pid_file(vm)).unwrap();
                let killed = crate::support::run("kill", ["-9".into(), id.trim().to_owned()]).ok();
                until(|| vm.dominfo("State") == "shut off");
                killed
            }
            Self::PoolStopped => {
                vm.keep_pool("@pool");
                vm.virsh("pool-destroy @pool").ok()
            }
            Self::SeedFileGone => {
                fs::remove_file(vm.pool_dir.join(vm.fill("@seed"))).unwrap();
                vm.virsh("version").ok()
            }
            Self::DiskFileGone => {
                fs::remove_file(vm.pool_dir.join(&vm.name)).unwrap();
                vm.virsh("version").ok()
            }
            Self::Transient => vm.virsh("undefine @vm").ok(),
        };
    }

    /// What the operator types to get rid of it, as a message names it.
    fn clear(self, vm: &Sandbox) {
        match self {
            Self::Saved => drop(vm.virsh("managedsave-remove @vm").ok()),
            Self::PoolStopped => drop(vm.virsh("pool-start @pool").ok()),
            Self::ExternalSnapshot | Self::Overlay => {
                vm.virsh("blockcommit @vm vda --base @dir/@vm --active --pivot --wait")
                    .ok();
                vm.virsh("snapshot-delete @vm s1 --metadata");
            }
            Self::BlockCopy => drop(vm.virsh("blockjob @vm vda --abort").ok()),
            Self::Snapshot
            | Self::Checkpoint
            | Self::Paused
            | Self::Killed
            | Self::SeedFileGone
            | Self::DiskFileGone
            | Self::Transient => {}
        }
    }
}

fn pid_file(vm: &Sandbox) -> PathBuf {
    format!(
        "{}/libvirt/run/libvirt/qemu/{}.pid",
        vm.lab["LAB_STATE"], vm.name
    )
    .into()
}

fn until(mut so: impl FnMut() -> bool) {
    for _ in 0..50 {
        if so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("it did not come about");
}

/// A VM in that state.
fn in_state(state: State) -> Sandbox {
    eprintln!("--- {state:?}");
    let vm = Sandbox::new();
    vm.up();
    state.bring_about(&vm);
    vm
}

/// No command blames another lbctl, for there is none, and none says that nothing was changed after
/// it changed something.
fn is_true(ran: &Ran, vm: &Sandbox, before: &super::sandbox::Snapshot) {
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(!said.contains("another lbctl"), "{said}");
    assert!(!said.contains("somebody else"), "{said}");
    if said.contains("nothing was changed") {
        before.assert_same(&vm.snapshot());
    }
}

#[test]
fn status_works_in_every_state() {
    for (state, says) in [
        (State::Saved, "not ready: the domain is shut off (saved)"),
        (State::Snapshot, "domain       running"),
        (State::Checkpoint, "domain       running"),
        (State::ExternalSnapshot, "an overlay on volume @pool/@vm"),
        (State::Overlay, "an overlay on volume @pool/@vm"),
        (State::BlockCopy, "domain       running"),
        (State::Paused, "not ready: the domain is paused"),
        (State::Killed, "not ready: the domain is shut off (crashed)"),
        (
            State::PoolStopped,
            "unknown: storage pool @pool is not active",
        ),
        (State::SeedFileGone, "none: there is no seed"),
        (
            State::DiskFileGone,
            "libvirt lists volume @pool/@vm, but its file does not exist any more",
        ),
        (
            State::Transient,
            "the domain would cease to exist when it stops",
        ),
    ] {
        let vm = in_state(state);
        let before = vm.snapshot();
        vm.lbctl("status").ended(1).says(&[says]);
        vm.lbctl("--json status").ended(1);
        before.assert_same(&vm.snapshot());
    }
}

/// `down --delete-volume` leaves nothing of lbctl's, or says what stays and ends otherwise; what
/// others made stays.
#[test]
fn down_removes_all_of_it_or_refuses_before_it_stops_anything() {
    for (state, refused) in [
        (State::Saved, None),
        (State::Snapshot, None),
        (State::Checkpoint, None),
        (
            State::ExternalSnapshot,
            Some((
                4,
                "virsh blockcommit @vm vda --base @dir/@vm --active --pivot --wait",
            )),
        ),
        (
            State::Overlay,
            Some((
                4,
                "virsh blockcommit @vm vda --base @dir/@vm --active --pivot --wait",
            )),
        ),
        (State::BlockCopy, None),
        (State::Paused, None),
        (State::Killed, None),
        (State::PoolStopped, Some((1, "virsh pool-start @pool"))),
        (State::SeedFileGone, None),
        (State::DiskFileGone, None),
        (State::Transient, None),
    ] {
        eprintln!("--- {state:?}");
        let vm = Sandbox::new();
        let bare = vm.snapshot();
        vm.up();
        state.bring_about(&vm);
        if let Some((exit, cure)) = refused {
            let before = vm.snapshot();
            let ran = vm.lbctl(DELETE).ended(exit).says(&[cure]);
            is_true(&ran, &vm, &before);
            before.assert_same(&vm.snapshot());
            state.clear(&vm);
        }
        let before = vm.snapshot();
        let ran = vm.lbctl(DELETE).ok();
        is_true(&ran, &vm, &before);
        if let State::ExternalSnapshot | State::Overlay = state {
            let overlay = vm.pool_dir.join(format!("{}.s1", vm.name));
            fs::remove_file(overlay).unwrap();
            vm.virsh("pool-refresh @pool").ok();
        }
        bare.assert_same(&vm.snapshot());
    }
}

/// Without `--delete-volume` the disk stays, and what it is worth is said.
#[test]
fn down_keeps_the_disk_and_says_where_its_data_is() {
    for (state, says) in [
        (
            State::Saved,
            "with the domain libvirt forgets its saved memory",
        ),
        (
            State::Snapshot,
            "with the domain libvirt forgets snapshot s1",
        ),
        (
            State::Checkpoint,
            "with the domain libvirt forgets checkpoint c1",
        ),
        (
            State::ExternalSnapshot,
            "@vm.s1 is kept: lbctl did not make it (snapshot s1)",
        ),
        (
            State::Overlay,
            "@vm.s1, an overlay on volume @pool/@vm that lbctl did not make: both are kept",
        ),
        (State::BlockCopy, "copy.qcow2 is kept, and incomplete"),
        (State::Paused, "volume @pool/@vm is kept, with its data"),
        (State::Killed, "volume @pool/@vm is kept, with its data"),
        (
            State::SeedFileGone,
            "volume @pool/@vm is kept, with its data",
        ),
        (State::DiskFileGone, "@vm: removed"),
        (State::Transient, "volume @pool/@vm is kept, with its data"),
    ] {
        let vm = in_state(state);
        let before = vm.snapshot();
        let ran = vm.lbctl(DOWN).ok().says(&[says, "@vm: removed"]);
        is_true(&ran, &vm, &before);
        let seeds = vm
            .volumes()
            .into_iter()
            .filter(|v| v.contains("cloud-init"));
        assert_eq!(seeds.count(), 0);
        vm.virsh("dominfo @vm").ended(1);
    }
    let vm = in_state(State::PoolStopped);
    let before = vm.snapshot();
    vm.lbctl(DOWN).ended(1).says(&["virsh pool-start @pool"]);
    before.assert_same(&vm.snapshot());
}

/// Whatever the state, `up` brings the VM back to where a second one has nothing to do, or refuses
/// with the command that clears the state.
#[test]
fn up_goes_on_in_every_state_or_names_the_cure() {
    for state in STATES {
        let vm = in_state(state);
        for command in ["up", NOW] {
            let before = vm.snapshot();
            let ran = vm.lbctl(command);
            is_true(&ran, &vm, &before);
            if ran.code == 0 {
                vm.lbctl("plan --exit-code").ok();
            } else {
                assert!(ran.stderr.contains("help: "), "{}", ran.stderr);
            }
        }
        if state == State::DiskFileGone {
            continue; // nothing brings it back
        }
        state.clear(&vm);
        vm.lbctl(NOW).ok();
        vm.lbctl("plan --exit-code").ok();
        assert_eq!(vm.dominfo("State"), "running");
    }
}

/// Whatever the state, a renewal is done, or refused with what helps and without a change.
#[test]
fn a_renewal_is_done_or_refused_in_every_state() {
    for state in STATES {
        let vm = in_state(state);
        for command in ["renew --check", "renew --force"] {
            let before = vm.snapshot();
            let ran = vm.lbctl(command);
            is_true(&ran, &vm, &before);
            if ran.code != 0 {
                assert!(ran.stderr.contains("help: "), "{ran}");
                before.assert_same(&vm.snapshot());
            }
        }
        if state == State::DiskFileGone {
            continue;
        }
        state.clear(&vm);
        vm.lbctl(NOW).ok();
        vm.lbctl("plan --exit-code").ok();
    }
}

#[test]
fn a_change_waits_for_no_state_that_it_does_not_need() {
    // Live changes beside a snapshot, a checkpoint and a copy.
    for state in [State::Snapshot, State::Checkpoint, State::BlockCopy] {
        let mut vm = in_state(state);
        vm.change("memory = 300");
        vm.lbctl("up --restart later").ok();
        let now = vm.lbctl(NOW);
        if state == State::BlockCopy {
            now.ended(4).says(&[
                "a block job (copy) runs on disk vda of domain @vm, so that lbctl cannot restart domain @vm",
                "virsh blockjob @vm vda --abort",
            ]);
            state.clear(&vm);
            vm.lbctl(NOW).ok();
        } else {
            now.ok();
        }
        vm.lbctl("plan --exit-code").ok();
    }
}

#[test]
fn a_saved_guest_is_resumed_with_what_it_was_saved_with_and_changed_then() {
    let mut vm = in_state(State::Saved);
    vm.change("memory = 300");
    vm.lbctl("plan").ok().says(&[
        "memory: 256 MiB -> 300 MiB (restart)",
        "state: shut off (saved) -> running (live)",
        "the guest's memory is saved, so its start resumes it",
    ]);
    let before = vm.snapshot();
    vm.lbctl("up")
        .ended(4)
        .says(&["this change needs a restart"]);
    before.assert_same(&vm.snapshot());
    let ran = vm
        .lbctl(NOW)
        .ok()
        .says(&["start domain @vm", "restart domain @vm"]);
    ran.does_not_say(&["another lbctl", "still differs"]);
    vm.lbctl("plan --exit-code").ok();
    assert_eq!(vm.dominfo("Max memory"), "307200 KiB");
}

#[test]
fn no_seed_is_deleted_while_a_saved_state_or_a_snapshot_needs_it() {
    let vm = in_state(State::Saved);
    let before = vm.snapshot();
    vm.lbctl("renew --force").ended(4).says(&[
        "the memory of guest @vm is saved",
        "virsh managedsave-remove @vm",
    ]);
    before.assert_same(&vm.snapshot());
    vm.up();
    assert_eq!(vm.dominfo("State"), "running");

    let mut vm = in_state(State::Snapshot);
    vm.change("admin_user_password = 'another battery staple'");
    vm.lbctl(NOW).ok();
    assert_eq!(vm.volumes().len(), 3, "disk, seed, and the snapshot's seed");
    vm.lbctl("plan --exit-code")
        .ok()
        .says(&["seed @pool/@seed is kept: snapshot s1 needs it"]);
    vm.virsh("destroy @vm; snapshot-revert @vm s1").ok();
    // The next snapshot holds the next seed; with a third there is no name left.
    vm.lbctl(NOW).ok();
    vm.virsh("snapshot-create-as @vm s2").ok();
    vm.change("admin_user_password = 'a third battery staple'");
    vm.lbctl(NOW).ok();
    vm.change("admin_user_password = 'a fourth battery staple'");
    vm.lbctl(NOW).ended(4).says(&[
        "there is no volume name left for a new seed: snapshot s1 needs one, snapshot s2 needs one",
        "virsh snapshot-delete @vm NAME`",
    ]);
    vm.virsh("snapshot-delete @vm s1 --metadata").ok();
    vm.lbctl(NOW).ok();
    vm.lbctl("plan --exit-code").ok();
}

/// Of a domain that is off libvirt does not say what its disk is on top of.
#[test]
fn an_overlay_under_a_domain_that_is_off_keeps_its_base() {
    let vm = in_state(State::Overlay);
    vm.virsh("destroy @vm").ok();
    let known = ["`virsh start @vm`, and lbctl says then how to end it"];
    for command in ["up", DELETE] {
        vm.lbctl(command).ended(4).says(&known);
    }
    let vm = Sandbox::new();
    vm.up();
    vm.virsh("destroy @vm").ok();
    State::Overlay.bring_about(&vm);
    let before = vm.snapshot();
    vm.lbctl("up").ended(4).says(&[
        "disk: @dir/@vm.s1 -> @dir/@vm (replace)",
        "somebody gave the domain that disk, and not the configuration",
        "`virsh start @vm`",
    ]);
    vm.lbctl(DELETE).ended(4).says(&[
        "the disk of domain @vm is @dir/@vm.s1, and not volume @pool/@vm, which it may need",
        "`virsh start @vm`",
    ]);
    before.assert_same(&vm.snapshot());
    vm.virsh("start @vm").ok();
    vm.lbctl("up").ended(4).says(&["virsh blockcommit @vm vda"]);
    State::Overlay.clear(&vm);
    vm.lbctl("plan --exit-code").ok();
}

/// Makes the disk of a guest that is off a qcow2 of version 2 (`0.10`) or 3 (`1.1`).
fn amend(vm: &Sandbox, version: &str) {
    let disk = vm.pool_dir.join(&vm.name).display().to_string();
    let version = format!("compat={version}");
    crate::support::run("qemu-img", ["amend", "-f", "qcow2", "-o", &version, &disk]).ok();
}

/// As clones of libvirt 9 are; those of 11.3 are of version 3.
#[test]
fn a_disk_of_version_2_that_holds_snapshots_does_not_grow_and_says_so() {
    let mut vm = Sandbox::new();
    vm.up();
    vm.virsh("destroy @vm").ok();
    amend(&vm, "0.10");
    vm.virsh("start @vm; snapshot-create-as @vm s1").ok();
    vm.change("volume.size = '80 MiB'");
    let before = vm.snapshot();
    let says = "disk size: 64 MiB -> 80 MiB: volume @pool/@vm holds snapshots";
    for command in ["plan", "up", "check --host"] {
        let cure = "`virsh snapshot-delete @vm NAME`";
        vm.lbctl(command).ended(4).says(&[says, cure]);
    }
    before.assert_same(&vm.snapshot());
    // `down` makes libvirt forget the snapshot, and the disk still holds it.
    vm.lbctl(DOWN).ok();
    vm.lbctl("up --reuse-disk")
        .ended(4)
        .says(&[says, "`qemu-img snapshot -d`"]);
    vm.leave_out_of("volume", "size");
    vm.lbctl("up --reuse-disk").ok();
}

#[test]
fn a_disk_of_version_3_grows_with_its_snapshots() {
    let mut vm = Sandbox::new();
    vm.up();
    vm.virsh("destroy @vm").ok();
    amend(&vm, "1.1");
    vm.virsh("start @vm; snapshot-create-as @vm s1").ok();
    vm.change("volume.size = '80 MiB'");
    vm.up();
    vm.lbctl("plan --exit-code").ok();
    vm.virsh("destroy @vm").ok();
    vm.change("volume.size = '96 MiB'");
    vm.up();
    vm.lbctl("plan --exit-code").ok();
}

/// No definition shows it, and the end of the guest is its end.
#[test]
fn a_pull_that_runs_is_seen_before_a_restart() {
    let mut vm = Sandbox::new();
    vm.virsh(
        "pool-create-as @other dir --target @home; vol-create-as @other base 64M --format qcow2",
    )
    .ok();
    let base = vm.fill("@home/base");
    crate::support::run("qemu-io", ["-f", "qcow2", "-c", "write 0 60M", &base]).ok();
    vm.change("volume = { base_volume_pool = '@other', base_volume_name = 'base' }");
    vm.up();
    vm.virsh("blockpull @vm vda --bandwidth 1").ok();
    vm.lbctl("plan --exit-code").ok();
    vm.change("memory = 300");
    vm.lbctl("plan")
        .ok()
        .says(&["memory: 256 MiB -> 300 MiB (restart)"]);
    let before = vm.snapshot();
    vm.lbctl(NOW).ended(4).says(&[
        "a block job (pull) runs on disk vda of domain @vm, so that lbctl cannot restart domain @vm",
        "`virsh blockjob @vm vda --abort`",
    ]);
    vm.change("memory = 256");
    vm.lbctl("restart --yes").ended(4).says(&[
        "a block job (pull) runs on disk vda of domain @vm, so that lbctl cannot restart domain @vm",
    ]);
    vm.change("volume.size = '80 MiB'");
    for command in ["plan", "up"] {
        vm.lbctl(command)
            .ended(4)
            .says(&["a block job (pull) runs on disk vda of domain @vm"]);
    }
    before
        .without_bytes()
        .assert_same(&vm.snapshot().without_bytes());
    vm.virsh("blockjob @vm vda --abort").ok();
    vm.up();
    vm.lbctl("plan --exit-code").ok();
    vm.lbctl(DELETE).ok();
}

/// A block pull brings the base's data into the disk.
#[test]
fn a_disk_whose_base_was_pulled_into_it_is_the_same_disk() {
    let mut vm = Sandbox::new();
    vm.up();
    vm.virsh("blockpull @vm vda --wait; pool-refresh @pool")
        .ok();
    for _ in 0..2 {
        vm.lbctl("plan --exit-code").ok();
        vm.change("memory = 300");
        vm.lbctl(NOW).ok();
    }
    vm.lbctl(DELETE).ok();
    assert!(vm.volumes().is_empty());
}

/// An overlay into which its base was pulled holds all of the guest's data, and the volume an older
/// state of it: nothing is left to be committed.
#[test]
fn an_overlay_that_was_pulled_is_copied_back_into_the_volume() {
    let vm = Sandbox::new();
    vm.up();
    vm.virsh("snapshot-create-as @vm e1 --disk-only; blockpull @vm vda --wait")
        .ok();
    let before = vm.snapshot();
    let copy = "virsh blockcopy @vm vda --dest @dir/@vm --format qcow2 --reuse-external --transient-job --wait --pivot";
    for command in ["plan", "up", DELETE] {
        vm.lbctl(command).ended(4).says(&[
            "is @dir/@vm.e1, made as an overlay on volume @pool/@vm by something else than lbctl",
            &format!("`{copy}`"),
        ]);
    }
    before.assert_same(&vm.snapshot());
    vm.virsh("destroy @vm").ok();
    let start = "`virsh start @vm`, and lbctl says then how to end it";
    vm.lbctl("up").ended(4).says(&[start]);
    vm.virsh("start @vm").ok();
    vm.virsh(copy.strip_prefix("virsh ").unwrap()).ok();
    vm.lbctl("plan --exit-code").ok();
    vm.virsh(
        "snapshot-delete @vm e1 --metadata; pool-refresh @pool; vol-delete @vm.e1 --pool @pool",
    )
    .ok();
    vm.lbctl(NOW).ok();
    vm.lbctl(DELETE).ok();
    assert!(vm.volumes().is_empty());

    let vm = Sandbox::new();
    vm.up();
    vm.virsh("snapshot-create-as @vm e1 --disk-only; blockpull @vm vda --wait")
        .ok();
    vm.lbctl("down --yes --stop-timeout=1s").ok().says(&[
        "@vm.e1, which was an overlay on volume @pool/@vm until all of that was pulled into it: both are kept",
    ]);
    assert_eq!(vm.volumes().len(), 2, "{:?}", vm.volumes());
}

#[test]
fn a_saved_state_whose_seed_is_gone_is_named_with_its_cure() {
    let vm = in_state(State::Saved);
    vm.virsh("vol-delete @seed --pool @pool").ok();
    let before = vm.snapshot();
    vm.lbctl("up").ended(4).says(&[
        "the saved state of domain @vm cannot be resumed: it needs seed @pool/@seed, which does not exist any more",
        "`virsh managedsave-remove @vm` discards the saved state",
    ]);
    before.assert_same(&vm.snapshot());
    vm.virsh("managedsave-remove @vm").ok();
    vm.up();
    vm.lbctl("plan --exit-code").ok();
}

#[test]
fn a_seed_whose_file_was_removed_is_written_again() {
    let vm = in_state(State::SeedFileGone);
    vm.lbctl("renew --check")
        .ended(1)
        .says(&["@vm: there is no seed", "`lbctl up`"]);
    vm.lbctl(NOW).ok();
    vm.lbctl("plan --exit-code").ok();
    assert_eq!(vm.volumes().len(), 2);
    vm.virsh("vol-list @pool")
        .ok()
        .says(&["@seed2"])
        .does_not_say(&["@seed "]);

    let vm = in_state(State::SeedFileGone);
    vm.virsh("destroy @vm").ok();
    vm.up();
    vm.lbctl("plan --exit-code").ok();
}

#[test]
fn a_stopped_pool_of_the_base_is_named_and_no_clone_is_called_foreign() {
    let mut vm = Sandbox::new();
    vm.virsh(
        "pool-create-as @other dir --target @home; vol-create-as @other base 64M --format qcow2",
    )
    .ok();
    vm.change("volume = { base_volume_pool = '@other', base_volume_name = 'base' }");
    vm.up();
    vm.down();
    vm.keep_pool("@other");
    vm.virsh("pool-destroy @other").ok();
    let before = vm.snapshot();
    vm.lbctl("up")
        .ended(1)
        .says(&[
            "storage pool @other is not active",
            "virsh pool-start @other",
        ])
        .does_not_say(&["is not a clone", "nothing says"]);
    // What `down` kept is nobody's, whatever its base is.
    vm.lbctl(DELETE)
        .ended(4)
        .says(&["it is not known whether lbctl made it"]);
    before.assert_same(&vm.snapshot());
}

/// A boot sector that suspends the machine to memory (ACPI S3), through the register that the
/// firmware of q35 puts at 0x604: once, for a firmware with nobody to resume boots again.
fn suspends_itself(vm: &Sandbox) {
    let mut sector = vec![
        0x31, 0xc0, 0x8e, 0xd8, // ds = 0
        0x81, 0x3e, 0x00, 0x06, 0x5a, 0x5a, // cmp word [0x600], 0x5a5a
        0x74, 0x0d, // je the halt
        0xc7, 0x06, 0x00, 0x06, 0x5a, 0x5a, // mov word [0x600], 0x5a5a
        0xba, 0x04, 0x06, // mov dx, 0x604
        0xb8, 0x00, 0x24, // mov ax, SLP_EN | S3
        0xef, // out dx, ax
        0xf4, 0xeb, 0xfd, // hlt, again
    ];
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    let file = vm.home.path().join("sector");
    fs::write(&file, sector).unwrap();
    vm.virsh("destroy @vm").ok();
    let write = format!("write -s {} 0 512", file.display());
    let disk = vm.pool_dir.join(&vm.name).display().to_string();
    crate::support::run("qemu-io", ["-f", "qcow2", "-c", &write, &disk]).ok();
    vm.virsh("start @vm").ok();
    until(|| vm.dominfo("State") == "pmsuspended");
}

#[test]
fn a_guest_that_suspended_itself_is_woken() {
    let vm = Sandbox::new();
    vm.up();
    suspends_itself(&vm);
    vm.lbctl("status")
        .ended(1)
        .says(&["not ready: the domain is suspended"]);
    vm.lbctl("renew --force")
        .ended(4)
        .says(&["it is suspended", "`lbctl up` lets it go on"]);
    vm.lbctl("up")
        .ok()
        .says(&["state: suspended -> running (live)", "wake domain @vm"]);
    assert_eq!(vm.dominfo("State"), "running");
    vm.lbctl("plan --exit-code").ok();
}

#[test]
fn a_guest_that_suspended_itself_is_removed_like_any_other() {
    let vm = Sandbox::new();
    let bare = vm.snapshot();
    vm.up();
    suspends_itself(&vm);
    vm.lbctl(DELETE).ok();
    bare.assert_same(&vm.snapshot());
}
