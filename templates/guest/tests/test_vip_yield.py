"""Stepping back, and the status of a VM that shares an address."""

from __future__ import annotations

import json
import pathlib
import threading
from typing import Any

import pytest

from conftest import Files
from lbctl_guest import paths, vip, vip_yield
from lbctl_guest.vip import FAULT, NO_PRIMARY, STEPPED_BACK
from lbctl_guest.wire import SharedAddress
from samples import settings
from sharing import ADDRESS, OTHER, conf

pytestmark = pytest.mark.usefixtures("card")


def known(files: Files, **changed: Any) -> None:
    """What the service has heard of the other VM."""
    one = {"address": OTHER, "alive": True, "held": False, "weight": 0, "agrees": True, **changed}
    said = {"at": vip.awake(), "sessions": 3, "peers": [one]}
    path = pathlib.Path(f"{files.path(vip.STATE)}.new")
    path.write_text(json.dumps(said), encoding="utf-8")
    path.rename(files.path(vip.STATE))


@pytest.fixture
def quick() -> SharedAddress:
    return conf(detection_ms=-2700)


def test_a_vm_steps_back_when_another_one_has_the_address(
    files: Files, card: set[tuple[str, str]]
) -> None:
    card.add(("eth0", ADDRESS))
    known(files)

    def move() -> None:
        assert files.has(vip.REQUEST)
        card.discard(("eth0", ADDRESS))
        known(files, held=True)

    threading.Timer(0.2, move).start()
    answer = vip_yield.leave(conf(detection_ms=100))
    assert answer == {"ok": True, "holder": OTHER, "reason": None, "error": None}
    assert files.has(vip.REQUEST)
    assert vip_yield.come_back() == 0
    assert not files.has(vip.REQUEST)


def test_an_address_that_comes_back_at_once_has_not_been_given_away(
    files: Files, card: set[tuple[str, str]]
) -> None:
    """Another VM was about to take it when that VM stepped back, too."""
    known(files, held=True)
    threading.Timer(0.15, lambda: card.add(("eth0", ADDRESS))).start()
    answer = vip_yield.leave(conf(detection_ms=-100))
    assert answer["reason"] == "not-taken"


def test_where_nobody_takes_it_the_vm_stays_as_it_is(
    files: Files, quick: SharedAddress, card: set[tuple[str, str]]
) -> None:
    card.add(("eth0", ADDRESS))
    known(files)
    answer = vip_yield.leave(quick)
    assert (answer["ok"], answer["reason"]) == (False, "not-taken")
    assert not files.has(vip.REQUEST)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"alive": False}, f"{OTHER} is not heard of"),
        ({"weight": NO_PRIMARY}, f"{OTHER} sees no primary"),
        ({"weight": STEPPED_BACK}, f"{OTHER} has stepped back itself"),
        ({"weight": FAULT}, f"{OTHER} has no HAProxy that runs"),
        ({"agrees": False}, f"{OTHER} has another address, router_id or detection"),
    ],
)
def test_where_no_other_vm_is_fit_nothing_is_tried(
    files: Files, quick: SharedAddress, changed: dict[str, Any], words: str
) -> None:
    known(files, **changed)
    answer = vip_yield.leave(quick)
    assert (answer["ok"], answer["reason"]) == (False, "no-spare")
    assert words in (answer["error"] or "")
    assert not files.has(vip.REQUEST)


def test_without_the_service_nothing_is_tried(quick: SharedAddress) -> None:
    assert vip_yield.leave(quick)["error"] == "lbctl-vip.service does not run"


def test_the_status_of_a_vm_that_shares_nothing(files: Files) -> None:
    files.put(paths.SETTINGS, json.dumps({**settings(), "virtual_ip": None}))
    assert vip.report() is None
    files.put(paths.SETTINGS, json.dumps({"schema": 1}))
    assert vip.report() is None


def test_the_status_of_one_that_does(files: Files, card: set[tuple[str, str]]) -> None:
    found = vip.report()
    assert found is not None
    assert found["error"] == "lbctl-vip.service does not run"
    card.add(("eth0", ADDRESS))
    known(files, held=True)
    files.put(vip.WEIGHT, "-20\n")
    found = vip.report()
    assert found is not None
    assert (found["held"], found["weight"], found["sessions"]) == (True, -20, 3)
    assert found["peers"][0]["address"] == OTHER
