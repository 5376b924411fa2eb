"""After a reload the old worker keeps its sessions, and its checks have stopped: a failover would
leave those sessions on the old primary until `hard-stop-after`. This does for them what lbctl.lua
does for all others, as long as there are old workers; a reload starts it as a unit of its own.
Python 3.10 or newer, standard library only."""

from __future__ import annotations

import re
import time

from .paths import ADMIN_SOCKET, MASTER_SOCKET
from .server_state import split
from .status import servers
from .tools import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import Server

INTERVAL = 0.25
# Bytes of the table of all sessions, of some 400 each.
MOST_SESSIONS = 64 * 1024 * 1024
# Of a backend of which one server at most may be up, by the end of its name.
LEADER = re.compile(r"primary|.+-(primary|leader|standby_leader)")
# A check's word for a node that says what it is not, or where nobody listens. A node that had no
# answer in time, or one that is not HTTP, says nothing. As in lbctl.lua.
NO = {"L7STS", "L7RSP", "L4CON"}


def watch() -> None:
    while True:
        try:
            old = old_workers()
            if not old:
                return
            now = servers(ask(ADMIN_SOCKET, "show stat -1 4 -1"))
            for worker in old:
                cut_lost(worker, now)
        except OSError:
            pass  # HAProxy reloads or ends: the next round shows which
        time.sleep(INTERVAL)


def cut_lost(worker: str, now: list[Server]) -> None:
    """One by one: a worker that is stopping refuses `shutdown sessions server`, because its
    backends are disabled."""
    there = servers(ask(MASTER_SOCKET, f"@!{worker} show stat -1 4 -1", ends=True))
    ends = {(s["backend"], s["name"]) for s in there if s["sessions"] != 0 and is_lost(s, now)}
    if not ends:
        return
    text = ask(MASTER_SOCKET, f"@!{worker} show sess", ends=True, most=MOST_SESSIONS)
    sessions = re.findall(r"^(0x[0-9a-f]+): .* be=(\S+) srv=(\S+) ", text, re.M)
    commands = [
        f"@!{worker} shutdown session {id_}"
        for id_, backend, server in sessions
        if (backend, server) in ends
    ]
    for some in range(0, len(commands), 50):
        ask(MASTER_SOCKET, "\n".join(commands[some : some + 50]), ends=True)


def is_lost(server: Server, now: list[Server]) -> bool:
    """Whether sessions on a server of an old worker are to be closed, by what the new one knows:
    its node says no, or is not up while another one is. What was not checked yet says nothing: a
    reload keeps what was known. A backend that is gone is judged by that of the main port."""
    leader = LEADER.fullmatch(server["backend"]) is not None
    same = [s for s in now if s["backend"] == server["backend"]]
    if not same and leader:
        same = [s for s in now if s["backend"] == "primary"]
    up = [s for s in same if s["state"].startswith("UP")]
    sure = [s for s in up if said(s) == "L7OK"]
    if any(is_same_node(server, s) for s in up):
        return False
    replaced = len(sure) == len(up) == 1 if leader else bool(sure)
    mine = [s for s in same if is_same_node(server, s)]
    # Of a leader that the configuration does not name any more its successor is proof enough.
    return (replaced and (bool(mine) or leader)) or any(said(s) in NO for s in mine)


def said(server: Server) -> str:
    word = (server["check"] or "").removeprefix("* ")
    return "" if word == "L7RSP" and server["check_code"] is None else word


def is_same_node(one: Server, other: Server) -> bool:
    """Where one of the two has no port of its own, the address decides."""
    (host, port), (other_host, other_port) = (split(s["address"] or "") for s in (one, other))
    return host == other_host and (port == other_port or not port or not other_port)


def old_workers() -> list[str]:
    """The process numbers below "# old workers" (HAProxy management guide 9.4, "show proc")."""
    found, old = [], False
    for line in ask(MASTER_SOCKET, "show proc", ends=True).split("\n"):
        if line.startswith("#"):
            old = line.startswith("# old workers")
        elif old and line.split():
            found.append(line.split()[0])
    return found
