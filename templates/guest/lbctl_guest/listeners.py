"""Who listens where HAProxy is about to listen. A program of the same user that sets SO_REUSEPORT
would share the port with it: the kernel gives each of the two a part of the clients, and nobody is
told. Python 3.10 or newer, standard library only.

Only what is certain counts: HAProxy must not stay down for a socket that takes no client away."""

from __future__ import annotations

import os
import re
import socket
import sys

from .paths import HAPROXY_CFG, SETTINGS, at
from .tools import CONTAINER_UID, complain, read_bytes, read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    # An address, packed, and a port.
    Place = tuple[bytes, int]

# The state of a socket that listens, in /proc/net/tcp (Linux, include/net/tcp_states.h).
LISTENS = "0A"
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
ANY = (bytes(4), bytes(16))
# The beginning of an address of IPv4 in one of IPv6 (RFC 4291, section 2.5.5.2).
MAPPED = bytes(10) + b"\xff\xff"


class Listener:
    """A socket of somebody else's where HAProxy is to listen."""

    def __init__(self, port: int, program: str) -> None:
        self.port = port
        self.program = program

    def __str__(self) -> str:
        return f"port {self.port} is taken by {self.program}"


class Socket:
    """One that listens, as the kernel's table has it."""

    def __init__(self, place: Place, uid: int, inode: str) -> None:
        self.place = place
        self.uid = uid
        self.inode = inode


def in_the_way(spared: Iterable[str] = ()) -> list[str]:
    """What stands against lbctl's HAProxy as it is configured, a sentence for each, while it does
    not run. Nothing where that is unknown."""
    try:
        conf = read_json(SETTINGS)
        uid = CONTAINER_UID if conf["runtime"] == "container" else 0
        cfg = read_bytes(HAPROXY_CFG).decode("utf-8", "replace")
        return [str(listener) for listener in foreign(cfg, uid, spared)]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        complain(f"unknown who listens on HAProxy's ports: {problem!r}")
        return []


def foreign(cfg: str, uid: int, spared: Iterable[str] = ()) -> list[Listener]:
    """Those that stand against a HAProxy of that user with this configuration, asked while none of
    lbctl's runs. One of the same user would share the port. One of another user makes HAProxy fail
    by itself: it is named where its name is known, and left to HAProxy's own message otherwise.
    The sockets in `spared`, by inode, may share."""
    passed = set(spared)
    taken = [one for one in taking(cfg) if one.inode not in passed]
    if not taken:
        return []
    programs = owners({one.inode for one in taken})
    found = {
        (one.place[1], programs.get(one.inode, f"a program of the user {one.uid}"))
        for one in taken
        if one.uid == uid or one.inode in programs
    }
    return [Listener(port, program) for port, program in sorted(found)]


def taking(cfg: str) -> list[Socket]:
    """Sockets that take clients from a HAProxy with this configuration."""
    wanted = bound(cfg)
    return [one for one in listening() if any(takes(one.place, place) for place in wanted)]


def bound(cfg: str) -> list[Place]:
    """Where the lines `bind` listen; a path of a socket is passed over."""
    places = []
    for line in cfg.split("\n"):
        words = line.split()
        if len(words) > 1 and words[0] == "bind":
            for address in words[1].split(","):
                host, _, port = address.rpartition(":")
                packed = pack(host)
                if packed is not None and re.fullmatch("[0-9]{1,5}", port):
                    places.append((packed, int(port)))
    return places


def pack(host: str) -> bytes | None:
    """An address as HAProxy's configuration writes it; None: it is none."""
    if host in ("", "*"):
        return ANY[0]
    host = host.removeprefix("[").removesuffix("]")
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, host)
        except OSError:
            continue
    return None


def takes(theirs: Place, ours: Place) -> bool:
    """Whether a socket there takes clients from one here. The kernel prefers a socket that has the
    very address, and then one of the client's own family (Linux, inet_hashtables.c,
    compute_score)."""
    (address, port), (own, own_port) = theirs, ours
    if port != own_port or len(address) != len(own):
        return False
    return own in (address, *ANY)


def listening() -> list[Socket]:
    """A line is `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout
    inode …` (Linux, Documentation/networking/proc_net_tcp.rst)."""
    sockets = []
    for table in TABLES:
        for line in read_bytes(table).decode("ascii", "replace").split("\n")[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == LISTENS and fields[7].isdigit():
                place = unpack(fields[1])
                if place:
                    sockets.append(Socket(place, int(fields[7]), fields[9]))
    return sockets


def unpack(text: str) -> Place | None:
    """`0100007F:1538`: each four bytes of the address are a number of this machine's byte order."""
    found = re.fullmatch("([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})", text)
    if not found:
        return None
    words = re.findall("[0-9A-F]{8}", found.group(1))
    address = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return address.removeprefix(MAPPED), int(found.group(2), 16)


def owners(inodes: set[str]) -> dict[str, str]:
    """The name and number of the program that has each of the sockets open. Nothing of those whose
    processes end meanwhile, or may not be looked at."""
    found: dict[str, str] = {}
    for process in all_processes():
        there = sockets_of(process) & inodes
        if there - set(found):
            name = read_bytes(f"/proc/{process}/comm").decode("utf-8", "replace").strip()
            printable = "".join(c if c.isprintable() else "?" for c in name)
            for inode in there:
                found.setdefault(inode, f"{printable or 'a program'} (pid {process})")
    return found


def processes(cfg: str) -> list[str]:
    """Those that listen where that configuration would."""
    inodes = {one.inode for one in taking(cfg)}
    if not inodes:
        return []
    return [process for process in all_processes() if sockets_of(process) & inodes]


def first_of(process: str, program: str) -> int:
    """The first of its ancestors, or itself, that is this program: HAProxy's master, if it has one.
    0: it is another program."""
    first, process_id = 0, process
    while read_bytes(f"/proc/{process_id}/comm").decode("utf-8", "replace").strip() == program:
        first = int(process_id)
        process_id = parent_of(process_id)
    return first


def parent_of(process: str) -> str:
    """The second field behind the name, which may hold anything (proc(5), /proc/PID/stat)."""
    stat = read_bytes(f"/proc/{process}/stat").decode("utf-8", "replace")
    fields = stat.rpartition(")")[2].split()
    return fields[1] if len(fields) > 1 and fields[1].isdigit() else "0"


def unit_of(process: int) -> str:
    """The service of systemd's that started it, by its control group (cgroups(7)); empty where none
    did."""
    text = read_bytes(f"/proc/{process}/cgroup").decode("utf-8", "replace")
    found = re.search(r"^(?:0:|\d+:name=systemd):/.*?([^/\n]+\.service)$", text, re.M)
    return found.group(1) if found else ""


def all_processes() -> list[str]:
    return sorted(filter(str.isdigit, listed("/proc")), key=int)


def sockets_of(process: str) -> set[str]:
    """The inodes of the sockets that a process has open."""
    links = (link(f"/proc/{process}/fd/{fd}") for fd in listed(f"/proc/{process}/fd"))
    found = (re.fullmatch(r"socket:\[(\d+)\]", target) for target in links)
    return {one.group(1) for one in found if one}


def listed(folder: str) -> list[str]:
    try:
        return os.listdir(at(folder))
    except OSError:
        return []


def link(path: str) -> str:
    try:
        return os.readlink(at(path))
    except OSError:
        return ""
