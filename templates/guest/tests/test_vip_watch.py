"""The service of a VM that shares an address: its rounds, and what it does about sessions."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from conftest import Commands, Files, HaproxySocket
from lbctl_guest import vip, vip_watch
from lbctl_guest.tools import Failure
from lbctl_guest.vip import FAULT, READY
from lbctl_guest.vip_watch import Fitness
from lbctl_guest.wire import SharedAddress
from sharing import ADDRESS, BACKEND, MAC, OTHER, OTHER_MAC, THIRD, conf

pytestmark = pytest.mark.usefixtures("card")


@pytest.fixture
def watch(
    files: Files, commands: Commands, admin_socket: HaproxySocket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[vip_watch.Watch]:
    commands.answer("nft list tables", "table netdev lbctl_vrrp\n")
    admin_socket.answers["show stat primary 2 -1"] = BACKEND.format(1)
    files.put("/proc/net/tcp", "sl\n0: 1400000A:1538 6400000A:D431 01 0 0\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        free = s.getsockname()[1]
    real = vip_watch.open_socket

    def nearby(shared: SharedAddress) -> socket.socket:
        here = shared.copy()
        here.update({"own": "127.0.0.1", "port": free})
        return real(here)

    monkeypatch.setattr(vip_watch, "open_socket", nearby)
    found = vip_watch.Watch(conf())
    yield found
    if found.socket:
        found.socket.close()


def test_a_round_says_how_fit_the_vm_is(
    watch: vip_watch.Watch, files: Files, card: set[tuple[str, str]]
) -> None:
    card.add(("eth0", ADDRESS))
    files.path(vip.METRICS_FOLDER).mkdir(parents=True)
    watch.fitness = Fitness(READY)
    watch.round()
    assert files.text(vip.WEIGHT) == "0\n"
    found = json.loads(files.text(vip.STATE))
    assert (found["held"], found["weight"], found["sessions"]) == (True, 0, 1)
    assert "lbctl_virtual_ip_held 1\n" in files.text(f"{vip.METRICS_FOLDER}/lbctl.prom")


def test_the_lowest_of_the_reasons_wins_and_a_step_back_ends_by_itself(
    watch: vip_watch.Watch, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = vip.awake()
    monkeypatch.setattr(vip, "awake", lambda: now)
    watch.fitness = Fitness(READY)
    files.put(vip.REQUEST, json.dumps({"until": now + vip.STEP_BACK}))
    watch.round()
    assert files.text(vip.WEIGHT) == "-50\n"
    watch.fitness = Fitness(FAULT)
    watch.round()
    assert files.text(vip.WEIGHT) == "-254\n"
    watch.fitness = Fitness(READY)
    now += vip.STEP_BACK + 1
    watch.round()
    # Ready for as long as it was seen: the file said that HAProxy had ended.
    assert files.text(vip.WEIGHT) == "-254\n"
    for broken in ("", "[]", '{"until": "x"}', json.dumps({"until": now + vip.STEP_BACK + 60})):
        files.put(vip.REQUEST, broken)
        assert not vip.is_asked(now)


def test_rules_follow_what_is_heard_and_are_told_once(
    watch: vip_watch.Watch, commands: Commands
) -> None:
    watch.round()
    watch.round()
    assert len(commands.of("nft --file -")) == 1
    watch.peers[0].mac = OTHER_MAC
    watch.peers[0].hear(time.monotonic(), {"held": True})
    watch.round()
    assert "dup to" in commands.stdin["nft --file -"]
    watch.peers[0].heard = 0.0
    watch.peers[0].unanswered = vip_watch.QUESTIONS
    watch.round()
    assert "dup to" not in commands.stdin["nft --file -"]


def test_sessions_outlive_the_service_of_the_vm_that_has_them(
    watch: vip_watch.Watch, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And end a second after the last sign of its kernel."""
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    questions: list[tuple[str, str]] = []
    answers: set[tuple[str, str]] = set()
    monkeypatch.setattr(watch.asker, "ask", lambda _card, whom: questions.extend(whom))
    monkeypatch.setattr(watch.asker, "answers", lambda: answers)

    def is_passed_on(seconds: float) -> bool:
        now[0] += seconds
        watch.round()
        return "dup to" in commands.stdin["nft --file -"]

    one = watch.peers[0]
    one.mac = OTHER_MAC
    one.hear(now[0], {"held": False, "sessions": 2})
    assert is_passed_on(0.4)
    assert not questions
    assert is_passed_on(0.2)
    assert questions == [(OTHER, OTHER_MAC)]
    # Somebody else's answer, and his.
    answers.add((OTHER, MAC))
    assert is_passed_on(0.4)
    answers.add((OTHER, OTHER_MAC))
    assert is_passed_on(0.1)
    for _ in range(10):
        assert is_passed_on(0.5)
    answers.clear()
    for seconds in (0.4, 0.3, 0.2):
        assert is_passed_on(seconds)
    assert not is_passed_on(0.2)
    questions.clear()
    # Of one that is gone a kernel that has booted since has no sessions.
    answers.add((OTHER, OTHER_MAC))
    assert not is_passed_on(0.1)
    assert not questions
    # One is asked, however slow this VM is.
    one.hear(now[0], {"held": False, "sessions": 2})
    for _ in range(vip_watch.QUESTIONS - 1):
        answers.clear()
        assert is_passed_on(2.0)
    answers.add((OTHER, OTHER_MAC))
    assert is_passed_on(2.0)
    assert len(questions) == vip_watch.QUESTIONS


@pytest.mark.parametrize("ends", ["it is heard", "another machine is", "nobody is for long"])
def test_a_vm_that_hears_nobody_takes_no_other_one_for_dead(
    watch: vip_watch.Watch,
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    ends: str,
) -> None:
    """It is cut off, and the other one has the address, and its sessions of before."""
    gateway, gateways = "10.0.0.1", "52:54:00:00:00:01"
    files.put("/proc/net/arp", f"head\n{gateway} 0x1 0x2 {gateways} * eth0\n")
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    asked: list[tuple[str, str]] = []
    answers: set[tuple[str, str]] = set()
    monkeypatch.setattr(watch.asker, "ask", lambda _card, whom: asked.extend(whom))
    monkeypatch.setattr(watch.asker, "answers", lambda: answers)

    def rounds(many: int) -> str:
        for _ in range(many):
            now[0] += 0.1
            asked.clear()
            watch.round()
        return commands.stdin["nft --file -"]

    one = watch.peers[0]
    one.mac = OTHER_MAC
    one.hear(now[0], {"held": False, "sessions": 2})
    assert "dup to" in rounds(30)
    assert asked == [(OTHER, OTHER_MAC), (gateway, gateways)]
    # Somebody else's noise says nothing.
    answers.add((THIRD, MAC))
    assert "dup to" in rounds(10)
    if ends == "it is heard":
        answers.update({(OTHER, OTHER_MAC), (gateway, gateways)})
        assert "dup to" in rounds(2 * vip_watch.QUESTIONS)
        # The others are not asked any more.
        assert asked == [(OTHER, OTHER_MAC)]
    elif ends == "another machine is":
        answers.add((gateway, gateways))
        assert "dup to" in rounds(vip_watch.QUESTIONS - 1)
        assert "dup to" not in rounds(1)
    else:
        assert "dup to" in rounds(60)
        assert "dup to" not in rounds(vip_watch.QUESTIONS)
    rounds(1)
    assert bool(asked) is (ends == "it is heard")


def test_a_vm_that_cannot_tell_nft_still_says_how_it_is(
    watch: vip_watch.Watch, files: Files, commands: Commands
) -> None:
    commands.fail("nft --file -", "no such module")
    with pytest.raises(Failure, match="no such module"):
        watch.round()
    assert json.loads(files.text(vip.STATE))["address"] == ADDRESS


def test_a_vm_that_has_heard_nobody_yet_resets_no_session(
    watch: vip_watch.Watch, commands: Commands
) -> None:
    """The service was started again, and the other one may have sessions."""
    watch.round()
    assert "socket wildcard 1 counter drop\n" in commands.stdin["nft --file -"]
    watch.began -= vip_watch.ALIVE
    watch.round()
    assert "socket" not in commands.stdin["nft --file -"]


@pytest.mark.parametrize(("detection_ms", "patience"), [(600, 1.0), (4000, 4.0)])
def test_a_peer_lives_at_least_as_long_as_keepalived_would_wait_for_it(
    watch: vip_watch.Watch, commands: Commands, detection_ms: int, patience: float
) -> None:
    """A longer `detection` is for VMs that stand still for a while, also when they drain."""
    watch = vip_watch.Watch({**watch.conf, "detection_ms": detection_ms})
    watch.peers[0].mac = OTHER_MAC
    for silence, is_passed_on in ((patience - 0.5, True), (patience, False)):
        watch.peers[0].hear(time.monotonic() - silence, {"held": True, "sessions": 3})
        # Nor does its kernel answer.
        watch.peers[0].unanswered = vip_watch.QUESTIONS
        watch.round()
        assert ("dup to" in commands.stdin["nft --file -"]) is is_passed_on


def test_a_holder_that_hears_nobody_resets_no_session_that_it_does_not_know(
    watch: vip_watch.Watch, commands: Commands, card: set[tuple[str, str]]
) -> None:
    """It may be cut off, and the other one have the address meanwhile."""

    def rule() -> str:
        watch.round()
        return commands.stdin["nft --file -"]

    one, now = watch.peers[0], time.monotonic()
    one.hear(now - 1.0, {"held": False, "sessions": 0})
    # Without the address, it has nothing to reset.
    assert "socket" not in rule()
    card.add(("eth0", ADDRESS))
    one.hear(time.monotonic(), {"held": False, "sessions": 0})
    assert "socket" not in rule()
    one.heard = time.monotonic() - 0.6
    assert "socket wildcard 1 counter drop\n" in rule()
    # Sessions that it had ended with it: who speaks in one of them must hear that.
    one.said["sessions"] = 1
    one.heard = time.monotonic() - 2.0
    assert "socket" not in rule()
    one.hear(time.monotonic(), {"held": True, "sessions": 2})
    one.mac = OTHER_MAC
    assert "dup to" in rule()
