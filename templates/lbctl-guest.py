#!/usr/bin/python3 -SB
"""lbctl's hand in the guest: checks, applies and tells. Python 3.8 or newer, standard library only.

  boot           what cloud-init runs last: everything below, once each, as far as it changed
  apply NAME...  makes services follow their files: docker haproxy node-exporter chrony fluentd
  status         one JSON document on stdout
  reload         HAProxy's new configuration, without cutting a session
  save-state     HAProxy's view of its servers, for its next start
  prepare        before HAProxy starts: files, owners, the image; HAProxy itself checks its configuration
  container      runs HAProxy's container for systemd
  fluentd        becomes fluentd

Exit 0: done. Exit 1: something failed, named on stderr. Secrets are never printed.
"""
import grp
import hashlib
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time

from guest_status import status
from guest_tools import (ADMIN, Failure, ask, digest, enable, enable_now, is_active, read, read_json, run,
                         settings, systemctl, write)

CONFIG = "/etc/haproxy/haproxy.cfg"
STATE = "/var/lib/haproxy/server-state"
RUN = "/run/haproxy"
MASTER = "/run/haproxy/master.sock"
APPLIED = "/run/lbctl/haproxy.json"
CONTAINER = "haproxy"
# The official image's user.
CONTAINER_UID = 99
DOCKER = ["docker", "--config", "/etc/lbctl/docker"]
# What fluentd is installed as where the distribution has no package of it.
GEMS = {"fluentd": "1.16.5", "fluent-plugin-systemd": "1.0.5"}


# ---- HAProxy: state, check, start, reload


def save_state():
    text = ask(ADMIN, "show servers state")
    if not text.startswith("1\n"):
        raise Failure("HAProxy's answer to `show servers state` is not a state: %r" % text[:80])
    write(STATE, text)


def forget_health():
    """At a cold start keep the addresses but no server's health: what was the primary may not be it any more. HAProxy
    warns about a missing or an empty file, so there always is one."""
    lines = (read(STATE, b"") or b"").decode("utf-8", "replace").splitlines()
    if not lines or lines[0] != "1":
        lines = ["1"]
    kept = lines[:1]
    for line in lines[1:]:
        words = line.split(" ")
        if not line.startswith("#") and len(words) > 5:
            words[5] = "0"
        kept.append(" ".join(words))
    write(STATE, "\n".join(kept) + "\n")


def check_config(conf):
    if conf["runtime"] == "container":
        run(*DOCKER, "run", "--rm", *container_options(), conf["image"], "-c", "-f", "/etc/haproxy/haproxy.cfg",
            timeout=300)
    else:
        run("haproxy", "-c", "-f", CONFIG, timeout=300)


def container_options():
    return ["--network", "host", "--user", "%d:%d" % (CONTAINER_UID, CONTAINER_UID), "--read-only",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--volume", "/etc/haproxy:/etc/haproxy:ro", "--volume", "/var/lib/haproxy:/var/lib/haproxy:ro",
            "--volume", "/run/haproxy:/run/haproxy", "--entrypoint", "haproxy"]


def own_files(conf):
    """cloud-init writes everything as root, for the other users may not exist yet."""
    for entry in conf["files"]:
        path = entry["path"]
        if entry["owner"] == "haproxy":
            uid = CONTAINER_UID if conf["runtime"] == "container" else 0
            os.chown(path, uid, uid)
        elif entry["owner"] == "fluentd" and user_exists("fluentd"):
            os.chown(path, 0, grp.getgrnam("fluentd").gr_gid)


def user_exists(name):
    try:
        pwd.getpwnam(name)
        return True
    except KeyError:
        return False


def haproxy_digests(conf):
    """What decides between nothing to do, a reload and a restart."""
    by = {"haproxy": [], "haproxy-unit": []}
    for entry in conf["files"]:
        by.get(entry["affects"], []).append(entry["path"])
    start = hashlib.sha256((digest(by["haproxy-unit"]) + json.dumps([conf.get("image"), conf["nofile"]])).encode())
    return {"config": digest(by["haproxy"]), "start": start.hexdigest()}


def remember_applied(conf):
    write(APPLIED, json.dumps(haproxy_digests(conf)))


def prepare():
    conf = settings()
    own_files(conf)
    os.makedirs(RUN, exist_ok=True)
    forget_health()
    if conf["runtime"] == "container":
        os.chown(RUN, CONTAINER_UID, CONTAINER_UID)
        run(*DOCKER, "rm", "--force", CONTAINER, check=False)
        need_image(conf)
    remember_applied(conf)


def need_image(conf):
    """Fetched only when the guest lacks it: neither a restart nor a reboot depends on the registry."""
    image = conf["image"]
    if run(*DOCKER, "image", "inspect", "--format", "{{.Id}}", image, check=False)[0] == 0:
        return
    if not conf["pull_image"]:
        raise Failure("the guest has no image %s, and install_dependencies = false forbids fetching it" % image)
    run(*DOCKER, "pull", "--quiet", image, timeout=600)


def reload():
    conf = settings()
    own_files(conf)
    check_config(conf)
    before = process_id()
    save_state()
    answer = ask(MASTER, "reload", timeout=30)
    if "Success=0" in answer:
        raise Failure("HAProxy refused the new configuration and goes on with the old: " + answer[-2000:])
    # Before 2.7 the master gives no verdict: a new worker is one.
    deadline = time.monotonic() + 60
    while process_id() in (None, before):
        if time.monotonic() > deadline:
            raise Failure("HAProxy did not start a new worker within 60 s of the reload")
        time.sleep(0.1)
    remember_applied(conf)


def process_id():
    try:
        found = re.search(r"^Pid: (\d+)", ask(ADMIN, "show info"), re.M)
        return found and int(found.group(1))
    except OSError:
        return None


def container():
    """Starts HAProxy's container and stays for as long as it runs, through restarts of Docker."""
    conf = settings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        run(*DOCKER, "run", "--detach", "--rm", "--name", CONTAINER, "--log-driver", "journald",
            "--ulimit", "nofile=%d:%d" % (conf["nofile"], conf["nofile"]), *container_options(), conf["image"],
            "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg", "-S", "/run/haproxy/master.sock,mode,600", timeout=300)
        wait_for_socket()
        tell_systemd("READY=1")
        while container_lives():
            subprocess.run([*DOCKER, "wait", CONTAINER], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)
            time.sleep(0.5)
        raise Failure("the container ended; its last words: journalctl CONTAINER_NAME=%s" % CONTAINER)
    finally:
        run(*DOCKER, "stop", "-t", "5", CONTAINER, timeout=20, check=False)


def container_lives():
    """Whether it runs; asked for up to two minutes while Docker does not answer."""
    for _ in range(120):
        code, text = run(*DOCKER, "container", "inspect", "--format", "{{.State.Running}}", CONTAINER, check=False)
        if code == 0:
            return text.strip() == "true"
        if "no such container" in text.lower():
            return False
        time.sleep(1)
    return False


def wait_for_socket():
    deadline = time.monotonic() + 60
    while not answers_within(2):
        if time.monotonic() > deadline or not container_lives():
            # Of a container that is gone Docker has no words left; the journal has.
            text = run("journalctl", "CONTAINER_NAME=" + CONTAINER, "--boot", "--lines", "20", "--output", "cat",
                       "--no-pager", check=False)[1]
            raise Failure("HAProxy's socket does not answer: " + text.strip()[-2000:])


def answers_within(seconds):
    """Asking Docker instead takes longer than HAProxy does to start."""
    deadline = time.monotonic() + seconds
    while process_id() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def tell_systemd(text):
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


# ---- services: each function makes one follow its files, and does nothing when it does already


def apply_docker(conf):
    """Adds our settings to those the image has. A running Docker takes up these without a restart."""
    if conf.get("registry"):
        # Docker looks here at each pull.
        write("/etc/docker/certs.d/%s/ca.crt" % conf["registry"], read("/etc/lbctl/docker/registry-ca.crt", b""))
    path = "/etc/docker/daemon.json"
    present = read_json(path) or {}
    wanted = dict(present, **(read_json("/etc/lbctl/docker-daemon.json") or {}))
    if wanted != present:
        write(path, json.dumps(wanted, indent=2) + "\n")
        systemctl("reload-or-restart", "docker.service")
    enable_now("docker.service")


def apply_haproxy(conf):
    wanted = haproxy_digests(conf)
    applied = read_json(APPLIED) or {}
    enable("haproxy.service")
    if not is_active("haproxy.service"):
        # A unit that is waiting for its next try would make `start` fail.
        start_haproxy("restart")
    elif applied.get("start") != wanted["start"]:
        start_haproxy("restart")
    elif applied.get("config") != wanted["config"]:
        reload()


def start_haproxy(verb):
    code, text = systemctl(verb, "haproxy.service", timeout=960, check=False)
    if code != 0:
        log = run("journalctl", "--unit", "haproxy.service", "--lines", "15", "--output", "cat", "--no-pager",
                  check=False)[1]
        raise Failure("haproxy.service does not start: %s\n%s" % (text.strip(), log.strip()[-3000:]))


def apply_node_exporter(_conf):
    enable_now("prometheus-node-exporter.service")


def apply_chrony(_conf):
    """The package's own sources and makestep give way to ours: its makestep is read later and would win."""
    path = "/etc/chrony/chrony.conf"
    ours = b"".join(read(p, b"") for p in ("/etc/chrony/sources.d/lbctl.sources", "/etc/chrony/conf.d/lbctl.conf"))
    taken = []
    if re.search(rb"^(server|pool) ", ours, re.M):
        taken += [b"server", b"pool", b"peer"]
    if re.search(rb"^makestep ", ours, re.M):
        taken += [b"makestep"]
    plain = re.sub(rb"^#lbctl# ", b"", read(path, b""), flags=re.M)
    wanted = re.sub(rb"^((?:%s)\s.*)$" % b"|".join(taken), rb"#lbctl# \1", plain, flags=re.M) if taken else plain
    if wanted != read(path, b""):
        write(path, wanted)
    applied = "/run/lbctl/chrony"
    now = hashlib.sha256(wanted + ours).hexdigest()
    enable_now("chrony.service")
    if read(applied, b"").decode() != now:
        systemctl("restart", "chrony.service")
        write(applied, now)


def apply_fluentd(conf):
    if not user_exists("fluentd"):
        run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", "fluentd")
    own_files(conf)
    # The journal is only kept in memory where this directory is missing, and fluentd reads it from here.
    os.makedirs("/var/log/journal", exist_ok=True)
    run("journalctl", "--flush", check=False)
    if fluentd_program() is None:
        install_fluentd(conf)
    enable_now("fluentd.service")
    applied = "/run/lbctl/fluentd"
    now = digest(e["path"] for e in conf["files"] if e["affects"] == "fluentd")
    if read(applied, b"").decode() != now:
        systemctl("restart", "fluentd.service")
        write(applied, now)


def fluentd_program():
    places = ["/opt/fluent/bin/fluentd", "/usr/local/bin/fluentd", "/usr/bin/fluentd"]
    return next((p for p in places if os.access(p, os.X_OK)), None)


def install_fluentd(conf):
    if not conf["install"]:
        raise Failure("fluentd is not in the image, and install_dependencies = false forbids installing it")
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    if run("apt-cache", "show", "fluent-package", check=False)[0] == 0:
        run(*apt, "install", "fluent-package", timeout=600)
        systemctl("disable", "--now", "fluentd.service", check=False)
        return
    run(*apt, "--no-install-recommends", "install", "ruby", "ruby-dev", "build-essential", "libsystemd0", timeout=900)
    for gem, version in GEMS.items():
        run("gem", "install", "--no-document", "--bindir", "/usr/local/bin", "--version", version, gem, timeout=900)


def fluentd():
    program = fluentd_program()
    if program is None:
        raise Failure("fluentd is not installed")
    os.execv(program, [program, "--no-supervisor", "-c", "/etc/fluentd/fluent.conf"])


SERVICES = {
    "docker": apply_docker,
    "haproxy": apply_haproxy,
    "node-exporter": apply_node_exporter,
    "chrony": apply_chrony,
    "fluentd": apply_fluentd,
}


def apply(names):
    """Every service asked for is tried, whatever became of those before it."""
    conf = settings()
    failures = []
    for name in names:
        try:
            SERVICES[name](conf)
        except (Failure, OSError) as failure:
            failures.append("%s: %s" % (name, failure))
    if failures:
        raise Failure("\n".join(failures))


def boot():
    conf = settings()
    reload_manager(conf)
    if conf["install"]:
        # The agent, installed just now, has missed the event that starts it.
        systemctl("start", "qemu-guest-agent.service", check=False)
    try:
        apply(conf["services"])
    finally:
        enable_now("lbctl-save-state.timer")


def reload_manager(conf):
    """Only where it still knows a unit as it was before cloud-init wrote ours: a reload takes a small guest many
    seconds."""
    units = [e["path"] for e in conf["files"] if e["path"].startswith("/etc/systemd/system/")]
    stale = [path for path, known in zip(units, known_units(units))
             if known.get("FragmentPath") != path or known.get("NeedDaemonReload") != "no"]
    if "/etc/systemd/system/haproxy.service" in stale:
        # What runs, if it does, was started by the unit that stood there before: it is not what is on disk.
        write(APPLIED, "{}")
    if stale:
        systemctl("daemon-reload")


def known_units(units):
    names = [os.path.basename(path) for path in units]
    text = systemctl("show", "--property=FragmentPath,NeedDaemonReload", *names, check=False)[1]
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return blocks + [{}] * (len(units) - len(blocks))


# ---- converge (issue 4): gets files and what they affect, checks, installs, applies, verifies, rolls back, answers in
# JSON. It installs with write() and applies with SERVICES.


# ----

COMMANDS = {"boot": boot, "status": status, "reload": reload, "save-state": save_state, "prepare": prepare,
            "container": container, "fluentd": fluentd}


def main(argv):
    if len(argv) >= 2 and argv[0] == "apply" and all(name in SERVICES for name in argv[1:]):
        apply(argv[1:])
    elif len(argv) == 1 and argv[0] in COMMANDS:
        COMMANDS[argv[0]]()
    else:
        sys.stderr.write(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Failure, OSError, ValueError, KeyError) as problem:
        sys.stderr.write("lbctl-guest: %s\n" % problem)
        sys.exit(1)
