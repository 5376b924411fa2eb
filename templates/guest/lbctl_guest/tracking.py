"""Room in the kernel's table of tracked connections, which Docker brings, and any firewall with
rules about the state of a connection. When it is full the kernel drops packets of everybody, of
health checks and sessions too: docs/dataplane.md. Python 3.10 or newer, standard library only."""

from __future__ import annotations

from .paths import at
from .tools import exists, memory, read_bytes

FOLDER = "/proc/sys/net/netfilter"
MOST = f"{FOLDER}/nf_conntrack_max"
AFTER_THE_END = f"{FOLDER}/nf_conntrack_tcp_timeout_time_wait"
# For each MiB of memory, of which all of them take a twenty-fifth.
ENTRIES = 128
# Seconds. TCP itself keeps a connection for 60 s, and needs no entry for that.
KEPT = 30


def make_room() -> None:
    """Where connections are tracked. What somebody has set higher, or shorter, stays."""
    if not exists(MOST):
        return
    entries = ENTRIES * memory()
    if entries > number(MOST):
        put(MOST, entries)
    if exists(AFTER_THE_END) and number(AFTER_THE_END) > KEPT:
        put(AFTER_THE_END, KEPT)


def number(path: str) -> int:
    return int(read_bytes(path))


def put(path: str, value: int) -> None:
    """In place: a file of the kernel's cannot be exchanged."""
    with open(at(path), "w", encoding="ascii") as f:
        f.write(str(value))
