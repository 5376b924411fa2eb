//! `down`: what lbctl made goes, everything else stays as it was; and what a killed run left is finished by `up` and
//! removed by `down`.

use crate::sandbox::Sandbox;

#[test]
fn down_leaves_the_host_as_it_was_before() {
    let vm = Sandbox::new();
    let before = vm.snapshot();
    vm.up();
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok()
        .says(&[
            "its power is cut",
            "undefine domain",
            "delete seed",
            "delete volume",
            "release",
            "gone",
        ]);
    before.assert_same(&vm.snapshot());
    let again = vm.down();
    assert_eq!(
        again.stderr,
        format!("{}: not there, nothing to do\n", vm.name)
    );
    before.assert_same(&vm.snapshot());
}
