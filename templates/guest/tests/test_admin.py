"""The administrator's keys and password."""

from __future__ import annotations

from conftest import Commands, Files
from lbctl_guest import services
from lbctl_guest.wire import AdminAccount, Settings
from samples import settings

KEYS = "/home/ubuntu/.ssh/authorized_keys"


def with_keys(*keys: str) -> Settings:
    conf = settings()
    conf["admin"]["keys"] = list(keys)
    return conf


def wanted_keys(conf: Settings, before: Settings) -> str | None:
    found = services.authorized_keys(conf, before)
    return found[0].content if found else None


def test_a_first_key_makes_the_file_for_its_user_alone(files: Files) -> None:
    (new,) = services.authorized_keys(with_keys("key one"), with_keys())
    assert (new.path, new.content, new.mode, new.ids) == (KEYS, "key one\n", 0o600, (1000, 1000))
    assert files.mode("/home/ubuntu/.ssh") == 0o700
    assert files.owners["/home/ubuntu/.ssh"] == (1000, 1000)


def test_lbctls_old_keys_go_and_everybody_elses_stay(files: Files) -> None:
    files.put(KEYS, "of somebody\nkey one\n# a remark\nkey two\n")
    before, now = with_keys("key one", "key two"), with_keys("key two", "key three")
    assert wanted_keys(now, before) == "of somebody\n# a remark\nkey two\nkey three\n"


def test_keys_that_are_right_are_not_touched(files: Files) -> None:
    files.put(KEYS, "of somebody\nkey one\n")
    assert wanted_keys(with_keys("key one"), with_keys("key one")) is None


def test_a_first_lbctl_takes_no_key_away(files: Files) -> None:
    files.put(KEYS, "of somebody\n")
    nothing: Settings = {}  # type: ignore[typeddict-item]
    assert wanted_keys(with_keys("key one"), nothing) == "of somebody\nkey one\n"


def test_an_administrator_who_is_not_there_yet_gets_no_file(users: set[str]) -> None:
    users.clear()
    assert wanted_keys(with_keys("key one"), with_keys()) is None


def account(password_hash: str | None) -> AdminAccount:
    return {"user": "ubuntu", "password_hash": password_hash, "public_keys": []}


def test_a_password_is_sent_by_standard_input(files: Files, commands: Commands) -> None:
    files.put("/etc/shadow", "root:*:1::\nubuntu:!:1::\n")
    services.set_password(account("$6$hash"))
    assert commands.ran == ["chpasswd --encrypted"]
    assert commands.stdin["chpasswd --encrypted"] == "ubuntu:$6$hash\n"


def test_a_password_that_is_set_already_is_left(files: Files, commands: Commands) -> None:
    files.put("/etc/shadow", "ubuntu:$6$hash:1::\n")
    services.set_password(account("$6$hash"))
    assert commands.ran == []


def test_without_a_password_the_account_is_locked_once(files: Files, commands: Commands) -> None:
    files.put("/etc/shadow", "ubuntu:$6$hash:1::\n")
    services.set_password(account(None))
    assert commands.ran == ["passwd --lock ubuntu"]
    files.put("/etc/shadow", "ubuntu:!$6$hash:1::\n")
    services.set_password(account(None))
    assert len(commands.ran) == 1


def test_a_previous_administrator_is_locked_out(users: set[str], commands: Commands) -> None:
    before, now = settings(), settings()
    now["admin"]["user"] = "operator"
    users.add("operator")
    services.retire_admin(now, before)
    assert commands.ran == ["usermod --lock --expiredate 1 ubuntu"]
    services.retire_admin(now, now)
    assert len(commands.ran) == 1
