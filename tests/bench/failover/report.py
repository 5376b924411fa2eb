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

DOCS = pathlib.Path(__file__).resolve().parents[3] / "docs"
NAMES = {"lbctl": "lbctl", "module": "the module", "sample": "Patroni's sample"}
BEGIN, END = "<!-- table: made by ./dev bench failover --publish -->\n", "<!-- end of table -->"


# ---- one contender's value of one figure: a number (None: never came) and the words for it


def seconds(number, watched=None):
    if number is None:
        return {"number": None, "text": "never" + (" (in %d s)" % watched if watched else "")}
    return {"number": round(number, 3), "text": "%.2f s" % number}


def worst(values, watched=None):
    """Of times: the one that never came is the worst."""
    values = list(values)
    return seconds(None if None in values else max(values), watched)


def middle(values):
    values = sorted(values, key=lambda value: (value is None, value))
    return seconds(None if values[len(values) // 2] is None else statistics.median(v for v in values if v is not None))


def count(number, of=None):
    return {"number": number, "text": str(number) if of is None else "%d of %d" % (number, of)}


def ratio(number):
    return {"number": round(number, 3), "text": "%.2f" % number}


def total(entries, key):
    return sum(entry[key] for entry in entries)


# ---- the figures: each line is made by a function of what one contender's run found


def fake_lines():
    flips = lambda key: lambda f: [flip[key] for flip in f["flip"]]
    longest = lambda entries: max(entry["watched"] for entry in entries)
    return [
        ("new_used_median", "flip: new primary used, median", ("at most", 0.65),
         lambda f: middle(flips("new_used")(f))),
        ("new_used_max", "flip: new primary used, max", ("at most", 1.0), lambda f: worst(flips("new_used")(f))),
        ("old_used_max", "flip: old primary still used, max", ("at most", 0.5), lambda f: worst(flips("old_used")(f))),
        ("cut_max", "flip: session open on the old primary cut, max", ("at most", 1.0),
         lambda f: worst(flips("cut")(f), longest(f["flip"]))),
        ("frozen_cut_max", "frozen node: open session cut, max", ("at most", 3.0),
         lambda f: worst((entry["cut"] for entry in f["frozen"]), longest(f["frozen"]))),
        ("start_wrong", "start: connections to a wrong node", ("at most", 0),
         lambda f: count(total(f["start"], "wrong"), total(f["start"], "answered"))),
        ("reload_failed", "reload: connections failed", ("at most", 0),
         lambda f: count(total(f["reload"], "failed"), total(f["reload"], "of"))),
        ("reload_wrong", "reload: connections to a wrong node", ("at most", 0),
         lambda f: count(total(f["reload"], "wrong"), total(f["reload"], "of"))),
        ("reload_cut", "reload: busy sessions cut", ("at most", 0),
         lambda f: count(total(f["reload"], "cut"), 5 * len(f["reload"]))),
        ("split_accepted", "two nodes answer 200: connections accepted after the first second", ("at most", 0),
         lambda f: count(total(f["split"], "accepted"), total(f["split"], "of"))),
        ("dns_nxdomain", "DNS answers NXDOMAIN", ("at most", 0), lambda f: outage(f["dns"]["nxdomain"])),
        ("dns_silent", "DNS is silent", ("at most", 0), lambda f: outage(f["dns"]["silent"])),
        ("dns_omits", "DNS omits the primary", ("at most", 0), lambda f: outage(f["dns"]["omits"])),
    ]


def outage(found):
    if found["first_effect"] is None:
        return {"number": 0, "text": "no effect in %.0f s" % found["seconds"]}
    return {"number": found["failed"], "text": "dark after %.1f s" % found["first_effect"]}


def real_lines():
    each = lambda event, key: lambda r: [run[key] for run in r[event]]
    return [
        ("switchover_gap", "switchover: longest gap between two writes, max", ("at most", 3.3),
         lambda r: worst(each("switchover", "gap")(r))),
        ("switchover_gap_median", "switchover: the same, median", None,
         lambda r: middle(each("switchover", "gap")(r))),
        ("switchover_read_only", "switchover: read-only errors", ("at most", 0),
         lambda r: count(sum(each("switchover", "read_only")(r)))),
        ("killed_first_write", "leader killed: first write after the successor's promotion, max", ("at most", 0.5),
         lambda r: worst(each("killed", "first_write")(r))),
        ("frozen_leader_cut", "leader frozen: open session cut, max", ("at most", 3.0),
         lambda r: worst(each("frozen", "cut")(r))),
        ("frozen_leader_lost", "leader frozen and thawed: writes acknowledged after the promotion, and lost", ("at most", 0),
         lambda r: count(sum(each("frozen", "lost_after_promotion")(r)))),
    ]


def pgbench_figures(found):
    """Compared to the module's; the others have no value."""
    figures = []
    for mode in found["modes"]:
        tps = {name: statistics.median(values) for name, values in found["modes"][mode].items()}
        lbctl = ratio(found["ratio"][mode])
        lbctl["text"] += " (%.0f/s; direct %.0f/s)" % (tps["lbctl"], tps["direct"])
        module = {"number": 1, "text": "1 (%.0f/s)" % tps["module"]}
        figures.append(figure("pgbench " + mode, "pgbench -S, %s: transactions, relative to the module" % mode,
                              ("at least", 0.97), {"lbctl": lbctl, "module": module}))
    for mode, spent in found["cpu"].items():
        each = {name: statistics.median(values) for name, values in spent.items()}
        values = {name: {"number": round(each[name] / each["module"], 3),
                         "text": "%.2f (%.0f µs)" % (each[name] / each["module"], each[name] * 1e6)} for name in each}
        figures.append(figure("cpu " + mode, "the same: HAProxy's CPU time for each, relative to the module (%s)" % mode,
                              None, values))
    for kind in ("pss", "rss"):
        peak = {name: max(moment[name][kind] for moment in found["memory"].values()) for name in ("lbctl", "module")}
        lbctl = ratio(peak["lbctl"] / peak["module"])
        lbctl["text"] += " (%.1f MiB)" % peak["lbctl"]
        module = {"number": 1, "text": "1 (%.1f MiB)" % peak["module"]}
        figures.append(figure("memory " + kind, "HAProxy's worker: memory (%s), relative to the module" % kind.upper(),
                              ("at most", 1.2), {"lbctl": lbctl, "module": module}))
    return figures


def figure(key, label, required, values):
    return {"key": key, "label": label, "required": required, "values": values,
            "reached": required and reached(required, values["lbctl"]["number"])}


def reached(required, number):
    kind, limit = required
    return number is not None and (number <= limit if kind == "at most" else number >= limit)


def by_balancer(runs):
    """{event: [run]} with all balancers in each, turned to {balancer: {event: [its figures]}}."""
    return {name: {event: [run["balancers"][name] for run in each] for event, each in runs.items()} for name in NAMES}


def summary(found):
    """All that the documents need of a run: where, how often, the figures, and the times that the picture shows."""
    figures, samples = [], {}
    if "fake" in found:
        figures += [figure(key, label, required, {name: value(found["fake"][name]) for name in NAMES})
                    for key, label, required, value in fake_lines()]
        samples["flip"] = {name: {key: rounded(flip[key] for flip in found["fake"][name]["flip"])
                                  for key in ("new_used", "old_used", "cut")} for name in NAMES}
    if "real" in found:
        real = by_balancer(found["real"])
        figures += [figure(key, label, required, {name: value(real[name]) for name in NAMES})
                    for key, label, required, value in real_lines()]
        samples["real"] = {name: {"gap": rounded(run["gap"] for run in real[name]["switchover"]),
                                  "first_write": rounded(run["first_write"] for run in real[name]["killed"]),
                                  "cut": rounded(run["cut"] for run in real[name]["frozen"])} for name in NAMES}
    if "pgbench" in found:
        figures += pgbench_figures(found["pgbench"])
    return {"schema": 1, "about": found["about"], "figures": figures, "samples": samples}


def rounded(values):
    return [None if value is None else round(value, 3) for value in values]


# ---- for people


def required_words(required):
    if required is None:
        return ""
    kind, limit = required
    return "%s %s" % ({"at most": "≤", "at least": "≥"}[kind], limit) if limit else "0"


def rows(told):
    yield ["", "required", *NAMES.values(), "reached"]
    for one in told["figures"]:
        values = [one["values"].get(name, {"text": "–"})["text"] for name in NAMES]
        yield [one["label"], required_words(one["required"]), *values,
               {None: "", True: "yes", False: "NO"}[one["reached"]]]


def text_table(told):
    table = list(rows(told))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def markdown(told):
    table = list(rows(told))
    lines = ["| %s |" % " | ".join(row) for row in table]
    lines.insert(1, "|" + "---|" * len(table[0]))
    about, counts = told["about"], told["about"]["counts"]
    words = ("Measured %(date)s on HAProxy %(haproxy)s, %(cores)d cores of a virtual machine, load %(load_at_start).1f at the "
             "start." % about)
    if told["samples"]:
        words += (" %(flips)d flips, %(starts)d starts, %(reloads)d reloads, %(switchover)d switchovers, %(killed)d killed "
                  "and %(frozen)d frozen leaders." % counts)
    for part, other in about.get("parts", {}).items():
        words += " %s: a run of its own, %s, load %.1f at the start." % (PARTS[part], other["date"], other["load_at_start"])
    return "%s\n\n%s\n" % (words, "\n".join(lines))


def write(found, out):
    told = summary(found)
    out.mkdir(parents=True, exist_ok=True)
    (out / "run.json").write_text(json.dumps(dict(told, raw=found), indent=1) + "\n", encoding="utf-8")
    (out / "failover.svg").write_text(plot.picture(told["samples"], NAMES), encoding="utf-8")
    (out / "table.txt").write_text(text_table(told), encoding="utf-8")


def compact(told):
    """One figure a line: such a file can be read, and compared with the last one."""
    lines = ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in told["figures"])
    rest = ['"%s": %s' % (key, json.dumps(told[key], ensure_ascii=False)) for key in ("schema", "about", "samples")]
    return '{\n %s,\n "figures": [\n  %s\n ]\n}\n' % (",\n ".join(rest), lines)


PARTS = {"fake": "What the fake nodes show", "real": "What the real cluster shows", "pgbench": "Throughput and memory"}


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
    before, rest = (DOCS / "failover.md").read_text(encoding="utf-8").split(BEGIN)
    return {"failover.md": before + BEGIN + markdown(told) + END + rest.split(END)[1],
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
