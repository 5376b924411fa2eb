"""A client of a shared address: a new connection each 10 ms, with a word each way, and sessions with a byte each way every
50 ms. Commands on standard input: `sessions N` opens more of them, `report` tells what happened since the last one, in JSON."""
import errno
import heapq
import json
import selectors
import socket
import struct
import sys
import time

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
EVERY, BETWEEN, PATIENCE = 0.01, 0.05, 5.0


class Connection:
    def __init__(self, client, lasting):
        self.client, self.lasting = client, lasting
        self.began = time.monotonic()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.state, self.over = "connecting", False
        code = self.socket.connect_ex(client.address)
        if code not in (0, errno.EINPROGRESS):
            self.end(errno.errorcode.get(code, str(code)))
            return
        client.selector.register(self.socket, selectors.EVENT_WRITE, self)
        if not lasting:
            client.short.add(self)
            client.later(PATIENCE, self.give_up)

    def ready(self):
        try:
            if self.state == "connecting":
                code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, "")
                self.socket.send(SSL_REQUEST)
                self.state = "greeted"
                self.client.selector.modify(self.socket, selectors.EVENT_READ, self)
                return
            data = self.socket.recv(1000)
            if not data:
                raise OSError(0, "EOF")
        except BlockingIOError:
            return
        except OSError as problem:
            self.end(errno.errorcode.get(problem.errno, "EOF"))
            return
        if self.state == "greeted":
            self.state = "open"
            if not self.lasting:
                self.end(None)
            else:
                self.speak()

    def speak(self):
        if self.over:
            return
        try:
            self.socket.send(b"a")
        except BlockingIOError:
            pass
        except OSError as problem:
            self.end(errno.errorcode.get(problem.errno, "EOF"))
            return
        self.client.later(BETWEEN, self.speak)

    def give_up(self):
        if not self.over:
            self.end("timeout")

    def end(self, why):
        if self.over:
            return
        self.over = True
        try:
            self.client.selector.unregister(self.socket)
        except KeyError:
            pass
        self.socket.close()
        now = time.monotonic()
        if self.lasting:
            self.client.cut.append((now, why))
            self.client.lasting.discard(self)
        else:
            self.client.short.discard(self)
            self.client.done.append((self.began, now - self.began, why))


class Client:
    def __init__(self, host, port):
        self.address = (host, port)
        self.selector = selectors.DefaultSelector()
        self.timers, self.number = [], 0
        self.done, self.cut, self.lasting, self.short = [], [], set(), set()

    def later(self, seconds, what):
        self.number += 1
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.number, what))

    def again(self):
        Connection(self, False)
        self.due = max(self.due + EVERY, time.monotonic())
        self.number += 1
        heapq.heappush(self.timers, (self.due, self.number, self.again))

    def command(self, line):
        word, *rest = line.split()
        if word == "sessions":
            self.lasting.update(Connection(self, True) for _ in range(int(rest[0])))
            print("{}", flush=True)
        elif word == "close":
            for connection in list(self.lasting):
                connection.end("closed")
            self.cut.clear()
            print("{}", flush=True)
        else:
            # Who still waits belongs to what happened, and is told again when it has ended.
            now = time.monotonic()
            report = {"connections": self.done, "cut": self.cut, "waiting": [(c.began, now - c.began) for c in self.short],
                      "open": sum(c.state == "open" for c in self.lasting), "now": now}
            print(json.dumps(report), flush=True)
            self.done, self.cut = [], []

    def run(self):
        import os
        os.set_blocking(0, False)
        self.selector.register(0, selectors.EVENT_READ, None)
        text = b""
        self.due = time.monotonic()
        self.again()
        while True:
            left = self.timers[0][0] - time.monotonic() if self.timers else 1.0
            for key, _ in self.selector.select(max(0.0, left)):
                if key.data is None:
                    more = os.read(0, 65536)
                    if not more:
                        return
                    text += more
                    while b"\n" in text:
                        line, _, text = text.partition(b"\n")
                        self.command(line.decode())
                else:
                    key.data.ready()
            while self.timers and self.timers[0][0] <= time.monotonic():
                heapq.heappop(self.timers)[2]()


if __name__ == "__main__":
    Client(sys.argv[1], int(sys.argv[2])).run()
