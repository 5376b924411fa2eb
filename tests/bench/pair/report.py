"""What a run found, as figures beside what is required of lbctl: a table for people, JSON for programs, a picture.

Pure but for `write`, `publish` and the check of the documents:

  tests/bench/pair/report.py check      whether docs/pair.md and its picture are those of docs/pair.json, and of page.md
  tests/bench/pair/report.py publish    makes them so
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import promises
from figures import compact, count, figure, markdown_table, middle, replaced, rounded, text_table, total, worst
from strips import Strips

PAGE = pathlib.Path(__file__).with_name("page.md")
DOCS = pathlib.Path(__file__).resolve().parents[3] / "docs"
NAMES = {"lbctl 2.2.7": "lbctl, keepalived 2.2.7", "lbctl 2.3.3": "lbctl, keepalived 2.3.3",
         "autobase 2.2.7": "autobase's settings, 2.2.7", "autobase 2.3.3": "autobase's settings, 2.3.3"}
OURS = ("lbctl 2.2.7", "lbctl 2.3.3")
BEGIN, END = "<!-- table: made by ./dev bench pair --publish -->\n", "<!-- end of table -->"
AT_ONCE = {1: "one pair at a time", 2: "two pairs at once"}
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
# What a row of the picture shows: its name, the event, what of it, and what is required.
ROWS = [
    ("A VM's host dies: new connections fail or are slow for", "host dead", "gap", promises.GAPS["host dead"]),
    ("Its cable is out", "cable out", "gap", promises.GAPS["cable out"]),
    ("The VM stands still", "frozen", "gap", promises.GAPS["frozen"]),
    ("HAProxy is killed", "haproxy killed", "gap", promises.GAPS["haproxy killed"]),
    ("HAProxy hangs", "haproxy hangs", "gap", promises.GAPS["haproxy hangs"]),
    ("keepalived is stopped: its clean shutdown", "stopped", "gap", promises.GAPS["stopped"]),
    ("keepalived is killed: until one VM alone has the address", "keepalived killed", "settled", promises.ALONE),
]


# ---- the figures: each line is made by a function of what one contender's trials of an event found


def gap_lines(event, words, median=None):
    return [
        (event, "%s: gap, median" % words, median and ("at most", median), lambda t: middle(each["gap"] for each in t)),
        (event, "the same, max", ("at most", promises.GAPS[event]), lambda t: worst(each["gap"] for each in t)),
        (event, "the same: sessions cut", None, lambda t: count(total(t, "cut"), total(t, "sessions"))),
    ]


def nothing_lines(event, words):
    return [
        (event, "%s: connects failed" % words, ("at most", 0), lambda t: count(total(t, "failed"), total(t, "of"))),
        (event, "the same: sessions cut", ("at most", 0), lambda t: count(total(t, "cut"), total(t, "sessions"))),
    ]


def longest_two(t):
    return worst(each["two"] for each in t)


def moves(t):
    return count(sum(each["moves"] for each in t))


def lines():
    return [
        *nothing_lines("handover", "handover, 50 busy sessions"),
        ("handover", "the same: slowest connect", None, lambda t: worst(each["slowest"] for each in t)),
        ("handover", "the same: moved", ("at least", 1), lambda t: share(t, lambda each: each["moved"])),
        *nothing_lines("taken back", "the VM that stepped back is ready again"),
        *gap_lines("host dead", "host dead", 0.65),
        *nothing_lines("host boots", "it boots again"),
        *gap_lines("cable out", "cable out", 0.65),
        *nothing_lines("cable back", "cable in again"),
        ("cable back", "the same: two had the address, longest", ("at most", promises.TWO), longest_two),
        *gap_lines("frozen", "VM frozen", 0.65),
        ("resumes", "it resumes: slowest connect", ("at most", promises.SLOWEST), lambda t: worst(slowest(each) for each in t)),
        ("resumes", "the same: sessions cut", None, lambda t: count(total(t, "cut"), total(t, "sessions"))),
        ("resumes", "the same: two had the address, longest", ("at most", promises.TWO), longest_two),
        *gap_lines("haproxy killed", "HAProxy killed"),
        ("haproxy killed", "the same: moved", ("at least", 1), lambda t: share(t, lambda each: each["moves"] > 0)),
        *gap_lines("haproxy hangs", "HAProxy hangs (SIGSTOP)"),
        *nothing_lines("haproxy goes on", "it goes on"),
        *gap_lines("stopped", "keepalived stopped, as at a shutdown"),
        *nothing_lines("started", "it is started again"),
        ("keepalived killed", "keepalived killed: one VM alone has the address after, max", ("at most", promises.ALONE),
         lambda t: worst((each["settled"] for each in t), 6)),
        ("keepalived killed", "the same: gap, max", None, lambda t: worst(each["gap"] for each in t)),
        ("sees none", "the holder alone sees no primary: the address moves after, max", ("at most", promises.SEES_NONE),
         lambda t: worst(each["settled"] if each["moves"] else None for each in t)),
        ("sees one again", "it sees one again: the address moves", ("at most", 0), moves),
        ("nobody", "no VM sees a primary for 60 s: the address moves", ("at most", 0), moves),
        ("drain ends", "the VM that stepped back dies: its last session hears of it after, max", ("at most", promises.TOLD),
         lambda t: worst(each["cut_after"] if each["cut"] == each["sessions"] else None for each in t)),
        ("two step back", "both step back at once: both were let", ("at most", 0),
         lambda t: count(sum(each["both"] for each in t), len(t))),
        ("alone", "a step back with nobody to take it: refused", ("at least", 1),
         lambda t: share(t, lambda each: each["refused"] and not each["moves"])),
        ("both start", "both start at once: two had it, longest", ("at most", promises.TWO_AT_START),
         longest_two),
        ("late", "a VM's own address comes 30 s late: it is ready after", ("at most", promises.LATE),
         lambda t: worst(each["ready"] for each in t)),
        ("forged", "forged VRRP from elsewhere, of a peer, through a router: the address moves", ("at most", 0), moves),
        ("busy", "four busy loops for a minute: the address moves", ("at most", 0), moves),
        ("kills", "a program killed at a step of step back, drain or return: not healed, or not as required", ("at most", 0),
         lambda t: count(sum(bool(each["wrong"]) for each in t), len(t))),
        ("kills", "the same: nobody had the address, longest", None, lambda t: worst(each["none"] for each in t)),
        ("kills", "the same: two had it, longest", ("at most", promises.TWO), longest_two),
    ]


def slowest(trial):
    """Of one that has no end in time there is no slowest."""
    return None if trial["gap"] is None or trial["failed"] else trial["slowest"]


def share(trials, fits):
    """1: all of them."""
    number = sum(map(bool, map(fits, trials)))
    return {"number": number / len(trials), "text": "%d of %d" % (number, len(trials))}


def summary(run):
    """All that the documents need of a run: where, how often, the figures, and the times that the picture shows."""
    found, figures = run["found"], []
    for event, words, required, value in lines():
        values = {name: value(found[name][event]) for name in NAMES if found[name].get(event)}
        if values:
            figures.append(figure("%s %d" % (event, len(figures)), words, required, values, OURS))
    timed = [event for event in found["lbctl 2.2.7"] if event not in ("busy", "kills", "lost", "late", "nobody", "both start")]
    stray = {name: [trial["stray"] for event in timed for trial in found[name].get(event, [])] for name in NAMES}
    figures.append(figure("stray", "asked by ARP afterwards, all events: not the holder alone answers", ("at most", 0),
                          {name: count(sum(each), len(each)) for name, each in stray.items() if each}, OURS))
    lost = {name: len(found[name].get("lost", [])) for name in NAMES}
    figures.append(figure("lost", "trials that did not settle, and were begun again", ("at most", 0),
                          {name: count(many) for name, many in lost.items()}, OURS))
    wrong = not_as_promised(found)
    values = {name: count(sum(one[0] == name for one in wrong), sum(map(len, found[name].values()))) for name in OURS}
    figures.append(figure("wrong", "trials of all events that were not as promised", ("at most", 0), values, OURS))
    loads = sorted(trial["load"] for name in NAMES for event in timed for trial in found[name].get(event, []))
    about = dict(run["about"], load={"median": loads[len(loads) // 2], "max": loads[-1]} if loads else None)
    samples = {event: {name: rounded(trial[key] for trial in found[name].get(event, [])) for name in NAMES}
               for _, event, key, _ in ROWS}
    return {"schema": 1, "about": about, "figures": figures, "samples": samples}


def not_as_promised(found):
    """Who, which event, which of its trials, and what was wrong."""
    return [(name, event, number, each["wrong"]) for name in OURS for event, trials in found[name].items()
            for number, each in enumerate(trials, 1) if each.get("wrong")]


# ---- for people


def markdown(told):
    about = told["about"]
    trials, programs, load = about["trials"], about["versions"], about["load"]
    made = ", ".join("keepalived %(keepalived)s with HAProxy %(haproxy)s" % one for one in programs.values())
    words = ("Measured %s: %s; %d cores of a virtual machine, load %.1f at the start, %.1f in the median and %.1f at most, %d "
             "minutes, %s. Of each event %d trials for lbctl and %d for autobase's settings on each keepalived; "
             "a quarter of two step backs at once, one with nobody to take it, both starting and forged VRRP; one of each "
             "minute."
             % (about["date"], made, about["cores"], about["load_at_start"], load["median"], load["max"], about["minutes"],
                AT_ONCE[about["at_once"]], trials["lbctl 2.2.7"], trials["autobase 2.2.7"]))
    return "%s\n\n%s\n" % (words, markdown_table(told, NAMES))


def picture(told):
    shown = [(title, told["samples"][event], required) for title, event, _, required in ROWS]
    return Strips(TICKS, left=190).picture("Losing one of two load balancers",
                                           "What losing one of two load balancers costs those who connect", shown, NAMES)


def write(told, found, out):
    out.mkdir(parents=True, exist_ok=True)
    (out / "run.json").write_text(json.dumps(dict(told, raw=found), indent=1) + "\n", encoding="utf-8")
    (out / "pair.svg").write_text(picture(told), encoding="utf-8")
    wrong = ["%s, %s, trial %d: %s\n" % (name, event, number, "; ".join(words))
             for name, event, number, words in not_as_promised(found)]
    text = text_table(told, NAMES) + "".join(["\nNot as promised:\n", *wrong] if wrong else [])
    (out / "table.txt").write_text(text, encoding="utf-8")


def publish(told):
    (DOCS / "pair.json").write_text(compact(told), encoding="utf-8")
    for name, text in documents().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def documents():
    """What docs/pair.json makes of the documents, by name."""
    told = json.loads((DOCS / "pair.json").read_text(encoding="utf-8"))
    return {"pair.md": replaced(PAGE, BEGIN, markdown(told), END), "pair.svg": picture(told)}


def behind():
    return [name for name, text in documents().items() if (DOCS / name).read_text(encoding="utf-8") != text]


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        sys.exit("docs: %s: behind docs/pair.json: tests/bench/pair/report.py publish" % ", ".join(behind()) if behind() else 0)
    elif sys.argv[1:] == ["publish"]:
        publish(json.loads((DOCS / "pair.json").read_text(encoding="utf-8")))
    else:
        sys.exit(__doc__)
