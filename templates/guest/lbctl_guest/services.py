"""What runs in the guest: makes each service follow its files, and changes nothing where it does
already. Also the administrator's account. Python 3.10 or newer, standard library only.

A service that needs no more than its files and its unit has no code here: `service_table` in the
settings says how it applies a change."""

from __future__ import annotations

import os
import pwd
import re

from . import additions, predecessor, vip
from .haproxy import apply_haproxy, concerned
from .paths import PROGRAMS, RUN, UNITS, at
from .tools import (
    Attempts,
    Failure,
    NewFile,
    apt,
    complain,
    digest,
    disable,
    disable_now,
    enable,
    enable_now,
    is_active,
    is_enabled,
    own_files,
    read,
    read_bytes,
    read_json,
    remove,
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
        ca = read_bytes("/etc/lbctl/docker/registry-ca.crt").decode()
        additions.add(additions.registry_ca(conf["registry"]), "file", ca)
    ours = read_json(additions.DOCKER_OURS) or {}
    changed = additions.add(additions.DOCKER, "settings", ours)
    start("docker", conf, changed)


def apply_chrony(conf: Settings) -> None:
    """The package's own sources and makestep are commented out where lbctl has some: its makestep
    is read later and would win. A file that reads no other gets the lines that do."""
    ours = b"".join(
        read_bytes(p)
        for p in ("/etc/chrony/sources.d/lbctl.sources", "/etc/chrony/conf.d/lbctl.conf")
    )
    wanted = replaced_in_chrony(ours) + [f"+{line}" for line in predecessor.missing_in_chrony()]
    additions.add(additions.CHRONY, "commented", wanted)
    apply_plain("chrony", conf, also=[read_bytes(additions.CHRONY), ours])


def replaced_in_chrony(ours: bytes) -> list[str]:
    replaced = []
    if re.search(rb"^(server|pool) ", ours, re.M):
        replaced += ["server", "pool", "peer"]
    if re.search(rb"^makestep ", ours, re.M):
        replaced += ["makestep"]
    return replaced


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
    if name == "virtual-ip":
        vip.clear()


def take_back(conf: Settings) -> None:
    """What lbctl added to files of others, and these settings do not want."""
    wanted: set[str] = set()
    admin, names, registry = conf.get("admin"), conf.get("services", []), conf.get("registry")
    keys = keys_of(admin["user"]) if admin else None
    if keys:
        wanted.add(keys)
    if "docker" in names:
        wanted.add(additions.DOCKER)
    if "docker" in names and registry:
        wanted.add(additions.registry_ca(registry))
    if "chrony" in names:
        wanted.add(additions.CHRONY)
    if additions.DOCKER in additions.take_back(wanted):
        # It stays for others, without what lbctl has told it.
        systemctl("reload", "docker.service", check=False)


def with_table(conf: Settings, other: Settings) -> Settings:
    """The settings, with what either knows of the services: those of lbctl 0.1 have no table."""
    table = {**other.get("service_table", {}), **conf.get("service_table", {})}
    return {**conf, "service_table": table}


# ---- lbctl's own units, and what the kernel and systemd are told


OWN_UNITS = ("lbctl-save-state.timer", "lbctl-liveness.service", "lbctl-vip.service")
SYSCTL = "/etc/sysctl.d/90-lbctl.conf"
WATCHDOG = "/etc/systemd/system.conf.d/50-lbctl.conf"


def own_units(conf: Settings) -> list[str]:
    """Those of `OWN_UNITS` that the settings have."""
    listed = {entry["path"] for entry in conf.get("files", [])}
    return [unit for unit in OWN_UNITS if f"{UNITS}/{unit}" in listed]


def follow_own_units(conf: Settings, paths: set[str]) -> None:
    """Those that the settings have, after their files or the program changed."""
    wanted = own_units(conf)
    # `lbctl-vip` has read them when it started.
    settings_too = {"lbctl-vip.service": "/etc/lbctl/guest.json"}
    for unit in OWN_UNITS:
        path = f"{UNITS}/{unit}"
        program = unit.endswith(".service") and any(p.startswith(f"{PROGRAMS}/") for p in paths)
        if unit in wanted and (path in paths or program or settings_too.get(unit) in paths):
            enable_now(unit, "restart")
        elif path in paths and unit not in wanted:
            disable_now(unit)
    if SYSCTL in paths:
        apply_sysctl()


def apply_sysctl() -> None:
    """As systemd-sysctl does it at each boot, for this file alone: others may have set others of
    their own since then. Where it is removed, the next boot does the rest."""
    for line in read_bytes(SYSCTL).decode().split("\n"):
        name, equals, value = line.partition("=")
        if not equals or line.startswith("#"):
            continue
        try:
            with open(at("/proc/sys/" + name.strip().replace(".", "/")), "w") as f:
                f.write(value.strip() + "\n")
        except OSError as problem:
            complain(f"cannot set {name.strip()}: {problem.strerror}")


def apply_watchdog() -> None:
    """At the first boot systemd has started before cloud-init wrote this file. It would read it
    with all of its units again, which takes a small guest half a minute."""
    found = re.search(r"^RuntimeWatchdogSec=([0-9]+)$", read_bytes(WATCHDOG).decode(), re.M)
    if found:
        manager = "org.freedesktop.systemd1"
        path = "/org/freedesktop/systemd1"
        span = ("RuntimeWatchdogUSec", "t", f"{found[1]}000000")
        run("busctl", "set-property", manager, path, f"{manager}.Manager", *span, check=False)


class Stood:
    """How the services of these settings and lbctl's own units stood before a takeover, for one
    that fails. HAProxy is no matter of this. Docker stays, because the old load balancer may be in
    it, and chrony, because the clock must still be set."""

    def __init__(self, conf: Settings) -> None:
        names = [name for name in conf["services"] if name not in ("docker", "haproxy")]
        self.units = {name: facts(name, conf)["unit"] for name in names}
        self.ends = [unit for name, unit in self.units.items() if name != "chrony"]
        self.ends += own_units(conf)
        every = {*self.units.values(), *self.ends}
        self.enabled = {unit for unit in every if is_enabled(unit)}
        self.active = {unit for unit in every if is_active(unit)}
        self.recorded = set(additions.recorded())

    def end_others(self) -> None:
        """What did not run before, while its units' files are still there; and what was added to
        files of others. Lines of `authorized_keys` are put back with the files of lbctl's own: one
        of them may have been there before."""
        for unit in self.ends:
            if unit not in self.active:
                systemctl("stop", unit, check=False)
            if unit not in self.enabled:
                disable(unit)
        if "virtual-ip" in self.units and self.units["virtual-ip"] not in self.active:
            vip.clear()
        for name in self.units:
            # What it has read is not what it reads next time.
            remove(f"{RUN}/{name}")
        lines = {path for path, known in additions.recorded().items() if known["kind"] == "lines"}
        if additions.DOCKER in additions.take_back(self.recorded | lines):
            systemctl("reload", "docker.service", check=False)

    def go_on(self) -> list[str]:
        """The others follow their files, which are as before by now. Returns the units that do not
        start."""
        failed = []
        for unit in sorted({*self.units.values(), *self.ends}):
            if unit in self.active:
                if systemctl("restart", unit, check=False)[0] != 0:
                    failed.append(unit)
            elif unit not in self.ends:
                systemctl("try-restart", unit, check=False)
        return failed


# ---- the administrator


def keys_of(user: str) -> str | None:
    """The account's `authorized_keys`; None: there is no such account."""
    if not user_exists(user):
        return None
    return os.path.join(pwd.getpwnam(user).pw_dir, ".ssh/authorized_keys")


def authorized_keys(conf: Settings) -> list[NewFile]:
    """The administrator's `authorized_keys`, as an entry to install, where it is not as it should
    be: lbctl's previous keys are removed, today's are added, all others stay."""
    admin = conf["admin"]
    path = keys_of(admin["user"])
    if path is None:
        return []
    present = read(path)
    ours = additions.recorded().get(path, {}).get("ours")
    text = additions.lines(present, ours, None, admin["keys"])[0]
    if text == present or text is None:
        return []
    additions.expect_lines(path, admin["keys"])
    user = pwd.getpwnam(admin["user"])
    ids = (user.pw_uid, user.pw_gid)
    folder = at(os.path.dirname(path))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chown(folder, *ids)
    return [NewFile(path, text, 0o600, ids)]


def settle_keys(conf: Settings) -> None:
    """When they are installed."""
    path = keys_of(conf["admin"]["user"])
    if path:
        additions.settle_lines(path, conf["admin"]["keys"])


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
    for line in read_bytes("/etc/shadow").split(b"\n"):
        fields = line.split(b":")
        if fields[0] == user.encode():
            return fields[1].decode()
    return None


def retire_admin(conf: Settings, before: Settings) -> None:
    """A previous administrator can no longer log in."""
    user = before.get("admin", {}).get("user", conf["admin"]["user"])
    if user != conf["admin"]["user"] and user_exists(user):
        run("usermod", "--lock", "--expiredate", "1", user)
