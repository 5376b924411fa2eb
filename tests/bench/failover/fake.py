"""One load balancer before fake nodes, through everything that can be timed there. Runs in namespaces of its own.

Reads a job (JSON) and prints what was found (JSON); every figure is in seconds, `None` where it never came within the time
it was watched. The contenders run at the same time, each with nodes of its own, so that none waits for another. `part` of the
job names the method that is run: timed, dns, false_dns or strangers.
"""
import json
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "dataplane"))
from cluster import NODES, ONE, THREE, TWO, Cluster
from guest import Guest, Haproxy, enter, eventually, install
from load import Hammer, Session, Stream, answering
from place import end_with_starter
from protocols import server_context
from strangers import Strangers

# How long a flip is watched at most: the sample gives a node up after three checks, each 3 s apart.
LONGEST = 14.0
# After it the module, which cuts no session, is taken to have settled.
SETTLED = 2.5


class Bench(Strangers):
    def __init__(self, job, cluster):
        self.job, self.cluster = job, cluster
        self.haproxy = Guest(job["script"], job["nofile"]) if job["state"] else Haproxy(job["nofile"])
        self.random = random.Random(job["name"])
        self.primary = ONE

    def next_primary(self):
        self.primary = {ONE: TWO, TWO: THREE, THREE: ONE}[self.primary]
        return self.primary

    def ready(self):
        eventually(lambda: answering(15) == self.primary, 30)
        self.quiet()

    def quiet(self):
        """Until the other nodes are certainly not used, and the checks have their slow rhythm."""
        last_wrong = time.monotonic()
        while time.monotonic() - last_wrong < 0.8 + self.random.random():
            if answering(15) != self.primary:
                last_wrong = time.monotonic()
            time.sleep(0.02)

    # ---- what is measured

    def flip(self, watch):
        """Atomic: in one moment the old primary answers 503 and the new one 200."""
        sessions = [Session() for _ in range(3)]
        old, new = self.primary, self.next_primary()
        with Stream() as stream:
            time.sleep(self.random.random())
            at = time.monotonic()
            self.cluster.make_primary(new)
            while time.monotonic() - at < watch:
                time.sleep(0.05)
                cut = all(s.cut for s in sessions)
                if cut and any(who == new for _, _, who in stream.seen) and time.monotonic() - at > 1.5:
                    break
        seen = stream.since(at)
        # Whoever begins to connect after this moment reaches the new primary, at once or after waiting.
        settled = max((began for began, _, who in seen if who != new), default=0.0)
        found = {"new_begun": next((began for began, _, who in seen if who == new and began >= settled), None),
                 "new_used": min((ended for _, ended, who in seen if who == new), default=None),
                 "old_used": max((ended for _, ended, who in seen if who == old), default=0.0),
                 "cut": None if not all(s.cut for s in sessions) else max(s.cut for s in sessions) - at,
                 "failed": sum(not who for _, _, who in seen), "of": len(seen), "watched": watch}
        for session in sessions:
            session.close()
        return found

    def frozen(self):
        """The primary's processes stand still, and after some seconds another node is promoted: a session is open on the
        first one. Until then a cut would help nobody, and is told as one before."""
        session = Session()
        time.sleep(self.random.random())
        self.cluster.frozen = {self.primary}
        time.sleep(4 + self.random.random())
        early = session.cut is not None
        at = time.monotonic()
        self.cluster.make_primary(self.next_primary())
        while session.cut is None and time.monotonic() - at < self.job["watch_frozen"]:
            time.sleep(0.02)
        cut = session.cut and max(0.0, session.cut - at)
        self.cluster.frozen = set()
        session.close()
        self.ready()
        return {"cut": cut, "early": early, "watched": self.job["watch_frozen"]}

    def start(self, moved):
        """A start, after the primary has moved meanwhile or not."""
        if self.job["state"] and self.haproxy.process:
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
        """Two nodes answer 200 for some seconds, first beside the primary in use, then where there was none. Then one
        yields."""
        old, new = self.primary, self.next_primary()
        phases = []
        with Stream() as stream:
            for before in (None, ()):
                if before == ():
                    self.cluster.make_primary()
                    time.sleep(1)
                at = time.monotonic()
                self.cluster.make_primary(old, new)
                time.sleep(2.5 + self.random.random())
                phases.append((at, time.monotonic()))
                self.cluster.make_primary(new)
                time.sleep(1.5)
        found = {"waited": 0, "let_through": 0, "accepted": 0, "of": 0}
        for at, yielded in phases:
            during = [(began, ended, who) for began, ended, who in stream.seen if at - 1 < began < yielded and ended > at]
            waited = [(ended, who) for began, ended, who in during if ended - began > 0.2]
            found["waited"] += len(waited)
            found["let_through"] += sum(bool(who) and ended < yielded for ended, who in waited)
            later = [(ended, who) for began, ended, who in during if began > at + 1]
            found["accepted"] += sum(bool(who) and ended < yielded for ended, who in later)
            found["of"] += len(later)
        self.ready()
        return found

    def outage(self, how, seconds):
        """DNS fails for some time: when was the primary first not reached, and for how long in all?"""
        sessions = [Session(busy=True) for _ in range(5)]
        with Stream(pause=0.05) as stream:
            time.sleep(0.2)
            at = time.monotonic()
            self.cluster.dns = how
            time.sleep(seconds)
            self.cluster.dns = "good"
            over = time.monotonic()
            time.sleep(1)
        seen = stream.since(at)
        failed = [began for began, _, who in seen if who != self.primary]
        found = {"seconds": over - at, "first_effect": failed[0] if failed else None, "failed": len(failed), "of": len(seen),
                 "cut": sum(s.cut is not None for s in sessions), "sessions": len(sessions)}
        for session in sessions:
            session.close()
        eventually(lambda: answering(15) == self.primary, 120)
        self.quiet()
        return found

    def timed(self):
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
        return found

    def dns(self):
        self.haproxy.start()
        self.ready()
        return {"dns": {how: self.outage(how, self.job["outage"]) for how in ("nxdomain", "silent", "omits")}}

    def false_dns(self):
        self.haproxy.start()
        self.ready()
        return {"false_dns": self.outage("false", self.job["false_dns"])}

    def strangers(self):
        self.haproxy.start()
        self.ready()
        return self.what_others_do()


def main(path):
    threading.Thread(target=end_with_starter, daemon=True).start()
    job = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    # Before `enter`, which hides the lab's folder in /run.
    context = server_context(job["certificates"])
    enter(job["root"])
    install(job["files"])
    bench = Bench(job, Cluster(context))
    assert list(NODES) == job["nodes"]
    found = getattr(bench, job["part"])()
    bench.haproxy.stop()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
