"""The administrator's keys and password."""

from __future__ import annotations

from conftest import Commands, Files
from lbctl_guest import additions, services
from lbctl_guest.wire import AdminAccount, Settings
from samples import settings

KEYS = "/home/ubuntu/.ssh/authorized_keys"


def with_keys(*keys: str) -> Settings:
    conf = settings()
    conf["admin"]["keys"] = list(keys)
    return conf


def wanted_keys(conf: Settings, *ours: str) -> str | None:
    """Where lbctl has added these before."""
    if ours:
        additions.settle_lines(KEYS, list(ours))
    found = services.authorized_keys(conf)
    if not found:
        return None
    content = found[0].content
    assert isinstance(content, bytes)
    return content.decode()


def test_a_first_key_makes_the_file_for_its_user_alone(files: Files) -> None:
    (new,) = services.authorized_keys(with_keys("key one"))
    assert (new.path, new.content, new.mode, new.ids) == (KEYS, b"key one\n", 0o600, (1000, 1000))
    assert files.mode("/home/ubuntu/.ssh") == 0o700
    assert files.owners["/home/ubuntu/.ssh"] == (1000, 1000)


def test_lbctls_old_keys_go_and_everybody_elses_stay(files: Files) -> None:
    files.put(KEYS, "of somebody\nkey one\n# a remark\nkey two\n")
    now = with_keys("key two", "key three")
    expected = "of somebody\n# a remark\nkey two\nkey three\n"
    assert wanted_keys(now, "key one", "key two") == expected


def test_keys_that_are_right_are_not_touched(files: Files) -> None:
    for text in ("of somebody\nkey one\n", "key one"):
        files.put(KEYS, text)
        assert wanted_keys(with_keys("key one"), "key one") is None


def test_a_first_lbctl_takes_no_key_away(files: Files) -> None:
    files.put(KEYS, "of somebody\n")
    assert wanted_keys(with_keys("key one")) == "of somebody\nkey one\n"


def test_a_key_is_one_line_whatever_else_looks_like_the_end_of_one(files: Files) -> None:
    odd = "key bob\u2028key hidden\x0b\x85x"
    files.put(KEYS, "of somebody\n" + odd + "\n")
    assert wanted_keys(with_keys(odd), odd) is None
    assert wanted_keys(with_keys("key one"), odd) == "of somebody\nkey one\n"


def test_a_key_that_lbctl_0_1_made_two_of_goes_whole(files: Files) -> None:
    odd = "key bob\u2028key hidden"
    files.put(KEYS, "of somebody\nkey bob\nkey hidden\n")
    additions.adopt(with_keys(odd), services.keys_of)
    assert wanted_keys(with_keys("key one")) == "of somebody\nkey one\n"


def test_an_administrator_who_is_not_there_yet_gets_no_file(users: set[str]) -> None:
    users.clear()
    assert wanted_keys(with_keys("key one"), "key two") is None


def test_a_previous_administrator_keeps_only_the_keys_of_others(
    files: Files, users: set[str]
) -> None:
    files.put(KEYS, "of somebody\nkey one\n", 0o600)
    additions.settle_lines(KEYS, ["key one"])
    now = with_keys("key one")
    now["admin"]["user"] = "operator"
    users.add("operator")
    services.take_back(now)
    assert (files.text(KEYS), files.mode(KEYS)) == ("of somebody\n", 0o600)


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
