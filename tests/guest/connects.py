"""Connects to a load balancer all the time, as a client of PostgreSQL begins, until standard input ends. Then it says, as JSON,
how many connections there were, how many failed, the longest time in seconds in which they did, up to the next that was
answered, the longest from the end of one that was answered to the end of the next that was, and the first of the failed ones:
when each began, by the clock, how long it took, and how it ended.

  python3 connects.py ADDRESS PORT
"""
import json
import select
import socket
import struct
import sys
import time

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def answered(address, port):
    """True, or how it failed."""
    doing = "connect"
    try:
        with socket.create_connection((address, port), timeout=10) as s:
            doing = "answer"
            s.sendall(SSL_REQUEST)
            return s.recv(1) in (b"S", b"N") or "closed"
    except OSError as problem:
        return "%s: %s" % (doing, problem)


def main():
    address, port = sys.argv[1], int(sys.argv[2])
    count, failed, longest, last = 0, 0, 0.0, time.monotonic()
    refused, since, first = 0.0, None, []
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        began, clock = time.monotonic(), time.strftime("%H:%M:%S")
        how = answered(address, port)
        good, now = how is True, time.monotonic()
        count, failed = count + 1, failed + (not good)
        if good:
            longest, last = max(longest, now - last), now
            refused, since = max(refused, now - since if since else 0.0), None
        else:
            since = since or began
            first += [(clock, round(now - began, 3), how)] if len(first) < 20 else []
    times = {"failing": round(refused, 3), "longest": round(longest, 3)}
    print(json.dumps({"count": count, "failed": failed, "first": first, **times}))


main()
