"""HAProxy's state, check, digests and changes at run time."""

from __future__ import annotations

import json
import time

import pytest

from conftest import Commands, Files, HaproxySocket
from lbctl_guest import haproxy, old_workers, status
from lbctl_guest.paths import (
    ADMIN_SOCKET,
    CA_PEM,
    CLIENT_PEM,
    HAPROXY_CFG,
    KEPT_STATES,
    SERVER_STATE,
    SETTINGS,
)
from lbctl_guest.status import servers
from lbctl_guest.tools import Failure, ask
from samples import DOWN, INFO, UP, settings, settings_0_1, stat

STATE = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n"
    "3 primary 1 node1 10.77.0.11 2 0 1\n"
)


@pytest.mark.parametrize("kept", KEPT_STATES)
def test_a_cold_start_keeps_addresses_and_no_health(kept: str, files: Files) -> None:
    files.put(kept, STATE)
    haproxy.forget_health()
    assert files.text(SERVER_STATE) == STATE.replace("10.77.0.11 2 0 1", "10.77.0.11 0 0 1")
    assert files.text(kept) == STATE


def test_the_state_since_the_boot_comes_before_that_on_the_disk(files: Files) -> None:
    files.put(KEPT_STATES[1], STATE)
    files.put(KEPT_STATES[0], STATE.replace("10.77.0.11", "10.77.0.12"))
    haproxy.forget_health()
    assert "10.77.0.12 0 0 1" in files.text(SERVER_STATE)
    files.put(KEPT_STATES[0], "damaged")
    haproxy.forget_health()
    assert "10.77.0.11 0 0 1" in files.text(SERVER_STATE)


@pytest.mark.parametrize("text", [None, "", "damaged", "2\nother"])
def test_there_is_always_a_state(text: str | None, files: Files) -> None:
    if text is not None:
        for path in KEPT_STATES:
            files.put(path, text)
    haproxy.forget_health()
    assert files.text(SERVER_STATE) == "1\n"


def test_only_a_state_is_saved(files: Files, admin_socket: HaproxySocket) -> None:
    admin_socket.answers["show servers state"] = STATE
    haproxy.save_state()
    assert [files.text(path) for path in KEPT_STATES] == [STATE, STATE]
    admin_socket.answers["show servers state"] = "Permission denied\n"
    with pytest.raises(Failure, match=r"is not a state"):
        haproxy.save_state()
    assert [files.text(path) for path in KEPT_STATES] == [STATE, STATE]
    # What HAProxy reads is written before a start and a reload only: one of a minute ago may name
    # a former primary.
    assert not files.has(SERVER_STATE)


def test_the_digests_are_those_of_lbctl_0_1(files: Files) -> None:
    """Another one would restart HAProxy in a guest that was only upgraded."""
    for path, text in ((HAPROXY_CFG, "cfg"), (CA_PEM, "ca"), (CLIENT_PEM, "client")):
        files.put(path, text)
    files.put("/etc/systemd/system/haproxy.service", "unit")
    assert haproxy.digests(settings_0_1()) == {
        "config": "f95d7a5af3558e2dcf611ba77854b8ec820c28d7554a344551ffa9ceb6153290",
        "start": "3660e7e1d5fa023130c765c499c147e1f0cc0124bb43cddf508bc0efa0c2d9b4",
    }


def test_a_refusal_shows_haproxys_alerts_alone(files: Files, commands: Commands) -> None:
    conf = settings()
    conf["runtime"] = "package"
    files.put("/run/lbctl/check-1/haproxy.cfg", "ca-file /etc/haproxy/ca.pem\n")
    commands.fail(
        "haproxy -c",
        "[NOTICE]   (7) : haproxy version is 2.6\n"
        "[ALERT]    (7) : config : parsing [/run/lbctl/check-1/haproxy.cfg:1] : unknown\n",
    )
    expected = r"configuration: config : parsing \[/etc/haproxy/haproxy.cfg:1\] : unknown$"
    with pytest.raises(Failure, match=expected):
        haproxy.check_staged(conf, "/run/lbctl/check-1")
    # What is checked names its own folder.
    assert files.text("/run/lbctl/check-1/haproxy.cfg") == "ca-file /run/lbctl/check-1/ca.pem\n"


def test_the_container_checks_with_its_own_user(files: Files, commands: Commands) -> None:
    files.put("/run/lbctl/check-1/haproxy.cfg")
    haproxy.check_staged(settings(), "/run/lbctl/check-1")
    assert files.owners["/run/lbctl/check-1/haproxy.cfg"] == (99, 99)
    (line,) = commands.ran
    assert "--volume /run/lbctl/check-1:/etc/haproxy:ro" in line
    assert line.endswith("haproxy:3.2 -c -f /etc/haproxy/haproxy.cfg")


def test_an_image_is_fetched_only_where_it_is_missing(commands: Commands) -> None:
    conf = settings()
    haproxy.ensure_image(conf)
    assert commands.of(" pull ") == []
    commands.fail("docker --config /etc/lbctl/docker image inspect")
    haproxy.ensure_image(conf)
    assert len(commands.of(" pull ")) == 1
    conf["pull_image"] = False
    with pytest.raises(Failure, match=r"forbids fetching"):
        haproxy.ensure_image(conf)


def test_haproxy_is_disturbed_as_little_as_may_be(
    files: Files, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    reloads: list[int] = []
    monkeypatch.setattr(haproxy, "reload", lambda: reloads.append(1))
    conf = settings()
    files.put(HAPROXY_CFG, "one")
    haproxy.remember_in_use(conf)
    haproxy.apply_haproxy(conf)
    assert (commands.of("restart"), reloads) == ([], [])
    files.put(HAPROXY_CFG, "two")
    haproxy.apply_haproxy(conf)
    assert (commands.of("restart"), reloads) == ([], [1])
    conf["nofile"] += 1
    haproxy.apply_haproxy(conf)
    assert len(commands.of("restart haproxy.service")) == 1


def test_a_reload_waits_for_those_who_wait(
    admin_socket: HaproxySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["held: 2\n\n", "held: 1\n\n", "held: 0\n\n"]
    monkeypatch.setattr(time, "sleep", lambda _: answers.pop(0))

    def held() -> int | None:
        admin_socket.answers["show lbctl"] = answers[0]
        return status.held()

    monkeypatch.setattr(haproxy, "held", held)
    haproxy.wait_for_held(60)
    assert answers == ["held: 0\n\n"]
    # Not for ever, and not for a HAProxy that does not know how many wait.
    answers = ["held: 2\n\n"]
    haproxy.wait_for_held(0)
    answers = ["Unknown command.\n\n"]
    haproxy.wait_for_held(60)


def test_a_start_that_fails_is_reported_with_the_journal(commands: Commands) -> None:
    commands.fail("systemctl restart", "Job failed.")
    commands.answer("journalctl", "[ALERT] no such backend\n")
    with pytest.raises(Failure, match=r"does not start: Job failed.\n\[ALERT\] no such backend"):
        haproxy.start_haproxy()


def test_prepare_leaves_what_haproxy_needs(files: Files, commands: Commands) -> None:
    files.put(SETTINGS, json.dumps(settings()))
    files.put(CLIENT_PEM, "client")
    haproxy.prepare()
    assert files.owners == {CLIENT_PEM: (99, 99), "/run/haproxy": (0, 99)}
    assert files.path("/run/haproxy").stat().st_mode & 0o7777 == 0o1770
    assert files.text(SERVER_STATE) == "1\n"
    assert json.loads(files.text(haproxy.IN_USE)) == haproxy.digests(settings())
    # fluentd's files are missing here: that is not HAProxy's matter.


def test_a_new_ca_comes_beside_the_old_one_first(files: Files, admin_socket: HaproxySocket) -> None:
    files.put(CA_PEM, "new CA\n")
    files.put(CLIENT_PEM, "key\n\ncertificate\n")
    admin_socket.answers["commit"] = "Committing. Success!\n"
    haproxy.swap_certificates({CA_PEM, CLIENT_PEM}, "old CA\n")
    assert [said for said in admin_socket.asked if said.startswith("set")] == [
        f"set ssl ca-file {CA_PEM} <<\nnew CA\nold CA\n\n",
        f"set ssl cert {CLIENT_PEM} <<\nkey\ncertificate\n\n",
        f"set ssl ca-file {CA_PEM} <<\nnew CA\n\n",
    ]


def test_a_certificate_that_haproxy_refuses_is_withdrawn(
    files: Files, admin_socket: HaproxySocket
) -> None:
    files.put(CLIENT_PEM, "key\n")
    admin_socket.answers["commit"] = "inconsistencies between private key and certificate\n"
    with pytest.raises(Failure, match=r"does not accept /etc/haproxy/client.pem: inconsist"):
        haproxy.swap_certificates({CLIENT_PEM}, "")
    assert admin_socket.asked[-1] == f"abort ssl cert {CLIENT_PEM}\n"


def test_a_lost_primary_is_noticed(admin_socket: HaproxySocket) -> None:
    conf = settings()
    conf["settle_s"] = 0.0
    admin_socket.answers["show stat"] = stat(DOWN)
    haproxy.verify(conf, up_before=0)
    with pytest.raises(Failure, match=r"lost the primary.*10.77.0.11 DOWN Service Unavailable"):
        haproxy.verify(conf, up_before=1)
    admin_socket.answers["show stat"] = stat(UP)
    haproxy.verify(conf, up_before=1)


def test_without_haproxy_nothing_is_up() -> None:
    assert (haproxy.servers_up(), haproxy.node_addresses(), haproxy.process_id()) == (0, {}, None)


def test_the_process_is_known_by_its_socket(admin_socket: HaproxySocket) -> None:
    admin_socket.answers.update({"show info": INFO, "show stat": stat(UP, DOWN)})
    assert haproxy.process_id() == 42
    assert haproxy.node_addresses() == {"node1": "10.77.0.11", "node2": "10.77.0.12"}


PROCESSES = (
    "#<PID> <type> <reloads> <uptime> <version>\n1 master 2 0d 2.6\n# workers\n9 worker 0 0d 2.6\n"
    "# old workers\n5 worker 1 0d 2.6\n6 worker 2 0d 2.6\n# programs\n\n"
)


def test_sessions_in_old_workers_end_on_proof_alone() -> None:
    old = servers(stat(DOWN, DOWN.replace("primary", "standbys")))

    def lost(backend: str, *rows: str) -> bool:
        mine = next(s for s in old if s["backend"] == backend)
        return old_workers.is_lost(mine, servers(stat(*rows)))

    slow = DOWN.replace("L7STS,503", "* L6TOUT,")
    unchecked = UP.replace("L7OK,200", "INI,")
    # A node that had no time to answer keeps them, until another one is the primary for certain.
    assert not lost("primary")
    assert not lost("primary", slow)
    assert not lost("primary", slow, unchecked)
    assert lost("primary", slow, UP)
    two = UP.replace("10.77.0.12", "10.77.0.13")
    assert not lost("primary", slow, UP, two)
    # A node whose REST API has TLS since a moment ago answers a plain request with an alert.
    assert not lost("primary", DOWN.replace("L7STS,503", "L7RSP,"))
    # What a node says itself needs no other.
    assert lost("primary", DOWN)
    assert lost("primary", DOWN.replace("L7STS,503", "L7RSP,200"))
    assert lost("primary", DOWN, UP, two)
    standbys = [row.replace("primary", "standbys") for row in (slow, UP, two)]
    assert lost("standbys", *standbys)


def test_a_node_that_is_not_listed_any_more_keeps_its_sessions_until_it_has_a_successor() -> None:
    [old] = servers(stat(DOWN))
    assert not old_workers.is_lost(old, [])
    assert old_workers.is_lost(old, servers(stat(UP)))
    # It may have another name now, and its port may be written out or not.
    there = DOWN.replace("node1", "pg-1").replace("DOWN", "UP").replace("L7STS,503", "L7OK,200")
    for address in ("10.77.0.11:0", "10.77.0.11:5432"):
        assert not old_workers.is_lost(old, servers(stat(there.replace("10.77.0.11:0", address))))
    assert old_workers.is_lost(old, servers(stat(there.replace("10.77.0.11", "10.77.0.14"))))


def test_a_service_that_is_gone_is_judged_by_the_main_port() -> None:
    for role, judged in (("primary", True), ("standby_leader", True), ("leader", True)):
        [old] = servers(stat(DOWN.replace("primary", f"pool-{role}", 1)))
        assert old_workers.is_lost(old, servers(stat(UP))) is judged
    [old] = servers(stat(DOWN.replace("primary", "reports-replica", 1)))
    assert not old_workers.is_lost(old, servers(stat(UP)))


def test_sessions_of_a_lost_primary_end_in_old_workers_too(master_socket: HaproxySocket) -> None:
    master_socket.answers.update(
        {
            "show proc": PROCESSES,
            "@!5 show stat": stat(UP),
            "@!5 show sess": "0xab: proto=tcpv4 be=primary srv=node2 x\n"
            "0xcd: proto=tcpv4 be=primary srv=node1 x\n",
        }
    )
    assert old_workers.old_workers() == ["5", "6"]
    says_no = UP.replace("UP,772,L7OK,200", "DOWN,5,L7STS,503")
    old_workers.cut_lost("5", servers(stat(says_no)))
    assert master_socket.asked[-1] == "@!5 shutdown session 0xab\n"


def test_a_socket_is_asked_below_the_root(admin_socket: HaproxySocket) -> None:
    ask(ADMIN_SOCKET, "show info")
    assert admin_socket.asked == ["show info\n"]
