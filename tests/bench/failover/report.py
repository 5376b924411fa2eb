"""What a run found, as figures beside what is required of lbctl: a table for people, JSON for programs, a picture.

Pure but for `write`, `publish` and the check of the documents:

  tests/bench/failover/report.py check      whether docs/failover.md and its picture are those of docs/failover.json
  tests/bench/failover/report.py publish    makes them so
"""
import json
import pathlib
import statistics
import sys

import plot

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from figures import compact, count, figure, markdown_table, middle, replaced, rounded, text_table, total, worst

DOCS = pathlib.Path(__file__).resolve().parents[3] / "docs"
NAMES = {"lbctl": "lbctl", "0.1.0": "lbctl 0.1.0", "module": "the module", "sample": "Patroni's sample"}
BEGIN, END = "<!-- table: made by ./dev bench failover --publish -->\n", "<!-- end of table -->"
ROWS, END_OF_ROWS = "<!-- rows: made by ./dev bench failover --publish -->\n", "<!-- end of rows -->"
README = pathlib.Path("../README.md")
# The rows that the README shows, and what it calls them.
SHOWN = {
    "begun_max": "the primary moves: from when on each new connect reaches the new one, at most",
    "cut_max": "the same: session on the old one closed, at most",
    "real_switchover_loops": "Patroni switches over, 20 clients connect in a loop: failed",
    "real_switchover_wrong": "the same: led to a node that is not the primary",
    "real_restart": "`patronictl restart` of the primary, the same loops: failed",
    "reload_wrong": "reload of HAProxy: connects led to a wrong node",
    "dns_silent": "DNS is silent",
}


# ---- the figures: each line is made by a function of what one contender's run found, which gives None where there is nothing


def fake_lines():
    flips = lambda key: lambda f: [flip[key] for flip in f["flip"]]
    longest = lambda entries: max(entry["watched"] for entry in entries)
    return [
        ("begun_median", "flip: whoever begins to connect later than this reaches the new primary, median", ("at most", 0.3),
         lambda f: middle(flips("new_begun")(f))),
        ("begun_max", "flip: the same, max", ("at most", 0.5), lambda f: worst(flips("new_begun")(f))),
        ("flip_failed", "flip: connects that failed", ("at most", 0),
         lambda f: count(total(f["flip"], "failed"), total(f["flip"], "of"))),
        ("new_used_median", "flip: first connect served by the new primary, median", ("at most", 0.65),
         lambda f: middle(flips("new_used")(f))),
        ("new_used_max", "flip: the same, max", ("at most", 1.0), lambda f: worst(flips("new_used")(f))),
        ("old_used_max", "flip: old primary still used, max", ("at most", 0.5), lambda f: worst(flips("old_used")(f))),
        ("cut_max", "flip: session open on the old primary closed, max", ("at most", 1.1),
         lambda f: worst(flips("cut")(f), longest(f["flip"]))),
        ("frozen_cut_max", "frozen node: session closed after its successor's promotion, max", ("at most", 1.0),
         lambda f: after(f["frozen"], longest(f["frozen"]))),
        ("start_wrong", "start: connections to a wrong node", ("at most", 0),
         lambda f: count(total(f["start"], "wrong"), total(f["start"], "answered"))),
        ("reload_failed", "reload: connections failed", ("at most", 0),
         lambda f: count(total(f["reload"], "failed"), total(f["reload"], "of"))),
        ("reload_wrong", "reload: connections to a wrong node", ("at most", 0),
         lambda f: count(total(f["reload"], "wrong"), total(f["reload"], "of"))),
        ("reload_cut", "reload: busy sessions closed", ("at most", 0),
         lambda f: count(total(f["reload"], "cut"), 5 * len(f["reload"]))),
        ("split_held", "two nodes claim to be the primary: waiting clients let through", ("at most", 0),
         lambda f: count(total(f["split"], "let_through"), total(f["split"], "waited"))),
        ("split_accepted", "two nodes claim to be the primary: connects served after the first second", ("at most", 0),
         lambda f: count(total(f["split"], "accepted"), total(f["split"], "of"))),
        ("dns_nxdomain", "DNS answers NXDOMAIN", ("at most", 0), lambda f: outage(f["dns"]["nxdomain"])),
        ("dns_silent", "DNS is silent", ("at most", 0), lambda f: outage(f["dns"]["silent"])),
        ("dns_omits", "DNS omits the primary", ("at most", 0), lambda f: outage(f["dns"]["omits"])),
        ("dns_false", "DNS names three other addresses", ("at most", 0), lambda f: outage(f["false_dns"])),
        *[("silent_%d" % many, "%d silent connections to Patroni's port: sessions closed, connects failed" % many,
           ("at most", 0), lambda f, many=str(many): both(f["silent"][many]) if f["silent"] else None)
          for many in (5, 60, 1000)],
        ("handshake", "TLS handshakes of the primary take 1.5 s, for 15 s: sessions closed", ("at most", 0),
         lambda f: count(f["handshake"]["cut"], f["handshake"]["sessions"])),
        ("handshake_failed", "the same: connects failed", None,
         lambda f: count(f["handshake"]["failed"], f["handshake"]["of"])),
        ("rest_still", "Patroni's REST API stands still for 2.5 s: sessions closed, connects failed", ("at most", 0),
         lambda f: both(f["rest"])),
        ("node_still", "the whole node stands still for 2.5 s: sessions closed, connects failed", ("at most", 0),
         lambda f: both(f["node"])),
        *loop_lines("switchover", "switchover of fake nodes, 20 clients connect in a loop", lambda f: f["switchover"]),
        ("killed_loops", "node killed, the same loops: failed, of those begun more than 0.3 s later", ("at most", 0),
         lambda f: count(total(f["killed"], "failed_later"), total(f["killed"], "of"))),
        ("restart_loops", "PostgreSQL restarted, the same loops: connects failed", ("at most", 0),
         lambda f: count(f["restart"]["failed"], f["restart"]["of"])),
        ("held_reload", "reload while nobody is primary: clients that came before it served", None,
         lambda f: count(f["held_reload"]["before_served"], f["held_reload"]["before"])),
        ("held_reloaded", "the same: clients that came after it not served", ("at most", 0),
         lambda f: count(f["held_reload"]["after"] - f["held_reload"]["after_served"], f["held_reload"]["after"])),
        ("herd", "150 clients, a primary that takes 50 moves: connects failed", ("at most", 0),
         lambda f: count(f["herd"]["failed"], f["herd"]["of"])),
    ]


def loop_lines(key, label, runs):
    return [
        (key + "_loops", label + ": failed", ("at most", 0), lambda f: count(total(runs(f), "failed"), total(runs(f), "of"))),
        (key + "_wrong", "the same: served by a node that is not the primary", ("at most", 0),
         lambda f: count(sum(run.get("wrong", run.get("replica")) for run in runs(f)), total(runs(f), "of"))),
        (key + "_longest", "the same: longest connect", None, lambda f: worst(run["longest"] for run in runs(f))),
    ]


def both(found):
    return {"number": found["cut"] + found["failed"],
            "text": "%d of %d, %d of %d" % (found["cut"], found["sessions"], found["failed"], found["of"])}


def after(entries, watched):
    """A session that was closed before there was a successor had nowhere to go."""
    if all(entry["early"] for entry in entries):
        return {"number": 0, "text": "before it"}
    return worst((entry["cut"] for entry in entries), watched)


def outage(found):
    if found["first_effect"] is None and not found["cut"]:
        return {"number": 0, "text": "no effect in %.0f s" % found["seconds"]}
    return {"number": found["failed"] + found["cut"],
            "text": "dark after %.1f s, %d of %d sessions closed" % (found["first_effect"] or found["seconds"], found["cut"],
                                                                    found["sessions"])}


def disk_line():
    # Where HAProxy is started by a program that keeps its state: 0.1.0's program is not here.
    return ("full_disk", "HAProxy starts with a full disk", ("at least", 1),
            lambda f: {"number": int(f["full_disk"]["starts"]), "text": "yes" if f["full_disk"]["starts"] else "no"})


def real_lines():
    each = lambda event, key: lambda r: [run[key] for run in r[event]]
    return [
        ("switchover_gap", "real switchover: longest gap between two writes, max", ("at most", 3.3),
         lambda r: worst(each("switchover", "gap")(r))),
        ("switchover_gap_median", "the same, median", None, lambda r: middle(each("switchover", "gap")(r))),
        ("switchover_read_only", "real switchover: read-only errors", ("at most", 0),
         lambda r: count(sum(each("switchover", "read_only")(r)))),
        *loop_lines("real_switchover", "real switchover, 20 clients connect in a loop", lambda r: r["switchover_looped"]),
        ("real_restart", "`patronictl restart` of the leader, the same loops: failed", ("at most", 0),
         lambda r: count(total(r["restart_looped"], "failed"), total(r["restart_looped"], "of"))),
        ("real_restart_longest", "the same: longest connect", None,
         lambda r: worst(run["longest"] for run in r["restart_looped"])),
        ("killed_first_write", "leader killed: first write after the successor's promotion, max", ("at most", 0.5),
         lambda r: worst(each("killed", "first_write")(r))),
        ("real_killed", "leader killed, 20 clients connect once a second: failed", None,
         lambda r: count(total(each("killed", "connects")(r), "failed"), total(each("killed", "connects")(r), "of"))),
        ("real_killed_later", "the same: failed, of those begun more than 0.3 s later", ("at most", 0),
         lambda r: count(total(each("killed", "connects")(r), "failed_later"), total(each("killed", "connects")(r), "of"))),
        ("real_killed_longest", "the same: longest connect", None,
         lambda r: worst(one["longest"] for one in each("killed", "connects")(r))),
        ("frozen_leader_cut", "leader frozen: session closed after the successor's promotion, max", ("at most", 1.0),
         lambda r: worst(each("frozen", "cut_after_promotion")(r))),
        ("frozen_leader_lost", "leader frozen and thawed: writes acknowledged after the promotion, and lost", ("at most", 0),
         lambda r: count(sum(each("frozen", "lost_after_promotion")(r)))),
    ]


def capacity_figures(found):
    """lbctl's alone, but for what a new connection costs."""
    figures = []
    for version, held in found["held"].items():
        words = "%d clients wait, HAProxy %s: " % (held["clients"], version)
        figures += [
            figure("held_core " + version, words + "share of a core", ("at most", 0.1),
                   {"lbctl": {"number": round(held["core"], 4), "text": "%.1f %%" % (100 * held["core"])}}),
            figure("held_memory " + version, words + "KiB for each", ("at most", 20),
                   {"lbctl": {"number": round(held["kib_each"], 1), "text": "%.1f" % held["kib_each"]}}),
            figure("held_served " + version, words + "not served by the primary that came",
                   ("at most", 0), {"lbctl": dict(count(held["clients"] - held["served"], held["clients"]),
                                                  text="%d of %d; all within %.1f s" % (held["clients"] - held["served"],
                                                                                       held["clients"], held["last"]))}),
        ]
    flips = found["flips"]
    early, late = flips["moments"][0], flips["moments"][-1]
    words = "%d flips in a row: " % flips["flips"]
    grown = lambda key: late[key] - early[key]
    figures += [
        figure("flips_memory", words + "growth of memory (PSS), MiB", ("at most", 0.5),
               {"lbctl": {"number": round(grown("pss"), 2), "text": "%+.2f of %.1f" % (grown("pss"), early["pss"])}}),
        figure("flips_descriptors", words + "growth of descriptors, of sessions", ("at most", 0),
               {"lbctl": {"number": max(grown("descriptors"), late["sessions"] - 1, late["held"]),
                          "text": "%+d, %d" % (grown("descriptors"), late["sessions"] - 1 + late["held"])}}),
        figure("flips_failed", words + "waiting clients that failed or reached another node", ("at most", 0),
               {"lbctl": count(flips["failed"] + flips["wrong"], flips["flips"])}),
    ]
    for version, each in found["connections"].items():
        cost = {name: statistics.median(values) for name, values in each.items()}
        values = {name: {"number": round(cost["0.1.0"] / cost[name], 3),
                         "text": "%.2f (%.0f µs)" % (cost["0.1.0"] / cost[name], 1e6 * cost[name])} for name in cost}
        figures.append(figure("new_connection " + version,
                              "new connections for each second of HAProxy %s's CPU, relative to 0.1.0" % version,
                              ("at least", 0.97), values))
    return figures


def pgbench_figures(found):
    """Compared to 0.1.0's; Patroni's sample takes no part."""
    figures = []
    for mode, ratios in found["ratio"].items():
        tps = {name: statistics.median(values) for name, values in found["modes"][mode].items()}
        values = {name: {"number": round(ratios[name], 3), "text": "%.2f (%.0f/s)" % (ratios[name], tps[name])}
                  for name in ratios if name != "direct"}
        values["lbctl"]["text"] = "%.2f (%.0f/s; direct %.0f/s)" % (ratios["lbctl"], tps["lbctl"], tps["direct"])
        figures.append(figure("pgbench " + mode, "pgbench -S, %s: transactions, relative to 0.1.0" % mode, ("at least", 0.97),
                              values))
    figures.append(figure("added", "the same: added to a query of one client", None,
                          {name: {"number": round(added, 7), "text": "%.0f µs" % (1e6 * added)}
                           for name, added in found["added"].items() if name != "direct"}))
    for mode, spent in found["cpu"].items():
        each = {name: statistics.median(values) for name, values in spent.items()}
        values = {name: {"number": round(each[name] / each["0.1.0"], 3),
                         "text": "%.2f (%.0f µs)" % (each[name] / each["0.1.0"], each[name] * 1e6)} for name in each}
        figures.append(figure("cpu " + mode, "the same: HAProxy's CPU time for each, relative to 0.1.0 (%s)" % mode, None,
                              values))
    for kind in ("pss", "rss"):
        names = list(found["memory"]["idle"])
        peak = {name: max(moment[name][kind] for moment in found["memory"].values()) for name in names}
        values = {name: {"number": round(peak[name] / peak["module"], 3),
                         "text": "%.2f (%.1f MiB)" % (peak[name] / peak["module"], peak[name])} for name in names}
        figures.append(figure("memory " + kind, "HAProxy's worker: memory (%s), relative to the module" % kind.upper(),
                              ("at most", 1.2), values))
    return figures


def by_balancer(runs):
    """{event: [run]} with all balancers in each, turned to {balancer: {event: [its figures]}}."""
    return {name: {event: each[name] if isinstance(each, dict) else [run["balancers"][name] for run in each]
                   for event, each in runs.items()} for name in NAMES}


def of_each(lines, found):
    """A line's figure for each contender; where there is nothing to tell, there is no value."""
    for key, label, required, value in lines:
        values = {name: value(found[name]) for name in NAMES}
        yield figure(key, label, required, {name: one for name, one in values.items() if one})


def summary(found):
    """All that the documents need of a run: where, how often, the figures, and the times that the picture shows."""
    figures, samples = [], {}
    if "fake" in found:
        figures += of_each(fake_lines(), found["fake"])
        key, label, required, value = disk_line()
        figures.append(figure(key, label, required, {name: value(found["fake"][name]) for name in NAMES if name != "0.1.0"}))
        samples["flip"] = {name: {key: rounded(flip[key] for flip in found["fake"][name]["flip"])
                                  for key in ("new_begun", "new_used", "old_used", "cut")} for name in NAMES}
        samples["frozen"] = {name: {"cut": rounded(run["cut"] for run in found["fake"][name]["frozen"])} for name in NAMES}
    if "capacity" in found:
        figures += capacity_figures(found["capacity"])
    if "real" in found:
        real = by_balancer(found["real"])
        figures += of_each(real_lines(), real)
        samples["real"] = {name: {"gap": rounded(run["gap"] for run in real[name]["switchover"]),
                                  "first_write": rounded(run["first_write"] for run in real[name]["killed"]),
                                  "cut": rounded(run["cut_after_promotion"] for run in real[name]["frozen"])} for name in NAMES}
    if "pgbench" in found:
        figures += pgbench_figures(found["pgbench"])
    return {"schema": 1, "about": found["about"], "figures": figures, "samples": samples}


# ---- for people


def markdown(told):
    about, counts = told["about"], told["about"]["counts"]
    words = ("Measured %s on HAProxy %s, where no other version is named (%s), %d cores of a virtual machine, load %.1f at the "
             "start, %d minutes." % (about["date"], about["haproxy"], ", ".join(about["others"]), about["cores"],
                                     about["load_at_start"], round(sum(about["took"].values()) / 60)))
    if told["samples"]:
        words += (" %(flips)d flips, %(starts)d starts, %(reloads)d reloads; of the real cluster %(switchover)d switchovers, "
                  "%(killed)d killed and %(frozen)d frozen leaders." % counts)
        words += " With loops: %d switchovers for lbctl, %s for the others." % (
            counts["looped"]["lbctl"], ", ".join(str(counts["looped"][name]) for name in NAMES if name != "lbctl"))
    for part, other in about.get("parts", {}).items():
        words += " %s: a run of its own, %s, load %.1f at the start." % (PARTS[part], other["date"], other["load_at_start"])
    return "%s\n\n%s\n" % (words, markdown_table(told, NAMES))


def shown(told):
    """Those of the rows that say most, without the columns of requirements and of 0.1.0."""
    figures = {one["key"]: one for one in told["figures"]}
    names = [name for name in NAMES if name != "0.1.0"]
    lines = [["", *(NAMES[name] for name in names)]]
    lines += [[words, *(figures[key]["values"][name]["text"] for name in names)] for key, words in SHOWN.items()]
    return "".join("| %s |\n" % " | ".join(line) for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]])


def write(found, out):
    told = summary(found)
    out.mkdir(parents=True, exist_ok=True)
    (out / "run.json").write_text(json.dumps(dict(told, raw=found), indent=1) + "\n", encoding="utf-8")
    (out / "failover.svg").write_text(plot.picture(told["samples"], NAMES), encoding="utf-8")
    (out / "table.txt").write_text(text_table(told, NAMES), encoding="utf-8")


PARTS = {"fake": "What the fake nodes show", "capacity": "What waiting, flips and new connections cost",
         "real": "What the real cluster shows", "pgbench": "Throughput and memory"}


def publish(told, only=None):
    """With `only` the rows of that part take the place of theirs in the run that is published already."""
    if only:
        before, new = json.loads((DOCS / "failover.json").read_text(encoding="utf-8")), told
        rows_of = {one["key"]: one for one in new["figures"]}
        told = dict(before, samples=dict(before["samples"], **new["samples"]),
                    figures=[rows_of.pop(one["key"], one) for one in before["figures"]] + list(rows_of.values()))
        told["about"] = dict(before["about"], parts=dict(before["about"].get("parts", {}), **{only: new["about"]}))
    (DOCS / "failover.json").write_text(compact(told), encoding="utf-8")
    for name, text in documents().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def documents():
    """What docs/failover.json makes of the documents, by name."""
    told = json.loads((DOCS / "failover.json").read_text(encoding="utf-8"))
    return {"failover.md": replaced(DOCS / "failover.md", BEGIN, markdown(told), END),
            README: replaced(DOCS / README, ROWS, shown(told), END_OF_ROWS),
            "failover.svg": plot.picture(told["samples"], NAMES)}


def behind():
    return [name for name, text in documents().items() if (DOCS / name).read_text(encoding="utf-8") != text]


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        sys.exit("docs: %s: behind docs/failover.json: tests/bench/failover/report.py publish" % ", ".join(behind())
                 if behind() else 0)
    elif sys.argv[1:] == ["publish"]:
        publish(json.loads((DOCS / "failover.json").read_text(encoding="utf-8")))
    else:
        sys.exit(__doc__)
