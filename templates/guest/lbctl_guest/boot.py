"""What starts everything when cloud-init has written the files. Python 3.10 or newer, standard
library only."""

from __future__ import annotations

import os

from .converge import applied, clear_away, locked, remember
from .haproxy import IN_USE
from .paths import UNITS
from .services import apply
from .tools import Attempts, enable_now, settings, systemctl, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import Settings


def boot() -> None:
    """What cloud-init runs last, at each boot with another seed. What is missing or fails is
    reported at the end, and everything else is done: HAProxy must not depend on the other
    services."""
    conf = settings()
    attempts = Attempts()
    with locked():
        clear_away(conf, applied(), attempts)
        attempts.attempt("systemd", reload_manager, conf)
        if conf["install"]:
            # The agent, installed just now, has missed the event that starts it.
            attempts.attempt("guest agent", start_agent)
        apply(conf, attempts)
        attempts.attempt("lbctl-save-state", enable_now, "lbctl-save-state.timer")
        attempts.conclude()
        remember(conf)


def start_agent() -> None:
    systemctl("start", "qemu-guest-agent.service", check=False)


def reload_manager(conf: Settings) -> None:
    """Only where it still has a unit from before cloud-init wrote lbctl's: a reload takes a
    small guest many seconds."""
    paths = [entry["path"] for entry in conf["files"] if entry["path"].startswith(f"{UNITS}/")]
    stale = [
        path
        for path, known in zip(paths, known_units(paths), strict=True)
        if known.get("FragmentPath") != path or known.get("NeedDaemonReload") != "no"
    ]
    if f"{UNITS}/haproxy.service" in stale:
        # What runs, if it does, was started by the previous unit, not by the one on the disk.
        write(IN_USE, "{}")
    if stale:
        systemctl("daemon-reload")


def known_units(paths: list[str]) -> list[dict[str, str]]:
    """What the manager has read of each; nothing where it does not say."""
    names = [os.path.basename(path) for path in paths]
    properties = "--property=FragmentPath,NeedDaemonReload"
    text = systemctl("show", properties, *names, check=False)[1]
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in text.split("\n\n")
    ]
    return (blocks + [{} for _ in paths])[: len(paths)]
