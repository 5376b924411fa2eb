"""Clients of a shared address before a real PostgreSQL, under a Python that has psycopg: sessions that are busy and live for a
while, as those of a pool do; a new connection all the time; and who answers for the address. Commands are lines on standard
input, and one line of JSON answers each:

  python3 busy.py ADDRESS SESSIONS SECONDS MAC=NAME...

  report    what happened since the last report: sessions that were cut, those that ended as they should, connections, those
            that failed, the longest time in seconds in which none succeeded; and of each VM when it answered for the address,
            in seconds since the beginning, for how long more than one did, and the longest time in which none did
"""
import fcntl
import json
import random
import socket
import struct
import sys
import threading
import time

import psycopg

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
# Seconds: for a session and a connection to begin, between a session's queries, between connections, between ARP requests.
# More than a hundred of them a second are all that an emulated guest's one processor can do on a slow machine, and then its
# health checks fail: what is lost is told no worse by half as many.
PATIENCE, CONNECT, PAUSE, BETWEEN, ASK = 60, 10, 1.0, 0.4, 0.2
# So long may an emulated machine think about an answer.
THINKS = 1.5
ETH_P_ARP, BROADCAST = 0x0806, b"\xff" * 6
SIOCGIFHWADDR = 0x8927


class Log:
    def __init__(self):
        self.lock = threading.Lock()
        self.begin(time.monotonic())

    def begin(self, now):
        self.cut, self.failed, self.ended = [], [], 0
        self.connects, self.longest, self.last = 0, 0.0, now

    def connected(self, began):
        """Counted by when they began: one that waits for long is no proof that others could."""
        with self.lock:
            self.connects += 1
            self.longest, self.last = max(self.longest, began - self.last), max(began, self.last)

    def note(self, where, error):
        words = " ".join(str(error).split())
        with self.lock:
            getattr(self, where).append(words[:200])

    def report(self):
        now = time.monotonic()
        with self.lock:
            said = {"cut": len(self.cut), "failed": len(self.failed), "words": sorted(set(self.cut + self.failed))[:5],
                    "ended": self.ended, "connects": self.connects,
                    "longest": round(max(self.longest, now - self.last), 2)}
            self.begin(now)
        return said


class Holders:
    """Who answers for the address."""

    def __init__(self, address, names):
        self.names = names
        self.lock = threading.Lock()
        self.began = time.monotonic()
        self.reported, self.spans = self.began, []
        self.socket, self.request = self.open(address)

    @staticmethod
    def open(address):
        """A socket for ARP on the card by which the address is reached, and the question (RFC 826)."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            own = probe.getsockname()[0]
        card = next(name for _, name in socket.if_nameindex() if name != "lo")
        arp = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP))
        arp.bind((card, ETH_P_ARP))
        mac = fcntl.ioctl(arp, SIOCGIFHWADDR, struct.pack("256s", card.encode()))[18:24]
        header = BROADCAST + mac + struct.pack("!HHHBBH", ETH_P_ARP, 1, 0x0800, 6, 4, 1)
        return arp, header + mac + socket.inet_aton(own) + bytes(6) + socket.inet_aton(address)

    def ask(self):
        while True:
            self.socket.send(self.request)
            time.sleep(ASK)

    def hear(self):
        address = self.request[-4:]
        while True:
            frame = self.socket.recv(100)
            # Answers, and announcements, which are either.
            if frame[28:32] == address:
                self.answered(frame[22:28].hex(":"), time.monotonic())

    def answered(self, mac, now):
        who = self.names.get(mac, mac)
        with self.lock:
            for span in reversed(self.spans):
                if span[0] == who and now - span[2] < THINKS:
                    span[2] = now
                    return
            self.spans.append([who, now, now])

    def report(self):
        now = time.monotonic()
        with self.lock:
            seconds = [[who, round(a - self.began, 1), round(b - self.began, 1)] for who, a, b in self.spans]
            # The one that goes on is told again.
            self.spans = [span for span in self.spans if now - span[2] < THINKS]
            for span in self.spans:
                span[1] = now
        both = sum(max(0.0, min(one[2], other[2]) - max(one[1], other[1]))
                   for n, one in enumerate(seconds) for other in seconds[:n])
        ends, none = round(self.reported - self.began, 1), 0.0
        for _, begin, end in sorted(seconds, key=lambda span: span[1]):
            none, ends = max(none, begin - ends), max(end, ends)
        none, self.reported = max(none, now - self.began - ends), now
        return {"holders": seconds, "both": round(both, 1), "none": round(none, 1)}


def busy(address, log, life):
    """One session after the other, each for a while."""
    # Not all of them end at the same time.
    end = time.monotonic() + life * random.random()
    while True:
        try:
            session = psycopg.connect(host=address, dbname="postgres", autocommit=True, connect_timeout=PATIENCE,
                                      tcp_user_timeout=30000)
        except psycopg.Error as error:
            log.note("failed", error)
            time.sleep(PAUSE)
            continue
        try:
            while time.monotonic() < end:
                session.execute("select 1")
                time.sleep(PAUSE)
            session.close()
            with log.lock:
                log.ended += 1
        except psycopg.Error as error:
            log.note("cut", error)
        end = time.monotonic() + life


def connect(address, log):
    """As far as PostgreSQL's first word, which comes through the load balancer."""
    began = time.monotonic()
    try:
        with socket.create_connection((address, 5432), timeout=CONNECT) as connection:
            connection.sendall(SSL_REQUEST)
            if not connection.recv(1):
                raise OSError("ended before PostgreSQL's first word")
        log.connected(began)
    except OSError as error:
        log.note("failed", error)


def connects(address, log):
    """Each on its own: one that waits does not hold up the next."""
    while True:
        threading.Thread(target=connect, args=(address, log), daemon=True).start()
        time.sleep(BETWEEN)


def main():
    address, sessions, life = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    names = dict(word.split("=") for word in sys.argv[4:])
    log, holders = Log(), Holders(address, names)
    for work in (holders.hear, holders.ask):
        threading.Thread(target=work, daemon=True).start()
    for _ in range(sessions):
        threading.Thread(target=busy, args=(address, log, life), daemon=True).start()
        # An emulated guest is not to get them all at once.
        time.sleep(0.1)
    threading.Thread(target=connects, args=(address, log), daemon=True).start()
    for _ in sys.stdin:
        print(json.dumps(log.report() | holders.report()), flush=True)


main()
