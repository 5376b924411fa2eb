"""Has a HAProxy started again that hangs: a process that is there and does nothing any more. Runs
for as long as the guest does. Python 3.10 or newer, standard library only.

It ends HAProxy on proof alone, for that cuts every session: several times in a row neither a byte
from the runtime socket nor a sign that the worker has run at all. A worker that is busy, or short
of processor time, of memory or of places on that socket, has run: the health checks alone wake it
every second. One that spins in its own code is ended by HAProxy's own watchdog. What counts is
rounds of this process and no clock, so a guest that was paused for an hour proves nothing."""

from __future__ import annotations

import os
import re
import socket
import time

from .paths import ADMIN_SOCKET, at
from .tools import complain, is_active, read_bytes, systemctl

UNIT = "haproxy.service"
# Seconds between two rounds, and for an answer.
PERIOD = 4.0
PATIENCE = 3.0
# In a row, after the first silent one: with these numbers some 25 s.
ROUNDS = 3


def watch() -> None:
    silence = Silence()
    while True:
        if silence.is_proof():
            end_haproxy()
        time.sleep(PERIOD)


class Silence:
    """How many rounds in a row the same worker has neither answered nor run."""

    def __init__(self) -> None:
        self.rounds = 0
        self.seen: tuple[int, ...] | None = None

    def is_proof(self) -> bool:
        """One more round."""
        if answers() is not False:
            self.rounds, self.seen = 0, None
            return False
        seen = signs_of_life()
        if seen is None or seen != self.seen:
            self.rounds, self.seen = 0, seen
            return False
        self.rounds += 1
        return self.rounds >= ROUNDS and is_active(UNIT)


def end_haproxy() -> None:
    """systemd starts it again (`Restart=always`). Not by `restart`: that asks it to stop and waits,
    and a process that hangs does not hear."""
    complain("HAProxy has neither answered nor run for some 25 s: it is ended and started again")
    systemctl("kill", "--signal=SIGKILL", UNIT, check=False)


def answers() -> bool | None:
    """None: there is nobody to ask."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(PATIENCE)
            s.connect(at(ADMIN_SOCKET))
            s.sendall(b"show info\n")
            s.recv(1)
        return True
    except TimeoutError:
        return False
    except BlockingIOError:
        # Its queue of connections is full. Said at once, so the round is made as long as others.
        time.sleep(PATIENCE)
        return False
    except OSError:
        return None


def signs_of_life() -> tuple[int, ...] | None:
    """Which worker it is, and what grows while that runs (proc(5), "stat" and "status"). None:
    there is none, or a debugger has stopped it."""
    found = worker()
    if found is None:
        return None
    pid, started = found
    ticks = switches = 0
    try:
        threads = os.listdir(at(f"/proc/{pid}/task"))
    except OSError:
        return None
    for thread in threads:
        fields = stat_of(f"{pid}/task/{thread}")
        status = read_bytes(f"/proc/{pid}/task/{thread}/status")
        if fields is None or not re.search(rb"^TracerPid:\t0$", status, re.M):
            return None
        ticks += int(fields[11]) + int(fields[12])
        switches += sum(map(int, re.findall(rb"^\w+ctxt_switches:\t(\d+)$", status, re.M)))
    return int(pid), started, ticks, switches


def worker() -> tuple[str, int] | None:
    """Number and start of the process that works: the youngest child of another HAProxy, which is
    its master. In the container runtime, too, it is a process of this guest."""
    found = {}
    for pid in os.listdir(at("/proc")):
        if pid.isdigit() and read_bytes(f"/proc/{pid}/comm") == b"haproxy\n":
            fields = stat_of(pid)
            if fields:
                found[pid] = fields
    children = [(int(fields[19]), pid) for pid, fields in found.items() if fields[1] in found]
    if not children:
        return None
    started, pid = max(children)
    return pid, started


def stat_of(process: str) -> list[str] | None:
    """The fields behind the name: state, parent and so on."""
    text = read_bytes(f"/proc/{process}/stat").decode("utf-8", "replace")
    fields = text.rpartition(")")[2].split()
    return fields if len(fields) > 19 else None
