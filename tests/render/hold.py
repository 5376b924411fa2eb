"""What strangers, slow nodes, wrong DNS answers and switchovers do to the clients of a rendered haproxy.cfg: nothing. Run by a
real HAProxy before three fake Patroni nodes, whose REST API has five workers.

  python3 hold.py HAPROXY_ROOT HAPROXY_CFG GUEST_SCRIPT [STORY...]

Each story has a HAProxy and nodes of its own, in namespaces of its own, and all stories run at the same time. The addresses
are those of tests/it/render/live.rs.
"""
import collections
import json
import pathlib
import socket
import ssl
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
from cluster import ONE, THREE, TWO, Cluster, make_certificates, server_context
from guest import CONFIG, LOG, LUA, Guest, enter, eventually, install
from load import SSL_REQUEST, Hammer, Loops, Session, Waiter, answering, silent

GUEST_JSON = {"runtime": "package", "nofile": 65536, "services": [], "files": [
    {"path": "/etc/haproxy/haproxy.cfg", "owner": "root", "affects": "haproxy"},
    {"path": "/etc/haproxy/client.pem", "owner": "haproxy", "affects": "haproxy"}]}
STORIES = {}


def story(tell):
    STORIES[tell.__name__] = tell
    return tell


def check(true, *said):
    if not true:
        raise AssertionError(" ".join(map(str, said)))


class Place:
    """A started load balancer, its nodes, and what is known of it."""

    def __init__(self, config=None):
        read = {name: pathlib.Path("/run/certificates", name).read_text(encoding="ascii")
                for name in ("client.key", "client.pem", "ca.pem")}
        install({"/etc/haproxy/client.pem": read["client.key"] + read["client.pem"],
                 "/etc/haproxy/ca.pem": read["ca.pem"], "/etc/lbctl/guest.json": json.dumps(GUEST_JSON),
                 CONFIG: config or GIVEN, LUA: LUA_TEXT})
        self.cluster = Cluster(server_context("/run/certificates"))
        self.haproxy = Guest(SCRIPT)

    def start(self):
        self.haproxy.start()
        eventually(lambda: answering(10) == ONE, 20)
        # Until the checks have their slow rhythm.
        time.sleep(0.7)
        return self

    def status(self):
        return json.loads(self.haproxy.run("status")[1])["haproxy"]

    def downs(self):
        """How often a server was given up that was the primary."""
        log = pathlib.Path(LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in log if "Server primary/node" in line and " is DOWN, reason" in line and "503" not in line]


def get(path):
    with socket.create_connection(("127.0.0.1", 8405), timeout=2) as s:
        s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
        return answer.decode()


def rest():
    """Who answers on Patroni's port, and after how long."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations("/run/certificates/ca.pem")
    context.load_cert_chain("/run/certificates/client.pem", "/run/certificates/client.key")
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", 4443), timeout=10) as plain, context.wrap_socket(plain) as tls:
        tls.sendall(b"GET /primary HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := tls.recv(1000):
            answer += chunk
    return json.loads(answer.split(b"\r\n\r\n")[1])["patroni"]["name"], time.monotonic() - began


@story
def strangers():
    """Connections to Patroni's port that say nothing, as many as there are workers and far more."""
    place = Place().start()
    session = Session(busy=True)
    took = []
    for count in (5, 60, 1000):
        with silent(4443, count):
            time.sleep(4)
            if count < 100:
                took.append(rest())
        check(session.cut is None, count, "silent connections cut a session")
        check(answering() == ONE, count, "silent connections: no new session")
    check(not place.downs(), *place.downs())
    eventually(lambda: rest()[0] == "one", 10)
    # Clients that begin TLS and stop are as bad, and cannot be told from slow ones: two of them reach a node.
    with silent(4443, 100, client_hello()):
        time.sleep(6)
        check(session.cut is None and answering() == ONE, "unfinished handshakes cut a session")
    check(not place.downs(), *place.downs())
    return "REST beside 5 and 60 silent connections: %s" % ", ".join("%.2f s" % t for _, t in took)


def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="x")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


@story
def slow():
    """The primary is slow in three ways, and nobody else is the primary."""
    place = Place().start()
    session, quiet = Session(busy=True), Session()
    said = []
    for what, slow, still in (("handshake of 1.5 s for 15 s", {ONE: 1.5}, ()), ("REST API of 2.5 s", {}, "rest_frozen"),
                              ("node of 2.5 s", {}, "frozen")):
        place.cluster.slow = slow
        if still:
            setattr(place.cluster, still, {ONE})
        time.sleep(1)
        waiter = Waiter(timeout=12)
        time.sleep(14 if slow else 1.5)
        place.cluster.slow = {}
        if still:
            setattr(place.cluster, still, set())
        over = time.monotonic()
        check(waiter.result() == ONE, what, "a new connection failed")
        eventually(lambda: answering(10) == ONE)
        check(session.cut is None and quiet.cut is None, what, "cut a session")
        said.append("%s: back after %.2f s" % (what, time.monotonic() - over))
        time.sleep(0.5)
    return "; ".join(said)


@story
def frozen():
    """The leader stands still, and its sessions are cut when another one is the primary, not before."""
    place = Place().start()
    session = Session()
    place.cluster.frozen = {ONE}
    time.sleep(5)
    check(session.cut is None, "cut although nobody else is the primary")
    waiters = [Waiter(timeout=12) for _ in range(50)]
    time.sleep(0.5)
    eventually(lambda: place.status()["held"] == 50)
    check("lbctl_held_clients 50\n" in get("/metrics/lbctl"), get("/metrics/lbctl"))
    place.cluster.make_primary(TWO)
    flipped = time.monotonic()
    eventually(lambda: place.status()["servers_up"] == 1)
    up = time.monotonic() - flipped
    eventually(lambda: session.cut is not None)
    answers = collections.Counter(waiter.result() for waiter in waiters)
    check(answers == {TWO: 50}, answers)
    cut = session.cut - flipped
    check(cut <= up + 0.5, "cut %.2f s after the flip, the successor was up after %.2f s" % (cut, up))
    check("held_ms=" in pathlib.Path(LOG).read_text(encoding="utf-8"), "no held_ms in the log")
    return "cut %.2f s after the flip, successor seen %.2f s after it" % (cut, up)


@story
def two_primaries():
    """Those that wait are let through to neither, and a node that yields loses its sessions."""
    place = Place().start()
    session = Session(busy=True)
    place.cluster.make_primary(ONE, TWO)
    eventually(lambda: place.status()["servers_up"] == 2)
    waiters = [Waiter(timeout=12) for _ in range(20)]
    time.sleep(1)
    place.haproxy.must("reload")
    more = [Waiter(timeout=12) for _ in range(20)]
    time.sleep(2)
    check(all(w.result() is None for w in waiters), "the reload did not end those that waited in the old worker")
    check(all(w.is_waiting() for w in more), [w.answer for w in more if not w.is_waiting()])
    check(session.cut is None, "nobody is thrown out")
    place.cluster.make_primary(TWO)
    check({w.result() for w in more} == {TWO}, [w.answer for w in more])
    # A second claim while the first primary is in use, each time for a moment.
    place.cluster.make_primary()
    time.sleep(1)
    waiters = [Waiter(timeout=12) for _ in range(20)]
    for _ in range(3):
        place.cluster.make_primary(ONE, THREE)
        time.sleep(0.6)
        place.cluster.make_primary()
        time.sleep(0.6)
    check(all(w.is_waiting() for w in waiters), "held ones got through to one of two primaries")
    place.cluster.make_primary(THREE)
    check({w.result() for w in waiters} == {THREE}, [w.answer for w in waiters])
    return "0 of 40 held ones got through"


@story
def dns():
    """DNS names three other addresses; then a node moves."""
    place = Place().start()
    session = Session(busy=True)
    place.cluster.dns = "false"
    with Hammer(pause=0.02, timeout=10) as hammer:
        time.sleep(SECONDS_OF_FALSE_DNS)
        place.cluster.dns = "good"
        time.sleep(2)
    check({who for _, who in hammer.seen} == {ONE}, collections.Counter(who for _, who in hammer.seen))
    check(session.cut is None, "false DNS cut a session")
    return "%d connections" % len(hammer.seen)


@story
def moved():
    """The primary's machine gets another address, and so does that of a replica which is then promoted. The old addresses keep
    their servers for a day, and there are others."""
    place = Place().start()
    place.cluster.move(ONE, "127.0.0.14")
    began = time.monotonic()
    eventually(lambda: answering(10) == "127.0.0.14", 15)
    took = time.monotonic() - began
    check(place.status()["servers_up"] == 1, place.status()["servers"])
    place.cluster.move(TWO, "127.0.0.15")
    place.cluster.make_primary("127.0.0.15")
    eventually(lambda: answering(10) == "127.0.0.15", 15)
    check(place.status()["servers_up"] == 1, place.status()["servers"])
    return "used %.1f s after DNS named it" % took


@story
def switchovers():
    """Clients that connect in a loop, and others that stay."""
    place = Place().start()
    order = (ONE, TWO, THREE, ONE)
    with Loops(20) as loops:
        time.sleep(1)
        for old, new in zip(order, order[1:], strict=False):
            session = Session()
            place.cluster.switch_over(old, new)
            check(session.cut is not None, "a session outlived its primary")
            time.sleep(1)
    failed = [said for said in loops.failed if said]
    check(not loops.failed, len(loops.failed), "of", loops.count, "failed:", *failed[:3])
    return "0 of %d failed, the longest took %.1f s" % (loops.count, loops.longest)


@story
def silent_clients():
    """Who says nothing gets nothing of PostgreSQL's, and nobody takes what all need."""
    place = Place(GIVEN.replace("    maxconn 2000\n", "    maxconn 120\n")).start()
    came = sum(place.cluster.came.values())
    with silent(5432, 60) as connections:
        check(answering() == ONE, "60 silent connections")
        began = time.monotonic()
        eventually(lambda: all(c.ended() for c in connections), 8)
        ended = time.monotonic() - began
    check(ended > 3, "silent clients have some seconds", ended)
    eventually(lambda: sum(place.cluster.came.values()) == came + 1)
    for said in (SSL_REQUEST, struct.pack("!ii", 8, 80877104), struct.pack("!iiii", 16, 80877102, 1, 2),
                 struct.pack("!ii", 34, 196608) + b"user\0postgres\0database\0"):
        with socket.create_connection(("127.0.0.1", 5432), timeout=3) as s:
            # In pieces, as a slow network brings them.
            s.sendall(said[:3])
            time.sleep(0.05)
            s.sendall(said[3:])
            check(s.recv(100).startswith(ONE.encode()), said)
    # The limit of one client is 100, and this is one client with two addresses.
    flood = [Session(source="127.0.0.51") for _ in range(100)]
    more = [Session(source="127.0.0.51") for _ in range(200)]
    check(all(s.node == ONE for s in flood) and all(s.node is None for s in more), "the limit of one client")
    check(answering() == ONE, "another client")
    others = [Session(source="127.0.0.52") for _ in range(22)]
    # The port's own limit is reached now. What tells so still answers.
    check(sum(s.node == ONE for s in others) == 20, collections.Counter(s.node for s in others))
    with silent(8405, 20), silent(4443, 20):
        check(get("/ready").startswith("HTTP/1.1 200"), "/ready")
        check("haproxy_server_status" in get("/metrics"), "/metrics")
    return "silent clients ended after %.1f s" % ended


@story
def starts():
    """No connection reaches a wrong node while the servers are found one by one, however often."""
    place = Place()
    seen = collections.Counter()
    for number in range(4):
        primary = (ONE, TWO, THREE)[number % 3]
        place.cluster.make_primary(primary)
        if number != 3:
            subprocess.run("rm -f /var/lib/haproxy/*", shell=True, check=True)
        place.haproxy.start()
        with Loops(10, patience=10) as loops:
            eventually(lambda now=primary: any(who == now for _, who in loops.answers), 10)
            time.sleep(0.5)
        place.haproxy.stop_saved()
        seen.update("right" if who == primary else who for _, who in loops.answers if who)
    check(set(seen) == {"right"}, seen)
    return "%d right" % seen["right"]


@story
def upgrade():
    """A HAProxy as lbctl 0.1.0 configured it gets today's configuration by a reload. Sessions stay, and follow a failover."""
    place = Place(pathlib.Path(__file__).with_name("0.1.0.haproxy.cfg").read_text(encoding="utf-8")).start()
    sessions = [Session(busy=True) for _ in range(5)]
    with Hammer(timeout=10) as hammer:
        time.sleep(0.3)
        install({CONFIG: GIVEN})
        place.haproxy.must("reload")
        time.sleep(2)
    check({who for _, who in hammer.seen} == {ONE}, collections.Counter(who for _, who in hammer.seen))
    check(place.status()["held"] == 0, place.status())
    # In a guest the reload starts it.
    old_workers = subprocess.Popen(["/usr/bin/python3", "-SB", SCRIPT, "old-workers"])
    place.cluster.frozen = {ONE}
    time.sleep(4)
    check(not any(s.cut for s in sessions), "sessions of the old worker were cut without need")
    place.cluster.make_primary(TWO)
    flipped = time.monotonic()
    eventually(lambda: all(s.cut for s in sessions), 10)
    cut = max(s.cut for s in sessions) - flipped
    check(old_workers.wait(timeout=20) == 0, "old-workers does not end")
    return "%d connections, sessions of the old worker cut after %.2f s" % (len(hammer.seen), cut)


def in_namespaces(names):
    """Each story in a process of its own, all at once: they mostly wait."""
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "/usr/bin/python3", __file__]
    running = {name: subprocess.Popen([*unshare, *sys.argv[1:4], "--alone", name], stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, universal_newlines=True) for name in names}
    failed = 0
    for name, process in running.items():
        said = process.communicate()[0]
        failed += process.returncode != 0
        print("%s %s: %s" % ("ok" if process.returncode == 0 else "FAILED", name, said.strip()), flush=True)
    sys.exit(1 if failed else 0)


def alone(name):
    enter(ROOT)
    make_certificates("/run/certificates")
    try:
        print(STORIES[name]())
    except BaseException:
        print(pathlib.Path(LOG).read_text(encoding="utf-8", errors="replace")[-6000:])
        raise


if __name__ == "__main__":
    ROOT, CFG, SCRIPT = sys.argv[1:4]
    GIVEN = pathlib.Path(CFG).read_text(encoding="utf-8")
    LUA_TEXT = pathlib.Path(SCRIPT).parents[1].joinpath("lbctl.lua").read_text(encoding="utf-8")
    SECONDS_OF_FALSE_DNS = 12
    if sys.argv[4:5] == ["--alone"]:
        alone(sys.argv[5])
    else:
        in_namespaces(sys.argv[4:] or STORIES)
