"""A change of a running guest: all or nothing, and back if it fails."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from typing import Any

import pytest

from conftest import Commands, Files, HaproxySocket
from lbctl_guest import converge, haproxy
from lbctl_guest.converge import Change, Undo
from lbctl_guest.paths import APPLIED, CA_PEM, CLIENT_PEM, HAPROXY_CFG, SETTINGS
from lbctl_guest.tools import Failure, NewFile
from lbctl_guest.wire import Spec
from samples import (
    DOWN,
    UP,
    changed,
    file,
    install_all,
    settings,
    settings_0_1,
    settings_of,
    small_spec,
    spec,
    stat,
)

CFG = file(HAPROXY_CFG, "old cfg\n", "haproxy")


def answer(
    spec: Spec,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    only: tuple[str, ...] = (),
) -> dict[str, Any]:
    task = {"programs": {}, "only": list(only), "despite": [], "spec": spec}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(task)))
    code = converge.main()
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (0 if said["ok"] else 1)
    return said


# ---- files


def test_files_are_installed_and_removed(files: Files) -> None:
    files.put("/etc/gone")
    converge.install([NewFile("/etc/a/new", "text", 0o640)], ["/etc/gone"])
    assert (files.text("/etc/a/new"), files.mode("/etc/a/new")) == ("text", 0o640)
    assert not files.has("/etc/gone")


def test_what_an_interrupted_run_has_installed_is_followed_by_the_next(
    files: Files, commands: Commands, admin_socket: HaproxySocket
) -> None:
    """It was killed when the files were there and HAProxy had not read them."""
    admin_socket.answers["show stat"] = stat(UP)
    was = small_spec(CFG)
    install_all(files, was)
    new = changed(was, HAPROXY_CFG, "new cfg\n")
    files.put(HAPROXY_CFG, "new cfg\n")
    files.put(converge.PENDING, json.dumps([HAPROXY_CFG, "/etc/other"]))
    # A renewal of the certificate alone leaves it to the next whole change.
    only = Change(new, [CLIENT_PEM])
    assert HAPROXY_CFG not in only.paths
    change = Change(new, [])
    assert HAPROXY_CFG in change.paths
    converge.keep_pending(change.left - change.paths)
    assert json.loads(files.text(converge.PENDING)) == ["/etc/other"]
    converge.keep_pending(set())
    assert not files.has(converge.PENDING)


def test_one_file_that_cannot_be_written_leaves_all_as_they_were(files: Files) -> None:
    files.put("/etc/one", "old")
    files.put("/etc/folder")
    before = files.snapshot()
    undo = Undo()
    new = [NewFile("/etc/one", "new", 0o644), NewFile("/etc/folder/two", "new", 0o644)]
    with pytest.raises(Failure, match=r"^cannot write /etc/folder/two: "):
        converge.install(new, [], undo)
    assert files.snapshot() == before
    assert not undo.touched


def test_undo_puts_back_contents_modes_and_absence(files: Files) -> None:
    files.put("/etc/changed", "old", 0o600)
    files.put("/etc/removed", "old", 0o640)
    before = files.snapshot()
    undo = Undo()
    undo.remember(["/etc/changed", "/etc/removed", "/etc/new"])
    new = [NewFile("/etc/changed", "new", 0o644), NewFile("/etc/new", "new", 0o644)]
    converge.install(new, ["/etc/removed"], undo)
    assert files.snapshot() != before
    conf = settings_of(small_spec())
    undo.put_back(conf, conf, set(), 0)
    assert (files.snapshot(), undo.restored, undo.complaint) == (before, True, "")
    assert files.owners["/etc/removed"] == (os.getuid(), os.getgid())


def test_undo_without_a_change_disturbs_nobody(files: Files, commands: Commands) -> None:
    Undo().put_back(settings(), settings(), {HAPROXY_CFG}, 1)
    assert commands.ran == []


def test_an_undo_that_fails_says_so(files: Files, commands: Commands) -> None:
    undo = Undo()
    undo.touched = True
    commands.fail("systemctl daemon-reload", "no space")
    undo.put_back(settings("haproxy"), settings("haproxy"), {"/etc/systemd/system/x.service"}, 0)
    assert not undo.restored
    assert "restoring everything failed, too: systemctl daemon-reload" in undo.complaint


# ---- what differs


def test_only_what_differs_is_changed(files: Files) -> None:
    wanted = spec()
    install_all(files, wanted)
    change = Change(wanted, [])
    assert (change.changed, change.gone, change.paths) == ([], [], set())
    files.path(SETTINGS).chmod(0o600)
    change = Change(changed(wanted, HAPROXY_CFG, "other"), [])
    assert {new.path for new in change.changed} == {HAPROXY_CFG, SETTINGS}


def test_with_only_the_rest_of_the_spec_is_ignored(files: Files) -> None:
    install_all(files, spec())
    wanted = changed(changed(spec(), CA_PEM, "new CA"), HAPROXY_CFG, "other")
    change = Change(wanted, [CLIENT_PEM, CA_PEM])
    assert change.paths == {CA_PEM}
    assert change.conf == settings_of(spec())
    assert (change.gone, change.packages, change.admin) == ([], [], None)


# ---- the whole


def test_a_change_is_made_and_remembered(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = small_spec(file("/etc/lbctl/old", "x"), services=("haproxy", "node-exporter"))
    new = small_spec(file("/etc/lbctl/new", "x"), services=("haproxy",))
    install_all(files, old)
    assert answer(new, monkeypatch, capsys) == {"ok": True, "notes": []}
    assert files.has("/etc/lbctl/new")
    assert not files.has("/etc/lbctl/old")
    assert json.loads(files.text(APPLIED)) == settings_of(new)
    assert commands.of("disable --now prometheus-node-exporter.service")
    commands.ran.clear()
    assert answer(new, monkeypatch, capsys)["ok"]
    assert commands.ran == []


def test_folders_of_a_change_are_open_to_other_users(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_all(files, small_spec())
    before = os.umask(0o077)
    try:
        answer(small_spec(file("/etc/fluentd/ca.crt", "x")), monkeypatch, capsys)
    finally:
        os.umask(before)
    assert (files.mode("/etc/fluentd"), files.mode("/etc/fluentd/ca.crt")) == (0o755, 0o644)


def test_what_haproxy_refuses_changes_nothing(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install_all(files, small_spec(CFG))
    before = files.snapshot()
    monkeypatch.setattr(haproxy, "is_installed", lambda _: True)
    commands.fail("haproxy -c", "[ALERT] (1) : unknown keyword")
    said = answer(small_spec(file(HAPROXY_CFG, "new", "haproxy")), monkeypatch, capsys)
    assert said == {
        "ok": False,
        "error": "HAProxy refuses the configuration: unknown keyword",
        "restored": True,
    }
    after = files.snapshot()
    assert after.pop("/run/lbctl/lock")
    assert after == before


def test_what_loses_the_primary_is_put_back(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    admin_socket: HaproxySocket,
) -> None:
    install_all(files, small_spec(CFG))
    admin_socket.answers["show stat"] = stat(UP)
    reloaded: list[str] = []
    patient: list[float] = []

    def reload(patience: float) -> None:
        patient.append(patience)
        text = files.text(HAPROXY_CFG)
        reloaded.append(text)
        admin_socket.answers["show stat"] = stat(DOWN if text == "new" else UP)

    monkeypatch.setattr(haproxy, "is_installed", lambda _: False)
    monkeypatch.setattr(haproxy, "reload", reload)
    said = answer(small_spec(file(HAPROXY_CFG, "new", "haproxy")), monkeypatch, capsys)
    assert (said["ok"], said["restored"]) == (False, True)
    assert "lost the primary" in said["error"]
    assert (reloaded, files.text(HAPROXY_CFG)) == (["new", "old cfg\n"], "old cfg\n")
    assert patient == [haproxy.PATIENCE, 0]


def test_a_service_that_fails_is_put_back_with_the_rest(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install_all(files, small_spec())
    commands.fail("systemctl restart prometheus-node-exporter.service", "no such unit")
    said = answer(small_spec(services=("haproxy", "node-exporter")), monkeypatch, capsys)
    assert (said["ok"], said["restored"]) == (False, True)
    assert commands.ran[-1] == "systemctl disable --now prometheus-node-exporter.service"
    assert json.loads(files.text(SETTINGS))["services"] == ["haproxy"]


def test_an_error_that_nobody_expected_is_answered(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.put("/run/cloud-init/result.json")
    monkeypatch.setattr(sys, "stdin", io.StringIO("{}"))
    assert converge.main() == 1
    said = json.loads(capsys.readouterr().out)
    assert said == {"ok": False, "error": "KeyError('spec')", "restored": True}


def test_a_change_that_waits_for_the_boot_leaves_it_the_lock(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[bool] = []

    def cloud_init_ends(_: float) -> None:
        with converge.locked(0):
            waited.append(True)
        files.put("/run/cloud-init/result.json")

    monkeypatch.setattr(time, "sleep", cloud_init_ends)
    monkeypatch.setattr(sys, "stdin", io.StringIO("{}"))
    converge.main()
    assert waited
    assert "KeyError" in capsys.readouterr().out


# ---- guests of lbctl 0.1


def install_0_1(files: Files) -> None:
    for entry in settings_0_1()["files"]:
        files.put(entry["path"], "of lbctl 0.1", int(entry["mode"], 8))
    files.put(SETTINGS, json.dumps(settings_0_1()))
    files.put(APPLIED, json.dumps(settings_0_1()))
    files.put("/run/cloud-init/result.json", "{}")


def test_a_guest_of_lbctl_0_1_is_upgraded_live(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install_0_1(files)
    wanted = spec()
    # Everything except the programs is unchanged.
    for entry in wanted["files"]:
        if entry["affects"] != "guest":
            files.put(entry["path"], entry["content"], entry["mode"])
    assert answer(wanted, monkeypatch, capsys)["ok"]
    folder = files.path("/usr/local/lib/lbctl")
    assert sorted(os.listdir(folder)) == ["lbctl-guest", "lbctl_guest"]
    assert files.mode("/usr/local/lib/lbctl/lbctl-guest") == 0o755
    assert json.loads(files.text(APPLIED)) == settings_of(wanted)
    # No service is touched for it.
    table = settings_of(wanted)["service_table"]
    units = [table[name]["unit"] for name in settings_0_1()["services"]]
    assert [line for line in commands.ran if any(unit in line for unit in units)] == []


def test_a_service_of_lbctl_0_1_is_switched_off_without_its_table(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install_0_1(files)
    commands.fail("systemctl is-active")
    assert answer(small_spec(CFG), monkeypatch, capsys)["ok"]
    assert commands.of("disable --now fluentd.service")


def test_a_refused_upgrade_gives_lbctl_0_1_its_services_back(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install_0_1(files)
    before = files.snapshot()
    commands.fail("systemctl is-active")
    commands.fail("passwd", "no")
    files.put("/etc/shadow", "ubuntu:$6$hash:1::\n")
    wanted = small_spec(CFG)
    wanted["admin"]["password_hash"] = None
    said = answer(wanted, monkeypatch, capsys)
    assert (said["ok"], said["restored"]) == (False, True), said
    after = files.snapshot()
    for path in before:
        assert after[path] == before[path], path
    assert commands.of("start prometheus-node-exporter.service")


def test_a_certificate_of_a_guest_of_lbctl_0_1_is_renewed(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    admin_socket: HaproxySocket,
) -> None:
    install_0_1(files)
    admin_socket.answers["commit"] = "Success!"
    only = (CLIENT_PEM, CA_PEM)
    monkeypatch.setattr(haproxy, "is_installed", lambda _: False)
    assert answer(spec(), monkeypatch, capsys, only) == {"ok": True, "notes": []}
    assert json.loads(files.text(APPLIED)) == settings_0_1()
    assert len([said for said in admin_socket.asked if said.startswith("commit")]) == 3


def test_an_upgrade_of_lbctl_0_1_hardens_haproxy_without_a_restart(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its sandbox is there for its next start. What may begin now begins now."""
    install_0_1(files)
    wanted = spec()
    for entry in wanted["files"]:
        if entry["path"] == "/etc/systemd/system/haproxy.service":
            files.put(entry["path"], entry["content"], entry["mode"])
    reloads: list[float] = []
    monkeypatch.setattr(haproxy, "is_installed", lambda _: False)
    monkeypatch.setattr(haproxy, "reload", reloads.append)
    files.put("/proc/sys/kernel/panic", "0\n")
    files.put("/usr/bin/fluentd", mode=0o755)
    assert answer(wanted, monkeypatch, capsys)["ok"]
    assert "ProtectSystem=strict" in files.text(
        "/etc/systemd/system/haproxy.service.d/50-lbctl.conf"
    )
    assert reloads == [haproxy.PATIENCE]
    assert [line for line in commands.of("haproxy.service") if "is-active" not in line] == []
    started = commands.ran.index("systemctl restart lbctl-liveness.service")
    assert commands.ran.index("systemctl daemon-reload") < started
    assert commands.of("add-wants multi-user.target lbctl-liveness.service")
    assert commands.of("systemctl restart prometheus-node-exporter.service")
    assert files.text("/proc/sys/kernel/panic") == "10\n"


def test_a_refused_upgrade_takes_lbctls_own_units_back(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unit = "/etc/systemd/system/lbctl-liveness.service"
    link = "/etc/systemd/system/multi-user.target.wants/lbctl-liveness.service"
    install_all(files, small_spec())
    commands.fail("systemctl restart prometheus-node-exporter.service", "no such unit")
    files.put(link)
    new = small_spec(file(unit, "unit"), services=("haproxy", "node-exporter"))
    assert not answer(new, monkeypatch, capsys)["ok"]
    assert not files.has(unit)
    assert not files.has(link)
    assert commands.of("systemctl stop lbctl-liveness.service")


def test_a_program_that_changes_is_started_again(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unit = file("/etc/systemd/system/lbctl-liveness.service", "unit")
    program = "/usr/local/lib/lbctl/lbctl_guest/liveness.py"
    old = small_spec(unit, file(program, "old"))
    install_all(files, old)
    assert answer(changed(old, program, "new"), monkeypatch, capsys)["ok"]
    assert commands.of("systemctl restart lbctl-liveness.service")
    commands.ran.clear()
    assert answer(changed(old, program, "new"), monkeypatch, capsys)["ok"]
    assert commands.ran == []


def test_a_kernel_that_refuses_a_setting_refuses_no_change(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_all(files, small_spec())
    new = small_spec(file("/etc/sysctl.d/90-lbctl.conf", "# remark = 1\nkernel.panic = 10\n"))
    assert answer(new, monkeypatch, capsys)["ok"]
    files.put("/proc/sys/kernel/panic", "0\n")
    newer = small_spec(file("/etc/sysctl.d/90-lbctl.conf", "kernel.panic = 20\n"))
    assert answer(newer, monkeypatch, capsys)["ok"]
    assert files.text("/proc/sys/kernel/panic") == "20\n"
