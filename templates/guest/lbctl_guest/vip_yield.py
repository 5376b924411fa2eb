"""Gives the shared address to another VM on request, and answers in JSON. Python 3.10 or newer,
standard library only.

Whether another VM takes it is seen and not assumed, so it is right with two files, two timers and
two people at once: of two VMs that step back at the same time neither does."""

from __future__ import annotations

import json
import time

from . import vip
from .tools import remove, write
from .vip import FAULT, NO_PRIMARY, READY, REQUEST, STEP_BACK, STEPPED_BACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from .wire import SharedAddress, Yielded


def step_back() -> int:
    """Gives the address to another VM, and answers in JSON. Changes nothing where none takes it.
    The answer says whether this VM is free to be stopped."""
    answer = leave(vip.shared())
    print(json.dumps(answer))
    return 0


def leave(conf: SharedAddress) -> Yielded:
    limit = 3.0 + conf["detection_ms"] / 1000
    fit = wait_until(fit_peer, limit)
    if not fit:
        return refusal("no-spare", why_no_spare())
    write(REQUEST, json.dumps({"until": vip.awake() + STEP_BACK}))
    # What keepalived of another VM has begun ends within `detection`, and may end here.
    settled = Settled(conf["detection_ms"] / 1000 + 0.3)
    taken = wait_until(lambda: settled.is_so(taken_by(conf)), 2 * limit)
    if taken:
        return {"ok": True, "holder": taken, "reason": None, "error": None}
    remove(REQUEST)
    return refusal("not-taken", "no other VM has taken the address: this one stays as it is")


def refusal(reason: Literal["no-spare", "not-taken"], error: str) -> Yielded:
    return {"ok": False, "holder": None, "reason": reason, "error": error}


def come_back() -> int:
    """Ends a step back."""
    remove(REQUEST)
    print(json.dumps({"ok": True, "holder": None, "reason": None, "error": None}))
    return 0


class Settled:
    """Whether something has been so for a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.since: tuple[str, float] | None = None

    def is_so(self, what: str | None) -> str | None:
        now = time.monotonic()
        if what is None:
            self.since = None
            return None
        if self.since is None or self.since[0] != what:
            self.since = (what, now)
        return what if now - self.since[1] >= self.seconds else None


def wait_until(found: Callable[[], str | None], limit: float) -> str | None:
    deadline = time.monotonic() + limit
    while True:
        result = found()
        if result or time.monotonic() > deadline:
            return result
        time.sleep(0.05)


def fit_peer() -> str | None:
    """A VM that would take the address and serve, or does already."""
    for peer in (vip.state(vip.awake()) or {}).get("peers", []):
        if peer["alive"] and peer["agrees"] and peer["weight"] == READY:
            return str(peer["address"])
    return None


def taken_by(conf: SharedAddress) -> str | None:
    """The other VM that has the address, while this one has not."""
    if (vip.card_of(conf["mac"]), conf["address"]) in vip.addresses():
        return None
    for peer in (vip.state(vip.awake()) or {}).get("peers", []):
        if peer["alive"] and peer["held"]:
            return str(peer["address"])
    return None


def why_no_spare() -> str:
    known = vip.state(vip.awake())
    if known is None:
        return "lbctl-vip.service does not run"
    words = []
    for peer in known["peers"]:
        if not peer["alive"]:
            why = "is not heard of"
        elif not peer["agrees"]:
            why = "has another address, router_id or detection in its configuration"
        else:
            why = {
                NO_PRIMARY: "sees no primary",
                STEPPED_BACK: "has stepped back itself",
                FAULT: "has no HAProxy that runs",
            }.get(peer["weight"], "is not ready")
        words.append(f"{peer['address']} {why}")
    return "; ".join(words) or "there is no other VM"
