"""The shared address: how fit a VM is for it, who has which sessions, and stepping back."""

from __future__ import annotations

import json
import pathlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import Commands, Files, HaproxySocket
from lbctl_guest import arp, paths, vip, vip_conflict, vip_watch, vip_yield
from lbctl_guest.tools import Failure
from lbctl_guest.vip import FAULT, NO_PRIMARY, READY, STEPPED_BACK
from lbctl_guest.vip_watch import Fitness, Peer
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


@pytest.fixture(autouse=True)
def card(files: Files, monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """The addresses that the guest has."""
    files.put("/sys/class/net/lo/address", "00:00:00:00:00:00\n")
    files.put("/sys/class/net/eth0/address", f"{MAC}\n")
    files.put("/sys/class/net/br0/address", f"{MAC}\n")
    files.put("/sys/class/net/br0/bridge/forward_delay", "0\n")
    for name in ("all", "eth0"):
        for setting in ("arp_ignore", "arp_announce"):
            files.put(f"/proc/sys/net/ipv4/conf/{name}/{setting}", "0")
    files.put(paths.SETTINGS, json.dumps(settings()))
    there = {("lo", "127.0.0.1"), ("eth0", OWN)}
    monkeypatch.setattr(vip, "addresses", lambda: there)
    monkeypatch.setattr(arp, "ask", lambda *_: {})
    return there


# ---- how fit


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


def peer(address: str = OTHER, mac: str | None = OTHER_MAC, **said: Any) -> Peer:
    found = Peer(address, mac)
    if said:
        found.hear(0.0, said)
    return found


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


# ---- before keepalived


def test_keepalived_is_prepared(files: Files, commands: Commands) -> None:
    files.put(vip.NFT, "table")
    vip.prepare()
    assert files.text(vip.CARD) == "$CARD=eth0\n"
    assert commands.of(f"ip address replace {ADDRESS}/32 dev lo")
    load = f"nft --define card=eth0 --file {files.root}{vip.NFT}"
    assert commands.of("nft --define") == [load]
    # A second time the rules stay, with what is in their sets, unless they are gone or others.
    commands.answer("nft list tables", "table netdev lbctl_vrrp\n")
    vip.prepare()
    assert commands.of("nft --define") == [load]
    files.put(vip.NFT, "another table")
    vip.prepare()
    commands.answer("nft list tables", "")
    vip.prepare()
    assert commands.of("nft --define") == [load] * 3


def test_a_vm_that_boots_answers_nobody_who_asks_for_the_address(
    files: Files, commands: Commands
) -> None:
    """By no card, and not for the moment in which the address comes to `lo`."""
    commands.fail("ip address replace")
    with pytest.raises(Failure):
        vip.prepare()
    for name in ("all", "eth0"):
        assert files.text(f"/proc/sys/net/ipv4/conf/{name}/arp_ignore") == "1"
        assert files.text(f"/proc/sys/net/ipv4/conf/{name}/arp_announce") == "2"


def test_keepalived_waits_for_the_vms_own_address(
    card: set[tuple[str, str]], commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vip, "CARD_PATIENCE", 0.3)
    card.clear()
    with pytest.raises(Failure, match=r"own address 10\.0\.0\.2 is not on eth0"):
        vip.prepare()
    assert commands.of("nft") == []
    threading.Timer(0.1, lambda: card.add(("eth0", OWN))).start()
    vip.prepare()


STRANGER = "52:54:00:aa:bb:0c"
# The fixture has another one in its place.
ASK = arp.ask


def test_an_address_that_another_machine_has_is_not_taken(
    card: set[tuple[str, str]],
    commands: Commands,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = {ADDRESS: {STRANGER}}
    monkeypatch.setattr(arp, "ask", lambda *_: answers)
    monkeypatch.setattr(vip_conflict, "AGAIN", 0.02)
    monkeypatch.setattr(vip_conflict, "PATIENCE", 0.1)
    with pytest.raises(Failure, match=rf"\(MAC address {STRANGER}\) has the shared address"):
        vip.prepare()
    assert files.text(vip.TAKEN) == f"{STRANGER}\n"
    assert commands.of("ip address replace") == []
    # Once, however often it is asked.
    assert capsys.readouterr().err.count(STRANGER) == 1
    found = vip.report()
    assert found is not None
    assert found["taken_by"] == STRANGER
    # keepalived runs, and reads its configuration again.
    monkeypatch.setenv("MAINPID", "12")
    vip.prepare()
    monkeypatch.delenv("MAINPID")
    # It has died here, and the address stayed.
    card.add(("eth0", ADDRESS))
    vip.prepare()
    assert not files.has(vip.TAKEN)
    card.remove(("eth0", ADDRESS))
    threading.Timer(0.05, answers.clear).start()
    vip.prepare()
    assert not files.has(vip.TAKEN)


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ({}, None),
        ({ADDRESS: {STRANGER}}, STRANGER),
        # A VM that has it, known by what is configured, by the kernel, by its own answer.
        ({ADDRESS: {OTHER_MAC}}, None),
        ({ADDRESS: {"52:54:00:aa:bb:03"}}, None),
        ({ADDRESS: {STRANGER}, THIRD: {STRANGER}}, None),
        # They have used it before that machine came.
        ({ADDRESS: {STRANGER, OTHER_MAC}}, None),
        ({THIRD: {STRANGER}}, None),
    ],
)
def test_who_is_another_machine(
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, set[str]],
    found: str | None,
) -> None:
    peers = [{"address": OTHER, "mac": OTHER_MAC}, {"address": THIRD, "mac": None}]
    head = "IP address HW type Flags HW address Mask Device\n"
    files.put("/proc/net/arp", f"{head}{THIRD} 0x1 0x2 52:54:00:aa:bb:03 * eth0\n")
    monkeypatch.setattr(arp, "ask", lambda *_: answers)
    assert vip.other_machine(conf(peers=peers), "eth0") == found


def test_who_names_itself_with_an_address_has_it() -> None:
    own, other = bytes.fromhex(MAC.replace(":", "")), bytes.fromhex(OTHER_MAC.replace(":", ""))
    asked = arp.question(own, ADDRESS)
    assert asked[14:18] == bytes(4), "of an address of its own nothing is said"
    found: dict[str, set[str]] = {}
    answer = asked[:6] + b"\0\2" + other + asked[24:28] + own + bytes(4)
    for packet in (asked, answer, answer[:20], b"", bytes(28)):
        arp.read(packet, own, found)
    assert found == {ADDRESS: {OTHER_MAC}}


def test_who_lives_is_asked_by_name_and_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    sent: list[bytes] = []
    monkeypatch.setattr(arp, "open_socket", lambda _: here)
    monkeypatch.setattr(arp, "send", lambda *args: sent.append(args[3]))
    asker = arp.Asker(MAC)
    assert asker.answers() == set()
    asker.ask("eth0", [(OTHER, OTHER_MAC)])
    assert sent == [bytes.fromhex(OTHER_MAC.replace(":", ""))]
    assert asker.answers() == set()
    there.send(says(OTHER_MAC, OTHER))
    there.send(b"noise")
    assert asker.answers() == {(OTHER, OTHER_MAC)}
    asker.close()
    assert here.fileno() == -1
    assert asker.answers() == set()
    there.close()


class Segment:
    """A packet socket, and machines that answer what is asked on it: at each question, or late."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.asked = list(answers), 0

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def bind(self, _where: tuple[str, int]) -> None:
        pass

    def settimeout(self, _seconds: float) -> None:
        pass

    def sendto(self, _packet: bytes, _where: tuple[Any, ...]) -> None:
        self.asked += 1

    def recv(self, _most: int) -> bytes:
        if self.answers:
            return self.answers.pop(0)
        raise TimeoutError


def says(mac: str, address: str) -> bytes:
    return (
        arp.question(bytes.fromhex(mac.replace(":", "")), ADDRESS)[:14]
        + socket.inet_aton(address)
        + bytes(10)
    )


def test_it_is_asked_until_a_vm_says_that_it_has_the_address(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = [{"address": OTHER, "mac": None}]

    def found(*answers: bytes) -> tuple[str | None, int]:
        segment = Segment(*answers)
        monkeypatch.setattr(socket, "socket", lambda *_: segment)
        return vip.other_machine(conf(peers=peers), "eth0"), segment.asked

    monkeypatch.setattr(vip, "addresses", set)
    monkeypatch.setattr(arp, "ask", ASK)
    whole = 2 * arp.TIMES
    assert found() == (None, whole)
    assert found(says(STRANGER, ADDRESS)) == (STRANGER, whole)
    # The VM is known as one as soon as it has answered for its own address.
    assert found(says(OTHER_MAC, ADDRESS), says(OTHER_MAC, OTHER)) == (None, 2)
    assert found(says(STRANGER, ADDRESS), says(STRANGER, OTHER)) == (None, 2)


def test_what_shared_an_address_is_cleared(files: Files, commands: Commands) -> None:
    files.put(vip.STATE, json.dumps({"address": ADDRESS}))
    files.put(vip.WEIGHT, "0\n")
    vip.clear()
    assert commands.of(f"ip address delete {ADDRESS}/32 dev lo")
    assert commands.of("nft delete table netdev lbctl_vrrp")
    assert not files.has(vip.WEIGHT)
    assert not files.has(vip.STATE)


# ---- the loop


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
    """And end 1.2 s after the last sign of its kernel."""
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
    for seconds in (0.5, 0.3, 0.3):
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


@pytest.mark.parametrize(("detection_ms", "patience"), [(600, 1.2), (4000, 4.0)])
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


# ---- stepping back


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
