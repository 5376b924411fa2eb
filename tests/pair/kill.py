#!/usr/bin/python3 -SB
"""lbctl-guest as it is, but that a program ends at one of its steps: /run/kill has `STEP before|after WHOM`. `self` is this
program; `power` waits for whoever looks for /run/killed to cut the power."""
import importlib
import os
import runpy
import signal
import sys
import time

FOLDER = "/usr/local/lib/lbctl"
sys.path.insert(0, FOLDER)
vip_watch, vip_yield = (importlib.import_module("lbctl_guest." + name) for name in ("vip_watch", "vip_yield"))


def here(step, when):
    try:
        with open("/run/kill", encoding="utf-8") as f:
            wanted = f.read().split()
    except OSError:
        return
    if wanted[:2] != [step, when]:
        return
    os.unlink("/run/kill")
    with open("/run/killed", "w", encoding="utf-8") as f:
        f.write(wanted[2])
    if wanted[2] == "power":
        time.sleep(60)
    elif wanted[2] == "self":
        os.kill(os.getpid(), signal.SIGKILL)
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%s/comm" % name, encoding="utf-8") as f:
                if name.isdigit() and f.read().strip() == wanted[2]:
                    os.kill(int(name), signal.SIGKILL)
        except OSError:
            pass


def watch(module, name, step, counts=lambda result: True):
    """`step`: its name, or what says it of the arguments."""
    effect = getattr(module, name)

    def watched(*args, **kwargs):
        called = step if isinstance(step, str) else step(*args)
        here(called, "before")
        result = effect(*args, **kwargs)
        if counts(result):
            here(called, "after")
        return result

    setattr(module, name, watched)


def said(watch, _weight, _now, moved):
    """What the others hear: that this VM has got the address, that it has lost it, or nothing new."""
    return ("got" if watch.held else "lost") if moved else "talk"


# Of lbctl-vip.service: the weight for keepalived, the rules for nft, what the others hear, what `status` and `yield` read.
watch(vip_watch, "put_weight", "weight")
watch(vip_watch, "run", "rules")
watch(vip_watch.Watch, "talk", said)
watch(vip_watch, "write", "state")
# Of a step back: its request, that another VM has been seen with the address, the end of the request.
watch(vip_yield, "write", "request")
watch(vip_yield, "taken_by", "taken", bool)
watch(vip_yield, "remove", "release")

if __name__ == "__main__":
    runpy.run_path(FOLDER + "/lbctl-guest", run_name="__main__")
