"""What `lbctl-guest status` reports: HAProxy, its servers, the certificate, and cloud-init's
verdict. Reads, changes nothing, and prints no secret. Python 3.10 or newer, standard library
only."""

from __future__ import annotations

import base64
import csv
import json
import re
import time

from . import listeners, vip
from .paths import ADMIN_SOCKET, CLIENT_PEM, CLOUD_INIT
from .tools import ask, exists, is_active, read_bytes, read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import CertificateFacts, Certificates, CloudInit, Haproxy, Server, Status


def status() -> None:
    print(json.dumps(report(), indent=2))


def report() -> Status:
    haproxy = haproxy_status()
    return {
        "boot_id": read_bytes("/proc/sys/kernel/random/boot_id").decode().strip(),
        "uptime_s": float((read_bytes("/proc/uptime").split() or [b"0"])[0]),
        "cloud_init": cloud_init(),
        "haproxy": haproxy,
        "certificate": certificates(),
        "virtual_ip": vip.report(),
        "ready": haproxy["servers_up"] == 1,
    }


# ---- HAProxy


def haproxy_status() -> Haproxy:
    found: Haproxy = {
        "active": is_active("haproxy.service"),
        "version": None,
        "sessions": None,
        "max_connections": None,
        "held": None,
        "servers": [],
        "servers_up": 0,
        "primary": None,
        "error": None,
    }
    try:
        info = fields(ask(ADMIN_SOCKET, "show info"))
        found["version"] = info.get("Version")
        found["sessions"] = number(info.get("CurrConns"))
        found["max_connections"] = number(info.get("Maxconn"))
        found["held"] = held()
        found["servers"] = servers(ask(ADMIN_SOCKET, "show stat -1 4 -1"))
    except (OSError, ValueError) as problem:
        # A HAProxy that hangs is not in its own way.
        others = [] if found["active"] else listeners.in_the_way()
        found["error"] = "; ".join(others) or str(problem)
    up = [s for s in found["servers"] if s["backend"] == "primary" and s["state"].startswith("UP")]
    found["servers_up"] = len(up)
    found["primary"] = up[0]["address"] if len(up) == 1 else None
    return found


def held() -> int | None:
    """How many clients wait. A HAProxy without lbctl's Lua does not know the command."""
    return number(fields(ask(ADMIN_SOCKET, "show lbctl")).get("held"))


def fields(text: str) -> dict[str, str]:
    """Lines of `name: value`."""
    return dict(line.split(": ", 1) for line in text.split("\n") if ": " in line)


def servers(text: str) -> list[Server]:
    listed: list[Server] = []
    for row in table(text):
        state = row.get("status", "")
        nowhere = row.get("addr", "").split(":")[0] in ("", "<NONE>")
        # A slot for a node that DNS does not name, or a place where connections wait.
        if not row.get("svname") or (nowhere and "MAINT" in state) or state == "no check":
            continue
        # Whatever a server state made of such a place.
        if row["svname"].startswith("later"):
            continue
        # They follow those of the main port.
        if row.get("pxname") == "rest":
            continue
        listed.append(
            {
                "backend": row.get("pxname", ""),
                "name": row["svname"],
                # Port 0 is the one the client came to.
                "address": re.sub(r":0$", "", row.get("addr") or "") or None,
                "state": state,
                "check": row.get("check_status") or None,
                "check_code": number(row.get("check_code")),
                "check_detail": row.get("last_chk") or None,
                "last_change_s": number(row.get("lastchg")),
                "sessions": number(row.get("scur")),
            }
        )
    return listed


def table(text: str) -> list[dict[str, str]]:
    """HAProxy's CSV (management guide 9.1), a dictionary for each row. What a node answers is among
    its fields: quoted, with commas in it and with much that Python takes for the end of a line."""
    lines = text.lstrip("# ").replace("\0", "").split("\n")
    try:
        rows = list(csv.reader(lines))
    except csv.Error:
        return []
    return [dict(zip(rows[0], row, strict=False)) for row in rows[1:] if row]


def number(text: str | None) -> int | None:
    """One that every reader of JSON can represent."""
    try:
        value = int(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 2**63 else None


# ---- cloud-init


def cloud_init() -> CloudInit:
    """From the files that `cloud-init status` reads too, without the seconds that it takes to
    start."""
    finished = exists(f"{CLOUD_INIT}/result.json")
    disabled = exists(f"{CLOUD_INIT}/disabled")
    found: CloudInit = {
        "status": "disabled" if disabled else "not started",
        "stage": None,
        "errors": [],
    }
    v1 = (read_json(f"{CLOUD_INIT}/status.json") or {}).get("v1")
    if not v1:
        return found
    found["stage"] = v1.get("stage")
    for stage in v1.values():
        if isinstance(stage, dict):
            found["errors"] += [str(e)[-500:] for e in stage.get("errors") or []][:10]
    if found["errors"]:
        found["status"] = "error"
    else:
        found["status"] = "done" if finished else "running"
    return found


# ---- the client certificate


def certificates() -> Certificates:
    """The one on the disk, and the one that HAProxy shows to the nodes."""
    return {"on_disk": on_disk(), "in_use": in_use()}


def on_disk() -> CertificateFacts | None:
    pem = read_bytes(CLIENT_PEM).decode("ascii", "replace")
    body = re.search(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", pem, re.S)
    try:
        return certificate(base64.b64decode(body.group(1))) if body else None
    except (ValueError, IndexError):
        return None


def in_use() -> CertificateFacts | None:
    try:
        shown = fields(ask(ADMIN_SOCKET, f"show ssl cert {CLIENT_PEM}"))
        after = time.strptime(shown["notAfter"], "%b %d %H:%M:%S %Y %Z")
        return {
            "serial": shown["Serial"].lower(),
            "not_after": time.strftime("%Y-%m-%dT%H:%M:%SZ", after),
        }
    except (OSError, KeyError, ValueError):
        return None


def certificate(der: bytes) -> CertificateFacts:
    """Serial number and end of validity: the two fields of X.509 that matter here."""
    tbs = der_items(der_items(der)[0][1])[0][1]
    items = [item for item in der_items(tbs) if item[0] != 0xA0]
    serial, after = items[0][1], der_items(items[3][1])[1]
    text = after[1].decode("ascii")
    if after[0] == 0x17:
        text = ("19" if text[:2] >= "50" else "20") + text
    date, clock = (text[:4], text[4:6], text[6:8]), (text[8:10], text[10:12], text[12:14])
    return {
        "serial": serial.lstrip(b"\0").hex(),
        "not_after": f"{'-'.join(date)}T{':'.join(clock)}Z",
    }


def der_items(data: bytes) -> list[tuple[int, bytes]]:
    """The elements of a constructed value: tag and content of each."""
    items, at = [], 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        items.append((tag, data[at : at + length]))
        at += length
    return items
