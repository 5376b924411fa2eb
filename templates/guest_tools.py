"""Small tools that the guest's scripts share. Python 3.8 or newer, standard library only."""
import hashlib
import json
import os
import socket
import subprocess
import tempfile
import time

SETTINGS = "/etc/lbctl/guest.json"
ADMIN = "/run/haproxy/admin.sock"


class Failure(Exception):
    """Something that a person must be told, in words."""


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
