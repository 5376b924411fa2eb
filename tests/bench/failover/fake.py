"""One load balancer before fake nodes, through everything that can be timed there. Runs in namespaces of its own.

Reads a job (JSON) and prints what was found (JSON); every figure is in seconds, `None` where it never came within the time
it was watched. The three contenders run at the same time, each with nodes of its own, so that none waits for another.
"""
import json
import os
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "dataplane"))
from cluster import NODES, ONE, THREE, TWO, Cluster, server_context
from guest import Guest, Haproxy, enter, eventually, install
from load import Hammer, Session, answering

# How long a flip is watched at most: the sample gives a node up after three checks, each 3 s apart.
LONGEST = 14.0
# After it the module, which cuts no session, is taken to have settled.
SETTLED = 2.5


class Bench:
    def __init__(self, job, cluster):
        self.job, self.cluster = job, cluster
        self.haproxy = Guest(job["script"], job["nofile"]) if job["name"] == "lbctl" else Haproxy(job["nofile"])
        self.random = random.Random(job["name"])
        self.primary = ONE

    def next_primary(self):
        self.primary = {ONE: TWO, TWO: THREE, THREE: ONE}[self.primary]
        return self.primary

    def ready(self):
        eventually(lambda: answering() == self.primary, 20)
        self.quiet()

    def quiet(self):
        """Until the other nodes are certainly not used, and the checks have their slow rhythm."""
        last_wrong = time.monotonic()
        while time.monotonic() - last_wrong < 0.8 + self.random.random():
            if answering() != self.primary:
                last_wrong = time.monotonic()
            time.sleep(0.02)

    # ---- what is measured

    def flip(self, watch):
        """Atomic: in one moment the old primary answers 503 and the new one 200."""
        sessions = [Session() for _ in range(3)]
        old, new = self.primary, self.next_primary()
        with Hammer() as hammer:
            time.sleep(self.random.random())
            at = time.monotonic()
            self.cluster.make_primary(new)
            while time.monotonic() - at < watch:
                time.sleep(0.05)
                cut = all(s.cut for s in sessions)
                if cut and any(who == new for _, who in hammer.seen) and time.monotonic() - at > 1.5:
                    break
        seen = hammer.since(at)
        found = {"new_used": next((t for t, who in seen if who == new), None),
                 "old_used": max((t for t, who in seen if who == old), default=0.0),
                 "cut": None if not all(s.cut for s in sessions) else max(s.cut for s in sessions) - at,
                 "watched": watch}
        for session in sessions:
            session.close()
        return found

    def frozen(self):
        """The primary's processes stand still: a session is open on it."""
        session = Session()
        time.sleep(self.random.random())
        at = time.monotonic()
        self.cluster.frozen = {self.primary}
        while session.cut is None and time.monotonic() - at < self.job["watch_frozen"]:
            time.sleep(0.02)
        cut = session.cut and session.cut - at
        self.cluster.frozen = set()
        session.close()
        self.ready()
        return {"cut": cut, "watched": self.job["watch_frozen"]}

    def start(self, moved):
        """A start, after the primary has moved meanwhile or not."""
        if isinstance(self.haproxy, Guest) and self.haproxy.process:
            self.haproxy.stop_saved()
        self.haproxy.stop()
        if moved:
            self.cluster.make_primary(self.next_primary())
        with Hammer() as hammer:
            self.haproxy.start()
            self.ready()
        answers = [who for _, who in hammer.seen]
        return {"wrong": sum(who not in (None, self.primary) for who in answers),
                "answered": len(answers) - answers.count(None)}

    def reload(self):
        sessions = [Session(busy=True) for _ in range(5)]
        with Hammer() as hammer:
            time.sleep(0.3)
            self.haproxy.reload()
            time.sleep(2)
        answers = [who for _, who in hammer.seen]
        found = {"failed": answers.count(None), "wrong": sum(who not in (None, self.primary) for who in answers),
                 "cut": sum(s.cut is not None for s in sessions), "of": len(answers)}
        for session in sessions:
            session.close()
        return found

    def split(self):
        """Two nodes answer 200 for some seconds, then the first yields."""
        old, new = self.primary, self.next_primary()
        with Hammer() as hammer:
            at = time.monotonic()
            self.cluster.make_primary(old, new)
            time.sleep(4 + self.random.random())
            yielded = time.monotonic()
            self.cluster.make_primary(new)
            eventually(lambda: answering() == new, 20)
        during = [(t, who) for t, who in hammer.since(at) if t < yielded - at]
        self.quiet()
        return {"accepted": sum(who is not None for t, who in during if t > 1), "of": sum(t > 1 for t, _ in during),
                "closed_after": max((t for t, who in during if who), default=0.0),
                "open_after": next((t for t, who in hammer.since(yielded) if who == new), None)}

    def outage(self, how):
        """DNS fails for some time: when was the primary first not reached, and for how long in all?"""
        with Hammer(pause=0.05) as hammer:
            time.sleep(0.2)
            at = time.monotonic()
            self.cluster.dns = how
            time.sleep(self.job["outage"])
            self.cluster.dns = "good"
            over = time.monotonic()
        failed = [t for t, who in hammer.since(at) if who != self.primary]
        self.ready()
        return {"seconds": over - at, "first_effect": failed[0] if failed else None, "failed": len(failed),
                "of": len(hammer.since(at))}

    def all(self):
        job, found = self.job, {}
        # From the second start on there is a state of before.
        found["start"] = [self.start(moved=number % 2 == 1) for number in range(job["starts"])]
        found["flip"] = []
        for number in range(job["flips"]):
            found["flip"].append(self.flip(LONGEST if number < 2 or job["cuts"] else SETTLED))
            self.quiet()
        found["reload"] = []
        for _ in range(job["reloads"]):
            found["reload"].append(self.reload())
            self.quiet()
        found["split"] = [self.split() for _ in range(job["splits"])]
        found["frozen"] = [self.frozen() for _ in range(job["freezes"])]
        found["dns"] = {how: self.outage(how) for how in ("nxdomain", "silent", "omits")}
        self.haproxy.stop()
        return found


def end_with_starter():
    """Its end closes this process's standard input; this process's end is the end of everything in its namespaces."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def main(path):
    threading.Thread(target=end_with_starter, daemon=True).start()
    job = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    # Before `enter`, which hides the lab's folder in /run.
    context = server_context(job["certificates"])
    enter(job["root"])
    install(job["files"])
    bench = Bench(job, Cluster(context))
    assert list(NODES) == job["nodes"]
    json.dump(bench.all(), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
