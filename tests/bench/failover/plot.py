"""The picture of a run: every repetition of every timed event."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from strips import Strips

# What a row shows: its name, where its samples are, what is required.
ROWS = [
    ("Primary flips: whoever begins to connect after this reaches the new primary", "flip", "new_begun", 0.5),
    ("Primary flips: first connect served by the new primary after", "flip", "new_used", 1.0),
    ("Primary flips: old primary used until", "flip", "old_used", 0.5),
    ("Primary flips: open session closed after", "flip", "cut", 1.1),
    ("Frozen node: open session closed after its successor's promotion", "frozen", "cut", 1.0),
    ("Switchover of a real cluster: gap between two writes", "real", "gap", 3.3),
    ("Leader killed: first write after the successor's promotion", "real", "first_write", 0.5),
    ("Leader frozen: open session closed after the successor's promotion", "real", "cut", 1.0),
]
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40)


def picture(samples, names):
    """`samples`: report.summary's. Rows without any are left out."""
    shown = [(title, {name: samples[part][name][key] for name in names}, required)
             for title, part, key, required in ROWS if part in samples]
    return Strips(TICKS).picture("Failover through three load balancers",
                                 "How long a failover takes through each load balancer", shown, names)
