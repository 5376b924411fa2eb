"""What runs in the guest: makes each service follow its files, and changes nothing where it does
already. Also the administrator's account. Python 3.10 or newer, standard library only.

A service that needs no more than its files and its unit has no code here: `service_table` in the
settings says how it applies a change."""

from __future__ import annotations

import json
import os
import pwd
import re

from .haproxy import apply_haproxy, concerned
from .paths import RUN, at
from .tools import (
    Attempts,
    Failure,
    NewFile,
    apt,
    digest,
    enable,
    own_files,
    read_bytes,
    read_json,
    run,
    systemctl,
    user_exists,
    write,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .wire import AdminAccount, ServiceFacts, Settings


# How fluentd is installed where the distribution has no package of it.
GEMS = {"fluentd": "1.16.5", "fluent-plugin-systemd": "1.0.5"}
FLUENTD = ("/opt/fluent/bin/fluentd", "/usr/local/bin/fluentd", "/usr/bin/fluentd")
# The command of `systemctl` that makes a service apply a change.
VERBS = {"reload": "reload-or-restart", "restart": "restart"}


# ---- those with a need of their own


def apply_docker(conf: Settings) -> None:
    """Adds lbctl's settings to those of the image. A running Docker needs no restart for them."""
    if conf["registry"]:
        # Docker reads this at each pull.
        ca = read_bytes("/etc/lbctl/docker/registry-ca.crt")
        write(f"/etc/docker/certs.d/{conf['registry']}/ca.crt", ca)
    path = "/etc/docker/daemon.json"
    present = read_json(path) or {}
    wanted = {**present, **(read_json("/etc/lbctl/docker-daemon.json") or {})}
    if wanted != present:
        write(path, json.dumps(wanted, indent=2) + "\n")
    start("docker", conf, changed=wanted != present)


def apply_chrony(conf: Settings) -> None:
    """The package's own sources and makestep are commented out where lbctl has some: its makestep
    is read later and would win."""
    path = "/etc/chrony/chrony.conf"
    ours = b"".join(
        read_bytes(p)
        for p in ("/etc/chrony/sources.d/lbctl.sources", "/etc/chrony/conf.d/lbctl.conf")
    )
    present = read_bytes(path)
    wanted = chrony_conf(present, ours)
    if wanted != present:
        write(path, wanted)
    apply_plain("chrony", conf, also=[wanted, ours])


def chrony_conf(present: bytes, ours: bytes) -> bytes:
    replaced = []
    if re.search(rb"^(server|pool) ", ours, re.M):
        replaced += [b"server", b"pool", b"peer"]
    if re.search(rb"^makestep ", ours, re.M):
        replaced += [b"makestep"]
    plain = re.sub(rb"^#lbctl# ", b"", present, flags=re.M)
    if not replaced:
        return plain
    return re.sub(rb"^((?:%s)\s.*)$" % b"|".join(replaced), rb"#lbctl# \1", plain, flags=re.M)


def apply_fluentd(conf: Settings) -> None:
    if not user_exists("fluentd"):
        account = ("--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin")
        run("useradd", *account, "fluentd")
    own_files(conf, "fluentd")
    # Without this folder the journal is kept in memory only, and fluentd reads it from here.
    os.makedirs(at("/var/log/journal"), exist_ok=True)
    run("journalctl", "--flush", check=False)
    if fluentd_program() is None:
        install_fluentd(conf)
    apply_plain("fluentd", conf)


def fluentd_program() -> str | None:
    return next((path for path in FLUENTD if os.access(at(path), os.X_OK)), None)


def install_fluentd(conf: Settings) -> None:
    if not conf["install"]:
        raise Failure(
            "fluentd is not in the image, and install_dependencies = false forbids installing it"
        )
    if run("apt-cache", "show", "fluent-package", check=False)[0] == 0:
        apt("install", "fluent-package")
        systemctl("disable", "--now", "fluentd.service", check=False)
        return
    apt("--no-install-recommends", "install", "ruby", "ruby-dev", "build-essential", "libsystemd0")
    for gem, version in GEMS.items():
        options = ("--no-document", "--bindir", "/usr/local/bin", "--version", version)
        run("gem", "install", *options, gem, timeout=900)


def fluentd() -> None:
    """What the unit runs: becomes fluentd."""
    program = fluentd_program()
    if program is None:
        raise Failure("fluentd is not installed")
    os.execv(program, [program, "--no-supervisor", "-c", "/etc/fluentd/fluent.conf"])


# ---- all


# Those that need more than `apply_plain` does.
SPECIAL: dict[str, Callable[[Settings], None]] = {
    "docker": apply_docker,
    "haproxy": apply_haproxy,
    "chrony": apply_chrony,
    "fluentd": apply_fluentd,
}


def apply(conf: Settings, attempts: Attempts) -> None:
    """Every service that is wanted is tried, also after one that failed."""
    for name in conf["services"]:
        attempts.attempt(name, apply_service, name, conf)


def apply_service(name: str, conf: Settings) -> None:
    facts(name, conf)
    special = SPECIAL.get(name)
    if special:
        special(conf)
    else:
        apply_plain(name, conf)


def facts(name: str, conf: Settings) -> ServiceFacts:
    known = conf["service_table"].get(name)
    if known is None:
        raise Failure("lbctl's program in this guest does not know this service")
    return known


def apply_plain(name: str, conf: Settings, also: Iterable[bytes] = ()) -> None:
    """Makes it apply a change if its files are not those that it has read last."""
    if facts(name, conf)["on_change"] == "nothing":
        start(name, conf)
        return
    in_use = f"{RUN}/{name}"
    wanted = digest(concerned(conf, name), also)
    changed = read_bytes(in_use).decode() != wanted
    start(name, conf, changed)
    if changed:
        write(in_use, wanted)


def start(name: str, conf: Settings, changed: bool = False) -> None:
    """Now and at each boot."""
    service = facts(name, conf)
    enable(service["unit"])
    # Each of the verbs also starts a service that does not run.
    systemctl(VERBS[service["on_change"]] if changed else "start", service["unit"])


def switch_off(name: str, conf: Settings) -> None:
    """A service that is not wanted any more. Docker stays, because others may use it. So does
    chrony, as its package configures it, because the clock must still be set."""
    if name == "chrony":
        apply_chrony(conf)
    elif name not in ("docker", "haproxy"):
        systemctl("disable", "--now", facts(name, conf)["unit"], check=False)


def with_table(conf: Settings, other: Settings) -> Settings:
    """The settings, with what either knows of the services: those of lbctl 0.1 have no table."""
    table = {**other.get("service_table", {}), **conf.get("service_table", {})}
    return {**conf, "service_table": table}


# ---- the administrator


def authorized_keys(conf: Settings, before: Settings) -> list[NewFile]:
    """The administrator's `authorized_keys`, as an entry to install, where it is not as it should
    be: lbctl's previous keys are removed, today's are added, all others stay."""
    admin = conf["admin"]
    if not user_exists(admin["user"]):
        return []
    user = pwd.getpwnam(admin["user"])
    path = os.path.join(user.pw_dir, ".ssh/authorized_keys")
    present = read_bytes(path).decode("utf-8", "replace").splitlines()
    outdated = set(before.get("admin", {}).get("keys", [])) - set(admin["keys"])
    wanted = [line for line in present if line.strip() not in outdated]
    wanted += [key for key in admin["keys"] if key not in wanted]
    if wanted == present:
        return []
    ids = (user.pw_uid, user.pw_gid)
    folder = at(os.path.dirname(path))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chown(folder, *ids)
    text = "".join(line + "\n" for line in wanted)
    return [NewFile(path, text, 0o600, ids)]


def set_password(admin: AdminAccount) -> None:
    """The hash is passed on standard input: every user can see a command's arguments."""
    user, wanted = admin["user"], admin["password_hash"]
    if not user_exists(user):
        return
    present = shadow(user)
    if wanted is None:
        if present is not None and not present.startswith(("!", "*")):
            run("passwd", "--lock", user)
    elif wanted != present:
        run("chpasswd", "--encrypted", stdin=f"{user}:{wanted}\n")


def shadow(user: str) -> str | None:
    """The account's password, as crypt(5) writes it."""
    for line in read_bytes("/etc/shadow").splitlines():
        fields = line.split(b":")
        if fields[0] == user.encode():
            return fields[1].decode()
    return None


def retire_admin(conf: Settings, before: Settings) -> None:
    """A previous administrator can no longer log in."""
    user = before.get("admin", {}).get("user", conf["admin"]["user"])
    if user != conf["admin"]["user"] and user_exists(user):
        run("usermod", "--lock", "--expiredate", "1", user)
