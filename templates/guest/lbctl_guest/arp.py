"""Questions by ARP as in RFC 5227, without an address of the sender, so that nobody's table
changes. The kernel answers them, whatever its programs do. Python 3.10 or newer, standard library
only."""

from __future__ import annotations

import errno
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Linux's and ARP's (packet(7), RFC 826).
ETH_P_ARP = 0x0806
EVERYBODY = b"\xff" * 6
ETHERNET, IPV4, ASKS = 1, 0x0800, 1
ARP = struct.Struct("!HHBBH6s4s6s4s")

# Seconds. A machine on the segment answers within some milliseconds; on a busy host it takes
# longer, and a question may be lost.
TIMES, BETWEEN = 3, 0.25
# Read at once. Strangers may send as many as they like.
MOST_ANSWERS = 64


def ask(
    card: str, mac: str, addresses: Iterable[str], enough: Callable[[dict[str, set[str]]], bool]
) -> dict[str, set[str]]:
    """The MAC addresses that answer for each address, until it is enough."""
    own = octets(mac)
    found: dict[str, set[str]] = {}
    with open_socket(card) as s:
        for _ in range(TIMES):
            for address in addresses:
                send(s, card, question(own, address), EVERYBODY)
            deadline = time.monotonic() + BETWEEN
            while (left := deadline - time.monotonic()) > 0:
                s.settimeout(left)
                try:
                    packet = s.recv(1000)
                except TimeoutError:
                    break
                read(packet, own, found)
                if enough(found):
                    return found
    return found


class Asker:
    """Asks who lives, without waiting for the answers."""

    def __init__(self, mac: str) -> None:
        self.own = octets(mac)
        self.socket: socket.socket | None = None
        self.card = ""

    def answers(self) -> set[tuple[str, str]]:
        """Address and MAC address of those that have said something since the last time."""
        found: dict[str, set[str]] = {}
        for _ in range(MOST_ANSWERS):
            if self.socket is None:
                break
            try:
                read(self.socket.recv(1000), self.own, found)
            except OSError as problem:
                if problem.errno not in (errno.EAGAIN, errno.EINTR):
                    # The card has gone down.
                    self.close()
                break
        return {(address, mac) for address, macs in found.items() for mac in macs}

    def ask(self, card: str, whom: Iterable[tuple[str, str]]) -> None:
        """The machine with each address and MAC address, and nobody else."""
        if self.socket is None or self.card != card:
            self.close()
            self.socket, self.card = open_socket(card), card
            self.socket.setblocking(False)
        for address, mac in whom:
            send(self.socket, card, question(self.own, address), octets(mac))

    def close(self) -> None:
        if self.socket:
            self.socket.close()
        self.socket = None


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def open_socket(card: str) -> socket.socket:
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ARP))
    try:
        s.bind((card, ETH_P_ARP))
    except OSError:
        s.close()
        raise
    return s


def send(s: socket.socket, card: str, packet: bytes, mac: bytes) -> None:
    s.sendto(packet, (card, ETH_P_ARP, 0, 0, mac))


def question(own: bytes, address: str) -> bytes:
    wanted = socket.inet_aton(address)
    return ARP.pack(ETHERNET, IPV4, 6, 4, ASKS, own, bytes(4), bytes(6), wanted)


def read(packet: bytes, own: bytes, found: dict[str, set[str]]) -> None:
    """Whoever names itself with an address has it, in a question as well as in an answer."""
    if len(packet) < ARP.size:
        return
    kind, protocol, _, _, _, sender, address, _, _ = ARP.unpack_from(packet)
    if (kind, protocol) != (ETHERNET, IPV4) or sender == own:
        return
    found.setdefault(socket.inet_ntoa(address), set()).add(sender.hex(":"))
