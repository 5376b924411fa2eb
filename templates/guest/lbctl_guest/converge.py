"""Brings a running guest to a spec that lbctl sends: checks everything first, installs whole files,
applies with the least disturbance, verifies, and restores everything if something fails. Python
3.10 or newer, standard library only.

Not here: what a service needs to follow its files (services), how HAProxy is checked and reloaded
(haproxy). Running it again is always right: the next run finishes one that was interrupted."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time

from . import additions, beside, haproxy, predecessor, services, tracking
from .paths import (
    APPLIED,
    CA_PEM,
    CLIENT_PEM,
    CLOUD_INIT,
    CLOUD_INIT_OFF,
    HAPROXY,
    HAPROXY_CFG,
    HAPROXY_LUA,
    RUN,
    SETTINGS,
    SYSTEMD,
    at,
)
from .probe import ensure_one_answers, is_another_way, probe_all
from .tools import (
    Attempts,
    Failure,
    NewFile,
    disable,
    disable_now,
    exists,
    in_words,
    install_packages,
    is_active,
    is_enabled,
    no_settings,
    own_files,
    past_settings,
    read,
    read_bytes,
    read_json,
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
# Paths of files that are in place and that nothing has followed yet. A run that is killed, or reset
# with the guest, leaves it to the next one.
PENDING = "/var/lib/lbctl/pending.json"
# Seconds for a HAProxy that was just started to resolve its nodes and to check them.
PRIMARY_WITHIN = 10.0


def main() -> int:
    """A task on standard input, one JSON document on standard output."""
    # lbctl runs this with a mask that would lock other users, such as fluentd, out of new folders.
    os.umask(0o022)
    undo = None
    answer: Done | Refused
    try:
        task: Task = json.load(sys.stdin)
        # Without the lock, which the boot needs.
        wait_for_boot()
        with locked():
            undo = Undo()
            answer = {
                "ok": True,
                "notes": converge(Change(task["spec"], task["only"], task["despite"]), undo),
            }
    except Exception as problem:  # lbctl always gets an answer, and everything is restored by now
        restored = undo is None or undo.restored
        answer = {"ok": False, "error": in_words(problem), "restored": restored}
    print(json.dumps(answer))
    return 0 if answer["ok"] else 1


class Change:
    """What of a spec is not so yet. With `only` it is these files and nothing else, whatever the
    guest has of the rest. The nodes in `despite` have no vote."""

    def __init__(self, spec: Spec, only: list[str], despite: Iterable[str] = ()) -> None:
        self.despite = list(despite)
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
        # What an interrupted run has installed differs no more, and is in no use.
        self.left = pending()
        self.paths |= self.left & set(self.wanted)
        self.only = only
        self.packages = [] if only or not self.conf["install"] else spec["packages"]
        self.admin = None if only else spec["admin"]

    def begin_again(self) -> None:
        """What a takeover has installed that was interrupted, by a reset of the guest, is not
        applied yet."""
        self.before = no_settings()
        self.paths |= set(self.wanted)

    def text(self, path: str) -> str:
        """A file as it is to be; empty: it is not wanted."""
        return self.wanted[path]["content"] if path in self.wanted else ""


def converge(change: Change, undo: Undo) -> list[str]:
    """Returns what to report beside the success."""
    conf = change.conf
    unfinished = exists(predecessor.BEGUN)
    is_first = not change.only and (unfinished or not change.before)
    old = predecessor.find(change.text(HAPROXY_CFG)) if is_first else predecessor.NOTHING
    if is_first and unfinished:
        change.begin_again()
    before = change.before
    up = haproxy.servers_up()
    if old:
        notes = get_ready(change, undo, old)
        undo.remember([additions.RECORD])
    else:
        notes = check(change, conf, before)
        if change.packages:
            install_packages(change.packages)
    additions.adopt(before, services.keys_of)
    files = change.changed + (services.authorized_keys(conf) if change.admin else [])
    undo.remember([*(new.path for new in files), *change.gone])
    if old:
        write(predecessor.BEGUN, "")
    keep_pending(change.left | change.paths)
    try:
        install(files, change.gone, undo)
        if old:
            make_room(conf, old)
        apply(conf, before, change.paths, up, undo.text(CA_PEM))
        if old:
            wait_for_primary(conf)
        if change.admin:
            services.set_password(change.admin)
            services.settle_keys(conf)
        if beside.waits():
            haproxy.take_ports(old.step_back)
        elif old:
            old.step_back()
    except Exception as problem:
        if old:
            undo.give_back(old)
        else:
            undo.put_back(before or conf, conf, change.paths, up)
        if undo.restored:
            keep_pending(change.left - change.paths if undo.touched else change.left)
        raise Failure(f"{problem}{undo.complaint}") from problem
    finally:
        beside.end()
        if old:
            predecessor.no_longer_share()
    if old:
        old.tidy()
    remember(conf)
    keep_pending(change.left - change.paths)
    predecessor.finish()
    return notes + of_next_boot()


# ---- from the load balancer that was there before lbctl


def get_ready(change: Change, undo: Undo, old: predecessor.Old) -> list[str]:
    """All that the new one needs is there, and was checked, before the old one is touched. Returns
    what to report beside the success."""
    conf = change.conf
    undo.begin_takeover(conf)
    # The checks of the new one share the table with the old one's clients, who may have filled it.
    attempts = Attempts()
    attempts.attempt("room for tracked connections", tracking.make_room)
    try:
        if change.packages:
            install_packages(predecessor.without_docker(change.packages))
        if conf["runtime"] == "container":
            haproxy.ensure_image(conf)
        return attempts.failures + check(change, conf, change.before, takes_over=True)
    except Exception:
        undo.end_packaged(old)
        raise


def make_room(conf: Settings, old: predecessor.Old) -> None:
    """HAProxy from its package is of the old one's user, and listens beside it until it is known to
    work. In its container it is another user's, and waits for the ports until then."""
    if not old.has_our_unit() and not predecessor.own_process():
        # The package starts it with a configuration of its own, and no port.
        systemctl("stop", haproxy.UNIT, check=False)
    old.release()
    predecessor.stop_exporter()
    old.share_ports()
    if conf["runtime"] == "container":
        beside.begin()


def wait_for_primary(conf: Settings) -> None:
    """Without one the old load balancer serves on: it may know better."""
    deadline = time.monotonic() + PRIMARY_WITHIN
    while haproxy.servers_up() == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    haproxy.verify(conf, 1)


def of_next_boot() -> list[str]:
    """What the guest has now comes from lbctl, and at the next boot from the seed."""
    if not exists(CLOUD_INIT_OFF) and not exists(f"{CLOUD_INIT}/disabled"):
        return []
    return [
        "cloud-init is switched off in the guest, so no boot reads the seed: what a restart of the "
        f"guest would apply is not applied (`sudo rm -f {CLOUD_INIT_OFF}` in it, unless the "
        "kernel's command line says so)"
    ]


# ---- before anything is touched


class locked:
    """One change at a time; the boot is one, too. Waits for so many seconds."""

    def __init__(self, patience: int = 60) -> None:
        self.patience = patience

    def __enter__(self) -> None:
        os.makedirs(at(RUN), exist_ok=True)
        self.file: IO[str] = open(at(LOCK), "w", encoding="ascii")
        deadline = time.monotonic() + self.patience
        while True:
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    told = f"another change of this guest runs for over {self.patience} s"
                    raise Failure(told) from None
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


def pending() -> set[str]:
    found = read_json(PENDING)
    return {path for path in found if isinstance(path, str)} if isinstance(found, list) else set()


def keep_pending(paths: set[str]) -> None:
    if paths == pending():
        return
    if paths:
        write(PENDING, json.dumps(sorted(paths)))
    else:
        remove(PENDING)


def differs(entry: SpecFile) -> bool:
    try:
        mode = os.stat(at(entry["path"])).st_mode & 0o7777
    except OSError:
        return True
    return mode != entry["mode"] or read(entry["path"]) != entry["content"].encode()


def check(change: Change, conf: Settings, before: Settings, takes_over: bool = False) -> list[str]:
    """HAProxy's own check of its files, and what the nodes say to a new certificate, and to being
    asked another way. Returns what to report beside the success."""
    wanted, paths = change.wanted, change.paths
    ours = {p: e["content"] for p, e in wanted.items() if p.startswith(f"{HAPROXY}/")}
    for path in (HAPROXY_CFG, HAPROXY_LUA):
        ours.setdefault(path, read_bytes(path).decode())
    if not paths & set(ours) or not haproxy.is_installed(conf):
        return []
    # Read by few commands: see `digest` in tools.
    import shutil
    import tempfile

    place = f"{RUN}/{os.path.basename(tempfile.mkdtemp(prefix='check-', dir=at(RUN)))}"
    try:
        for path, content in ours.items():
            write(f"{place}/{os.path.basename(path)}", content, 0o600)
        haproxy.check_staged(conf, place)
        if takes_over:
            return ensure_one_answers(conf["probe"], ours[HAPROXY_CFG], place)
        new, old = conf["probe"], before.get("probe") or conf["probe"]
        if is_another_way(new, old):
            what = "way of asking them (patroni_tls, patroni_port, verify_host)"
            return probe_all(new, old, haproxy.node_addresses(), place, what)
        if paths & {CLIENT_PEM, CA_PEM}:
            what = "certificate or CA"
            return probe_all(new, old, haproxy.node_addresses(), place, what, change.despite)
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
        # Whether HAProxy's unit is started with the guest.
        self.was_enabled = is_enabled(haproxy.UNIT)
        # Of a takeover: whether the unit ran, and how the others stood.
        self.was_active = False
        self.stood: services.Stood | None = None
        self.restored = True
        self.complaint = ""

    def begin_takeover(self, conf: Settings) -> None:
        self.was_active = is_active(haproxy.UNIT)
        self.stood = services.Stood(conf)

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
            # Who waits may wait because of what was rejected.
            apply(conf, rejected, paths, up, rejected_ca, patience=0)
        except Exception as problem:
            self.restored = False
            self.complaint = f"; restoring everything failed, too: {problem}"

    def give_back(self, old: predecessor.Old) -> None:
        """To the load balancer that was there before lbctl: its own was never in use."""
        if not self.touched:
            self.end_packaged(old)
            return
        try:
            # Before it is released it is the old one that the unit has.
            if not old.has_our_unit() or haproxy.UNIT in old.released:
                systemctl("stop", haproxy.UNIT, check=False)
                # What runs in the unit from now on is not lbctl's.
                remove(haproxy.IN_USE)
            if not self.was_enabled:
                disable(haproxy.UNIT)
            if self.stood:
                self.stood.end_others()
            for path, was in self.files.items():
                self.put_back_file(path, was)
            old.tidy()
            systemctl("daemon-reload")
            self.complaint = old.come_back()
            failed = self.stood.go_on() if self.stood else []
            if failed:
                self.complaint += f"; not started again: {', '.join(failed)}"
            if not exists(SETTINGS):
                # What is there else is of a takeover that was interrupted: it is begun again.
                remove(predecessor.BEGUN)
        except Exception as problem:
            self.restored = False
            self.complaint = f"; starting the old load balancer again failed, too: {problem}"

    def end_packaged(self, old: predecessor.Old) -> None:
        """Before any file of lbctl's was there: a package starts its service when it is
        installed."""
        if self.stood:
            self.stood.end_others()
        if not (self.was_active or self.was_enabled or old.has_our_unit()):
            disable_now(haproxy.UNIT)

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
    for unit in services.own_units(before):
        if unit not in services.own_units(conf):
            # systemd has started it before this ran.
            attempts.attempt(f"switching off {unit}", disable_now, unit)
    for name in before.get("services", []):
        if name not in conf["services"]:
            attempts.attempt(f"switching off {name}", services.switch_off, name, conf)
    attempts.attempt("previous administrator", services.retire_admin, conf, before)
    attempts.attempt("authorized_keys", install_keys, conf)
    attempts.attempt("what lbctl added to files of others", services.take_back, conf)


def install_keys(conf: Settings) -> None:
    install(services.authorized_keys(conf), [])
    services.settle_keys(conf)


def apply(
    conf: Settings,
    before: Settings,
    paths: set[str],
    up: int,
    other_ca: str,
    patience: float = haproxy.PATIENCE,
) -> None:
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
        haproxy.follow(conf, paths, other_ca, patience)
        haproxy.verify(conf, up)
