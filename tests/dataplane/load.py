"""Clients of a load balancer before the fake nodes of cluster.py, which say their address to whoever connects."""
import selectors
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


def answering(timeout=2, port=5432, failures=None):
    """The node that answers, or None; then how the connect failed is added to `failures`."""
    failures = [] if failures is None else failures
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
            s.sendall(SSL_REQUEST)
            who = s.recv(100).decode().strip()
            if not who:
                failures.append("%s was closed without a word" % (s.getsockname(),))
            return who or None
    except OSError as error:
        failures.append(repr(error))
        return None


class Hammer:
    """Connects all the time and notes who answered, and when."""

    def __init__(self, pause=0.005, timeout=2, port=5432):
        self.seen, self.stop, self.pause, self.timeout, self.port = [], False, pause, timeout, port
        self.began, self.failures = time.monotonic(), []
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stop:
            began, failures = time.monotonic(), []
            who = answering(self.timeout, self.port, failures)
            self.seen.append((time.monotonic(), who))
            when = "from %.3f to %.3f s" % (began - self.began, time.monotonic() - self.began)
            self.failures += ["%s, %s" % (how, when) for how in failures]
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


class Stream:
    """Begins a connection every `pause` seconds, also while earlier ones wait, and notes when each began and ended and who
    answered: the node, or None."""

    def __init__(self, pause=0.01, patience=60, drain=2.0):
        self.pause, self.patience, self.drain = pause, patience, drain
        self.seen, self.stop = [], False
        self.waiting, self.selector = {}, selectors.DefaultSelector()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        due, until = time.monotonic(), None
        while until is None or (self.waiting and time.monotonic() < until):
            now = time.monotonic()
            if self.stop and until is None:
                until = now + self.drain
            if until is None and now >= due:
                self.begin()
                # What a busy machine could not begin in time is not made up for.
                due = max(due + self.pause, now)
            for key, _ in self.selector.select(0.02 if until else max(0.0, min(0.05, due - time.monotonic()))):
                self.step(key.fileobj)
            for s in [s for s, began in self.waiting.items() if began < now - self.patience]:
                self.end(s, None)
        for s in list(self.waiting):
            self.selector.unregister(s)
            s.close()

    def begin(self):
        s = socket.socket()
        s.setblocking(False)
        self.waiting[s] = time.monotonic()
        s.connect_ex(("127.0.0.1", 5432))
        self.selector.register(s, selectors.EVENT_WRITE)

    def step(self, s):
        try:
            if self.selector.get_key(s).events == selectors.EVENT_WRITE:
                s.sendall(SSL_REQUEST)
                self.selector.modify(s, selectors.EVENT_READ)
            else:
                self.end(s, s.recv(100).decode().strip() or None)
        except OSError:
            self.end(s, None)

    def end(self, s, who):
        self.seen.append((self.waiting.pop(s), time.monotonic(), who))
        self.selector.unregister(s)
        s.close()

    def since(self, moment):
        """(began, ended, who) of every connection begun after `moment`, in seconds after it, by their beginning."""
        return sorted((began - moment, ended - moment, who or "") for began, ended, who in self.seen if began >= moment)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()


class Loops:
    """Many clients that connect, use the connection for a moment, and begin again."""

    def __init__(self, clients, patience=30, pause=0.02, stay=0.0, port=5432):
        self.patience, self.pause, self.stay, self.port, self.stop = patience, pause, stay, port, False
        self.answers, self.failed, self.longest = [], [], 0.0
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]

    def run(self):
        while not self.stop:
            began = time.monotonic()
            try:
                who, s = connect(self.port, timeout=self.patience)
                time.sleep(self.stay)
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

    def __init__(self, timeout=30, port=5432):
        self.answer, self.took = None, None
        self.timeout, self.port, self.began = timeout, port, time.monotonic()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.answer = answering(self.timeout, self.port)
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
    """A connection that stays open; `cut` is when the other side ended it. With `busy`, something moves all the time, every
    `pause` seconds."""

    def __init__(self, busy=False, source=None, opened=None, port=5432, pause=0.02):
        """`opened`: the node and the connection, if there is one already."""
        try:
            self.node, self.socket = opened or connect(port, source=source)
        except OSError:
            self.node, self.socket = None, socket.socket()
        self.busy, self.pause, self.cut, self.closing = busy, pause, None, False
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
                time.sleep(self.pause)
        except OSError:
            pass
        if not self.closing:
            self.cut = time.monotonic()

    def wait_cut(self, seconds):
        self.thread.join(seconds)
        if self.cut is None:
            raise AssertionError("open after %s s" % seconds)

    def close(self):
        self.closing = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join()
        self.socket.close()
