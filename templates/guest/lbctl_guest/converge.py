"""Brings a running guest to a spec that lbctl sends: checks everything first, installs whole files, applies with the least
disturbance, verifies, and puts everything back when something fails. Python 3.8 or newer, standard library only.

Not here: what a service needs to follow its files (guest_services), how HAProxy is checked and reloaded (guest_haproxy).
Running it again is always right: one that was cut off is finished by the next."""
import fcntl
import json
import os
import shutil
import sys
import tempfile
import time

import guest_haproxy as haproxy
import guest_services as services
from guest_probe import probe_all
from guest_tools import (CA_PEM, CLIENT_PEM, SETTINGS, Failure, install_packages, own_files, read, read_json, systemctl,
                         write)

LOCK = "/run/lbctl/lock"
# What was applied last, for what must go when it is wanted no more.
APPLIED = "/var/lib/lbctl/settings.json"


def main():
    """A task on standard input, one JSON document on standard output: `restored` says whether the guest is as it was
    before a failure."""
    undo = None
    try:
        task = json.loads(sys.stdin.buffer.read().decode())
        with locked():
            wait_for_boot()
            undo = Undo()
            answer = {"ok": True, "notes": converge(Change(task["spec"], task["only"]), undo)}
    except Exception as problem:  # whatever it is, lbctl is told, and what there is to put back has been put back
        said = str(problem) if isinstance(problem, (Failure, OSError)) else repr(problem)
        answer = {"ok": False, "error": said, "restored": undo is None or undo.restored}
    print(json.dumps(dict(answer, schema=1)))
    return 0 if answer["ok"] else 1


class Change:
    """What of a spec is not so yet. With `only` it is these files and nothing else, whatever the guest has of the rest."""

    def __init__(self, spec, only):
        self.before = applied() or read_json(SETTINGS) or {}
        files = [e for e in spec["files"] if not only or e["path"] in only]
        self.wanted = {entry["path"]: entry for entry in files}
        self.conf = self.before if only else json.loads(self.wanted[SETTINGS]["content"])
        self.changed = [entry for entry in files if differs(entry)]
        listed = [] if only else [e["path"] for e in self.before.get("files", [])]
        self.gone = [path for path in listed if path not in self.wanted and os.path.lexists(path)]
        self.paths = {entry["path"] for entry in self.changed} | set(self.gone)
        self.packages = [] if only or not self.conf["install"] else spec["packages"]
        self.admin = None if only else spec["admin"]


def converge(change, undo):
    conf, before = change.conf, change.before
    up = haproxy.servers_up()
    notes = check(change.wanted, change.paths, conf)
    if change.packages:
        install_packages(change.packages)
    files = change.changed + (services.authorized_keys(conf, before) if change.admin else [])
    undo.remember([entry["path"] for entry in files] + change.gone)
    try:
        install(files, change.gone, undo)
        apply(conf, before, change.paths, up, undo.text(CA_PEM))
        if change.admin:
            services.set_password(change.admin)
    except Exception as problem:
        undo.put_back(before or conf, conf, change.paths, up)
        raise Failure("%s%s" % (problem, undo.complaint)) from problem
    remember(conf)
    return notes


# ---- before anything is touched


class locked:
    """One change at a time; also against the boot's."""

    def __enter__(self):
        os.makedirs(os.path.dirname(LOCK), exist_ok=True)
        self.file = open(LOCK, "w", encoding="ascii")
        deadline = time.monotonic() + 60
        while True:
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Failure("another change of this guest has been at work for a minute") from None
                time.sleep(0.2)

    def __exit__(self, *_):
        self.file.close()


def wait_for_boot():
    """cloud-init would write the old seed's files over ours."""
    deadline = time.monotonic() + 600
    while not (os.path.exists("/run/cloud-init/result.json") or os.path.exists("/run/cloud-init/disabled")):
        if time.monotonic() > deadline:
            raise Failure("cloud-init has not come to an end within ten minutes")
        time.sleep(0.5)


def applied():
    return read_json(APPLIED) or {}


def remember(conf):
    write(APPLIED, json.dumps(conf))


def differs(entry):
    try:
        mode = os.stat(entry["path"]).st_mode & 0o7777
    except OSError:
        return True
    return mode != entry["mode"] or read(entry["path"]) != entry["content"].encode()


def check(wanted, paths, conf):
    """HAProxy's own check of its files, and the nodes' judgement of a new certificate. What to tell beside success."""
    ours = {p: e["content"] for p, e in wanted.items() if p.startswith("/etc/haproxy/")}
    ours.setdefault(haproxy.CONFIG, read(haproxy.CONFIG, b"").decode())
    if not paths & set(ours) or not haproxy.is_installed(conf):
        return []
    stage = tempfile.mkdtemp(prefix="check-", dir="/run/lbctl")
    try:
        for path, content in ours.items():
            write(os.path.join(stage, os.path.basename(path)), content, 0o600)
        haproxy.check_staged(conf, stage)
        if paths & {CLIENT_PEM, CA_PEM}:
            return probe_all(conf["probe"], haproxy.node_addresses(), stage)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return []


# ---- files: all or none


def install(files, gone, undo=None):
    """Every file is whole on the disk before the first takes its place: a full disk changes nothing."""
    staged = []
    try:
        for entry in files:
            staged.append((stage_file(entry), entry["path"]))
    except OSError as problem:
        for temporary, _ in staged:
            os.unlink(temporary)
        raise Failure("cannot write %s: %s" % (entry["path"], problem.strerror)) from problem
    if undo:
        undo.touched = True
    for temporary, path in staged:
        os.rename(temporary, path)
    for path in gone:
        os.unlink(path)


def stage_file(entry):
    directory = os.path.dirname(entry["path"])
    os.makedirs(directory, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=directory, prefix=".lbctl-")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(entry["content"].encode())
            os.fchmod(f.fileno(), entry["mode"])
            os.fchown(f.fileno(), *entry.get("ids", (0, 0)))
            f.flush()
            os.fsync(f.fileno())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


class Undo:
    """The files as they were, in memory: a guest whose disk is full has no other place for them."""

    def __init__(self):
        self.files = {}
        # Before that there is nothing to put back, and HAProxy is not to be disturbed for it.
        self.touched = False
        self.restored = True
        self.complaint = ""

    def remember(self, paths):
        for path in paths:
            content = read(path)
            self.files[path] = None if content is None else (content, os.stat(path))

    def text(self, path):
        """A file as it was; empty where there was none."""
        was = self.files.get(path)
        return was[0].decode("utf-8", "replace") if was else ""

    def put_back(self, conf, rejected, paths, up):
        """Files and services: those that the rejected settings switched off come back, those they switched on go."""
        if not self.touched:
            return
        rejected_ca = read(CA_PEM, b"").decode("utf-8", "replace")
        try:
            for path, was in self.files.items():
                self.put_back_file(path, was)
            apply(conf, rejected, paths, up, rejected_ca)
        except Exception as problem:
            self.restored = False
            self.complaint = "; and going back failed too: %s" % problem

    @staticmethod
    def put_back_file(path, was):
        if was is None:
            if os.path.lexists(path):
                os.unlink(path)
        elif read(path) != was[0]:
            write(path, was[0], was[1].st_mode & 0o7777)
            os.chown(path, was[1].st_uid, was[1].st_gid)


# ---- services follow


def clear_away(conf, before):
    """At boot: what an earlier seed brought and this one does not."""
    wanted = {entry["path"] for entry in conf["files"]}
    for entry in before.get("files", []):
        if entry["path"] not in wanted and os.path.lexists(entry["path"]):
            os.unlink(entry["path"])
    for name in before.get("services", []):
        if name not in conf["services"]:
            services.switch_off(name, conf)
    services.retire_admin(conf, before)
    install(services.authorized_keys(conf, before), [])


def apply(conf, before, paths, up, other_ca):
    """HAProxy last: it is what must not be disturbed for nothing, and the others may still fail."""
    affected = {e["affects"] for c in (conf, before) for e in c.get("files", []) if e["path"] in paths}
    if any(path.startswith("/etc/systemd/system/") for path in paths):
        systemctl("daemon-reload")
    own_files(conf)
    for name in before.get("services", []):
        if name not in conf["services"]:
            services.switch_off(name, conf)
    for name in conf["services"]:
        if name != "haproxy" and (name in affected or name not in before.get("services", [])):
            services.SERVICES[name](conf)
    if "haproxy" in affected:
        haproxy.follow(conf, paths, other_ca)
        haproxy.verify(conf, up)
