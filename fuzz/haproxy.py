"""HAProxy's answers, as lbctl's program in the guest reads them. A node's own words are in them: whatever it says, its row is
one row, the others' stay as they are, and nothing raises. Standard library only; the same seed makes the same answers.

  python3 fuzz/haproxy.py [SEED [ANSWERS]]
"""
import csv
import io
import json
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "templates/guest"))
sys.dont_write_bytecode = True
import wait  # noqa: E402
from lbctl_guest import old_workers, status  # noqa: E402

PIECES = [",", '"', '""', "\n", "\r", "\r\n", "\0", "\x0b", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[2J", "\x9b", "\u202e",
          "# ", "pxname", "primary,evil," + "," * 15 + "UP", "UP", "MAINT", "<NONE>", ":0", "9" * 5000, "-1", "\ufeff", "高",
          "e\u0301" * 9]
# What an HTTP status line lets through, and so HAProxy does (RFC 9112, reason-phrase; bytes above 0x7f as UTF-8).
WORDS = [piece for piece in PIECES if not set(piece) & set("\r\n\0")]


def read(text):
    """Every reader; nothing may be raised, and everything must be fit for JSON."""
    listed = status.servers(text)
    json.dumps(listed)
    for server in listed:
        assert isinstance(server["backend"], str) and isinstance(server["state"], str), server
        for name in ("check_code", "last_change_s", "sessions"):
            assert server[name] is None or 0 <= server[name] < 2 ** 63, server
    json.dumps(wait.up(text))
    old_workers.ask = lambda *_, **__: text
    assert all(isinstance(name, str) for name in old_workers.old_workers())
    return listed


def mutated(chance, text):
    for _ in range(chance.randint(1, 6)):
        at, end = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        end = min(end, at + chance.choice((0, 1, 8, 200)))
        text = text[:at] + chance.choice((chance.choice(PIECES), text[end:end + 90], "")) + text[end:]
    return text


def lied(chance, table):
    """A table as HAProxy writes it, in which nodes say what they like; and what must be read from it."""
    names = table[0]
    rows = [row[:] for row in table[1:]]
    for row in rows:
        row[names.index("last_chk")] = "".join(chance.choice(WORDS) for _ in range(chance.randint(0, 5)))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    head = "# " + ",".join(names) + "\n"
    return head + out.getvalue() + "\n", [(row[0], row[1], row[17], row[names.index("addr")]) for row in rows]


def main(seed, count):
    corpus = [path.read_bytes().decode("utf-8", "replace") for path in sorted((HERE / "corpus/haproxy").iterdir())]
    assert len(corpus) >= 2
    for text in corpus:
        read(text)
    whole = next(text for text in corpus if text.count("\n") > 3)
    table = [row for row in csv.reader(whole.lstrip("# ").split("\n")) if row]
    chance, started = random.Random(seed), time.monotonic()
    for n in range(count):
        if n % 2:
            read(mutated(chance, chance.choice(corpus)))
        else:
            text, expected = lied(chance, table)
            found = [(s["backend"], s["name"], s["state"], s["address"]) for s in read(text)]
            assert found == expected, (seed, n, text, found)
            primaries = [address for backend, _, state, address in expected if backend == "primary" and state == "UP"]
            assert wait.up(text) == primaries, (seed, n, text)
    print("%d answers, seed %d, %.1f s: none was misread" % (count, seed, time.monotonic() - started))


if __name__ == "__main__":
    main(*(int(word) for word in (sys.argv[1:] + ["1", "4000"][len(sys.argv) - 1:])))
