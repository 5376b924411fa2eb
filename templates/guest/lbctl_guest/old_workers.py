"""After a reload the old worker keeps its sessions, and its checks have stopped: a failover would
leave those sessions on the old primary until `hard-stop-after`. This does for them what
`on-marked-down shutdown-sessions` does for all others, as long as there are old workers; a reload
starts it as a unit of its own. Python 3.10 or newer, standard library only."""

from __future__ import annotations

import re
import time

from .haproxy import primary_servers
from .paths import MASTER_SOCKET
from .status import servers
from .tools import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import Server

INTERVAL = 0.5
# Bytes of the table of all sessions, of some 400 each.
MOST_SESSIONS = 64 * 1024 * 1024


def watch() -> None:
    was_up: set[str | None] = set()
    while True:
        try:
            old = old_workers()
            if not old:
                return
            was_up = cut_lost(primary_servers(), was_up, old)
        except OSError:
            pass  # HAProxy reloads or ends: the next round shows which
        time.sleep(INTERVAL)


def cut_lost(now: list[Server], was_up: set[str | None], old: list[str]) -> set[str | None]:
    """Only a server that was up and is down now has lost its sessions: right after a reload none
    has been checked yet."""
    up = {s["address"] for s in now if s["state"].startswith("UP")}
    down = {s["address"] for s in now if s["state"].startswith("DOWN")}
    for worker in old if was_up & down else []:
        cut_sessions(worker, was_up & down)
    return (was_up - down) | up


def cut_sessions(worker: str, addresses: set[str | None]) -> None:
    """One by one: a worker that is stopping refuses `shutdown sessions server`, because its
    backends are disabled."""
    listed = servers(ask(MASTER_SOCKET, f"@!{worker} show stat -1 4 -1", ends=True))
    names = {s["name"] for s in listed if s["backend"] == "primary" and s["address"] in addresses}
    text = ask(MASTER_SOCKET, f"@!{worker} show sess", ends=True, most=MOST_SESSIONS)
    sessions = re.findall(r"^(0x[0-9a-f]+): .* be=primary srv=(\S+) ", text, re.M)
    lost = [f"@!{worker} shutdown session {id_}" for id_, server in sessions if server in names]
    for some in range(0, len(lost), 50):
        ask(MASTER_SOCKET, "\n".join(lost[some : some + 50]), ends=True)


def old_workers() -> list[str]:
    """The process numbers below "# old workers" (HAProxy management guide 9.4, "show proc")."""
    found, old = [], False
    for line in ask(MASTER_SOCKET, "show proc", ends=True).split("\n"):
        if line.startswith("#"):
            old = line.startswith("# old workers")
        elif old and line.split():
            found.append(line.split()[0])
    return found
