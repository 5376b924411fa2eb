"""What lbctl and this program exchange. The golden documents are read here and by lbctl's own tests
(tests/render/contract.rs): a key that one side renames fails a test on the other."""

from __future__ import annotations

import io
import json
import sys
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from conftest import Commands, Files, HaproxySocket, golden
from lbctl_guest import converge, haproxy, paths, status, vip, wire
from lbctl_guest.paths import CLIENT_PEM
from samples import CLIENT, INFO, UP, file, install_all, settings_of, small_spec, spec, stat
from test_programs import load


def matches(value: Any, wanted: Any, at: str = "") -> list[str]:
    """Where a document is not of a type, or has keys that the type has not."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if is_typeddict(wanted):
        hints = get_type_hints(wanted)
        if not isinstance(value, dict) or set(value) != set(hints):
            return [f"{at}: {value} is not a {wanted.__name__}"]
        return [x for key in hints for x in matches(value[key], hints[key], f"{at}/{key}")]
    if origin in (Union, types.UnionType):
        options = [matches(value, option, at) for option in inner]
        return [] if [] in options else options[0]
    if origin is Literal:
        return [] if value in inner else [f"{at}: {value!r} is not of {inner}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{at}: {value!r} is not a list"]
        return [x for n, one in enumerate(value) for x in matches(one, inner[0], f"{at}/{n}")]
    if origin is dict:
        return [x for key, one in value.items() for x in matches(one, inner[1], f"{at}/{key}")]
    wanted = (int, float) if wanted is float else wanted
    right = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
    return [] if right else [f"{at}: {value!r} is not of type {wanted}"]


def shape(document: Any, at: str = "") -> dict[str, set[str]]:
    """The types at each place; all items of a list are one place."""
    found: dict[str, set[str]] = {at: {type(document).__name__}}
    inner: list[tuple[str, Any]] = []
    if isinstance(document, dict):
        inner = list(document.items())
    elif isinstance(document, list):
        inner = [("*", one) for one in document]
    for key, one in inner:
        for place, names in shape(one, f"{at}/{key}").items():
            found.setdefault(place, set()).update(names)
    return found


def must_be_as(name: str, made: list[Any], document: Any) -> None:
    """The documents that were made have the keys of the golden one, and between them every type
    that it has at each place."""
    places: dict[str, set[str]] = {}
    for one in made:
        for place, names in shape(one).items():
            places.setdefault(place, set()).update(names)
    wanted = shape(document)
    assert set(places) == set(wanted), name
    for place, names in wanted.items():
        assert names <= places[place], f"{name}{place}"
        assert places[place] <= names | {"NoneType"}, f"{name}{place}"


def test_the_status_has_the_keys_and_types_that_lbctl_reads(
    files: Files,
    commands: Commands,
    admin_socket: HaproxySocket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files.put("/proc/uptime", "1647.99 3000.00\n")
    files.put("/proc/sys/kernel/random/boot_id", "a04ed582-cad0-486f-95f8-018e56d7a80b\n")
    files.put(CLIENT_PEM, CLIENT)
    v1 = {"stage": "modules-final", "init": {"errors": ["no space left"]}}
    files.put("/run/cloud-init/status.json", json.dumps({"v1": v1}))
    shown = "Serial: 4781365D\nnotAfter: Dec  2 19:36:58 2026 GMT\n"
    admin_socket.answers.update(
        {
            "show info": INFO,
            "show lbctl": "held: 3\n\n",
            "show stat": stat(UP),
            "show ssl cert": shown,
        }
    )
    one = {"address": "10.77.0.22", "alive": True, "held": True, "weight": 0, "agrees": True}
    state = {"at": vip.awake(), "sessions": 5, "peers": [one]}
    monkeypatch.setattr(vip, "addresses", lambda: {("eth0", "10.0.0.20")})
    files.put(paths.SETTINGS, json.dumps(settings_of(spec())))
    files.put("/sys/class/net/eth0/address", "52:54:00:12:34:56\n")
    files.put(vip.WEIGHT, "0\n")
    files.put(vip.STATE, json.dumps(state))
    files.put(vip.TAKEN, "52:54:00:aa:bb:0c\n")
    well = status.report()
    files.path(vip.STATE).unlink()
    alone = status.report()
    files.path(paths.SETTINGS).unlink()
    admin_socket.close()
    without_haproxy = status.report()
    assert without_haproxy["haproxy"]["error"]
    for made in (well, alone, without_haproxy, golden("status.json")):
        assert matches(made, wire.Status) == []
    must_be_as("status", [well, alone, without_haproxy], golden("status.json"))


def test_what_waiting_prints_has_the_keys_and_types_that_lbctl_reads(
    files: Files, admin_socket: HaproxySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = load("wait")
    for name in ("CLOUD_INIT", "ADMIN_SOCKET"):
        monkeypatch.setattr(wait, name, files.root + getattr(wait, name))
    admin_socket.answers["show stat"] = stat(UP)
    files.put("/run/cloud-init/status.json", '{"v1": {"init": {"errors": []}}}')
    files.put("/run/cloud-init/result.json")
    well = wait.wait(0, 0)
    files.put("/run/cloud-init/status.json", '{"v1": {"init": {"errors": ["no space"]}}}')
    badly = wait.wait(0, 0)
    for made in (well, badly, golden("wait.json")):
        assert matches(made, wire.WaitStatus) == []
    must_be_as("wait", [well, badly], golden("wait.json"))


def test_both_answers_to_a_change_are_what_lbctl_reads(
    files: Files,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answer(wanted: wire.Spec) -> Any:
        task = {"despite": [], "only": [], "spec": wanted}
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(task)))
        converge.main()
        return json.loads(capsys.readouterr().out)

    install_all(files, small_spec())
    monkeypatch.setattr(haproxy, "is_installed", lambda _: True)
    commands.fail("systemctl is-active")
    done = answer(small_spec(file(CLIENT_PEM, "new", "haproxy")))
    commands.fail("haproxy -c", "[ALERT] no")
    refused = answer(small_spec(file(CLIENT_PEM, "other", "haproxy")))
    document = golden("converge.json")
    for made in (done, document["done"]):
        assert matches(made, wire.Done) == []
    for made in (refused, document["refused"]):
        assert matches(made, wire.Refused) == []
    must_be_as("done", [done], document["done"])
    must_be_as("refused", [refused], document["refused"])


def test_the_task_that_lbctl_sends_is_what_this_program_reads() -> None:
    assert matches(golden("task.json"), wire.Task) == []
    assert matches(settings_of(spec()), wire.Settings) == []


def test_every_path_of_the_spec_is_in_the_settings() -> None:
    wanted = spec()
    listed = [entry["path"] for entry in settings_of(wanted)["files"]]
    assert [*listed, "/etc/lbctl/guest.json"] == [entry["path"] for entry in wanted["files"]]


def test_the_services_of_the_settings_are_those_that_are_known() -> None:
    conf = settings_of(spec())
    assert conf["services"] == golden("services.json")
    assert set(conf["service_table"]) == set(conf["services"])
    classes = {entry["affects"] for entry in conf["files"]}
    assert classes - set(conf["services"]) == {"guest", "haproxy-unit"}


def test_a_renamed_key_does_not_pass() -> None:
    document = golden("status.json")
    document["haproxy"]["current_sessions"] = document["haproxy"].pop("sessions")
    assert matches(document, wire.Status) != []
    with pytest.raises(AssertionError):
        must_be_as("status", [document], golden("status.json"))
