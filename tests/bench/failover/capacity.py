"""What lbctl's HAProxy costs, in namespaces of its own: many clients that wait, many flips, many new connections.

Reads a job (JSON: `what` is one of the functions below) and prints what was found (JSON). Processor time is that of HAProxy's
worker, in seconds; memory is its PSS in MiB.
"""
import json
import os
import pathlib
import re
import resource
import selectors
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "dataplane"))
from cluster import NODES, ONE, TWO, Cluster
from guest import CONFIG, LUA, Guest, Haproxy, enter, eventually, install
from load import SSL_REQUEST, Session, Stream, answering
from place import end_with_starter, memory
from protocols import server_context

ADMIN = "/run/haproxy/admin.sock"


def ask(command):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(ADMIN)
        s.sendall(command.encode() + b"\n")
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    return answer.decode()


def info(key):
    return int(re.search(r"^%s: (\d+)" % key, ask("show info"), re.M).group(1))


def computed(pid):
    """Seconds of all its threads."""
    threads = pathlib.Path("/proc/%d/task" % pid).iterdir()
    return sum(int((t / "schedstat").read_text(encoding="ascii").split()[0]) for t in threads) / 1e9


class Bench:
    def __init__(self, job, cluster):
        self.job, self.cluster = job, cluster
        self.haproxy = Guest(job["script"], job["nofile"]) if job["state"] else Haproxy(job["nofile"])

    def start(self):
        self.haproxy.start()
        eventually(lambda: answering(10) == ONE, 30)
        time.sleep(1)
        return self.haproxy.worker()

    # ---- clients that wait

    def held(self):
        pid, count = self.start(), self.job["clients"]
        before = memory(pid)["pss"]
        self.cluster.make_primary()
        eventually(lambda: answering(0.5) is None)
        time.sleep(1)
        clients = Clients(count)
        eventually(lambda: ask("show lbctl").split()[1] == str(count), 30)
        time.sleep(2)
        spent, began = computed(pid), time.monotonic()
        time.sleep(self.job["seconds"])
        share = (computed(pid) - spent) / (time.monotonic() - began)
        each = (memory(pid)["pss"] - before) * 1024 / count
        self.cluster.make_primary(TWO)
        at = time.monotonic()
        answers = clients.answers(30)
        return {"clients": count, "core": share, "kib_each": each, "served": sum(who == TWO for _, who in answers),
                "first": min(t for t, _ in answers) - at, "last": max(t for t, _ in answers) - at}

    # ---- flips

    def flips(self):
        """As fast as HAProxy follows: each time a session on the old primary is cut, and the next client waits for the new
        one. A stream of others does all the while."""
        install(fast(self.job["files"]))
        pid, wanted = self.start(), self.job["flips"]
        found, moments = {"failed": 0, "wrong": 0}, []
        began = time.monotonic()
        limit = began + self.job["seconds"]
        primary = ONE
        with Stream(pause=0.05) as stream:
            done, session = 0, Session()
            while done < wanted and time.monotonic() < limit:
                primary = {ONE: TWO, TWO: ONE}[primary]
                self.cluster.make_primary()
                session.wait_cut(10)
                client = Waiting()
                self.cluster.make_primary(primary)
                session, who = client.session()
                found["wrong" if who else "failed"] += who != primary
                done += 1
                if done % (wanted // 10) == 0 and done >= wanted // 5:
                    moments.append(self.moment(pid))
            seen = stream.since(0)
        session.close()
        eventually(lambda: info("CurrConns") <= 1, 20)
        time.sleep(3)
        moments.append(self.moment(pid))
        return dict(found, flips=done, stream=len(seen), stream_failed=sum(not who for _, _, who in seen), moments=moments,
                    seconds=time.monotonic() - began)

    @staticmethod
    def moment(pid):
        return dict(memory(pid), descriptors=len(os.listdir("/proc/%d/fd" % pid)), sessions=info("CurrConns"),
                    held=int(ask("show lbctl").split()[1]))

    # ---- new connections

    def connections(self):
        """HAProxy's processor time for each, less what its checks take."""
        pid, each = self.start(), []
        for _ in range(self.job["rounds"]):
            idle, began = computed(pid), time.monotonic()
            time.sleep(1)
            idle = (computed(pid) - idle) / (time.monotonic() - began)
            spent, began = computed(pid), time.monotonic()
            rush(self.job["connections"], 8)
            each.append((computed(pid) - spent - idle * (time.monotonic() - began)) / self.job["connections"])
        return {"each": each}


def rush(count, at_once):
    def run():
        for _ in range(count // at_once):
            with socket.create_connection(("127.0.0.1", 5432), timeout=10) as s:
                s.sendall(SSL_REQUEST)
                assert s.recv(100)
    threads = [threading.Thread(target=run) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def fast(files):
    """Ten times as many checks and looks as lbctl has them, so that flips come as fast. Without TLS, whose handshake must have
    ended when the next check is due."""
    config, lua = files[CONFIG], files[LUA]
    config, checks = re.subn(r"inter \S+ fastinter \S+ downinter \S+ rise 1 fall \d+",
                             "inter 10ms fastinter 10ms downinter 10ms rise 1 fall 1", config)
    config, plain = re.subn(r"check check-ssl port (\d+) .*", r"check port \1", config)
    config, sure = re.subn(r"(lua.hold \d+ \d+) \d+ \d+", r"\1 5 5", config)
    lua, looks = re.subn(r"\(50 \+ 2 \* try\(watch\)\)", "(5 + try(watch))", lua)
    lua, pauses = re.subn(r"100 \+ held // 10 \+ 4000 \* late", "5 + held // 10", lua)
    lua, few = re.subn(r"local least = 50 \+ 4000 \* late", "local least = 5", lua)
    done = (checks, plain, sure, looks, pauses, few)
    assert set(done) == {1}, done
    return {CONFIG: config, LUA: lua}


class Clients:
    """Many that connect at once and wait, in one thread."""

    def __init__(self, count):
        self.selector = selectors.DefaultSelector()
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", 5432), timeout=10)
            s.sendall(SSL_REQUEST)
            self.selector.register(s, selectors.EVENT_READ)

    def answers(self, seconds):
        """[(when, who)], `who` None for those that were closed, or heard nothing in that time."""
        found, limit = [], time.monotonic() + seconds
        while self.selector.get_map() and time.monotonic() < limit:
            for key, _ in self.selector.select(0.1):
                try:
                    who = key.fileobj.recv(100).decode().strip() or None
                except OSError:
                    who = None
                found.append((time.monotonic(), who))
                self.selector.unregister(key.fileobj)
                key.fileobj.close()
        return found + [(limit, None) for _ in range(len(self.selector.get_map() or ()))]


class Waiting:
    """A client that has connected and said how clients begin, and does not look for an answer yet."""

    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", 5432), timeout=30)
        self.socket.sendall(SSL_REQUEST)

    def session(self):
        try:
            who = self.socket.recv(100).decode().strip() or None
        except OSError:
            who = None
        return Session(opened=(who, self.socket)), who


def main(path):
    threading.Thread(target=end_with_starter, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
    job = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    context = server_context(job["certificates"])
    enter(job["root"])
    install(job["files"])
    # On the port of the configuration, with TLS or without.
    ports = {ip: {"rest": [4443]} for ip in NODES}
    bench = Bench(job, Cluster(None if job["what"] == "flips" else context, ports=ports))
    found = getattr(bench, job["what"])()
    bench.haproxy.stop()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
