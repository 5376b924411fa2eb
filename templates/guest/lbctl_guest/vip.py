"""The address that this VM shares with others: its card, what keepalived needs before it starts,
and what is known of it. keepalived decides by VRRP which VM has it; `vip_watch` tells it how fit
this one is, and `vip_yield` steps back. Python 3.10 or newer, standard library only."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import time

from . import arp, vip_conflict
from .paths import RUN, SETTINGS, at
from .tools import (
    Failure,
    digest,
    exists,
    make_folder,
    past_settings,
    read_bytes,
    read_json,
    remove,
    run,
    settings,
    write,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .wire import SharedAddress, VirtualIpStatus

# Read by keepalived (`track_file`), which adds it to its priority of 250: a fault below -253.
WEIGHT = f"{RUN}/vip-weight"
READY, NO_PRIMARY, STEPPED_BACK, FAULT = 0, -20, -50, -254
# The name of the card, for keepalived.conf.
CARD = f"{RUN}/card.conf"
# A request to step back: until when, on the clock that also counts while the VM sleeps.
REQUEST = f"{RUN}/vip-yield"
# What `status` and `yield` read.
STATE = f"{RUN}/vip.json"
# The MAC address of another machine that has the address; no file: none was found.
TAKEN = f"{RUN}/vip-taken"
# Digest of what nft has loaded.
LOADED = f"{RUN}/vip.nft.loaded"
NFT = "/etc/lbctl/vip.nft"
METRICS_FOLDER = "/var/lib/prometheus/node-exporter"

# Seconds. A step back ends by itself after that, whatever became of who asked for it.
STEP_BACK = 600.0
# For the card and its own address, at a boot.
CARD_PATIENCE = 60.0

# Linux's, which the module `socket` lacks (netdevice(7)).
SIOCGIFCONF = 0x8912


def shared() -> SharedAddress:
    conf = settings().get("virtual_ip")
    if conf is None:
        raise Failure("this VM shares no address: its configuration has no [virtual_ip]")
    return conf


def awake() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# ---- the card


def card_of(mac: str) -> str | None:
    """The card with that MAC address, by its name."""
    folder = "/sys/class/net"
    for name in sorted(os.listdir(at(folder))):
        # What is made on top of a card (a VLAN, a bridge) has its address, too.
        made = exists(f"{folder}/{name}/bridge") or exists(f"/proc/net/vlan/{name}")
        if not made and read_bytes(f"{folder}/{name}/address").decode().strip() == mac:
            return name
    return None


def addresses() -> set[tuple[str, str]]:
    """Card and address, of IPv4 (netdevice(7))."""
    buffer = array.array("B", bytes(40 * 256))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("iP", len(buffer), buffer.buffer_info()[0])
        (used,) = struct.unpack("i", fcntl.ioctl(s, SIOCGIFCONF, request)[:4])
    entries = [buffer[n : n + 40].tobytes() for n in range(0, used, 40)]
    return {
        (entry[:16].split(b"\0")[0].decode(), socket.inet_ntoa(entry[20:24])) for entry in entries
    }


def neighbours(card: str) -> dict[str, str]:
    """The MAC addresses that the kernel knows on a card, by address."""
    found = {}
    for line in read_bytes("/proc/net/arp").decode().split("\n")[1:]:
        fields = line.split()
        if len(fields) == 6 and fields[5] == card and fields[3] != "00:00:00:00:00:00":
            found[fields[0]] = fields[3]
    return found


# ---- before keepalived starts or reads its configuration again


def prepare() -> None:
    conf = shared()
    make_folder(RUN)
    card = wait_for_card(conf)
    write(CARD, f"$CARD={card}\n")
    # The VM does not say that it has what is on `lo` alone, and asks nobody in its name: by no
    # card, for another one may be on the same segment, or come later. Before the address is there:
    # who asks in between would be led to a VM that does not serve yet.
    for name in ("all", card):
        for setting, value in (("arp_ignore", "1"), ("arp_announce", "2")):
            with open(at(f"/proc/sys/net/ipv4/conf/{name}/{setting}"), "w") as f:
                f.write(value)
    load_rules(card)
    if "MAINPID" not in os.environ:
        # systemd gives it where keepalived runs and is to read its configuration again
        # (systemd.exec(5)).
        vip_conflict.wait_until_free(conf["address"], TAKEN, lambda: other_machine(conf, card))
    # It goes on answering for its sessions when keepalived has taken the address off the card.
    run("ip", "address", "replace", f"{conf['address']}/32", "dev", "lo")


def wait_for_card(conf: SharedAddress) -> str:
    """keepalived 2.2 gives up for ever where the VM's own address comes after it."""
    deadline = time.monotonic() + CARD_PATIENCE
    while True:
        card = card_of(conf["mac"])
        if card and (card, conf["own"]) in addresses():
            return card
        if time.monotonic() > deadline:
            where = f"on {card}" if card else f"on a card with the MAC address {conf['mac']}"
            raise Failure(f"the VM's own address {conf['own']} is not {where}")
        time.sleep(0.1)


def other_machine(conf: SharedAddress, card: str) -> str | None:
    """The MAC address of a machine that has the address and is none of the VMs."""
    if (card, conf["address"]) in addresses():
        # keepalived has died here, and is about to have it again.
        return None
    address, peers = conf["address"], [peer["address"] for peer in conf["peers"]]
    near = neighbours(card)
    known = {conf["mac"], *(near[peer] for peer in peers if peer in near)}
    known |= {peer["mac"] for peer in conf["peers"] if peer["mac"]}

    def of_vms(answers: dict[str, set[str]]) -> set[str]:
        return vip_conflict.of_vms(answers, peers, known)

    def a_vm_has_it(answers: dict[str, set[str]]) -> bool:
        return not answers.get(address, set()).isdisjoint(of_vms(answers))

    answers = arp.ask(card, conf["mac"], [address, *peers], a_vm_has_it)
    return vip_conflict.other_machine(address, answers, of_vms(answers))


def load_rules(card: str) -> None:
    """Where they are not loaded. They lose what is in their sets by it."""
    wanted = digest([NFT], [card.encode()])
    if read_bytes(LOADED).decode() == wanted and rules_are_there():
        return
    run("nft", "--define", f"card={card}", "--file", at(NFT))
    write(LOADED, wanted)


def rules_are_there() -> bool:
    return "table netdev lbctl_vrrp" in run("nft", "list", "tables", check=False)[1]


def clear() -> None:
    """When the VM shares no address any more."""
    before = read_json(STATE) or {}
    for table in ("netdev lbctl_vrrp", "ip lbctl_drain"):
        run("nft", "delete", "table", *table.split(" "), check=False)
    if before.get("address"):
        run("ip", "address", "delete", f"{before['address']}/32", "dev", "lo", check=False)
    for path in (WEIGHT, CARD, REQUEST, STATE, TAKEN, LOADED, f"{METRICS_FOLDER}/lbctl.prom"):
        remove(path)


# ---- what is known


def is_asked(now: float) -> bool:
    """Whether this VM is to step back."""
    found = read_json(REQUEST)
    until = found.get("until") if isinstance(found, dict) else None
    return isinstance(until, (int, float)) and now < until <= now + STEP_BACK


def on_file() -> int | None:
    try:
        return int(read_bytes(WEIGHT))
    except ValueError:
        return None


def state(now: float) -> dict[str, Any] | None:
    """As lbctl-vip.service saw it last; None: it does not run."""
    found = read_json(STATE)
    if not isinstance(found, dict) or not 0 <= now - found.get("at", -1e9) < 5.0:
        return None
    return found


def report() -> VirtualIpStatus | None:
    """None: the VM shares no address."""
    conf = past_settings(SETTINGS).get("virtual_ip")
    if conf is None:
        return None
    known = state(awake())
    found: VirtualIpStatus = {
        "address": conf["address"],
        "held": (card_of(conf["mac"]), conf["address"]) in addresses(),
        "weight": on_file(),
        "sessions": None,
        "stepped_back": is_asked(awake()),
        "taken_by": read_bytes(TAKEN).decode().strip() or None,
        "peers": [],
        "error": None,
    }
    if known is None:
        found["error"] = "lbctl-vip.service does not run"
    else:
        found["sessions"] = known["sessions"]
        found["peers"] = known["peers"]
    return found
