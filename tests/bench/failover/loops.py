"""Clients that connect in a loop, through any number of load balancers, until standard input ends; then tells all.

Runs under a Python that has psycopg, in the client's namespace. Reads one line (JSON: balancers by name with their addresses,
how many clients each has, and how long a client rests after each connect), says `ready` when each balancer has served some,
and at the end prints {balancer: [[began, ended, "primary" | "replica" | the error], …]}. Times are the system's monotonic
clock. The login is in PGUSER and PGPASSWORD. A client waits for a minute.
"""
import json
import os
import sys
import threading
import time

import psycopg

PATIENCE = 60


class Client(threading.Thread):
    def __init__(self, address, pause):
        super().__init__(daemon=True)
        self.address, self.pause, self.log = address, pause, []
        self.began = None

    def run(self):
        while True:
            self.began = time.monotonic()
            said = self.connect()
            self.log.append([self.began, time.monotonic(), said])
            self.began = None
            time.sleep(self.pause)

    def connect(self):
        try:
            with psycopg.connect(host=self.address, dbname="postgres", autocommit=True, connect_timeout=PATIENCE) as session:
                recovery, = session.execute("select pg_is_in_recovery()").fetchone()
                return "replica" if recovery else "primary"
        except psycopg.Error as error:
            return " ".join(str(error).split()) or type(error).__name__


def main():
    job = json.loads(sys.stdin.readline())
    clients = {name: [Client(address, job["pause"]) for _ in range(job["clients"])]
               for name, address in job["balancers"].items()}
    for mine in clients.values():
        for number, client in enumerate(mine):
            # Not all in the same moment of their rhythm.
            threading.Timer(job["pause"] * number / len(mine), client.start).start()
    while not all(sum(len(client.log) for client in mine) >= len(mine) for mine in clients.values()):
        time.sleep(0.05)
    print("ready", flush=True)
    sys.stdin.read()
    # Those that wait still are waited for: what becomes of them counts.
    limit = time.monotonic() + PATIENCE
    for mine in clients.values():
        for client in mine:
            began = client.began
            while began is not None and client.began == began and time.monotonic() < limit:
                time.sleep(0.01)
    print(json.dumps({name: [entry for client in mine for entry in client.log] for name, mine in clients.items()}), flush=True)
    os._exit(0)


main()
