"""Two load balancers on macvtap that share an address, a client and three nodes on one segment, in namespaces of this process
alone. Each VM is a root of its own with what lbctl renders, keepalived, HAProxy and nft of a Debian suite, and a small stand-in
for systemd (init.py). `enter` must be the first thing a process does that `unshare --net --mount --pid --fork --kill-child` has
started.
"""
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
from rendered import files_of  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VIP, PREFIX = "10.99.0.20", "10.99.0."
NODES = ["10.99.0.11", "10.99.0.12", "10.99.0.13"]
CLIENT = "10.99.0.100"
VERSIONS = {"bookworm": "2.6", "trixie": "3.0"}
UNITS = ("lbctl-vip.service", "haproxy.service", "keepalived.service")
CONFIG = """
name = "lb-%(number)d"
memory = 1024
cloud_init_volume_pool = "default"
install_dependencies = false
admin_user_password = "x"
[volume]
name = "lb-%(number)d"
pool = "default"
base_volume_name = "base"
[[macvtap_interfaces]]
interface = "eno1"
ip = "%(ip)s"
prefix_length = 24
mac = "%(mac)s"
[haproxy]
runtime = "package"
version = "%(version)s"
patroni_tls = "off"
nodes = [%(nodes)s]
[virtual_ip]
address = "%(vip)s"
peers = ["%(peer)s"]
%(more)s
"""


def sh(command, **how):
    return subprocess.run(command, shell=True, check=True, stdout=subprocess.PIPE, universal_newlines=True, **how).stdout


def enter():
    # A bridge without a MAC address of its own has that of one of its ports, and another one when ports come and go: the nodes
    # would be out of the VMs' sight until their neighbours have asked anew, for ten seconds and more.
    sh("""
    mount --make-rprivate /
    mount -t proc proc /proc
    mount -t tmpfs tmpfs /run
    mkdir -p /run/netns /run/vms
    ip link set lo up
    ip link add br0 address 52:54:00:aa:bb:fe type bridge forward_delay 0 mcast_snooping 0
    ip link set br0 up
    """)
    for address in [PREFIX + "1", *NODES]:
        sh("ip address add %s/24 dev br0" % address)
    sh("""
    ip netns add client
    ip link add client type veth peer name eth0 netns client
    ip link set client master br0 up
    ip -n client address add %s/24 dev eth0
    ip -n client link set eth0 up
    cc -O2 -Wall -o /run/tap %s/tap.c
    """ % (CLIENT, HERE))


class Talker:
    """A process that answers each line with one."""

    def __init__(self, argv, log=None):
        stderr = open(log, "a", encoding="utf-8") if log else None
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                                        universal_newlines=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def end(self):
        self.process.kill()
        self.process.wait()


class Vm:
    def __init__(self, number, suite, more="", without_lbctl=None, extra=""):
        """`without_lbctl`: the text of another keepalived.conf, which is all there is beside HAProxy."""
        self.number, self.suite, self.more, self.extra = number, suite, more, extra
        self.ip, self.mac = "%s%d" % (PREFIX, 20 + number), "52:54:00:aa:bb:%02x" % number
        self.host, self.guest = "host%d" % number, "guest%d" % number
        self.port = "port%d" % number
        self.root = pathlib.Path("/run/vms/%d" % number)
        self.log = "/run/vms/%d.log" % number
        self.without_lbctl = without_lbctl
        self.frozen = []

    def build(self):
        """Cards, root and files; nothing runs yet."""
        sh("""
        ip netns add {0.host}
        ip netns add {0.guest}
        ip link add {0.port} type veth peer name eno1 netns {0.host}
        ip link set {0.port} master br0 up
        ip -n {0.host} link set eno1 up
        ip -n {0.host} link add link eno1 name mvt0 address {0.mac} type macvtap mode bridge
        ip -n {0.host} link set mvt0 up
        ip -n {0.guest} link set lo up
        ip -n {0.guest} tuntap add eth0 mode tap
        ip -n {0.guest} link set eth0 address {0.mac}
        """.format(self))
        if self.without_lbctl:
            # What libvirt's trustGuestRxFilters gives; without it multicast does not reach a guest.
            sh("ip -n %s link set mvt0 allmulticast on" % self.host)
        numbers = sh("ip netns exec %s sh -c 'cat /sys/class/net/mvt0/tap*/dev'" % self.host).strip().split(":")
        device = "/run/tap%d" % self.number
        sh("mknod %s c %s %s" % (device, *numbers))
        self.tap = subprocess.Popen(["ip", "netns", "exec", self.host, "/run/tap", device, "/run/netns/" + self.guest, "eth0"],
                                    stdout=subprocess.PIPE)
        assert self.tap.stdout.readline() == b"ready\n"
        sh("ip -n %s link set eth0 up" % self.guest)
        lower = sh("%s/roots %s" % (HERE, self.suite)).strip()
        for folder in ("upper", "work"):
            os.makedirs("/run/vms/%d.%s" % (self.number, folder))
        self.root.mkdir()
        sh("mount -t overlay overlay -o lowerdir=%s,upperdir=/run/vms/%d.upper,workdir=/run/vms/%d.work %s"
           % (lower, self.number, self.number, self.root))
        for path, (text, mode) in self.files().items():
            place = self.root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
            place.chmod(mode)
        shutil.copy(HERE / "init.py", self.root / "init.py")

    def files(self):
        work = pathlib.Path("/run/vms/%d.config" % self.number)
        work.mkdir()
        nodes = ", ".join('{ name = "pg-%s", address = "%s" }' % (n.rpartition(".")[2], n) for n in NODES)
        peer = "%s%d" % (PREFIX, 23 - self.number)
        text = CONFIG % dict(number=self.number, ip=self.ip, mac=self.mac, version=VERSIONS[self.suite], nodes=nodes, vip=VIP,
                             peer=peer, more=self.more)
        if self.without_lbctl:
            text = text.partition("[virtual_ip]")[0]
        (work / "lbctl.toml").write_text(text + self.extra, encoding="utf-8")
        lbctl = os.environ.get("LBCTL", str(ROOT / "target/debug/lbctl"))
        subprocess.run([lbctl, "-c", work / "lbctl.toml", "render", "--show-secrets", "--out", work / "files"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        files = files_of(work / "files")
        if self.without_lbctl:
            files["/etc/keepalived/keepalived.conf"] = (self.without_lbctl, 0o644)
        return files

    def boot(self, address=True):
        """Everything starts at once, as at a boot."""
        if address:
            self.give_address()
        root = self.root
        inner = """
        set -e
        mount -t proc proc {0}/proc
        mount -t sysfs sysfs {0}/sys
        mount -t tmpfs tmpfs {0}/run
        mount -t tmpfs tmpfs {0}/dev
        mkdir -p {0}/run/haproxy {0}/dev/shm
        for d in null zero urandom; do touch {0}/dev/$d; mount --bind /dev/$d {0}/dev/$d; done
        exec chroot {0} /usr/bin/python3 -B /init.py
        """.format(root)
        argv = ["ip", "netns", "exec", self.guest, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inner]
        self.init = Talker(argv, self.log)
        self.ask("run status")
        for unit in UNITS:
            if not (self.without_lbctl and unit.startswith("lbctl")):
                self.ask("start " + unit)

    def give_address(self):
        sh("ip -n %s address replace %s/24 dev eth0" % (self.guest, self.ip))

    def ask(self, line):
        answer = json.loads(self.init.ask(line))
        if "error" in answer:
            raise AssertionError("%s: %s" % (line, answer["error"]))
        return answer

    def run(self, word):
        """lbctl-guest's answer."""
        return json.loads(self.ask("run " + word)["out"])

    def halt(self):
        """Its power is cut."""
        self.thaw()
        self.init.end()
        self.tap.kill()
        self.tap.wait()
        sh("umount -l %s; ip netns del %s; ip netns del %s; ip link del %s 2>/dev/null || true; rm -rf /run/tap%d /run/vms/%d*"
           % (self.root, self.host, self.guest, self.port, self.number, self.number))

    def cut_power(self):
        """Its host is dead: nothing of it runs any more."""
        self.cut_off()
        self.init.end()

    def give_power(self, address=True):
        """It boots, with nothing of before but its disk."""
        for card in ("eth0", "lo"):
            sh("ip -n %s address flush dev %s" % (self.guest, card))
        for card in ("all", "eth0"):
            sh("ip netns exec %s sh -c 'echo 0 > /proc/sys/net/ipv4/conf/%s/arp_ignore'" % (self.guest, card))
        self.reconnect()
        self.boot(address)

    def holds(self):
        return VIP in sh("ip -n %s -4 -o address show dev eth0" % self.guest)

    def weight(self, number):
        """As another program would write it."""
        self.enter_root("echo %d > /run/w && mv /run/w /run/lbctl/vip-weight" % number)

    def enter_root(self, command):
        pid = self.inside()[0]
        return sh("nsenter --target %d --mount --net --pid chroot %s sh -c '%s'" % (pid, self.root, command))

    def under_run(self, name):
        """What is there in the guest, as a path here."""
        return pathlib.Path("/proc/%d/root/run/%s" % (self.inside()[0], name))

    def state(self):
        """As lbctl-vip.service saw it last."""
        return json.loads(self.under_run("lbctl/vip.json").read_text())

    def inside(self):
        """The processes of the guest, the first one first."""
        mine = os.readlink("/proc/%d/ns/net" % self.init.process.pid)
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    if os.readlink("/proc/%s/ns/net" % name) == mine and "init.py" not in cmdline(name):
                        found.append(int(name))
        first = [p for p in self.all_pids() if "init.py" in cmdline(p) and "unshare" not in cmdline(p)]
        return first + [p for p in found if p not in first]

    def all_pids(self):
        mine = os.readlink("/proc/%d/ns/net" % self.init.process.pid)
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    if os.readlink("/proc/%s/ns/net" % name) == mine:
                        found.append(int(name))
        return sorted(found)

    def cut_off(self):
        """Its host is dead, or its cable out: silent, and the carrier stays."""
        sh("bridge link set dev %s state 0" % self.port)

    def reconnect(self):
        sh("bridge link set dev %s state 3" % self.port)

    def freeze(self):
        """The kernel of a VM that is paused answers nothing."""
        self.cut_off()
        self.frozen = self.all_pids()
        for pid in self.frozen:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in self.frozen:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)
        if self.frozen:
            self.reconnect()
        self.frozen = []


def cmdline(pid):
    with open("/proc/%s/cmdline" % pid, "rb") as f:
        return f.read().replace(b"\0", b" ").decode()


class Machine:
    """What else may have kept a bound in fractions of a second from being reached. The lock of the kernel's network
    configuration, which all namespaces share: while somebody else's network is taken down it may be held for seconds, and no
    VM's address, rules or service goes on. And processors that others want."""

    # Seconds; on a busy machine it takes some hundredths. And the share of the time in which something waits for a processor.
    LONG, EVERY = 0.3, 0.05
    BUSY = 0.5

    def __init__(self):
        self.stood_still, self.rounds = [], 0
        self.began, self.waited = time.monotonic(), self.waits()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        lo = struct.pack("16sh14x", b"lo", 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            while True:
                began = time.monotonic()
                # SIOCGIFFLAGS and SIOCSIFFLAGS (netdevice(7)): nothing is changed by it.
                fcntl.ioctl(s, 0x8914, fcntl.ioctl(s, 0x8913, lo))
                time.sleep(self.EVERY)
                took = time.monotonic() - began - self.EVERY
                if took > self.LONG:
                    self.stood_still.append((began, round(took, 1)))
                self.rounds += 1

    @staticmethod
    def waits():
        """Seconds in which something waited for a processor (the kernel's Documentation/accounting/psi.rst)."""
        with contextlib.suppress(OSError), open("/proc/pressure/cpu", encoding="utf-8") as f:
            return int(f.readline().rpartition("=")[2]) / 1e6
        return 0.0

    def begin(self):
        self.began, self.waited = time.monotonic(), self.waits()

    def excuse(self):
        """In words, of the time since `begin`, or None; waits until the machine goes on."""
        seen = self.rounds
        while self.rounds < seen + 2:
            time.sleep(self.EVERY)
        longest = max((took for began, took in self.stood_still if began + took >= self.began), default=0.0)
        share = (self.waits() - self.waited) / (time.monotonic() - self.began)
        if longest:
            return "the machine stood still for %.1f s" % longest
        return "others wanted the processors, for %d %% of the time" % (100 * share) if share > self.BUSY else None


class Holders:
    """When which VM got the address on its card and lost it, as the kernel reports it."""

    def __init__(self, vms):
        self.events, self.lock, self.heard = [], threading.Lock(), set()
        self.monitors = [subprocess.Popen(["ip", "-n", vm.guest, "-4", "-o", "monitor", "address"], stdout=subprocess.PIPE,
                                          stderr=subprocess.DEVNULL, universal_newlines=True) for vm in vms]
        for vm, monitor in zip(vms, self.monitors, strict=True):
            threading.Thread(target=self.follow, args=(vm.number, monitor), daemon=True).start()
        for vm in vms:
            # Until its monitor tells what changes.
            while vm.number not in self.heard:
                sh("ip -n {0} address add 127.0.0.9/32 dev lo; ip -n {0} address delete 127.0.0.9/32 dev lo".format(vm.guest))
                time.sleep(0.05)
        self.first = {vm.number for vm in vms if vm.holds()}

    def follow(self, number, monitor):
        for line in monitor.stdout:
            self.heard.add(number)
            if "eth0" in line and " %s/" % VIP in line:
                with self.lock:
                    self.events.append((time.monotonic(), number, not line.startswith("Deleted")))

    def spans(self, begin, end, without):
        """[begin, end, holders], without those VMs, which are not on the segment."""
        with self.lock:
            events = list(self.events)
        holders, found = set(self.first), [[begin, begin, None]]
        for when, number, has in [*events, (end, None, False)]:
            if when > begin:
                here = frozenset(holders - set(without))
                if here != found[-1][2]:
                    found.append([found[-1][1], 0.0, here])
                found[-1][1] = min(when, end)
            if when >= end:
                break
            (holders.add if has else holders.discard)(number)
        return found[1:]

    def between(self, begin, end, without=()):
        """Seconds without a holder and with two at the longest, whether there is one at the end and since when, and how often
        it was another one."""
        spans = self.spans(begin, end, without)
        longest = lambda fits: round(max((stop - start for start, stop, here in spans if fits(len(here))), default=0.0), 3)
        single = [here for _, _, here in spans if len(here) == 1]
        return {"none": longest(lambda many: many == 0), "two": longest(lambda many: many > 1),
                "settled": round(spans[-1][0] - begin, 3) if len(spans[-1][2]) == 1 else None,
                "moves": sum(one != other for one, other in zip(single, single[1:], strict=False))}

    def end(self):
        for monitor in self.monitors:
            monitor.kill()
            monitor.wait()


class Place:
    def __init__(self, suite="bookworm", more="", without_lbctl=None, sessions=20):
        self.sessions = sessions
        self.nodes = Talker(["/usr/bin/python3", "-B", str(HERE / "nodes.py"), *NODES])
        assert self.nodes.process.stdout.readline() == "ready\n"
        self.vms = [Vm(number, suite, more, without_lbctl) for number in (1, 2)]
        for vm in self.vms:
            vm.build()
            vm.boot()
        self.until(lambda: self.holder() and self.is_calm(), 30, "one VM has the address and both are ready")
        self.client = Talker(["ip", "netns", "exec", "client", "/usr/bin/python3", "-B", str(HERE / "client.py"), VIP, "5432"])

    def down(self):
        self.client.end()
        for vm in self.vms:
            vm.halt()
        self.nodes.end()

    @staticmethod
    def until(true, seconds, what):
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError("not within %s s: %s" % (seconds, what))
            time.sleep(0.02)

    def holder(self):
        found = [vm for vm in self.vms if vm.holds()]
        return found[0] if len(found) == 1 else None

    def other(self):
        holder = self.holder()
        return next(vm for vm in self.vms if vm is not holder)

    def is_calm(self):
        """Both are ready and know each other."""
        if self.vms[0].without_lbctl:
            return True
        with contextlib.suppress(OSError, ValueError, KeyError):
            states = [vm.state() for vm in self.vms]
            return all(s["weight"] == 0 and s["peers"][0]["alive"] and s["peers"][0]["weight"] == 0 for s in states)
        return False

    def asked_by_arp(self, times=3):
        """The MAC addresses that a machine gets which does not know the address yet."""
        return sh("ip netns exec client /usr/bin/python3 -B %s/arp.py %s %d" % (HERE, VIP, times)).split()

    # ---- what the client saw

    def begin(self):
        # VMs of others' settings take that long to agree, and cut sessions while they do.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.client.ask("close")
            self.client.ask("sessions %d" % self.sessions)
            again = time.monotonic() + 10
            while time.monotonic() < again:
                if json.loads(self.client.ask("report"))["open"] == self.sessions:
                    return
                time.sleep(0.1)
        raise AssertionError("the sessions do not open")

    def trial(self, event, watch=4.0, before=None):
        """What an event costs: the gap of new connections, and sessions cut."""
        self.begin()
        if before:
            before()
        self.client.ask("report")
        at = time.monotonic()
        event()
        time.sleep(max(0.0, watch - (time.monotonic() - at)))
        report = json.loads(self.client.ask("report"))
        return Trial(at, report, self.sessions, [vm.number for vm in self.vms if vm.holds()])


SLOW = 0.25


class Trial:
    def __init__(self, at, report, sessions, holders):
        self.holders = holders
        self.cut = len(report["cut"])
        self.sessions = sessions
        self.open = report["open"]
        self.cut_why = sorted({why for _, why in report["cut"]})
        # Seconds after the event until the first and the last session was cut.
        self.cut_after = [round(t - at, 3) for t, _ in report["cut"]]
        # Of those that wait for less it is not known yet.
        waiting = [[began, waits, None] for began, waits in report["waiting"] if waits > SLOW]
        connections = sorted([*report["connections"], *waiting])
        connections = [(began - at, took, why) for began, took, why in connections if began >= at - 0.5]
        bad = [why is not None or took > SLOW for _, took, why in connections]
        self.connections = len(connections)
        self.failed = sum(why is not None for _, _, why in connections)
        self.reasons = sorted({why for _, _, why in connections if why})
        self.slowest = max((took for _, took, why in connections if not why), default=0.0)
        self.gap = 0.0
        if any(bad):
            first = bad.index(True)
            for n in range(first, len(bad)):
                if not any(bad[n:n + 10]) and len(bad) >= n + 10:
                    self.gap = connections[n][0] - connections[first][0]
                    break
            else:
                self.gap = float("inf")

    def __str__(self):
        return "gap %.3f s, %d failed %s, slowest %.3f s, cut %d/%d %s, holders %s" % (
            self.gap, self.failed, self.reasons, self.slowest, self.cut, self.sessions,
            (self.cut_after[0], self.cut_after[-1], self.cut_why) if self.cut_after else "", self.holders)
