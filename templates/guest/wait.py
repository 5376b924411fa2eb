# What lbctl has the guest agent run while it waits: one process that looks at cloud-init's files and HAProxy's socket until
# there is something to tell, so that readiness is not seen late by the seconds that a slow guest takes to start one.
# Arguments: how many primaries lbctl knows of, and for how many seconds to look. Nothing of lbctl in the guest is used: what
# stands there may be older, or not yet be there. Reads, changes nothing. Python 3.8 or newer, standard library only.
import csv
import json
import os
import socket
import sys
import time

RUN = "/run/cloud-init"
ADMIN = "/run/haproxy/admin.sock"


def cloud_init():
    if os.path.exists(RUN + "/disabled"):
        return {"status": "disabled", "errors": []}
    try:
        with open(RUN + "/status.json", encoding="utf-8") as f:
            stages = [stage for stage in json.load(f)["v1"].values() if isinstance(stage, dict)]
    except (OSError, ValueError, KeyError):
        return {"status": "not started", "errors": []}
    errors = [str(said)[-500:] for stage in stages for said in stage.get("errors") or []][:10]
    done = "done" if os.path.exists(RUN + "/result.json") else "running"
    return {"status": "error" if errors else done, "errors": errors}


def primaries():
    text = b""
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(5)
            door.connect(ADMIN)
            door.sendall(b"show stat -1 4 -1\n")
            while True:
                more = door.recv(65536)
                if not more:
                    break
                text += more
    except OSError:
        return []
    return up(text.decode("utf-8", "replace"))


def up(text):
    """The addresses of the primaries. As in guest_status: a node's own words stand between quotes."""
    try:
        table = list(csv.reader(text.lstrip("# ").replace("\0", "").split("\n")))
    except csv.Error:
        return []
    rows = [dict(zip(table[0], row)) for row in table[1:]]
    return [row.get("addr", "").rsplit(":0", 1)[0] for row in rows
            if row.get("pxname") == "primary" and row.get("status", "").startswith("UP")]


def look(known, patience):
    end = time.monotonic() + patience
    while True:
        verdict = cloud_init()
        settled = verdict["status"] in ("done", "disabled")
        up = primaries() if settled else []
        if verdict["status"] == "error" or settled and len(up) != known or time.monotonic() >= end:
            return {"cloud_init": verdict, "ready": len(up) == 1,
                    "haproxy": {"servers_up": len(up), "primary": up[0] if len(up) == 1 else None}}
        time.sleep(0.2)


if __name__ == "__main__":
    print(json.dumps(look(int(sys.argv[1]), float(sys.argv[2]))))
