"""After a reload the old worker keeps its sessions, and its checks have stopped: a failover would
leave those sessions on the old primary until `hard-stop-after`. This does for them what lbctl.lua
does for all others, as long as there are old workers; a reload starts it as a unit of its own.
Python 3.10 or newer, standard library only."""

from __future__ import annotations

import re
import time

from .paths import ADMIN_SOCKET, MASTER_SOCKET
from .status import servers
from .tools import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import Server

INTERVAL = 0.25
# Bytes of the table of all sessions, of some 400 each.
MOST_SESSIONS = 64 * 1024 * 1024
BACKENDS = ("primary", "standbys")
# A check's word for a node that says what it is not, or where nobody listens. A node that had no
# answer in time says nothing. As in lbctl.lua.
NO = {"L7STS", "L7RSP", "L4CON"}


def watch() -> None:
    while True:
        try:
            old = old_workers()
            if not old:
                return
            now = servers(ask(ADMIN_SOCKET, "show stat -1 4 -1"))
            for backend in BACKENDS:
                gone = lost([s for s in now if s["backend"] == backend], backend)
                for worker in old if gone else []:
                    cut_sessions(worker, backend, gone)
        except OSError:
            pass  # HAProxy reloads or ends: the next round shows which
        time.sleep(INTERVAL)


def lost(now: list[Server], backend: str) -> set[str | None]:
    """Addresses whose sessions are to be closed: of nodes that say no, and of those that are not up
    while another one is. What was not checked yet says nothing: a reload keeps what was known."""
    said = {s["address"]: (s["check"] or "").removeprefix("* ") for s in now}
    up = {s["address"] for s in now if s["state"].startswith("UP")}
    sure = {address for address in up if said[address] == "L7OK"}
    replaced = sure == up and len(up) == 1 if backend == "primary" else bool(sure)
    return {a for a, check in said.items() if a not in up and (replaced or check in NO)}


def cut_sessions(worker: str, backend: str, addresses: set[str | None]) -> None:
    """One by one: a worker that is stopping refuses `shutdown sessions server`, because its
    backends are disabled."""
    listed = servers(ask(MASTER_SOCKET, f"@!{worker} show stat -1 4 -1", ends=True))
    there = [s for s in listed if s["backend"] == backend and s["address"] in addresses]
    names = {s["name"] for s in there if s["sessions"] != 0}
    if not names:
        return
    text = ask(MASTER_SOCKET, f"@!{worker} show sess", ends=True, most=MOST_SESSIONS)
    sessions = re.findall(rf"^(0x[0-9a-f]+): .* be={backend} srv=(\S+) ", text, re.M)
    ends = [f"@!{worker} shutdown session {id_}" for id_, server in sessions if server in names]
    for some in range(0, len(ends), 50):
        ask(MASTER_SOCKET, "\n".join(ends[some : some + 50]), ends=True)


def old_workers() -> list[str]:
    """The process numbers below "# old workers" (HAProxy management guide 9.4, "show proc")."""
    found, old = [], False
    for line in ask(MASTER_SOCKET, "show proc", ends=True).split("\n"):
        if line.startswith("#"):
            old = line.startswith("# old workers")
        elif old and line.split():
            found.append(line.split()[0])
    return found
