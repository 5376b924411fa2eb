"""What was there before lbctl in a guest that it takes over: a load balancer that serves, and what
else the Terraform module left, a node exporter, a configuration of chrony's that reads no other,
and secrets. Python 3.10 or newer, standard library only.

Nothing is done where nothing of it is found, and doing it again changes nothing. What is the
module's is named as the module names it: what an operator made under another name stays. A HAProxy
of systemd's is known by where it listens."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal

from . import additions, listeners
from .paths import HAPROXY_CFG as OUR_CFG
from .paths import RUN, UNITS
from .tools import Attempts, exists, read_bytes, read_json, remove, run, systemctl, write

CONTAINER = "postgres_load_balancer"
# The module's configuration of it, by which the container is known as the module's.
HAPROXY_CFG = "/opt/haproxy/haproxy.cfg"
EXPORTER = "node-exporter.service"
# The unit of lbctl's HAProxy, and of the distribution's.
UNIT = "haproxy.service"
PROGRAM = "haproxy"
# What lbctl's HAProxy has read, while it is lbctl's that runs in the unit.
IN_USE = f"{RUN}/haproxy.json"
# The last of a unit's drop-ins, until the next boot at the latest.
DROP_IN = "/run/systemd/system/{}.d/zz-lbctl-handover.conf"
# systemd takes the unit for stopped, and its processes go on as they are (systemd.kill(5)).
UNMANAGED = "[Service]\nKillMode=none\nExecStop=\nExecStopPost=\nRestart=no\n"
# A stop ends the process that the unit has now, and leaves the others in its control group alone.
MAIN_ONLY = "[Service]\nKillMode=process\n"
# There from the first file of a takeover to its end.
BEGUN = "/var/lib/lbctl/takeover"
# Inodes of its HAProxy's sockets, while lbctl's may listen beside them.
SHARED = f"{RUN}/shared-sockets.json"
# What it wrote with secrets in it. Its own files without any stay, for whoever looks back.
SECRETS = ("/opt/patroni/client.pem", "/opt/docker/config.json", "/opt/fluentd.conf")
# What the package's chrony.conf has and the module's has not (Debian 12).
CHRONY_READS = ("sourcedir /etc/chrony/sources.d", "confdir /etc/chrony/conf.d")
# Of whatever makes containers: Debian's own, Docker's, and Moby's.
DOCKERS = ("docker.io", "docker-ce", "moby-engine")


def is_there() -> bool:
    """Whether the guest was the module's."""
    return exists(HAPROXY_CFG)


def container_is_there() -> bool:
    """Also where it is stopped."""
    if not is_there():
        return False
    return run("docker", "container", "inspect", CONTAINER, check=False)[0] == 0


def stay_down() -> None:
    """Docker starts it no more, neither with the guest nor when it ends."""
    run("docker", "update", "--restart=no", CONTAINER)


class Old:
    """The load balancer that serves before lbctl's: in the module's container, or as units of
    systemd's. False where there is none."""

    def __init__(self, container: bool, units: dict[str, list[int]], listening: list[str]) -> None:
        self.container = container
        # The first process of each HAProxy, by the unit that started it.
        self.units = units
        # Those of their processes that listen.
        self.listening = listening
        # Units that systemd takes for stopped, though their processes serve.
        self.released: list[str] = []
        # Units that are not started with the guest any more.
        self.disabled: list[str] = []
        # Whether it was told to end.
        self.stepped_back = False

    def __bool__(self) -> bool:
        return self.container or bool(self.units)

    def processes(self) -> list[int]:
        return [process for of_unit in self.units.values() for process in of_unit]

    def has_our_unit(self) -> bool:
        return UNIT in self.units

    def release(self) -> None:
        """From systemd, which would end their processes with the unit. So the distribution's unit
        can become lbctl's, and none of them is started again when its HAProxy ends."""
        if not self.units:
            return
        for unit in self.units:
            write(DROP_IN.format(unit), MAIN_ONLY if unit == UNIT and own_process() else UNMANAGED)
        systemctl("daemon-reload")
        for unit in self.units:
            # An interrupted takeover has started lbctl's in it, which has sessions by now.
            if unit != UNIT or not own_process():
                systemctl("stop", unit)
            self.released.append(unit)
        if self.has_our_unit():
            # What lbctl's HAProxy starts there ends with the unit, and the other one does not.
            write(DROP_IN.format(UNIT), MAIN_ONLY)
            systemctl("daemon-reload")

    def share_ports(self) -> None:
        """lbctl's HAProxy may listen beside this one, until it steps back: so no client finds a
        closed port. Where the two are not one user's it waits for the ports (`beside`)."""
        processes = list(self.listening)
        if self.container:
            text = run("docker", "top", CONTAINER, "-eo", "pid", check=False)[1]
            processes += [word for word in text.split() if word.isdigit()]
        sockets = sorted({inode for one in processes for inode in listeners.sockets_of(one)})
        write(SHARED, json.dumps(sockets), 0o600)

    def step_back(self) -> None:
        """For good: nothing starts it again."""
        self.stepped_back = True
        for unit in self.units:
            if unit != UNIT and systemctl("is-enabled", "--quiet", unit, check=False)[0] == 0:
                self.disabled.append(unit)
                systemctl("disable", unit)
        end_gently(self.container, self.processes())

    def come_back(self) -> str:
        """After a change that failed: it serves again, and is started with the guest. One that has
        stepped back opens no port again by itself, though its last sessions go on: it is started
        again. Of a unit a second one opens the ports before the first ends. Returns what differs
        from before."""
        if is_there() and exists(f"{UNITS}/{EXPORTER}"):
            systemctl("enable", "--now", EXPORTER)
        if not self.stepped_back:
            if not self.released:
                return ""
            return (
                "; the old load balancer serves on, and systemd does not watch it until the next "
                "boot of the guest"
            )
        if self.container:
            run("docker", "update", "--restart=always", CONTAINER)
            run("docker", "restart", CONTAINER)
        for unit in self.disabled:
            systemctl("enable", unit)
        for unit in self.released:
            systemctl("start", unit)
        return ""

    def tidy(self) -> None:
        """Units are managed as their own files say."""
        drop_ins = [path for path in map(DROP_IN.format, self.units) if exists(path)]
        for path in drop_ins:
            remove(path)
        if drop_ins:
            systemctl("daemon-reload")


NOTHING = Old(False, {}, [])


def find(cfg: str) -> Old:
    """What serves where that configuration would listen. A HAProxy of a shell, or of another
    container, has nobody who would start it again: it is in the way, and is named."""
    own = own_process()
    units: dict[str, list[int]] = {}
    listening = []
    for process in listeners.processes(cfg):
        first = listeners.first_of(process, PROGRAM)
        unit = listeners.unit_of(first)
        if first and unit and first != own:
            listening.append(process)
            processes = units.setdefault(unit, [])
            if first not in processes:
                processes.append(first)
    return Old(container_is_there(), units, listening)


def own_process() -> int:
    """The first process of lbctl's HAProxy, which an interrupted takeover has started; 0: there is
    none."""
    if not exists(IN_USE):
        return 0
    text = systemctl("show", "--property=MainPID", "--value", UNIT, check=False)[1].strip()
    return int(text) if text.isdigit() else 0


def shared() -> list[str]:
    """Inodes of the sockets that lbctl's HAProxy may share a port with."""
    found = read_json(SHARED)
    return [inode for inode in found if isinstance(inode, str)] if isinstance(found, list) else []


def no_longer_share() -> None:
    """Another program's socket may have one of the numbers some day."""
    remove(SHARED)


def end_gently(container: bool, processes: list[int]) -> None:
    """Its HAProxy gives the ports free at once, and ends with the last of its sessions (HAProxy
    management guide, section 4: SIGUSR1)."""
    if container:
        first = first_in_container()
        stay_down()
        if not first:
            run("docker", "kill", "--signal", "USR1", CONTAINER, check=False)
        # Docker's own command ends some time after it has sent the signal, and nobody listens then.
        processes = [*processes, *first]
    for process in processes:
        # One that has ended may have given its number to another program.
        if listeners.first_of(str(process), PROGRAM) == process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGUSR1)


def first_in_container() -> list[int]:
    """The process that Docker would send a signal to, if it is HAProxy."""
    inspect = ("docker", "container", "inspect", "--format", "{{.State.Pid}}", CONTAINER)
    text = run(*inspect, check=False)[1].strip()
    process = int(text) if text.isdigit() else 0
    return [process] if process and listeners.first_of(str(process), PROGRAM) == process else []


def at_boot(attempts: Attempts, is_first: bool) -> None:
    """No session is left of it then. Of units only those that the first boot with lbctl's seed
    finds: a HAProxy that somebody puts there later is in the way, and is named."""
    if is_first:
        attempts.attempt("the old load balancer's unit", stop_units)
    if is_there():
        # What does not answer yet has the container all the same, and would start it.
        systemctl("start", "docker.service", check=False)
    if container_is_there():
        attempts.attempt("the old load balancer", remove_container)
    attempts.attempt("the old node exporter", stop_exporter)


def stop_units() -> None:
    """The distribution's unit becomes lbctl's, which ends what runs in it."""
    for unit in find(read_bytes(OUR_CFG).decode("utf-8", "replace")).units:
        if unit != UNIT:
            systemctl("disable", "--now", unit)


def remove_container() -> None:
    stay_down()
    run("docker", "rm", "--force", CONTAINER)


def stop_exporter() -> None:
    """It has the port of the distribution's."""
    if is_there() and exists(f"{UNITS}/{EXPORTER}"):
        systemctl("disable", "--now", EXPORTER)


def missing_in_chrony() -> list[str]:
    """The lines without which chrony reads no file of lbctl's."""
    if not is_there():
        return []
    # What lbctl has added already is still missing in the file itself.
    there = additions.without_added(read_bytes(additions.CHRONY)).decode("utf-8", "replace")
    words = [line.split()[0] for line in CHRONY_READS]
    return [
        line
        for word, line in zip(words, CHRONY_READS, strict=True)
        if not re.search(rf"^\s*{word}\s", there, re.M)
    ]


def without_docker(packages: list[str]) -> list[str]:
    """Debian's Docker takes that of Docker's own repository away, and with it the container that
    serves: where there is one already it counts as there."""
    if "docker.io" not in packages or not is_there():
        return packages
    query = ("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n")
    text = run(*query, *DOCKERS, check=False)[1]
    there = {line.split(" ")[0] for line in text.split("\n") if line.endswith(" installed")}
    if not there & {"docker-ce", "moby-engine"}:
        return packages
    return [name for name in packages if name != "docker.io"]


def finish() -> None:
    """When lbctl's HAProxy serves."""
    if is_there():
        for path in SECRETS:
            remove(path)
    remove(BEGUN)
