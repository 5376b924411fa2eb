"""Says how fit this VM is for the shared address, hears how the others are, and has nft pass on the
packets of sessions that another one still has. Runs for as long as the guest does. Python 3.10 or
newer, standard library only.

Nothing is kept that another program would have to take back: a rule holds for as long as the peer
that it is about says that it lives, and a step back ends by itself."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import select
import socket
import struct
import time

from . import arp, vip
from .paths import ADMIN_SOCKET, RUN, at
from .tools import Failure, ask, complain, make_folder, read_bytes, run, write
from .vip import FAULT, LOADED, METRICS_FOLDER, NO_PRIMARY, READY, STATE, STEPPED_BACK, WEIGHT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .wire import PeerStatus, SharedAddress

# Seconds. Between two rounds, and between two messages to the peers.
ROUND = 0.1
MESSAGE = 0.2
# Without a message for so long, or for `detection` where that is longer, a peer takes no part;
# without a sign of its kernel it is gone, and what is sent to it is lost. TCP sends again after
# some 0.2, 0.6 and 1.4 s: the third time whoever has a session there hears that it has ended. Nft
# may know it a quarter of a second later than this.
ALIVE = 1.0
# Without a message for so long, a peer's kernel is asked, which keeps its sessions whatever becomes
# of its service. And the same where this VM has the address: it may be the one that is cut off.
SILENT = 0.5
# So often it is asked in vain at least: between two rounds of a slow VM much time may pass.
QUESTIONS = 4
# And so many other machines are asked with it: where none of them answers either, this VM is the
# one that is cut off. One that has been for so many seconds has seen no primary since, and no
# longer takes the address from a VM that has one.
OTHERS, CUT_OFF = 32, 10.0
# For HAProxy's answer, and then for the next round.
PATIENCE, AGAIN = 0.5, 0.1
# How long what HAProxy says must hold until it counts: a failover of Patroni is seen by the VMs at
# slightly different times, and must not move the address. The holder is slow to give up and quick
# to come back; the others are the opposite.
HOLDER_LOSES, OTHER_LOSES = 1.5, 0.3
OTHER_REGAINS = 1.0

# Linux's, which the module `socket` lacks (ip(7)).
IP_RECVTTL, IP_FREEBIND = 12, 15
OWN_TTL = 255
# ESTABLISHED and CLOSE_WAIT (include/net/tcp_states.h).
OPEN = (b"01", b"08")
# Read in one round. Strangers may send as many as they like.
MOST_MESSAGES = 64


# ---- how fit this VM is


def sight() -> str:
    """`primary`: HAProxy runs and has exactly one; `none`: it runs and has none, or several;
    `mute`: it has said nothing for PATIENCE; `gone`: it does not run."""
    for attempt in (1, 2):
        try:
            text = ask(ADMIN_SOCKET, "show stat primary 2 -1", timeout=PATIENCE)
            return "primary" if active_servers(text) == "1" else "none"
        except TimeoutError:
            return "mute"
        except OSError:
            # At a reload another process takes the socket over.
            if attempt == 1:
                time.sleep(0.03)
    return "gone"


def active_servers(text: str) -> str | None:
    rows = table(text)
    return rows[0].get("act") if rows else None


def sessions(conf: SharedAddress) -> int:
    """Those that came by the address, by the kernel (proc(5), "tcp"): HAProxy's new worker knows
    none of those that an old one keeps after a reload."""
    (address,) = struct.unpack("=I", socket.inet_aton(conf["address"]))
    wanted = {f"{address:08X}:{port:04X}".encode() for port in conf["ports"]}
    rows = (line.split() for line in read_bytes("/proc/net/tcp").split(b"\n")[1:])
    return sum(len(row) > 3 and row[1] in wanted and row[3] in OPEN for row in rows)


def table(text: str) -> list[dict[str, str]]:
    lines = list(csv.reader(text.lstrip("# ").strip().split("\n")))
    return [dict(zip(lines[0], row, strict=False)) for row in lines[1:]]


class Fitness:
    """The number for keepalived, by what is seen of HAProxy. `detection`: seconds that a VM may say
    nothing, and so a HAProxy, which waits for the same processor."""

    def __init__(self, own: int = FAULT, detection: float = 0.0) -> None:
        self.own = own
        # Once it was found mute.
        self.patience = max(0.0, detection - PATIENCE - AGAIN)
        self.seen = "gone"
        self.since = 0.0

    def weigh(self, now: float, seen: str, held: bool, on_file: int | None) -> int:
        if seen != self.seen:
            self.seen, self.since = seen, now
        if on_file == FAULT and self.own > FAULT:
            # HAProxy's unit wrote it: it has ended since. What was seen is of before.
            self.own, self.since = FAULT, now
            return self.own
        lasted = now - self.since
        if seen == "gone" or (seen == "mute" and lasted >= self.patience):
            self.own = FAULT
        elif seen == "mute":
            pass
        elif seen == "none":
            if self.own == FAULT or lasted >= (HOLDER_LOSES if held else OTHER_LOSES):
                self.own = NO_PRIMARY
        elif self.own == FAULT:
            if lasted >= OTHER_REGAINS:
                self.own = READY
        elif held or lasted >= OTHER_REGAINS:
            self.own = READY
        return self.own


def put_weight(weight: int) -> None:
    """Not by `write`: this is read by nobody after a power cut."""
    path = at(WEIGHT)
    with open(f"{path}.new", "w") as f:
        f.write(f"{weight}\n")
    os.rename(f"{path}.new", path)


# ---- the other VMs


class Peer:
    """Another VM that shares the address, as it says itself."""

    def __init__(self, address: str, mac: str | None, patience: float = ALIVE) -> None:
        self.address = address
        self.patience = patience
        self.configured_mac = mac
        self.mac = mac
        self.heard: float | None = None
        # When its kernel answered last, and how often it has not since.
        self.answered: float | None = None
        self.unanswered = 0
        self.had_address: float | None = None
        # Whether it was heard without the address while this VM had it, and this VM has it still.
        self.held_through = False
        self.said: dict[str, Any] = {}

    def hear(self, now: float, said: dict[str, Any]) -> None:
        # Of before this process it is not known. And who has more sessions than it last said has
        # had the address meanwhile: one of the two was cut off.
        more = count(said) > count(self.said)
        if said.get("held") is True or self.had_address is None or more:
            self.had_address = now
        self.heard, self.said, self.unanswered = now, said, 0

    def is_lost(self, now: float) -> bool:
        """Nothing is heard of it since this VM has the address, and it had no sessions. If this VM
        is the one that is cut off, the other one has taken the address and has sessions that this
        one does not know. If it had some, they may have ended with it: its kernel is asked."""
        return self.is_silent(now) and self.held_through and self.said.get("sessions") == 0

    def is_silent(self, now: float, seconds: float = SILENT) -> bool:
        return self.heard is not None and now - self.heard >= seconds

    def is_alive(self, now: float) -> bool:
        return self.heard is not None and now - self.heard < self.patience

    def is_there(self, now: float) -> bool:
        """Its kernel, with or without its service. Of one that was gone that is known only when its
        service says something again."""
        answered = self.answered is not None and now - self.answered < self.patience
        return self.is_alive(now) or answered or self.unanswered < QUESTIONS

    def has_sessions(self, now: float, drain: float) -> bool:
        """Those that came by the address, as far as they may go on."""
        recently = self.had_address is not None and now - self.had_address < drain
        return self.said.get("held") is True or (count(self.said) > 0 and recently)

    def status(self, now: float, identity: str) -> PeerStatus:
        alive = self.is_alive(now)
        weight = self.said.get("weight")
        return {
            "address": self.address,
            "alive": alive,
            "held": alive and self.said.get("held") is True,
            "weight": weight if alive and isinstance(weight, int) else None,
            "agrees": not alive or self.said.get("identity") == identity,
        }


def count(said: dict[str, Any]) -> int:
    sessions = said.get("sessions")
    return sessions if isinstance(sessions, int) else 0


def drained_to(peers: list[Peer], now: float, drain: float) -> Peer | None:
    """The VM that has the sessions which this one does not know: of those that live and have some,
    the one that had the address last."""
    found = [p for p in peers if p.is_there(now) and p.mac and p.has_sessions(now, drain)]
    return max(found, key=lambda p: p.had_address or 0.0, default=None)


def rules(
    card: str, peers: list[Peer], passed_to: Peer | None, drains: bool, lost: bool = False
) -> str:
    """What nft is told, in one transaction. `lost`: what this VM does not know is not reset, but
    waits until the peer is heard again."""
    lines = ["flush set netdev lbctl_vrrp known", "flush set netdev lbctl_vrrp with_mac"]
    known = [p for p in peers if p.mac]
    for peer in known:
        pair = f"{peer.address} . {peer.mac}"
        lines.append(f"add element netdev lbctl_vrrp known {{ {pair} }}")
        lines.append(f"add element netdev lbctl_vrrp with_mac {{ {peer.address} }}")
    if drains:
        lines += ["flush chain ip lbctl_drain unknown", "flush set ip lbctl_drain macs"]
        for mac in sorted({p.mac for p in known if p.mac}):
            lines.append(f"add element ip lbctl_drain macs {{ {mac} }}")
        to = f'dup to {passed_to.address} device "{card}" drop' if passed_to else "drop"
        if passed_to or lost:
            # What only the listener knows, and while HAProxy does not run, what nobody knows. A
            # socket of HAProxy's is not transparent; but while a session opens, the kernel does not
            # say whether its socket has a wildcard.
            lines += [
                f"add rule ip lbctl_drain unknown socket wildcard 1 counter {to}",
                "add rule ip lbctl_drain unknown socket transparent 0 return",
                f"add rule ip lbctl_drain unknown counter {to}",
            ]
    return "\n".join(lines) + "\n"


def open_socket(conf: SharedAddress) -> socket.socket:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, OWN_TTL)
        s.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        s.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        s.bind((conf["own"], conf["port"]))
    except OSError:
        s.close()
        raise
    return s


def receive(s: socket.socket) -> tuple[str, dict[str, Any]] | None:
    """A message and who sent it, or None where there is none. One that came by a router, or is not
    a message, is nobody's."""
    try:
        data, extra, _, sender = s.recvmsg(2048, socket.CMSG_SPACE(4))
    except OSError as problem:
        if problem.errno in (errno.EAGAIN, errno.EINTR):
            return None
        return "", {}
    ttls = [
        struct.unpack("i", content[:4])[0]
        for level, kind, content in extra
        if level == socket.IPPROTO_IP and kind == socket.IP_TTL
    ]
    if ttls != [OWN_TTL]:
        return "", {}
    try:
        said = json.loads(data.decode())
    except (ValueError, RecursionError):
        # Of brackets alone, too, which is no value that a message has.
        said = None
    if not isinstance(said, dict):
        return "", {}
    return str(sender[0]), said


# ---- the loop


def before_this(weight: int | None) -> int:
    """What an earlier process of this service had found."""
    if weight in (READY, NO_PRIMARY):
        return weight
    return NO_PRIMARY if weight == STEPPED_BACK else FAULT


class Watch:
    def __init__(self, conf: SharedAddress) -> None:
        self.conf = conf
        self.identity = f"{conf['address']} {conf['router_id']} {conf['detection_ms']}"
        # VMs that may stand still for long are taken for dead as late as by keepalived.
        self.patience = max(ALIVE, conf["detection_ms"] / 1000)
        self.peers = [Peer(p["address"], p["mac"], self.patience) for p in conf["peers"]]
        self.fitness = Fitness(before_this(vip.on_file()), conf["detection_ms"] / 1000)
        self.began = time.monotonic()
        self.card: str | None = None
        self.held = False
        self.sessions = 0
        self.socket: socket.socket | None = None
        self.asker = arp.Asker(conf["mac"])
        # What was done last, and when.
        self.loaded = ""
        self.state = ""
        self.metrics = ""
        self.next: dict[str, float] = {}

    def is_time(self, what: str, now: float, period: float) -> bool:
        if now < self.next.get(what, 0.0):
            return False
        self.next[what] = now + period
        return True

    def round(self) -> None:
        now = time.monotonic()
        if self.card is None or self.is_time("card", now, 5.0):
            self.card = vip.card_of(self.conf["mac"])
        had = self.held
        self.held = (self.card, self.conf["address"]) in vip.addresses()
        stepped_back = vip.is_asked(vip.awake())
        before = vip.on_file()
        weight = self.fitness.weigh(now, sight(), self.held, before)
        if stepped_back:
            weight = min(weight, STEPPED_BACK)
        if weight != before:
            put_weight(weight)
        if self.is_time("sessions", now, 1.0) or had != self.held:
            # Before the others hear that it moved: they ask whether anybody is left here.
            self.sessions = sessions(self.conf)
        self.talk(weight, now, had != self.held)
        try:
            self.follow(now)
        finally:
            # Also where nft fails: that is no reason to be taken for dead.
            self.tell(weight, now)

    def talk(self, weight: int, now: float, at_once: bool) -> None:
        if self.socket is None:
            self.socket = open_socket(self.conf)
        for _ in range(MOST_MESSAGES):
            message = receive(self.socket)
            if message is None:
                break
            for peer in self.peers:
                if peer.address == message[0]:
                    peer.hear(now, message[1])
        if self.is_time("message", now, MESSAGE) or at_once:
            text = json.dumps(
                {
                    "identity": self.identity,
                    "held": self.held,
                    "weight": weight,
                    "sessions": self.sessions,
                }
            )
            for peer in self.peers:
                # The card may be away, or the network.
                with contextlib.suppress(OSError):
                    self.socket.sendto(text.encode(), (peer.address, self.conf["port"]))

    def follow(self, now: float) -> None:
        """Has nft know the peers' MAC addresses, and pass on what is theirs."""
        if self.card is None:
            return
        known = vip.neighbours(self.card)
        for peer in self.peers:
            peer.mac = peer.configured_mac or known.get(peer.address) or peer.mac
            heard = peer.is_alive(now) and peer.said.get("held") is False
            peer.held_through = self.held and (peer.held_through or heard)
        drain = self.conf["drain_ms"] / 1000
        drains = drain > 0
        self.look_after_silent(now, drain, known)
        passed_to = drained_to(self.peers, now, drain) if drains else None
        # A peer that has not been heard yet may have sessions: TCP sends again.
        is_new = now - self.began < self.patience and any(peer.heard is None for peer in self.peers)
        lost = is_new or any(peer.is_lost(now) for peer in self.peers)
        wanted = rules(self.card, self.peers, passed_to, drains, lost)
        if self.is_time("rules", now, 10.0) and not vip.rules_are_there():
            vip.load_rules(self.card)
            self.loaded = ""
        # Whoever loads them anew empties them.
        wanted_of = f"{wanted}{stamp(LOADED)}"
        if wanted_of != self.loaded:
            run("nft", "--file", "-", stdin=wanted)
            self.loaded = wanted_of

    def look_after_silent(self, now: float, drain: float, known: dict[str, str]) -> None:
        """Whether those that have sessions are there, although their service says nothing. A
        question counts as not answered when another machine has answered one."""
        answers = self.asker.answers()
        theirs = {peer.address for peer in self.peers}
        others = [(a, mac) for a, mac in known.items() if a not in theirs][:OTHERS]
        is_heard = not others or not answers.isdisjoint(others)
        asked = []
        for peer in self.peers:
            if not (peer.mac and peer.is_silent(now) and peer.is_there(now)):
                continue
            if (peer.address, peer.mac) in answers:
                peer.answered, peer.unanswered = now, 0
            if peer.has_sessions(now, drain):
                peer.unanswered += is_heard or peer.is_silent(now, CUT_OFF)
                asked.append((peer.address, peer.mac))
        if not answers.issuperset(asked):
            asked += others
        if not asked:
            self.asker.close()
        elif self.card:
            # The card may be down.
            with contextlib.suppress(OSError):
                self.asker.ask(self.card, asked)

    def tell(self, weight: int, now: float) -> None:
        state = {
            "address": self.conf["address"],
            "held": self.held,
            "weight": weight,
            "sessions": self.sessions,
            "peers": [peer.status(now, self.identity) for peer in self.peers],
        }
        text = json.dumps(state)
        if text != self.state or self.is_time("state", now, 1.0):
            write(STATE, json.dumps({**state, "at": vip.awake()}))
            self.state = text
        metrics = metrics_of(state)
        if metrics != self.metrics and os.path.isdir(at(METRICS_FOLDER)):
            write(f"{METRICS_FOLDER}/lbctl.prom", metrics)
            self.metrics = metrics


def stamp(path: str) -> int:
    try:
        return os.stat(at(path)).st_mtime_ns
    except OSError:
        return 0


def metrics_of(state: dict[str, Any]) -> str:
    """For the node exporter."""
    lines = []

    def gauge(name: str, meaning: str, values: dict[str, int]) -> None:
        lines.extend([f"# HELP lbctl_{name} {meaning}", f"# TYPE lbctl_{name} gauge"])
        lines.extend(f"lbctl_{name}{labels} {value}" for labels, value in values.items())

    gauge("virtual_ip_held", "Whether this VM has the shared address", {"": int(state["held"])})
    meaning = "0 ready, -20 no primary seen, -50 stepped back, -254 HAProxy does not run"
    gauge("virtual_ip_weight", meaning, {"": state["weight"]})
    alive = {f'{{peer="{p["address"]}"}}': int(p["alive"]) for p in state["peers"]}
    gauge("virtual_ip_peer_alive", "Whether this VM hears of the other one", alive)
    return "\n".join(lines) + "\n"


def watch() -> None:
    """Runs for as long as the guest does."""
    make_folder(RUN)
    watch = Watch(vip.shared())
    said = ""
    while True:
        began = time.monotonic()
        try:
            watch.round()
            said = ""
        except (OSError, Failure, csv.Error) as problem:
            # The card may come later, or nft be installed.
            if str(problem) != said:
                said = str(problem)
                complain(said)
        left = ROUND - (time.monotonic() - began)
        if left > 0:
            readable = [watch.socket] if watch.socket else []
            select.select(readable, [], [], left)
