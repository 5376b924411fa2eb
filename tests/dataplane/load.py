"""Clients of a load balancer before the fake nodes of cluster.py, which say their address to whoever connects."""
import socket
import threading
import time


def connect(port=5432):
    """The node that answers, or None. And the connection."""
    s = socket.create_connection(("127.0.0.1", port), timeout=2)
    s.settimeout(2)
    try:
        return s.recv(100).decode().strip() or None, s
    except OSError:
        return None, s


def answering():
    try:
        who, s = connect()
        s.close()
        return who
    except OSError:
        return None


class Hammer:
    """Connects all the time and notes who answered, and when."""

    def __init__(self, pause=0.005):
        self.seen, self.stop, self.pause = [], False, pause
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stop:
            who = answering()
            self.seen.append((time.monotonic(), who))
            time.sleep(self.pause)

    def since(self, moment):
        """(seconds after `moment`, who) of every connection answered later than it."""
        return [(at - moment, who) for at, who in self.seen if at >= moment]

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()


class Session:
    """A connection that stays open; `cut` is when the other side ended it. With `busy`, something moves all the time."""

    def __init__(self, busy=False):
        self.node, self.socket = connect()
        self.busy, self.cut, self.closing = busy, None, False
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        try:
            self.socket.settimeout(None)
            while True:
                if self.busy:
                    self.socket.sendall(b"alive")
                if not self.socket.recv(100):
                    break
                time.sleep(0.02)
        except OSError:
            pass
        if not self.closing:
            self.cut = time.monotonic()

    def close(self):
        self.closing = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join()
        self.socket.close()
