"""What a guest's systemd does for the units that share an address, as the rendered files say it: no more of systemd's
language than they use. Runs in the guest's root as its first process; each line on standard input is a command: `start UNIT`,
`stop UNIT`, `reload UNIT`, `kill UNIT SIGNAL`, `run WORD` (lbctl-guest), each answered by a line of JSON."""
import glob
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

FOLDERS = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
GUEST = "/usr/local/lib/lbctl/lbctl-guest"
# kill.py stands in for it where it is.
KILLED = "/kill.py"


def program(command):
    return [KILLED, *command[1:]] if command[0] == GUEST and os.path.exists(KILLED) else command


def settings_of(unit):
    """Each setting with its values, an empty one taking back those before it."""
    main = next(f"{folder}/{unit}" for folder in FOLDERS if os.path.exists(f"{folder}/{unit}"))
    found = {}
    for path in [main, *sorted(glob.glob(f"/etc/systemd/system/{unit}.d/*.conf"))]:
        with open(path, encoding="utf-8") as f:
            for line in f.read().replace("\\\n", " ").split("\n"):
                name, equals, value = line.strip().partition("=")
                if equals and not name.startswith("#"):
                    if value:
                        found.setdefault(name, []).append(value)
                    else:
                        found[name] = []
    return found


class Unit:
    def __init__(self, name):
        self.name, self.process, self.wanted = name, None, False
        self.lock = threading.Lock()

    def command(self, line):
        options, line = re.match(r"([-+@!]*)(.*)", line).groups()
        line = line.replace("$MAINPID", str(self.process.pid if self.process else 0)).replace("$DAEMON_ARGS", "")
        # A dollar of the command's own (systemd.service(5)).
        line = line.replace("$$", "$")
        return options, shlex.split(line)

    def each(self, setting):
        # As systemd.exec(5) has it.
        more = {"MAINPID": str(self.process.pid)} if setting == "ExecReload" and self.process else {}
        for line in settings_of(self.name).get(setting, []):
            options, command = self.command(line)
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False,
                                  env={**os.environ, **more})
            if done.returncode and "-" not in options:
                return False
        return True

    def main(self):
        """One life after the other, until it is stopped."""
        while self.wanted:
            if self.each("ExecStartPre"):
                if not self.wanted:
                    break
                (line,) = settings_of(self.name)["ExecStart"]
                command = program(self.command(line)[1])
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr)
                self.process.wait()
                end_children(self.name)
                time.sleep(0.05)
                reap(*(unit.process.pid for unit in UNITS.values() if unit.process))
                self.each("ExecStopPost")
            if settings_of(self.name).get("Restart", ["no"])[-1] == "no":
                self.wanted = False
            pause = settings_of(self.name).get("RestartSec", ["0.1"])[-1]
            seconds = float(pause[:-2]) / 1000 if pause.endswith("ms") else float(pause)
            deadline = time.monotonic() + seconds
            while self.wanted and time.monotonic() < deadline:
                time.sleep(0.01)

    def start(self):
        if not self.wanted:
            self.wanted = True
            self.thread = threading.Thread(target=self.main, daemon=True)
            self.thread.start()

    def stop(self):
        self.wanted = False
        if self.process and self.process.poll() is None:
            self.process.terminate()
        self.thread.join(20)

    def reload(self):
        self.each("ExecReload")

def end_children(unit):
    """A unit's control group ends with its main process."""
    names = {"haproxy.service": b"haproxy", "keepalived.service": b"keepalived"}
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            with open(f"{folder}/comm", "rb") as f:
                if f.read().strip() == names.get(unit):
                    os.kill(int(folder.rpartition("/")[2]), signal.SIGKILL)
        except OSError:
            pass

def reap(*mine):
    """Ends those whose parents have ended. A process that nobody has waited for counts as one that runs."""
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            with open(f"{folder}/stat", "rb") as f:
                state, parent = f.read().rpartition(b")")[2].split()[:2]
            pid = int(folder.rpartition("/")[2])
            if state == b"Z" and parent == b"1" and pid not in mine:
                os.waitpid(pid, os.WNOHANG)
        except OSError:
            pass

def pids(unit):
    """Of all its processes, the main one first."""
    name = unit.removesuffix(".service").encode()
    found = []
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            with open(f"{folder}/comm", "rb") as f:
                if f.read().strip() == name:
                    found.append(int(folder.rpartition("/")[2]))
        except OSError:
            pass
    return sorted(found)

UNITS = {}

def main():
    for line in sys.stdin:
        word, *rest = line.split()
        answer = {}
        try:
            if word == "run":
                done = subprocess.run(program([GUEST, *rest]), stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      universal_newlines=True, check=False)
                answer = {"code": done.returncode, "out": done.stdout, "err": done.stderr}
            elif word == "kill":
                for pid in pids(rest[0]):
                    os.kill(pid, int(rest[1]))
            else:
                getattr(UNITS.setdefault(rest[0], Unit(rest[0])), word)()
        except Exception as problem:
            answer = {"error": repr(problem)}
        print(json.dumps(answer), flush=True)

if __name__ == "__main__":
    # What is orphaned here is nobody's else.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    main()
