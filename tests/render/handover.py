"""A load balancer that serves already, HAProxy with the Terraform module's configuration as a unit of systemd's, is taken over
by lbctl's program in the guest, on a real HAProxy before three fake Patroni nodes with mutual TLS. Twenty busy sessions are
open all the time, and somebody connects all the time. Beside the configuration is container.cfg, of tests/it/render/live.rs.

  python3 handover.py HAPROXY_ROOT GUEST_SCRIPT HAPROXY_CFG [TEST...]

Each test has HAProxies and nodes of its own. There is no systemd: FAKE stands for it, and kills what systemd would kill. There
is no Docker either: HAProxy of lbctl's container is one of the container's user.
"""
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench/failover"))
import apart
from change import certificates, disk, settings
from cluster import DNS_IP, DOMAIN, NODES, ONE, TWO, Cluster
from contenders import Network, module_config
from guest import CONFIG, LUA, Guest, enter, eventually, install, sh
from load import Hammer, Session, answering
from protocols import server_context

CLIENT_PEM, CA_PEM, SETTINGS = "/etc/haproxy/client.pem", "/etc/haproxy/ca.pem", "/etc/lbctl/guest.json"
UNIT = "/etc/systemd/system/haproxy.service"
# Seconds without an answer that one who connects may have, with the container.
REFUSED_FOR = 1.0

# systemctl, for this unit alone. What it kills is what systemd.kill(5) says of KillMode, as of the last `daemon-reload`. That
# is `mixed` where no drop-in says otherwise, and then whatever the unit has ever started.
FAKE = '''#!/usr/bin/python3
import os, pathlib, re, signal, subprocess, sys, time
STATE = pathlib.Path("/run/fake")
MAIN, GROUP, MODE = STATE / "main", STATE / "group", STATE / "mode"
DROP_IN = pathlib.Path("/run/systemd/system/haproxy.service.d/zz-lbctl-handover.conf")

def alive(pid):
    try:
        return pathlib.Path("/proc/%%d/stat" %% pid).read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

def main():
    pid = int(MAIN.read_text()) if MAIN.exists() else 0
    return pid if pid and alive(pid) else 0

def children(pid):
    try:
        return list(map(int, pathlib.Path("/proc/%%d/task/%%d/children" %% (pid, pid)).read_text().split()))
    except OSError:
        return []

def stop():
    found = re.search(r"KillMode=(\\w+)", MODE.read_text() if MODE.exists() else "")
    mode, pid = found.group(1) if found else "mixed", main()
    if pid and mode != "none":
        os.kill(pid, signal.SIGTERM)
        while alive(pid):
            time.sleep(0.01)
        for other in map(int, GROUP.read_text().split() if mode == "mixed" else []):
            for process in [*children(other), other]:
                if alive(process):
                    os.kill(process, signal.SIGKILL)
    MAIN.unlink(missing_ok=True)

def start():
    command = ["haproxy", "-W", "-db", "-f", "%(config)s"]
    ours = os.path.exists("%(unit)s")
    if ours:
        for what in ("prepare", "ports"):
            done = subprocess.run(["/usr/bin/python3", "-B", "%(script)s", what], stderr=subprocess.PIPE)
            if done.returncode == 3 or (what == "prepare" and done.returncode):
                sys.stderr.buffer.write(done.stderr)
                return 1
        command += ["-S", "/run/haproxy/master.sock,mode,600"]
        if '"container"' in pathlib.Path("%(settings)s").read_text():
            command[0] = "haproxy-99"
            if os.path.exists("/run/lbctl/waits-for-ports"):
                command[4] = "/run/haproxy/haproxy.cfg"
    with open("/run/haproxy.log", "a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    MAIN.write_text(str(process.pid))
    with GROUP.open("a") as group:
        group.write("%%d\\n" %% process.pid)
    for _ in range(500):
        if process.poll() is not None:
            return 1
        if not ours or os.path.exists("/run/haproxy/admin.sock"):
            break
        time.sleep(0.01)
    time.sleep(0.3)
    return 0 if process.poll() is None else 1

STATE.mkdir(exist_ok=True)
with (STATE / "log").open("a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
words = [word for word in sys.argv[1:] if not word.startswith("-")]
if words[0] == "daemon-reload":
    MODE.write_text(DROP_IN.read_text() if DROP_IN.exists() else "")
if words[0] == "show":
    print(main())
if words[1:] != ["haproxy.service"]:
    sys.exit(0)
if words[0] == "is-active":
    sys.exit(0 if main() else 3)
if words[0] in ("stop", "restart"):
    stop()
if words[0] == "restart" or (words[0] == "start" and not main()):
    sys.exit(start())
'''
# The real one of the guest, but for control groups, which are not systemd's here.
CONVERGE = '''
import sys
sys.path.insert(0, %r)
from lbctl_guest import beside, converge, listeners
listeners.unit_of = lambda process: "haproxy.service" if process else ""
%s
sys.exit(converge.main())
'''
# The old one has stepped back, and the new one, which is known to work, gets no port.
KEEPS_ITS_PORTS = """
def wait_for_ports():
    raise converge.Failure("has its ports still")
beside.wait_for_ports = wait_for_ports
"""


class Handover(unittest.TestCase):
    def setUp(self):
        self.haproxy = Guest(SCRIPT)
        sh("systemctl start haproxy.service")
        self.old = int(disk("/run/fake/main"))
        # The module's takes each node for up until it has been checked.
        eventually(lambda: answering() == ONE, 20)
        time.sleep(3)
        self.before = {path: disk(path) for path in OLD}
        self.sessions = [Session(busy=True, pause=0.05) for _ in range(20)]

    def take_over(self, runtime="package", misled=False, meddled="", **changed):
        files = {path: text for path, text in dict(NEW, **changed).items()}
        if runtime == "container":
            files[CONFIG] = changed.get(CONFIG, disk(pathlib.Path(CFG).with_name("container.cfg")))
        conf = json.loads(settings("haproxy", paths=[*files, SETTINGS]))
        for entry in conf["files"]:
            entry["owner"] = "haproxy" if entry["path"] == CLIENT_PEM else "root"
            entry["affects"] = "haproxy-unit" if entry["path"] == UNIT else entry["affects"]
        files[SETTINGS] = json.dumps(dict(conf, runtime=runtime, image="haproxy:3", pull_image=False, registry=None))
        modes = {CONFIG: 0o644, LUA: 0o644, CA_PEM: 0o644}
        spec = {"packages": [], "admin": {"user": "nobody-here", "password_hash": None, "public_keys": []},
                "files": [{"path": path, "content": text, "mode": modes.get(path, 0o600), "affects": "haproxy"}
                          for path, text in files.items()]}
        task = json.dumps({"despite": [], "only": [], "spec": spec})
        with Hammer(pause=0.002) as hammer:
            time.sleep(0.5)
            began = time.monotonic()
            done = subprocess.run(["/usr/bin/python3", "-B", "-c", CONVERGE % (os.path.dirname(SCRIPT), meddled)],
                                  input=task.encode(), stdout=subprocess.PIPE, timeout=120, check=False)
            took = time.monotonic() - began
            time.sleep(1)
        answer = json.loads(done.stdout.decode())
        failed = [at for at, who in hammer.seen if who is None]
        gap = max(failed) - min(failed) if failed else 0.0
        cut = sum(session.cut is not None for session in self.sessions)
        print("%s: %d of 20 sessions cut, %d of %d connections failed, within %.2f s; the change took %.1f s"
              % (runtime, cut, len(failed), len(hammer.seen), gap, took))
        if not misled:
            self.assertEqual({who for _, who in hammer.seen} - {None}, {ONE})
        self.assertEqual(cut, 0, "sessions were cut")
        return answer, failed, gap

    def assert_lbctls(self):
        status = json.loads(self.haproxy.run("status")[1])
        self.assertEqual((status["ready"], status["haproxy"]["primary"]), (True, ONE), status["haproxy"])
        self.assertNotEqual(int(disk("/run/fake/main")), self.old)
        self.assertFalse(pathlib.Path("/run/systemd/system/haproxy.service.d").exists()
                         and os.listdir("/run/systemd/system/haproxy.service.d"))
        # The old one ends with its last session, and nobody starts it again.
        self.assertTrue(self.lives(self.old))
        for session in self.sessions:
            session.close()
        eventually(lambda: not self.lives(self.old), 10)
        self.assertEqual(answering(), ONE)

    def lives(self, pid):
        try:
            return disk("/proc/%d/stat" % pid).rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def assert_given_back(self, answer):
        self.assertEqual((answer["ok"], answer.get("restored")), (False, True), answer)
        for path, text in self.before.items():
            self.assertEqual(disk(path), text, path)
        self.assertFalse(pathlib.Path(UNIT).exists())
        self.assertEqual(answering(), ONE)
        # What was not lbctl's follows no more than it did.
        CLUSTER.make_primary(TWO)
        eventually(lambda: answering() == TWO, 10)

    def test_from_its_package_nobody_notices(self):
        answer, failed, _ = self.take_over()
        self.assertTrue(answer["ok"], answer)
        self.assertEqual(failed, [])
        self.assert_lbctls()

    def test_in_its_container_who_connects_is_refused_for_the_time_of_a_reload(self):
        answer, _, gap = self.take_over("container")
        self.assertTrue(answer["ok"], answer)
        self.assertLess(gap, REFUSED_FOR)
        self.assert_lbctls()
        # A change like any other, and a start, know nothing of it.
        self.assertFalse(os.path.exists("/run/lbctl/waits-for-ports"))
        self.haproxy.reload_at_once()
        self.assertEqual(answering(), ONE)

    def assert_not_touched(self, answer, failed, word):
        self.assertIn(word, answer["error"])
        self.assertEqual(failed, [])
        self.assertTrue(self.lives(self.old))
        self.assertNotIn("stop haproxy.service", disk("/run/fake/log"))

    def test_nodes_that_refuse_the_new_certificate_leave_the_old_one_alone(self):
        client, ca = certificates("/run/foreign")
        answer, failed, _ = self.take_over("container", **{CLIENT_PEM: client, CA_PEM: ca})
        self.assert_not_touched(answer, failed, "none of the 3 nodes answers lbctl's health checks")

    def without_a_primary(self, runtime):
        """The nodes answer, and lbctl's checks ask what none of them is."""
        CLUSTER.unknown = {b"/primary-of-another-world"}
        given = NEW[CONFIG] if runtime == "package" else disk(pathlib.Path(CFG).with_name("container.cfg"))
        wrong = given.replace("uri /primary ver", "uri /primary-of-another-world ver")
        self.assertNotEqual(given, wrong)
        return self.take_over(runtime, **{CONFIG: wrong})

    def test_from_its_package_the_old_one_serves_on_where_there_is_no_primary(self):
        # Whom the new one took in that time waits for a primary as long as it lives, and no longer.
        answer, _, _ = self.without_a_primary("package")
        self.assertIn("the old load balancer serves on", answer["error"])
        self.assertTrue(self.lives(self.old))
        self.assert_given_back(answer)

    def test_in_its_container_the_old_one_serves_on_where_there_is_no_primary(self):
        answer, failed, _ = self.without_a_primary("container")
        self.assertIn("the old load balancer serves on", answer["error"])
        self.assertEqual(failed, [])
        self.assertTrue(self.lives(self.old))
        self.assert_given_back(answer)

    def test_in_its_container_the_old_one_is_started_again_where_it_keeps_its_ports(self):
        # The module's takes each node for up until it has been checked, at each of its starts.
        answer, _, _ = self.take_over("container", misled=True, meddled=KEEPS_ITS_PORTS)
        self.assertIn("has its ports still", answer["error"])
        self.assertEqual(subprocess.run(["systemctl", "is-active", "haproxy.service"], check=False).returncode, 0)
        time.sleep(2)
        self.assert_given_back(answer)

    def test_what_haproxy_refuses_changes_nothing(self):
        answer, failed, _ = self.take_over(**{CONFIG: NEW[CONFIG].replace("timeout client 24h", "timeout klient 24h")})
        self.assert_not_touched(answer, failed, "klient")

    def test_another_program_on_the_port_is_named(self):
        sh("systemctl stop haproxy.service")
        install(dict(NEW, **{SETTINGS: settings("haproxy")}))
        self.assertEqual(self.haproxy.run("ports")[0], 0)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(("127.0.0.1", 5432))
            other.listen()
            named = "port 5432 is taken by python3 (pid %d)" % os.getpid()
            code, _, said = self.haproxy.run("ports")
            self.assertEqual(code, 3)
            self.assertIn(named, said)
            self.assertNotEqual(subprocess.run(["systemctl", "start", "haproxy.service"], check=False).returncode, 0)
            self.assertEqual(json.loads(self.haproxy.run("status")[1])["haproxy"]["error"], named)
        sh("systemctl start haproxy.service")
        eventually(lambda: answering() == ONE, 20)


if __name__ == "__main__":
    ROOT, SCRIPT, CFG = sys.argv[1:4]
    if sys.argv[4:5] != [apart.ALONE]:
        # More at the same time would measure this machine.
        apart.tell(__file__, sys.argv[1:4], sys.argv[4:] or apart.tests_of(Handover), at_once=2)
    enter(ROOT)
    # HAProxy, which sees its root only, judges files that are not in place yet.
    sh("mkdir -p /run/lbctl '%s/run/lbctl' && mount --bind /run/lbctl '%s/run/lbctl'" % (ROOT, ROOT))
    install({"/run/bin/systemctl": FAKE % {"config": CONFIG, "unit": UNIT, "script": SCRIPT, "settings": SETTINGS},
             "/run/bin/haproxy-99": '#!/bin/sh\nexec chroot --userspec=99:99 "%s" /usr/sbin/haproxy "$@"\n' % ROOT,
             "/run/bin/docker": "#!/bin/sh\n", "/run/bin/systemd-run": "#!/bin/sh\n"}, 0o755)
    install({"/run/cloud-init/result.json": "{}"})
    CLIENT, CA = certificates("/run/certificates")
    NETWORK = Network(DOMAIN, DNS_IP, list(NODES), "", "", "127.0.0.1")
    OLD = {CONFIG: module_config(NETWORK), CLIENT_PEM: CLIENT, CA_PEM: CA}
    NEW = {CONFIG: disk(CFG), LUA: disk(pathlib.Path(SCRIPT).parents[1] / "lbctl.lua"), CLIENT_PEM: CLIENT, CA_PEM: CA,
           UNIT: disk(pathlib.Path(SCRIPT).parents[1] / "haproxy-package.service")}
    install(OLD)
    CLUSTER = Cluster(server_context("/run/certificates", "mutual"))
    apart.test(Handover, sys.argv[5])
