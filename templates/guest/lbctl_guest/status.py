"""What `lbctl-guest status` tells: HAProxy, its servers, the certificate, and how cloud-init fared. Reads, changes nothing,
and prints no secret. Python 3.8 or newer, standard library only."""
import base64
import csv
import json
import os
import re
import time

from guest_tools import ADMIN, ask, is_active, read, read_json

CLIENT = "/etc/haproxy/client.pem"


def status():
    report = {"schema": 1, "boot_id": (read("/proc/sys/kernel/random/boot_id", b"")).decode().strip(),
              "uptime_s": float((read("/proc/uptime", b"0").split() or [b"0"])[0])}
    report["cloud_init"] = cloud_init()
    report["haproxy"] = haproxy_status()
    report["certificate"] = certificate_status()
    report["ready"] = report["haproxy"]["servers_up"] == 1
    print(json.dumps(report, indent=2))


def haproxy_status():
    found = {"active": is_active("haproxy.service"), "version": None, "uptime_s": None, "sessions": None,
             "servers": [], "servers_up": 0, "primary": None, "error": None}
    try:
        info = dict(line.split(": ", 1) for line in ask(ADMIN, "show info").splitlines() if ": " in line)
        found["version"] = info.get("Version")
        found["uptime_s"] = number(info.get("Uptime_sec"))
        found["sessions"] = number(info.get("CurrConns"))
        found["max_connections"] = number(info.get("Maxconn"))
        found["servers"] = servers(ask(ADMIN, "show stat -1 4 -1"))
    except (OSError, ValueError) as problem:
        found["error"] = str(problem)
    up = [s for s in found["servers"] if s["backend"] == "primary" and s["state"].startswith("UP")]
    found["servers_up"] = len(up)
    found["primary"] = up[0]["address"] if len(up) == 1 else None
    return found


def servers(text):
    listed = []
    for row in table(text):
        state = row.get("status", "")
        # A place kept for a node that DNS does not name.
        if not row.get("svname") or row.get("addr", "").split(":")[0] in ("", "<NONE>") and "MAINT" in state:
            continue
        # Port 0 stands for the one the client came to.
        address = re.sub(r":0$", "", row.get("addr") or "") or None
        listed.append({
            "backend": row.get("pxname", ""), "name": row["svname"], "address": address,
            "state": state, "check": row.get("check_status") or None,
            "check_code": number(row.get("check_code")), "check_detail": row.get("last_chk") or None,
            "check_ms": number(row.get("check_duration")), "last_change_s": number(row.get("lastchg")),
            "sessions": number(row.get("scur")), "sessions_total": number(row.get("stot")),
        })
    return listed


def table(text):
    """HAProxy's CSV (management guide 9.1), a dictionary to a row. A node's own words are among its fields: quoted, with
    commas in them and with much that Python takes for the end of a line."""
    lines = text.lstrip("# ").replace("\0", "").split("\n")
    try:
        rows = list(csv.reader(lines))
    except csv.Error:
        return []
    return [dict(zip(rows[0], row)) for row in rows[1:] if row]


def number(text):
    """Of those that JSON's readers can hold."""
    try:
        value = int(text)
    except (TypeError, ValueError):
        return None
    return value if 0 <= value < 2 ** 63 else None


def cloud_init():
    """From the files that `cloud-init status` reads too, without its seconds of starting up."""
    run_dir = "/run/cloud-init"
    found = {"status": "not started", "detail": None, "stage": None, "errors": [], "recoverable_errors": {},
             "finished": os.path.exists(run_dir + "/result.json")}
    if os.path.exists(run_dir + "/disabled"):
        found["status"] = "disabled"
    v1 = (read_json(run_dir + "/status.json") or {}).get("v1")
    if not v1:
        return found
    found.update(detail=v1.get("datasource"), stage=v1.get("stage"))
    for stage in v1.values():
        if isinstance(stage, dict):
            found["errors"] += [str(e)[-500:] for e in stage.get("errors") or []][:10]
            for level, said in (stage.get("recoverable_errors") or {}).items():
                found["recoverable_errors"].setdefault(level, []).extend(str(e)[-500:] for e in said[:10])
    if found["errors"]:
        found["status"] = "error"
    else:
        found["status"] = "done" if found["finished"] else "running"
    return found


def certificate_status():
    """The client certificate on disk, and the one HAProxy shows to the nodes."""
    found = {"on_disk": None, "in_use": None}
    try:
        pem = read(CLIENT, b"").decode("ascii", "replace")
        body = re.search(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", pem, re.S)
        found["on_disk"] = body and certificate(base64.b64decode(body.group(1)))
    except (ValueError, IndexError) as problem:
        found["error"] = "unreadable certificate: %s" % problem
    try:
        text = ask(ADMIN, "show ssl cert /etc/haproxy/client.pem")
        fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        after = time.strptime(fields["notAfter"], "%b %d %H:%M:%S %Y %Z")
        found["in_use"] = {"serial": fields["Serial"].lower(), "not_after": time.strftime("%Y-%m-%dT%H:%M:%SZ", after)}
    except (OSError, KeyError, ValueError):
        pass
    return found


def certificate(der):
    """Serial number and end of validity: the two places of X.509 that matter here."""
    tbs = der_items(der_items(der)[0][1])[0][1]
    fields = [item for item in der_items(tbs) if item[0] != 0xA0]
    serial, after = fields[0][1], der_items(fields[3][1])[1]
    text = after[1].decode("ascii")
    if after[0] == 0x17:
        text = ("19" if text[:2] >= "50" else "20") + text
    when = "-".join((text[:4], text[4:6], text[6:8])) + "T" + ":".join((text[8:10], text[10:12], text[12:14])) + "Z"
    return {"serial": serial.lstrip(b"\0").hex(), "not_after": when}


def der_items(data):
    """The elements of a constructed value: tag and content of each."""
    items, at = [], 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at:at + size], "big")
            at += size
        items.append((tag, data[at:at + length]))
        at += length
    return items
