"""Measures one contender, in namespaces of its own, and prints what it found:

  unshare --net --mount --pid --fork --kill-child python3 tests/bench/pair/measure.py JOB

JOB is JSON: name, suite, trials, who it is (`autobase`: true or false) and which part of the events: `hosts` and `programs` of
lbctl's, `all` of autobase's, and `busy`. An event is measured by what a client saw of it (place.Trial), by who had the address
on its card, and by who answers for it by ARP afterwards. A trial of lbctl's that is not as promised is told at once.
"""
import contextlib
import json
import os
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "pair"))
import kills
import promises
from place import HERE, PREFIX, UNITS, VERSIONS, VIP, Holders, Machine, Place, enter, sh

SESSIONS = 50
# As automation/roles/keepalived of autobase has them: VRRP 2 by multicast, a script every two seconds, a weight of two.
# HAProxy's unit is lbctl's. The name of the card and of the script are of this place.
AUTOBASE = """
global_defs {
    router_id ocp_vrrp
    enable_script_security
    script_user root
}
vrrp_script haproxy_check {
    script "/bin/sh /run/check"
    interval 2
    weight 2
}
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 20
    priority 100
    advert_int 2
    state BACKUP
    virtual_ipaddress {
        %s
    }
    track_script {
        haproxy_check
    }
    authentication {
        auth_type PASS
        auth_pass ce88ac0b
    }
}
""" % VIP
CHECK = "kill -0 $(cat /run/haproxy/haproxy.pid)"
BLIND = ("nft add table ip block; nft add chain ip block out \"{ type filter hook output priority 0; }\"; "
         "nft add rule ip block out tcp dport 8008 reject with tcp reset")


class Measure:
    def __init__(self, job):
        self.job, self.trials = job, job["trials"]
        self.lbctl = not job["autobase"]
        self.found, self.holding = {}, None
        self.machine = Machine()
        self.place = self.opened()
        self.holders = Holders(self.place.vms)

    def opened(self):
        place = Place(self.job["suite"], without_lbctl=None if self.lbctl else AUTOBASE, sessions=SESSIONS)
        for vm in [] if self.lbctl else place.vms:
            self.give_check(vm)
        return place

    def give_check(self, vm):
        vm.enter_root('echo "%s" > /run/check' % CHECK.replace("$", "\\$"))

    def calm(self, what):
        self.place.until(lambda: self.place.holder() and self.place.is_calm(), 40, what)
        if not self.lbctl:
            # Their VMs agree within some advertisements, and a script's weight comes late.
            time.sleep(3)

    def wait(self, ours, theirs):
        """Seconds, for whose settings take longer."""
        return ours if self.lbctl else theirs

    def note(self, row, told):
        if self.lbctl:
            told["wrong"] = promises.wrong(row, told)
        if told.get("wrong"):
            excuse = self.machine.excuse()
            told["wrong"] += [excuse] if excuse else []
        self.machine.begin()
        for words in told.get("wrong", []):
            whose = "%s, %s (load %.1f)" % (self.job["name"], row, os.getloadavg()[0])
            print("WRONG: %s: %s" % (whose, words), file=sys.stderr, flush=True)
        self.found.setdefault(row, []).append(told)

    def trial(self, row, event, watch, without=(), more=None):
        """One repetition. `without`: the VMs that are off the segment from then on; `more`: what else there is to say of it, by
        what the event has answered."""
        # Not in step with the advertisements.
        time.sleep(len(self.found.get(row, [])) * 0.037 % 0.2)
        place, answers, began = self.place, [], []
        # Two where one that is off the segment has it on its card: then it is whoever had it after the last event.
        before = place.holder() or self.holding

        def happens():
            began.append(time.monotonic())
            answers.append(event())

        trial = place.trial(happens, watch)
        who = self.holders.between(began[0], time.monotonic(), [vm.number for vm in without])
        holder = next((vm for vm in place.vms if vm.holds() and vm not in without), None)
        macs = place.asked_by_arp()
        self.holding = holder
        self.note(row, dict(who, gap=None if trial.gap == float("inf") else round(trial.gap, 3), failed=trial.failed,
                            of=trial.connections, slowest=round(trial.slowest, 3), cut=trial.cut, sessions=trial.sessions,
                            cut_after=trial.cut_after[-1] if trial.cut_after else None,
                            moved=holder is not None and holder is not before, stray=holder is None or macs != [holder.mac],
                            load=round(os.getloadavg()[0], 1), **(more(answers[0]) if more else {})))
        return answers[0]

    # ---- the events, each with its way back

    def planned(self):
        vm = self.place.holder()
        if not self.trial("handover", lambda: vm.run("yield"), 2.0)["ok"]:
            raise AssertionError("no step back")
        self.trial("taken back", lambda: vm.run("unyield"), 1.2)
        self.calm("after a handover")

    def host(self):
        vm = self.place.holder()
        self.trial("host dead", vm.cut_power, self.wait(2.8, 8.5), [vm])

        def boots():
            vm.give_power()
            if not self.lbctl:
                self.give_check(vm)

        self.trial("host boots", boots, self.wait(3.0, 5.0))
        self.calm("after a boot")

    def cable(self):
        vm = self.place.holder()
        self.trial("cable out", vm.cut_off, self.wait(2.8, 8.5), [vm])
        self.trial("cable back", vm.reconnect, self.wait(2.0, 5.0))
        self.calm("after a cable")

    def frozen(self):
        vm = self.place.holder()
        self.trial("frozen", vm.freeze, self.wait(2.8, 8.5), [vm])
        self.trial("resumes", vm.thaw, self.wait(2.0, 5.0))
        self.calm("after a resume")

    def haproxy_killed(self):
        vm = self.place.holder()
        self.trial("haproxy killed", lambda: vm.ask("kill haproxy.service 9"), self.wait(2.0, 4.0))
        self.calm("after HAProxy's end")

    def haproxy_hung(self):
        vm = self.place.holder()
        self.trial("haproxy hangs", lambda: vm.ask("kill haproxy.service 19"), self.wait(2.2, 6.0))
        if self.lbctl:
            self.trial("haproxy goes on", lambda: vm.ask("kill haproxy.service 18"), 1.2)
        else:
            # It still has the address, and nobody is served until then.
            vm.ask("kill haproxy.service 18")
        self.calm("after HAProxy stood still")

    def stopped(self):
        vm = self.place.holder()
        self.trial("stopped", lambda: vm.ask("stop keepalived.service"), self.wait(1.5, 5.0))
        self.trial("started", lambda: vm.ask("start keepalived.service"), self.wait(1.5, 4.0))
        self.calm("after a stop")

    def keepalived_killed(self):
        vm = self.place.holder()
        self.trial("keepalived killed", lambda: vm.ask("kill keepalived.service 9"), self.wait(1.8, 6.0))
        if not self.lbctl:
            # Their unit has no Restart=.
            vm.ask("start keepalived.service")
        self.calm("after keepalived's end")

    def blind(self):
        vm = self.place.holder()
        self.trial("sees none", lambda: vm.enter_root(BLIND), 3.8)
        self.trial("sees one again", lambda: vm.enter_root("nft delete table ip block"), 1.5)
        self.calm("after it saw none")

    def drain_ends(self):
        vm, place = self.place.holder(), self.place
        place.begin()
        if not vm.run("yield")["ok"]:
            raise AssertionError("no step back")
        begin, place.begin = place.begin, lambda: None
        try:
            self.trial("drain ends", vm.cut_off, 2.3, [vm])
        finally:
            place.begin = begin
        vm.reconnect()
        vm.run("unyield")
        self.calm("after a drain")

    # ---- once in four rounds

    def two_at_once(self):
        answers = {}

        def both():
            ask = lambda vm: answers.update({vm.number: vm.run("yield")})
            threads = [threading.Thread(target=ask, args=(vm,)) for vm in self.place.vms]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        self.trial("two step back", both, 8.0, more=lambda _: {"both": all(answer["ok"] for answer in answers.values())})
        for vm in self.place.vms:
            vm.run("unyield")
        self.calm("after two stepped back")

    def alone(self):
        holder, other = self.place.holder(), self.place.other()
        other.ask("stop haproxy.service")
        self.place.until(lambda: holder.state()["peers"][0]["weight"] == -254, 20, "it has heard of it")
        self.trial("alone", lambda: holder.run("yield"), 4.5,
                   more=lambda answer: {"refused": not answer["ok"] and answer["reason"] == "no-spare"})
        other.ask("start haproxy.service")
        self.calm("after it was alone")

    def both_start(self):
        place = self.place
        units = [unit for unit in UNITS if self.lbctl or not unit.startswith("lbctl")]
        for vm in place.vms:
            for unit in reversed(units):
                vm.ask("stop " + unit)
        for vm in place.vms:
            vm.enter_root("rm -rf /run/lbctl/vip*")
        began = time.monotonic()
        for unit in units:
            for vm in place.vms:
                vm.ask("start " + unit)
        self.calm("after both have started")
        time.sleep(1)
        self.note("both start", self.holders.between(began, time.monotonic()))

    def strangers(self):
        place = self.place
        holder, other = place.holder(), place.other()

        def forged():
            for source, ttl in ((PREFIX + "100", 255), (other.ip, 64), (other.ip, 255)):
                argv = [source, holder.ip, holder.mac, "20", VIP, str(ttl), "0.7"]
                sh("ip netns exec client /usr/bin/python3 -B %s/forge.py %s" % (HERE, " ".join(argv)))

        self.trial("forged", forged, 3.0)
        self.calm("after a stranger")

    # ---- once

    def nobody(self):
        place = self.place

        def none():
            place.nodes.ask("primary")
            time.sleep(60)
            place.nodes.ask("primary " + PREFIX + "12")

        began = time.monotonic()
        none()
        self.calm("after nobody was the primary")
        self.note("nobody", self.holders.between(began, time.monotonic()))

    def busy(self):
        """While programs of the machine keep all its processors busy, which are the guests', too: whoever asks says when."""
        print("waiting", flush=True)
        sys.stdin.readline()
        self.calm("before the loops")
        began = time.monotonic()
        sys.stdin.readline()
        self.note("busy", dict(self.holders.between(began, time.monotonic()), load=round(os.getloadavg()[0], 1)))

    def late(self):
        """A boot at which the VM's own address comes 30 s late."""
        vm = self.place.other()
        vm.cut_power()
        vm.give_power(address=False)
        time.sleep(30)
        began = time.monotonic()
        vm.give_address()
        self.calm("after an address that came late")
        self.note("late", dict(self.holders.between(began, time.monotonic()), ready=round(time.monotonic() - began, 3)))

    def killed(self):
        """Half of the steps with each keepalived, for the programs that are killed are the same."""
        half = list(VERSIONS).index(self.job["suite"])
        for name, told in kills.all_cases(self.place, self.holders, (kills.CASES + kills.POWER)[half::len(VERSIONS)]):
            self.note("kills", dict(told, name=name))

    def rounds(self):
        every, fourth, once = self.events()
        for number in range(self.trials):
            for event in every + (fourth if number % 4 == 0 else []):
                self.attempt(event)
            who = "%(name)s, %(part)s" % self.job
            print("%s: %d of %d, load %.1f" % (who, number + 1, self.trials, os.getloadavg()[0]), file=sys.stderr, flush=True)
        for event in [] if self.job["quick"] else once:
            self.attempt(event)
        self.holders.end()
        self.place.down()

    def events(self):
        """Those of each round, of one in four, and once."""
        of_vms = [self.host, self.cable, self.frozen, self.haproxy_killed]
        of_programs = [self.haproxy_hung, self.stopped, self.keepalived_killed]
        if self.job["part"] == "busy":
            return [self.busy], [], []
        if not self.lbctl:
            return of_vms + of_programs, [self.both_start], []
        if self.job["part"] == "hosts":
            return [self.planned, *of_vms], [], [self.nobody]
        fourth = [self.both_start, self.two_at_once, self.alone, self.strangers]
        return [*of_programs, self.blind, self.drain_ends], fourth, [self.late, self.killed]

    def attempt(self, event):
        """One that fails is told, and does not take the others with it."""
        try:
            event()
        except Exception as problem:
            print("%s, %s: %s" % (self.job["name"], event.__name__, problem), file=sys.stderr, flush=True)
            self.note("lost", {"event": event.__name__, "problem": str(problem)[:300]})
            self.holders.end()
            with contextlib.suppress(Exception):
                self.place.down()
            self.place = self.opened()
            self.holders = Holders(self.place.vms)


def main(job):
    enter()
    measure = Measure(json.loads(pathlib.Path(job).read_text(encoding="utf-8")))
    measure.rounds()
    print(json.dumps(measure.found))


if __name__ == "__main__":
    main(*sys.argv[1:])
