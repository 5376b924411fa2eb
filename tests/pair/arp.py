"""Who says by ARP that it has ADDRESS, asked TIMES from this namespace's eth0 by a machine that knows nobody: the MAC
addresses, one a line."""
import socket
import struct
import sys
import time

ARP = struct.Struct("!HHBBH6s4s6s4s")


def main(address, times):
    found = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0806)) as card:
        card.bind(("eth0", 0x0806))
        own, wanted = card.getsockname()[4], socket.inet_aton(address)
        for _ in range(int(times)):
            card.sendto(ARP.pack(1, 0x0800, 6, 4, 1, own, bytes(4), bytes(6), wanted), ("eth0", 0x0806, 0, 0, b"\xff" * 6))
            deadline = time.monotonic() + 0.1
            while (left := deadline - time.monotonic()) > 0:
                card.settimeout(left)
                try:
                    fields = ARP.unpack(card.recv(1000)[:ARP.size])
                except (TimeoutError, struct.error):
                    continue
                if fields[4] == 2 and fields[6] == wanted and fields[5].hex(":") not in found:
                    found.append(fields[5].hex(":"))
    print("\n".join(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
