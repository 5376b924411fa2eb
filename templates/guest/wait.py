"""What lbctl has the guest agent run while it waits: one process that looks at cloud-init's files
and HAProxy's socket until there is something to report. A slow guest takes seconds to start one.

Arguments: the number of primaries that lbctl knows of, and for how many seconds to look. Imports
nothing of lbctl's: what is in the guest may be older, or not be there yet. Reads, changes nothing.
Python 3.10 or newer, standard library only."""

from __future__ import annotations

import csv
import json
import os
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lbctl_guest.wire import WaitCloudInit, WaitStatus

CLOUD_INIT = "/run/cloud-init"
ADMIN_SOCKET = "/run/haproxy/admin.sock"


def cloud_init() -> WaitCloudInit:
    if os.path.exists(f"{CLOUD_INIT}/disabled"):
        return {"status": "disabled", "errors": []}
    try:
        with open(f"{CLOUD_INIT}/status.json", encoding="utf-8") as f:
            stages = [stage for stage in json.load(f)["v1"].values() if isinstance(stage, dict)]
    except (OSError, ValueError, KeyError):
        return {"status": "not started", "errors": []}
    errors = [str(said)[-500:] for stage in stages for said in stage.get("errors") or []][:10]
    if errors:
        return {"status": "error", "errors": errors}
    finished = os.path.exists(f"{CLOUD_INIT}/result.json")
    return {"status": "done" if finished else "running", "errors": []}


def primaries() -> list[str]:
    text = b""
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            s.connect(ADMIN_SOCKET)
            s.sendall(b"show stat -1 4 -1\n")
            while True:
                more = s.recv(65536)
                if not more:
                    break
                text += more
    except OSError:
        return []
    return up(text.decode("utf-8", "replace"))


def up(text: str) -> list[str]:
    """The addresses of the primaries. As in lbctl_guest/status.py: what a node answers is
    between quotes."""
    try:
        table = list(csv.reader(text.lstrip("# ").replace("\0", "").split("\n")))
    except csv.Error:
        return []
    rows = [dict(zip(table[0], row, strict=False)) for row in table[1:]]
    return [
        row.get("addr", "").rsplit(":0", 1)[0]
        for row in rows
        if row.get("pxname") == "primary" and row.get("status", "").startswith("UP")
    ]


def wait(known: int, patience: float) -> WaitStatus:
    end = time.monotonic() + patience
    while True:
        verdict = cloud_init()
        settled = verdict["status"] in ("done", "disabled")
        found = primaries() if settled else []
        news = verdict["status"] == "error" or (settled and len(found) != known)
        if news or time.monotonic() >= end:
            one = len(found) == 1
            return {
                "cloud_init": verdict,
                "ready": one,
                "haproxy": {"servers_up": len(found), "primary": found[0] if one else None},
            }
        time.sleep(0.2)


if __name__ == "__main__":
    print(json.dumps(wait(int(sys.argv[1]), float(sys.argv[2]))))
