"""Small tools that the modules share: files, commands, HAProxy's sockets, packages. Python 3.10 or
newer, standard library only."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import socket
import subprocess
import tempfile
import time

from .paths import SETTINGS, UNITS, at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .wire import Settings

DOCKER = ["docker", "--config", "/etc/lbctl/docker"]
# The user of the official image.
CONTAINER_UID = 99


class Failure(Exception):
    """Its text is a message for a person."""


def in_words(problem: Exception) -> str:
    """The text of an unexpected exception says nothing without its type."""
    return str(problem) if isinstance(problem, (Failure, OSError)) else repr(problem)


class Attempts:
    """Tries everything that it is asked to, and fails at the end, with all that went wrong."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def attempt(self, what: str, do: Callable[..., object], *args: object) -> None:
        try:
            do(*args)
        except Exception as problem:
            self.failures.append(f"{what}: {in_words(problem)}")

    def conclude(self) -> None:
        if self.failures:
            raise Failure("\n".join(self.failures))


# ---- files


def settings() -> Settings:
    with open(at(SETTINGS), encoding="utf-8") as f:
        wanted: Settings = json.load(f)
        return wanted


def past_settings(path: str) -> Settings:
    """Empty where there are none. Another lbctl may have written them: any key may be missing."""
    nothing: Any = {}
    found: Settings = read_json(path) or nothing
    return found


def read(path: str) -> bytes | None:
    try:
        with open(at(path), "rb") as f:
            return f.read()
    except OSError:
        return None


def read_bytes(path: str) -> bytes:
    """Empty where there is no such file."""
    return read(path) or b""


def read_json(path: str) -> Any:
    """None where there is no such file, or no JSON in it."""
    try:
        return json.loads((read(path) or b"null").decode("utf-8", "replace"))
    except ValueError:
        return None


def exists(path: str) -> bool:
    return os.path.lexists(at(path))


def remove(path: str) -> None:
    """Where it is there."""
    if exists(path):
        os.unlink(at(path))


class NewFile:
    """A file to be installed."""

    def __init__(self, path: str, content: str, mode: int, ids: tuple[int, int] = (0, 0)) -> None:
        self.path = path
        self.content = content
        self.mode = mode
        self.ids = ids


def write(path: str, data: str | bytes, mode: int = 0o644) -> None:
    """The whole file or nothing of it, also when the power fails."""
    os.rename(stage(path, data, mode), at(path))


def stage(path: str, data: str | bytes, mode: int, ids: tuple[int, int] | None = None) -> str:
    """The file whole on the disk, beside its place, to be renamed. Its name is not the guest's:
    it has the root in front."""
    directory = at(os.path.dirname(path))
    os.makedirs(directory, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=directory, prefix=".lbctl-")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
            os.fchmod(f.fileno(), mode)
            if ids:
                os.fchown(f.fileno(), *ids)
            f.flush()
            os.fsync(f.fileno())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def digest(paths: Iterable[str], also: Iterable[bytes] = ()) -> str:
    """Of the contents of files, and of what else is given."""
    h = hashlib.sha256()
    for data in [*map(read_bytes, paths), *also]:
        h.update(b"%d " % len(data) + data)
    return h.hexdigest()


def own_files(conf: Settings, owner: str) -> None:
    """cloud-init writes everything as root: the other users may not exist yet."""
    paths = [entry["path"] for entry in conf["files"] if entry["owner"] == owner]
    if owner == "haproxy":
        uid = CONTAINER_UID if conf["runtime"] == "container" else 0
        ids = (uid, uid)
    elif user_exists(owner):
        ids = (0, grp.getgrnam(owner).gr_gid)
    else:
        return
    for path in paths:
        os.chown(at(path), *ids)


def user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
        return True
    except KeyError:
        return False


# ---- commands


def run(*argv: str, timeout: float = 120, check: bool = True, stdin: str = "") -> tuple[int, str]:
    """The command's exit status and its output, both streams together. It has an end."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
            text=True,
            errors="replace",
        )
        code, text = done.returncode, done.stdout
    except FileNotFoundError:
        code, text = 127, "not installed"
    except subprocess.TimeoutExpired:
        code, text = 124, f"no answer within {timeout} s"
    if check and code != 0:
        raise Failure(f"{' '.join(argv[:3])}: exit {code}: {text.strip()[-2000:]}")
    return code, text


def systemctl(*args: str, timeout: float = 300, check: bool = True) -> tuple[int, str]:
    return run("systemctl", *args, timeout=timeout, check=check)


def is_active(unit: str) -> bool:
    return systemctl("is-active", "--quiet", unit, timeout=30, check=False)[0] == 0


def enable(unit: str) -> None:
    """For the next boot. Not by `systemctl enable`: for a package that has a SysV script too it
    also maintains the links of that one, and reloads the manager twice, which is what takes a
    small guest the longest."""
    wants = "timers.target" if unit.endswith(".timer") else "multi-user.target"
    if not exists(f"{UNITS}/{wants}.wants/{unit}"):
        systemctl("--no-reload", "add-wants", wants, unit)


def enable_now(unit: str) -> None:
    enable(unit)
    systemctl("start", unit)


def journal(*of: str, lines: int) -> str:
    """The last lines, for a message."""
    return run(
        "journalctl", *of, "--lines", str(lines), "--output", "cat", "--no-pager", check=False
    )[1].strip()


def install_packages(wanted: list[str]) -> None:
    """Those that are missing. Without any, nothing is asked of the network."""
    query = ("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n")
    text = run(*query, *wanted, check=False)[1]
    there = {line.split(" ")[0] for line in text.splitlines() if line.endswith(" installed")}
    missing = [name for name in wanted if name not in there]
    if missing:
        apt("update")
        apt("install", *missing)


def apt(*args: str) -> None:
    options = ("--quiet", "--yes", "--option", "DPkg::Lock::Timeout=300")
    run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *options, *args, timeout=900)


# ---- HAProxy's sockets


def ask(path: str, command: str, timeout: float = 3.0, ends: bool = False) -> str:
    """One command on one of HAProxy's sockets, and its whole answer. `ends`: the master answers
    some commands only when it knows that no other follows."""
    deadline = time.monotonic() + timeout
    answer: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(timeout)
        s.connect(at(path))
        s.sendall(command.encode() + b"\n")
        if ends:
            s.shutdown(socket.SHUT_WR)
        while True:
            s.settimeout(max(0.01, deadline - time.monotonic()))
            chunk = s.recv(65536)
            if not chunk:
                return b"".join(answer).decode("utf-8", "replace")
            answer.append(chunk)
