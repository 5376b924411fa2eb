"""Three fake Patroni nodes with mutual TLS and their name server, on loopback: their answers change in one instant.

Tests and benches change `answers`, `states`, `dns` and `frozen` as they go. They are Python's threads: a real cluster is in
tests/lab.
"""
import json
import os
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
        # good, silent, nxdomain, empty, or omits: all nodes but the primary.
        self.dns = "good"
        self.answers = {}
        # Of a node's PostgreSQL, where it is not running.
        self.states = {}
        # Nodes whose processes stand still: their kernel takes connections, and nobody answers.
        self.frozen = set()
        # Serial numbers of the client certificates that came, in lower-case hexadecimal.
        self.seen = set()
        # Paths of the REST API that no node knows.
        self.unknown = set()
        self.listeners = {}
        self.make_primary(ONE)
        for ip in NODES:
            self.start_postgres(ip)
            self.serve(ip, 4443, self.patroni)
        threading.Thread(target=self.name_server, daemon=True).start()

    def make_primary(self, *ips):
        self.answers = {ip: (200, "primary") if ip in ips else (503, "replica") for ip in NODES}

    def primaries(self):
        return [ip for ip, (code, _) in self.answers.items() if code == 200]

    def start_postgres(self, ip):
        self.listeners[ip] = self.serve(ip, 5432, self.postgres)

    def stop_postgres(self, ip):
        """New connections are refused."""
        listener = self.listeners.pop(ip)
        # Closing it would leave the thread in accept(), and the port open.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()

    @staticmethod
    def serve(ip, port, handler):
        s = socket.socket()
        # HAProxy listens on the same port of every address, and shares it too.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((ip, port))
        s.listen(200)

        def accept():
            while True:
                try:
                    connection, _ = s.accept()
                except OSError:
                    return
                threading.Thread(target=handler, args=(ip, connection), daemon=True).start()
        threading.Thread(target=accept, daemon=True).start()
        return s

    def stand_still(self, ip):
        while ip in self.frozen:
            time.sleep(0.01)

    def postgres(self, ip, connection):
        try:
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
        connection.close()

    def patroni(self, ip, connection):
        try:
            self.stand_still(ip)
            with self.context.wrap_socket(connection, server_side=True) as tls:
                self.seen.add(tls.getpeercert()["serialNumber"].lower())
                request = b""
                while b"\r\n\r\n" not in request:
                    request += tls.recv(1000)
                path = request.split()[1]
                self.stand_still(ip)
                code, role = self.answers[ip]
                if path.startswith(b"/replica"):
                    code = 200 if role == "replica" else 503
                if path in self.unknown:
                    code, role = 404, "none"
                body = json.dumps({"state": self.states.get(ip, "running"), "role": role, "patroni": {"name": NODES[ip]}})
                tls.sendall(("HTTP/1.0 %d X\r\nContent-Type: application/json\r\n\r\n%s" % (code, body)).encode())
        except (OSError, IndexError):
            pass

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
        nodes = random.sample(list(NODES), 3)
        if self.dns == "omits":
            return [ip for ip in nodes if ip not in self.primaries()]
        return nodes if self.dns == "good" else []
