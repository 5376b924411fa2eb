"""HAProxy in its container, while the load balancer that was there before lbctl has the ports. It
is another user's, and the kernel lets it listen beside that one nowhere; and Docker takes seconds
to start it. So it starts with lbctl's configuration but for its ports, checks the nodes, and takes
the ports by a reload as soon as the other one has given them up. Python 3.10 or newer, standard
library only.

A boot of the guest forgets all of it: HAProxy starts with its ports then."""

from __future__ import annotations

import os
import time

from . import listeners, predecessor
from .paths import HAPROXY_CFG, HAPROXY_RUN, RUN, at
from .tools import Failure, exists, read_bytes, remove, write

# While it is there HAProxy's container starts without ports.
WAITS = f"{RUN}/waits-for-ports"
# What the container reads then, and once more at each reload: first the one, then lbctl's own.
READ = f"{HAPROXY_RUN}/haproxy.cfg"
WITHOUT_PORTS = f"{HAPROXY_RUN}/without-ports.cfg"
# For how many seconds the other one may take to give the ports up.
PATIENCE = 10.0


def begin() -> None:
    write(WAITS, "")


def waits() -> bool:
    return exists(WAITS)


def end() -> None:
    remove(WAITS)


def prepare() -> None:
    """Before the container starts."""
    if not waits():
        return
    text = read_bytes(HAPROXY_CFG).decode("utf-8", "replace")
    write(WITHOUT_PORTS, without_ports(text), 0o644)
    point_to(WITHOUT_PORTS)


def config() -> str:
    """What HAProxy's container is to read."""
    return READ if waits() else HAPROXY_CFG


def without_ports(text: str) -> str:
    """HAProxy warns of a frontend that listens nowhere, and goes on."""
    lines = text.split("\n")
    return "\n".join(line for line in lines if line.split()[:1] != ["bind"])


def read_all_of_it() -> None:
    """At the next reload. What the container reads goes on to be there, for later ones."""
    point_to(HAPROXY_CFG)


def point_to(path: str) -> None:
    new = READ + ".new"
    remove(new)
    os.symlink(os.path.relpath(path, HAPROXY_RUN), at(new))
    os.replace(at(new), at(READ))


def wait_for_ports() -> None:
    text = read_bytes(HAPROXY_CFG).decode("utf-8", "replace")
    theirs = set(predecessor.shared())
    deadline = time.monotonic() + PATIENCE
    while any(one.inode in theirs for one in listeners.taking(text)):
        if time.monotonic() > deadline:
            raise Failure(
                "the old load balancer was told to end, and has its ports still "
                f"after {PATIENCE:.0f} s"
            )
        time.sleep(0.005)
