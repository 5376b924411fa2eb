"""What is done before keepalived has the shared address, and who else has it."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest

from conftest import Commands, Files
from lbctl_guest import arp, vip, vip_conflict
from lbctl_guest.tools import Failure
from sharing import ADDRESS, MAC, OTHER, OTHER_MAC, OWN, THIRD, conf

pytestmark = pytest.mark.usefixtures("card")


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
