#!/usr/bin/python3
"""lbctl's hand in the guest: checks, applies and tells. Python 3.8 or newer, standard library only.

  boot           what cloud-init runs last: everything below, once each, as far as it changed
  apply NAME...  makes services follow their files: docker haproxy node-exporter chrony fluentd
  status         one JSON document on stdout
  reload         HAProxy's new configuration, without cutting a session
  save-state     HAProxy's view of its servers, for its next start
  prepare        before HAProxy starts: files, owners, a check of the configuration
  container      runs HAProxy's container for systemd
  fluentd        becomes fluentd

Exit 0: done. Exit 1: something failed, named on stderr. Secrets are never printed.
"""
import base64
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
import tempfile
import time

SETTINGS = "/etc/lbctl/guest.json"
CONFIG = "/etc/haproxy/haproxy.cfg"
CLIENT = "/etc/haproxy/client.pem"
STATE = "/var/lib/haproxy/server-state"
RUN = "/run/haproxy"
ADMIN = "/run/haproxy/admin.sock"
MASTER = "/run/haproxy/master.sock"
APPLIED = "/run/lbctl/haproxy.json"
CONTAINER = "haproxy"
# The official image's user.
CONTAINER_UID = 99
DOCKER = ["docker", "--config", "/etc/lbctl/docker"]
# What fluentd is installed as where the distribution has no package of it.
GEMS = {"fluentd": "1.16.5", "fluent-plugin-systemd": "1.0.5"}


class Failure(Exception):
    """Something that a person must be told, in words."""


# ---- small tools


def settings():
    with open(SETTINGS, encoding="utf-8") as f:
        return json.load(f)


def run(*argv, timeout=120, check=True):
    """The command's exit status and its output, both streams together. Bounded."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=timeout, check=False, universal_newlines=True, errors="replace")
        code, text = done.returncode, done.stdout
    except FileNotFoundError:
        code, text = 127, "not installed"
    except subprocess.TimeoutExpired:
        code, text = 124, "no answer within %s s" % timeout
    if check and code != 0:
        raise Failure("%s: exit %d: %s" % (" ".join(argv[:3]), code, text.strip()[-2000:]))
    return code, text


def systemctl(*args, timeout=300, check=True):
    return run("systemctl", *args, timeout=timeout, check=check)


def is_active(unit):
    return systemctl("is-active", "--quiet", unit, timeout=30, check=False)[0] == 0


def is_known(unit):
    return systemctl("cat", unit, timeout=60, check=False)[0] == 0


def read(path, default=None):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return default


def read_json(path):
    try:
        return json.loads(read(path, b"null").decode("utf-8", "replace"))
    except ValueError:
        return None


def write(path, data, mode=0o644):
    """Whole or not at all, also when the power goes."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".lbctl-")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
            os.fchmod(f.fileno(), mode)
            f.flush()
            os.fsync(f.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def digest(paths):
    h = hashlib.sha256()
    for path in paths:
        data = read(path, b"")
        h.update(b"%d " % len(data) + data)
    return h.hexdigest()


def ask(path, command, timeout=3.0):
    """One command on one of HAProxy's sockets, and its whole answer."""
    deadline = time.monotonic() + timeout
    answer = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(timeout)
        s.connect(path)
        s.sendall(command.encode() + b"\n")
        while True:
            s.settimeout(max(0.01, deadline - time.monotonic()))
            chunk = s.recv(65536)
            if not chunk:
                return b"".join(answer).decode("utf-8", "replace")
            answer.append(chunk)


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
        run(*DOCKER, "run", "--rm", *container_options(), conf["image"], "-c", "-q", "-f", "/etc/haproxy/haproxy.cfg",
            timeout=120)
    else:
        run("haproxy", "-c", "-q", "-f", CONFIG, timeout=300)


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
    check_config(conf)
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
    deadline = time.monotonic() + 15
    while process_id() in (None, before):
        if time.monotonic() > deadline:
            raise Failure("HAProxy did not start a new worker within 15 s of the reload")
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
            "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg", "-S", "/run/haproxy/master.sock,mode,600", timeout=120)
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
    deadline = time.monotonic() + 30
    while process_id() is None:
        if time.monotonic() > deadline or not container_lives():
            text = run(*DOCKER, "logs", "--tail", "20", CONTAINER, check=False)[1]
            raise Failure("HAProxy's socket does not answer: " + text.strip()[-2000:])
        time.sleep(0.2)


def tell_systemd(text):
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


# ---- services: each function makes one follow its files, and does nothing when it does already


def apply_docker(conf):
    """Adds our settings to those the image has; restarts Docker only when that changed something."""
    path = "/etc/docker/daemon.json"
    present = read_json(path) or {}
    wanted = dict(present, **(read_json("/etc/lbctl/docker-daemon.json") or {}))
    if wanted != present:
        write(path, json.dumps(wanted, indent=2) + "\n")
        systemctl("restart", "docker.service")
    systemctl("enable", "--now", "docker.service")


def apply_haproxy(conf):
    wanted = haproxy_digests(conf)
    applied = read_json(APPLIED) or {}
    systemctl("enable", "haproxy.service")
    if not is_active("haproxy.service"):
        systemctl("reset-failed", "haproxy.service", check=False)
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
    systemctl("enable", "--now", "prometheus-node-exporter.service")


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
    systemctl("enable", "--now", "chrony.service")
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
    systemctl("enable", "--now", "fluentd.service")
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
    systemctl("daemon-reload")
    if is_known("qemu-guest-agent.service"):
        # Installed just now, it has missed the event that starts it.
        systemctl("start", "qemu-guest-agent.service", check=False)
    try:
        apply(settings()["services"])
    finally:
        systemctl("enable", "--now", "lbctl-save-state.timer")


# ---- converge (issue 4): gets files and what they affect, checks, installs, applies, verifies, rolls back, answers in
# JSON. It installs with write() and applies with SERVICES.


# ---- status


def status():
    report = {"schema": 1, "boot_id": (read("/proc/sys/kernel/random/boot_id", b"")).decode().strip(),
              "uptime_s": float((read("/proc/uptime", b"0").split() or [b"0"])[0])}
    report["cloud_init"] = cloud_init()
    report["haproxy"] = haproxy_status()
    report["certificate"] = certificate_status()
    report["ready"] = report["haproxy"]["servers_up"] == 1
    print(json.dumps(report, indent=2))


def haproxy_status():
    found = {"active": is_active("haproxy.service"), "version": None, "uptime_s": None, "sessions": None,
             "servers": [], "servers_up": 0, "primary": None, "error": None}
    try:
        info = dict(line.split(": ", 1) for line in ask(ADMIN, "show info").splitlines() if ": " in line)
        found["version"] = info.get("Version")
        found["uptime_s"] = number(info.get("Uptime_sec"))
        found["sessions"] = number(info.get("CurrConns"))
        found["servers"] = servers(ask(ADMIN, "show stat -1 4 -1"))
    except (OSError, ValueError) as problem:
        found["error"] = str(problem)
    up = [s for s in found["servers"] if s["backend"] == "primary" and s["state"].startswith("UP")]
    found["servers_up"] = len(up)
    found["primary"] = up[0]["address"] if len(up) == 1 else None
    return found


def servers(text):
    lines = text.lstrip("# ").splitlines()
    names = lines[0].split(",") if lines else []
    listed = []
    for line in lines[1:]:
        row = dict(zip(names, line.split(",")))
        # A place kept for a node that DNS does not name.
        if not row.get("svname") or row.get("addr", "").split(":")[0] in ("", "<NONE>") and "MAINT" in row["status"]:
            continue
        listed.append({
            "backend": row["pxname"], "name": row["svname"], "address": row.get("addr") or None,
            "state": row["status"], "check": row.get("check_status") or None,
            "check_code": number(row.get("check_code")), "check_detail": row.get("last_chk") or None,
            "check_ms": number(row.get("check_duration")), "last_change_s": number(row.get("lastchg")),
            "sessions": number(row.get("scur")), "sessions_total": number(row.get("stot")),
        })
    return listed


def number(text):
    try:
        return int(text)
    except (TypeError, ValueError):
        return None


def cloud_init():
    """From the files that `cloud-init status` reads too, without its seconds of starting up."""
    run_dir = "/run/cloud-init"
    found = {"status": "not started", "detail": None, "stage": None, "errors": [], "recoverable_errors": {},
             "finished": os.path.exists(run_dir + "/result.json")}
    if os.path.exists(run_dir + "/disabled"):
        found["status"] = "disabled"
    v1 = (read_json(run_dir + "/status.json") or {}).get("v1")
    if not v1:
        return found
    found.update(detail=v1.get("datasource"), stage=v1.get("stage"))
    for stage in v1.values():
        if isinstance(stage, dict):
            found["errors"] += [str(e)[-500:] for e in stage.get("errors") or []][:10]
            for level, said in (stage.get("recoverable_errors") or {}).items():
                found["recoverable_errors"].setdefault(level, []).extend(str(e)[-500:] for e in said[:10])
    if found["errors"]:
        found["status"] = "error"
    else:
        found["status"] = "done" if found["finished"] else "running"
    return found


def certificate_status():
    """The client certificate on disk, and the one HAProxy shows to the nodes."""
    found = {"on_disk": None, "in_use": None}
    try:
        pem = read(CLIENT, b"").decode("ascii", "replace")
        body = re.search(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", pem, re.S)
        found["on_disk"] = body and certificate(base64.b64decode(body.group(1)))
    except (ValueError, IndexError) as problem:
        found["error"] = "unreadable certificate: %s" % problem
    try:
        text = ask(ADMIN, "show ssl cert /etc/haproxy/client.pem")
        fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        after = time.strptime(fields["notAfter"], "%b %d %H:%M:%S %Y %Z")
        found["in_use"] = {"serial": fields["Serial"].lower(), "not_after": time.strftime("%Y-%m-%dT%H:%M:%SZ", after)}
    except (OSError, KeyError, ValueError):
        pass
    return found


def certificate(der):
    """Serial number and end of validity: the two places of X.509 that matter here."""
    tbs = der_items(der_items(der)[0][1])[0][1]
    fields = [item for item in der_items(tbs) if item[0] != 0xA0]
    serial, after = fields[0][1], der_items(fields[3][1])[1]
    text = after[1].decode("ascii")
    if after[0] == 0x17:
        text = ("19" if text[:2] >= "50" else "20") + text
    when = "-".join((text[:4], text[4:6], text[6:8])) + "T" + ":".join((text[8:10], text[10:12], text[12:14])) + "Z"
    return {"serial": serial.lstrip(b"\0").hex(), "not_after": when}


def der_items(data):
    """The elements of a constructed value: tag and content of each."""
    items, at = [], 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at:at + size], "big")
            at += size
        items.append((tag, data[at:at + length]))
        at += length
    return items


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
