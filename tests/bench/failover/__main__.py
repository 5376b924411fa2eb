"""Measures failover, start, reload, DNS outage, throughput and memory of three load balancers side by side.

lbctl's rendered configuration, the replaced module's, and Patroni's sample; first before fake nodes, then before the lab's
Patroni. Nothing here passes or fails: the table says what is required and whether it was reached.

  tests/bench/failover ENV [--quick] [--only fake|real|pgbench]      ENV: the env file of a full lab (tests/lab/write-env)
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

OUT = contenders.ROOT / "target/bench/failover"
SUITE = "sid"
# How often each thing is done; `outage` and `seconds` (of one pgbench) are times.
FULL = {"starts": 8, "flips": 40, "reloads": 8, "splits": 5, "freezes": 8, "outage": 60,
        "switchover": 5, "killed": 3, "frozen": 2, "rounds": 13, "seconds": 3}
QUICK = {"starts": 2, "flips": 5, "reloads": 2, "splits": 1, "freezes": 1, "outage": 10,
         "switchover": 1, "killed": 1, "frozen": 1, "rounds": 2, "seconds": 2}
# The others take long for what is a matter of seconds, not of luck.
FEWER = {"module": {"freezes": 2}, "sample": {"freezes": 3, "flips": 12}}
STARTED = time.monotonic()


def say(text):
    print("%5.0f s  %s" % (time.monotonic() - STARTED, text), file=sys.stderr, flush=True)


def jobs(network, work, root, counts):
    """What fake.py and place.py need to know of each contender."""
    for name, files in contenders.contenders(network, work).items():
        mine = {key: min(value, FEWER.get(name, {}).get(key, value)) for key, value in counts.items()}
        yield dict(mine, name=name, files=files, root=str(root), nofile=contenders.NOFILE, cuts=name != "module",
                   script=contenders.MOVED["/usr/local/lib/lbctl"] + "/lbctl-guest", nodes=network.nodes, watch_frozen=20)


def fake(work, root, counts):
    """All contenders at once, each in namespaces of its own."""
    certificates = os.path.join(work, "certificates")
    fake_cluster.make_certificates(certificates)
    network = contenders.Network(fake_cluster.DOMAIN, fake_cluster.DNS_IP, list(fake_cluster.NODES),
                                 certificates + "/ca.key", certificates + "/ca.pem")
    running = {}
    try:
        for job in jobs(network, work, root, counts):
            path = pathlib.Path(work, job["name"] + ".json")
            path.write_text(json.dumps(dict(job, certificates=certificates)), encoding="utf-8")
            running[job["name"]] = subprocess.Popen(
                ["unshare", "--net", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "/usr/bin/python3", "-B",
                 pathlib.Path(__file__).with_name("fake.py"), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        found = {}
        for name, process in running.items():
            said = process.stdout.read()
            if process.wait() != 0:
                raise RuntimeError("the fake nodes' bench of %s failed" % name)
            found[name] = json.loads(said)
            say("fake nodes: %s done" % name)
        return found
    finally:
        for process in running.values():
            process.stdin.close()
            process.wait()


def places(env, work, root, names):
    network = contenders.Network(env["POSTGRES_DOMAIN"], env["NETWORK_DNS"], env["PG_NODES"].split(","),
                                 env["CA_KEY"], env["CA_CERT"])
    prefix = env["MACVTAP_GUEST_IP"].rpartition(".")[0]
    switch = ("lbctl-%s-net" % env["LAB_NAME"], "br-seg")
    opened = []
    for number, job in enumerate(jobs(network, work, root, QUICK)):
        if job["name"] in names:
            opened.append(Place(job, switch, "%s.%d" % (prefix, 61 + number)))
            opened[-1].ask("start")
    return opened


def measure(env, counts, only):
    """Each part's findings are written down when it ends: the next one may fail."""
    root = subprocess.run([contenders.ROOT / "tests/render/haproxy-versions", SUITE], check=True, stdout=subprocess.PIPE,
                          universal_newlines=True).stdout.strip()
    cluster = real.Cluster(env)
    found = {"about": about(root, counts)}
    # There are keys in it: the lab's folder goes with the lab, also after a kill.
    with tempfile.TemporaryDirectory(dir=env["LAB_RUN"], prefix="bench-") as work:
        parts = {
            "fake": lambda: fake(work, root, counts),
            "real": lambda: with_places(env, work, root, ("lbctl", "module", "sample"),
                                        lambda opened: real.failovers(cluster, opened, counts, say)),
            "pgbench": lambda: with_places(env, work, root, ("lbctl", "module"),
                                           lambda opened: real.throughput(cluster, opened, counts, say)),
        }
        for name, part in parts.items():
            if only in (None, name):
                say(name)
                found[name] = part()
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


def about(root, counts):
    said = subprocess.run(["chroot", root, "/usr/sbin/haproxy", "-v"], check=True, stdout=subprocess.PIPE,
                          universal_newlines=True).stdout
    return {"haproxy": said.split()[2], "cores": os.cpu_count(), "load_at_start": os.getloadavg()[0],
            "date": datetime.date.today().isoformat(), "counts": counts}


def main():
    parser = argparse.ArgumentParser(prog="./dev bench failover")
    parser.add_argument("env")
    parser.add_argument("--quick", action="store_true", help="few repetitions, DNS dead for 10 s")
    parser.add_argument("--only", choices=("fake", "real", "pgbench"))
    parser.add_argument("--publish", action="store_true", help="write the run, or with --only its part, into docs/")
    given = parser.parse_args()
    lines = pathlib.Path(given.env).read_text(encoding="utf-8").splitlines()
    env = dict(line.split("=", 1) for line in lines if "=" in line)
    told = measure(env, QUICK if given.quick else FULL, given.only)
    print(report.text_table(told))
    print("%s: run.json, table.txt, failover.svg" % OUT.relative_to(contenders.ROOT))
    if given.publish:
        report.publish(told, given.only)


main()
