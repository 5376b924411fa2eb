"""Writes through every load balancer and looks at every node, all the time, until its standard input ends; then tells all.

Runs under a Python that has psycopg, in the client's namespace. Reads one line (JSON: balancers and nodes by name, with
their addresses), says `ready` when every balancer has taken a write, and at the end prints one JSON document:

  writes     {balancer: [[began, ended, node or error, number], …]}, `ended` null for one that never came back
  recovery   {node: [[when, "primary" | "replica" | "gone"], …]}, the changes seen by a direct connection

Times are the system's monotonic clock. The login is in PGUSER and PGPASSWORD.
"""
import json
import os
import sys
import threading
import time

import psycopg

PAUSE = 0.01
WRITE = "insert into bench_writes (balancer, number) values (%s, %s) returning host(inet_server_addr())"
READ_ONLY = "25006"


class Writer(threading.Thread):
    """An application with one session: writes, and on any error opens another session and goes on with the next write."""

    def __init__(self, name, address, first):
        super().__init__(daemon=True)
        self.name_, self.address, self.number = name, address, first
        self.log, self.session = [], None

    def run(self):
        while True:
            self.number += 1
            entry = [time.monotonic(), None, None, self.number]
            self.log.append(entry)
            try:
                said = self.write()
            except psycopg.Error as error:
                said = "read only" if error.sqlstate == READ_ONLY else "error"
                self.close()
            entry[1:3] = [time.monotonic(), said]
            time.sleep(PAUSE)

    def write(self):
        if self.session is None:
            self.session = psycopg.connect(host=self.address, dbname="postgres", autocommit=True, connect_timeout=5)
        return self.session.execute(WRITE, (self.name_, self.number)).fetchone()[0]

    def close(self):
        if self.session is not None:
            self.session.close()
        self.session = None


class Observer(threading.Thread):
    """One node, asked directly: the moment of a promotion is when it says that it is not in recovery."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.log = address, []

    def run(self):
        session = None
        while True:
            try:
                if session is None:
                    session = psycopg.connect(host=self.address, dbname="postgres", autocommit=True, connect_timeout=2)
                recovery, = session.execute("select pg_is_in_recovery()").fetchone()
                self.note("replica" if recovery else "primary")
            except psycopg.Error:
                if session is not None:
                    session.close()
                session = None
                self.note("gone")
            time.sleep(PAUSE)

    def note(self, state):
        if not self.log or self.log[-1][1] != state:
            self.log.append([time.monotonic(), state])


def main():
    job = json.loads(sys.stdin.readline())
    writers = {name: Writer(name, address, job["first"]) for name, address in job["balancers"].items()}
    observers = {name: Observer(address) for name, address in job["nodes"].items()}
    for thread in [*writers.values(), *observers.values()]:
        thread.start()
    while not all(any(entry[2] not in (None, "error", "read only") for entry in w.log) for w in writers.values()):
        time.sleep(0.05)
    print("ready", flush=True)
    sys.stdin.read()
    print(json.dumps({"writes": {name: w.log for name, w in writers.items()},
                      "recovery": {name: o.log for name, o in observers.items()}}), flush=True)
    # A thread may hang in a write that nobody answers.
    os._exit(0)


main()
