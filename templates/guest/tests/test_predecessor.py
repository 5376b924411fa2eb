"""What the Terraform module left in the guest, and who else listens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from conftest import Commands, Files, HaproxySocket
from lbctl_guest import (
    additions,
    beside,
    converge,
    haproxy,
    listeners,
    predecessor,
    services,
    status,
    tracking,
)
from lbctl_guest.converge import Change
from lbctl_guest.paths import CLOUD_INIT_OFF, HAPROXY_CFG, HAPROXY_RUN, SETTINGS, at
from lbctl_guest.tools import Attempts, Failure
from samples import DOWN, UP, file, settings, settings_of, small_spec, stat

CFG = (
    "frontend a\n  bind *:5432 tcp-ut 20s\n  bind [::]:5432 v6only\n"
    "frontend b\n  bind 10.0.0.5:8405,/x\n"
)
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid inode\n"
EVERY = "00000000"


def line(address: str, inode: int, uid: int = 0, state: str = "0A") -> str:
    queues = f"00000000:00000000 00:00000000 00000000 {uid:5}        0"
    return f"   0: {address} 00000000:0000 {state} {queues} {inode} 1 0 100 0 0 10 0\n"


def process(files: Files, pid: int, name: str, inode: int) -> None:
    files.put(f"/proc/{pid}/comm", f"{name}\n")
    folder = files.path(f"/proc/{pid}/fd")
    folder.mkdir(exist_ok=True)
    (folder / "3").unlink(missing_ok=True)
    (folder / "3").symlink_to(f"socket:[{inode}]")


def told(uid: int = 0, spared: tuple[str, ...] = ()) -> list[str]:
    return [str(listener) for listener in listeners.foreign(CFG, uid, spared)]


def test_where_the_configuration_listens() -> None:
    any4, any6 = bytes(4), bytes(16)
    assert listeners.bound(CFG) == [(any4, 5432), (any6, 5432), (bytes([10, 0, 0, 5]), 8405)]
    others = "bind :1\nbind 0.0.0.0:2\nbind :::3\n# bind :4\nbind\nbind x:5\nbind :99999x\n"
    assert listeners.bound(others) == [(any4, 1), (any4, 2), (any6, 3)]


def test_a_program_on_one_of_the_ports_is_named(files: Files) -> None:
    # 5432 is 1538, 8405 is 20D5, in hexadecimal.
    tcp = HEAD + line(f"{EVERY}:1538", 11) + line("0100007F:0016", 12)
    files.put("/proc/net/tcp", tcp + line("0A00000A:1538", 14, state="01"))
    files.put("/proc/net/tcp6", HEAD + line("0" * 32 + ":1538", 13))
    process(files, 812, "old\x1b[2J", 11)
    process(files, 7, "sshd", 12)
    assert told() == [
        "port 5432 is taken by a program of the user 0",
        "port 5432 is taken by old?[2J (pid 812)",
    ]
    assert told(spared=("11", "13")) == []


@pytest.mark.parametrize(
    ("table", "address"),
    [
        ("tcp", "0500000A:20D5"),
        # Whoever has the address itself takes its clients from who listens on all.
        ("tcp", "0100007F:1538"),
        ("tcp6", "0000000000000000FFFF00000500000A:20D5"),
    ],
)
def test_a_socket_that_takes_clients(table: str, address: str, files: Files) -> None:
    files.put(f"/proc/net/{table}", HEAD + line(address, 11))
    assert len(told()) == 1


@pytest.mark.parametrize(
    ("table", "address"),
    [
        ("tcp", "0600000A:20D5"),
        # HAProxy has the address itself there, and the other one only all of them.
        ("tcp", f"{EVERY}:20D5"),
        ("tcp6", "0" * 32 + ":20D5"),
        ("tcp", f"{EVERY}:1539"),
    ],
)
def test_a_socket_that_takes_none(table: str, address: str, files: Files) -> None:
    files.put(f"/proc/net/{table}", HEAD + line(address, 11))
    process(files, 812, "other", 11)
    assert told() == []


def test_another_user_is_told_by_haproxy_where_the_program_is_not_known(files: Files) -> None:
    files.put("/proc/net/tcp", HEAD + line(f"{EVERY}:1538", 11, uid=99))
    assert told(0) == []
    assert told(99) == ["port 5432 is taken by a program of the user 99"]
    process(files, 812, "pgbouncer", 11)
    assert told(0) == ["port 5432 is taken by pgbouncer (pid 812)"]


@pytest.mark.parametrize(
    "table", ["", "nonsense\n", HEAD + "   0: x\n", HEAD + "\xff\n", HEAD + line("12:1538", 1)]
)
def test_nobody_listens(table: str, files: Files) -> None:
    assert told() == []
    files.put("/proc/net/tcp", table)
    assert told() == []


def test_haproxy_does_not_start_beside_it(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    conf = {**settings("haproxy"), "runtime": "package"}
    files.put("/etc/lbctl/guest.json", json.dumps(conf))
    files.put(HAPROXY_CFG, CFG)
    assert haproxy.check_ports() == 0
    files.put("/proc/net/tcp", HEAD + line(f"{EVERY}:1538", 11))
    process(files, 812, "haproxy", 11)
    assert haproxy.check_ports() == haproxy.TAKEN
    assert "port 5432 is taken by haproxy (pid 812)" in capsys.readouterr().err
    files.put(predecessor.SHARED, '["11"]')
    assert haproxy.check_ports() == 0


@pytest.mark.parametrize("broken", ["", "{}", "[]", '{"runtime": 7}', b"\xff"])
def test_where_it_cannot_be_told_haproxy_starts(broken: str | bytes, files: Files) -> None:
    assert haproxy.check_ports() == 0
    files.put("/etc/lbctl/guest.json", broken)
    files.put(predecessor.SHARED, broken)
    assert haproxy.check_ports() == 0


def module(files: Files) -> None:
    files.put(predecessor.HAPROXY_CFG, "global\n")
    files.put("/etc/systemd/system/node-exporter.service", "[Unit]\n")


def test_a_guest_that_was_never_the_modules_is_left_alone(files: Files, commands: Commands) -> None:
    files.put("/etc/systemd/system/node-exporter.service", "an operator's")
    files.put(predecessor.SECRETS[0], "an operator's")
    files.put(additions.CHRONY, "server a\n")
    attempts = Attempts()
    predecessor.at_boot(attempts, is_first=True)
    predecessor.finish()
    attempts.conclude()
    assert commands.ran == []
    assert files.has(predecessor.SECRETS[0])
    assert predecessor.missing_in_chrony() == []
    assert predecessor.without_docker(["docker.io"]) == ["docker.io"]


def test_at_boot_the_old_ones_go(files: Files, commands: Commands) -> None:
    module(files)
    attempts = Attempts()
    predecessor.at_boot(attempts, is_first=False)
    attempts.conclude()
    assert commands.ran == [
        "systemctl start docker.service",
        "docker container inspect postgres_load_balancer",
        "docker update --restart=no postgres_load_balancer",
        "docker rm --force postgres_load_balancer",
        "systemctl disable --now node-exporter.service",
    ]


def test_without_docker_there_is_no_container(files: Files, commands: Commands) -> None:
    module(files)
    commands.fail("docker")
    attempts = Attempts()
    predecessor.at_boot(attempts, is_first=False)
    attempts.conclude()
    assert not commands.of("docker rm")


def test_one_that_cannot_be_removed_does_not_keep_the_rest(
    files: Files, commands: Commands
) -> None:
    module(files)
    commands.fail("docker rm", "busy")
    attempts = Attempts()
    predecessor.at_boot(attempts, is_first=False)
    with pytest.raises(Failure, match=r"the old load balancer: .*busy"):
        attempts.conclude()
    assert commands.of("systemctl disable")


def test_it_steps_back_and_comes_back(files: Files, commands: Commands) -> None:
    module(files)
    old = predecessor.Old(True, {}, [])
    old.step_back()
    old.come_back()
    assert commands.ran == [
        "docker container inspect --format {{.State.Pid}} postgres_load_balancer",
        "docker update --restart=no postgres_load_balancer",
        "docker kill --signal USR1 postgres_load_balancer",
        "systemctl enable --now node-exporter.service",
        "docker update --restart=always postgres_load_balancer",
        # `start` does nothing while its last sessions go on.
        "docker restart postgres_load_balancer",
    ]
    commands.ran.clear()
    predecessor.Old(True, {}, []).come_back()
    assert commands.ran == ["systemctl enable --now node-exporter.service"]


def test_its_sockets_may_be_shared_for_a_while(files: Files, commands: Commands) -> None:
    commands.answer("docker top postgres_load_balancer", "PID\n812\n813\n")
    process(files, 812, "haproxy", 11)
    process(files, 900, "other", 12)
    process(files, 901, "haproxy", 13)
    assert predecessor.shared() == []
    predecessor.Old(True, {"a.service": [1]}, ["901"]).share_ports()
    assert predecessor.shared() == ["11", "13"]
    predecessor.no_longer_share()
    assert predecessor.shared() == []
    files.put(predecessor.SHARED, '{"x": 1}')
    assert predecessor.shared() == []


# ---- a HAProxy of systemd's


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch, admin_socket: HaproxySocket) -> list[str]:
    """What each worker reads that the master of HAProxy's container starts. The old one gives its
    ports up at once."""
    admin_socket.answers["show servers state"] = "1\n"
    started: list[str] = []
    monkeypatch.setattr(beside, "wait_for_ports", lambda: None)
    monkeypatch.setattr(haproxy, "start_worker", lambda: started.append(leads_to()))
    return started


@pytest.fixture(autouse=True)
def systemd(monkeypatch: pytest.MonkeyPatch, commands: Commands) -> None:
    """Runs what the unit has before HAProxy."""

    def run(argv: Any, **how: Any) -> Any:
        if " ".join(argv) == NEW:
            haproxy.check_ports()
        return commands.run(argv, **how)

    monkeypatch.setattr(subprocess, "run", run)


@pytest.fixture(autouse=True)
def signalled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Processes that were told to end with their last session."""
    found: list[int] = []

    def kill(process_id: int, number: int) -> None:
        assert number == signal.SIGUSR1
        found.append(process_id)
        if process_id == GONE:
            raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    return found


GONE = 4000
UNITS = [
    "0::/system.slice/haproxy.service",
    "12:pids:/x\n1:name=systemd:/system.slice/haproxy.service\n0::/",
]


def under(files: Files, pid: int, parent: int, name: str, group: str) -> None:
    """A process beside its sockets."""
    files.put(f"/proc/{pid}/comm", f"{name}\n")
    files.put(f"/proc/{pid}/stat", f"{pid} (a) b) S {parent} 1 1\n")
    files.put(f"/proc/{pid}/cgroup", f"{group}\n")


def serves(files: Files, group: str, first: int = 811, inode: int = 11) -> None:
    """A HAProxy with a master and a worker."""
    files.put("/proc/net/tcp", HEAD + line(f"{EVERY}:1538", inode))
    process(files, first + 1, "haproxy", inode)
    under(files, first, 1, "haproxy", group)
    under(files, first + 1, first, "haproxy", group)
    under(files, 1, 0, "systemd", "0::/init.scope")


@pytest.mark.parametrize("group", UNITS)
def test_a_haproxy_is_known_by_where_it_listens(
    group: str, files: Files, commands: Commands
) -> None:
    assert not predecessor.find(CFG)
    serves(files, group)
    old = predecessor.find(CFG)
    assert (old.units, old.listening) == ({"haproxy.service": [811]}, ["812"])
    # One that lbctl has started already is not who was there before.
    files.put(predecessor.IN_USE, "{}")
    commands.answer("systemctl show --property=MainPID --value haproxy.service", "811\n")
    assert not predecessor.find(CFG)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("pgbouncer", UNITS[0]),
        ("haproxy", "0::/user.slice/user-0.slice/session-3.scope"),
        ("haproxy", "0::/system.slice/docker-0123abcd.scope"),
    ],
)
def test_others_are_in_the_way(name: str, group: str, files: Files) -> None:
    serves(files, group)
    files.put("/proc/812/comm", f"{name}\n")
    assert not predecessor.find(CFG)
    assert told() == [f"port 5432 is taken by {name} (pid 812)"]


def test_at_the_first_boot_its_unit_is_switched_off(files: Files, commands: Commands) -> None:
    files.put(HAPROXY_CFG, CFG)
    serves(files, "0::/system.slice/pg-lb.service")
    for is_first in (False, True):
        attempts = Attempts()
        predecessor.at_boot(attempts, is_first)
        attempts.conclude()
        assert bool(commands.of("systemctl disable --now pg-lb.service")) == is_first


def handed_over(files: Files, commands: Commands, unit: str, runtime: str = "package") -> Change:
    change = adopted(files, commands, runtime)
    files.path(predecessor.HAPROXY_CFG).unlink()
    serves(files, f"0::/system.slice/{unit}")
    return change


def drop_ins(files: Files) -> list[str]:
    return [path for path in files.snapshot() if path.startswith("/run/systemd/")]


@pytest.mark.parametrize("unit", ["haproxy.service", "pg-lb.service"])
@pytest.mark.parametrize("runtime", ["package", "container"])
def test_the_processes_of_a_unit_serve_until_their_last_session(
    runtime: str,
    unit: str,
    files: Files,
    commands: Commands,
    admin_socket: HaproxySocket,
    signalled: list[int],
    workers: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin_socket.answers["show stat"] = stat(UP)
    change = handed_over(files, commands, unit, runtime)
    files.path(HAPROXY_RUN).mkdir(parents=True, exist_ok=True)
    seen: list[tuple[str, str, int]] = []
    run = subprocess.run

    def watched(argv: Any, **how: Any) -> Any:
        drop_in = predecessor.DROP_IN.format(unit)
        text = files.text(drop_in) if files.has(drop_in) else ""
        done = run(argv, **how)
        seen.append((" ".join(argv), text, len(signalled)))
        return done

    monkeypatch.setattr(subprocess, "run", watched)
    assert converge.converge(change, converge.Undo()) == []
    # systemd has forgotten them before it would end them.
    stop = next(entry for entry in seen if entry[0] == f"systemctl stop {unit}")
    assert stop[1:] == (predecessor.UNMANAGED, 0)
    start = next(entry for entry in seen if entry[0] == NEW)
    assert start[2] == 0
    if unit == "haproxy.service":
        assert start[1] == predecessor.MAIN_ONLY
        assert not commands.of("systemctl disable")
    else:
        assert commands.of(f"systemctl disable {unit}")
    assert set(signalled) == {811}
    assert workers == ([HAPROXY_CFG] if runtime == "container" else [])
    assert drop_ins(files) == []
    assert commands.ran[-1] == "systemctl daemon-reload"
    assert not files.has(predecessor.BEGUN)
    # It is lbctl's now.
    commands.ran.clear()
    converge.converge(handed_over(files, commands, unit, runtime), converge.Undo())
    assert not commands.of(f"systemctl stop {unit}")


@pytest.mark.parametrize("unit", ["haproxy.service", "pg-lb.service"])
@pytest.mark.parametrize("runtime", ["package", "container"])
def test_a_unit_serves_on_if_the_new_one_does_not(
    runtime: str,
    unit: str,
    files: Files,
    commands: Commands,
    admin_socket: HaproxySocket,
    signalled: list[int],
) -> None:
    admin_socket.answers["show stat"] = stat(DOWN)
    change = handed_over(files, commands, unit, runtime)
    before = files.snapshot()
    undo = converge.Undo()
    with pytest.raises(Failure) as said:
        converge.converge(change, undo)
    assert undo.restored
    after = {k: v for k, v in files.snapshot().items() if not k.startswith("/var/lib/lbctl/")}
    assert {k: v for k, v in after.items() if not k.startswith("/run/lbctl/")} == before
    # It has never stopped, and a second one would begin with nodes that it has not checked.
    assert signalled == []
    assert not commands.of(f"systemctl start {unit}")
    assert "systemd does not watch it until the next boot" in str(said.value)


@pytest.mark.parametrize("unit", ["haproxy.service", "pg-lb.service"])
def test_a_unit_serves_again_if_the_new_one_gets_no_port(
    unit: str,
    files: Files,
    commands: Commands,
    admin_socket: HaproxySocket,
    signalled: list[int],
    workers: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin_socket.answers["show stat"] = stat(UP)
    files.path(HAPROXY_RUN).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(haproxy, "start_worker", no_port)
    undo = converge.Undo()
    with pytest.raises(Failure, match="no port"):
        converge.converge(handed_over(files, commands, unit, "container"), undo)
    assert undo.restored
    # The new one has ended, and a second one of the old unit opens the ports.
    start = commands.ran.index(f"systemctl start {unit}")
    assert commands.ran.index("systemctl stop haproxy.service") < start
    assert signalled == [811]
    assert not beside.waits()


def no_port() -> None:
    raise Failure("no port")


def test_a_unit_that_is_not_released_is_not_stopped(
    files: Files, commands: Commands, signalled: list[int]
) -> None:
    change = handed_over(files, commands, "haproxy.service")
    commands.fail("systemctl daemon-reload", "no bus")
    undo = converge.Undo()
    with pytest.raises(Failure, match="no bus"):
        converge.converge(change, undo)
    assert not commands.of("systemctl stop")
    assert signalled == []


def test_a_takeover_that_was_interrupted_is_done_to_its_end(
    files: Files, commands: Commands, admin_socket: HaproxySocket, signalled: list[int]
) -> None:
    """The guest was reset when the files were there and nothing had followed them."""
    admin_socket.answers["show stat"] = stat(UP)
    change = handed_over(files, commands, "pg-lb.service")
    for new in change.changed:
        files.put(new.path, new.content, new.mode)
    files.put(predecessor.BEGUN)
    again = handed_over(files, commands, "pg-lb.service")
    assert again.changed == []
    converge.converge(again, converge.Undo())
    assert NEW in commands.ran
    assert signalled == [811]
    assert not files.has(predecessor.BEGUN)


@pytest.mark.parametrize("runtime", ["package", "container"])
def test_a_takeover_that_failed_is_begun_anew(
    runtime: str,
    files: Files,
    commands: Commands,
    admin_socket: HaproxySocket,
    signalled: list[int],
) -> None:
    """What lbctl's unit had read stands for nothing: the old HAProxy is found again."""
    admin_socket.answers["show stat"] = stat(DOWN)
    files.put(predecessor.IN_USE, "{}")
    change = handed_over(files, commands, "pg-lb.service", runtime)
    with pytest.raises(Failure):
        converge.converge(change, converge.Undo())
    assert not files.has(predecessor.IN_USE)
    assert predecessor.find(CFG)


def test_a_takeover_that_was_interrupted_and_then_failed_is_begun_anew(
    files: Files, commands: Commands, admin_socket: HaproxySocket, signalled: list[int]
) -> None:
    """The files of the first run are lbctl's, and the load balancer is not."""
    admin_socket.answers["show stat"] = stat(DOWN)
    change = handed_over(files, commands, "pg-lb.service")
    for new in change.changed:
        files.put(new.path, new.content, new.mode)
    files.put(predecessor.BEGUN)
    with pytest.raises(Failure):
        converge.converge(handed_over(files, commands, "pg-lb.service"), converge.Undo())
    assert files.has(predecessor.BEGUN)


def test_a_process_that_has_ended_meanwhile_is_no_failure(
    files: Files, signalled: list[int]
) -> None:
    for pid, name in ((GONE, "haproxy"), (811, "haproxy"), (812, "sh")):
        under(files, pid, 1, name, UNITS[0])
    predecessor.end_gently(False, [GONE, 811, 812, 5000])
    assert signalled == [GONE, 811]


@pytest.mark.parametrize(("name", "is_told"), [("haproxy", True), ("docker-entrypoi", False)])
def test_the_process_in_the_container_is_told_without_dockers_command(
    name: str, is_told: bool, files: Files, commands: Commands, signalled: list[int]
) -> None:
    under(files, 811, 7, name, "docker-abc.scope")
    commands.answer("docker container inspect --format {{.State.Pid}}", "811\n")
    predecessor.end_gently(True, [])
    assert "docker update --restart=no postgres_load_balancer" in commands.ran
    assert (signalled, OLD in commands.ran) == (([811], False) if is_told else ([], True))


@pytest.mark.parametrize("path", [CLOUD_INIT_OFF, "/run/cloud-init/disabled"])
def test_a_guest_that_reads_no_seed_is_named(path: str, files: Files) -> None:
    assert converge.of_next_boot() == []
    files.put(path)
    assert "no boot reads the seed" in converge.of_next_boot()[0]


def test_status_names_who_has_the_port(files: Files, commands: Commands) -> None:
    conf = {**settings("haproxy"), "runtime": "package"}
    files.put(SETTINGS, json.dumps(conf))
    files.put(HAPROXY_CFG, CFG)
    serves(files, UNITS[0])
    # lbctl's own, which hangs.
    assert "port 5432" not in str(status.haproxy_status()["error"])
    commands.fail("systemctl is-active")
    assert status.haproxy_status()["error"] == "port 5432 is taken by haproxy (pid 812)"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converge, "PRIMARY_WITHIN", 0.2)


def adopted(files: Files, commands: Commands, runtime: str = "package") -> Change:
    module(files)
    commands.fail("systemctl is-active --quiet haproxy.service")
    wanted = small_spec(file(HAPROXY_CFG, CFG, "haproxy"))
    entry = next(entry for entry in wanted["files"] if entry["path"] == SETTINGS)
    entry["content"] = json.dumps({**settings_of(wanted), "runtime": runtime, "image": "haproxy:3"})
    return Change(wanted, [])


OLD = "docker kill --signal USR1 postgres_load_balancer"
NEW = "systemctl restart haproxy.service"


@pytest.mark.parametrize("runtime", ["package", "container"])
def test_a_running_guest_is_handed_over(
    runtime: str,
    files: Files,
    commands: Commands,
    admin_socket: HaproxySocket,
    workers: list[str],
) -> None:
    files.put(predecessor.SECRETS[0], "secret")
    admin_socket.answers["show stat"] = stat(UP)
    change = adopted(files, commands, runtime)
    files.path(HAPROXY_RUN).mkdir(parents=True, exist_ok=True)
    assert converge.converge(change, converge.Undo()) == []
    # The new one is known to work before the old one is told to end.
    assert [line for line in commands.ran if line in (OLD, NEW)] == [NEW, OLD]
    assert workers == ([HAPROXY_CFG] if runtime == "container" else [])
    assert not files.has(beside.WAITS)
    assert not commands.of("docker restart")
    assert not files.has(predecessor.SECRETS[0])
    assert not files.has(predecessor.SHARED)
    # It is lbctl's now, and the next change is one like any other.
    commands.ran.clear()
    converge.converge(adopted(files, commands, runtime), converge.Undo())
    assert not commands.of("docker kill")


def leads_to() -> str:
    """As HAProxy's container sees it."""
    return os.path.normpath(os.path.join(HAPROXY_RUN, os.readlink(at(beside.READ))))


def test_a_container_waits_for_the_ports_of_the_old_one(
    files: Files, commands: Commands, admin_socket: HaproxySocket, workers: list[str]
) -> None:
    admin_socket.answers["show stat"] = stat(UP)
    files.put(HAPROXY_CFG, CFG)
    assert beside.config() == HAPROXY_CFG
    beside.prepare()
    assert not files.has(beside.WITHOUT_PORTS)
    beside.begin()
    files.path(HAPROXY_RUN).mkdir(parents=True, exist_ok=True)
    beside.prepare()
    assert beside.config() == beside.READ
    kept = files.text(beside.WITHOUT_PORTS)
    assert "bind" in CFG
    assert "bind" not in kept
    assert set(kept.split("\n")) < set(CFG.split("\n"))
    assert leads_to() == beside.WITHOUT_PORTS
    told: list[str] = []
    haproxy.take_ports(lambda: told.append(leads_to()))
    # What the next worker reads is there before the old one gives its ports up.
    assert told == [HAPROXY_CFG]
    assert not beside.waits()
    assert beside.config() == HAPROXY_CFG


def test_an_old_one_that_keeps_its_ports_is_named(
    files: Files, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put(HAPROXY_CFG, CFG)
    files.put("/proc/net/tcp", HEAD + line(f"{EVERY}:1538", 4711))
    monkeypatch.setattr(beside, "PATIENCE", 0.05)
    # Of somebody else: who it is was told before.
    beside.wait_for_ports()
    files.put(predecessor.SHARED, json.dumps(["4711"]))
    with pytest.raises(Failure, match=r"has its ports still after 0 s"):
        beside.wait_for_ports()


def test_what_the_new_one_needs_is_there_before_the_old_one_ends(
    files: Files, commands: Commands
) -> None:
    commands.fail("docker --config /etc/lbctl/docker image inspect")
    commands.fail("docker --config /etc/lbctl/docker pull", "no such image")
    undo = converge.Undo()
    change = adopted(files, commands, "container")
    change.conf["pull_image"] = True
    files.put("/proc/meminfo", "MemTotal:         786432 kB\n")
    files.put(tracking.MOST, "6144\n")
    with pytest.raises(Failure, match="no such image"):
        converge.converge(change, undo)
    # The old one's clients may have filled the table long before.
    assert files.text(tracking.MOST) == "98304"
    assert undo.restored
    assert not undo.touched
    assert OLD not in commands.ran


def test_a_table_that_gets_no_room_does_not_keep_the_new_one_from_it(
    files: Files, commands: Commands, admin_socket: HaproxySocket
) -> None:
    admin_socket.answers["show stat"] = stat(UP)
    change = adopted(files, commands)
    files.put("/proc/meminfo", "MemTotal:         786432 kB\n")
    files.put(tracking.MOST, "no number\n")
    [note] = converge.converge(change, converge.Undo())
    assert note.startswith("room for tracked connections: ")
    assert OLD in commands.ran


@pytest.mark.parametrize("runtime", ["package", "container"])
@pytest.mark.parametrize("starts", [True, False])
def test_the_old_one_serves_on_if_the_new_one_does_not(
    starts: bool, runtime: str, files: Files, commands: Commands, admin_socket: HaproxySocket
) -> None:
    files.put(predecessor.SECRETS[0], "secret")
    admin_socket.answers["show stat"] = stat(DOWN)
    change = adopted(files, commands, runtime)
    before = files.snapshot()
    if not starts:
        commands.fail(NEW)
    undo = converge.Undo()
    with pytest.raises(Failure):
        converge.converge(change, undo)
    assert undo.restored
    # The record of what is added comes first, and says more than is there, never less.
    after = {k: v for k, v in files.snapshot().items() if not k.startswith("/var/lib/lbctl/")}
    after = {k: v for k, v in after.items() if not k.startswith("/run/lbctl/")}
    assert after == before
    # The new one is known to work before the old one is told to end.
    assert OLD not in commands.ran
    assert not commands.of("docker restart")
    assert "systemctl enable --now node-exporter.service" in commands.ran


def test_that_it_does_not_serve_again_is_said(
    files: Files,
    commands: Commands,
    admin_socket: HaproxySocket,
    workers: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin_socket.answers["show stat"] = stat(UP)
    files.path(HAPROXY_RUN).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(haproxy, "start_worker", no_port)
    commands.fail("docker restart", "gone")
    undo = converge.Undo()
    with pytest.raises(Failure, match=r"(?s)no port.*old load balancer again failed.*gone"):
        converge.converge(adopted(files, commands, "container"), undo)
    assert not undo.restored


# ---- what a takeover that fails has begun beside HAProxy

EXPORTER = "prometheus-node-exporter.service"
LIVENESS = "lbctl-liveness.service"


class Systemd:
    """Which units run, and which are started with the guest: by the commands that say so."""

    def __init__(self, files: Files, active: set[str]) -> None:
        self.files = files
        self.active = active
        self.fails: set[str] = set()

    def link(self, unit: str) -> str:
        return f"/etc/systemd/system/multi-user.target.wants/{unit}"

    def enabled(self) -> set[str]:
        folder = self.files.path(self.link(""))
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    def told(self, verb: str, units: list[str]) -> int:
        if verb == "is-active":
            return 0 if units[-1] in self.active else 3
        if verb == "add-wants":
            self.files.put(self.link(units[-1]))
        elif self.fails & set(units):
            return 1
        elif verb in ("start", "restart", "reload-or-restart"):
            self.active |= set(units)
        elif verb == "stop":
            self.active -= set(units)
        return 0


@pytest.fixture
def booted(files: Files, monkeypatch: pytest.MonkeyPatch, commands: Commands) -> Systemd:
    """chrony and a fluentd run, as the module has them, and no exporter of the distribution's."""
    state = Systemd(files, {"chrony.service", "fluentd.service"})
    for unit in ("chrony.service", "fluentd.service"):
        files.put(state.link(unit))
    run = subprocess.run

    def systemd(argv: Any, **how: Any) -> Any:
        done = run(argv, **how)
        if argv[0] != "systemctl" or done.returncode != 0:
            return done
        words = [word for word in argv[1:] if not word.startswith("-")]
        code = state.told(words[0], words[1:])
        return subprocess.CompletedProcess(argv, code, done.stdout)

    monkeypatch.setattr(subprocess, "run", systemd)
    return state


def with_all(files: Files, commands: Commands) -> Change:
    """A guest of the module's that is to get an exporter, chrony, fluentd and a shared address."""
    module(files)
    files.put(additions.CHRONY, "server ntp1\n")
    files.put("/etc/systemd/system/fluentd.service", "the module's")
    commands.answer("apt-cache show", code=1)
    entries = [
        file(HAPROXY_CFG, CFG, "haproxy"),
        file(f"/etc/systemd/system/{LIVENESS}", "[Unit]\n"),
        file("/etc/systemd/system/fluentd.service", "lbctl's", "fluentd"),
        file("/etc/chrony/sources.d/lbctl.sources", "server ntp2\n", "chrony"),
    ]
    names = ("haproxy", "virtual-ip", "node-exporter", "chrony", "fluentd")
    files.put("/usr/bin/fluentd", mode=0o755)
    return Change(small_spec(*entries, services=names), [])


def test_what_a_failed_takeover_began_ends_with_it(
    files: Files,
    commands: Commands,
    admin_socket: HaproxySocket,
    booted: Systemd,
    users: set[str],
) -> None:
    users.add("fluentd")
    admin_socket.answers["show stat"] = stat(DOWN)
    change = with_all(files, commands)
    # Its group is the test's own.
    change.conf["files"] = [entry for entry in change.conf["files"] if entry["owner"] == "root"]
    before, active, enabled = files.snapshot(), set(booted.active), booted.enabled()
    undo = converge.Undo()
    with pytest.raises(Failure) as said:
        converge.converge(change, undo)
    assert undo.restored, said.value
    assert {EXPORTER, LIVENESS, "keepalived.service"} & booted.active == set()
    assert (booted.active, booted.enabled()) == (active, enabled)
    after = {k: v for k, v in files.snapshot().items() if not k.startswith("/run/lbctl/")}
    assert after == before
    # The old exporter has its port back before it starts.
    ends = commands.ran.index(f"systemctl stop {EXPORTER}")
    assert ends < commands.ran.index(f"systemctl enable --now {predecessor.EXPORTER}")
    # Those that ran have their old files again by now, and a second try begins anew.
    assert commands.ran[-2:] == [
        "systemctl restart chrony.service",
        "systemctl restart fluentd.service",
    ]
    assert not any(files.has(f"/run/lbctl/{name}") for name in ("chrony", "fluentd"))


def test_one_that_does_not_start_again_is_named(
    files: Files, commands: Commands, admin_socket: HaproxySocket, booted: Systemd
) -> None:
    admin_socket.answers["show stat"] = stat(DOWN)
    change = with_all(files, commands)
    change.conf["services"] = ["haproxy", "chrony"]
    booted.fails = {"chrony.service"}
    undo = converge.Undo()
    with pytest.raises(Failure, match=r"; not started again: chrony\.service"):
        converge.converge(change, undo)
    assert undo.restored


def test_what_a_package_started_ends_where_no_node_answers(
    files: Files, commands: Commands, booted: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything of lbctl's is there."""

    def install(packages: list[str]) -> None:
        for unit in (EXPORTER, "haproxy.service", "chrony.service"):
            booted.active.add(unit)
            files.put(booted.link(unit))

    def refuse(*_: object) -> list[str]:
        raise Failure("no node answers")

    monkeypatch.setattr(converge, "install_packages", install)
    monkeypatch.setattr(converge, "ensure_one_answers", refuse)
    change = with_all(files, commands)
    change.packages = ["haproxy", "prometheus-node-exporter"]
    booted.active.remove("chrony.service")
    with pytest.raises(Failure, match="no node answers"):
        converge.converge(change, converge.Undo())
    # The clock is set in any case.
    assert booted.active == {"chrony.service", "fluentd.service"}
    assert booted.enabled() == {"chrony.service", "fluentd.service"}


def test_keys_that_were_there_before_stay(
    files: Files, commands: Commands, admin_socket: HaproxySocket, booted: Systemd
) -> None:
    """The administrator's is mostly the same key."""
    admin_socket.answers["show stat"] = stat(DOWN)
    change = with_all(files, commands)
    keys = "/home/ubuntu/.ssh/authorized_keys"
    there = change.conf["admin"]["keys"][0] + "\nssh-ed25519 other\n"
    files.put(keys, there, 0o600)
    with pytest.raises(Failure):
        converge.converge(change, converge.Undo())
    assert files.text(keys) == there
    assert not files.has(additions.RECORD)


def test_chrony_reads_lbctls_files_again(files: Files) -> None:
    module(files)
    files.put(additions.CHRONY, "server ntp1\ndriftfile /x\n# confdir /y\n")
    assert predecessor.missing_in_chrony() == list(predecessor.CHRONY_READS)
    files.put(additions.CHRONY, "confdir /etc/chrony/conf.d\n")
    assert predecessor.missing_in_chrony() == ["sourcedir /etc/chrony/sources.d"]


def test_the_lines_for_chrony_are_added_once_and_taken_back(
    files: Files, commands: Commands
) -> None:
    module(files)
    old = "server ntp1\nmakestep 1 3\ndriftfile /x"
    files.put(additions.CHRONY, old)
    files.put("/etc/chrony/sources.d/lbctl.sources", "server ntp2\n")
    services.apply_chrony(settings("chrony"))
    once = files.text(additions.CHRONY)
    assert once == (
        "#lbctl# server ntp1\nmakestep 1 3\ndriftfile /x\n"
        "#lbctl+#\nsourcedir /etc/chrony/sources.d\n#lbctl+#\nconfdir /etc/chrony/conf.d\n"
    )
    services.apply_chrony(settings("chrony"))
    assert files.text(additions.CHRONY) == once
    additions.take_back(set())
    assert files.text(additions.CHRONY) == old + "\n"


@pytest.mark.parametrize(
    ("installed", "left"),
    [
        ("docker-ce installed\n", ["haproxy"]),
        ("moby-engine installed\n", ["haproxy"]),
        ("docker.io installed\n", ["docker.io", "haproxy"]),
        ("docker-ce config-files\n", ["docker.io", "haproxy"]),
    ],
)
def test_another_docker_counts(
    installed: str, left: list[str], files: Files, commands: Commands
) -> None:
    module(files)
    commands.answer("dpkg-query", installed)
    assert predecessor.without_docker(["docker.io", "haproxy"]) == left


def test_old_secrets_are_removed_once(files: Files) -> None:
    module(files)
    for path in predecessor.SECRETS:
        files.put(path, "secret")
    predecessor.finish()
    predecessor.finish()
    assert not any(files.has(path) for path in predecessor.SECRETS)
    assert files.has(predecessor.HAPROXY_CFG)
