"""What lbctl adds to files of others, and how it takes it back. Python 3.10 or newer, standard
library only.

One rule for all of them: what others wrote stays. What lbctl adds is recorded first, with what it
replaces. What is not wanted any more is taken out, and what it had replaced comes back. Which files
and what to add is decided in `services`; files that are lbctl's alone are no matter of this one."""

from __future__ import annotations

import json
import os
import re

from .paths import at
from .tools import exists, read, read_bytes, read_json, remove, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .wire import Settings

RECORD = "/var/lib/lbctl/additions.json"
DOCKER = "/etc/docker/daemon.json"
DOCKER_OURS = "/etc/lbctl/docker-daemon.json"
CHRONY = "/etc/chrony/chrony.conf"
MARK = b"#lbctl# "
# On a line of its own before each line that is added: chrony knows no comment behind a directive.
ADDED = b"#lbctl+#\n"
# What lbctl 0.1 took for the end of a line in `authorized_keys`, beside a line feed.
ENDS_IN_0_1 = "[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]"


def add(path: str, kind: str, wanted: Any) -> bool:
    """Adds what is wanted in place of what was added before; nothing (None, or empty): takes that
    back. Returns whether the file is another now."""
    everything = recorded()
    entry = everything.get(path, {"kind": kind, "ours": None, "were": None})
    present = read(path)
    text, ours, were = KINDS[kind](present, entry["ours"], entry["were"], wanted)
    # The record comes first: killed in between, lbctl knows of more than is there, never of less.
    if ours or were:
        both = merged(entry["ours"], ours) if kind == "lines" else ours
        record(everything, path, {"kind": kind, "ours": both, "were": were})
    if text != present:
        put(path, text)
    if not (ours or were):
        record(everything, path, None)
    return text != present


def put(path: str, text: bytes | None) -> None:
    """With the mode and the owner that it has: it is not lbctl's."""
    if text is None:
        remove(path)
    elif exists(path):
        present = os.stat(at(path))
        ids = (present.st_uid, present.st_gid)
        write(path, text, present.st_mode & 0o7777, ids)
    else:
        write(path, text)


def take_back(but: set[str]) -> list[str]:
    """All that was added anywhere else. Returns what it changed."""
    gone = [(path, entry["kind"]) for path, entry in recorded().items() if path not in but]
    return [path for path, kind in gone if add(path, kind, None)]


# ---- the record


def recorded() -> dict[str, Any]:
    found: dict[str, Any] = read_json(RECORD) or {}
    return found


def record(everything: dict[str, Any], path: str, entry: Any) -> None:
    """None: nothing of lbctl's is in it."""
    before = everything.get(path)
    if entry is None:
        everything.pop(path, None)
    else:
        everything[path] = entry
    if before != entry:
        write(RECORD, json.dumps(everything, indent=2) + "\n")


def expect_lines(path: str, lines: list[str]) -> None:
    """Before lines are added by other means than `add`."""
    everything = recorded()
    known = everything.get(path, {}).get("ours")
    entry = {"kind": "lines", "ours": merged(known, lines), "were": None}
    record(everything, path, entry)


def settle_lines(path: str, lines: list[str]) -> None:
    """After that."""
    entry = {"kind": "lines", "ours": lines, "were": None} if lines else None
    record(recorded(), path, entry)


def adopt(before: Settings, keys_of: Callable[[str], str | None]) -> None:
    """What lbctl 0.1 added, which kept no record: as far as it can still be known from the settings
    that were applied last and the files that it had merged."""
    if exists(RECORD) or not before:
        return
    found: dict[str, Any] = {}
    admin = before.get("admin")
    keys = keys_of(admin["user"]) if admin else None
    if admin and keys and admin["keys"]:
        pieces = [p.strip() for key in admin["keys"] for p in re.split(ENDS_IN_0_1, key)]
        found[keys] = {"kind": "lines", "ours": merged(admin["keys"], pieces), "were": None}
    if "docker" in before.get("services", []):
        ours = {"live-restore": True, **(read_json(DOCKER_OURS) or {})}
        found[DOCKER] = {"kind": "settings", "ours": ours, "were": {}}
        if before.get("registry"):
            path = registry_ca(before["registry"] or "")
            if exists(path):
                text = read_bytes(path).decode("utf-8", "replace")
                found[path] = {"kind": "file", "ours": text, "were": None}
    if MARK in read_bytes(CHRONY):
        found[CHRONY] = {"kind": "commented", "ours": ["any"], "were": None}
    write(RECORD, json.dumps(found, indent=2) + "\n")


def registry_ca(registry: str) -> str:
    """Where Docker looks for the CA at each pull."""
    return f"/etc/docker/certs.d/{registry}/ca.crt"


# ---- kinds of files: from what is there, what was added, what that replaced and what is wanted, to
# the new text, what of it is lbctl's, and what it replaces


def lines(
    present: bytes | None, ours: list[str] | None, _: None, wanted: list[str] | None
) -> tuple[bytes | None, list[str], None]:
    """Lines among those of others. A line ends at a line feed and nowhere else: sshd knows no other
    end, and a key that lbctl took for two would stay when it is to be removed."""
    text = (present or b"").decode("utf-8", "surrogateescape")
    wanted = wanted or []
    outdated = set(ours or []) - set(wanted)
    kept = [line for line in text.split("\n") if line.strip() not in outdated]
    if kept and kept[-1] == "":
        kept.pop()
    added = kept + [line for line in wanted if line not in kept]
    if present is not None and added == text.removesuffix("\n").split("\n"):
        return present, wanted, None
    if present is None and not added:
        return None, wanted, None
    made = "".join(line + "\n" for line in added)
    return made.encode("utf-8", "surrogateescape"), wanted, None


def settings(
    present: bytes | None,
    ours: dict[str, Any] | None,
    were: dict[str, Any] | None,
    wanted: dict[str, Any] | None,
) -> tuple[bytes | None, dict[str, Any], dict[str, Any]]:
    """Keys of a JSON document. A list keeps the items of others."""
    document = json.loads(present) if present and present.strip() else {}
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    before = json.dumps(document)
    for key, value in (ours or {}).items():
        put_back(document, key, value, were or {})
    ours, were = {}, {}
    for key, value in (wanted or {}).items():
        there = document.get(key)
        if isinstance(value, list) and isinstance(there, list):
            ours[key] = [item for item in value if item not in there]
            document[key] = there + ours[key]
        elif there != value:
            if key in document:
                were[key] = there
            ours[key] = document[key] = value
    if json.dumps(document) == before:
        return present, ours, were
    # lbctl made the file, and nobody else has put anything into it.
    text = None if not document else (json.dumps(document, indent=2) + "\n").encode()
    return text, ours, were


def put_back(document: dict[str, Any], key: str, ours: Any, were: dict[str, Any]) -> None:
    """Unless somebody has changed it since."""
    there = document.get(key)
    if isinstance(ours, list) and isinstance(there, list):
        document[key] = [item for item in there if item not in ours]
        if not document[key] and ours:
            del document[key]
    elif there == ours and key in document:
        if key in were:
            document[key] = were[key]
        else:
            del document[key]


def whole(
    present: bytes | None, ours: str | None, were: str | None, wanted: str | None
) -> tuple[bytes | None, str | None, str | None]:
    """A file in a folder of others."""
    there = None if present is None else present.decode("utf-8", "surrogateescape")
    original = were if there == ours else there
    text = wanted or original
    made = None if text is None else text.encode("utf-8", "surrogateescape")
    # What was there already is theirs.
    ours = None if text == original else wanted
    return made, ours, original if ours else None


def commented(
    present: bytes | None, _: list[str] | None, __: None, wanted: list[str] | None
) -> tuple[bytes | None, list[str], None]:
    """Directives that are commented out, and, with a `+` before them, lines that are added at the
    end. The marks in the file are what says so."""
    if present is None:
        return None, [], None
    plain = re.sub(b"^" + MARK, b"", without_added(present), flags=re.M)
    if not wanted:
        return plain, [], None
    words = [re.escape(word.encode()) for word in wanted if not word.startswith("+")]
    text = plain
    if words:
        every = b"|".join(words)
        text = re.sub(rb"^((?:%s)\s.*)$" % every, MARK + rb"\1", plain, flags=re.M)
    added = [word[1:].encode() for word in wanted if word.startswith("+")]
    if added and not text.endswith(b"\n"):
        text += b"\n"
    return text + b"".join(ADDED + line + b"\n" for line in added), wanted, None


def without_added(text: bytes) -> bytes:
    """Without the lines that lbctl added: each stands behind its mark."""
    return re.sub(rb"^" + re.escape(ADDED) + rb".*\n?", b"", text, flags=re.M)


KINDS: dict[str, Callable[..., tuple[bytes | None, Any, Any]]] = {
    "lines": lines,
    "settings": settings,
    "file": whole,
    "commented": commented,
}


def merged(one: list[str] | None, other: list[str] | None) -> list[str]:
    return list(dict.fromkeys([*(one or []), *(other or [])]))
