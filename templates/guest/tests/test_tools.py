"""Files, commands and packages."""

from __future__ import annotations

import grp
import os
import subprocess

import pytest

from conftest import Commands, Files, HaproxySocket
from lbctl_guest import tools
from lbctl_guest.paths import ADMIN_SOCKET
from lbctl_guest.tools import Attempts, Failure, NewFile
from samples import settings


def test_a_file_is_written_whole_with_its_mode(files: Files) -> None:
    tools.write("/etc/new/file", "text\n", 0o640)
    assert (files.text("/etc/new/file"), files.mode("/etc/new/file")) == ("text\n", 0o640)
    tools.write("/etc/new/file", b"other")
    assert (files.text("/etc/new/file"), files.mode("/etc/new/file")) == ("other", 0o644)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put("/etc/file", "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left"):
        tools.write("/etc/file", "new")
    assert os.listdir(files.path("/etc")) == ["file"]
    assert files.text("/etc/file") == "old"


def test_what_is_missing_or_damaged_reads_as_nothing(files: Files) -> None:
    files.put("/etc/damaged.json", '{"a": ')
    files.put("/etc/whole.json", '{"a": 1}')
    assert tools.read("/etc/missing") is None
    assert tools.read_bytes("/etc/missing") == b""
    assert tools.read_json("/etc/missing") is None
    assert tools.read_json("/etc/damaged.json") is None
    assert tools.read_json("/etc/whole.json") == {"a": 1}
    assert not tools.past_settings("/etc/damaged.json")


def test_a_digest_shows_where_one_file_ends(files: Files) -> None:
    files.put("/a", "1")
    files.put("/b", "23")
    first = tools.digest(["/a", "/b"])
    files.put("/a", "12")
    files.put("/b", "3")
    assert tools.digest(["/a", "/b"]) != first
    assert tools.digest(["/a"], [b"3"]) == tools.digest(["/a", "/b"])


def test_owners_follow_the_runtime_and_the_users_there_are(
    files: Files, users: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = settings()
    files.put("/etc/haproxy/client.pem")
    tools.own_files(conf, "haproxy")
    assert files.owners == {"/etc/haproxy/client.pem": (99, 99)}
    conf["runtime"] = "package"
    tools.own_files(conf, "haproxy")
    assert files.owners == {"/etc/haproxy/client.pem": (0, 0)}
    # There is neither the user nor the file.
    tools.own_files(conf, "fluentd")
    users.add("fluentd")
    files.put("/etc/fluentd/fluent.conf")
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.struct_group((name, "x", 77, [])))
    tools.own_files(conf, "fluentd")
    assert files.owners["/etc/fluentd/fluent.conf"] == (0, 77)


def test_a_command_that_fails_is_reported_with_what_it_printed(commands: Commands) -> None:
    commands.answer("passwd --lock", "no such user\n", 1)
    with pytest.raises(Failure, match=r"^passwd --lock ubuntu: exit 1: no such user$"):
        tools.run("passwd", "--lock", "ubuntu", "more")
    assert tools.run("passwd", "--lock", "ubuntu", check=False) == (1, "no such user\n")


def test_a_command_that_is_missing_or_hangs_has_an_exit_status(commands: Commands) -> None:
    commands.answers["docker"] = FileNotFoundError()
    commands.answers["gem"] = subprocess.TimeoutExpired("gem", 5)
    assert tools.run("docker", check=False) == (127, "not installed")
    assert tools.run("gem", timeout=5, check=False) == (124, "no answer within 5 s")


def test_a_unit_is_enabled_once(files: Files, commands: Commands) -> None:
    tools.enable("chrony.service")
    tools.enable("lbctl-save-state.timer")
    assert commands.ran == [
        "systemctl --no-reload add-wants multi-user.target chrony.service",
        "systemctl --no-reload add-wants timers.target lbctl-save-state.timer",
    ]
    files.put("/etc/systemd/system/multi-user.target.wants/chrony.service")
    tools.enable("chrony.service")
    assert len(commands.ran) == 2


def test_packages_that_are_there_ask_nothing_of_the_network(commands: Commands) -> None:
    commands.answer("dpkg-query", "chrony installed\nhaproxy config-files\n")
    tools.install_packages(["chrony"])
    assert commands.of("apt-get") == []
    tools.install_packages(["chrony", "haproxy"])
    assert [line.split("Timeout=300 ")[1] for line in commands.of("apt-get")] == [
        "update",
        "install haproxy",
    ]


def test_a_whole_answer_is_read_from_a_socket(admin_socket: HaproxySocket) -> None:
    admin_socket.answers["show"] = "x" * 200_000
    assert tools.ask(ADMIN_SOCKET, "show everything") == "x" * 200_000
    assert admin_socket.asked == ["show everything\n"]


def test_everything_is_attempted_and_all_failures_are_reported() -> None:
    done: list[int] = []

    def fail(problem: Exception) -> None:
        raise problem

    attempts = Attempts()
    attempts.attempt("one", fail, Failure("in words"))
    attempts.attempt("two", done.append, 2)
    attempts.attempt("three", fail, KeyError("name"))
    with pytest.raises(Failure, match=r"^one: in words\nthree: KeyError\('name'\)$"):
        attempts.conclude()
    assert done == [2]


def test_a_new_file_belongs_to_root() -> None:
    assert NewFile("/etc/x", "", 0o600).ids == (0, 0)
