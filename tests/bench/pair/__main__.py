"""Measures what each way of losing a load balancer costs where two share an address, and what its return costs: with lbctl's
shared address and with autobase's settings, on keepalived of Debian 12 and 13, in one run.

  python3 tests/bench/pair [TRIALS] [--quick] [--at-once 1|2] [--publish]

Each contender is a pair of VMs in namespaces of its own (tests/pair/place.py), lbctl two such pairs with a part of the events
each. One pair is measured after the other, two at once: two take half of one processor. TRIALS are lbctl's
repetitions of each event; autobase's settings take longer and have fewer. The table says what is required and whether it was
reached, and each trial that was not as promised is told. Writes target/bench/pair.
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

import report

ROOT = pathlib.Path(__file__).resolve().parents[3]
OUT = ROOT / "target/bench/pair"
SUITES = {"2.2.7": "bookworm", "2.3.3": "trixie"}
STARTED = time.monotonic()
LOOPS, MINUTE = 4, 60
# It ends by itself, whatever becomes of who has started it.
LOOP = "import time; end = time.monotonic() + %d\nwhile time.monotonic() < end: pass"


def say(text):
    print("%5.0f s  %s" % (time.monotonic() - STARTED, text), file=sys.stderr, flush=True)


def begin(job, work, **pipes):
    path = pathlib.Path(work) / ("%(name)s-%(part)s.json" % job).replace(" ", "-")
    path.write_text(json.dumps(job), encoding="utf-8")
    return subprocess.Popen(["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "/usr/bin/python3", "-B",
                             pathlib.Path(__file__).with_name("measure.py"), path], universal_newlines=True, **pipes)


def end(processes):
    for process in processes:
        process.kill()
        process.wait()


def one_after_the_other(jobs, at_once, work):
    """Yields each with what it found. Pairs that share two processors with too many others are measured with them."""
    waiting, running = list(jobs), []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job, found = waiting.pop(0), tempfile.TemporaryFile("w+", encoding="utf-8", dir=work)
                running.append((job, begin(job, work, stdin=subprocess.DEVNULL, stdout=found), found))
            time.sleep(0.5)
            for one in [one for one in running if one[1].poll() is not None]:
                running.remove(one)
                job, process, found = one
                if process.returncode:
                    raise RuntimeError("%(name)s, %(part)s: failed" % job)
                say("%(name)s, %(part)s: done" % job)
                found.seek(0)
                yield job, json.load(found)
    finally:
        end(process for _, process, _ in running)


def kept_busy(jobs, work):
    """The minute of those is one and the same: loops keep the machine's processors busy."""
    running = [begin(job, work, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for job in jobs]
    loops = []

    def tell(word):
        for process in running:
            process.stdin.write(word + "\n")
            process.stdin.flush()

    try:
        for process in running:
            if process.stdout.readline() != "waiting\n":
                raise RuntimeError("a pair for the busy minute does not start")
        tell("begin")
        time.sleep(5)
        loops = [subprocess.Popen(["/usr/bin/python3", "-c", LOOP % MINUTE]) for _ in range(LOOPS)]
        time.sleep(MINUTE)
        end(loops)
        tell("end")
        for job, process in zip(jobs, running, strict=True):
            yield job, json.loads(process.stdout.read())
        say("busy minute: done")
    finally:
        end([*running, *loops])


def of_all(trials, quick, at_once, work):
    """What they found, by name and event."""
    def job(name, part):
        return {"name": name, "part": part, "suite": SUITES[name.split()[1]], "autobase": name.startswith("autobase"),
                "trials": 1 if part == "busy" else trials[name], "quick": quick}

    ours = [name for name in report.NAMES if name.startswith("lbctl")]
    theirs = [name for name in report.NAMES if name not in ours]
    jobs = [job(name, part) for part in ("programs", "hosts") for name in ours] + [job(name, "all") for name in theirs]
    results = list(one_after_the_other(jobs, at_once, work))
    for group in [] if quick else (ours, theirs):
        results += kept_busy([job(name, "busy") for name in group], work)
    found = {name: {} for name in report.NAMES}
    for done, events in results:
        for event, repeated in events.items():
            found[done["name"]].setdefault(event, []).extend(repeated)
    return found


def versions():
    found = {}
    for suite in SUITES.values():
        root = ROOT / "target/lab-cache" / ("pair-" + suite)
        haproxy = subprocess.run(["chroot", root, "/usr/sbin/haproxy", "-v"], check=True, stdout=subprocess.PIPE,
                                 universal_newlines=True).stdout.split()[2]
        keepalived = subprocess.run(["chroot", root, "/usr/sbin/keepalived", "-v"], check=True, stderr=subprocess.PIPE,
                                    universal_newlines=True).stderr.split()[1]
        found[suite] = {"keepalived": keepalived.lstrip("v"), "haproxy": haproxy}
    return found


def main():
    parser = argparse.ArgumentParser(prog="./dev bench pair")
    parser.add_argument("trials", nargs="?", type=int, default=20)
    parser.add_argument("--at-once", type=int, choices=(1, 2), default=2, help="so many pairs are measured at the same time")
    parser.add_argument("--publish", action="store_true", help="write the run into docs/")
    parser.add_argument("--quick", action="store_true", help="without what is watched for a minute, and without kills")
    given = parser.parse_args()
    trials = {name: given.trials if name.startswith("lbctl") else max(1, given.trials // 5) for name in report.NAMES}
    about = {"date": datetime.date.today().isoformat(), "cores": os.cpu_count(), "load_at_start": round(os.getloadavg()[0], 1),
             "at_once": given.at_once, "trials": trials, "versions": versions()}
    say("trials: " + ", ".join("%s %d" % each for each in trials.items()))
    with tempfile.TemporaryDirectory(prefix="bench-pair-") as work:
        found = of_all(trials, given.quick, given.at_once, work)
    about["minutes"] = round((time.monotonic() - STARTED) / 60)
    told = report.summary({"about": about, "found": found})
    report.write(told, found, OUT)
    print((OUT / "table.txt").read_text(encoding="utf-8"))
    print("%s: run.json, table.txt, pair.svg" % OUT.relative_to(ROOT))
    if given.publish:
        report.publish(told)


if __name__ == "__main__":
    main()
