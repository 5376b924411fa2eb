"""A real Patroni, three nodes on real PostgreSQLs, whose REST API has mutual TLS, then TLS alone, then plain HTTP, then mutual
TLS again, and the load balancer that follows.

  python3 real.py HAPROXY_ROOT GUEST_SCRIPT FOLDER LBCTL PATRONI_PYTHON

FOLDER has mutual, server and off: in each haproxy.cfg and lbctl.toml. Everything is in namespaces of this process.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
from guest import CONFIG, LOG, LUA, Guest, enter, eventually, install
from nodes import Far, sh
from protocols import make_certificates
from story import CERTIFICATES, CLIENT, GUEST_JSON, LOAD_BALANCER, check

NODES = {"pg1": "192.0.2.11", "pg2": "192.0.2.12", "pg3": "192.0.2.13"}
DCS = "192.0.2.2"
HOME = "/run/cluster"
PYTHON = "/run/patroni-python"
REST_PORT = 8008
# Patroni's side of each mode.
TLS = """  certfile: {home}/node.crt
  keyfile: {home}/node.key
"""
REST = {
    "mutual": TLS + "  cafile: {home}/ca.crt\n  verify_client: required\n",
    "server": TLS,
    "off": "",
}
NODE = """scope: setups
name: {name}
restapi:
  listen: {ip}:{port}
  connect_address: {ip}:{port}
{rest}ctl:
  cacert: {home}/ca.crt
  certfile: {home}/node.crt
  keyfile: {home}/node.key
etcd3:
  host: {dcs}:2379
bootstrap:
  dcs:
    ttl: 30
    loop_wait: 2
    retry_timeout: 10
    postgresql:
      use_pg_rewind: true
      parameters: {{max_connections: 100, shared_buffers: 16MB, max_wal_size: 128MB, wal_keep_size: 16MB, fsync: 'off'}}
  initdb: [{{encoding: UTF8}}, {{locale: C.UTF-8}}, data-checksums, no-sync]
postgresql:
  listen: {ip}:5432
  connect_address: {ip}:5432
  data_dir: {home}/data
  bin_dir: {binaries}
  pgpass: {home}/pgpass
  authentication:
    superuser: {{username: postgres, password: secret}}
    replication: {{username: replicator, password: secret}}
    rewind: {{username: rewind, password: secret}}
  parameters: {{unix_socket_directories: {home}}}
  pg_hba: [local all all trust, host replication all 192.0.2.0/24 scram-sha-256, host all all 192.0.2.0/24 scram-sha-256]
"""


class Cluster:
    def __init__(self, far, binaries, python):
        self.far, self.binaries = far, binaries
        os.makedirs(PYTHON)
        sh("mount --bind '%s' %s" % (pathlib.Path(python).parents[1], PYTHON))
        for address in (DCS, *NODES.values()):
            far.address(address + "/24")
        os.makedirs(HOME)
        os.chmod(HOME, 0o755)
        clients, peers = "http://%s:2379" % DCS, "http://%s:2380" % DCS
        self.start("etcd", ["etcd", "--name", "lab", "--data-dir", HOME + "/etcd", "--listen-client-urls", clients,
                            "--advertise-client-urls", clients, "--listen-peer-urls", peers, "--initial-advertise-peer-urls",
                            peers, "--initial-cluster", "lab=" + peers])
        self.patroni = {}
        for name in NODES:
            home = self.home(name)
            os.makedirs(home)
            for source, target in (("ca.pem", "ca.crt"), ("node.pem", "node.crt"), ("node.key", "node.key")):
                shutil.copy(os.path.join(CERTIFICATES, source), os.path.join(home, target))
            sh("chmod 700 %s; chmod 600 %s/node.key" % (home, home))
        self.configure("mutual")
        for name in NODES:
            self.patroni[name] = self.start(name, ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups",
                                                   PYTHON + "/bin/python", "-m", "patroni", self.home(name) + "/patroni.yml"])

    @staticmethod
    def home(name):
        return "%s/%s" % (HOME, name)

    def start(self, name, argv):
        with open("%s/%s.log" % (HOME, name), "a", encoding="utf-8") as log:
            return self.far.do(lambda: subprocess.Popen(argv, stdout=log, stderr=log, cwd="/", env=dict(
                os.environ, LC_ALL="C.UTF-8", HOME=HOME)))

    def configure(self, mode):
        self.mode = mode
        for name, ip in NODES.items():
            home = self.home(name)
            text = NODE.format(name=name, ip=ip, port=REST_PORT, home=home, dcs=DCS, binaries=self.binaries,
                               rest=REST[mode].format(home=home))
            pathlib.Path(home, "patroni.yml").write_text(text, encoding="utf-8")
            sh("chown -R postgres: %s" % home)

    def switch(self, mode):
        """As `systemctl reload patroni` does on each node."""
        self.configure(mode)
        for process in self.patroni.values():
            process.send_signal(signal.SIGHUP)
        eventually(lambda: all(self.answers(ip) for ip in NODES.values()), 20)

    def answers(self, ip):
        curl = ["curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}"]
        if self.mode == "off":
            curl += ["http://%s:%d/health" % (ip, REST_PORT)]
        else:
            curl += ["--cacert", CERTIFICATES + "/ca.pem", "https://%s:%d/health" % (ip, REST_PORT)]
        if self.mode == "mutual":
            curl += ["--cert", CERTIFICATES + "/client.pem", "--key", CERTIFICATES + "/client.key"]
        return subprocess.run(curl, stdout=subprocess.PIPE, check=False).stdout == b"200"

    def ctl(self, *arguments):
        argv = [PYTHON + "/bin/python", "-c", "from patroni.ctl import ctl; ctl()", "-c", self.home("pg1") + "/patroni.yml",
                *arguments]
        done = self.far.do(lambda: subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                                                  universal_newlines=True, env=dict(os.environ, LC_ALL="C.UTF-8")))
        return done.stdout

    def members(self):
        try:
            return {m["Member"]: (m["Role"], m["State"]) for m in json.loads(self.ctl("list", "-f", "json"))}
        except ValueError:
            return {}

    def is_whole(self):
        return sorted(self.members().values()) == [("Leader", "running"), ("Replica", "streaming"), ("Replica", "streaming")]

    def leader(self):
        return next((name for name, (role, _) in self.members().items() if role == "Leader"), None)


class Psql:
    """A session of psql that asks something twice a second, and ends when its connection does."""

    def __init__(self, binaries):
        script = pathlib.Path(HOME, "watch.sql")
        script.write_text("select 1 \\watch 0.5\n", encoding="ascii")
        self.process = subprocess.Popen([binaries + "/psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script)], env=LOGIN,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def is_open(self):
        return self.process.poll() is None


LOGIN = dict(os.environ, PGHOST=LOAD_BALANCER, PGUSER="postgres", PGPASSWORD="secret", PGDATABASE="postgres",
             PGCONNECT_TIMEOUT="15", PGSSLMODE="disable")


def asked(binaries, text, port=5432):
    done = subprocess.run([binaries + "/psql", "-qAtc", text], env=dict(LOGIN, PGPORT=str(port)), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, check=False)
    return done.stdout.strip() or done.stderr.strip()


def writes(cluster):
    """Where a write goes, which must be the leader, and a read, which must not."""
    asked(cluster.binaries, "set client_min_messages = error; create table if not exists t (n int)")
    wrote = asked(cluster.binaries, "insert into t values (1) returning host(inet_server_addr())")
    read = asked(cluster.binaries, "select pg_is_in_recovery() || ' ' || host(inet_server_addr())", 5433)
    leader = NODES[cluster.leader()]
    check(wrote == leader, "wrote to", wrote, "and the leader is", leader)
    check(read.startswith("true ") and read.split()[1] != leader, "read from", read)


def seen_from_the_host(mode):
    """What `check --host` says of the nodes. There is no libvirt here."""
    folder = pathlib.Path(FOLDER, mode)
    for name in ("ca.key", "ca.pem"):
        shutil.copy(os.path.join(CERTIFICATES, name), folder / name.replace("ca.", "patroni-ca.").replace("pem", "crt"))
    done = subprocess.run([LBCTL, "-c", folder / "lbctl.toml", "--connect", "test:///default", "check", "--host", "--json"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    found = [(f["verdict"], f["said"]) for f in json.loads(done.stdout)["findings"] if f["what"].startswith("node ")]
    primaries = [said for _, said in found if said.startswith("the primary")]
    check(len(found) == 3 and len(primaries) == 1, found, done.stderr)
    check(all(verdict in ("ok", "warning") for verdict, _ in found), found)


def rest_of_the_vm(mode):
    """Files of a mode, as the guest has them."""
    files = {CONFIG: pathlib.Path(FOLDER, mode, "haproxy.cfg").read_text(encoding="utf-8")}
    read = {name: pathlib.Path(CERTIFICATES, name).read_text(encoding="ascii")
            for name in ("client.key", "client.pem", "ca.pem")}
    files["/etc/haproxy/ca.pem"] = read["ca.pem"]
    files["/etc/haproxy/client.pem"] = read["client.key"] + read["client.pem"]
    return files


def is_ready():
    try:
        with urllib.request.urlopen("http://%s:8405/ready" % LOAD_BALANCER, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def tell(binaries, python):
    far = Far(LOAD_BALANCER + "/24")
    sh("ip addr add %s/32 dev lo" % CLIENT)
    os.makedirs(CERTIFICATES)
    make_certificates(CERTIFICATES, NODES.values())
    cluster = Cluster(far, binaries, python)
    eventually(cluster.is_whole, 90)
    install({"/etc/lbctl/guest.json": json.dumps(GUEST_JSON), LUA: LUA_TEXT, **rest_of_the_vm("mutual")})
    haproxy = Guest(SCRIPT)
    haproxy.start()
    eventually(is_ready, 15)
    said = []
    for mode in ("mutual", "server", "off", "mutual"):
        sessions = [Psql(binaries) for _ in range(5)]
        time.sleep(1.5)
        check(all(s.is_open() for s in sessions), mode, "sessions do not begin")
        if mode != cluster.mode:
            began = time.monotonic()
            # Each is refused by the other side for a moment, and neither says that a node is not the primary.
            cluster.switch(mode)
            install(rest_of_the_vm(mode))
            haproxy.reload()
            eventually(is_ready, 15)
            said.append("%s after %.1f s" % (mode, time.monotonic() - began))
            time.sleep(2)
            check(all(s.is_open() for s in sessions), "the change to", mode, "cut sessions:",
                  sum(not s.is_open() for s in sessions))
        writes(cluster)
        seen_from_the_host(mode)
        old = cluster.leader()
        new = next(name for name in NODES if name != old)
        cluster.ctl("switchover", "setups", "--leader", old, "--candidate", new, "--force")
        eventually(lambda new=new: asked(binaries, "select host(inet_server_addr())") == NODES[new], 30)
        eventually(cluster.is_whole, 60)
        eventually(lambda sessions=sessions: all(not s.is_open() for s in sessions), 20)
        writes(cluster)
    return "0 of 15 sessions cut; " + ", ".join(said)


def beside_an_init():
    """Returns in a child. This process is the first of its namespace: orphans become its children, and Patroni takes a
    PostgreSQL that has ended for a running one until somebody has waited for it."""
    child = os.fork()
    while child:
        ended, status = os.wait()
        if ended == child:
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    beside_an_init()
    ROOT, SCRIPT, FOLDER, LBCTL, PATRONI = sys.argv[1:6]
    LUA_TEXT = pathlib.Path(SCRIPT).parents[1].joinpath("lbctl.lua").read_text(encoding="utf-8")
    enter(ROOT)
    try:
        print(tell(str(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]), PATRONI))
    except BaseException:
        for log in (LOG, *("%s/%s.log" % (HOME, name) for name in NODES)):
            if os.path.exists(log):
                print("---", log)
                print(pathlib.Path(log).read_text(encoding="utf-8", errors="replace")[-3000:])
        raise
