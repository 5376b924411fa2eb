"""What others than the cluster do to a load balancer's clients: strangers, slow nodes, a full disk, restarts, herds. And what
clients that connect in a loop see while the primary moves or dies. A part of fake.py's bench."""
import re
import subprocess
import time

from guest import CONFIG, eventually, install
from load import Loops, Session, Stream, answering, silent

SESSIONS = 10
# Of the herd: clients, what a node takes, what lbctl is told that it takes.
HERD, ROOM, TOLD = 150, 50, 40


class Strangers:
    def what_others_do(self):
        found = {"silent": {str(count): self.silent(count) for count in (5, 60, 1000)} if self.job["patroni_port"] else {}}
        found["handshake"] = self.slowly(lambda on: self.cluster.slow.update({self.primary: 1.5 if on else 0}), 15)
        found["rest"] = self.slowly(lambda on: setattr(self.cluster, "rest_frozen", {self.primary} if on else set()), 2.5)
        found["node"] = self.slowly(lambda on: setattr(self.cluster, "frozen", {self.primary} if on else set()), 2.5)
        found["switchover"] = [self.switchover() for _ in range(self.job["loops"])]
        found["killed"] = [self.killed() for _ in range(self.job["kills"])]
        found["restart"] = self.restart()
        found["held_reload"] = self.held_reload()
        found["herd"] = self.herd()
        found["full_disk"] = self.full_disk()
        return found

    def watched(self, happens):
        """Sessions and new connections while something happens."""
        sessions = [Session(busy=True) for _ in range(SESSIONS)]
        with Stream(pause=0.05, drain=15) as stream:
            happens()
        found = {"cut": sum(s.cut is not None for s in sessions), "sessions": SESSIONS, "of": len(stream.seen),
                 "failed": sum(who != self.primary for _, _, who in stream.seen),
                 "longest": max(ended - began for began, ended, _ in stream.seen)}
        for session in sessions:
            session.close()
        self.ready()
        return found

    def silent(self, count):
        """Connections to Patroni's port that send no byte. The nodes' REST API has five workers."""
        def happens():
            with silent(4443, count):
                time.sleep(5)
        return self.watched(happens)

    def slowly(self, slow, seconds):
        def happens():
            time.sleep(self.random.random())
            slow(True)
            time.sleep(seconds)
            slow(False)
            time.sleep(1)
        return self.watched(happens)

    # ---- clients that connect in a loop

    def looped(self, happens, **loops):
        """`happens` returns when it happened, and when the new primary was there."""
        with Loops(20, patience=60, pause=0.05, **loops) as clients:
            time.sleep(1)
            at, moved = happens()
            time.sleep(2)
        failed = [began - at for began, who in clients.answers if who is None]
        return {"failed": len(failed), "of": clients.count, "longest": clients.longest,
                "failed_later": sum(began > 0.3 for began in failed),
                "wrong": sum(who not in (None, self.primary) and began > moved + 0.02 for began, who in clients.answers)}

    def switchover(self):
        """Planned, with Patroni's before_stop."""
        old, new = self.primary, self.next_primary()

        def happens():
            at = time.monotonic()
            return at, self.cluster.switch_over(old, new)
        found = self.looped(happens)
        self.ready()
        return found

    def killed(self):
        """Nobody listens any more, neither PostgreSQL nor Patroni; there is a successor when the lock has ended."""
        old, new = self.primary, self.next_primary()

        def happens():
            at = time.monotonic()
            self.cluster.stop(old)
            time.sleep(8)
            self.cluster.make_primary(new)
            return at, time.monotonic()
        found = self.looped(happens)
        self.cluster.restart(old)
        self.ready()
        return found

    def restart(self):
        """PostgreSQL of the primary is restarted, as by `patronictl restart`."""
        def happens():
            at = time.monotonic()
            self.cluster.states[self.primary] = "stopping"
            time.sleep(1)
            self.cluster.stop_postgres(self.primary)
            self.cluster.states[self.primary] = "starting"
            time.sleep(1.5)
            self.cluster.start_postgres(self.primary)
            del self.cluster.states[self.primary]
            return at, time.monotonic()
        found = self.looped(happens)
        self.ready()
        return found

    def held_reload(self):
        """A reload that does not wait for a primary: whoever waits in the old worker is closed and comes again, once."""
        primary = self.primary
        self.cluster.make_primary()
        time.sleep(2)
        with Stream(pause=0.05, drain=15) as stream:
            time.sleep(1)
            at = time.monotonic()
            self.haproxy.reload_at_once()
            reloaded = time.monotonic()
            time.sleep(1.5)
            self.cluster.make_primary(primary)
            over = time.monotonic()
            time.sleep(1)
        self.ready()
        before = [who for began, _, who in stream.seen if began < at]
        after = [who for began, _, who in stream.seen if reloaded + 0.2 < began < over]
        return {"before": len(before), "before_served": sum(who == primary for who in before),
                "after": len(after), "after_served": sum(who == primary for who in after)}

    def herd(self):
        """More clients than the primary takes stay connected, and the primary moves."""
        files = self.job["files"]
        if self.job["name"] == "lbctl":
            roomy = re.sub(r"(content accept if \{ nbsrv.*)", r"\1 { be_conn le %d }" % TOLD, files[CONFIG])
            install({CONFIG: re.sub(r"(lua\.hold \d+) 0 ", r"\1 %d " % TOLD, roomy)})
        self.haproxy.reload()
        self.cluster.room = ROOM
        time.sleep(1)
        old, new = self.primary, self.next_primary()
        with Loops(HERD, patience=60, pause=1.5, stay=0.5) as clients:
            time.sleep(3)
            at = time.monotonic()
            self.cluster.switch_over(old, new)
            time.sleep(6)
        self.cluster.room = None
        install({CONFIG: files[CONFIG]})
        self.haproxy.reload()
        self.ready()
        since = [who for began, who in clients.answers if began > at]
        return {"failed": since.count(None), "of": len(since), "longest": clients.longest}

    def full_disk(self):
        """HAProxy starts although nothing can be written where its state is kept on the disk."""
        self.haproxy.stop()
        subprocess.run("mount -t tmpfs -o size=4k,nr_inodes=2 tmpfs /var/lib/haproxy && "
                       "! dd if=/dev/zero of=/var/lib/haproxy/full bs=4k count=2 2>/dev/null", shell=True, check=False)
        try:
            self.haproxy.start()
            eventually(lambda: answering(10) == self.primary, 15)
            return {"starts": True}
        except AssertionError:
            return {"starts": False}
