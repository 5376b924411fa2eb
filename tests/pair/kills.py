"""A step back, its drain and the way back, with a program killed at one of their steps. The pair heals by itself; at no moment
has nobody the address, and two VMs not for longer than it takes to find out that one is gone and to start a program again.
"""
import json
import pathlib
import shutil
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
# detection, 0.6 s, and one more.
MOST = 1.6
# In which VM, at which step, before or after it, what is killed, and whose sessions may end with it: those in the VM that steps
# back (`cut`), or nobody's. The long form.
CASES = [
    ("old", "request", "before", "self", None),
    ("old", "request", "after", "self", None),
    ("old", "taken", "after", "self", None),
    ("old", "weight", "before", "self", None),
    ("old", "weight", "after", "self", None),
    ("old", "rules", "before", "self", None),
    ("old", "rules", "after", "self", None),
    ("old", "lost", "before", "self", None),
    ("old", "lost", "after", "self", None),
    ("new", "talk", "after", "self", None),
    ("new", "got", "before", "self", None),
    ("new", "got", "after", "self", None),
    ("old", "weight", "after", "keepalived", None),
    ("new", "got", "before", "keepalived", None),
    ("new", "got", "after", "haproxy", None),
    ("old", "taken", "after", "haproxy", "cut"),
    ("back", "release", "before", "self", None),
    ("back", "release", "after", "self", None),
    ("back", "weight", "before", "self", None),
    ("back", "weight", "after", "self", None),
    ("back", "weight", "after", "keepalived", None),
]
# The same with the VM's power cut, which takes a boot each.
POWER = [
    ("old", "weight", "after", "power", "cut"),
    ("old", "taken", "after", "power", "cut"),
    ("new", "got", "after", "power", None),
]

# The short form: a service with its peers, its rules and its weight half told, a HAProxy whose VM has the address and none of
# the sessions, a command, and power.
FEW = [
    ("old", "lost", "before", "self", None),
    ("new", "got", "before", "self", None),
    ("old", "weight", "after", "keepalived", None),
    ("new", "got", "after", "haproxy", None),
    ("back", "weight", "after", "self", None),
    ("old", "taken", "after", "power", "cut"),
]


def name_of(case):
    vm, step, when, whom, _ = case
    words = {"old": "the VM that steps back", "new": "the VM that takes it", "back": "the VM that comes back"}[vm]
    return "%s %s %s: %s" % (when, step, {"self": "its program", "power": "power"}.get(whom, whom), words)


def install(place):
    """The guests' programs can be killed at their steps from then on."""
    for vm in place.vms:
        shutil.copy(HERE / "kill.py", vm.root / "kill.py")
        vm.ask("stop lbctl-vip.service")
        vm.ask("start lbctl-vip.service")


def remove(place):
    for vm in place.vms:
        (vm.root / "kill.py").unlink()
        vm.ask("stop lbctl-vip.service")
        vm.ask("start lbctl-vip.service")


def arm(vm, step, when, whom):
    vm.under_run("killed").unlink(missing_ok=True)
    new = vm.under_run("kill.new")
    new.write_text("%s %s %s\n" % (step, when, whom), encoding="utf-8")
    new.rename(vm.under_run("kill"))


def run(vm, word):
    """lbctl-guest's answer, None where it was killed."""
    said = vm.ask("run " + word)["out"]
    return json.loads(said) if said else None


class Power:
    """Cuts it when a program has come to its step."""

    def __init__(self, vm):
        self.vm, self.when, self.cut = vm, None, False
        self.at = vm.under_run("killed")
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.at.exists():
            time.sleep(0.002)
        self.when = time.monotonic()
        self.vm.cut_power()
        self.cut = True


def once(place, holders, case):
    """What one kill costs; raises where the pair does not heal."""
    where, step, when, whom, spared = case
    old, new = place.holder(), place.other()
    vm = new if where == "new" else old
    place.begin()
    place.client.ask("report")
    began, power, answer = time.monotonic(), None, None
    if where != "back":
        arm(vm, step, when, whom)
        power = Power(vm) if whom == "power" else None
        try:
            answer = run(old, "yield")
        except (ValueError, OSError):
            # Nobody is there to answer.
            answer = None
    else:
        answer = run(old, "yield")
        arm(vm, step, when, whom)
        run(old, "unyield")
    if power:
        place.until(lambda: power.cut, 20, "%s has come to its step" % vm.ip)
        power.thread.join()
        gone = [vm.number]
        time.sleep(2.5)
        # Before, it was there.
        who = holders.between(power.when, time.monotonic(), gone)
        report = json.loads(place.client.ask("report"))
        vm.give_power()
    else:
        # The rounds of both, and a program's start.
        place.until(lambda: not vm.under_run("kill").exists(), 20, "%s comes to %s" % (vm.ip, step))
        if answer is None and where != "back":
            # The same command again goes on from there.
            answer = run(old, "yield")
        time.sleep(0.5)
        who = holders.between(began, time.monotonic())
        report = json.loads(place.client.ask("report"))
    run(old, "unyield")
    place.until(lambda: place.holder() and place.is_calm(), 20, "the pair has healed after: " + name_of(case))
    failed = sum(why is not None for _, _, why in report["connections"])
    return dict(who, failed=failed, of=len(report["connections"]), cut=len(report["cut"]), sessions=place.sessions,
                why=sorted({why for _, why in report["cut"]}), spared=spared is None, ok=bool(answer and answer["ok"]),
                healed=round(time.monotonic() - began, 3))


def wrong(case, told):
    """What is not as it must be, in words."""
    found = []
    # A VM without power has nothing, and whoever takes the address needs detection for it.
    if told["none"] > (MOST if case[3] == "power" else 0.3):
        found.append("nobody had the address for %.2f s" % told["none"])
    if told["two"] > MOST:
        found.append("two had it for %.2f s" % told["two"])
    if told["spared"] and told["cut"]:
        found.append("%d of %d sessions were cut: %s" % (told["cut"], told["sessions"], ", ".join(told["why"])))
    return found


def all_cases(place, holders, cases):
    install(place)
    for case in cases:
        try:
            told = once(place, holders, case)
        except AssertionError as problem:
            yield name_of(case), {"wrong": [str(problem)], "none": None, "two": None}
            raise
        yield name_of(case), dict(told, wrong=wrong(case, told))
    remove(place)
