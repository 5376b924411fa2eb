"""A guest agent that lies, in the place of the real one: what a guest does whose owner is not its operator any more.

Beside the protocol of QEMU's agent (qemu-ga-ref) it knows one command of its own, `lab-mode`, by which the test says how
it is to lie from then on. It ends by itself, and gives its place back to the real agent, after ten minutes or by the mode
`end`.
"""

import base64
import json
import os
import select
import subprocess
import time

PORT = "/dev/virtio-ports/org.qemu.guest_agent.0"
# Title, clipboard, colours, a screen that is wiped, C1, a line of its own, direction, no width, marks above marks.
NASTY = "\x1b]0;owned\x07\x1b]52;c;cm0gLXJm\x07\x1b[31m\x1b[2J\x9b5m\r\nready   yes\u202eevil\u200b\u2028e" + "\u0301" * 40
PID = 4711


def said(document):
    """A program's end, with that on its standard output."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return {"exited": True, "exitcode": 0, "out-data": base64.b64encode(text).decode()}


def status(text, count):
    """A status in which every text is that, with so many servers and errors. At most 512 KiB are read of one."""
    server = {
        "backend": text, "name": text, "address": text, "state": "UP" + text, "check": text,
        "check_code": -(2**63), "check_detail": text, "last_change_s": 2**64 - 1, "sessions": 0,
    }
    facts = {"serial": text, "not_after": text}
    return {
        "boot_id": text, "uptime_s": -1e308, "ready": False,
        "cloud_init": {"status": text, "stage": text, "errors": [text] * count},
        "haproxy": {
            "active": True, "version": text, "sessions": 2**64 - 1, "max_connections": 0, "error": text,
            "servers": [server] * count, "servers_up": 2**32 - 1, "primary": text,
        },
        "certificate": {"on_disk": facts, "in_use": facts},
    }


# How a program ends, in each mode that lies there. The guest's programs answer `status` and `converge`.
ENDS = {
    "nasty": lambda: said(status(NASTY, 50)),
    "many": lambda: said(status("x", 1500)),
    "refusing": lambda: said({"ok": False, "restored": False, "error": NASTY * 500}),
    "agreeing": lambda: said({"ok": True, "notes": [NASTY] * 500}),
    "much": lambda: {**said(b""), "out-data": "A" * (3 << 20)},
    "binary": lambda: said(bytes(range(256)) * 64),
    "deep": lambda: said(b"[" * 200_000),
    "no base64": lambda: {**said(b""), "out-data": NASTY},
    "running": lambda: {"exited": False},
    "types": lambda: {"exited": True, "exitcode": [], "out-data": 7},
    "failing": lambda: {"exited": True, "exitcode": 2**62, "err-data": base64.b64encode(NASTY.encode() * 900).decode()},
}
# What libvirt itself cannot read: it speaks to this agent no more until the port is closed and opened again.
BREAKING = {
    "noise": b'{"return": "\xff\xfe\x80' + NASTY.encode() + b'"}',
    "flood": b"A" * (16 << 20),
}


def answer(mode, command, arguments):
    """The answer as bytes, or None for none."""
    if command == "guest-sync":
        return json.dumps({"return": arguments["id"]}).encode()
    if mode == "silent":
        return None
    if mode == "error":
        return json.dumps({"error": {"class": NASTY, "desc": NASTY + " no such thing"}}).encode()
    if mode in BREAKING:
        return BREAKING[mode]
    if mode == "wide":
        return json.dumps({"return": [0] * (1 << 20)}).encode()
    if mode == "no pid" and command == "guest-exec":
        return json.dumps({"return": {"pid": NASTY}}).encode()
    return json.dumps({"return": result(mode, command)}).encode()


def result(mode, command):
    if command == "guest-info":
        names = ["guest-exec", "guest-exec-status"] + [NASTY] * 1000
        return {"version": NASTY, "supported_commands": [{"name": n, "enabled": True} for n in names]}
    if command == "guest-exec":
        return {"pid": PID}
    if command == "guest-exec-status":
        return ENDS.get(mode, ENDS["nasty"])()
    if command == "guest-file-open":
        return 1000
    if command == "guest-file-read":
        return {"count": 1, "eof": True, "buf-b64": base64.b64encode(NASTY.encode()).decode()}
    return {}


def lines(port, until):
    """The commands that arrive. A port whose other side is closed reads as at its end."""
    rest = b""
    while time.monotonic() < until:
        ready, _, _ = select.select([port], [], [], 5)
        try:
            data = os.read(port, 1 << 16) if ready else b""
        except BlockingIOError:
            data = b""
        if not data:
            time.sleep(0.1)
            continue
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.lstrip(b"\xff") for line in whole if line.strip(b"\xff "))


def send(port, text):
    """What the other side does not read within five seconds it will never read."""
    view = memoryview(text)
    while view and select.select([], [port], [], 5)[1]:
        view = view[os.write(port, view[: 1 << 15]):]


def serve(until):
    """Serves until the mode is one that breaks the channel and that answer was given, or `end`."""
    mode = "nasty"
    port = os.open(PORT, os.O_RDWR | os.O_NONBLOCK)
    try:
        for line in lines(port, until):
            command = json.loads(line)
            name, arguments = command["execute"], command.get("arguments", {})
            if name == "lab-mode":
                mode = arguments["mode"]
                reply = b'{"return": {}}'
            else:
                reply = answer(mode, name, arguments)
            send(port, b"" if reply is None else reply + b"\n")
            if mode == "end" or (reply is not None and reply is BREAKING.get(mode)):
                return mode
        return "end"
    finally:
        # What was written last is read before the port is gone.
        time.sleep(1)
        os.close(port)


subprocess.run(["systemctl", "stop", "qemu-guest-agent"], check=True)
try:
    end = time.monotonic() + 600
    while serve(end) != "end":
        pass
finally:
    subprocess.run(["systemctl", "start", "qemu-guest-agent"], check=True)
