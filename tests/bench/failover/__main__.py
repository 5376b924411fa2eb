"""Measures failover, start, reload, DNS outage, what strangers do, throughput and memory of four load balancers side by side.

lbctl's rendered configuration, that of lbctl 0.1.0, the replaced module's, and Patroni's sample; first before fake nodes, then
before the lab's Patroni; and what lbctl's HAProxy itself costs. Nothing here passes or fails: the table says what is required
and whether it was reached.

  tests/bench/failover ENV [--quick] [--only fake|capacity|real|pgbench]      ENV: the env file of a full lab
                                                                            (tests/lab/write-env)
"""
import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import contenders
import real
import report
from place import Place

sys.path.insert(0, str(contenders.ROOT / "tests/dataplane"))
import cluster as fake_cluster

SCRIPT = contenders.moved(contenders.SCRIPT)
OUT = contenders.ROOT / "target/bench/failover"
# HAProxy's versions, by the suite of Debian that has them.
SUITES = {"3.2": "sid", "3.0": "trixie", "2.6": "bookworm"}
# How often each thing is done; `outage`, `false_dns` and `…seconds` are times.
FULL = {"starts": 6, "flips": 30, "reloads": 5, "splits": 3, "freezes": 4, "outage": 60, "false_dns": 95,
        "loops": 3, "kills": 2, "clients": 5000, "held_seconds": 6, "many_flips": 10_000, "many_flips_seconds": 420,
        "connections": 3000, "connection_rounds": 4,
        "switchover": 3, "looped": {"lbctl": 3, "0.1.0": 1, "module": 1, "sample": 1}, "restarts": 1,
        "killed": 2, "frozen": 1, "rounds": 4, "rounds_new": 9, "seconds": 3}
QUICK = {"starts": 2, "flips": 5, "reloads": 1, "splits": 1, "freezes": 1, "outage": 10, "false_dns": 10,
         "loops": 1, "kills": 1, "clients": 5000, "held_seconds": 4, "many_flips": 400, "many_flips_seconds": 60,
         "connections": 2000, "connection_rounds": 1,
         "switchover": 1, "looped": {"lbctl": 1, "0.1.0": 1, "module": 1, "sample": 1}, "restarts": 1,
         "killed": 1, "frozen": 1, "rounds": 2, "rounds_new": 2, "seconds": 2}
# The others take long for what is a matter of seconds, not of luck.
FEWER = {"module": {"freezes": 1}, "sample": {"freezes": 2, "flips": 10, "splits": 2, "starts": 4}}
# With Patroni's time to live below, so that clients outlast a leader that was killed. The default is for planned moves.
REAL_HOLD = "30s"
STARTED = time.monotonic()


def say(text):
    print("%5.0f s  %s" % (time.monotonic() - STARTED, text), file=sys.stderr, flush=True)


def jobs(network, work, root, counts, hold="10s"):
    """What fake.py and place.py need to know of each contender."""
    for name, files in contenders.contenders(network, work, hold).items():
        mine = {key: value if isinstance(value, dict) else min(value, FEWER.get(name, {}).get(key, value))
                for key, value in counts.items()}
        yield dict(mine, name=name, files=files, root=str(root), nofile=contenders.NOFILE, cuts=name != "module",
                   state=name in ("lbctl", "0.1.0"), patroni_port=name != "sample", script=SCRIPT, nodes=network.nodes,
                   watch_frozen=20)


def in_namespaces(program, job, work):
    """Begins a program in namespaces of its own, which prints what it found."""
    said = tempfile.NamedTemporaryFile(dir=work, prefix="job-", suffix=".json", delete=False, mode="w")
    with said:
        json.dump(job, said)
    return subprocess.Popen(
        ["unshare", "--net", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "/usr/bin/python3", "-B",
         pathlib.Path(__file__).with_name(program), said.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def all_of(running):
    """{key: what it found}, of programs that run at the same time."""
    try:
        found = {}
        for key, process in running.items():
            said = process.stdout.read()
            if process.wait() != 0:
                raise RuntimeError("%s failed" % (key,))
            found[key] = json.loads(said)
            say("%s done" % " ".join(key))
        return found
    finally:
        for process in running.values():
            process.stdin.close()
            process.wait()


def fake_network(work):
    certificates = os.path.join(work, "certificates")
    fake_cluster.make_certificates(certificates)
    return contenders.Network(fake_cluster.DOMAIN, fake_cluster.DNS_IP, list(fake_cluster.NODES),
                              certificates + "/ca.key", certificates + "/ca.pem", "127.0.0.1"), certificates


def fake(work, roots, counts):
    """All contenders at once, each in namespaces of its own. What is timed goes first, and alone."""
    network, certificates = fake_network(work)
    found = {}
    for parts in (("timed",), ("strangers", "dns", "false_dns")):
        running = {(job["name"], part): in_namespaces("fake.py", dict(job, part=part, certificates=certificates), work)
                   for part in parts for job in jobs(network, work, roots["3.2"], counts)}
        for (name, _), said in all_of(running).items():
            found.setdefault(name, {}).update(said)
    return found


def capacity(work, roots, counts):
    """What lbctl's HAProxy costs, one after the other: who waits, many flips, new connections beside 0.1.0's."""
    network, certificates = fake_network(work)

    def job(version, what, files, **more):
        return dict(more, what=what, root=str(roots[version]), files=files, script=SCRIPT, state=True,
                    nofile=contenders.NOFILE, certificates=certificates)

    def one(key, *args, **more):
        return all_of({key: in_namespaces("capacity.py", job(*args, **more), work)})[key]

    found = {"held": {}, "connections": {}}
    for version in roots:
        roomy = contenders.lbctl_files(network, work, version, hold="60s", max_connections=counts["clients"] + 1000)
        found["held"][version] = one(("held", version), version, "held", roomy, clients=counts["clients"],
                                     seconds=counts["held_seconds"])
        lbctl = contenders.lbctl_files(network, work, version)
        former = dict(lbctl, **{contenders.CONFIG: contenders.former_config(network, version)})
        each = {"lbctl": [], "0.1.0": []}
        for _ in range(counts["connection_rounds"]):
            for name, files in (("lbctl", lbctl), ("0.1.0", former)):
                each[name] += one(("connections", version, name), version, "connections", files, rounds=2,
                                  connections=counts["connections"])["each"]
        found["connections"][version] = each
    found["flips"] = one(("many flips",), "3.2", "flips", contenders.lbctl_files(network, work), flips=counts["many_flips"],
                         seconds=counts["many_flips_seconds"])
    return found


def places(env, work, root, names):
    network = contenders.of_lab(env)
    prefix = env["MACVTAP_GUEST_IP"].rpartition(".")[0]
    switch = ("lbctl-%s-net" % env["LAB_NAME"], "br-seg")
    opened = []
    for number, job in enumerate(jobs(network, work, root, QUICK, REAL_HOLD)):
        if job["name"] in names:
            opened.append(Place(job, switch, "%s.%d" % (prefix, 61 + number)))
            opened[-1].ask("start")
    return opened


def measure(env, counts, only):
    """Each part's findings are written down when it ends: the next one may fail."""
    said = subprocess.run([contenders.ROOT / "tests/render/haproxy-versions", *SUITES.values()], check=True,
                          stdout=subprocess.PIPE, universal_newlines=True).stdout.split()
    roots = dict(zip(SUITES, said, strict=True))
    cluster = real.Cluster(env)
    found = {"about": about(roots, counts)}
    # There are keys in it: the lab's folder goes with the lab, also after a kill.
    with tempfile.TemporaryDirectory(dir=env["LAB_RUN"], prefix="bench-") as work:
        parts = {
            "fake": lambda: fake(work, roots, counts),
            "capacity": lambda: capacity(work, roots, counts),
            "real": lambda: with_places(env, work, roots["3.2"], ("lbctl", "0.1.0", "module", "sample"),
                                        lambda opened: real.failovers(cluster, opened, counts, say)),
            "pgbench": lambda: with_places(env, work, roots["3.2"], ("lbctl", "0.1.0", "module"),
                                           lambda opened: real.throughput(cluster, opened, counts, say)),
        }
        for name, part in parts.items():
            if only in (None, name):
                say(name)
                began = time.monotonic()
                found[name] = part()
                found["about"]["took"][name] = round(time.monotonic() - began)
                report.write(found, OUT)
    return report.summary(found)


def with_places(env, work, root, names, use):
    opened = places(env, work, root, names)
    try:
        time.sleep(3)
        return use(opened)
    finally:
        for place in opened:
            place.close()


def about(roots, counts):
    versions = {version: subprocess.run(["chroot", root, "/usr/sbin/haproxy", "-v"], check=True, stdout=subprocess.PIPE,
                                        universal_newlines=True).stdout.split()[2] for version, root in roots.items()}
    return {"haproxy": versions["3.2"], "others": [versions["3.0"], versions["2.6"]], "cores": os.cpu_count(),
            "load_at_start": os.getloadavg()[0], "date": datetime.date.today().isoformat(), "counts": counts, "took": {}}


def main():
    parser = argparse.ArgumentParser(prog="./dev bench failover")
    parser.add_argument("env")
    parser.add_argument("--quick", action="store_true", help="few repetitions, DNS dead for 10 s")
    parser.add_argument("--only", choices=("fake", "capacity", "real", "pgbench"))
    parser.add_argument("--publish", action="store_true", help="write the run, or with --only its part, into docs/")
    given = parser.parse_args()
    lines = pathlib.Path(given.env).read_text(encoding="utf-8").splitlines()
    env = dict(line.split("=", 1) for line in lines if "=" in line)
    told = measure(env, QUICK if given.quick else FULL, given.only)
    print(report.text_table(told, report.NAMES))
    print("%s: run.json, table.txt, failover.svg" % OUT.relative_to(contenders.ROOT))
    if given.publish:
        report.publish(told, given.only)


if __name__ == "__main__":
    main()
