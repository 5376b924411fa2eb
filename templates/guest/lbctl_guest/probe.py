"""Asks every node whether it would accept a certificate, or answer a way of asking, that is not in
use yet. Python 3.10 or newer, standard library only."""

from __future__ import annotations

import os
import re
import socket
import struct
import threading

from . import server_state
from .paths import HAPROXY, at
from .tools import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import ProbeTarget

    # Name of the node and its address.
    Node = tuple[str, str]

TIMEOUT = 8.0


def probe_all(
    new: ProbeTarget,
    old: ProbeTarget,
    known: dict[str, str],
    stage: str,
    what: str,
    despite: list[str] | None = None,
) -> list[str]:
    """Refuses if a node that answers the way in use does not answer the new one. Nodes that are
    down do not count, nor do those in `despite`, by name or address. `known`: addresses of nodes,
    by name; `stage` holds the new client.pem and ca.pem, as far as there are any; `what` is new.
    Returns the notes for a success."""
    nodes = nodes_of(new, known)
    asked = ask_all(new, nodes, stage)
    refusing = {node: why for node, why in asked.items() if why}
    before = ask_all(old, [(name_by(old, known, node), node[1]) for node in refusing], HAPROXY)
    answered = {address for (_, address), why in before.items() if not why}
    lost = {node: why for node, why in refusing.items() if node[1] in answered}
    passed = despite or []
    counted = {node: why for node, why in lost.items() if not set(node) & set(passed)}
    if counted:
        each = "; ".join(f"{node[1]}: {why}" for node, why in counted.items())
        raise Failure(
            f"{len(counted)} of {len(nodes)} nodes would not accept the new {what}, "
            f"so the old ones stay in use: {each}{way_past(counted, nodes, despite)}"
        )
    if not nodes:
        return [f"no node is known yet, so none was asked whether it accepts the new {what}"]
    there = {word for node in nodes for word in node}
    notes = [f"{name} is not a node" for name in passed if name not in there]
    for node, why in refusing.items():
        if node in lost:
            notes.append(f"node {node[1]} does not accept the new {what}: {why}")
        else:
            notes.append(
                f"node {node[1]} could not be asked whether it accepts the new {what}: {why}"
            )
    return notes


def ensure_one_answers(target: ProbeTarget, cfg: str, stage: str) -> list[str]:
    """Before the first start: refuses if none of the nodes answers, for then HAProxy would find no
    primary. No HAProxy knows them yet, so their addresses are asked of the name servers in its
    configuration. Returns the notes for a success."""
    nodes = nodes_of(target, {address: address for address in resolved(cfg)})
    asked = ask_all(target, nodes, stage)
    refusing = {node[1]: why for node, why in asked.items() if why}
    if nodes and len(refusing) == len(nodes):
        each = "; ".join(f"{address}: {why}" for address, why in refusing.items())
        raise Failure(f"none of the {len(nodes)} nodes answers lbctl's health checks: {each}")
    return [f"node {address} does not answer yet: {why}" for address, why in refusing.items()]


def way_past(refusing: dict[Node, str], nodes: list[Node], despite: list[str] | None) -> str:
    """Words on the flag, where a certificate may be exchanged without these nodes."""
    if despite is None:
        return ""
    passed = [*despite, *(address for _, address in refusing)]
    if not any(set(node).isdisjoint(passed) for node in nodes):
        return ""
    flags = " ".join(f"--despite {node}" for node in passed)
    return (
        f"; correct restapi.cafile there, or give them up until they accept it: "
        f"`lbctl renew {flags}`"
    )


def is_another_way(new: ProbeTarget, old: ProbeTarget) -> bool:
    """Whether nodes are asked differently, apart from certificates."""
    return any(way(new)[key] != way(old)[key] for key in way(new))


def way(target: ProbeTarget) -> dict[str, object]:
    """What lbctl 0.1 wrote has less."""
    return {
        "port": target["port"],
        "tls": target.get("tls", "mutual"),
        "verify_host": target["verify_host"],
        "nodes": target.get("nodes", []),
    }


def nodes_of(target: ProbeTarget, known: dict[str, str]) -> list[Node]:
    listed = target.get("nodes", [])
    if listed:
        # HAProxy knows where a host name leads. What is known by the name of a node with an address
        # of its own may be another machine.
        return [
            (
                node["name"],
                node["address"]
                if server_state.ip_address(node["address"])
                else known.get(node["name"], node["address"]),
            )
            for node in listed
        ]
    return sorted(known.items(), key=lambda node: node[1])


def name_by(target: ProbeTarget, known: dict[str, str], node: Node) -> str:
    """By which a node is listed elsewhere: nodes may be renamed."""
    there = {address: name for name, address in nodes_of(target, known)}
    return there.get(node[1], node[0])


def ask_all(target: ProbeTarget, nodes: list[Node], place: str) -> dict[Node, str | None]:
    """For each node what went wrong; None: it answered."""
    found: dict[Node, str | None] = {}

    def ask(node: Node) -> None:
        found[node] = ask_node(target, node, place)

    threads = [threading.Thread(target=ask, args=(node,), daemon=True) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * TIMEOUT)
    return {node: found.get(node, "no answer in time") for node in nodes}


def ask_node(target: ProbeTarget, node: Node, place: str) -> str | None:
    name, address = node
    listed = next((n for n in target.get("nodes", []) if n["name"] == name), None)
    port = listed["port"] if listed else target["port"]
    verify_host = listed["verify_host"] if listed else target["verify_host"]
    mode = target.get("tls", "mutual")
    try:
        context = None
        if mode != "off":
            # Read by few commands: see `digest` in tools.
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = verify_host is not None
            context.load_verify_locations(at(f"{place}/ca.pem"))
        if context and mode == "mutual":
            context.load_cert_chain(at(f"{place}/client.pem"))
        with socket.create_connection((address, port), timeout=TIMEOUT) as plain:
            request = f"GET /primary HTTP/1.0\r\nHost: {target['host']}\r\n\r\n".encode()
            if not context:
                return answer(plain, request)
            with context.wrap_socket(plain, server_hostname=verify_host) as tls:
                # In TLS 1.3 a refused client certificate shows at the first answer only.
                return answer(tls, request)
    except (OSError, ValueError) as problem:
        return str(problem)


def answer(connection: socket.socket, request: bytes) -> str | None:
    connection.sendall(request)
    if not connection.recv(16).startswith(b"HTTP/"):
        return "it answers, but not with HTTP"
    return None


# ---- where the nodes are, as HAProxy will ask for it

# Types of a DNS question (RFC 1035, RFC 3596), and whose addresses they are.
KINDS = {1: socket.AF_INET, 28: socket.AF_INET6}
DNS_TIMEOUT = 2.0


def resolved(cfg: str, port: int = 53) -> list[str]:
    """Addresses of the name that the configuration has for all nodes, of the first name server that
    knows some."""
    servers = re.findall(r"^\s*nameserver \S+ \[?([0-9a-fA-F.:]+?)\]?:53\s*$", cfg, re.M)
    names = re.findall(r"^\s*server-template \S+ \S+ ([^\s:]+)", cfg, re.M)
    for server in servers:
        found = [
            a for name in names[:1] for kind in KINDS for a in lookup(name, server, kind, port)
        ]
        if found:
            return sorted(set(found))
    return []


def lookup(name: str, server: str, kind: int, port: int = 53) -> list[str]:
    """Empty where it does not answer, or not with an address."""
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    question += struct.pack("!HH", kind, 1)
    head = os.urandom(2)
    try:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.settimeout(DNS_TIMEOUT)
            s.connect((server, port))
            s.send(head + b"\x01\0\0\1\0\0\0\0\0\0" + question)
            answer = s.recv(4096)
        if answer[:2] != head:
            return []
        return addresses_in(answer, 12 + len(question), kind)
    except (OSError, ValueError, IndexError, struct.error):
        return []


def addresses_in(answer: bytes, at: int, kind: int) -> list[str]:
    """Those of the answer's records (RFC 1035, section 4.1.3), which begin there."""
    found = []
    for _ in range(struct.unpack_from("!H", answer, 6)[0]):
        # A name ends with an empty label, or with a pointer to the rest of it.
        while answer[at] and answer[at] < 0xC0:
            at += answer[at] + 1
        at += 2 if answer[at] else 1
        of, _, _, length = struct.unpack_from("!HHIH", answer, at)
        at += 10
        if of == kind:
            found.append(socket.inet_ntop(KINDS[kind], answer[at : at + length]))
        at += length
    return found
