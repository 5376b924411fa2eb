"""What strangers, slow nodes, wrong DNS answers and switchovers do to the clients of a rendered haproxy.cfg: nothing. Run by a
real HAProxy before three fake Patroni nodes, whose REST API has five workers.

  python3 hold.py HAPROXY_ROOT GUEST_SCRIPT HAPROXY_CFG [STORY...]

Each story has a HAProxy and nodes of its own, and all stories run at the same time: without names all but those of LONG. The
addresses are those of tests/it/render/live.rs. Which set-up the configuration is for is said beside it (setup.py).
"""
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import socket
import ssl
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
import apart
from cluster import ONE, THREE, TWO
from guest import CONFIG, LOG, LUA, Guest, Haproxy, enter, eventually, install
from load import SSL_REQUEST, Hammer, Loops, Session, Waiter, answering, silent
from setup import SetUp

ROOT, SCRIPT, CFG = sys.argv[1:4]
SETUP = SetUp(CFG)
STORIES = {}
# With all of the services: the fake nodes answer the checks of ten backends. The others have two of services.cfg's, for many
# of them are told at the same time, and would measure these nodes.
SERVICES = set()
# Seconds after which a node that stands still counts as down. Without TLS its kernel answers, and five checks wait for all
# of their time.
GIVEN_UP = 12 if SETUP.tls == "off" else 5
# They take half a minute in which there is next to nothing to do.
LONG = {"long_hold", "long_refusal"}
# Of the services that the listed set-ups have, by role and the like: see tests/it/render/live.rs.
REPORTS, SYNC, ASYNC, ANY, POOL, STANDBY, TAGGED = range(5501, 5508)
METRICS = 8405


def story(tell=None, only=None, services=False):
    """One for every set-up, or `only` for those whose nodes are `named` by DNS, or `listed`; with all `services`, or with
    two."""
    if tell is None:
        return lambda tell: story(tell, only, services)
    if only in (None, "listed" if SETUP.role else "named"):
        STORIES[tell.__name__] = tell
    if services:
        SERVICES.add(tell.__name__)
    return tell


def check(true, *said):
    if not true:
        raise AssertionError(" ".join(map(str, said)))


class Place:
    """A started load balancer, its nodes, and what is known of it."""

    def __init__(self, config=None):
        install({"/etc/lbctl/guest.json": SETUP.guest_json(), CONFIG: config or GIVEN, LUA: LUA_TEXT})
        SETUP.install_certificates()
        self.cluster = SETUP.cluster()
        self.haproxy = Guest(SCRIPT)

    def start(self):
        self.haproxy.start()
        eventually(lambda: answering(10) == ONE, 20)
        # Until the checks have their slow rhythm.
        time.sleep(0.7)
        return self

    def status(self):
        return json.loads(self.haproxy.run("status")[1])["haproxy"]

    def up(self, backend):
        """The names of its servers that are up."""
        servers = self.status()["servers"]
        return {s["name"] for s in servers if s["backend"] == backend and s["state"].startswith("UP")}

    def downs(self):
        """How often a server was given up that was the primary."""
        log = pathlib.Path(LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in log if "Server primary/" in line and " is DOWN, reason" in line and "503" not in line]


def get(path):
    with socket.create_connection(("127.0.0.1", METRICS), timeout=2) as s:
        s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
        return answer.decode()


def rest(connection=None):
    """Who answers on Patroni's port, and after how long. By that connection, or a new one."""
    began = time.monotonic()
    with connection or socket.create_connection(("127.0.0.1", SETUP.rest), timeout=10) as plain:
        if SETUP.tls == "off":
            answer = asked(plain)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations("/run/certificates/ca.pem")
            context.load_cert_chain("/run/certificates/client.pem", "/run/certificates/client.key")
            with context.wrap_socket(plain) as tls:
                answer = asked(tls)
    if not answer:
        raise ConnectionError("closed without an answer")
    return json.loads(answer.split(b"\r\n\r\n")[1])["patroni"]["name"], time.monotonic() - began


def asked(connection):
    connection.sendall(b"GET /primary HTTP/1.0\r\n\r\n")
    answer = b""
    while chunk := connection.recv(1000):
        answer += chunk
    return answer


def rest_works():
    """Whether it can be reached: who comes behind a thousand others may have to try again."""
    try:
        return rest()[0] == "one"
    except OSError:
        return False


@story
def strangers():
    """Connections to Patroni's port that say nothing, as many as there are workers and far more."""
    place = Place().start()
    session = Session(busy=True)
    took = []
    for count in (5, 60, 1000):
        with silent(SETUP.rest, count):
            time.sleep(4)
            if count < 100:
                took.append(rest())
        check(session.cut is None, count, "silent connections cut a session")
        check(answering() == ONE, count, "silent connections: no new session")
    check(not place.downs(), *place.downs())
    eventually(rest_works, 30)
    return "REST beside 5 and 60 silent connections: %s" % ", ".join("%.2f s" % t for _, t in took)


@story
def unfinished():
    """Clients that begin TLS on Patroni's port and stop are as bad, and cannot be told from slow ones: two of them reach a
    node. By plain HTTP none does."""
    place = Place().start()
    session = Session(busy=True)
    with silent(SETUP.rest, 100, client_hello() if SETUP.tls != "off" else b"GET /primary HTTP/1.0\r\nX: "):
        time.sleep(6)
        check(session.cut is None and answering() == ONE, "unfinished handshakes cut a session")
    check(not place.downs(), *place.downs())
    return "no session was cut"


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
    """The primary's handshakes take 1.5 s for 15 s, and nobody else is the primary."""
    place = Place().start()
    return is_slow(place, "slow", {ONE: 1.5}, 15)


@story
def still():
    """Its REST API stands still for 2.5 s, and then the whole node."""
    place = Place().start()
    said = [is_slow(place, how, {ONE}, 2.5) for how in ("rest_frozen", "frozen")]
    return "; ".join(said)


def is_slow(place, how, nodes, seconds):
    session, quiet = Session(busy=True), Session()
    setattr(place.cluster, how, nodes)
    time.sleep(1)
    waiter = Waiter(timeout=12)
    time.sleep(seconds - 1)
    setattr(place.cluster, how, type(nodes)())
    over = time.monotonic()
    check(waiter.result() == ONE, how, "a new connection failed")
    eventually(lambda: answering(10) == ONE)
    check(session.cut is None and quiet.cut is None, how, "cut a session")
    back = time.monotonic() - over
    time.sleep(0.5)
    return "%s: back after %.2f s" % (how, back)


@story
def frozen():
    """The leader stands still, and its sessions are cut when another one is the primary, not before."""
    place = Place().start()
    session = Session()
    place.cluster.frozen = {ONE}
    time.sleep(GIVEN_UP)
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
    """Those that wait are let through to neither, and a node that yields loses its sessions.

    A handshake has two seconds here: of two primaries, one that has no time to answer five checks is no longer counted, and on
    a busy machine half a second is not enough."""
    config = re.sub(r"(lua\.hold 10000 \d+ \d+) \d+", r"\1 2150", GIVEN.replace(" inter 500ms ", " inter 2s "))
    check(config.count(" inter 2s ") >= 2 and " 2150" in config, config)
    place = Place(config).start()
    session = Session(busy=True)
    place.cluster.make_primary(ONE, TWO)
    eventually(lambda: place.status()["servers_up"] == 2)
    waiters = [Waiter(timeout=12) for _ in range(20)]
    time.sleep(1)
    place.haproxy.reload_at_once()
    more = [Waiter(timeout=12) for _ in range(20)]
    time.sleep(2)
    check(all(w.result() is None for w in waiters), "the reload did not end those that waited in the old worker")
    check(all(w.is_waiting() for w in more), [w.answer for w in more if not w.is_waiting()])
    check(session.cut is None, "nobody is thrown out")
    place.cluster.make_primary(TWO)
    check({w.result() for w in more} == {TWO}, [w.answer for w in more])
    # A second claim while the first primary is in use, each time for a moment.
    place.cluster.make_primary()
    eventually(lambda: place.status()["servers_up"] == 0)
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
def reloads():
    """A reload lets those who wait for a primary wait to the end, and none of them is lost."""
    place = Place().start()
    place.cluster.make_primary()
    eventually(lambda: place.status()["servers_up"] == 0)
    waiters = [Waiter(timeout=12) for _ in range(20)]
    worker = place.haproxy.worker()
    reload = subprocess.Popen(["/usr/bin/python3", "-B", SCRIPT, "reload"])
    time.sleep(3)
    check(reload.poll() is None and place.haproxy.worker() == worker, "the reload did not wait")
    check(all(w.is_waiting() for w in waiters), [w.answer for w in waiters])
    place.cluster.make_primary(TWO)
    check({w.result() for w in waiters} == {TWO}, [w.answer for w in waiters])
    check(reload.wait(timeout=20) == 0, "the reload failed")
    check(place.haproxy.worker() != worker and answering(10) == TWO, "the reload")
    return "0 of 20 lost"


@story
def reloads_before_the_first_word():
    """Who has connected before a reload and speaks after it goes where it would have gone; to none of two primaries."""
    place = Place().start()
    ports = [5432] + ([POOL] if SETUP.role else [])
    ask = {SETUP.rest: lambda it: rest(it)[0], METRICS: is_ready} | dict.fromkeys(ports, first_word)
    early = reload_among_silent_ones(list(ask))
    answers = words(early, lambda port, it: ask[port](it))
    check(answers == {SETUP.rest: {"one"}, METRICS: {True}} | {port: {ONE} for port in ports}, answers)
    eventually(lambda: answering(10) == ONE)
    before_two = said_nothing(5432)
    place.cluster.make_primary(ONE, TWO)
    eventually(lambda: len(place.up("primary")) == 2)
    place.haproxy.reload_at_once()
    check(first_word(before_two) is None, "let through to one of two primaries")
    began = time.monotonic()
    check(not rest_works() and time.monotonic() - began < 2, "the REST API of one of two primaries, or a long wait for it")
    return "%d of %d led to the primary" % (len(early), len(early))


@story
def rest_of_the_primary():
    """Patroni's port leads to the primary alone: from the start on, when it is another one, and after a reload with and
    without the state of the servers."""
    place = Place().start()

    def leads_to(name, when):
        names = {rest()[0] for _ in range(9)}
        check(names == {name}, when, names)
    leads_to("one", "at the start")
    place.cluster.make_primary(TWO)
    eventually(lambda: answering(10) == TWO)
    leads_to("two", "after a failover")
    place.haproxy.reload()
    leads_to("two", "after a reload")
    if SETUP.role:
        states = [line.split(" ") for line in show("servers state").split("\n")]
        up = {state[3] for state in states if state[1:2] == ["rest"] and state[5] != "0"}
        check(up == {"pg-2"}, "servers of the backend", up)
    pathlib.Path("/run/haproxy/server-state").unlink()
    Haproxy.reload(place.haproxy)
    # The new worker may close those who come before it has checked.
    names = [rest_or_closed() for _ in range(30)]
    check(set(names) - {None} == {"two"}, "after a reload without any state", names)
    leads_to("two", "after a reload without any state")
    return "to nobody else"


def rest_or_closed():
    try:
        return rest()[0]
    except OSError:
        time.sleep(0.1)
        return None


def show(what):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("/run/haproxy/admin.sock")
        s.sendall(b"show %s\n" % what.encode())
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    return answer.decode()


@story(only="listed", services=True)
def reloads_of_services():
    """The same at the ports of other roles, and to no fallback while they have nodes."""
    place = Place().start()
    place.cluster.sync = {TWO}
    reads = {REPORTS: {TWO, THREE}, SYNC: {TWO}}
    eventually(lambda: {port: who(port) for port in reads} == reads, 10)
    early = reload_among_silent_ones(list(reads))
    answers = words(early, lambda _, connection: spoken(connection))
    check(answers == reads, answers)
    return "none of %d led to a fallback" % len(early)


def reload_among_silent_ones(ports):
    """(port, connection) of those who have connected while a reload went on and said nothing, for a shorter time than that is
    allowed: two seconds on Patroni's port, five on the others. They come in threes, so that each node can have one."""
    connected = []
    reload = subprocess.Popen(["/usr/bin/python3", "-B", SCRIPT, "reload"])
    while reload.poll() is None:
        connected += [(time.monotonic(), port, said_nothing(port)) for port in ports for _ in range(3)]
        time.sleep(0.1)
    check(reload.returncode == 0, "the reload failed")
    ended = time.monotonic()
    return [(port, it) for began, port, it in connected if ended - began < (1 if port == SETUP.rest else 3)]


def is_ready(connection):
    with connection:
        connection.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
        return b" 200 " in connection.recv(1000).split(b"\r\n")[0]


def words(connections, ask):
    """All speak at once. The answers of each port."""
    with concurrent.futures.ThreadPoolExecutor(len(connections)) as pool:
        answers = list(pool.map(lambda it: (it[0], ask(*it)), connections))
    return {port: {answer for at, answer in answers if at == port} for port, _ in answers}


def said_nothing(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=12)
    # Accepted by the worker that there is.
    time.sleep(0.05)
    return connection


def first_word(connection):
    """Who answers it, or None; then it is closed."""
    with connection:
        return spoken(connection)


def spoken(connection):
    """The same, and it stays open: who is balanced by the number of sessions meets it there."""
    try:
        connection.sendall(SSL_REQUEST)
        return connection.recv(100).decode().strip() or None
    except OSError:
        return None


def held_longer():
    """With hold = "1m"."""
    config = GIVEN
    for old, new in (("lua.hold 10000 ", "lua.hold 60000 "), ("inspect-delay 20000ms", "inspect-delay 70000ms"),
                     ("retries 10\n", "retries 60\n")):
        check(old in config, old)
        config = config.replace(old, new)
    return Place(config).start()


@story
def long_hold():
    """Clients wait longer than half a minute, which no time-out on the way may end."""
    place = held_longer()
    place.cluster.make_primary()
    eventually(lambda: place.status()["servers_up"] == 0)
    waiters = [Waiter(timeout=60) for _ in range(50)]
    time.sleep(33)
    check(all(w.is_waiting() for w in waiters), [(w.answer, w.took) for w in waiters if not w.is_waiting()])
    place.cluster.make_primary(TWO)
    check({w.result() for w in waiters} == {TWO}, collections.Counter(w.answer for w in waiters))
    return "0 of 50 lost, the longest waited %.1f s" % max(w.took for w in waiters)


@story
def long_refusal():
    """The same where the primary says that it is one, and its PostgreSQL refuses."""
    place = held_longer()
    place.cluster.stop_postgres(ONE)
    waiters = [Waiter(timeout=60) for _ in range(20)]
    time.sleep(33)
    check(all(w.is_waiting() for w in waiters), [(w.answer, w.took) for w in waiters if not w.is_waiting()])
    place.cluster.start_postgres(ONE)
    check({w.result() for w in waiters} == {ONE}, collections.Counter(w.answer for w in waiters))
    return "0 of 20 lost, the longest waited %.1f s" % max(w.took for w in waiters)


@story(only="named")
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


@story(only="named")
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
    moved = []
    with Loops(20) as loops:
        time.sleep(1)
        for old, new in ((ONE, TWO), (TWO, THREE), (THREE, ONE)):
            session = Session()
            moved.append((place.cluster.switch_over(old, new), new))
            check(session.cut is not None, "a session outlived its primary")
            time.sleep(1)
    failed = [said for said in loops.failed if said]
    check(not loops.failed, len(loops.failed), "of", loops.count, "failed:", *failed[:3])
    wrong = [who for began, who in loops.answers for at, new in moved if 0.02 < began - at < 1 and who != new]
    check(not wrong, "on a node that is not the primary:", wrong)
    return "0 of %d failed, the longest took %.1f s" % (loops.count, loops.longest)


@story
def killed():
    """The primary's machine is lost, and another one is promoted later. Then PostgreSQL is restarted there."""
    place = Place().start()
    with Loops(10) as loops:
        time.sleep(0.5)
        place.cluster.stop(ONE)
        gone = time.monotonic()
        time.sleep(3)
        waiter = Waiter()
        time.sleep(0.5)
        place.cluster.make_primary(TWO)
        promoted = time.monotonic()
        check(waiter.result() == TWO, waiter.answer)
        served = time.monotonic() - promoted
        time.sleep(1)
        place.cluster.states[TWO] = "stopping"
        time.sleep(1)
        place.cluster.stop_postgres(TWO)
        time.sleep(1)
        place.cluster.start_postgres(TWO)
        del place.cluster.states[TWO]
        time.sleep(2)
    late = [began - gone for began, who in loops.answers if who is None and began > gone + 0.3]
    check(not late, "failed, seconds after the end of the primary:", *late)
    # Twice what is required of a machine that has nothing else to do.
    check(served < 1, "served %.2f s after the promotion" % served)
    return "served %.2f s after the promotion, %d of %d failed" % (served, len(loops.failed), loops.count)


@story
def silent_clients():
    """Who says nothing gets nothing of PostgreSQL's, and nobody takes what all need."""
    most = "    maxconn %d\n" % SETUP.max_connections
    place = Place(GIVEN.replace(most, "    maxconn 120\n")).start()
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
    with silent(METRICS, 20), silent(SETUP.rest, 20):
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
def herd():
    """Far more clients than the primary takes, and they come all at once when it moves."""
    room = GIVEN.replace("sc0_conn_cur gt 100", "sc0_conn_cur gt 900")
    room = re.sub(r"(content accept if \{ nbsrv.*)", r"\1 { be_conn le 20 }", room)
    room = room.replace("lua.hold 10000 0", "lua.hold 10000 20")
    place = Place(room).start()
    most = collections.Counter()
    with Loops(100, stay=0.1) as loops:
        for old, new in ((ONE, TWO), (TWO, ONE)):
            place.cluster.switch_over(old, new, takes=0.5)
            for _ in range(50):
                time.sleep(0.02)
                most[new] = max(most[new], len(place.cluster.open[new]))
    check(not loops.failed, len(loops.failed), "of", loops.count, "failed:", *loops.failed[:3])
    check(all(15 <= count <= 20 for count in most.values()), most)
    return "0 of %d failed, %s at one time, the longest took %.1f s" % (loops.count, max(most.values()), loops.longest)


@story
def no_lua():
    """A HAProxy that was built without it reads the same file, and does what it can."""
    place = Place(GIVEN.replace("feature(LUA)", "feature(51DEGREES)")).start()
    check(place.status()["held"] is None, place.status())
    session = Session(busy=True)
    with silent(4443, 5):
        time.sleep(2.2)
        check(rest()[0] == "one", "the REST API")
        time.sleep(2)
    check(session.cut is None, "silent connections cut a session")
    place.cluster.make_primary(ONE, TWO)
    eventually(lambda: place.status()["servers_up"] == 2)
    check(answering() is None, "two primaries")
    place.cluster.make_primary(TWO)
    eventually(lambda: session.cut is not None and answering() == TWO)
    return "closed and followed as by 0.1.0"


@story(only="named")
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


def who(port, count=12):
    return {answering(10, port) for _ in range(count)}


@story(only="listed", services=True)
def roles():
    """Each service leads to the nodes of its role, and to its fallback where none is left."""
    place = Place().start()
    cluster = place.cluster
    cluster.sync = {TWO}
    cluster.tags[THREE] = {"ssd": True}
    reads = {REPORTS: {TWO, THREE}, SYNC: {TWO}, ASYNC: {THREE}, ANY: {ONE, TWO, THREE}, TAGGED: {THREE}}
    eventually(lambda: {port: who(port) for port in reads} == reads, 10)
    # Behind, or not to be used for reading.
    cluster.lag[TWO] = 17 << 20
    eventually(lambda: who(REPORTS) == {THREE})
    check(who(SYNC) == {TWO}, who(SYNC))
    cluster.tags[THREE]["noloadbalance"] = True
    session = Session(port=ANY)
    eventually(lambda: who(REPORTS) == {ONE}, 5)
    eventually(lambda: who(ANY) == {ONE, TWO}, 5)
    check(session.cut is None or session.node == THREE, "a session on", session.node)
    cluster.lag.clear()
    del cluster.tags[THREE]["noloadbalance"]
    eventually(lambda: who(REPORTS) == {TWO, THREE})
    # The synchronous replica is promoted, and there is none.
    cluster.sync = set()
    place.cluster.make_primary(TWO)
    reads = {5432: {TWO}, REPORTS: {ONE, THREE}, SYNC: {ONE, THREE}, ANY: {ONE, TWO, THREE}}
    eventually(lambda: {port: who(port) for port in reads} == reads, 10)
    # A replica that is promoted loses what it had for reading, as soon as another replica is up.
    session = Session(port=TAGGED)
    check(session.node == THREE, session.node)
    cluster.make_primary(THREE)
    eventually(lambda: session.cut is not None)
    return "each role at its port"


@story(only="listed")
def pool():
    """A pooler that is told who comes: hold, proof and guard are those of the main port."""
    place = Place().start()
    moved = []
    session = Session(busy=True, port=POOL, source="127.0.0.77")
    check(session.node == ONE and (ONE, "127.0.0.77") in place.cluster.told, session.node, place.cluster.told)
    with Loops(10, port=POOL) as loops:
        time.sleep(1)
        for old, new in ((ONE, TWO), (TWO, ONE)):
            moved.append((place.cluster.switch_over(old, new), new))
            time.sleep(1)
    check(session.cut is not None, "a session outlived its primary")
    failed = [said for said in loops.failed if said]
    check(not loops.failed, len(loops.failed), "of", loops.count, "failed:", *failed[:3])
    wrong = [who for began, who in loops.answers for at, new in moved if 0.02 < began - at < 1 and who != new]
    check(not wrong, "on a node that is not the primary:", wrong)
    # A frozen one keeps its sessions until another one is the primary, and two are none.
    session = Session(port=POOL)
    place.cluster.frozen = {ONE}
    time.sleep(GIVEN_UP)
    check(session.cut is None, "cut although nobody else is the primary")
    waiter = Waiter(timeout=12, port=POOL)
    place.cluster.make_primary(TWO)
    check(waiter.result() == TWO, waiter.answer)
    eventually(lambda: session.cut is not None)
    place.cluster.frozen = set()
    place.cluster.make_primary(TWO, THREE)
    # Each backend has checks of its own: the main one may see both earlier.
    eventually(lambda: place.up("pool-" + (SETUP.role or "primary")) == {"pg-2", "pg-3"})
    waiter = Waiter(timeout=12, port=POOL)
    time.sleep(1)
    check(waiter.is_waiting(), "let through to one of two primaries:", waiter.answer)
    place.cluster.make_primary(THREE)
    check(waiter.result() == THREE, waiter.answer)
    bare = [node for node, address in place.cluster.told if address is None]
    check(not bare, len(bare), "connections told no address")
    return "0 of %d failed, the longest took %.1f s" % (loops.count, loops.longest)


@story(only="listed", services=True)
def standby_cluster():
    """The cluster follows another one, and then becomes one of its own."""
    place = Place().start()
    leads = SETUP.role == "leader"
    place.cluster.make_standby_leader(TWO)
    eventually(lambda: who(STANDBY, 3) == {TWO}, 10)
    eventually(lambda: who(REPORTS) == {ONE, THREE}, 10)
    session = Session(busy=True, port=5432 if leads else STANDBY)
    check(session.node == TWO, session.node)
    waiter = Waiter(timeout=9)
    if not leads:
        time.sleep(1)
        check(waiter.is_waiting(), "there is no primary:", waiter.answer)
    place.cluster.promote(TWO)
    check(waiter.result() == TWO, waiter.answer)
    time.sleep(2)
    if leads:
        check(session.cut is None, "the promotion cut a session")
    else:
        check(session.cut is not None, "it is not the leader of a standby cluster any more")
    return "followed"


@story(only="listed", services=True)
def names():
    """Status, metrics and waiting know the nodes by their names."""
    place = Place().start()
    servers = place.status()["servers"]
    check({s["name"] for s in servers} == {"pg-1", "pg-2", "pg-3"}, servers)
    check(all(s["backend"] != "rest" for s in servers), servers)
    metrics = get("/metrics")
    check('proxy="primary",server="pg-2"' in metrics and "reports-replica" in metrics, metrics[:2000])
    check(rest()[0] == "one", rest())
    place.cluster.make_primary(TWO)
    eventually(lambda: answering(10) == TWO)
    eventually(lambda: rest()[0] == "two")
    return "known by name"


def alone(name):
    enter(ROOT)
    try:
        print(STORIES[name]())
    except BaseException:
        print(pathlib.Path(LOG).read_text(encoding="utf-8", errors="replace")[-6000:])
        raise


if __name__ == "__main__":
    GIVEN = pathlib.Path(CFG)
    if sys.argv[5:] and sys.argv[5] in SERVICES:
        GIVEN = GIVEN.with_name("services.cfg")
    GIVEN = GIVEN.read_text(encoding="utf-8")
    LUA_TEXT = pathlib.Path(SCRIPT).parents[1].joinpath("lbctl.lua").read_text(encoding="utf-8")
    SECONDS_OF_FALSE_DNS = 95 if "LBCTL_SOAK" in os.environ else 12
    if sys.argv[4:5] == [apart.ALONE]:
        alone(sys.argv[5])
    else:
        names = sys.argv[4:] or [name for name in STORIES if name not in LONG]
        apart.tell(__file__, sys.argv[1:4], names)
