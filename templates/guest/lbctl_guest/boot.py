"""What starts everything when cloud-init has written the files. Python 3.10 or newer, standard
library only."""

from __future__ import annotations

from . import predecessor
from .converge import applied, clear_away, keep_pending, locked, remember
from .haproxy import IN_USE
from .paths import CLOUD_INIT, RUN, SETTINGS, UNITS
from .services import apply, apply_sysctl, apply_watchdog, own_units
from .tools import (
    Attempts,
    digest,
    enable_now,
    exists,
    read_bytes,
    remove,
    settings,
    systemctl,
    write,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import Settings


# What `early` has applied, for `boot`.
EARLY = f"{RUN}/early"
# Seconds that `boot` waits for an `early` that is not at its end.
PATIENCE = 1800


def early() -> None:
    """Where nothing is to be installed: `boot`, beside cloud-init's last stages, so that clients
    wait for neither of them. What fails is tried again by `boot`."""
    if exists(f"{CLOUD_INIT}/result.json"):
        # It had to wait for longer than `boot`.
        return
    with locked():
        conf = settings()
        start_everything(conf)
        write(EARLY, state_of(conf))


def boot() -> None:
    """What cloud-init runs last, at each boot with another seed."""
    with locked(PATIENCE):
        conf = settings()
        done = read_bytes(EARLY).decode()
        remove(EARLY)
        if done != state_of(conf):
            start_everything(conf)


def state_of(conf: Settings) -> str:
    return digest([SETTINGS, *(entry["path"] for entry in conf["files"])])


def start_everything(conf: Settings) -> None:
    """What is missing or fails is reported at the end, and everything else is done: HAProxy must
    not depend on the other services."""
    attempts = Attempts()
    before = applied()
    clear_away(conf, before, attempts)
    predecessor.at_boot(attempts, is_first=not before)
    attempts.attempt("systemd", reload_manager, conf)
    if conf["install"]:
        # The agent, installed just now, has missed the event that starts it.
        attempts.attempt("guest agent", start_agent)
    apply(conf, attempts)
    for unit in own_units(conf):
        # systemd may have started it before cloud-init wrote today's program.
        attempts.attempt(unit, enable_now, unit, "restart")
    attempts.attempt("kernel settings", apply_sysctl)
    attempts.attempt("watchdog", apply_watchdog)
    attempts.conclude()
    remember(conf)
    keep_pending(set())
    predecessor.finish()


def start_agent() -> None:
    systemctl("start", "qemu-guest-agent.service", check=False)


def reload_manager(conf: Settings) -> None:
    """Only where it still has a unit from before cloud-init wrote lbctl's: a reload takes a
    small guest many seconds."""
    paths = [entry["path"] for entry in conf["files"] if entry["path"].startswith(f"{UNITS}/")]
    stale = {
        unit_of(path)
        for path, known in zip(paths, known_units(paths), strict=True)
        if path not in (known.get("FragmentPath"), *known.get("DropInPaths", "").split(" "))
        or known.get("NeedDaemonReload") != "no"
    }
    if "haproxy.service" in stale:
        # What runs, if it does, was started by the previous unit, not by the one on the disk.
        write(IN_USE, "{}")
    if stale:
        systemctl("daemon-reload")


def unit_of(path: str) -> str:
    """The unit that a file belongs to, whole or as a drop-in."""
    first = path.removeprefix(f"{UNITS}/").split("/")[0]
    return first.removesuffix(".d")


def known_units(paths: list[str]) -> list[dict[str, str]]:
    """What the manager has read of each; nothing where it does not say."""
    names = [unit_of(path) for path in paths]
    properties = "--property=FragmentPath,DropInPaths,NeedDaemonReload"
    text = systemctl("show", properties, *names, check=False)[1]
    blocks = [
        dict(line.split("=", 1) for line in block.split("\n") if "=" in line)
        for block in text.split("\n\n")
    ]
    return (blocks + [{} for _ in paths])[: len(paths)]
