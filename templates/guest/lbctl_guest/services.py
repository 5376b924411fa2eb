"""What runs beside HAProxy in the guest: each function makes one service follow its files, and does nothing when it does
already. Python 3.8 or newer, standard library only."""
import hashlib
import json
import os
import pwd
import re

from guest_haproxy import apply_haproxy
from guest_tools import (Failure, apt, digest, enable_now, own_files, read, read_json, run, settings, systemctl,
                         user_exists, write)

# What fluentd is installed as where the distribution has no package of it.
GEMS = {"fluentd": "1.16.5", "fluent-plugin-systemd": "1.0.5"}
UNITS = {"docker": "docker.service", "node-exporter": "prometheus-node-exporter.service", "chrony": "chrony.service",
         "fluentd": "fluentd.service"}


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
    if run("apt-cache", "show", "fluent-package", check=False)[0] == 0:
        apt("install", "fluent-package")
        systemctl("disable", "--now", "fluentd.service", check=False)
        return
    apt("--no-install-recommends", "install", "ruby", "ruby-dev", "build-essential", "libsystemd0")
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


def switch_off(name, conf):
    """A service that is wanted no more. Docker stays, for others may use it, and a clock goes on being set: by chrony as
    its package comes."""
    if name == "chrony":
        apply_chrony(conf)
    elif name in UNITS and name != "docker":
        systemctl("disable", "--now", UNITS[name], check=False)


# ---- the administrator


def authorized_keys(conf, before):
    """The file of the administrator's keys, as an entry to install, where it is not as it should be: lbctl's keys of
    before go, today's come, everybody else's stay."""
    admin = conf["admin"]
    if not user_exists(admin["user"]):
        return []
    user = pwd.getpwnam(admin["user"])
    path = os.path.join(user.pw_dir, ".ssh/authorized_keys")
    present = read(path, b"").decode("utf-8", "replace").splitlines()
    outdated = set(before.get("admin", {}).get("keys", [])) - set(admin["keys"])
    wanted = [line for line in present if line.strip() not in outdated]
    wanted += [key for key in admin["keys"] if key not in wanted]
    if wanted == present:
        return []
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    os.chown(os.path.dirname(path), user.pw_uid, user.pw_gid)
    text = "".join(line + "\n" for line in wanted)
    return [{"path": path, "content": text, "mode": 0o600, "ids": (user.pw_uid, user.pw_gid)}]


def set_password(admin):
    """The hash goes by standard input, for arguments are for all to see."""
    user, wanted = admin["user"], admin["password_hash"]
    if not user_exists(user):
        return
    present = next((l.split(b":")[1].decode() for l in read("/etc/shadow", b"").splitlines()
                    if l.startswith(user.encode() + b":")), None)
    if wanted is None:
        if present is not None and not present.startswith(("!", "*")):
            run("passwd", "--lock", user)
    elif wanted != present:
        run("chpasswd", "--encrypted", stdin="%s:%s\n" % (user, wanted))


def retire_admin(conf, before):
    """Who was the administrator and is it no more does not get in any more."""
    user = before.get("admin", {}).get("user", conf["admin"]["user"])
    if user != conf["admin"]["user"] and user_exists(user):
        run("usermod", "--lock", "--expiredate", "1", user)
