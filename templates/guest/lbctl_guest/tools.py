"""Small tools that the guest's scripts share. Python 3.8 or newer, standard library only."""
import grp
import hashlib
import json
import os
import pwd
import socket
import subprocess
import tempfile
import time

SETTINGS = "/etc/lbctl/guest.json"
ADMIN = "/run/haproxy/admin.sock"
CLIENT_PEM = "/etc/haproxy/client.pem"
CA_PEM = "/etc/haproxy/ca.pem"
DOCKER = ["docker", "--config", "/etc/lbctl/docker"]
# The official image's user.
CONTAINER_UID = 99


class Failure(Exception):
    """Something that a person must be told, in words."""


def settings():
    with open(SETTINGS, encoding="utf-8") as f:
        return json.load(f)


def run(*argv, timeout=120, check=True, stdin=""):
    """The command's exit status and its output, both streams together. Bounded."""
    try:
        done = subprocess.run(
            argv, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
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


def enable(unit):
    """For the next boot. Not by `systemctl enable`: for a package that brings a SysV script too it also keeps that one's
    links, and reloads the manager twice, which takes a small guest longest of all."""
    wants = "timers.target" if unit.endswith(".timer") else "multi-user.target"
    if not os.path.lexists("/etc/systemd/system/%s.wants/%s" % (wants, unit)):
        systemctl("--no-reload", "add-wants", wants, unit)


def enable_now(unit):
    enable(unit)
    systemctl("start", unit)


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


def ask(path, command, timeout=3.0, ends=False):
    """One command on one of HAProxy's sockets, and its whole answer. The master answers some commands only when it knows
    that no other follows: `ends`."""
    deadline = time.monotonic() + timeout
    answer = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(timeout)
        s.connect(path)
        s.sendall(command.encode() + b"\n")
        if ends:
            s.shutdown(socket.SHUT_WR)
        while True:
            s.settimeout(max(0.01, deadline - time.monotonic()))
            chunk = s.recv(65536)
            if not chunk:
                return b"".join(answer).decode("utf-8", "replace")
            answer.append(chunk)


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


def install_packages(wanted):
    """Those that are not there yet. Nothing is asked of the network when all are."""
    text = run("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *wanted, check=False)[1]
    there = {line.split(" ")[0] for line in text.splitlines() if line.endswith(" installed")}
    missing = [name for name in wanted if name not in there]
    if missing:
        apt("update")
        apt("install", *missing)


def apt(*args):
    run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--yes", "--option", "DPkg::Lock::Timeout=300",
        *args, timeout=900)
