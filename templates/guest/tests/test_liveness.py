"""A real HAProxy that hangs is ended; one that is busy, or only looks silent, is not."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from conftest import GUARD, Commands, Files
from lbctl_guest import liveness, paths, status, tools
from lbctl_guest.liveness import Silence

# As lbctl starts it, with checks of a node that is not there, and few places on the socket.
CONFIG = """
global
    stats socket {root}/run/haproxy/admin.sock mode 600 level admin
    stats maxconn 2
    stats timeout 1m
defaults
    mode tcp
    timeout connect 1s
    timeout client 1m
    timeout server 1m
frontend postgres
    bind unix@{root}/run/postgres
    default_backend primary
backend primary
    server node1 127.0.0.1:1 check inter 200ms
"""


class Haproxy:
    """A process with its worker; /proc has nobody else."""

    def __init__(self, files: Files) -> None:
        self.files = files
        files.put("/etc/haproxy/haproxy.cfg", CONFIG.format(root=files.root))
        files.path("/run/haproxy").mkdir()
        GUARD.may_start = True
        self.master = subprocess.Popen(
            ["haproxy", "-W", "-db", "-f", str(files.path("/etc/haproxy/haproxy.cfg"))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.worker = 0

    def wait(self) -> None:
        while liveness.answers() is not True:
            time.sleep(0.05)
        info = status.fields(tools.ask(paths.ADMIN_SOCKET, "show info"))
        self.worker = int(info["Pid"])
        self.files.path("/proc").mkdir()
        for pid in (self.master.pid, self.worker):
            self.files.path(f"/proc/{pid}").symlink_to(f"../../../proc/{pid}")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.worker, number)
        # On a busy machine a thread may answer for a while before it stops.
        while number == signal.SIGSTOP and set(self.states()) != {"T"}:
            time.sleep(0.005)

    def states(self) -> Iterator[str]:
        """Of each of the worker's threads (proc(5), "stat")."""
        for stat in self.files.path(f"/proc/{self.worker}/task").glob("*/stat"):
            yield stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0]

    def end(self) -> None:
        for pid in (self.worker, self.master.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.master.wait()


@pytest.fixture
def haproxy(files: Files, monkeypatch: pytest.MonkeyPatch) -> Iterator[Haproxy]:
    monkeypatch.setattr(liveness, "PATIENCE", 0.3)
    process = Haproxy(files)
    try:
        process.wait()
        yield process
    finally:
        process.end()


def rounds(count: int) -> list[bool]:
    silence = Silence()
    found = []
    for _ in range(count):
        found.append(silence.is_proof())
        time.sleep(0.05)
    return found


def test_a_haproxy_that_hangs_is_ended(
    haproxy: Haproxy, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert liveness.worker() is not None
    haproxy.signal(signal.SIGSTOP)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if commands.of("kill"):
            raise InterruptedError

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(InterruptedError):
        liveness.watch()
    assert commands.of("kill") == ["systemctl kill --signal=SIGKILL haproxy.service"]
    # One round to see it, and then in a row.
    assert slept.count(liveness.PERIOD) == 1 + liveness.ROUNDS


def test_a_haproxy_that_goes_on_is_left(haproxy: Haproxy) -> None:
    silence = Silence()
    haproxy.signal(signal.SIGSTOP)
    for _ in range(liveness.ROUNDS):
        assert not silence.is_proof()
    haproxy.signal(signal.SIGCONT)
    while not liveness.answers():
        time.sleep(0.05)
    assert not silence.is_proof()
    haproxy.signal(signal.SIGSTOP)
    assert [silence.is_proof() for _ in range(liveness.ROUNDS + 1)] == [False] * 3 + [True]


def test_a_haproxy_whose_socket_is_taken_is_left(haproxy: Haproxy) -> None:
    """It gives no answer to anybody else, and its checks go on."""
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            s = stack.enter_context(socket.socket(socket.AF_UNIX))
            s.connect(haproxy.files.root + paths.ADMIN_SOCKET)
        time.sleep(0.2)
        assert liveness.answers() is False
        assert rounds(liveness.ROUNDS + 3) == [False] * (liveness.ROUNDS + 3)


def test_a_haproxy_that_gets_little_time_is_left(haproxy: Haproxy) -> None:
    """Stopped for nearly all of the time, as where others take the processor."""
    silence = Silence()
    for _ in range(liveness.ROUNDS + 3):
        haproxy.signal(signal.SIGSTOP)
        assert not silence.is_proof()
        haproxy.signal(signal.SIGCONT)
        time.sleep(0.02)


def test_a_haproxy_that_is_looked_into_is_left(
    haproxy: Haproxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tools.read_bytes

    def traced(path: str) -> bytes:
        return real(path).replace(b"TracerPid:\t0\n", b"TracerPid:\t7\n")

    monkeypatch.setattr(liveness, "read_bytes", traced)
    haproxy.signal(signal.SIGSTOP)
    assert rounds(liveness.ROUNDS + 2) == [False] * (liveness.ROUNDS + 2)


def test_a_unit_that_is_stopping_is_left(haproxy: Haproxy, commands: Commands) -> None:
    commands.fail("systemctl is-active")
    haproxy.signal(signal.SIGSTOP)
    assert rounds(liveness.ROUNDS + 2) == [False] * (liveness.ROUNDS + 2)


def test_where_nobody_listens_there_is_nobody_to_end(files: Files) -> None:
    assert liveness.answers() is None
    path = files.path(paths.ADMIN_SOCKET)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
    assert liveness.answers() is None
    files.path("/proc").mkdir()
    assert liveness.worker() is None
    assert liveness.signs_of_life() is None
    assert rounds(liveness.ROUNDS + 2) == [False] * (liveness.ROUNDS + 2)


def test_the_worker_is_the_youngest_child_of_a_haproxy(files: Files) -> None:
    """Not the master, an old worker, or one that only checks a configuration."""

    def process(pid: int, parent: int, started: int, name: str = "haproxy") -> None:
        files.put(f"/proc/{pid}/comm", name + "\n")
        fields = ["S", str(parent), *["0"] * 17, str(started), "0"]
        files.put(f"/proc/{pid}/stat", f"{pid} ({name}) {' '.join(fields)}\n")

    process(1, 0, 1, "systemd")
    process(10, 1, 100)
    process(300, 10, 200)
    process(20, 10, 300)
    process(400, 7, 400)
    process(500, 1, 500, "a) b")
    files.put("/proc/meminfo")
    pathlib.Path(files.root + "/proc/600").mkdir()
    assert liveness.worker() == ("20", 300)
