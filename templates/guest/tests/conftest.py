"""A guest that is a folder: its files are below a root of the test's own, its commands are recorded
and answered by the test, and its owners are only noted. Needs no root and starts nothing."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lbctl_guest import arp, paths, tools, vip

GOLDEN = pathlib.Path(__file__).parent / "golden"
GUEST = pathlib.Path(__file__).parents[1]
# What a test must not touch: the paths of a guest, on the machine that runs the tests.
FORBIDDEN = ("/etc/", "/var/lib/", "/run/", "/usr/local/lib/lbctl", "/proc/", "/opt/")


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


class Guard:
    """Sees to it that nothing outside of the root is opened, changed or started, also where the
    program would swallow the error. An audit hook stays for ever, so there is one."""

    def __init__(self) -> None:
        self.root: str | None = None
        self.may_start = False
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.root is None:
            return
        if event == "subprocess.Popen" and not self.may_start:
            self.refuse(f"{event} {arguments[1]}")
        if event in ("open", "socket.connect") or event.startswith(("os.", "shutil.")):
            for path in arguments[:2]:
                if (
                    isinstance(path, str)
                    and path.startswith(FORBIDDEN)
                    and not path.startswith((self.root, str(GUEST), sys.prefix))
                ):
                    self.refuse(f"{event} {path}")

    def refuse(self, what: str) -> None:
        self.seen.append(what)
        raise AssertionError(f"outside of the root: {what}")


GUARD = Guard()


class Files:
    """The guest's files, by their paths in the guest."""

    def __init__(self, root: str) -> None:
        self.root = root
        # Path in the guest to the ids it was given.
        self.owners: dict[str, tuple[int, int]] = {}

    def path(self, path: str) -> pathlib.Path:
        return pathlib.Path(self.root + path)

    def put(self, path: str, text: str | bytes = "", mode: int = 0o644) -> None:
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        file.chmod(mode)

    def text(self, path: str) -> str:
        return self.path(path).read_text(encoding="utf-8")

    def mode(self, path: str) -> int:
        return self.path(path).stat().st_mode & 0o7777

    def has(self, path: str) -> bool:
        return os.path.lexists(self.root + path)

    def snapshot(self) -> dict[str, tuple[bytes, int]]:
        """Every file below the root, with its mode."""
        files = (p for p in pathlib.Path(self.root).rglob("*") if p.is_file())
        return {
            str(p).removeprefix(self.root): (p.read_bytes(), p.stat().st_mode & 0o7777)
            for p in files
        }


class Commands:
    """What the program would have run. Every command succeeds and prints nothing, unless the test
    says otherwise."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.stdin: dict[str, str] = {}
        self.answers: dict[str, tuple[int, str] | Exception] = {}

    def answer(self, beginning: str, text: str = "", code: int = 0) -> None:
        self.answers[beginning] = (code, text)

    def fail(self, beginning: str, text: str = "it fails") -> None:
        self.answer(beginning, text, 1)

    def run(self, argv: Any, **how: Any) -> subprocess.CompletedProcess[str]:
        line = " ".join(argv)
        self.ran.append(line)
        self.stdin[line] = how.get("input") or ""
        matching = [b for b in self.answers if line.startswith(b)]
        answer = self.answers[max(matching, key=len)] if matching else (0, "")
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(argv, answer[0], answer[1])

    def of(self, word: str) -> list[str]:
        return [line for line in self.ran if word in line]


class HaproxySocket:
    """One of HAProxy's sockets: an answer for each command, by its beginning."""

    def __init__(self, path: pathlib.Path) -> None:
        self.answers: dict[str, str] = {}
        self.asked: list[str] = []
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            # Ends the other thread's `accept` too, which `close` alone does not.
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.path.unlink(missing_ok=True)

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            with client:
                command = client.recv(65536).decode()
                self.asked.append(command)
                matching = [b for b in self.answers if command.startswith(b)]
                if matching:
                    # Who asked may have heard enough.
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        client.sendall(self.answers[max(matching, key=len)].encode())


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    # Short: the path of a socket has at most 108 bytes.
    root = tempfile.mkdtemp(prefix="guest-", dir="/tmp")
    guest = Files(root)

    def chown(path: str, uid: int, gid: int) -> None:
        os.stat(path)
        guest.owners[str(path).removeprefix(root)] = (uid, gid)

    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    monkeypatch.setattr(tools, "owner", lambda path: guest.owners.get(path, (-1, -1)))
    guest.path("/run/lbctl").mkdir(parents=True)
    GUARD.root, GUARD.seen, GUARD.may_start = root, [], False
    yield guest
    GUARD.root = None
    shutil.rmtree(root)
    assert GUARD.seen == []


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """A loop that waits for what does not come would wait for minutes."""

    def over(*_: object) -> None:
        raise AssertionError("the test takes too long")

    signal.signal(signal.SIGALRM, over)
    signal.alarm(10)
    yield
    signal.alarm(0)


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    fake = Commands()
    monkeypatch.setattr(subprocess, "run", fake.run)
    return fake


@pytest.fixture(autouse=True)
def users(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Those that the guest has."""
    known = {"ubuntu"}

    def getpwnam(name: str) -> pwd.struct_passwd:
        if name not in known:
            raise KeyError(name)
        return pwd.struct_passwd((name, "x", 1000, 1000, "", f"/home/{name}", "/bin/bash"))

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    return known


@pytest.fixture
def admin_socket(files: Files) -> Iterator[HaproxySocket]:
    server = HaproxySocket(files.path(paths.ADMIN_SOCKET))
    yield server
    server.close()


@pytest.fixture
def dripping_socket(files: Files) -> Iterator[HaproxySocket]:
    """Its answer comes byte by byte, and has no end."""

    class Dripping(HaproxySocket):
        def serve(self) -> None:
            with contextlib.suppress(OSError):
                client, _ = self.socket.accept()
                with client:
                    while True:
                        client.sendall(b"x")
                        time.sleep(0.05)

    server = Dripping(files.path(paths.ADMIN_SOCKET))
    yield server
    server.close()


@pytest.fixture
def master_socket(files: Files) -> Iterator[HaproxySocket]:
    server = HaproxySocket(files.path(paths.MASTER_SOCKET))
    yield server
    server.close()


@pytest.fixture
def card(files: Files, monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """The addresses that a guest has that shares one: see `sharing`."""
    files.put("/sys/class/net/lo/address", "00:00:00:00:00:00\n")
    files.put("/sys/class/net/eth0/address", "52:54:00:12:34:56\n")
    files.put("/sys/class/net/br0/address", "52:54:00:12:34:56\n")
    files.put("/sys/class/net/br0/bridge/forward_delay", "0\n")
    for name in ("all", "eth0"):
        for setting in ("arp_ignore", "arp_announce"):
            files.put(f"/proc/sys/net/ipv4/conf/{name}/{setting}", "0")
    texts = {entry["path"]: entry["content"] for entry in golden("task.json")["spec"]["files"]}
    files.put(paths.SETTINGS, texts[paths.SETTINGS])
    there = {("lo", "127.0.0.1"), ("eth0", "10.0.0.2")}
    monkeypatch.setattr(vip, "addresses", lambda: there)
    monkeypatch.setattr(arp, "ask", lambda *_: {})
    return there
