"""Clients whose connection to the primary is still being opened when that node stops to be the primary: each gets an answer,
or its connection is closed. HAProxy 3.0.11 with `on-marked-down shutdown-sessions` did neither. Run by a real HAProxy before
three fake Patroni nodes with mutual TLS.

  unshare --net --mount --pid --fork --kill-child python3 hang.py HAPROXY_ROOT HAPROXY_CFG GUEST_SCRIPT [TEST...]

The name servers and addresses are those of tests/it/render/live.rs. Everything happens in namespaces of its own.
"""
import contextlib
import json
import pathlib
import re
import select
import socket
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
from cluster import ONE, TWO, Cluster, make_certificates, server_context
from guest import CONFIG, Guest, enter, eventually, install, sh
from load import answering

CLIENTS = 150
# Longer than a client may wait for a primary, and its connect with all of its retries.
PATIENCE = 30
GUEST_JSON = {"runtime": "package", "nofile": 4096, "services": [], "files": [
    {"path": CONFIG, "owner": "root", "affects": "haproxy"},
    {"path": "/etc/haproxy/client.pem", "owner": "haproxy", "affects": "haproxy"}]}


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
        sh("rm -rf /var/lib/haproxy/* /run/haproxy/* /run/lbctl /run/cloud-init")
        install({CONFIG: GIVEN})
        install({"/etc/haproxy/" + path.name: path.read_text(encoding="utf-8") for path in LUA})
        CLUSTER.make_primary(ONE)
        self.haproxy = Guest(SCRIPT)
        self.haproxy.start()
        eventually(lambda: answering() == ONE)

    def tearDown(self):
        CLUSTER.start_postgres(ONE)
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
    ROOT, CFG, SCRIPT = sys.argv[1:4]
    # Not on every address: connections to a port that a node has closed would reach the load balancer itself.
    GIVEN = re.sub(r"bind \S*:5432\b", "bind 127.0.0.1:5432", pathlib.Path(CFG).read_text(encoding="utf-8"))
    LUA = sorted(pathlib.Path(SCRIPT).parents[1].glob("*.lua"))
    enter(ROOT)
    make_certificates("/run/certificates")
    read = {name: pathlib.Path("/run/certificates", name).read_text(encoding="ascii")
            for name in ("client.key", "client.pem", "ca.pem")}
    install({"/etc/haproxy/client.pem": read["client.key"] + read["client.pem"], "/etc/haproxy/ca.pem": read["ca.pem"],
             "/etc/lbctl/guest.json": json.dumps(GUEST_JSON)})
    CLUSTER = Cluster(server_context("/run/certificates"))
    unittest.main(argv=["hang.py", *sys.argv[4:]], verbosity=2, warnings="ignore")
