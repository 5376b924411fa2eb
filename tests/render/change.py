"""Changes of a running load balancer, as lbctl's program in the guest makes them, on a real HAProxy before three fake Patroni
nodes with mutual TLS. Twenty busy sessions are open all the time, and none may notice. Beside the configuration are others to
change to: host-names.cfg and addresses.cfg, of tests/it/render/live.rs.

  python3 change.py HAPROXY_ROOT GUEST_SCRIPT HAPROXY_CFG [TEST...]

Each test has a HAProxy and nodes of its own. There is no systemd: what a service manager would be asked succeeds.
"""
import json
import pathlib
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
import apart
from cluster import DOMAIN, NAMES, NODES, ONE, TWO, Cluster, make_certificates
from guest import CONFIG, LUA, Guest, enter, eventually, install, sh
from load import Hammer, Session, answering
from protocols import server_context

CLIENT_PEM, CA_PEM, SETTINGS = "/etc/haproxy/client.pem", "/etc/haproxy/ca.pem", "/etc/lbctl/guest.json"
TABLE = {"haproxy": {"unit": "haproxy.service", "on_change": "reload"},
         "node-exporter": {"unit": "prometheus-node-exporter.service", "on_change": "nothing"}}
AFFECTS = {CONFIG: "haproxy", LUA: "haproxy", CLIENT_PEM: "haproxy", CA_PEM: "haproxy", SETTINGS: "guest"}


def settings(*services, paths=(CONFIG, LUA, CLIENT_PEM, CA_PEM, SETTINGS), probe=None):
    return json.dumps({
        "runtime": "package", "nofile": 4096, "install": False, "services": services, "service_table": TABLE,
        "settle_s": 2.0, "image": None,
        "admin": {"user": "nobody-here", "keys": []}, "probe": probe or {"port": 4443, "host": DOMAIN, "verify_host": DOMAIN},
        "resolved_at_start": [],
        "files": [{"path": p, "owner": "root", "affects": AFFECTS.get(p, "guest")} for p in paths]})


def spec(probe=None, **changed):
    """What is on the disk at the start, with other contents for some files, or without them (None)."""
    files = {path: text for path, text in dict(START, **changed).items() if text is not None}
    files[SETTINGS] = settings("haproxy", paths=[*files, SETTINGS], probe=probe)
    return {"packages": [], "admin": {"user": "nobody-here", "password_hash": None, "public_keys": []},
            "files": [{"path": p, "content": text, "mode": 0o600, "affects": AFFECTS.get(p, "guest")}
                      for p, text in files.items()]}


def probe(tls, port, addresses, ports=()):
    """How lbctl has the listed nodes asked."""
    nodes = [{"name": "pg-%d" % n, "address": ip, "port": dict(ports).get(ip, port), "verify_host": None}
             for n, ip in enumerate(addresses, 1)]
    return {"port": port, "host": "patroni", "verify_host": None, "tls": tls, "nodes": nodes}


def disk(path):
    return pathlib.Path(path).read_text(encoding="utf-8")


def certificates(at):
    """Client certificate and CA, as the files of HAProxy have them."""
    make_certificates(at)
    text = {name: pathlib.Path(at, name).read_text(encoding="ascii") for name in ("client.key", "client.pem", "ca.pem")}
    return text["client.key"] + text["client.pem"], text["ca.pem"]


def another_pair():
    """Of the same CA."""
    ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    sh("cd /run/certificates && openssl req %s -keyout other.key -out other.csr -subj /CN=client 2>/dev/null && "
       "openssl x509 -req -in other.csr -CA ca.pem -CAkey ca.key -set_serial 0x77 -days 2 -out other.pem 2>/dev/null" % ec)
    return disk("/run/certificates/other.key") + disk("/run/certificates/other.pem")


class Changes(unittest.TestCase):
    def setUp(self):
        self.haproxy = Guest(SCRIPT)
        self.beside = []
        sh("rm -rf /var/lib/lbctl")
        install({entry["path"]: entry["content"] for entry in spec()["files"]})
        self.haproxy.start()
        eventually(lambda: answering() == ONE)
        # Many tests at the same time have as many.
        self.sessions = [Session(busy=True, pause=0.1) for _ in range(20)]

    def tearDown(self):
        for session in self.sessions:
            session.close()
        for process in self.beside:
            process.kill()
            process.wait()
        self.haproxy.stop()

    def task(self, only=(), probe=None, **changed):
        task = json.dumps({"despite": [], "only": list(only), "spec": spec(probe, **changed)})
        done = subprocess.run(["/usr/bin/python3", "-SB", SCRIPT, "converge"], input=task.encode(), stdout=subprocess.PIPE,
                              timeout=120, check=False)
        return json.loads(done.stdout.decode())

    def assert_nobody_noticed(self):
        time.sleep(1)
        self.assertEqual(sum(s.cut is not None for s in self.sessions), 0, "sessions were cut")
        self.assertEqual(answering(), ONE)

    def assert_refused(self, answer, *words):
        self.assertEqual((answer["ok"], answer.get("restored")), (False, True), answer)
        for word in words:
            self.assertIn(word, answer["error"])
        for path, text in START.items():
            self.assertEqual(disk(path), text, path)
        self.assert_nobody_noticed()

    def serial_in_use(self):
        return json.loads(self.haproxy.run("status")[1])["certificate"]["in_use"]["serial"]

    def test_a_certificate_is_exchanged_without_a_reload(self):
        worker, new = self.haproxy.worker(), another_pair()
        answer = self.task(only=[CLIENT_PEM, CA_PEM], **{CLIENT_PEM: new})
        self.assertEqual((answer["ok"], answer["notes"]), (True, []), answer)
        self.assert_nobody_noticed()
        self.assertEqual((disk(CLIENT_PEM), self.serial_in_use(), self.haproxy.worker()), (new, "77", worker))
        eventually(lambda: "77" in CLUSTER.seen)

    def test_settings_change_and_old_sessions_still_follow_a_failover(self):
        worker = self.haproxy.worker()
        answer = self.task(**{CONFIG: START[CONFIG].replace("timeout client 24h", "timeout client 23h")})
        self.assertTrue(answer["ok"], answer)
        self.assert_nobody_noticed()
        self.assertIn("timeout client 23h", disk(CONFIG))
        self.assertNotEqual(self.haproxy.worker(), worker)
        # In a guest the reload starts it.
        self.beside.append(subprocess.Popen(["/usr/bin/python3", "-SB", SCRIPT, "old-workers"]))
        time.sleep(2)
        self.assert_nobody_noticed()
        CLUSTER.make_primary(TWO)
        eventually(lambda: all(s.cut for s in self.sessions), 20)
        eventually(lambda: self.beside[0].poll() == 0, 20)

    def test_doing_it_again_does_nothing(self):
        changed = {CONFIG: START[CONFIG].replace("timeout client 24h", "timeout client 23h")}
        self.assertTrue(self.task(**changed)["ok"])
        worker = self.haproxy.worker()
        self.assertTrue(self.task(**changed)["ok"])
        self.assertEqual(self.haproxy.worker(), worker)

    def test_a_configuration_that_haproxy_refuses_changes_nothing(self):
        answer = self.task(**{CONFIG: START[CONFIG].replace("timeout client 24h", "timeout klient 24h")})
        self.assert_refused(answer, "HAProxy refuses the configuration", "klient")

    def test_a_certificate_of_a_foreign_ca_changes_nothing(self):
        client, ca = certificates("/run/foreign")
        before = self.serial_in_use()
        for changed in ({CLIENT_PEM: client}, {CA_PEM: ca}, {CLIENT_PEM: client, CA_PEM: ca}):
            for only in ((), (CLIENT_PEM, CA_PEM)):
                self.assert_refused(self.task(only=only, **changed), "3 of 3 nodes would not accept the new certificate or CA")
        self.assertEqual(self.serial_in_use(), before)

    def test_a_full_disk_changes_nothing(self):
        sh("mkdir -p /etc/full && mount -t tmpfs -o size=16k tmpfs /etc/full")
        worker = self.haproxy.worker()
        try:
            changed = {CONFIG: START[CONFIG].replace("timeout client 24h", "timeout client 23h"), "/etc/full/x": "x" * 65536}
            self.assert_refused(self.task(**changed), "/etc/full/x", "No space left")
            self.assertEqual(list(pathlib.Path("/etc/full").iterdir()), [])
            self.assertEqual(self.haproxy.worker(), worker, "HAProxy was disturbed for nothing")
        finally:
            sh("umount /etc/full")

    def test_what_loses_the_primary_is_put_back(self):
        # HAProxy and the nodes have nothing against it, but no node has that name.
        wrong = START[CONFIG].replace("uri /primary ver", "uri /primary-of-another-world ver")
        CLUSTER.unknown = {b"/primary-of-another-world"}
        self.assert_refused(self.task(**{CONFIG: wrong}), "lost the primary")

    def test_a_service_that_a_rejected_change_switched_off_comes_back(self):
        install({"/etc/lbctl/guest.json": settings("haproxy", "node-exporter")})
        CLUSTER.unknown = {b"/primary-of-another-world"}
        pathlib.Path("/run/systemctl.log").write_text("", encoding="ascii")
        answer = self.task(**{CONFIG: START[CONFIG].replace("uri /primary ver", "uri /primary-of-another-world ver")})
        self.assert_refused(answer, "lost the primary")
        asked = [line for line in disk("/run/systemctl.log").splitlines() if "node-exporter" in line]
        self.assertIn("disable --now", asked[0])
        self.assertIn("start", asked[-1])

    def test_what_is_not_wanted_any_more_is_removed(self):
        self.assertTrue(self.task(**{"/etc/lbctl/more": "x"})["ok"])
        self.assertEqual(disk("/etc/lbctl/more"), "x")
        self.assertTrue(self.task()["ok"])
        self.assertFalse(pathlib.Path("/etc/lbctl/more").exists())
        self.assert_nobody_noticed()


    def follows_a_failover(self):
        """The sessions of the old worker, too."""
        # In a guest the reload starts it.
        self.beside.append(subprocess.Popen(["/usr/bin/python3", "-SB", SCRIPT, "old-workers"]))
        time.sleep(1)
        self.assert_nobody_noticed()
        CLUSTER.make_primary(TWO)
        eventually(lambda: all(s.cut for s in self.sessions), 20)
        eventually(lambda: answering(10) == TWO, 10)

    def change_to(self, target, **files):
        """Live: no session is cut, and whoever comes now waits at most."""
        with Hammer(timeout=10) as hammer:
            time.sleep(0.2)
            answer = self.task(probe=target, **files)
            time.sleep(1)
        self.assertEqual((answer["ok"], answer.get("notes")), (True, []), answer)
        self.assertEqual({who for _, who in hammer.seen}, {ONE}, hammer.failures)
        self.assert_nobody_noticed()

    def test_nodes_are_listed_by_name_and_asked_without_a_client_certificate(self):
        CLUSTER.seen.clear()
        target = probe("server", 4443, NAMES.values())
        self.change_to(target, **{CONFIG: beside("host-names.cfg"), CLIENT_PEM: None})
        self.assertFalse(pathlib.Path(CLIENT_PEM).exists())
        eventually(lambda: None in CLUSTER.seen)
        there = json.loads(self.haproxy.run("status")[1])
        self.assertEqual({s["name"] for s in there["haproxy"]["servers"]}, {"pg-1", "pg-2", "pg-3"})
        self.assertEqual(there["certificate"], {"on_disk": None, "in_use": None})
        self.follows_a_failover()

    def test_nodes_are_listed_by_address_and_asked_by_plain_http_and_back(self):
        target = probe("off", 8008, NODES, [(TWO, 8009)])
        self.change_to(target, **{CONFIG: beside("addresses.cfg"), CLIENT_PEM: None, CA_PEM: None})
        self.assertFalse(pathlib.Path(CLIENT_PEM).exists() or pathlib.Path(CA_PEM).exists())
        self.change_to(None)
        self.assertEqual(disk(CLIENT_PEM), CLIENT)
        self.follows_a_failover()

    def test_nodes_that_do_not_answer_the_other_way_keep_the_old_one(self):
        for target in (probe("off", 4443, NODES), probe("off", 8010, NODES), probe("server", 8008, NODES)):
            text = beside("addresses.cfg").replace("port 8008", "port %d" % target["port"])
            answer = self.task(probe=target, **{CONFIG: text, CLIENT_PEM: None, CA_PEM: CA})
            self.assert_refused(answer, "3 of 3 nodes would not accept the new way of asking them (patroni_tls")

    def test_a_name_that_another_machine_gets_is_not_taken_for_the_primary(self):
        target = probe("off", 8008, NODES, [(TWO, 8009)])
        files = {CLIENT_PEM: None, CA_PEM: None}
        self.change_to(target, **{CONFIG: beside("addresses.cfg"), **files})
        first, second = "127.0.0.11", "127.0.0.12:5433 port 8009"
        swapped = beside("addresses.cfg").replace("pg-1 %s\n" % first, "pg-1 SECOND\n")
        self.assertIn("pg-1 SECOND", swapped)
        swapped = swapped.replace("pg-2 %s\n" % second, "pg-2 %s\n" % first).replace("SECOND", second)
        self.change_to(probe("off", 8008, [TWO, ONE, "127.0.0.13"], [(TWO, 8009)]), **{CONFIG: swapped, **files})
        there = json.loads(self.haproxy.run("status")[1])["haproxy"]
        up = {s["name"] for s in there["servers"] if s["backend"] == "primary" and s["state"].startswith("UP")}
        self.assertEqual(up, {"pg-2"})
        # One that leaves the list keeps its sessions until there is another primary.
        shorter = "".join(line for line in swapped.splitlines(True) if "server pg-2 " not in line)
        self.assertTrue(self.task(probe=probe("off", 8008, [TWO, "127.0.0.13"], [(TWO, 8009)]),
                                  **{CONFIG: shorter, **files})["error"].startswith("HAProxy lost the primary"))
        self.assert_nobody_noticed()


def beside(name):
    return disk(pathlib.Path(CFG).with_name(name))


if __name__ == "__main__":
    ROOT, SCRIPT, CFG = sys.argv[1:4]
    if sys.argv[4:5] != [apart.ALONE]:
        apart.tell(__file__, sys.argv[1:4], sys.argv[4:] or apart.tests_of(Changes))
    enter(ROOT)
    # HAProxy, which sees its root only, judges files that are not in place yet.
    sh("mkdir -p /run/lbctl '%s/run/lbctl' && mount --bind /run/lbctl '%s/run/lbctl'" % (ROOT, ROOT))
    install({"/run/bin/systemctl": "#!/bin/sh\necho \"$@\" >>/run/systemctl.log\n",
             "/run/bin/systemd-run": "#!/bin/sh\n"}, 0o755)
    install({"/run/cloud-init/result.json": "{}"})
    CLIENT, CA = certificates("/run/certificates")
    START = {CONFIG: disk(CFG), LUA: disk(pathlib.Path(SCRIPT).parents[1] / "lbctl.lua"), CLIENT_PEM: CLIENT, CA_PEM: CA}
    # They take a client certificate and do not demand one; and they answer by plain HTTP, too.
    CLUSTER = Cluster(server_context("/run/certificates", "optional"), ports={ip: {"plain": [8009 if ip == TWO else 8008],
                                           "postgres": [5432, 5433] if ip == TWO else [5432]} for ip in NODES})
    apart.test(Changes, sys.argv[5])
