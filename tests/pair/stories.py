"""What two load balancers that share an address do, told in few trials: bounds, and no figures. SUITE. The figures are
tests/bench/pair's.

  unshare --net --mount --pid --fork --kill-child python3 stories.py bookworm
"""
import functools
import os
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import kills
from place import HERE, NODES, PREFIX, VIP, VERSIONS, Holders, Machine, Place, enter, sh


def check(true, *said):
    if not true:
        raise AssertionError(" ".join(map(str, said)))


def calm(place):
    """However slow the machine is. What is promised in seconds is measured."""
    place.until(lambda: place.holder() and place.is_calm(), 30, "one VM has the address and both are ready")


def steps_away(vm):
    answer = vm.run("yield")
    check(answer["ok"], "no step back:", answer)


def hands_over(place):
    """The other VM has the address then, and both are ready."""
    before = place.holder()
    steps_away(before)
    before.run("unyield")
    calm(place)


def steps_back(place):
    """No session is cut and no connect fails, there and back."""
    def once():
        before, answers = place.holder(), []
        trial = place.trial(lambda: answers.append(before.run("yield")))
        check(answers[0]["ok"], answers)
        check(place.holder() is not before, "the address has not moved")
        check(trial.failed == 0 and trial.cut == 0, trial)
        before.run("unyield")
        calm(place)

    for _ in range(3):
        once()


def two_at_once(place):
    """Never both."""
    answers = [None, None]

    def ask(number):
        answers[number] = place.vms[number].run("yield")

    threads = [threading.Thread(target=ask, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not all(answer["ok"] for answer in answers), answers)
    for vm in place.vms:
        vm.run("unyield")
    calm(place)


def haproxy_dies(place):
    before = place.holder()
    trial = place.trial(lambda: before.ask("kill haproxy.service 9"))
    check(place.holder() is not before, "the address has not moved")
    check(trial.gap < 0.5, trial)
    calm(place)


def haproxy_stops(place):
    before = place.holder()
    trial = place.trial(lambda: before.ask("kill haproxy.service 19"))
    check(place.holder() is not before, "the address has not moved")
    check(trial.gap <= 1.0, trial)
    before.ask("kill haproxy.service 18")
    calm(place)


def host_dies(place):
    """And returns: those who came meanwhile stay where they are, wherever the address goes. What it last heard of the other VM
    is of before: that one had sessions of a step back, or where they have ended and were counted, none."""
    one, two = place.vms
    # The higher address has the shared one again while it sees a primary, which is for about three seconds.
    for vm, pause, away in ((two, 0.0, 2.0), (two, 1.5, 2.0), (one, 0.0, 4.0)):
        if place.holder() is vm:
            hands_over(place)
        place.begin()
        hands_over(place)
        trial = place.trial(vm.cut_off, watch=away, before=functools.partial(time.sleep, pause))
        check(trial.gap <= 1.0, trial)
        back = place.trial(vm.reconnect)
        check(back.cut == 0, "return of", vm.ip, back)
        calm(place)


def frozen(place):
    """Sessions that the other VM took meanwhile may be cut on resume: the VM that goes on still has the address on its
    card, its clocks have stood still with it, and what comes to it in that moment it resets."""
    vm = place.holder()
    trial = place.trial(vm.freeze)
    check(trial.gap <= 1.0, trial)
    back = place.trial(vm.thaw)
    check(back.gap <= 0.3, back)
    calm(place)


def keepalived_dies(place):
    """The address stays on the card of that VM, until keepalived is there again: two may have it for a moment."""
    place.holder().ask("kill keepalived.service 9")
    time.sleep(1.0)
    for _ in range(20):
        place.until(lambda: place.holder() is not None, 1.0, "one VM has the address")
        time.sleep(0.1)
    calm(place)


def nobody_sees_a_primary(place):
    """For a while, and then there is another one."""
    before = place.holder()
    place.nodes.ask("primary")
    time.sleep(5)
    check(place.holder() is before, "the address has moved")
    place.nodes.ask("primary " + NODES[1])
    calm(place)
    time.sleep(1)
    check(place.holder() is before, "the address has moved with the primary")


def one_sees_no_primary(place):
    before = place.holder()
    block = ("nft add table ip block; nft add chain ip block out \"{ type filter hook output priority 0; }\"; "
             "nft add rule ip block out tcp dport 8008 reject with tcp reset")
    before.enter_root(block)
    place.until(lambda: place.holder() not in (None, before), 10, "the address has moved")
    answer = place.holder().run("yield")
    check(not answer["ok"] and "sees no primary" in answer["error"], answer)
    before.enter_root("nft delete table ip block")
    calm(place)
    check(place.holder() is not before, "the address went back")


def strangers(place):
    """VRRP of another machine, and in a peer's name from another MAC address."""
    holder, other = place.holder(), place.other()
    for source, ttl in ((PREFIX + "100", 255), (other.ip, 64), (other.ip, 255)):
        argv = [source, holder.ip, holder.mac, "20", VIP, str(ttl), "2"]
        sh("ip netns exec client /usr/bin/python3 %s/forge.py %s" % (HERE, " ".join(argv)))
        check(place.holder() is holder, "the address has moved for", source, ttl)


def drain_outlives_nobody(place):
    """The VM that has stepped back dies while sessions live in it."""
    before = place.holder()
    place.begin()
    steps_away(before)
    trial = place_trial_without_begin(place, before.cut_off)
    check(trial.cut == trial.sessions and max(trial.cut_after) <= 2.0, trial)
    before.reconnect()
    before.run("unyield")
    calm(place)


def drain_needs_no_service(place):
    """Sessions live on in a VM that has stepped back while its service is away, until its host is."""
    before = place.holder()
    place.begin()
    steps_away(before)
    before.ask("stop lbctl-vip.service")
    trial = place_trial_without_begin(place, lambda: None)
    check(trial.cut == 0 and trial.failed == 0, "without its service", trial)
    trial = place_trial_without_begin(place, before.cut_off)
    check(trial.cut == trial.sessions and max(trial.cut_after) <= 2.0, trial)
    before.reconnect()
    before.ask("start lbctl-vip.service")
    before.run("unyield")
    calm(place)


def place_trial_without_begin(place, event):
    begin, place.begin = place.begin, lambda: None
    try:
        return place.trial(event)
    finally:
        place.begin = begin


def alone(place):
    """Nobody to take it: nothing is tried."""
    holder, other = place.holder(), place.other()
    other.ask("stop haproxy.service")
    place.until(lambda: holder.state()["peers"][0]["weight"] == -254, 10, "it has heard of it")
    answer = holder.run("yield")
    check(not answer["ok"] and answer["reason"] == "no-spare", answer)
    check(place.holder() is holder, "the address has moved")
    other.ask("start haproxy.service")
    calm(place)


def address_comes_late(place):
    """A VM whose own address is there only after keepalived wanted to start takes part all the same."""
    vm = place.other()
    for unit in ("keepalived.service", "lbctl-vip.service"):
        vm.ask("stop " + unit)
    sh("ip -n %s address flush dev eth0" % vm.guest)
    for unit in ("lbctl-vip.service", "keepalived.service"):
        vm.ask("start " + unit)
    time.sleep(3)
    vm.give_address()
    calm(place)
    before = place.holder()
    check(before.run("yield")["ok"] and place.holder() is vm, "it takes no part")
    before.run("unyield")
    calm(place)


def another_machine_has_it(place):
    """Nobody takes an address that is in use, until it is free; and no VM loses one that the pair has used before."""
    for vm in place.vms:
        vm.ask("stop keepalived.service")
    mac = "52:54:00:aa:bb:0c"
    sh("""
    ip netns add stranger
    ip link add stranger type veth peer name eth0 netns stranger
    ip link set stranger master br0 up
    ip -n stranger link set eth0 address %s up
    ip -n stranger address add %s/24 dev eth0
    """ % (mac, VIP))
    for vm in place.vms:
        vm.ask("start keepalived.service")
    taken = [vm.under_run("lbctl/vip-taken") for vm in place.vms]
    place.until(lambda: all(path.exists() for path in taken), 20, "both have found the other machine")
    check([path.read_text().strip() for path in taken] == [mac] * 2, taken)
    time.sleep(1.5)
    check(not any(vm.holds() for vm in place.vms), "a VM has the address of another machine")
    sh("ip -n stranger link set eth0 down")
    place.until(place.holder, 5, "one VM has the address")
    calm(place)
    check(not any(path.exists() for path in taken), "what was found is still said")
    sh("ip -n stranger link set eth0 up")
    other = place.other()
    other.ask("stop keepalived.service")
    other.ask("start keepalived.service")
    time.sleep(1)
    check(place.holder().run("yield")["ok"] and place.holder() is other, "it takes no part")
    sh("ip netns delete stranger")
    place.other().run("unyield")
    calm(place)


def killed_at_a_step(place):
    """Half of the short form in each suite, for the programs are the same; under ./dev soak all."""
    half = list(VERSIONS).index(place.vms[0].suite)
    cases = kills.CASES + kills.POWER if os.environ.get("LBCTL_SOAK") else kills.FEW[half::len(VERSIONS)]
    holders = Holders(place.vms)
    for name, told in kills.all_cases(place, holders, cases):
        check(not told["wrong"], name, told)
    holders.end()


STORIES = [steps_back, two_at_once, haproxy_dies, haproxy_stops, host_dies, frozen, keepalived_dies, nobody_sees_a_primary,
           one_sees_no_primary, strangers, drain_outlives_nobody, drain_needs_no_service, alone, address_comes_late,
           another_machine_has_it, killed_at_a_step]


def tell(place, machine, story):
    """Whether it says something: where it fails, that may be the machine's."""
    began = time.monotonic()
    machine.begin()
    try:
        story(place)
    except BaseException as problem:
        for vm in place.vms:
            with open(vm.log, encoding="utf-8", errors="replace") as f:
                # HAProxy says a line for each connection.
                lines = [line for line in f if not line.startswith(("client=", "<134>"))]
            print("== VM %d\n%s" % (vm.number, "".join(lines)[-6000:]), flush=True)
        excuse = machine.excuse()
        if not isinstance(problem, AssertionError) or excuse is None:
            raise
        print("%-24s says nothing, %s: %s" % (story.__name__, excuse, problem), flush=True)
        return False
    print("%-24s %5.1f s" % (story.__name__, time.monotonic() - began), flush=True)
    return True


def main(suite, *names):
    enter()
    machine, place = Machine(), Place(suite)
    for story in STORIES:
        if names and story.__name__ not in names:
            continue
        for _ in range(3):
            if tell(place, machine, story):
                break
            place.down()
            sh("ip netns delete stranger 2>/dev/null || true")
            place = Place(suite)
        else:
            raise AssertionError("%s failed three times" % story.__name__)
    place.down()


if __name__ == "__main__":
    main(*sys.argv[1:])
