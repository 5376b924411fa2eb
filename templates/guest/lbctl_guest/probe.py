"""Asks every node whether it would accept a certificate that is not in use yet. Python 3.10 or
newer, standard library only."""

from __future__ import annotations

import socket
import ssl
import threading

from .paths import HAPROXY, at
from .tools import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import ProbeTarget

TIMEOUT = 8.0


def probe_all(target: ProbeTarget, addresses: list[str], stage: str) -> list[str]:
    """Refuses if a node that accepts the pair in use does not accept the new one. Nodes that are
    down do not count. `stage` holds the new client.pem and ca.pem. Returns the notes for a
    success."""
    new = ask_all(target, addresses, stage)
    refusing = {address: why for address, why in new.items() if why}
    old = ask_all(target, list(refusing), HAPROXY)
    lost = [f"{address}: {why}" for address, why in refusing.items() if not old[address]]
    if lost:
        raise Failure(
            f"{len(lost)} of {len(addresses)} nodes would not accept the new certificate or CA, "
            f"so the old ones stay in use: {'; '.join(lost)}"
        )
    if not addresses:
        return ["no node is known yet, so none was asked whether it accepts the new certificate"]
    return [
        f"node {address} could not be asked whether it accepts the new certificate: {why}"
        for address, why in refusing.items()
    ]


def ask_all(target: ProbeTarget, addresses: list[str], place: str) -> dict[str, str | None]:
    """For each address what went wrong; None: it accepted the pair."""
    found: dict[str, str | None] = {}

    def ask(address: str) -> None:
        found[address] = ask_node(target, address, place)

    threads = [threading.Thread(target=ask, args=(a,), daemon=True) for a in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * TIMEOUT)
    return {a: found.get(a, "no answer in time") for a in addresses}


def ask_node(target: ProbeTarget, address: str, place: str) -> str | None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = target["verify_host"] is not None
        context.load_verify_locations(at(f"{place}/ca.pem"))
        context.load_cert_chain(at(f"{place}/client.pem"))
        with (
            socket.create_connection((address, target["port"]), timeout=TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=target["verify_host"]) as tls,
        ):
            # In TLS 1.3 a refused client certificate shows at the first answer only.
            tls.sendall(f"GET /primary HTTP/1.0\r\nHost: {target['host']}\r\n\r\n".encode())
            if not tls.recv(16).startswith(b"HTTP/"):
                return "it answers, but not with HTTP"
        return None
    except (OSError, ValueError) as problem:
        return str(problem)
