"""A load balancer with a network and paths of its own, on the lab's segment, worked by lines on its standard input.

One command a line (start, stop, reload, memory, cpu), one line of JSON in answer. The end of its input, which also comes when
the bench is killed, is the end of everything in here.
"""
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "dataplane"))
from guest import Guest, Haproxy, enter, install


class Place:
    """The bench's side."""

    def __init__(self, job, switch, address):
        """`switch`: the namespace and the name of the bridge to be plugged into. `job`: as fake.py's."""
        self.name, self.address = job["name"], address
        self.process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child",
             "/usr/bin/python3", "-B", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True)
        self.ask(json.dumps(job))
        # Named by its process, so that what a killed bench left is not in the way.
        self.plug(switch, "lb%d" % self.process.pid)

    def plug(self, switch, port):
        namespace, bridge = switch
        inside = ["nsenter", "--net", "--target", str(self.process.pid), "ip"]
        for argv in (["ip", "-n", namespace, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns",
                      str(self.process.pid)],
                     ["ip", "-n", namespace, "link", "set", port, "master", bridge, "up"],
                     [*inside, "link", "set", "eth0", "up"],
                     [*inside, "addr", "add", self.address + "/24", "dev", "eth0"]):
            subprocess.run(argv, check=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the place of %s ended" % self.name)
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def memory(pid):
    """MiB of the worker: its own and its share of what others use too (PSS), and all that it has resident (RSS)."""
    found = {}
    for line in pathlib.Path("/proc/%d/smaps_rollup" % pid).read_text(encoding="ascii").splitlines():
        word, _, rest = line.partition(":")
        if word in ("Pss", "Rss"):
            found[word.lower()] = int(rest.split()[0]) / 1024
    return found


def cpu(pid):
    """Seconds that the worker has computed since its start."""
    words = pathlib.Path("/proc/%d/stat" % pid).read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")


def end_with_starter():
    """Its end closes this process's standard input; this process's end is the end of everything in its namespaces."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def serve():
    # Answers have the pipe for themselves: what a program says goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    enter(job["root"])
    install(job["files"])
    haproxy = Guest(job["script"], job["nofile"]) if job["state"] else Haproxy(job["nofile"])
    commands = {"start": haproxy.start, "stop": haproxy.stop, "reload": haproxy.reload,
                "memory": lambda: memory(haproxy.worker()), "cpu": lambda: cpu(haproxy.worker())}
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(commands[line.strip()]() or {}), file=answers, flush=True)


if __name__ == "__main__":
    serve()
