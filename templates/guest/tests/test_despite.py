"""Which nodes stop a new certificate, and which do not."""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING, cast

import pytest

from lbctl_guest import probe
from lbctl_guest.paths import HAPROXY
from lbctl_guest.tools import Failure

if TYPE_CHECKING:
    from lbctl_guest.wire import ProbeTarget

TARGET = cast("ProbeTarget", {"port": 4443, "host": "pg.example.org", "verify_host": None})
NODES = {"node1": "10.0.0.1", "node2": "10.0.0.2", "node3": "10.0.0.3"}


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first accepts both pairs, the second the old one only, and the third is down."""

    def ask(_: ProbeTarget, node: tuple[str, str], place: str) -> str | None:
        if node[1] == "10.0.0.1" or (node[1] == "10.0.0.2" and place == HAPROXY):
            return None
        return "unknown ca" if node[1] == "10.0.0.2" else "refused"

    monkeypatch.setattr(probe, "ask_node", ask)


def asked(*despite: str) -> list[str]:
    return probe.probe_all(TARGET, TARGET, NODES, "/stage", "certificate or CA", list(despite))


def test_a_node_that_is_lost_stops_it() -> None:
    lost = r"1 of 3 nodes .* stay in use: 10\.0\.0\.2: unknown ca; correct restapi\.cafile there, "
    with pytest.raises(Failure, match=lost + ".*`lbctl renew --despite 10.0.0.2`$"):
        asked()
    with pytest.raises(Failure, match=r"`lbctl renew --despite 10.0.0.3 --despite 10.0.0.2`$"):
        asked("10.0.0.3")


def test_the_flag_is_not_named_where_no_node_would_be_left() -> None:
    with pytest.raises(Failure, match=r"10\.0\.0\.2: unknown ca$"):
        asked("10.0.0.1", "10.0.0.3")


def test_the_flag_is_not_named_where_it_has_no_say() -> None:
    with pytest.raises(Failure, match=r"10\.0\.0\.2: unknown ca$"):
        probe.probe_all(TARGET, TARGET, NODES, "/stage", "way of asking them")


@pytest.mark.parametrize("named", ["10.0.0.2", "node2"])
def test_a_node_that_is_named_does_not_stop_it(named: str) -> None:
    assert asked(named) == [
        "node 10.0.0.2 does not accept the new certificate or CA: unknown ca",
        "node 10.0.0.3 could not be asked whether it accepts the new certificate or CA: refused",
    ]


def test_who_is_not_a_node_is_reported() -> None:
    assert asked("node2", "10.0.0.9")[0] == "10.0.0.9 is not a node"


CFG = (
    "resolvers nodes\n    nameserver ns1 192.0.2.1:53\n    nameserver ns2 [2001:db8::53]:53\n"
    "backend primary\n    server-template node 1-6 pg.example.org resolvers nodes\n"
    "backend replicas\n    server-template replica 1-6 pg.example.org:5432\n"
)


def test_before_the_first_start_the_nodes_are_asked_of_the_name_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str, int]] = []

    def lookup(name: str, server: str, kind: int, _: int) -> list[str]:
        asked.append((name, server, kind))
        return ["10.0.0.1", "10.0.0.3"] if (server, kind) == ("2001:db8::53", 1) else []

    monkeypatch.setattr(probe, "lookup", lookup)
    target = cast("ProbeTarget", {**TARGET, "nodes": []})
    notes = probe.ensure_one_answers(target, CFG, "/stage")
    assert notes == ["node 10.0.0.3 does not answer yet: refused"]
    assert {(name, server) for name, server, _ in asked} == {
        ("pg.example.org", "192.0.2.1"),
        ("pg.example.org", "2001:db8::53"),
    }
    # Where nobody knows a node, the first start decides.
    assert probe.ensure_one_answers(target, "", "/stage") == []


def test_before_the_first_start_one_node_must_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "resolved", lambda _: ["10.0.0.2", "10.0.0.3"])
    target = cast("ProbeTarget", {**TARGET, "nodes": []})
    with pytest.raises(
        Failure, match=r"none of the 2 nodes .*10\.0\.0\.2: unknown ca; 10\.0\.0\.3"
    ):
        probe.ensure_one_answers(target, CFG, "/stage")


def answer(kind: int, *records: bytes) -> bytes:
    """To the question `a.b`."""
    question = b"\1a\1b\0" + struct.pack("!HH", kind, 1)
    return struct.pack("!HHHHHH", 7, 0x8180, 1, len(records), 0, 0) + question + b"".join(records)


def record(kind: int, data: bytes, name: bytes = b"\xc0\x0c") -> bytes:
    return name + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def test_the_addresses_in_an_answer() -> None:
    at = 12 + 9
    v4 = [record(5, b"\1c\0"), record(1, bytes([10, 0, 0, 1])), record(1, bytes(4), b"\1x\0")]
    assert probe.addresses_in(answer(1, *v4), at, 1) == ["10.0.0.1", "0.0.0.0"]
    v6 = record(28, bytes(15) + b"\1")
    assert probe.addresses_in(answer(28, v6), at, 28) == ["::1"]
    assert probe.addresses_in(answer(28, v6), at, 1) == []


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_an_answer_that_is_cut_has_no_addresses(cut: int) -> None:
    text = answer(1, record(1, bytes([10, 0, 0, 1])))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            query, client = server.recvfrom(100)
            server.sendto((query[:2] + text[2:])[: cut or len(text)], client)

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        whole = cut == 0 or cut >= len(text)
        assert probe.lookup("a.b", "127.0.0.1", 1, port) == (["10.0.0.1"] if whole else [])
