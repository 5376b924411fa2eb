"""HAProxy in the guest, of the package or in its container: its state across restarts, its check, start, reload and change
at run time. Python 3.8 or newer, standard library only."""
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

from guest_status import servers
from guest_tools import (ADMIN, CA_PEM, CLIENT_PEM, CONTAINER_UID, DOCKER, Failure, ask, digest, enable, is_active,
                         own_files, read, read_json, run, settings, systemctl, write)

PLACE = "/etc/haproxy"
CONFIG = "/etc/haproxy/haproxy.cfg"
STATE = "/var/lib/haproxy/server-state"
RUN = "/run/haproxy"
MASTER = "/run/haproxy/master.sock"
APPLIED = "/run/lbctl/haproxy.json"
CONTAINER = "haproxy"


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
    check_staged(conf, PLACE)


def check_staged(conf, place):
    """HAProxy's verdict on the files in a directory that is to become /etc/haproxy."""
    if conf["runtime"] == "container":
        if place != PLACE:
            for path in [place] + [os.path.join(place, name) for name in os.listdir(place)]:
                os.chown(path, CONTAINER_UID, CONTAINER_UID)
        argv = [*DOCKER, "run", "--rm", *container_options(place), conf["image"], "-c", "-f", CONFIG]
        code, text = run(*argv, timeout=300, check=False)
    else:
        path = os.path.join(place, "haproxy.cfg")
        if place != PLACE:
            write(path, read(path, b"").replace(PLACE.encode() + b"/", place.encode() + b"/"), 0o600)
        code, text = run("haproxy", "-c", "-f", path, timeout=300, check=False)
    if code != 0:
        raise Failure("HAProxy refuses the configuration: " + verdict(text).replace(place, PLACE))


def verdict(text):
    """Its alerts, without the time and process number of each."""
    lines = [re.sub(r"^\[\w+\]\s+\(\d+\) : ", "", line) for line in text.splitlines() if "ALERT" in line]
    return "; ".join(lines)[-1500:] or text.strip()[-1500:]


def is_installed(conf):
    return shutil.which("docker" if conf["runtime"] == "container" else "haproxy") is not None


def container_options(place="/etc/haproxy"):
    return ["--network", "host", "--user", "%d:%d" % (CONTAINER_UID, CONTAINER_UID), "--read-only",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--volume", place + ":/etc/haproxy:ro", "--volume", "/var/lib/haproxy:/var/lib/haproxy:ro",
            "--volume", "/run/haproxy:/run/haproxy", "--entrypoint", "haproxy"]


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
    run("systemd-run", "--collect", "--quiet", "--unit=lbctl-old-workers", "/usr/local/lib/lbctl/lbctl-guest",
        "old-workers", check=False)


def process_id():
    try:
        found = re.search(r"^Pid: (\d+)", ask(ADMIN, "show info"), re.M)
        return found and int(found.group(1))
    except OSError:
        return None


def run_container():
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


# ---- changes of a running HAProxy


def servers_up():
    """How many nodes are up in the backend of the primary; 0 also where HAProxy does not run."""
    try:
        return sum(s["state"].startswith("UP") for s in primary_servers())
    except OSError:
        return 0


def primary_servers():
    return [s for s in servers(ask(ADMIN, "show stat -1 4 -1")) if s["backend"] == "primary"]


def node_addresses():
    try:
        return sorted({s["address"] for s in primary_servers() if s["address"]})
    except OSError:
        return []


def follow(conf, paths, old_ca):
    """By the runtime socket where only certificates changed, which leaves no old worker behind; else by a reload."""
    if not is_active("haproxy.service"):
        apply_haproxy(conf)
    elif paths & set(ours(conf)) <= {CLIENT_PEM, CA_PEM}:
        swap_certificates(paths, old_ca)
        remember_applied(conf)
    else:
        reload()


def ours(conf):
    return [e["path"] for e in conf["files"] if e["affects"] == "haproxy"]


def swap_certificates(paths, old_ca):
    """A new CA together with the old one first: at no moment is there a pair that the nodes would refuse. In one go a
    wrong CA takes every server down and cuts every session."""
    new_ca = read(CA_PEM, b"").decode()
    if CA_PEM in paths and CLIENT_PEM in paths:
        commit("ssl ca-file", CA_PEM, new_ca + old_ca)
    if CLIENT_PEM in paths:
        commit("ssl cert", CLIENT_PEM, read(CLIENT_PEM, b"").decode())
    if CA_PEM in paths:
        commit("ssl ca-file", CA_PEM, new_ca)


def commit(kind, path, pem):
    """HAProxy management guide 9.3, "set ssl cert", "commit ssl cert". An empty line would end the text."""
    text = "\n".join(line for line in pem.splitlines() if line.strip())
    said = ask(ADMIN, "set %s %s <<\n%s\n" % (kind, path, text), timeout=30)
    answer = ask(ADMIN, "commit %s %s" % (kind, path), timeout=60)
    if "Success!" not in answer:
        ask(ADMIN, "abort %s %s" % (kind, path))
        raise Failure("HAProxy does not take %s: %s" % (path, " ".join((said + answer).split())[-1000:]))


def verify(conf, up_before):
    """Whoever had a primary must have one still, when the checks have had their time."""
    if up_before == 0:
        return
    deadline = time.monotonic() + conf["settle_s"]
    while time.monotonic() < deadline:
        time.sleep(0.2)
    if servers_up() == 0:
        raise Failure("HAProxy lost the primary after the change: " + "; ".join(
            "%s %s %s" % (s["address"], s["state"], s["check_detail"] or s["check"]) for s in primary_servers()))
