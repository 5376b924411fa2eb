"""HAProxy starts whatever the disk says: full, read-only, wiped, by errors and on a real file
system. What a rename put in place lasts. Answers have bounds."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Callable

import pytest

from conftest import GUARD, GUEST, Files, HaproxySocket
from lbctl_guest import converge, haproxy, paths, tools
from lbctl_guest.paths import HAPROXY_CFG, KEPT_STATES, SERVER_STATE, SETTINGS
from lbctl_guest.tools import NewFile
from samples import settings
from test_haproxy import STATE
from test_programs import REAL_RUN

# What a disk says to a write that it does not take.
ERRORS = [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT]


def refuse(monkeypatch: pytest.MonkeyPatch, code: int, below: tuple[str, ...]) -> None:
    """Nothing can be written below these folders, nor can owners be changed."""
    real_stage, real_chown = tools.stage, os.chown

    def stage(path: str, data: str | bytes, mode: int, ids: tuple[int, int] | None = None) -> str:
        if path.startswith(below):
            raise OSError(code, os.strerror(code))
        return real_stage(path, data, mode, ids)

    def chown(path: str, uid: int, gid: int) -> None:
        if path.removeprefix(paths.ROOT).startswith(below):
            raise OSError(code, os.strerror(code))
        real_chown(path, uid, gid)

    monkeypatch.setattr(tools, "stage", stage)
    monkeypatch.setattr(os, "chown", chown)


@pytest.mark.parametrize("code", ERRORS)
def test_haproxy_starts_with_a_disk_that_takes_nothing(
    code: int, files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.put(SETTINGS, json.dumps(settings()))
    files.put(KEPT_STATES[1], STATE)
    refuse(monkeypatch, code, ("/var/", "/etc/"))
    haproxy.prepare()
    assert "10.77.0.11 0 0 1" in files.text(SERVER_STATE)
    assert os.strerror(code) in capsys.readouterr().err


@pytest.mark.parametrize("code", ERRORS)
def test_haproxy_starts_where_nothing_at_all_can_be_written(
    code: int, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put(SETTINGS, json.dumps(settings()))
    refuse(monkeypatch, code, ("/",))
    haproxy.prepare()


@pytest.mark.parametrize("code", ERRORS)
def test_the_state_is_saved_where_it_can_be(
    code: int,
    files: Files,
    admin_socket: HaproxySocket,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    admin_socket.answers["show servers state"] = STATE
    refuse(monkeypatch, code, ("/var/",))
    haproxy.save_state()
    assert files.text(KEPT_STATES[0]) == STATE
    assert not files.has(KEPT_STATES[1])
    assert os.strerror(code) in capsys.readouterr().err


def test_a_reload_has_the_state_of_now_or_none(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put(SERVER_STATE, "of a minute ago")
    haproxy.hand_over_state(STATE)
    assert files.text(SERVER_STATE) == STATE
    refuse(monkeypatch, errno.ENOSPC, ("/run/",))
    haproxy.hand_over_state(STATE)
    assert not files.has(SERVER_STATE)


# Runs in a mount namespace of its own; the disk is a small tmpfs, and so is /run.
REAL = """
import json, os, subprocess, sys
sys.path.insert(0, {guest!r})
from lbctl_guest import haproxy, paths
root = {root!r}
def mount(*words): subprocess.run(["mount", *words], check=True)
mount("-t", "tmpfs", "-o", "size=64k", "disk", root)
os.mkdir(root + "/run")
mount("-t", "tmpfs", "-o", "size=1m", "run", root + "/run")
for path, text in {files!r}.items():
    os.makedirs(os.path.dirname(root + path), exist_ok=True)
    with open(root + path, "w") as f:
        f.write(text)
def fill():
    with open(root + "/filler", "wb", buffering=0) as f:
        try:
            while True:
                f.write(bytes(4096))
        except OSError:
            pass
case = {case!r}
if case == "full":
    fill()
elif case == "read-only":
    mount("-o", "remount,ro", root)
elif case == "wiped":
    os.unlink(root + paths.KEPT_STATES[1])
    os.rmdir(root + os.path.dirname(paths.KEPT_STATES[1]))
paths.ROOT = root
haproxy.prepare()
print(open(root + paths.SERVER_STATE).read(), end="")
"""


@pytest.mark.parametrize("case", ["well", "full", "read-only", "wiped"])
def test_haproxy_starts_with_a_real_disk_that_is(case: str, files: Files) -> None:
    conf = settings()
    conf["runtime"] = "package"
    there = {SETTINGS: json.dumps(conf), KEPT_STATES[1]: STATE, HAPROXY_CFG: "cfg\n"}
    program = REAL.format(guest=str(GUEST), root=files.root, files=there, case=case)
    own = [] if os.getuid() == 0 else ["--map-root-user"]
    GUARD.may_start = True
    done = REAL_RUN(
        ["unshare", "--mount", *own, sys.executable, "-B", "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    known = "3 primary 1 node1 10.77.0.11 0 0 1"
    assert (known in done.stdout) == (case != "wiped"), done.stdout
    assert done.stdout.startswith("1\n")


# ---- what a rename puts in place lasts


@pytest.fixture
def synced(files: Files, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Renames and flushes, in their order, by the paths of the guest."""
    done: list[str] = []
    rename, fsync = os.rename, os.fsync

    def note_rename(one: str, other: str) -> None:
        done.append("rename " + other.removeprefix(files.root))
        rename(one, other)

    def note_fsync(fd: int) -> None:
        path = os.readlink(f"/dev/fd/{fd}").removeprefix(files.root)
        done.append("sync " + ("file" if "/.lbctl-" in path else path))
        fsync(fd)

    monkeypatch.setattr(os, "rename", note_rename)
    monkeypatch.setattr(os, "fsync", note_fsync)
    return done


def test_a_written_file_outlives_a_power_cut(files: Files, synced: list[str]) -> None:
    files.put("/etc/x/there")
    tools.write("/etc/x/file", "text")
    assert synced == ["sync file", "rename /etc/x/file", "sync /etc/x"]


def test_a_new_folder_outlives_a_power_cut(files: Files, synced: list[str]) -> None:
    files.put("/etc/there")
    tools.write("/etc/a/b/file", "text")
    assert synced == [
        "sync /etc",
        "sync /etc/a",
        "sync file",
        "rename /etc/a/b/file",
        "sync /etc/a/b",
    ]


def test_a_change_outlives_a_power_cut(files: Files, synced: list[str]) -> None:
    for path in ("/etc/x/gone", "/etc/y/there"):
        files.put(path)
    new = [NewFile("/etc/y/one", "1", 0o644), NewFile("/etc/y/two", "2", 0o644)]
    converge.install(new, ["/etc/x/gone"])
    assert synced == [
        "sync file",
        "sync file",
        "rename /etc/y/one",
        "rename /etc/y/two",
        "sync /etc/x",
        "sync /etc/y",
    ]


def test_a_removal_outlives_a_power_cut(files: Files, synced: list[str]) -> None:
    files.put("/etc/x/gone")
    tools.remove("/etc/x/gone")
    tools.remove("/etc/x/gone")
    assert synced == ["sync /etc/x"]


# ---- answers that never end


@pytest.mark.parametrize("read", [haproxy.servers_up, haproxy.process_id, haproxy.node_addresses])
def test_an_answer_without_an_end_is_one_that_failed(
    read: Callable[[], object], admin_socket: HaproxySocket
) -> None:
    admin_socket.answers["show"] = "x" * (tools.MOST + 1)
    assert not read()


def test_an_answer_has_a_bound_in_size(admin_socket: HaproxySocket) -> None:
    admin_socket.answers["show"] = "x" * tools.MOST
    assert len(tools.ask(paths.ADMIN_SOCKET, "show")) == tools.MOST
    admin_socket.answers["show"] += "x"
    with pytest.raises(OSError, match=r"admin.sock is longer than 4096 KiB$"):
        tools.ask(paths.ADMIN_SOCKET, "show")
    assert tools.ask(paths.ADMIN_SOCKET, "show", most=2 * tools.MOST)


def test_an_answer_has_a_bound_in_time(dripping_socket: HaproxySocket) -> None:
    with pytest.raises(TimeoutError, match=r"no whole answer from .*admin.sock within 0.3 s$"):
        tools.ask(paths.ADMIN_SOCKET, "show", timeout=0.3)


def test_a_silent_socket_is_named(files: Files) -> None:
    os.makedirs(paths.at("/run/haproxy"), exist_ok=True)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(paths.at("/run/haproxy/silent.sock"))
        silent.listen()
        with pytest.raises(TimeoutError, match=r"from /run/haproxy/silent.sock within 0.2 s$"):
            tools.ask("/run/haproxy/silent.sock", "show info", timeout=0.2)
