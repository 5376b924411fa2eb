"""Clients of a load balancer before the fake nodes of cluster.py, which say their address to whoever connects."""
import socket
import struct
import threading
import time

# How clients of PostgreSQL begin.
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def connect(port=5432, timeout=2, source=None):
    """The node that answers, or None. And the connection."""
    s = socket.create_connection(("127.0.0.1", port), timeout=timeout, source_address=source and (source, 0))
    s.settimeout(timeout)
    try:
        s.sendall(SSL_REQUEST)
        return s.recv(100).decode().strip() or None, s
    except OSError:
        return None, s


def answering(timeout=2):
    try:
        who, s = connect(timeout=timeout)
        s.close()
        return who
    except OSError:
        return None


class Hammer:
    """Connects all the time and notes who answered, and when."""

    def __init__(self, pause=0.005, timeout=2):
        self.seen, self.stop, self.pause, self.timeout = [], False, pause, timeout
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stop:
            who = answering(self.timeout)
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


class Loops:
    """Many clients that connect, use the connection for a moment, and begin again."""

    def __init__(self, clients, patience=30, pause=0.02):
        self.patience, self.pause, self.stop = patience, pause, False
        self.answers, self.failed, self.longest = [], [], 0.0
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]

    def run(self):
        while not self.stop:
            began = time.monotonic()
            try:
                who, s = connect(timeout=self.patience)
                s.close()
                said = "closed after %.2f s" % (time.monotonic() - began)
            except OSError as problem:
                who, said = None, str(problem)
            self.answers.append((began, who))
            if who is None:
                self.failed.append(said)
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(self.pause)

    @property
    def count(self):
        return len(self.answers)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        for thread in self.threads:
            thread.join()


class Waiter:
    """One client that connects and waits as long as it takes; its answer is the node, or None."""

    def __init__(self, timeout=30):
        self.answer, self.took = None, None
        self.timeout, self.began = timeout, time.monotonic()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.answer = answering(self.timeout)
        self.took = time.monotonic() - self.began

    def is_waiting(self):
        return self.thread.is_alive()

    def result(self):
        self.thread.join()
        return self.answer


class silent:
    """Connections that say nothing, or the same and no more."""

    def __init__(self, port, count, said=b""):
        self.port, self.count, self.said = port, count, said

    def __enter__(self):
        self.connections = [Silent(self.port, self.said) for _ in range(self.count)]
        return self.connections

    def __exit__(self, *_):
        for connection in self.connections:
            connection.socket.close()


class Silent:
    def __init__(self, port, said):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        try:
            self.socket.connect(("127.0.0.1", port))
        except BlockingIOError:
            pass
        if said:
            self.socket.setblocking(True)
            self.socket.settimeout(2)
            self.socket.sendall(said)
            self.socket.setblocking(False)

    def ended(self):
        """Whether the other side has closed it."""
        try:
            return self.socket.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


class Session:
    """A connection that stays open; `cut` is when the other side ended it. With `busy`, something moves all the time."""

    def __init__(self, busy=False, source=None):
        try:
            self.node, self.socket = connect(source=source)
        except OSError:
            self.node, self.socket = None, socket.socket()
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
