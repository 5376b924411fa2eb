"""Each set-up's haproxy.cfg, up before nodes that behave as that set-up does: the right nodes on each port, before and after
their roles change.

  python3 story.py HAPROXY_ROOT GUEST_SCRIPT FOLDER [NAME...]

FOLDER has a folder for each set-up, with haproxy.cfg and cluster.json. Each has a HAProxy and nodes of its own, in namespaces
of its own.
"""
import collections
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
import apart
from guest import CONFIG, LOG, LUA, Guest, enter, eventually, install
from load import SSL_REQUEST
from nodes import Cluster, Far
from protocols import make_certificates

GUEST_JSON = {"runtime": "package", "nofile": 65536, "services": [], "files": [
    {"path": "/etc/haproxy/haproxy.cfg", "owner": "root", "affects": "haproxy"},
    {"path": "/etc/haproxy/client.pem", "owner": "haproxy", "affects": "haproxy"}]}
# The load balancer's own, and one of its clients'.
LOAD_BALANCER, CLIENT = "192.0.2.10", "203.0.113.7"
CERTIFICATES = "/run/certificates"


def check(true, *said):
    if not true:
        raise AssertionError(" ".join(map(str, said)))


def connect(port, timeout):
    s = socket.create_connection((LOAD_BALANCER, port), timeout=timeout, source_address=(CLIENT, 0))
    s.sendall(SSL_REQUEST)
    return s


def who(port, timeout=1.5):
    """Node and port that answer, and whom they take for the client; or None."""
    try:
        with connect(port, timeout) as s:
            answer = s.recv(100).decode().split()
            return tuple(answer) if answer else None
    except OSError:
        return None


def reached(port, tries):
    return {answer and answer[0] for answer in (who(port) for _ in range(tries))}


def wait_for(expected, seconds):
    """Until each port leads to all of these nodes and to no others."""
    seen = {}

    def all_right():
        seen.update({port: reached(int(port), 2 * len(nodes) + 1) for port, nodes in expected.items()})
        return all(seen[port] == (set(nodes) or {None}) for port, nodes in expected.items())
    try:
        eventually(all_right, seconds)
    except AssertionError as late:
        raise AssertionError("expected %s, reached %s" % (expected, seen)) from late


class Session:
    """One that stays open."""

    def __init__(self, port):
        self.socket = connect(port, 3)
        self.node = self.socket.recv(100).decode().split()[0]

    def is_open(self):
        self.socket.setblocking(False)
        try:
            return self.socket.recv(10) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False


def tell(folder, described):
    far = Far(LOAD_BALANCER + "/24")
    # Answers to a client that is not of the nodes' network find their way.
    subprocess.run("ip addr add %s/32 dev lo" % CLIENT, shell=True, check=True)
    os.makedirs(CERTIFICATES)
    files = {"/etc/lbctl/guest.json": json.dumps(GUEST_JSON), LUA: LUA_TEXT,
             CONFIG: folder.joinpath("haproxy.cfg").read_text(encoding="utf-8")}
    if described["patroni"]["tls"] != "off":
        names = [name for node in described["nodes"] for name in (node["address"], *node.get("names", []))]
        make_certificates(CERTIFICATES, dict.fromkeys(names + described.get("dns", {}).get("all_nodes", [])))
        read = {name: pathlib.Path(CERTIFICATES, name).read_text(encoding="ascii")
                for name in ("client.key", "client.pem", "ca.pem")}
        files["/etc/haproxy/ca.pem"] = read["ca.pem"]
        if "crt /etc/haproxy/client.pem" in files[CONFIG]:
            files["/etc/haproxy/client.pem"] = read["client.key"] + read["client.pem"]
    install(files)
    cluster = Cluster(far, described, CERTIFICATES)
    first, *later = described["stages"]
    cluster.play(first["roles"], first.get("lag", {}))
    haproxy = Guest(SCRIPT)
    haproxy.start()
    wait_for(first["reach"], 15)
    took = []
    before = first
    for stage in later:
        sessions = [(port, Session(int(port))) for port, nodes in before["reach"].items() if nodes]
        # Until the checks have their slow rhythm.
        time.sleep(0.6)
        cluster.play(stage["roles"], stage.get("lag", {}))
        began = time.monotonic()
        wait_for(stage["reach"], 8)
        took.append(time.monotonic() - began)
        # On a replica that is none any more they are closed where another one is up.
        gone = [(port, s) for port, s in sessions if s.node not in stage["reach"][port] and port not in stage.get("stays", [])]
        deadline = time.monotonic() + 4
        while any(s.is_open() for _, s in gone) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = [(port, s.node) for port, s in gone if s.is_open()]
        check(not left, "sessions are open whose node is not right any more:", left)
        # Where those of another role stood in, they are closed when they have it no longer.
        kept = [(port, s.node) for port, s in sessions
                if s.node in stage["reach"][port] and not s.is_open() and port not in before.get("stays", [])]
        check(not kept, "sessions were cut whose node is still right:", kept)
        before = stage
    judge(described, cluster, haproxy)
    return "roles changed %s" % ", ".join("after %.1f s" % t for t in took)


def judge(described, cluster, haproxy):
    """What the nodes have seen."""
    clients = {port: who(int(port)) for port, nodes in described["stages"][-1]["reach"].items() if nodes}
    proxied = {str(port) for port in described.get("proxied", [])}
    wrong = {port: said for port, said in clients.items()
             if said[1] != (CLIENT if port in proxied else LOAD_BALANCER)}
    check(not wrong, "nodes take another address for their client's:", wrong)
    asked = collections.Counter(path for node in cluster.nodes.values() for path in node.paths)
    missing = [path for path in described.get("asked", []) if path not in asked]
    check(not missing, "nobody asked for", missing, "but for", sorted(asked))
    if described["patroni"]["tls"] == "mutual":
        check(cluster.certificates == {"abcdef01"}, cluster.certificates)
    status = json.loads(haproxy.run("status")[1])["haproxy"]
    check(status["servers_up"] == 1, status)


def resolver(servers):
    """Whom HAProxy's own libc asks, in its root."""
    root = ROOT + "/etc"
    subprocess.run("""
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/upper /mnt/work
    mount -t overlay overlay -o lowerdir='{0}',upperdir=/mnt/upper,workdir=/mnt/work '{0}'
    """.format(root), shell=True, check=True)
    pathlib.Path(root, "hosts").write_text("", encoding="ascii")
    pathlib.Path(root, "resolv.conf").write_text("".join("nameserver %s\n" % s for s in servers), encoding="ascii")


def alone(folder):
    described = json.loads(folder.joinpath("cluster.json").read_text(encoding="utf-8"))
    resolver(described.get("dns", {}).get("servers", []))
    enter(ROOT)
    try:
        print(tell(folder, described))
    except BaseException:
        if os.path.exists(LOG):
            print(pathlib.Path(LOG).read_text(encoding="utf-8", errors="replace")[-5000:])
        raise


if __name__ == "__main__":
    ROOT, SCRIPT, AT = sys.argv[1:4]
    if sys.argv[4:5] == [apart.ALONE]:
        LUA_TEXT = pathlib.Path(SCRIPT).parents[1].joinpath("lbctl.lua").read_text(encoding="utf-8")
        alone(pathlib.Path(AT, sys.argv[5]))
    else:
        apart.tell(__file__, sys.argv[1:4], sys.argv[4:] or sorted(path.name for path in pathlib.Path(AT).iterdir()))
