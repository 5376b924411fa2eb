"""After a reload the old worker keeps its sessions, and its checks have stopped: a failover would leave those sessions on
the old primary until `hard-stop-after`. This does for them what `on-marked-down shutdown-sessions` does for all others,
for as long as there are old workers; a reload starts it as a unit of its own. Python 3.8 or newer, standard library only."""
import re
import time

from guest_haproxy import MASTER, primary_servers
from guest_status import servers
from guest_tools import ask

INTERVAL = 0.5


def watch():
    was_up = set()
    while True:
        try:
            old = old_workers()
            if not old:
                return
            was_up = cut_lost(primary_servers(), was_up, old)
        except OSError:
            pass  # a reload is going on, or HAProxy's end: the next look tells
        time.sleep(INTERVAL)


def cut_lost(now, was_up, old):
    """Only who was up and is down now has lost its sessions: right after a reload nobody is judged yet."""
    up = {s["address"] for s in now if s["state"].startswith("UP")}
    down = {s["address"] for s in now if s["state"].startswith("DOWN")}
    for worker in old if was_up & down else []:
        cut_sessions(worker, was_up & down)
    return (was_up - down) | up


def cut_sessions(worker, addresses):
    """One by one: a worker that is stopping refuses `shutdown sessions server`, for its backends are disabled."""
    listed = servers(ask(MASTER, "@!%s show stat -1 4 -1" % worker, ends=True))
    names = {s["name"] for s in listed if s["backend"] == "primary" and s["address"] in addresses}
    sessions = re.findall(r"^(0x[0-9a-f]+): .* be=primary srv=(\S+) ", ask(MASTER, "@!%s show sess" % worker, ends=True), re.M)
    lost = ["@!%s shutdown session %s" % (worker, name) for name, server in sessions if server in names]
    for some in range(0, len(lost), 50):
        ask(MASTER, "\n".join(lost[some:some + 50]), ends=True)


def old_workers():
    """The process numbers below "# old workers" (HAProxy management guide 9.4, "show proc")."""
    found, old = [], False
    for line in ask(MASTER, "show proc", ends=True).splitlines():
        if line.startswith("#"):
            old = line.startswith("# old workers")
        elif old and line.split():
            found.append(line.split()[0])
    return found
