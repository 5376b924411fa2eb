"""Small tools that the modules share: files, commands, HAProxy's sockets, packages. Python 3.10 or
newer, standard library only."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import socket
import subprocess
import sys
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


def complain(text: str) -> None:
    """A warning in the journal (sd-daemon(3)), or on the terminal."""
    level = "<4>" if "JOURNAL_STREAM" in os.environ else ""
    sys.stderr.write(f"{level}lbctl-guest: {text}\n")


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
    found: Settings = read_json(path) or no_settings()
    return found


def no_settings() -> Settings:
    """Of a guest that was never lbctl's."""
    nothing: Any = {}
    found: Settings = nothing
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
        sync_folders([path])


def sync_folders(paths: Iterable[str]) -> None:
    """Makes the folders of these files last: a power cut may otherwise take a rename back, though
    the file that was renamed is whole (fsync(2))."""
    for folder in sorted({os.path.dirname(path) for path in paths}):
        fd = os.open(at(folder), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class NewFile:
    """A file to be installed."""

    def __init__(
        self, path: str, content: str | bytes, mode: int, ids: tuple[int, int] = (0, 0)
    ) -> None:
        self.path = path
        self.content = content
        self.mode = mode
        self.ids = ids


def write(
    path: str, data: str | bytes, mode: int = 0o644, ids: tuple[int, int] | None = None
) -> None:
    """The whole file or nothing of it, also when the power fails."""
    os.rename(stage(path, data, mode, ids), at(path))
    sync_folders([path])


def stage(path: str, data: str | bytes, mode: int, ids: tuple[int, int] | None = None) -> str:
    """The file whole on the disk, beside its place, to be renamed. Its name is not the guest's:
    it has the root in front."""
    folder = os.path.dirname(path)
    make_folder(folder)
    temporary = at(f"{folder}/.lbctl-{os.urandom(6).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
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


def make_folder(folder: str) -> None:
    """With those above it, each of them to last."""
    if not os.path.isdir(at(folder)):
        make_folder(os.path.dirname(folder))
        os.makedirs(at(folder), exist_ok=True)
        sync_folders([folder])


def digest(paths: Iterable[str], also: Iterable[bytes] = ()) -> str:
    """Of the contents of files, and of what else is given."""
    # Few commands need it, and a slow guest takes long to read all of OpenSSL.
    import hashlib

    h = hashlib.sha256()
    for data in [*map(read_bytes, paths), *also]:
        h.update(b"%d " % len(data) + data)
    return h.hexdigest()


def own_files(conf: Settings, owner: str) -> None:
    """cloud-init writes everything as root: the other users may not exist yet. What is right is
    left alone: a disk that is read-only refuses even that."""
    paths = [entry["path"] for entry in conf["files"] if entry["owner"] == owner]
    if owner == "haproxy":
        uid = CONTAINER_UID if conf["runtime"] == "container" else 0
        ids = (uid, uid)
    elif user_exists(owner):
        ids = (0, grp.getgrnam(owner).gr_gid)
    else:
        return
    for path in paths:
        own(path, *ids)


def own(path: str, uid: int, gid: int) -> None:
    if owner(path) != (uid, gid):
        os.chown(at(path), uid, gid)


def owner(path: str) -> tuple[int, int]:
    present = os.stat(at(path))
    return present.st_uid, present.st_gid


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


def memory() -> int:
    """The guest's, in MiB; 0: it is unknown."""
    found = re.search(rb"^MemTotal: +(\d+) kB", read_bytes("/proc/meminfo"), re.M)
    return int(found.group(1)) // 1024 if found else 0


def is_active(unit: str) -> bool:
    return systemctl("is-active", "--quiet", unit, timeout=30, check=False)[0] == 0


def enable(unit: str) -> None:
    """For the next boot. Not by `systemctl enable`: for a package that has a SysV script too it
    also maintains the links of that one, and reloads the manager twice, which is what takes a
    small guest the longest."""
    if not is_enabled(unit):
        systemctl("--no-reload", "add-wants", wanted_by(unit), unit)


def is_enabled(unit: str) -> bool:
    return exists(f"{UNITS}/{wanted_by(unit)}.wants/{unit}")


def enable_now(unit: str, verb: str = "start") -> None:
    enable(unit)
    systemctl(verb, unit)


def disable_now(unit: str) -> None:
    """Also where the unit's file is gone, which `systemctl disable` refuses."""
    systemctl("stop", unit, check=False)
    disable(unit)


def disable(unit: str) -> None:
    remove(f"{UNITS}/{wanted_by(unit)}.wants/{unit}")


def wanted_by(unit: str) -> str:
    return "timers.target" if unit.endswith(".timer") else "multi-user.target"


def journal(*of: str, lines: int) -> str:
    """The last lines, for a message."""
    return run(
        "journalctl", *of, "--lines", str(lines), "--output", "cat", "--no-pager", check=False
    )[1].strip()


def install_packages(wanted: list[str]) -> None:
    """Those that are missing. Without any, nothing is asked of the network."""
    query = ("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n")
    text = run(*query, *wanted, check=False)[1]
    there = {line.split(" ")[0] for line in text.split("\n") if line.endswith(" installed")}
    missing = [name for name in wanted if name not in there]
    if missing:
        apt("update")
        apt("install", *missing)


def apt(*args: str) -> None:
    options = ("--quiet", "--yes", "--option", "DPkg::Lock::Timeout=300")
    run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *options, *args, timeout=900)


# ---- HAProxy's sockets


# Bytes of one answer. A status of 200 servers has some 100 KiB.
MOST = 4 * 1024 * 1024


def ask(path: str, command: str, timeout: float = 3.0, ends: bool = False, most: int = MOST) -> str:
    """One command on one of HAProxy's sockets, and its whole answer. `ends`: the master answers
    some commands only when it knows that no other follows. Whoever has taken HAProxy over answers
    as he likes, so the answer has a bound in time and size, and beyond either it is an error of the
    socket like any other."""
    deadline = time.monotonic() + timeout
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(timeout)
            s.connect(at(path))
            s.sendall(command.encode() + b"\n")
            if ends:
                s.shutdown(socket.SHUT_WR)
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                s.settimeout(left)
                chunk = s.recv(65536)
                if not chunk:
                    return answer.decode("utf-8", "replace")
                answer += chunk
                if len(answer) > most:
                    raise OSError(f"the answer from {path} is longer than {most // 1024} KiB")
    except TimeoutError:
        # Its own words are no more than "timed out".
        raise TimeoutError(f"no whole answer from {path} within {timeout:g} s") from None
