"""What lbctl adds to files of others goes again, and what others wrote stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import Commands, Files
from lbctl_guest import additions, services, tools
from lbctl_guest.additions import CHRONY, DOCKER, DOCKER_OURS, RECORD, add, recorded
from samples import settings, settings_0_1

PATH = "/etc/others/file"
CA = additions.registry_ca("registry.example:5000")

REGISTRIES = "insecure-registries"

# What others wrote; what lbctl wants, in turns; what the file is after each. The last turn wants
# nothing, and leaves what others wrote.
STORIES: dict[str, tuple[str, str | None, list[tuple[Any, Any]]]] = {
    "lines of nobody": ("lines", None, [(["a"], "a\n"), (["b"], "b\n"), (None, "")]),
    "lines of others": (
        "lines",
        "theirs\n",
        [
            (["a", "b"], "theirs\na\nb\n"),
            (["b", "c"], "theirs\nb\nc\n"),
            (None, "theirs\n"),
        ],
    ),
    "no file of settings": (
        "settings",
        None,
        [({"live-restore": True}, '{\n  "live-restore": true\n}\n'), (None, None)],
    ),
    "settings of others": (
        "settings",
        '{"debug": true}',
        [
            ({"a": 1}, {"debug": True, "a": 1}),
            ({"a": 2, "b": [1]}, {"debug": True, "a": 2, "b": [1]}),
            ({}, {"debug": True}),
        ],
    ),
    "a setting that replaces one of theirs": (
        "settings",
        '{"live-restore": false}',
        [
            ({"live-restore": True}, {"live-restore": True}),
            ({"live-restore": True}, {"live-restore": True}),
            (None, {"live-restore": False}),
        ],
    ),
    "a setting that is there already": (
        "settings",
        '{"live-restore": true}',
        [({"live-restore": True}, '{"live-restore": true}'), (None, '{"live-restore": true}')],
    ),
    "a list of theirs": (
        "settings",
        '{"insecure-registries": ["theirs", "both"]}',
        [
            ({REGISTRIES: ["both", "ours"]}, {REGISTRIES: ["theirs", "both", "ours"]}),
            ({REGISTRIES: ["other"]}, {REGISTRIES: ["theirs", "both", "other"]}),
            (None, {REGISTRIES: ["theirs", "both"]}),
        ],
    ),
    "no such file": ("file", None, [("one", "one"), ("two", "two"), (None, None)]),
    "a file of theirs": ("file", "theirs", [("one", "one"), ("two", "two"), (None, "theirs")]),
    "a file of theirs that is the same": ("file", "one", [("one", "one"), (None, "one")]),
    "directives": (
        "commented",
        "pool a\nmakestep 1 3\n",
        [
            (["pool"], "#lbctl# pool a\nmakestep 1 3\n"),
            (["makestep"], "pool a\n#lbctl# makestep 1 3\n"),
            ([], "pool a\nmakestep 1 3\n"),
        ],
    ),
    "no file to comment in": ("commented", None, [(["pool"], None), (None, None)]),
}


@pytest.mark.parametrize("story", STORIES)
def test_what_is_added_is_taken_back(story: str, files: Files) -> None:
    kind, theirs, turns = STORIES[story]
    if theirs is not None:
        files.put(PATH, theirs, 0o640)
    for wanted, expected in turns:
        add(PATH, kind, wanted)
        # A second time nothing is to do.
        assert add(PATH, kind, wanted) is False
        if expected is None:
            assert not files.has(PATH)
        elif isinstance(expected, str):
            assert files.text(PATH) == expected
        else:
            assert json.loads(files.text(PATH)) == expected
        if theirs is not None:
            assert files.mode(PATH) == 0o640
    assert recorded() == {}


def test_what_somebody_changed_since_is_left(files: Files) -> None:
    files.put(PATH, '{"a": 0}')
    add(PATH, "settings", {"a": 1, "b": 1})
    files.put(PATH, '{"a": 2, "c": 3}')
    add(PATH, "settings", None)
    assert json.loads(files.text(PATH)) == {"a": 2, "c": 3}
    add("/etc/others/ca", "file", "ours")
    files.put("/etc/others/ca", "somebody's")
    add("/etc/others/ca", "file", None)
    assert files.text("/etc/others/ca") == "somebody's"


def test_what_was_killed_in_between_is_taken_back(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is written first."""
    files.put(PATH, "theirs\n")
    with monkeypatch.context() as patch:
        patch.setattr(additions, "put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            add(PATH, "lines", ["ours"])
    files.put(PATH, "theirs\nours\n")
    additions.take_back(set())
    assert files.text(PATH) == "theirs\n"
    assert recorded() == {}


def test_a_file_that_is_no_longer_named_is_restored(files: Files, commands: Commands) -> None:
    files.put(DOCKER, '{"debug": true}')
    files.put(DOCKER_OURS, '{"live-restore": true, "insecure-registries": ["r"]}')
    files.put("/etc/lbctl/docker/registry-ca.crt", "CA")
    services.apply_docker(settings("docker"))
    assert files.text(CA) == "CA"
    services.take_back(settings("docker", "haproxy"))
    assert files.has(CA)
    # Another registry, and then no container at all.
    other = settings("docker")
    other["registry"] = "other.example"
    services.take_back(other)
    assert not files.has(CA)
    commands.ran.clear()
    services.take_back(settings("haproxy"))
    assert json.loads(files.text(DOCKER)) == {"debug": True}
    assert commands.ran == ["systemctl reload docker.service"]


def test_a_registry_that_is_not_wanted_any_more_leaves_dockers_settings(
    files: Files, commands: Commands
) -> None:
    files.put("/etc/lbctl/docker/registry-ca.crt", "CA")
    files.put(DOCKER_OURS, '{"live-restore": true, "insecure-registries": ["r"]}')
    services.apply_docker(settings("docker"))
    files.put(DOCKER_OURS, '{"live-restore": true}')
    services.apply_docker(settings("docker"))
    assert json.loads(files.text(DOCKER)) == {"live-restore": True}


def test_what_lbctl_0_1_added_is_adopted(files: Files, commands: Commands) -> None:
    before = settings_0_1()
    keys = "/home/ubuntu/.ssh/authorized_keys"
    files.put(keys, "theirs\n" + before["admin"]["keys"][0] + "\n")
    files.put(DOCKER, '{"debug": true, "live-restore": true, "insecure-registries": ["r"]}')
    files.put(DOCKER_OURS, '{"live-restore": true, "insecure-registries": ["r"]}')
    files.put(CA, "CA")
    files.put(CHRONY, "#lbctl# pool a\n")
    additions.adopt(before, services.keys_of)
    assert set(recorded()) == {keys, DOCKER, CA, CHRONY}
    now = settings("haproxy")
    now["admin"]["user"] = "operator"
    services.take_back(now)
    assert files.text(keys) == "theirs\n"
    assert json.loads(files.text(DOCKER)) == {"debug": True}
    assert not files.has(CA)
    assert files.text(CHRONY) == "pool a\n"


def test_a_record_is_adopted_once_and_a_first_boot_has_none(files: Files) -> None:
    nothing: Any = {}
    additions.adopt(nothing, services.keys_of)
    assert not files.has(RECORD)
    files.put(RECORD, "{}")
    additions.adopt(settings_0_1(), services.keys_of)
    assert files.text(RECORD) == "{}"


def test_a_full_disk_changes_no_file_of_others(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put(PATH, "theirs\n")

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tools, "stage", full)
    with pytest.raises(OSError, match=r"No space"):
        add(PATH, "lines", ["ours"])
    assert files.text(PATH) == "theirs\n"
