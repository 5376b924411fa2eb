"""A rendered haproxy.cfg and the guest script, run by a real HAProxy before three fake Patroni nodes with mutual TLS.

  unshare --net --mount --pid --fork --kill-child python3 live.py HAPROXY_ROOT HAPROXY_CFG GUEST_SCRIPT [TEST...]

The name servers and addresses are those of tests/render/live.rs. Everything happens in namespaces of its own.
"""
import json
import os
import random
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

DOMAIN = "server.postgres.local"
NODES = {"127.0.0.11": "one", "127.0.0.12": "two", "127.0.0.13": "three"}
ONE, TWO, THREE = NODES


def sh(command):
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)


def set_up_namespace(root, cfg):
    """The guest's paths, private to this process: nothing of the machine is touched."""
    sh("""
    ip link set lo up
    mount --make-rprivate /
    mount -t tmpfs tmpfs /run
    for d in etc var/lib; do
        mkdir -p /run/overlay/$d.upper /run/overlay/$d.work
        mount -t overlay overlay -o lowerdir=/$d,upperdir=/run/overlay/$d.upper,workdir=/run/overlay/$d.work /$d
    done
    mkdir -p /etc/haproxy /etc/lbctl /var/lib/haproxy /run/haproxy /run/bin
    rm -rf /var/lib/haproxy/*
    """)
    for d in ("etc/haproxy", "var/lib/haproxy", "run/haproxy"):
        sh("mount --bind /%s '%s/%s'" % (d, root, d))
    with open("/run/bin/haproxy", "w") as f:
        f.write('#!/bin/sh\nexec chroot "%s" /usr/sbin/haproxy "$@"\n' % root)
    os.chmod("/run/bin/haproxy", 0o755)
    os.environ["PATH"] = "/run/bin:" + os.environ["PATH"]
    with open(cfg) as f:
        config = f.read()
    with open("/etc/haproxy/haproxy.cfg", "w") as f:
        f.write(config)
    with open("/etc/lbctl/guest.json", "w") as f:
        json.dump({"runtime": "package", "nofile": 4096, "services": [], "files": [
            {"path": "/etc/haproxy/haproxy.cfg", "owner": "root", "affects": "haproxy"},
            {"path": "/etc/haproxy/client.pem", "owner": "haproxy", "affects": "haproxy"}]}, f)


def make_certificates():
    at = tempfile.mkdtemp(dir="/run")
    sh("""cd {at}
    ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
    openssl req -x509 $ec -keyout ca.key -out ca.pem -days 2 -subj /CN=ca 2>/dev/null
    for n in client node; do
        openssl req $ec -keyout $n.key -out $n.csr -subj /CN=$n 2>/dev/null
        printf 'subjectAltName=DNS:{domain}\\nextendedKeyUsage=serverAuth,clientAuth\\n' >ext
        openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -set_serial 0xabcdef01 -days 2 -extfile ext -out $n.pem 2>/dev/null
    done
    cat client.key client.pem >/etc/haproxy/client.pem
    cp ca.pem /etc/haproxy/ca.pem
    """.format(at=at, domain=DOMAIN))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(at + "/node.pem", at + "/node.key")
    context.load_verify_locations(at + "/ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class Cluster:
    """What the nodes and the DNS answer; tests change it as they go."""

    def __init__(self, context):
        self.context = context
        self.dns = "good"
        self.answers = {}
        self.make_primary(ONE)
        for ip in NODES:
            self.serve(ip, 5432, self.postgres)
            self.serve(ip, 4443, self.patroni)
        threading.Thread(target=self.name_server, daemon=True).start()

    def make_primary(self, *ips):
        self.answers = {ip: (200, "primary") if ip in ips else (503, "replica") for ip in NODES}

    @staticmethod
    def serve(ip, port, handler):
        s = socket.socket()
        # HAProxy listens on the same port of every address, and shares it too.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind((ip, port))
        s.listen(200)

        def accept():
            while True:
                connection, _ = s.accept()
                threading.Thread(target=handler, args=(ip, connection), daemon=True).start()
        threading.Thread(target=accept, daemon=True).start()

    @staticmethod
    def postgres(ip, connection):
        try:
            connection.sendall((ip + "\n").encode())
            while True:
                data = connection.recv(100)
                if not data:
                    break
                connection.sendall(data)
        except OSError:
            pass
        connection.close()

    def patroni(self, ip, connection):
        try:
            with self.context.wrap_socket(connection, server_side=True) as tls:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += tls.recv(1000)
                path = request.split()[1]
                code, role = self.answers[ip]
                if path.startswith(b"/replica"):
                    code = 200 if role == "replica" else 503
                body = json.dumps({"state": "running", "role": role, "patroni": {"name": NODES[ip]}})
                tls.sendall(("HTTP/1.0 %d X\r\nContent-Type: application/json\r\n\r\n%s" % (code, body)).encode())
        except (OSError, IndexError):
            pass

    def name_server(self):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.2", 53))
        while True:
            query, peer = s.recvfrom(4096)
            end = query.index(b"\0", 12) + 5
            question = query[12:end]
            kind = struct.unpack("!H", question[-4:-2])[0]
            ips = random.sample(list(NODES), 3) if kind == 1 and self.dns == "good" else []
            code = 3 if self.dns == "nxdomain" else 0
            if self.dns != "silent":
                answers = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(ip) for ip in ips)
                s.sendto(query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(ips), 0, 0) + question + answers, peer)


def connect(port=5432):
    """The node that answers, or None. And the connection."""
    s = socket.create_connection(("127.0.0.1", port), timeout=2)
    s.settimeout(2)
    try:
        return s.recv(100).decode().strip() or None, s
    except OSError:
        return None, s


class Hammer:
    """Connects all the time and notes who answered."""

    def __init__(self):
        self.seen, self.stop = [], False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stop:
            try:
                who, s = connect()
                s.close()
            except OSError:
                who = None
            self.seen.append((time.monotonic(), who))
            time.sleep(0.005)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()


def guest(*args):
    done = subprocess.run(["/usr/bin/python3", "-B", SCRIPT, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def status():
    return json.loads(guest("status")[1])


def eventually(true, seconds=5.0):
    start = time.monotonic()
    while time.monotonic() < start + seconds:
        if true():
            return time.monotonic() - start
        time.sleep(0.01)
    raise AssertionError("not within %s s" % seconds)


def answering():
    try:
        who, s = connect()
        s.close()
        return who
    except OSError:
        return None


class Live(unittest.TestCase):
    def setUp(self):
        CLUSTER.dns = "good"
        CLUSTER.make_primary(ONE)
        self.haproxy = None
        sh("rm -rf /var/lib/haproxy/* /run/haproxy/* /run/lbctl; cp '%s' /etc/haproxy/haproxy.cfg" % CFG)

    def tearDown(self):
        self.stop()

    def start(self):
        code, _, said = guest("prepare")
        self.assertEqual(code, 0, said)
        log = open("/run/haproxy.log", "a")
        self.haproxy = subprocess.Popen(["haproxy", "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg", "-S",
                                         "/run/haproxy/master.sock,mode,600"], stdout=log, stderr=log)

    def start_ready(self):
        self.start()
        eventually(lambda: answering() == ONE)

    def stop(self):
        if self.haproxy:
            self.haproxy.terminate()
            self.haproxy.wait()
            self.haproxy = None

    def test_no_connection_reaches_the_wrong_node_at_start(self):
        with Hammer() as hammer:
            self.start()
            eventually(lambda: answering() == ONE)
            time.sleep(1)
        answers = {who for _, who in hammer.seen}
        self.assertEqual(answers, {None, ONE})

    def test_no_connection_reaches_the_old_primary_after_a_cold_start(self):
        self.start_ready()
        self.assertEqual(guest("save-state")[0], 0)
        self.stop()
        CLUSTER.make_primary(TWO)
        with Hammer() as hammer:
            self.start()
            eventually(lambda: answering() == TWO)
            time.sleep(1)
        self.assertEqual({who for _, who in hammer.seen}, {None, TWO})

    def test_status_tells_the_primary_and_both_certificates(self):
        self.start_ready()
        told = status()
        self.assertEqual((told["ready"], told["haproxy"]["primary"], told["haproxy"]["servers_up"]),
                         (True, ONE, 1), told["haproxy"])
        states = {s["address"]: s["state"] for s in told["haproxy"]["servers"] if s["backend"] == "primary"}
        self.assertEqual(sorted(states), sorted(NODES))
        self.assertTrue(states[ONE].startswith("UP") and states[TWO].startswith("DOWN"), states)
        certificate = told["certificate"]
        self.assertEqual(certificate["on_disk"]["serial"], "abcdef01")
        self.assertEqual(certificate["on_disk"], certificate["in_use"])
        self.assertNotIn("PRIVATE", json.dumps(told))

    def test_status_without_haproxy(self):
        told = status()
        self.assertEqual((told["ready"], told["haproxy"]["servers"], told["certificate"]["in_use"]), (False, [], None))
        self.assertIsNotNone(told["haproxy"]["error"])

    def test_two_primaries_get_no_connection(self):
        self.start_ready()
        CLUSTER.make_primary(ONE, TWO)
        eventually(lambda: status()["haproxy"]["servers_up"] == 2)
        self.assertEqual([answering() for _ in range(20)], [None] * 20)
        self.assertFalse(status()["ready"])
        CLUSTER.make_primary(TWO)
        eventually(lambda: answering() == TWO)

    def test_both_the_lock_and_the_role_are_needed(self):
        self.start_ready()
        CLUSTER.answers[ONE] = (503, "primary")
        eventually(lambda: answering() is None)
        CLUSTER.answers[ONE] = (200, "replica")
        time.sleep(1)
        self.assertIsNone(answering())
        CLUSTER.answers[ONE] = (200, "master")
        eventually(lambda: answering() == ONE)

    def test_a_switch_cuts_sessions_and_is_followed(self):
        self.start_ready()
        _, session = connect()
        CLUSTER.make_primary(TWO)
        flipped = time.monotonic()
        eventually(lambda: answering() == TWO)
        used = time.monotonic() - flipped
        session.settimeout(3)
        self.assertEqual(session.recv(10), b"")
        cut = time.monotonic() - flipped
        print("new primary used after %.2f s, session cut after %.2f s" % (used, cut))
        # Twice what is required: this machine may be busy, and the figures are measured elsewhere.
        self.assertLess(max(used, cut), 2.0)

    def test_a_reload_fails_cuts_and_misleads_nobody(self):
        self.start_ready()
        _, session = connect()
        with Hammer() as hammer:
            time.sleep(0.3)
            code, _, said = guest("reload")
            self.assertEqual(code, 0, said)
            time.sleep(1.5)
        self.assertEqual({who for _, who in hammer.seen}, {ONE})
        session.sendall(b"alive")
        self.assertEqual(session.recv(10), b"alive")

    def test_a_bad_configuration_is_refused_and_the_old_one_goes_on(self):
        self.start_ready()
        with open("/etc/haproxy/haproxy.cfg", "a") as f:
            f.write("frontend nonsense\n    bind :1 nonsense\n")
        code, _, said = guest("reload")
        self.assertEqual(code, 1)
        self.assertIn("nonsense", said)
        self.assertEqual(answering(), ONE)
        self.stop()
        self.start()
        self.assertNotEqual(self.haproxy.wait(timeout=20), 0, "and it does not start with it")

    def test_dns_is_discovery_and_not_health(self):
        self.start_ready()
        for how in ("silent", "nxdomain", "empty"):
            CLUSTER.dns = how
            with Hammer() as hammer:
                time.sleep(6)
            self.assertEqual({who for _, who in hammer.seen}, {ONE}, how)

    def test_replicas_and_patroni_have_their_ports(self):
        self.start_ready()
        eventually(lambda: status()["haproxy"]["servers_up"] == 1)
        time.sleep(1)
        self.assertEqual({connect(5433)[0] for _ in range(20)}, {TWO, THREE})

    def test_metrics_and_readiness(self):
        self.start_ready()
        answer = self.http("/ready")
        self.assertTrue(answer.startswith("HTTP/1.1 200") and answer.endswith("ready"), answer)
        self.assertIn("haproxy_server_status", self.http("/metrics"))
        CLUSTER.make_primary()
        eventually(lambda: self.http("/ready").startswith("HTTP/1.1 503"))
        self.assertTrue(self.http("/elsewhere").startswith("HTTP/1.1 404"))

    @staticmethod
    def http(path):
        with socket.create_connection(("127.0.0.1", 8405), timeout=2) as s:
            s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
            answer = b""
            while True:
                chunk = s.recv(65536)
                if not chunk:
                    return answer.decode()
                answer += chunk


if __name__ == "__main__":
    ROOT, GIVEN, SCRIPT = sys.argv[1:4]
    set_up_namespace(ROOT, GIVEN)
    CFG = "/run/given.cfg"
    sh("cp /etc/haproxy/haproxy.cfg %s" % CFG)
    CLUSTER = Cluster(make_certificates())
    unittest.main(argv=["live.py", *sys.argv[4:]], verbosity=2, warnings="ignore")
