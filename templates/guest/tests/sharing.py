"""The shared address in tests: who is who, and the guest's card."""

from __future__ import annotations

from typing import Any

from lbctl_guest.vip_watch import Peer
from lbctl_guest.wire import SharedAddress
from samples import settings

ADDRESS, OWN, OTHER, THIRD = "10.0.0.20", "10.0.0.2", "10.0.0.3", "10.0.0.4"
MAC, OTHER_MAC = "52:54:00:12:34:56", "52:54:00:aa:bb:02"
BACKEND = "# pxname,svname,act,bck\nprimary,BACKEND,{},2,\n\n"


def conf(**changed: Any) -> SharedAddress:
    found = settings()["virtual_ip"]
    assert found is not None
    found.update(changed)  # type: ignore[typeddict-item]
    return found


def peer(address: str = OTHER, mac: str | None = OTHER_MAC, **said: Any) -> Peer:
    found = Peer(address, mac)
    if said:
        found.hear(0.0, said)
    return found
