"""Whether a machine that is none of the VMs has the shared address already. Python 3.10 or newer,
standard library only."""

from __future__ import annotations

import time

from .tools import Failure, complain, remove, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Seconds.
AGAIN = 0.5
# After that the unit has failed, and systemd starts it again: whoever waits for it hears why.
PATIENCE = 30.0


def wait_until_free(address: str, path: str, other: Callable[[], str | None]) -> None:
    """Returns when no other machine has the address. While one has it, its MAC address is in the
    file, for `status`."""
    deadline = time.monotonic() + PATIENCE
    said = None
    while True:
        mac = other()
        if mac is None:
            remove(path)
            return
        text = f"another machine (MAC address {mac}) has the shared address {address}"
        if mac != said:
            write(path, f"{mac}\n")
            complain(f"{text}: this VM takes it when that one has given it up")
            said = mac
        if time.monotonic() > deadline:
            raise Failure(text)
        time.sleep(AGAIN)


def other_machine(address: str, answers: dict[str, set[str]], of_vms: set[str]) -> str | None:
    """The MAC address of a machine that has the address and is none of the VMs. None also where a
    VM has it beside such a machine: the VMs have used it before."""
    found = answers.get(address, set())
    return None if found & of_vms else min(found, default=None)


def of_vms(answers: dict[str, set[str]], peers: Iterable[str], known: set[str]) -> set[str]:
    """Their MAC addresses. Whoever answers for a peer is one; or it is a router that answers for
    everybody, and says nothing about one address."""
    return known.union(*(answers.get(peer, set()) for peer in peers))
