"""Three fake Patroni nodes and their name server, on loopback: their answers change in one instant. The REST API speaks mutual
TLS, TLS without a client certificate, or plain HTTP; PostgreSQL may have a pooler beside it that wants the PROXY protocol.

Tests and benches change `answers`, `states`, `dns`, `frozen` and so on as they go. As Patroni from 4.1 on does, a node answers
its REST API with five workers, and a connection that says nothing holds one. They are Python's threads: a real cluster is in
tests/lab.
"""
import collections
import json
import queue
import random
import socket
import struct
import threading
import time
import urllib.parse

import protocols

DOMAIN = "server.postgres.local"
DNS_IP = "127.0.0.2"
NODES = {"127.0.0.11": "one", "127.0.0.12": "two", "127.0.0.13": "three"}
ONE, TWO, THREE = NODES
# Host names of the nodes, which the certificates carry too.
NAMES = {"pg-1.example.com": ONE, "pg-2.example.com": TWO, "pg-3.example.com": THREE}
# Where nothing listens.
NOWHERE = ["127.0.0.21", "127.0.0.22", "127.0.0.23"]
# Patroni's restapi.thread_pool_size.
WORKERS = 5


def make_certificates(at):
    """Of nodes that have all of these names."""
    protocols.make_certificates(at, [DOMAIN, *NAMES])


class Cluster:
    """What the nodes and the name server answer.

    `context`: None for plain HTTP. `nodes`: other addresses than NODES, each with a name. `ports`, by address, where a node has
    others than everybody: {"rest": [...], "plain": [...], "postgres": [...], "pooler": [...]}, where "plain" is the REST API
    without TLS beside the one with it.
    """

    def __init__(self, context, nodes=None, ports=None):
        self.context = context
        self.nodes = dict(nodes or NODES)
        # A pooler takes no client whose address it is not told.
        everybody = {"rest": [8008 if context is None else 4443], "plain": [], "postgres": [5432], "pooler": [6432]}
        self.ports = {ip: dict(everybody, **(ports or {}).get(ip, {})) for ip in self.nodes}
        self.everybody = everybody
        # Whether the nodes follow another cluster.
        self.standby_cluster = False
        # Replicas that are synchronous; tags; bytes that a node lags behind.
        self.sync, self.tags, self.lag = set(), collections.defaultdict(dict), collections.Counter()
        # Each client that a pooler was told of, as (node, address).
        self.told = []
        # good, silent, nxdomain, empty, false: three other addresses, or omits: all nodes but the primary.
        self.dns = "good"
        self.records = list(self.nodes)
        # Names that have one address alone.
        self.names = dict(NAMES)
        self.answers = {}
        # Of a node's PostgreSQL, where it is not running.
        self.states = {}
        # Nodes whose processes stand still: their kernel takes connections, and nobody answers.
        self.frozen = set()
        # The same of Patroni alone.
        self.rest_frozen = set()
        # Seconds that a TLS handshake of a node takes longer.
        self.slow = {}
        # Sessions that a node's PostgreSQL takes at one time, if there is a limit.
        self.room = None
        # Connections that came to a node's PostgreSQL, whether they said something or not.
        self.came = collections.Counter()
        self.listeners, self.rest_listeners, self.open = {}, {}, collections.defaultdict(set)
        self.queues = {}
        # Serial numbers of the client certificates that came, in lower-case hexadecimal.
        self.seen = set()
        # Paths of the REST API that no node knows.
        self.unknown = set()
        self.make_primary(next(iter(self.nodes)))
        for ip in self.nodes:
            self.add(ip)
        threading.Thread(target=self.name_server, daemon=True).start()

    def make_primary(self, *ips):
        self.answers = {ip: (200, "primary") if ip in ips else (503, "replica") for ip in self.records}

    def make_standby_leader(self, *ips):
        """They have the lock of a cluster that follows another one."""
        self.standby_cluster = True
        self.answers = {ip: (200, "standby_leader") if ip in ips else (503, "replica") for ip in self.records}

    def promote(self, ip):
        """The standby cluster becomes one of its own."""
        self.standby_cluster = False
        self.make_primary(ip)

    def primaries(self):
        return [ip for ip, (code, _) in self.answers.items() if code == 200]

    def add(self, ip):
        came = self.queues[ip] = queue.SimpleQueue()

        def work():
            while True:
                self.patroni(ip, *came.get())

        for _ in range(WORKERS):
            threading.Thread(target=work, daemon=True).start()
        self.restart(ip)

    def ports_of(self, ip):
        return self.ports.get(ip, self.everybody)

    def stop(self, ip):
        """All its processes end at once, Patroni's too."""
        self.close(self.rest_listeners.pop(ip))
        self.stop_postgres(ip)

    def restart(self, ip):
        def begin(context):
            return lambda connection: self.queues[ip].put((connection, context))
        self.start_postgres(ip)
        ports = self.ports_of(ip)
        self.rest_listeners[ip] = [self.serve(ip, port, begin(self.context)) for port in ports["rest"]]
        self.rest_listeners[ip] += [self.serve(ip, port, begin(None)) for port in ports["plain"]]

    def start_postgres(self, ip):
        def begin(connection, proxied=False):
            self.came[ip] += 1
            self.open[ip].add(connection)
            threading.Thread(target=self.postgres, args=(ip, connection, proxied), daemon=True).start()
        ports = self.ports_of(ip)
        self.listeners[ip] = [self.serve(ip, port, begin) for port in ports["postgres"]]
        self.listeners[ip] += [self.serve(ip, port, lambda connection: begin(connection, True)) for port in ports["pooler"]]

    def stop_postgres(self, ip):
        """Its sessions end, and new connections are refused."""
        self.close(self.listeners.pop(ip))
        for connection in list(self.open[ip]):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def move(self, old, new):
        """The machine is replaced by one with another address, and DNS says so."""
        self.add(new)
        self.records = [new if ip == old else ip for ip in self.records]
        self.answers[new] = self.answers[old]
        self.stop(old)

    @staticmethod
    def close(listeners):
        """Closing alone would leave the thread in accept(), and the port open."""
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def switch_over(self, old, new, before_stop=1.0, takes=1.0):
        """As Patroni does it, with `before_stop`: the old one says that it stops, stops, and the
        other one is promoted, which is the moment returned."""
        self.states[old] = "stopping"
        time.sleep(before_stop)
        self.stop_postgres(old)
        self.answers[old] = (503, "replica")
        time.sleep(takes)
        self.make_primary(new)
        moved = time.monotonic()
        time.sleep(takes)
        del self.states[old]
        self.start_postgres(old)
        return moved

    @staticmethod
    def serve(ip, port, begin):
        s = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        # HAProxy listens on the same port of every address, and shares it too.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((ip, port))
        s.listen(2000)

        def accept():
            while True:
                try:
                    connection, _ = s.accept()
                except OSError:
                    return
                begin(connection)
        threading.Thread(target=accept, daemon=True).start()
        return s

    def stand_still(self, ip, rest=False):
        while ip in self.frozen or (rest and ip in self.rest_frozen):
            time.sleep(0.01)

    def proxied(self, ip, connection):
        """Notes the address that is told of the client."""
        told = None
        try:
            told = protocols.proxied(connection)
        finally:
            self.told.append((ip, told))

    def postgres(self, ip, connection, proxied=False):
        """Says its address when the client has begun, as clients of PostgreSQL do; then it is an echo."""
        try:
            if proxied:
                self.proxied(ip, connection)
            if len(connection.recv(8, socket.MSG_WAITALL)) == 8:
                if self.room and len(self.open[ip]) > self.room:
                    raise OSError("too many clients already")
                self.stand_still(ip)
                connection.sendall((ip + "\n").encode())
            while True:
                data = connection.recv(100)
                if not data:
                    break
                self.stand_still(ip)
                connection.sendall(data)
        except OSError:
            pass
        self.open[ip].discard(connection)
        connection.close()

    def patroni(self, ip, connection, context):
        try:
            self.stand_still(ip, rest=True)
            time.sleep(self.slow.get(ip, 0))
            if context is None:
                self.answer(ip, connection)
            else:
                with context.wrap_socket(connection, server_side=True) as tls:
                    certificate = tls.getpeercert()
                    self.seen.add(certificate["serialNumber"].lower() if certificate else None)
                    self.answer(ip, tls)
        except (OSError, IndexError):
            pass
        connection.close()

    def answer(self, ip, connection):
        request = b""
        while b"\r\n\r\n" not in request:
            more = connection.recv(1000)
            if not more:
                return
            request += more
        uri = request.split()[1]
        self.stand_still(ip, rest=True)
        code, role = self.status(ip, uri.decode())
        if uri in self.unknown:
            code, role = 404, "none"
        state = self.states.get(ip, "running")
        body = json.dumps({"state": state, "role": role, "patroni": {"name": self.nodes.get(ip, ip)}})
        connection.sendall(("HTTP/1.0 %d X\r\nContent-Type: application/json\r\n\r\n%s" % (code, body)).encode())

    def status(self, ip, uri):
        """As Patroni 4.1 answers each of its health checks (patroni/api.py, do_GET)."""
        path, _, query = uri.partition("?")
        query = {name: values[0] for name, values in urllib.parse.parse_qs(query).items()}
        code, role = self.answers[ip]
        replica = role == "replica" and self.states.get(ip, "running") == "running"
        replica = replica and not self.tags[ip].get("noloadbalance") and self.lag[ip] <= protocols.size(query.get("lag", "9TB"))
        leader, tagged = code == 200, all(
            value == str(self.tags[ip].get(name[4:], "")).lower() for name, value in query.items() if name.startswith("tag_"))
        good = {
            "/standby-leader": leader and self.standby_cluster,
            "/leader": leader,
            "/replica": replica and tagged,
            "/read-only": (leader or replica) and tagged,
            "/synchronous": replica and ip in self.sync and tagged,
            "/asynchronous": replica and ip not in self.sync and tagged,
        }.get(path, leader and not self.standby_cluster)
        return 200 if good else 503, role

    def name_server(self):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((DNS_IP, 53))
        while True:
            query, peer = s.recvfrom(4096)
            if self.dns == "silent":
                continue
            end = query.index(b"\0", 12) + 5
            question = query[12:end]
            kind = struct.unpack("!H", question[-4:-2])[0]
            ips = self.named(name_in(question)) if kind == 1 else []
            code = 3 if self.dns == "nxdomain" else 0
            answers = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(ip) for ip in ips)
            s.sendto(query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(ips), 0, 0) + question + answers, peer)

    def named(self, name):
        if self.dns == "false":
            return NOWHERE
        if name in self.names and self.dns == "good":
            return [self.names[name]]
        nodes = random.sample(self.records, len(self.records))
        if self.dns == "omits":
            return [ip for ip in nodes if ip not in self.primaries()]
        return nodes if self.dns == "good" else []


def name_in(question):
    """The name that DNS is asked for."""
    parts, at = [], 0
    while question[at]:
        parts.append(question[at + 1:at + 1 + question[at]].decode())
        at += question[at] + 1
    return ".".join(parts).lower()
