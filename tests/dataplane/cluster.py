"""Three fake Patroni nodes with mutual TLS and their name server, on loopback: their answers change in one instant.

Tests and benches change `answers`, `states`, `dns`, `frozen` and so on as they go. As Patroni from 4.1 on does, a node answers
its REST API with five workers, and a connection that says nothing holds one. They are Python's threads: a real cluster is in
tests/lab.
"""
import collections
import json
import os
import queue
import random
import socket
import ssl
import struct
import subprocess
import threading
import time

DOMAIN = "server.postgres.local"
DNS_IP = "127.0.0.2"
NODES = {"127.0.0.11": "one", "127.0.0.12": "two", "127.0.0.13": "three"}
ONE, TWO, THREE = NODES
# Where nothing listens.
NOWHERE = ["127.0.0.21", "127.0.0.22", "127.0.0.23"]
# Patroni's restapi.thread_pool_size.
WORKERS = 5


def make_certificates(at):
    """ca, client and node, each .key and .pem, of one CA whose nodes are called DOMAIN."""
    os.makedirs(at, exist_ok=True)
    subprocess.run("""
    set -e
    ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
    openssl req -x509 $ec -keyout ca.key -out ca.pem -days 30 -subj /CN=ca \\
        -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
    for n in client node; do
        openssl req $ec -keyout $n.key -out $n.csr -subj /CN=$n 2>/dev/null
        printf 'subjectAltName=DNS:%s\\nextendedKeyUsage=serverAuth,clientAuth\\n' {domain} >ext
        openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -set_serial 0xabcdef01 -days 2 -extfile ext \\
            -out $n.pem 2>/dev/null
    done
    """.format(domain=DOMAIN), shell=True, check=True, cwd=at)


def server_context(at):
    """What a node of Patroni with verify_client: required does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(at + "/node.pem", at + "/node.key")
    context.load_verify_locations(at + "/ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class Cluster:
    """What the nodes and the name server answer."""

    def __init__(self, context):
        self.context = context
        # good, silent, nxdomain, empty, false: three other addresses, or omits: all nodes but the primary.
        self.dns = "good"
        self.records = list(NODES)
        self.answers = {}
        # Of a node's PostgreSQL, where it is not running.
        self.states = {}
        # Nodes whose processes stand still: their kernel takes connections, and nobody answers.
        self.frozen = set()
        # The same of Patroni alone.
        self.rest_frozen = set()
        # Seconds that a TLS handshake of a node takes longer.
        self.slow = {}
        # Connections that came to a node's PostgreSQL, whether they said something or not.
        self.came = collections.Counter()
        self.listeners, self.rest_listeners, self.open = {}, {}, collections.defaultdict(set)
        # Serial numbers of the client certificates that came, in lower-case hexadecimal.
        self.seen = set()
        # Paths of the REST API that no node knows.
        self.unknown = set()
        self.make_primary(ONE)
        for ip in NODES:
            self.add(ip)
        threading.Thread(target=self.name_server, daemon=True).start()

    def make_primary(self, *ips):
        self.answers = {ip: (200, "primary") if ip in ips else (503, "replica") for ip in self.records}

    def primaries(self):
        return [ip for ip, (code, _) in self.answers.items() if code == 200]

    def add(self, ip):
        self.start_postgres(ip)
        came = queue.SimpleQueue()

        def work():
            while True:
                self.patroni(ip, came.get())
        for _ in range(WORKERS):
            threading.Thread(target=work, daemon=True).start()
        self.rest_listeners[ip] = self.serve(ip, 4443, came.put)

    def start_postgres(self, ip):
        def begin(connection):
            self.came[ip] += 1
            self.open[ip].add(connection)
            threading.Thread(target=self.postgres, args=(ip, connection), daemon=True).start()
        self.listeners[ip] = self.serve(ip, 5432, begin)

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
        self.close(self.rest_listeners.pop(old))
        self.stop_postgres(old)

    @staticmethod
    def close(listener):
        """Closing alone would leave the thread in accept(), and the port open."""
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()

    def switch_over(self, old, new, before_stop=1.0, takes=1.0):
        """As Patroni does it, with `before_stop`: the old one says that it stops, stops, and the
        other one is promoted."""
        self.states[old] = "stopping"
        time.sleep(before_stop)
        self.stop_postgres(old)
        self.answers[old] = (503, "replica")
        time.sleep(takes)
        self.make_primary(new)
        time.sleep(takes)
        del self.states[old]
        self.start_postgres(old)

    @staticmethod
    def serve(ip, port, begin):
        s = socket.socket()
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

    def postgres(self, ip, connection):
        """Says its address when the client has begun, as clients of PostgreSQL do; then it is an echo."""
        try:
            if len(connection.recv(8, socket.MSG_WAITALL)) == 8:
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

    def patroni(self, ip, connection):
        try:
            self.stand_still(ip, rest=True)
            time.sleep(self.slow.get(ip, 0))
            with self.context.wrap_socket(connection, server_side=True) as tls:
                self.seen.add(tls.getpeercert()["serialNumber"].lower())
                request = b""
                while b"\r\n\r\n" not in request:
                    request += tls.recv(1000)
                path = request.split()[1]
                self.stand_still(ip, rest=True)
                code, role = self.answers[ip]
                if path.startswith(b"/replica"):
                    code = 200 if role == "replica" else 503
                if path in self.unknown:
                    code, role = 404, "none"
                state = self.states.get(ip, "running")
                body = json.dumps({"state": state, "role": role, "patroni": {"name": NODES.get(ip, ip)}})
                tls.sendall(("HTTP/1.0 %d X\r\nContent-Type: application/json\r\n\r\n%s" % (code, body)).encode())
        except (OSError, IndexError):
            pass
        connection.close()

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
            ips = self.named() if kind == 1 else []
            code = 3 if self.dns == "nxdomain" else 0
            answers = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(ip) for ip in ips)
            s.sendto(query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(ips), 0, 0) + question + answers, peer)

    def named(self):
        if self.dns == "false":
            return NOWHERE
        nodes = random.sample(self.records, len(self.records))
        if self.dns == "omits":
            return [ip for ip in nodes if ip not in self.primaries()]
        return nodes if self.dns == "good" else []
