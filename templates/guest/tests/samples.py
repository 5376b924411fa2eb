"""What the tests start from: settings and a spec as lbctl writes them, and answers of HAProxy."""

from __future__ import annotations

import copy
import json
from typing import cast

from conftest import GOLDEN, Files, golden
from lbctl_guest.paths import APPLIED, SETTINGS
from lbctl_guest.wire import Settings, Spec, SpecFile

CLIENT = (GOLDEN / "client.pem").read_text(encoding="ascii")

INFO = "Name: HAProxy\nVersion: 2.6.12\nUptime_sec: 7\nPid: 42\nCurrConns: 13\nMaxconn: 2064\n\n"
HEAD = "# pxname,svname,scur,status,lastchg,check_status,check_code,addr,last_chk,"
UP = "primary,node2,12,UP,772,L7OK,200,10.77.0.12:0,OK,"
DOWN = 'primary,node1,0,DOWN,5,L7STS,503,10.77.0.11:0,"Service Unavailable",'
LATER = "primary,later1,0,no check,5,,,127.0.0.1:1,,"
SLOT = "primary,node9,0,MAINT (resolution),5,,,<NONE>,,"


def stat(*rows: str) -> str:
    return "\n".join([HEAD, *rows]) + "\n\n"


def spec() -> Spec:
    """Everything is wanted, and HAProxy runs in a container."""
    return cast(Spec, golden("task.json")["spec"])


def settings_of(wanted: Spec) -> Settings:
    entry = next(entry for entry in wanted["files"] if entry["path"] == SETTINGS)
    return cast(Settings, json.loads(entry["content"]))


def settings(*services: str) -> Settings:
    """With these services; without any, all that lbctl knows."""
    found = settings_of(spec())
    if services:
        found["services"] = list(services)
    return found


def settings_0_1() -> Settings:
    return cast(Settings, golden("settings-0.1.0.json"))


def small_spec(*files: SpecFile, services: tuple[str, ...] = ("haproxy",)) -> Spec:
    """A guest of these files only, with HAProxy from its package and nothing to install."""
    wanted = spec()
    conf = settings_of(wanted)
    conf["runtime"] = "package"
    conf["install"] = False
    conf["settle_s"] = 0.0
    conf["services"] = list(services)
    conf["files"] = [
        {
            "path": entry["path"],
            "mode": f"{entry['mode']:04o}",
            "owner": entry["owner"],
            "affects": entry["affects"],
        }
        for entry in files
    ]
    wanted["files"] = [*files, file(SETTINGS, json.dumps(conf))]
    return wanted


def file(path: str, content: str, affects: str = "guest", mode: int = 0o644) -> SpecFile:
    return {
        "path": path,
        "content": content,
        "secret": False,
        "mode": mode,
        "owner": "root",
        "affects": affects,
    }


def install_all(files: Files, wanted: Spec) -> None:
    """As it is after a boot."""
    for entry in wanted["files"]:
        files.put(entry["path"], entry["content"], entry["mode"])
    files.put("/etc/shadow", f"ubuntu:{wanted['admin']['password_hash']}:1::\n")
    files.put(APPLIED, json.dumps(settings_of(wanted)))
    files.put("/run/cloud-init/result.json", "{}")


def changed(wanted: Spec, path: str, content: str) -> Spec:
    other = copy.deepcopy(wanted)
    for entry in other["files"]:
        if entry["path"] == path:
            entry["content"] = content
    return other
