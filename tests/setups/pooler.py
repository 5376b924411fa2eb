"""A real pgbouncer behind the load balancer's PROXY header: what it takes for its client's address.

  python3 pooler.py HAPROXY_ROOT GUEST_SCRIPT HAPROXY_CFG

No pgbouncer (to 1.26.1) reads the header itself. A HAProxy on the node does, and connects to pgbouncer with the client's
address as its own (`usesrc clientip`); replies to that address are sent back to it by a routing rule.
"""
import os
import pathlib
import socket
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
import apart
from guest import CONFIG, LUA, Guest, enter, eventually, install
from nodes import Far, Node, sh
from story import CLIENT, GUEST_JSON, LOAD_BALANCER, check, json

NODE = "192.0.2.11"
POOLER_LOG = pathlib.Path("/run/node/pgbouncer.log")
PGBOUNCER = """[databases]
[pgbouncer]
listen_addr = 127.0.0.1,192.0.2.11
listen_port = 6432
auth_type = any
admin_users = operator
unix_socket_dir =
logfile = /run/node/pgbouncer.log
"""
ON_THE_NODE = """defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h

listen pooler
    bind 192.0.2.11:6433 accept-proxy
    source 0.0.0.0 usesrc clientip
    server pgbouncer 127.0.0.1:6432
"""
ROUTES = """
ip rule add from 127.0.0.1 iif lo lookup 123
ip route add local 0.0.0.0/0 dev lo table 123
"""


class Standing:
    """Stands for the cluster of nodes.py."""
    context, primary_word = None, "primary"


def clients(port, source=CLIENT):
    """What SHOW CLIENTS of pgbouncer's console says of whoever asks."""
    with socket.create_connection((LOAD_BALANCER, port), timeout=4, source_address=(source, 0)) as s:
        words = b"user\0operator\0database\0pgbouncer\0\0"
        s.sendall(struct.pack("!ii", 8 + len(words), 196608) + words)
        said = until_ready(s)
        if said is None:
            return None
        query = b"SHOW CLIENTS;\0"
        s.sendall(b"Q" + struct.pack("!i", 4 + len(query)) + query)
        rows = until_ready(s)
    names = fields(rows["T"][0])
    return [dict(zip(names, columns(row), strict=True)) for row in rows["D"]]


def until_ready(s):
    """The messages up to ReadyForQuery, by their kind; None if the connection ends before."""
    messages, data = {}, b""
    while True:
        while len(data) >= 5:
            length = struct.unpack("!i", data[1:5])[0] + 1
            if len(data) < length:
                break
            kind = data[:1].decode()
            messages.setdefault(kind, []).append(data[5:length])
            data = data[length:]
            if kind == "Z":
                return messages
        more = s.recv(65536)
        if not more:
            return None
        data += more


def fields(row):
    names, at = [], 2
    for _ in range(struct.unpack("!h", row[:2])[0]):
        end = row.index(b"\0", at)
        names.append(row[at:end].decode())
        at = end + 19
    return names


def columns(row):
    found, at = [], 2
    for _ in range(struct.unpack("!h", row[:2])[0]):
        length = struct.unpack("!i", row[at:at + 4])[0]
        found.append(row[at + 4:at + 4 + max(length, 0)].decode())
        at += 4 + max(length, 0)
    return found


def tell():
    far = Far(LOAD_BALANCER + "/24")
    subprocess.run("ip addr add %s/32 dev lo" % CLIENT, shell=True, check=True)
    far.address(NODE + "/24")
    far.do(lambda: sh("ip route add default via %s" % LOAD_BALANCER))
    far.do(lambda: sh(ROUTES))
    node = Node(Standing, far, {"name": "pg1", "address": NODE, "patroni_port": 8008, "ports": [5432]})
    node.role = "primary"
    install({"/run/node/pgbouncer.ini": PGBOUNCER, "/run/node/haproxy.cfg": ON_THE_NODE}, 0o644)
    os.chmod("/run/node", 0o777)
    far.do(lambda: subprocess.Popen(["pgbouncer", "-q", "-u", "nobody", "/run/node/pgbouncer.ini"]))
    far.do(lambda: subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", "/run/node/haproxy.cfg"]))
    install({"/etc/lbctl/guest.json": json.dumps(GUEST_JSON), LUA: LUA_TEXT, CONFIG: GIVEN})
    haproxy = Guest(SCRIPT)
    haproxy.start()
    seen = []

    def is_up():
        try:
            seen[:] = clients(6432) or []
        except OSError:
            return False
        return seen
    eventually(is_up, 10)
    check([row["addr"] for row in seen] == [CLIENT], seen)

    def refused():
        """By pgbouncer, and not by a load balancer that has just begun."""
        try:
            return clients(6432) is None and "in startup phase" in POOLER_LOG.read_text(encoding="utf-8")
        except OSError:
            return False
    # Without the node's HAProxy: pgbouncer refuses what it takes for a client's first words.
    install({CONFIG: GIVEN.replace(":6433", ":6432")})
    haproxy.stop()
    haproxy.start()
    eventually(refused, 10)
    return "pgbouncer's client is %s" % seen[0]["addr"]


if __name__ == "__main__":
    ROOT, SCRIPT, CFG = sys.argv[1:4]
    if sys.argv[4:5] != [apart.ALONE]:
        apart.tell(__file__, sys.argv[1:4], ["pooler"])
    GIVEN = pathlib.Path(CFG).read_text(encoding="utf-8")
    LUA_TEXT = pathlib.Path(SCRIPT).parents[1].joinpath("lbctl.lua").read_text(encoding="utf-8")
    enter(ROOT)
    print(tell())
