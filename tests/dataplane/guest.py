"""A guest's paths and its HAProxy, in namespaces private to the process: nothing of the machine is touched.

`enter` must be the first thing a process does that `unshare --net --mount --pid --fork --kill-child` has started. What is
measured or expected does not belong here: that is for tests/render/live.py and tests/bench/failover.
"""
import os
import resource
import socket
import subprocess
import time

CONFIG = "/etc/haproxy/haproxy.cfg"
LUA = "/etc/haproxy/lbctl.lua"
MASTER = "/run/haproxy/master.sock"
LOG = "/run/haproxy.log"


def sh(command):
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)


def enter(root):
    """`root` is one that tests/render/haproxy-versions made: its HAProxy becomes this process's `haproxy`."""
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
    # A machine that runs the tests may have switched cloud-init off for itself.
    rm -f /etc/cloud/cloud-init.disabled
    """)
    for d in ("etc/haproxy", "var/lib/haproxy", "run/haproxy"):
        sh("mount --bind /%s '%s/%s'" % (d, root, d))
    install({"/run/bin/haproxy": '#!/bin/sh\nexec chroot "%s" /usr/sbin/haproxy "$@"\n' % root}, 0o755)
    os.environ["PATH"] = "/run/bin:" + os.environ["PATH"]


def install(files, mode=0o600):
    for path, text in files.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            os.fchmod(f.fileno(), mode)
            f.write(text)


class Haproxy:
    """HAProxy under a master, started and reloaded the plain way: what is on disk, and no memory of what was."""

    def __init__(self, nofile=None):
        self.nofile = nofile
        self.process = None

    def start(self):
        with open(LOG, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(["haproxy", "-W", "-db", "-f", CONFIG, "-S", MASTER + ",mode,600"],
                                            stdout=log, stderr=log, preexec_fn=self.limit)

    def limit(self):
        if self.nofile:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.nofile, self.nofile))

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def reload(self):
        """Returns when the master has answered, which from 2.7 on it does when the new worker is ready."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(MASTER)
            s.sendall(b"reload\n")
            while s.recv(4096):
                pass

    def reload_at_once(self):
        self.reload()

    def worker(self):
        """The newest worker's process id, as seen from here: /proc must be this namespace's own."""
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid), encoding="ascii") as f:
            return max(map(int, f.read().split()))


AT_ONCE = "import sys; sys.path.insert(0, %r); from lbctl_guest import haproxy; haproxy.reload(0)"


class Guest(Haproxy):
    """HAProxy as lbctl's guest starts, stops and reloads it: by its script, which keeps the servers' addresses."""

    def __init__(self, script, nofile=None):
        super().__init__(nofile)
        self.script = script

    def run(self, *args):
        done = subprocess.run(["/usr/bin/python3", "-B", self.script, *args], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    def must(self, *args):
        code, _, said = self.run(*args)
        if code != 0:
            raise AssertionError("%s: exit %d: %s" % (args[0], code, said))

    def start(self):
        self.must("prepare")
        super().start()

    def reload(self):
        self.must("reload")

    def reload_at_once(self):
        """Though clients wait, as where a change is put back."""
        done = subprocess.run(["/usr/bin/python3", "-B", "-c", AT_ONCE % os.path.dirname(self.script)], stderr=subprocess.PIPE,
                              universal_newlines=True, timeout=60, check=False)
        if done.returncode != 0:
            raise AssertionError("reload: " + done.stderr)

    def stop_saved(self):
        """As the unit's ExecStop: the state is kept for the next start."""
        self.must("save-state")
        self.stop()


def eventually(true, seconds=5.0):
    start = time.monotonic()
    while time.monotonic() < start + seconds:
        if true():
            return time.monotonic() - start
        time.sleep(0.01)
    raise AssertionError("not within %s s" % seconds)
