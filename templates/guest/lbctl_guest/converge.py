"""Brings a running guest to a spec that lbctl sends: checks everything first, installs whole files,
applies with the least disturbance, verifies, and restores everything if something fails. Python
3.10 or newer, standard library only.

Not here: what a service needs to follow its files (services), how HAProxy is checked and reloaded
(haproxy). Running it again is always right: the next run finishes one that was interrupted."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import tempfile
import time

from . import additions, haproxy, services
from .paths import (
    APPLIED,
    CA_PEM,
    CLIENT_PEM,
    CLOUD_INIT,
    HAPROXY,
    HAPROXY_CFG,
    HAPROXY_LUA,
    RUN,
    SETTINGS,
    SYSTEMD,
    at,
)
from .probe import probe_all
from .tools import (
    Attempts,
    Failure,
    NewFile,
    exists,
    in_words,
    install_packages,
    own_files,
    past_settings,
    read,
    read_bytes,
    remove,
    stage,
    sync_folders,
    systemctl,
    write,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from .wire import Done, Refused, Settings, Spec, SpecFile, Task

LOCK = f"{RUN}/lock"


def main() -> int:
    """A task on standard input, one JSON document on standard output."""
    # lbctl runs this with a mask that would lock other users, such as fluentd, out of new folders.
    os.umask(0o022)
    undo = None
    answer: Done | Refused
    try:
        task: Task = json.loads(sys.stdin.buffer.read().decode())
        with locked():
            wait_for_boot()
            undo = Undo()
            answer = {"ok": True, "notes": converge(Change(task["spec"], task["only"]), undo)}
    except Exception as problem:  # lbctl always gets an answer, and everything is restored by now
        restored = undo is None or undo.restored
        answer = {"ok": False, "error": in_words(problem), "restored": restored}
    print(json.dumps(answer))
    return 0 if answer["ok"] else 1


class Change:
    """What of a spec is not so yet. With `only` it is these files and nothing else, whatever the
    guest has of the rest."""

    def __init__(self, spec: Spec, only: list[str]) -> None:
        self.before = applied() or past_settings(SETTINGS)
        files = [entry for entry in spec["files"] if not only or entry["path"] in only]
        self.wanted = {entry["path"]: entry for entry in files}
        self.conf: Settings = self.before if only else json.loads(self.wanted[SETTINGS]["content"])
        self.changed = [
            NewFile(entry["path"], entry["content"], entry["mode"])
            for entry in files
            if differs(entry)
        ]
        listed = [] if only else [entry["path"] for entry in self.before.get("files", [])]
        self.gone = [path for path in listed if path not in self.wanted and exists(path)]
        self.paths = {new.path for new in self.changed} | set(self.gone)
        self.packages = [] if only or not self.conf["install"] else spec["packages"]
        self.admin = None if only else spec["admin"]


def converge(change: Change, undo: Undo) -> list[str]:
    """Returns what to report beside the success."""
    conf, before = change.conf, change.before
    up = haproxy.servers_up()
    notes = check(change.wanted, change.paths, conf)
    if change.packages:
        install_packages(change.packages)
    additions.adopt(before, services.keys_of)
    files = change.changed + (services.authorized_keys(conf) if change.admin else [])
    undo.remember([*(new.path for new in files), *change.gone])
    try:
        install(files, change.gone, undo)
        apply(conf, before, change.paths, up, undo.text(CA_PEM))
        if change.admin:
            services.set_password(change.admin)
            services.settle_keys(conf)
    except Exception as problem:
        undo.put_back(before or conf, conf, change.paths, up)
        raise Failure(f"{problem}{undo.complaint}") from problem
    remember(conf)
    return notes


# ---- before anything is touched


class locked:
    """One change at a time; the boot is one, too."""

    def __enter__(self) -> None:
        os.makedirs(at(RUN), exist_ok=True)
        self.file: IO[str] = open(at(LOCK), "w", encoding="ascii")
        deadline = time.monotonic() + 60
        while True:
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Failure("another change of this guest runs for over a minute") from None
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        self.file.close()


def wait_for_boot() -> None:
    """cloud-init would write the old seed's files over these."""
    deadline = time.monotonic() + 600
    while not (exists(f"{CLOUD_INIT}/result.json") or exists(f"{CLOUD_INIT}/disabled")):
        if time.monotonic() > deadline:
            raise Failure("cloud-init has not finished within ten minutes")
        time.sleep(0.5)


def applied() -> Settings:
    return past_settings(APPLIED)


def remember(conf: Settings) -> None:
    write(APPLIED, json.dumps(conf))


def differs(entry: SpecFile) -> bool:
    try:
        mode = os.stat(at(entry["path"])).st_mode & 0o7777
    except OSError:
        return True
    return mode != entry["mode"] or read(entry["path"]) != entry["content"].encode()


def check(wanted: dict[str, SpecFile], paths: set[str], conf: Settings) -> list[str]:
    """HAProxy's own check of its files, and what the nodes say to a new certificate. Returns what
    to report beside the success."""
    ours = {p: e["content"] for p, e in wanted.items() if p.startswith(f"{HAPROXY}/")}
    for path in (HAPROXY_CFG, HAPROXY_LUA):
        ours.setdefault(path, read_bytes(path).decode())
    if not paths & set(ours) or not haproxy.is_installed(conf):
        return []
    place = f"{RUN}/{os.path.basename(tempfile.mkdtemp(prefix='check-', dir=at(RUN)))}"
    try:
        for path, content in ours.items():
            write(f"{place}/{os.path.basename(path)}", content, 0o600)
        haproxy.check_staged(conf, place)
        if paths & {CLIENT_PEM, CA_PEM}:
            return probe_all(conf["probe"], haproxy.node_addresses(), place)
    finally:
        shutil.rmtree(at(place), ignore_errors=True)
    return []


# ---- files: all or none


def install(files: Iterable[NewFile], gone: Iterable[str], undo: Undo | None = None) -> None:
    """Every file is whole on the disk before the first takes its place: a full disk changes
    nothing."""
    staged: list[tuple[str, str]] = []
    for new in files:
        try:
            staged.append((stage(new.path, new.content, new.mode, new.ids), new.path))
        except OSError as problem:
            for temporary, _ in staged:
                os.unlink(temporary)
            raise Failure(f"cannot write {new.path}: {problem.strerror}") from problem
    if undo:
        undo.touched = True
    for temporary, path in staged:
        os.rename(temporary, at(path))
    for path in gone:
        os.unlink(at(path))
    sync_folders([*(path for _, path in staged), *gone])


class Undo:
    """The files as they were, in memory: a guest whose disk is full has no other place for them."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, os.stat_result] | None] = {}
        # Until then there is nothing to restore, and HAProxy must not be reloaded for it.
        self.touched = False
        self.restored = True
        self.complaint = ""

    def remember(self, paths: Iterable[str]) -> None:
        for path in paths:
            content = read(path)
            self.files[path] = None if content is None else (content, os.stat(at(path)))

    def text(self, path: str) -> str:
        """A file as it was; empty where there was none."""
        was = self.files.get(path)
        return was[0].decode("utf-8", "replace") if was else ""

    def put_back(self, conf: Settings, rejected: Settings, paths: set[str], up: int) -> None:
        """Files and services: those that the rejected settings switched off are started again,
        those they switched on are stopped."""
        if not self.touched:
            return
        rejected_ca = read_bytes(CA_PEM).decode("utf-8", "replace")
        try:
            for path, was in self.files.items():
                self.put_back_file(path, was)
            apply(conf, rejected, paths, up, rejected_ca)
        except Exception as problem:
            self.restored = False
            self.complaint = f"; restoring everything failed, too: {problem}"

    @staticmethod
    def put_back_file(path: str, was: tuple[bytes, os.stat_result] | None) -> None:
        if was is None:
            remove(path)
        elif read(path) != was[0]:
            write(path, was[0], was[1].st_mode & 0o7777)
            os.chown(at(path), was[1].st_uid, was[1].st_gid)


# ---- services follow


def clear_away(conf: Settings, before: Settings, attempts: Attempts) -> None:
    """At boot: what an earlier seed brought and this one does not."""
    conf = services.with_table(conf, before)
    attempts.attempt("record of additions", additions.adopt, before, services.keys_of)
    wanted = {entry["path"] for entry in conf["files"]}
    for entry in before.get("files", []):
        if entry["path"] not in wanted:
            attempts.attempt(f"removing {entry['path']}", remove, entry["path"])
    for name in before.get("services", []):
        if name not in conf["services"]:
            attempts.attempt(f"switching off {name}", services.switch_off, name, conf)
    attempts.attempt("previous administrator", services.retire_admin, conf, before)
    attempts.attempt("authorized_keys", install_keys, conf)
    attempts.attempt("what lbctl added to files of others", services.take_back, conf)


def install_keys(conf: Settings) -> None:
    install(services.authorized_keys(conf), [])
    services.settle_keys(conf)


def apply(conf: Settings, before: Settings, paths: set[str], up: int, other_ca: str) -> None:
    """HAProxy last: it must not be reloaded without need, and the others may still fail."""
    conf = services.with_table(conf, before)
    facts = [*conf.get("files", []), *before.get("files", [])]
    affected = {entry["affects"] for entry in facts if entry["path"] in paths}
    if any(path.startswith(f"{SYSTEMD}/") for path in paths):
        systemctl("daemon-reload")
    services.follow_own_units(conf, paths)
    for owner in ("haproxy", "fluentd"):
        own_files(conf, owner)
    for name in before.get("services", []):
        if name not in conf["services"]:
            services.switch_off(name, conf)
    services.take_back(conf)
    for name in conf["services"]:
        if name != "haproxy" and (name in affected or name not in before.get("services", [])):
            services.apply_service(name, conf)
    if "haproxy" in affected:
        haproxy.follow(conf, paths, other_ca)
        haproxy.verify(conf, up)
