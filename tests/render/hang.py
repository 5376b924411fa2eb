"""Clients whose connection to the primary is still being opened when that node stops to be the primary: each gets an answer,
or its connection is closed. HAProxy 3.0.11 with `on-marked-down shutdown-sessions` did neither. Run by a real HAProxy before
three fake Patroni nodes.

  python3 hang.py HAPROXY_ROOT GUEST_SCRIPT HAPROXY_CFG [TEST...]

The name servers and addresses are those of tests/it/render/live.rs. Each test has a HAProxy and nodes of its own.
"""
import contextlib
import pathlib
import re
import select
import socket
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
import apart
from cluster import ONE, TWO
from guest import CONFIG, Guest, enter, eventually, install
from load import answering
from setup import SetUp

CLIENTS = 150
# Longer than a client may wait for a primary, and its connect with all of its retries.
PATIENCE = 30


class Clients:
    """They connect to the load balancer and wait for a byte. Half of them send something first, as PostgreSQL's clients do."""

    def __init__(self):
        self.poll, self.waiting, self.answers = select.poll(), {}, []

    def come(self, count, seconds):
        for number in range(count):
            s = socket.create_connection(("127.0.0.1", 5432), timeout=5)
            if number % 2:
                s.sendall(b"SSLRequest")
            self.waiting[s.fileno()] = s
            self.poll.register(s, select.POLLIN)
            self.look()
            time.sleep(seconds / count)

    def look(self, seconds=0):
        """Collects answers for that time, or until all are there. None is a connection that was closed without one."""
        end = time.monotonic() + seconds
        while self.waiting:
            for number, _ in self.poll.poll(max(0, end - time.monotonic()) * 1000):
                self.poll.unregister(number)
                self.answers.append(self.answer(self.waiting.pop(number)))
            if time.monotonic() >= end:
                break

    @staticmethod
    def answer(s):
        with s:
            try:
                return s.recv(100).decode().split("\n")[0] or None
            except OSError:
                return None


@contextlib.contextmanager
def full_backlog(ip):
    """A listener whose backlog is full: the kernel drops further connections without an answer."""
    with contextlib.ExitStack() as stack:
        listener, *others = (stack.enter_context(socket.socket()) for _ in range(4))
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            listener.setsockopt(socket.SOL_SOCKET, option, 1)
        listener.bind((ip, 5432))
        listener.listen(0)
        for s in others:
            s.setblocking(False)
            s.connect_ex((ip, 5432))
        yield


class Hang(unittest.TestCase):
    def setUp(self):
        self.haproxy = Guest(SCRIPT)
        self.haproxy.start()
        eventually(lambda: answering() == ONE)

    def tearDown(self):
        self.haproxy.stop()

    def assert_nobody_hangs(self):
        clients = Clients()
        clients.come(CLIENTS, 2)
        CLUSTER.make_primary()
        clients.look(1)
        CLUSTER.make_primary(TWO)
        clients.look(PATIENCE)
        sessions = self.haproxy_says("show sess all")[:4000] if clients.waiting else ""
        self.assertEqual(len(clients.waiting), 0, "of %d clients hang\n%s" % (CLIENTS, sessions))
        self.assertLessEqual(set(clients.answers), {None, TWO})
        eventually(lambda: answering() == TWO)

    @staticmethod
    def haproxy_says(command):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            s.connect("/run/haproxy/admin.sock")
            s.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def test_clients_that_the_old_primary_refuses_do_not_hang(self):
        CLUSTER.stop_postgres(ONE)
        self.assert_nobody_hangs()

    def test_clients_that_the_old_primary_does_not_answer_do_not_hang(self):
        CLUSTER.stop_postgres(ONE)
        with full_backlog(ONE):
            self.assert_nobody_hangs()


if __name__ == "__main__":
    ROOT, SCRIPT, CFG = sys.argv[1:4]
    # Not on every address: connections to a port that a node has closed would reach the load balancer itself.
    GIVEN = re.sub(r"bind \S*:5432\b", "bind 127.0.0.1:5432", pathlib.Path(CFG).read_text(encoding="utf-8"))
    if sys.argv[4:5] != [apart.ALONE]:
        apart.tell(__file__, sys.argv[1:4], sys.argv[4:] or apart.tests_of(Hang))
    enter(ROOT)
    SETUP = SetUp(CFG)
    SETUP.install_certificates()
    install({"/etc/lbctl/guest.json": SETUP.guest_json(4096), CONFIG: GIVEN})
    install({"/etc/haproxy/" + path.name: path.read_text(encoding="utf-8")
             for path in pathlib.Path(SCRIPT).parents[1].glob("*.lua")})
    CLUSTER = SETUP.cluster()
    apart.test(Hang, sys.argv[5])
