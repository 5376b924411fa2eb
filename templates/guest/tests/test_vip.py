"""The shared address: how fit a VM is for it, and who has which sessions."""

from __future__ import annotations

import socket
import time

import pytest

from conftest import Files, HaproxySocket
from lbctl_guest import paths, vip, vip_watch
from lbctl_guest.vip import FAULT, NO_PRIMARY, READY, STEPPED_BACK
from lbctl_guest.vip_watch import Fitness, Peer
from sharing import BACKEND, MAC, OTHER, OTHER_MAC, OWN, THIRD, conf, peer

pytestmark = pytest.mark.usefixtures("card")


def weigh(
    *rounds: tuple[float, str, bool], start: int = READY, detection: float = 0.6
) -> list[int]:
    fitness = Fitness(start, detection)
    return [fitness.weigh(at, seen, held, None) for at, seen, held in rounds]


def test_a_vm_is_ready_when_it_has_seen_a_primary_for_a_while() -> None:
    seen = [(0.0, "primary", False), (0.9, "primary", False), (1.1, "primary", False)]
    assert weigh(*seen, start=FAULT) == [FAULT, FAULT, READY]


@pytest.mark.parametrize("silence", ["gone", "mute"])
def test_haproxy_that_is_silent_is_a_fault_at_once_and_one_that_is_back_is_less_than_ready(
    silence: str,
) -> None:
    assert weigh((0.0, silence, True), (0.1, "none", True)) == [FAULT, NO_PRIMARY]


def test_haproxy_may_say_nothing_for_as_long_as_the_vm_may() -> None:
    """It waits for the same processor. One that has ended waits for nothing."""
    mute = [(0.0, "primary", True), (2.0, "mute", True), (5.3, "mute", True), (5.5, "mute", True)]
    assert weigh(*mute, detection=4.0) == [READY, READY, READY, FAULT]
    spoke = [(2.0, "mute", True), (5.3, "primary", True), (5.5, "mute", True)]
    assert weigh(*spoke, detection=4.0) == [READY, READY, READY]
    assert weigh((2.0, "gone", True), detection=4.0) == [FAULT]


def test_the_holder_is_slow_to_give_up_and_quick_to_come_back() -> None:
    gone = [(0.0, "none", True), (1.4, "none", True), (1.6, "none", True), (1.7, "primary", True)]
    assert weigh(*gone) == [READY, READY, NO_PRIMARY, READY]


def test_another_vm_is_quick_to_give_up_and_slow_to_come_back() -> None:
    gone = [
        (0.0, "none", False),
        (0.4, "none", False),
        (0.5, "primary", False),
        (1.4, "primary", False),
        (1.6, "primary", False),
    ]
    assert weigh(*gone) == [READY, NO_PRIMARY, NO_PRIMARY, NO_PRIMARY, READY]


def test_a_failover_that_both_see_never_has_the_other_one_outrank_the_holder() -> None:
    """Though the holder sees the new primary later."""
    holder, other = Fitness(READY), Fitness(READY)
    for tenth in range(100):
        at = tenth / 10
        late = "none" if 20 <= tenth < 55 else "primary"
        early = "none" if 20 <= tenth < 50 else "primary"
        assert other.weigh(at, early, False, None) <= holder.weigh(at, late, True, None)


def test_what_haproxys_unit_has_written_stands_until_haproxy_is_seen_anew() -> None:
    fitness = Fitness(READY)
    assert fitness.weigh(0.0, "primary", True, READY) == READY
    # It has ended; what is seen in this round was asked before.
    assert fitness.weigh(5.0, "primary", True, FAULT) == FAULT
    assert fitness.weigh(5.5, "primary", False, FAULT) == FAULT
    assert fitness.weigh(6.2, "primary", False, FAULT) == READY


def test_what_haproxy_says_is_seen(admin_socket: HaproxySocket) -> None:
    for act, seen in (("1", "primary"), ("0", "none"), ("2", "none")):
        admin_socket.answers["show stat primary 2 -1"] = BACKEND.format(act)
        assert vip_watch.sight() == seen


def test_haproxy_that_is_not_there_is_gone() -> None:
    assert vip_watch.sight() == "gone"


def test_haproxy_that_says_nothing_is_mute(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vip_watch, "PATIENCE", 0.05)
    files.path("/run/haproxy").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(files.path(paths.ADMIN_SOCKET)))
        s.listen()
        assert vip_watch.sight() == "mute"


def test_the_sessions_are_those_that_came_by_the_address(files: Files) -> None:
    rows = [
        ("1400000A:1538", "01"),  # 10.0.0.20:5432
        ("1400000A:1539", "08"),
        ("1400000A:1538", "06"),  # its end is over
        ("1400000A:20D5", "01"),  # 8405
        ("0200000A:1538", "01"),  # 10.0.0.2
        ("00000000:1538", "0A"),  # the listener
    ]
    lines = [f"{n}: {local} 6400000A:D431 {state} 0 0" for n, (local, state) in enumerate(rows)]
    files.put("/proc/net/tcp", "\n".join(["sl local_address rem_address st", *lines, ""]))
    assert vip_watch.sessions(conf()) == 2


def test_what_an_earlier_process_has_found_goes_on() -> None:
    found = [
        vip_watch.before_this(weight) for weight in (READY, NO_PRIMARY, STEPPED_BACK, FAULT, None)
    ]
    assert found == [READY, NO_PRIMARY, NO_PRIMARY, FAULT, FAULT]


# ---- the others


def test_sessions_are_passed_to_a_vm_that_lives_and_has_some() -> None:
    gone = peer(held=True)
    gone.unanswered = vip_watch.QUESTIONS
    for one, at, wanted in (
        (peer(held=True), 0.5, True),
        (peer(held=False, sessions=3), 0.5, True),
        (peer(held=False, sessions=0), 0.5, False),
        (peer(held=False, sessions=None), 0.5, False),
        (peer(held=True), 1.7, True),
        (gone, 0.5, True),
        (gone, 1.7, False),
        (peer(mac=None, held=True), 0.5, False),
        (peer(), 0.5, False),
    ):
        assert (vip_watch.drained_to([one], at, 60.0) is one) == wanted


def test_sessions_are_passed_on_for_as_long_as_they_may_stay() -> None:
    one = peer(held=True, sessions=3)
    for at, wanted in ((30.0, True), (59.0, True), (61.0, False)):
        one.hear(at, {"held": False, "sessions": 3})
        assert (vip_watch.drained_to([one], at, 60.0) is one) == wanted
    # Of one that is heard for the first time it is not known when it had the address.
    new = Peer(OTHER, OTHER_MAC)
    new.hear(100.0, {"held": False, "sessions": 3})
    assert vip_watch.drained_to([new], 100.0, 60.0) is new


def test_who_has_more_sessions_has_had_the_address_meanwhile() -> None:
    """This VM was cut off. The other one served, and was heard again when it had given way."""
    one = peer(held=False, sessions=0)
    one.hear(1000.0, {"held": False, "sessions": 0})
    one.hear(1004.0, {"held": False, "sessions": 20})
    assert vip_watch.drained_to([one], 1004.0, 60.0) is one
    one.hear(1063.0, {"held": False, "sessions": 20})
    assert vip_watch.drained_to([one], 1063.0, 60.0) is one
    one.hear(1065.0, {"held": False, "sessions": 19})
    assert vip_watch.drained_to([one], 1065.0, 60.0) is None


def test_of_several_the_one_that_had_the_address_last_gets_them() -> None:
    long_ago, just_now = peer(held=True, sessions=2), peer(THIRD, held=True, sessions=2)
    just_now.hear(0.4, {"held": True, "sessions": 2})
    for one in (long_ago, just_now):
        one.hear(0.8, {"held": False, "sessions": 2})
    assert vip_watch.drained_to([long_ago, just_now], 1.0, 60.0) is just_now


def test_nft_is_told_everything_in_one_transaction() -> None:
    one, unknown = peer(held=True), peer(THIRD, None)
    text = vip_watch.rules("eth0", [one, unknown], one, True)
    assert text.split("\n") == [
        "flush set netdev lbctl_vrrp known",
        "flush set netdev lbctl_vrrp with_mac",
        f"add element netdev lbctl_vrrp known {{ {OTHER} . {OTHER_MAC} }}",
        f"add element netdev lbctl_vrrp with_mac {{ {OTHER} }}",
        "flush chain ip lbctl_drain unknown",
        "flush set ip lbctl_drain macs",
        f"add element ip lbctl_drain macs {{ {OTHER_MAC} }}",
        "add rule ip lbctl_drain unknown socket wildcard 1 counter"
        f' dup to {OTHER} device "eth0" drop',
        "add rule ip lbctl_drain unknown socket transparent 0 return",
        f'add rule ip lbctl_drain unknown counter dup to {OTHER} device "eth0" drop',
        "",
    ]
    assert "dup" not in vip_watch.rules("eth0", [one], None, True)
    assert "lbctl_drain" not in vip_watch.rules("eth0", [one], one, False)


def test_a_message_counts_from_the_segment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    here = conf(own="127.0.0.1", port=0)
    with (
        vip_watch.open_socket(here) as s,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for ttl, text, heard in (
            (255, '{"held": true}', ("127.0.0.1", {"held": True})),
            (254, '{"held": true}', ("", {})),
            (255, "[1]", ("", {})),
            (255, "\0", ("", {})),
            # Deeper than Python reads.
            (255, "[" * 1500, ("", {})),
        ):
            other.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            other.sendto(text.encode(), s.getsockname())
            time.sleep(0.01)
            assert vip_watch.receive(s) == heard
        assert vip_watch.receive(s) is None


def test_a_neighbour_is_known_on_its_own_card(files: Files) -> None:
    head = "IP address HW type Flags HW address Mask Device\n"
    row = "{} 0x1 0x2 {} * {}\n"
    rows = [
        (OTHER, OTHER_MAC, "eth0"),
        (THIRD, OTHER_MAC, "eth1"),
        (OWN, "00:00:00:00:00:00", "eth0"),
    ]
    files.put("/proc/net/arp", head + "".join(row.format(*r) for r in rows))
    assert vip.neighbours("eth0") == {OTHER: OTHER_MAC}


def test_the_card_is_found_by_its_own_address_and_not_by_what_stands_on_it() -> None:
    assert vip.card_of(MAC) == "eth0"
    assert vip.card_of(OTHER_MAC) is None
