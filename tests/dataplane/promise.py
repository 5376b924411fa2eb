"""What clients of a real Patroni see through a load balancer while their primary is moved and killed, and strangers come.

  python3 promise.py ENV NAMESPACE ADDRESS STORY...

`ENV` is the env file of a full lab (tests/lab/write-env), `NAMESPACE` where clients of the load balancer at `ADDRESS` are. Each
story prints one line of figures and leaves the cluster whole. One that does not hold ends the program with exit code 1, after
all have been told.

  switchovers[=N]  N times `patronictl switchover` (3): no connect fails, nothing comes to a replica
  moved[=N]        the same where Patroni has no before_stop: connects fail within a second only, as PostgreSQL stops
  restart          `patronictl restart` of the leader: no connect fails
  killed           the leader and its Patroni are killed: connects fail within 0.5 s of it only
  strangers        5, 60 and 1000 silent connections to Patroni's port and to PostgreSQL's: no session is cut
  held=COMMAND     a shell command, begun while a switchover is under way and clients wait: none of them is lost
"""
import collections
import fcntl
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

CLIENTS, SESSIONS = 20, 10
# Longer than a hold, as clients of PostgreSQL without a limit of their own have it.
PATIENCE = 60
PAUSE = 0.02
WRITE = "insert into promise values (default) returning host(inet_server_addr())"
READ_ONLY = "25006"
# What PostgreSQL itself says while it stops or starts.
NOT_NOW = ("57P01", "57P03")
HELD = """
import urllib.request
answer = urllib.request.urlopen("http://%s:8405/metrics/lbctl", timeout=5).read().decode()
print(int(answer.split()[-1]))
"""


# ---- the clients' side: under a Python that has psycopg, in their namespace


class Loop(threading.Thread):
    """Connects, writes, ends, and begins again."""

    def __init__(self, address, log, pause):
        super().__init__(daemon=True)
        self.address, self.log, self.pause = address, log, pause

    def run(self):
        while True:
            began = time.monotonic()
            said = once(self.address)
            self.log.append((began, time.monotonic(), *said))
            time.sleep(self.pause)


def once(address):
    """The node that took the write, or None, and what was said instead."""
    import psycopg
    try:
        with psycopg.connect(host=address, dbname="postgres", autocommit=True, connect_timeout=PATIENCE) as session:
            return session.execute(WRITE).fetchone()[0], None
    except psycopg.Error as error:
        if error.sqlstate == READ_ONLY:
            return None, "read only"
        words = " ".join(str(error).split())
        refused = error.sqlstate in NOT_NOW or "shutting down" in words or "starting up" in words
        return None, ("refused by PostgreSQL: " if refused else "") + words


class Session(threading.Thread):
    """Stays connected, and does something all the time."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.cut = address, None
        self.connect()
        self.start()

    def connect(self):
        import psycopg
        self.session = psycopg.connect(host=self.address, dbname="postgres", autocommit=True, connect_timeout=PATIENCE)

    def run(self):
        import psycopg
        try:
            while True:
                self.session.execute("select 1")
                time.sleep(0.2)
        except psycopg.Error:
            self.cut = time.monotonic()


def clients(address):
    """Works by lines: `sessions`, `silent PORT COUNT`, `loops PAUSE`, `look`. One line of JSON answers each."""
    log, sessions, silent = [], [], []
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))

    def begin_silent(port, count):
        for old in silent:
            old.close()
        silent[:] = [socket.socket() for _ in range(int(count))]
        for new in silent:
            new.setblocking(False)
            new.connect_ex((address, int(port)))

    def loops(pause):
        for _ in range(CLIENTS):
            Loop(address, log, float(pause)).start()

    def ask(command, *rest):
        if command == "sessions":
            sessions[:] = [Session(address) for _ in range(SESSIONS)]
        elif command == "silent":
            begin_silent(*rest)
        elif command == "loops":
            loops(*rest)
        return {"log": log, "cut": sum(s.cut is not None for s in sessions)}

    for line in sys.stdin:
        print(json.dumps(ask(*line.split())), flush=True)
    # A thread may be in a connect that nobody answers.
    os._exit(0)


class Clients:
    """The driver's side of them."""

    def __init__(self, place):
        argv = [place.env["PG_PYTHON"], "-B", __file__, "--clients", place.address]
        login = dict(os.environ, PGUSER=place.env["PG_SUPERUSER"], PGPASSWORD=place.env["PG_PASSWORD"])
        self.process = subprocess.Popen(place.within(*argv), env=login, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        universal_newlines=True)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


# ---- the cluster


class Place:
    """The lab's cluster, and the load balancer before it."""

    def __init__(self, env, namespace, address):
        lines = pathlib.Path(env).read_text(encoding="utf-8").splitlines()
        self.env = dict(line.split("=", 1) for line in lines if "=" in line)
        self.namespace, self.address = namespace, address
        self.nodes = dict(zip(("pg1", "pg2", "pg3"), self.env["PG_NODES"].split(","), strict=True))
        self.spaces = dict(zip(self.nodes, self.env["PG_NODE_NETNS"].split(","), strict=True))

    def within(self, *argv):
        return ["ip", "netns", "exec", self.namespace, *argv]

    def patronictl(self, *words):
        done = subprocess.run([self.env["PATRONICTL"], *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True, timeout=120, check=False)
        return done.stdout

    def members(self):
        try:
            return {m["Member"]: (m["Role"], m["State"]) for m in json.loads(self.patronictl("list", "-f", "json"))}
        except ValueError:
            return {}

    def leader(self):
        return next((name for name, (role, _) in self.members().items() if role == "Leader"), None)

    def whole(self):
        states = collections.Counter(self.members().values())
        # A replica is only `running` for Patroni 3.0.
        following = states["Replica", "streaming"] + states["Replica", "running"]
        return states["Leader", "running"] == 1 and following == 2

    def wait_whole(self):
        eventually(self.whole, 120, "the cluster to be whole: %s" % self.members())

    def sql(self, text):
        login = dict(os.environ, PGUSER=self.env["PG_SUPERUSER"], PGPASSWORD=self.env["PG_PASSWORD"])
        argv = self.within(self.env["PSQL"], "-h", self.nodes[self.leader()], "-d", "postgres", "-qAtc", text)
        subprocess.run(argv, env=login, check=True, timeout=60)

    def switchover(self):
        """Returns the address of the new primary."""
        members = self.members()
        old = next(name for name, (role, _) in members.items() if role == "Leader")
        new = next(name for name, (role, _) in members.items() if role != "Leader")
        said = self.patronictl("switchover", "lab", "--leader", old, "--candidate", new, "--force")
        check("Successfully switched over" in said, said)
        return self.nodes[new]

    def kill(self, name):
        """All of that node's processes: they are in its namespace."""
        pids = subprocess.run(["ip", "netns", "pids", self.spaces[name]], stdout=subprocess.PIPE, check=True).stdout
        for pid in map(int, pids.split()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def held(self):
        """How many clients wait in the load balancer."""
        argv = self.within(sys.executable, "-c", HELD % self.address)
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True, check=False)
        return int(done.stdout or 0)

    def start(self, name):
        script = pathlib.Path(__file__).resolve().parents[1] / "lab/patroni"
        subprocess.run([script, "restart", name], check=True, env=dict(os.environ, LAB_NAME=self.env["LAB_NAME"]))


def eventually(true, seconds, what, pause=0.5):
    limit = time.monotonic() + seconds
    while not true():
        check(time.monotonic() < limit, "waited %s s in vain for %s" % (seconds, what))
        time.sleep(pause)


def check(true, *said):
    if not true:
        raise AssertionError(" ".join(map(str, said)))


class Seen:
    """What the loops of clients have seen."""

    def __init__(self, log):
        self.log = log
        self.failed = [(began, ended, said) for began, ended, node, said in log if said]
        self.longest = max((ended - began for began, ended, _, said in log if not said), default=0)

    def count(self, words):
        return sum(said.startswith(words) for _, _, said in self.failed)

    def figures(self, begun=()):
        """With the seconds after the last of `begun` at which each that failed was begun and was over."""
        said = "%d of %d failed, the longest that did not took %.1f s" % (len(self.failed), len(self.log), self.longest)
        if not self.failed:
            return said
        kinds = collections.Counter(words for _, _, words in self.failed)
        times = []
        for began, ended, _ in self.failed[:20]:
            event = max((at for at in begun if at < ended), default=0)
            times.append("%.2f-%.2f" % (began - event, ended - event))
        return "%s; %s; at %s s" % (said, dict(kinds), ", ".join(times))


def watched(place, event, after=6, pause=PAUSE):
    """What loops of clients see of an event, and for some seconds after it."""
    place.wait_whole()
    with Clients(place) as who:
        who.ask("loops", pause)
        eventually(lambda: len(who.ask("look")["log"]) > 40, 60, "the clients to begin")
        happened = event()
        time.sleep(after)
        place.wait_whole()
        # Those that still wait come to an end.
        time.sleep(2)
        return happened, Seen(who.ask("look")["log"])


# ---- the stories


def switchovers(place, times="3"):
    begun, seen = watched(place, lambda: several(place, int(times)))
    check(not seen.failed, seen.figures(begun))
    return seen.figures()


def moved(place, times="3"):
    """Patroni before 4.1 says that it stops when PostgreSQL already does: those fail who are opening a session then."""
    begun, seen = watched(place, lambda: several(place, int(times)))
    check(not seen.count("read only"), seen.figures(begun))
    for at in begun:
        ended = [end for _, end, _ in seen.failed if at < end < at + 30]
        check(not ended or max(ended) - min(ended) < 1, seen.figures(begun))
    check(len(seen.failed) <= 2 * CLIENTS * len(begun), seen.figures(begun))
    return seen.figures(begun)


def several(place, times):
    begun = []
    for number in range(times):
        if number:
            time.sleep(6)
            place.wait_whole()
        begun.append(time.monotonic())
        place.switchover()
    return begun


def restart(place):
    def event():
        said = place.patronictl("restart", "lab", place.leader(), "--force")
        check("Success" in said, said)
    _, seen = watched(place, event)
    check(not seen.failed, seen.figures())
    return seen.figures()


def killed(place):
    old = place.leader()

    def event():
        at = time.monotonic()
        place.kill(old)
        eventually(lambda: place.leader() not in (old, None), 90, "a new leader")
        time.sleep(8)
        place.start(old)
        return at
    at, seen = watched(place, event)
    late = [(round(began - at, 2), said) for began, _, said in seen.failed if not -2 < began - at < 0.5]
    check(not late, "of", len(seen.failed), "that failed, began late:", late[:5], seen.figures())
    check(not seen.count("read only"), seen.figures())
    return seen.figures()


def strangers(place):
    place.wait_whole()
    with Clients(place) as who:
        who.ask("sessions")
        for port in (4443, 5432):
            for count in (5, 60, 1000):
                who.ask("silent", port, count)
                time.sleep(5)
                cut = who.ask("look")["cut"]
                check(cut == 0, count, "silent connections to", port, "cut", cut, "of", SESSIONS, "sessions")
        who.ask("silent", 0, 0)
    return "0 of %d sessions cut by 5, 60 and 1000 silent connections to each port" % SESSIONS


def held(place, command):
    found = {}

    def event():
        switchover = threading.Thread(target=place.switchover)
        switchover.start()
        eventually(lambda: found.update(held=place.held()) or found["held"] > CLIENTS // 2, 30, "clients to wait", pause=0.1)
        began = time.monotonic()
        done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                              timeout=300, check=False)
        found["took"] = time.monotonic() - began
        check(done.returncode == 0, done.stdout)
        switchover.join()
    # With pauses: what the guest does for the command needs its processor too.
    _, seen = watched(place, event, pause=0.5)
    check(not seen.failed, seen.figures())
    return "%d waited when it began, it took %.1f s; %s" % (found["held"], found["took"], seen.figures())


STORIES = {"switchovers": switchovers, "moved": moved, "restart": restart, "killed": killed, "strangers": strangers,
           "held": held}


def main(env, namespace, address, *stories):
    place = Place(env, namespace, address)
    place.wait_whole()
    place.sql("set client_min_messages = error; create table if not exists promise (number bigserial primary key)")
    # Not any(), which would leave out those after the first that fails.
    return 1 if [story for story in stories if not told(place, story)] else 0


def told(place, story):
    """Whether it went well. Beside other tests an emulated guest may have too little of a processor to see in time that
    PostgreSQL stops: a story is told once more then, and says so. In a soak it is told once, and so is one with a command,
    which would have nothing left to do."""
    name, _, argument = story.partition("=")
    attempts = 1 if name == "held" or "LBCTL_SOAK" in os.environ else 2
    for attempt in range(1, attempts + 1):
        began = time.monotonic()
        try:
            # Other guests before the same cluster wait where they need it whole.
            with open(pathlib.Path(place.env["LAB_RUN"], "cluster.lock"), "w", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                said, good = STORIES[name](place, *([argument] if argument else [])), True
        except AssertionError as problem:
            said, good = problem, False
        verdict = "ok" if good else "FAILED (attempt %d of %d)" % (attempt, attempts)
        print("%s %s: %s (%.0f s)" % (verdict, story, said, time.monotonic() - began), flush=True)
        if good:
            return True
    return False


if __name__ == "__main__":
    if sys.argv[1] == "--clients":
        clients(sys.argv[2])
    else:
        sys.exit(main(*sys.argv[1:]))
