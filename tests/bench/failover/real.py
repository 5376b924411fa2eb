"""The lab's Patroni through all the load balancers at once: switchovers, a killed leader, a frozen one; then pgbench.

Every event is seen by the same cluster at the same time through each of them. Only clients that connect in a loop while the
cluster is whole have it for themselves, one load balancer after the other: PostgreSQL's part of a connect takes most of what
two cores have. Each event leaves the cluster whole for the next.
"""
import itertools
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
CLIENT = pathlib.Path(__file__).with_name("client.py")
LOOPS = pathlib.Path(__file__).with_name("loops.py")
# Patroni's settings in this bench. `before_stop` is what docs/operations.md asks for.
SETTINGS = {"ttl": 20, "loop_wait": 5, "retry_timeout": 5, "postgresql.before_stop": "/bin/sleep 1"}
FAILED = ("error", "read only")


class Cluster:
    """The lab's."""

    def __init__(self, env):
        self.env = env
        self.addresses = dict(zip(("pg1", "pg2", "pg3"), env["PG_NODES"].split(","), strict=True))
        self.namespaces = dict(zip(self.addresses, env["PG_NODE_NETNS"].split(","), strict=True))
        self.login = dict(os.environ, PGUSER=env["PG_SUPERUSER"], PGPASSWORD=env["PG_PASSWORD"], PGDATABASE="postgres",
                          PGCONNECT_TIMEOUT="5")

    def members(self):
        done = subprocess.run([self.env["PATRONICTL"], "list", "-f", "json"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=60, check=False)
        try:
            return {m["Member"]: (m["Role"], m["State"]) for m in json.loads(done.stdout)}
        except ValueError:
            return {}

    def leader(self):
        return next((name for name, (role, _) in self.members().items() if role == "Leader"), None)

    def whole(self):
        return sorted(self.members().values()) == [("Leader", "running"), ("Replica", "streaming"), ("Replica", "streaming")]

    def wait_whole(self, seconds=120):
        wait(self.whole, seconds, "the cluster to be whole")

    def configure(self):
        words = [word for key, value in SETTINGS.items() for word in ("-s", "%s=%s" % (key, value))]
        subprocess.run([self.env["PATRONICTL"], "edit-config", "lab", "--force", "--quiet", *words], check=True,
                       stdout=subprocess.DEVNULL, timeout=60)
        # Until each node's Patroni has taken it up.
        time.sleep(11)

    def restart_postgres(self, name):
        subprocess.run([self.env["PATRONICTL"], "restart", "lab", name, "--force"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=120)

    def switchover(self, leader, candidate):
        subprocess.run([self.env["PATRONICTL"], "switchover", "lab", "--leader", leader, "--candidate", candidate,
                        "--force"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120,
                       check=True)

    def processes(self, name):
        """Those of the node, and no others: they are in its namespace."""
        said = subprocess.run(["ip", "netns", "pids", self.namespaces[name]], stdout=subprocess.PIPE, check=True).stdout
        return [int(word) for word in said.split()]

    def signal(self, name, number):
        for pid in self.processes(name):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def restart(self, name):
        subprocess.run([ROOT / "tests/lab/patroni", "restart", name], check=True,
                       env=dict(os.environ, LAB_NAME=self.env["LAB_NAME"]))

    def in_client(self, *argv):
        return ["ip", "netns", "exec", self.env["CLIENT_NETNS"], *argv]

    def sql(self, text, node=None):
        address = self.addresses[node or self.leader()]
        return subprocess.run(self.in_client(self.env["PSQL"], "-h", address, "-qAtc", text), env=self.login, check=True,
                              stdout=subprocess.PIPE, universal_newlines=True, timeout=60).stdout.split()


def wait(true, seconds, what):
    limit = time.monotonic() + seconds
    while not true():
        if time.monotonic() > limit:
            raise RuntimeError("waited %s s in vain for %s" % (seconds, what))
        time.sleep(0.3)


class Clients:
    """A program of clients, at work while something happens."""

    def __init__(self, cluster, program, job):
        self.process = subprocess.Popen(cluster.in_client(cluster.env["PG_PYTHON"], "-B", program), env=cluster.login,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True)
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def __enter__(self):
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the clients did not get to work")
        time.sleep(2)
        return self

    def end(self):
        """What they saw; times are absolute."""
        said, _ = self.process.communicate(timeout=90)
        return json.loads(said)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Watch(Clients):
    """Each writes in a session of its own, through every load balancer."""

    numbers = 0

    def __init__(self, cluster, places):
        Watch.numbers += 1_000_000
        job = {"balancers": {p.name: p.address for p in places}, "nodes": cluster.addresses, "first": Watch.numbers}
        super().__init__(cluster, CLIENT, job)


class Loops(Clients):
    """Twenty connect in a loop, through every load balancer given."""

    def __init__(self, cluster, places, pause):
        super().__init__(cluster, LOOPS, {"balancers": {p.name: p.address for p in places}, "clients": 20, "pause": pause})


# ---- what happens


def looped(said, at):
    """{balancer: what became of the connects}, of the event at that moment."""
    found = {}
    for name, connects in said.items():
        failed = [(began, words) for began, _, words in connects if words not in ("primary", "replica")]
        found[name] = {
            "of": len(connects), "failed": len(failed), "failed_later": sum(began > at + 0.3 for began, _ in failed),
            "last_failed": max((began - at for began, _ in failed), default=None),
            "replica": sum(words == "replica" for _, _, words in connects),
            "longest": max(ended - began for began, ended, _ in connects),
            "words": sorted({words[:200] for _, words in failed})[:5],
        }
    return found


def switchover_looped(cluster, place):
    """Planned, with connect loops through one of them alone."""
    old = cluster.leader()
    new = next(name for name, (role, _) in cluster.members().items() if role != "Leader")
    with Loops(cluster, [place], 0.1) as loops:
        at = time.monotonic()
        cluster.switchover(old, new)
        time.sleep(4)
        seen = loops.end()
    cluster.wait_whole()
    return looped(seen, at)[place.name]


def restart_looped(cluster, place):
    with Loops(cluster, [place], 0.1) as loops:
        at = time.monotonic()
        cluster.restart_postgres(cluster.leader())
        time.sleep(3)
        seen = loops.end()
    cluster.wait_whole()
    return looped(seen, at)[place.name]


def switchover(cluster, places):
    old = cluster.leader()
    new = next(name for name, (role, _) in cluster.members().items() if role != "Leader")
    with Watch(cluster, places) as watch:
        at = time.monotonic()
        cluster.switchover(old, new)
        time.sleep(6)
        seen = watch.end()
    cluster.wait_whole()
    return judged(cluster, seen, at, old, new)


def killed(cluster, places):
    """Leader and its Patroni die at once, without a word to anyone. Clients that connect are there too, twenty for each."""
    old = cluster.leader()
    with Watch(cluster, places) as watch, Loops(cluster, places, 1.0) as loops:
        at = time.monotonic()
        cluster.signal(old, signal.SIGKILL)
        wait(lambda: cluster.leader() not in (old, None), 90, "a new leader")
        time.sleep(6)
        seen = watch.end()
        connects = looped(loops.end(), at)
    new = cluster.leader()
    cluster.restart(old)
    cluster.wait_whole()
    found = judged(cluster, seen, at, old, new)
    for name, balancer in found["balancers"].items():
        balancer["connects"] = connects[name]
    return found


def frozen(cluster, places):
    """Leader and its Patroni stand still until a successor has been at work for a while, and then go on."""
    old = cluster.leader()
    with Watch(cluster, places) as watch:
        at = time.monotonic()
        cluster.signal(old, signal.SIGSTOP)
        try:
            wait(lambda: cluster.leader() not in (old, None), 90, "a new leader")
            time.sleep(5)
        finally:
            cluster.signal(old, signal.SIGCONT)
        time.sleep(8)
        seen = watch.end()
    cluster.wait_whole()
    return judged(cluster, seen, at, old, cluster.leader())


def judged(cluster, seen, at, old, new):
    promoted = next((t for t, state in seen["recovery"][new] if state == "primary" and t > at), None)
    found = {"old": old, "new": new, "promotion": promoted and promoted - at, "balancers": {}}
    for name, writes in seen["writes"].items():
        kept = set(map(int, cluster.sql("select number from bench_writes where balancer = '%s'" % name)))
        found["balancers"][name] = through(writes, at, promoted, kept, cluster.addresses[old])
    return found


def through(writes, at, promoted, kept, old):
    """One balancer's figures: seconds after the event, or between two writes."""
    good = [(ended, node, number) for _, ended, node, number in writes if ended and node not in FAILED]
    ends = [ended for ended, _, _ in good]
    pairs = itertools.pairwise(ends)
    gap = max(((later - earlier, earlier) for earlier, later in pairs if later > at), default=(None, None))
    # Taken up before the event or in its first instants, on a session that was open already.
    open_write = next((w for w in writes if w[1] is None or w[1] > at), None)
    ended_badly = next((ended for _, ended, said, _ in writes if ended and ended > at and said in FAILED), None)
    first = next((ended for ended, node, _ in good if promoted and ended > promoted and node != old), None)
    return {
        "gap": gap[0],
        "cut": ended_badly and ended_badly - at,
        "cut_after_promotion": ended_badly and promoted and max(0.0, ended_badly - promoted),
        "hung": open_write and (open_write[1] - at if open_write[1] else None),
        "first_write": first and first - promoted,
        "read_only": sum(said == "read only" for _, ended, said, _ in writes if ended and ended > at),
        "errors": sum(said == "error" for _, ended, said, _ in writes if ended and ended > at),
        "acknowledged": sum(ended > at for ended in ends),
        "on_old_after_promotion": sum(node == old and bool(promoted) and ended > promoted for ended, node, _ in good),
        "lost": sum(number not in kept for _, _, number in good),
        "lost_after_promotion": sum(number not in kept for ended, _, number in good if promoted and ended > promoted),
    }


def failovers(cluster, places, runs, say):
    """`runs`: how often each."""
    cluster.wait_whole()
    cluster.configure()
    cluster.sql("set client_min_messages = error; drop table if exists bench_writes")
    cluster.sql("create table bench_writes (balancer text, number bigint, primary key (balancer, number))")
    found = {}
    for name, event in (("switchover", switchover), ("killed", killed), ("frozen", frozen)):
        found[name] = []
        for number in range(runs[name]):
            say("%s, %d of %d" % (name, number + 1, runs[name]))
            found[name].append(event(cluster, places))
    for name, event, times in (("switchover_looped", switchover_looped, runs["looped"]),
                               ("restart_looped", restart_looped, dict.fromkeys(runs["looped"], runs["restarts"]))):
        found[name] = {}
        for place in places:
            say("%s, %s" % (name, place.name))
            found[name][place.name] = [event(cluster, place) for _ in range(times[place.name])]
    return found


# ---- throughput and memory

MODES = {"1 client": ["-S", "-c", "1"], "8 clients": ["-S", "-c", "8", "-j", "2"],
         "new connection each": ["-S", "-C", "-c", "4", "-j", "2"]}


def pgbench(cluster, address, options, seconds):
    program = pathlib.Path(cluster.env["PSQL"]).with_name("pgbench")
    said = subprocess.run(cluster.in_client(program, "-h", address, "-n", "-T", str(seconds), *options),
                          env=cluster.login, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          universal_newlines=True, timeout=seconds + 60).stdout
    return float(re.search(r"^tps = ([\d.]+)", said, re.M).group(1))


def throughput(cluster, places, counts, say):
    """Direct and through each balancer in turn, each round in another order. HAProxy's own time for a transaction is told
    beside the throughput: a busy machine changes it less."""
    cluster.wait_whole()
    program = pathlib.Path(cluster.env["PSQL"]).with_name("pgbench")
    leader = cluster.addresses[cluster.leader()]
    subprocess.run(cluster.in_client(program, "-h", leader, "-i", "-q", "-s", "5"), env=cluster.login, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    ways = [("direct", leader, None)] + [(p.name, p.address, p) for p in places]
    found = {"modes": {mode: {name: [] for name, _, _ in ways} for mode in MODES}, "memory": {},
             "cpu": {mode: {p.name: [] for p in places} for mode in MODES}}
    found["memory"]["idle"] = {p.name: p.ask("memory") for p in places}
    for mode, options in MODES.items():
        rounds = counts["rounds_new" if mode == "new connection each" else "rounds"]
        for number in range(rounds):
            say("pgbench, %s, round %d of %d" % (mode, number + 1, rounds))
            for name, address, place in rotated(ways, number):
                before = place and place.ask("cpu")
                tps = pgbench(cluster, address, options, counts["seconds"])
                found["modes"][mode][name].append(tps)
                if place:
                    found["cpu"][mode][name].append((place.ask("cpu") - before) / (tps * counts["seconds"]))
    found["memory"]["after load"] = {p.name: p.ask("memory") for p in places}
    found["ratio"] = {mode: {name: paired(tps[name], tps["0.1.0"]) for name in tps} for mode, tps in found["modes"].items()}
    # Of one client's query: what it takes more than directly.
    one = found["modes"]["1 client"]
    found["added"] = {name: statistics.median(1 / a - 1 / b for a, b in zip(tps, one["direct"], strict=True))
                      for name, tps in one.items()}
    return found


def rotated(ways, number):
    """Also backwards, so that none always follows the same other."""
    turn = number % len(ways)
    order = ways[turn:] + ways[:turn]
    return order[::-1] if number // len(ways) % 2 else order


def paired(ours, theirs):
    """The median of the rounds' ratios: each round has the machine's mood in both."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
