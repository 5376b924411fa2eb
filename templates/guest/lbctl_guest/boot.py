"""What brings everything up when cloud-init has written the files. Python 3.8 or newer, standard library only."""
import os

from guest_converge import applied, clear_away, locked, remember
from guest_haproxy import APPLIED
from guest_services import apply
from guest_tools import enable_now, settings, systemctl, write


def boot():
    """What cloud-init runs last, at each boot with another seed."""
    conf = settings()
    with locked():
        clear_away(conf, applied())
        start_all(conf)
        remember(conf)


def start_all(conf):
    reload_manager(conf)
    if conf["install"]:
        # The agent, installed just now, has missed the event that starts it.
        systemctl("start", "qemu-guest-agent.service", check=False)
    try:
        apply(conf["services"])
    finally:
        enable_now("lbctl-save-state.timer")


def reload_manager(conf):
    """Only where it still knows a unit as it was before cloud-init wrote ours: a reload takes a small guest many
    seconds."""
    units = [e["path"] for e in conf["files"] if e["path"].startswith("/etc/systemd/system/")]
    stale = [path for path, known in zip(units, known_units(units))
             if known.get("FragmentPath") != path or known.get("NeedDaemonReload") != "no"]
    if "/etc/systemd/system/haproxy.service" in stale:
        # What runs, if it does, was started by the unit that stood there before: it is not what is on disk.
        write(APPLIED, "{}")
    if stale:
        systemctl("daemon-reload")


def known_units(units):
    names = [os.path.basename(path) for path in units]
    text = systemctl("show", "--property=FragmentPath,NeedDaemonReload", *names, check=False)[1]
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return blocks + [{}] * (len(units) - len(blocks))
