"""Nodes of any set-up: Patroni's REST API, plain or with TLS, PostgreSQL, and a pooler that wants a PROXY header.

The REST API answers as `do_GET` of Patroni 4.1's api.py does: each endpoint, tags, lag, and standby clusters. The nodes live in
a network namespace of their own behind a cable, so they and the load balancer may listen on the same ports.
"""
import ctypes
import json
import pathlib
import queue
import socket
import struct
import subprocess
import sys
import threading
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
from protocols import proxied, server_context, size

CLONE_NEWNET = 0x40000000


class Far:
    """A network namespace at the other end of a cable. What `do` is given runs there, and the sockets that it makes stay
    there."""

    def __init__(self, near_address, near_device="lb0"):
        self.work, self.started = queue.SimpleQueue(), threading.Event()
        threading.Thread(target=self.run, daemon=True).start()
        self.started.wait()
        ip = "ip link add %s type veth peer name nodes0 netns %d && ip link set %s up && ip addr add %s dev %s"
        sh(ip % (near_device, self.thread, near_device, near_address, near_device))
        self.do(lambda: sh("ip link set lo up && ip link set nodes0 up"))

    def run(self):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        self.thread = threading.get_native_id()
        self.started.set()
        while True:
            job, done = self.work.get()
            try:
                done.put((job(), None))
            except BaseException as problem:
                done.put((None, problem))

    def do(self, job):
        done = queue.SimpleQueue()
        self.work.put((job, done))
        result, problem = done.get()
        if problem:
            raise problem
        return result

    def address(self, address):
        self.do(lambda: sh("ip addr replace %s dev nodes0" % address))

    def listen(self, address, port, begin):
        def start():
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((address, port))
            s.listen(200)
            return s
        listener = self.do(start)

        def accept():
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=begin, args=(connection,), daemon=True).start()
        threading.Thread(target=accept, daemon=True).start()


def sh(command):
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)


class Cluster:
    """The nodes of a set-up, as its cluster.toml describes them."""

    def __init__(self, far, described, certificates):
        patroni = described["patroni"]
        self.context = server_context(certificates, patroni["tls"])
        self.is_standby = patroni.get("standby_cluster", False)
        # Patroni before 4.0 says "master".
        self.primary_word = patroni.get("primary_word", "primary")
        self.certificates = set()
        self.nodes = {}
        for node in described["nodes"]:
            far.address("%s/24" % node["address"])
            self.nodes[node["name"]] = Node(self, far, node)
        names = {name: node["address"] for node in described["nodes"] for name in node.get("names", [])}
        everyone = [node["address"] for node in described["nodes"]]
        records = {name: [address] for name, address in names.items()}
        records.update({name: everyone for name in described.get("dns", {}).get("all_nodes", [])})
        for server in described.get("dns", {}).get("servers", []):
            far.address("%s/24" % server)
            name_server(far, server, records)

    def play(self, roles, lag=()):
        """Node to role: primary, replica, sync, standby_leader or stopped; and node to bytes that it lags."""
        for name, node in self.nodes.items():
            node.role, node.lag = roles[name], dict(lag).get(name, 0)


class Node:
    def __init__(self, cluster, far, described):
        self.cluster, self.name = cluster, described["name"]
        self.tags = described.get("tags", {})
        self.role, self.lag = "stopped", 0
        self.paths = set()
        self.sessions = set()
        far.listen(described["address"], described["patroni_port"], self.rest)
        for port in described["ports"]:
            far.listen(described["address"], port, lambda c, port=port: self.postgres(c, port, False))
        for port in described.get("proxy_ports", []):
            far.listen(described["address"], port, lambda c, port=port: self.postgres(c, port, True))

    # ---- PostgreSQL, or a pooler before it

    def postgres(self, connection, port, is_proxied):
        """Says its name, its port and whom it takes for its client; then it is an echo."""
        try:
            client = proxied(connection) if is_proxied else connection.getpeername()[0]
            if client is None:
                raise OSError("a PROXY header without an address")
            if len(connection.recv(8, socket.MSG_WAITALL)) == 8:
                connection.sendall(("%s:%d %s\n" % (self.name, port, client)).encode())
            while data := connection.recv(100):
                connection.sendall(data)
        except OSError:
            pass
        connection.close()

    # ---- the REST API

    def rest(self, connection):
        try:
            connection.settimeout(10)
            if self.cluster.context:
                connection = self.cluster.context.wrap_socket(connection, server_side=True)
                seen = connection.getpeercert()
                self.cluster.certificates.add(seen["serialNumber"].lower() if seen else None)
            request = b""
            while b"\r\n\r\n" not in request:
                data = connection.recv(2000)
                if not data:
                    return
                request += data
            method, target, _ = request.split(b"\r\n")[0].decode().split(" ")
            self.paths.add("%s %s" % (method, target))
            code = self.code(target)
            body = b"" if method in ("HEAD", "OPTIONS") else json.dumps(self.status()).encode()
            head = "HTTP/1.0 %d X\r\nServer: BaseHTTP/0.6\r\nContent-Type: application/json\r\n\r\n" % code
            connection.sendall(head.encode() + body)
        except (OSError, ValueError):
            pass
        finally:
            connection.close()

    def is_leader(self):
        return self.role in ("primary", "standby_leader")

    def said_role(self):
        if self.role == "primary":
            return self.cluster.primary_word
        return self.role if self.role == "standby_leader" else "replica"

    def status(self):
        status = {"state": "stopped" if self.role == "stopped" else "running", "role": self.said_role(),
                  "patroni": {"version": "4.1.5", "scope": "setup", "name": self.name}}
        if self.role == "sync":
            status["sync_standby"] = True
        if self.tags:
            status["tags"] = self.tags
        return status

    def code(self, target):
        parts = urllib.parse.urlsplit(target)
        path = "/primary" if parts.path == "/" else parts.path
        query = urllib.parse.parse_qs(parts.query)
        lag = query.get("lag", [None])[0]
        is_lagging = lag is not None and self.lag > size(lag)
        running = self.role != "stopped"
        replica = running and not self.is_leader() and not self.tags.get("noloadbalance") and not is_lagging
        primary = self.role == "primary"
        standby_leader = self.role == "standby_leader"
        is_sync = self.role == "sync"
        if "standby_leader" in path or "standby-leader" in path:
            return 200 if standby_leader else 503
        if "leader" in path:
            return 200 if self.is_leader() else 503
        if "master" in path or "primary" in path or "read-write" in path:
            return 200 if primary else 503
        if "replica" in path:
            good = replica
        elif "read-only" in path and "sync" not in path and "quorum" not in path:
            good = self.is_leader() or replica
        elif "health" in path:
            good = running
        elif path in ("/sync", "/synchronous"):
            good = replica and is_sync
        elif path in ("/async", "/asynchronous"):
            good = replica and not is_sync
        elif path in ("/read-only-sync", "/read-only-synchronous"):
            good = self.is_leader() or (replica and is_sync)
        else:
            good = False
        wanted = {key[4:]: values[0] for key, values in query.items() if key.startswith("tag_")}
        for key, value in wanted.items():
            has = self.tags.get(key)
            if has is None or (has if isinstance(has, str) else str(has).lower()) != value:
                return 503
        return 200 if good else 503


def name_server(far, address, records):
    def start():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((address, 53))
        return s
    s = far.do(start)

    def serve():
        while True:
            query, peer = s.recvfrom(4096)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            question = query[12:at + 5]
            kind = struct.unpack("!H", question[-4:-2])[0]
            name = ".".join(labels).lower()
            ips = records.get(name, []) if kind == 1 else []
            code = 0 if name in records else 3
            answers = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(ip) for ip in dict.fromkeys(ips))
            s.sendto(query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(set(ips)), 0, 0) + question + answers, peer)
    threading.Thread(target=serve, daemon=True).start()
