"""The boot: what is missing is reported, and the rest is done."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import pytest

from conftest import Commands, Files
from lbctl_guest import boot
from lbctl_guest.converge import locked
from lbctl_guest.haproxy import IN_USE
from lbctl_guest.paths import APPLIED, SETTINGS
from lbctl_guest.services import OWN_UNITS
from lbctl_guest.tools import Failure
from lbctl_guest.wire import Settings
from samples import install_all, settings, settings_0_1, settings_of, spec

UNIT = "/etc/systemd/system/haproxy.service"


def seed(files: Files, conf: Settings) -> None:
    """What cloud-init has written, at a first boot."""
    install_all(files, spec())
    files.path(APPLIED).unlink()
    files.put(SETTINGS, json.dumps(conf))
    files.put("/usr/bin/fluentd", mode=0o755)


def started(commands: Commands) -> set[str]:
    """The units that were started in any way."""
    verbs = ("start", "restart", "reload-or-restart")
    lines = (line.split() for line in commands.of("systemctl"))
    return {words[2] for words in lines if words[1] in verbs}


ALL = {facts["unit"] for facts in settings()["service_table"].values()} | {
    *OWN_UNITS,
    "qemu-guest-agent.service",
}


def test_a_boot_starts_everything_and_remembers_it(files: Files, commands: Commands) -> None:
    seed(files, settings())
    commands.fail("systemctl is-active")
    boot.boot()
    assert started(commands) == ALL
    assert json.loads(files.text(APPLIED)) == settings()


def test_a_service_that_fails_is_reported_and_the_rest_starts(
    files: Files, commands: Commands
) -> None:
    seed(files, settings())
    commands.fail("systemctl is-active")
    commands.fail("systemctl restart prometheus-node-exporter.service", "no such unit")
    commands.answers["systemctl restart chrony.service"] = RuntimeError("unforeseen")
    with pytest.raises(Failure) as failure:
        boot.boot()
    assert str(failure.value).splitlines() == [
        "node-exporter: systemctl restart prometheus-node-exporter.service: exit 1: no such unit",
        "chrony: RuntimeError('unforeseen')",
    ]
    assert started(commands) == ALL
    # So that the next change or boot tries them again.
    assert not files.has(APPLIED)


def test_an_unknown_service_is_reported_and_the_rest_starts(
    files: Files, commands: Commands
) -> None:
    conf = settings()
    conf["services"] = ["unheard-of", *conf["services"]]
    seed(files, conf)
    commands.fail("systemctl is-active")
    with pytest.raises(Failure, match=r"^unheard-of: lbctl's program in this guest does not know"):
        boot.boot()
    assert started(commands) == ALL


@pytest.mark.parametrize(
    "entry",
    [entry["path"] for entry in spec()["files"] if entry["path"] != SETTINGS],
)
def test_without_any_one_file_everything_is_started(
    entry: str, files: Files, commands: Commands
) -> None:
    seed(files, settings())
    files.path(entry).unlink()
    commands.fail("systemctl is-active")
    with contextlib.suppress(Failure):
        boot.boot()
    assert started(commands) == ALL


def test_the_watchdog_is_fed_from_the_first_boot_on(files: Files, commands: Commands) -> None:
    seed(files, settings())
    commands.fail("busctl", "no such property")
    boot.boot()
    (told,) = commands.of("busctl set-property")
    assert told.endswith("systemd1.Manager RuntimeWatchdogUSec t 120000000")


def test_a_manager_that_does_not_answer_stops_nothing(files: Files, commands: Commands) -> None:
    seed(files, settings())
    commands.fail("systemctl is-active")
    commands.fail("systemctl daemon-reload", "no answer within 300 s")
    with pytest.raises(Failure, match=r"^systemd: systemctl daemon-reload: "):
        boot.boot()
    assert started(commands) == ALL


def test_what_an_earlier_seed_brought_is_removed(files: Files, commands: Commands) -> None:
    seed(files, settings("haproxy"))
    files.put(APPLIED, json.dumps(settings_0_1()))
    old = "/usr/local/lib/lbctl/guest_tools.py"
    files.put(old, "of lbctl 0.1")
    boot.boot()
    assert not files.has(old)
    assert commands.of("disable --now fluentd.service")
    assert json.loads(files.text(APPLIED)) == settings("haproxy")


def test_what_cannot_be_removed_does_not_stop_the_boot(files: Files, commands: Commands) -> None:
    seed(files, settings("haproxy"))
    before = settings_of(spec())
    before["files"].append(
        {"path": "/etc/lbctl/folder", "mode": "0644", "owner": "root", "affects": "guest"}
    )
    before["admin"]["user"] = "former"
    files.put(APPLIED, json.dumps(before))
    files.put("/etc/lbctl/folder/something")
    commands.fail("systemctl is-active")
    with pytest.raises(Failure, match=r"^removing /etc/lbctl/folder: "):
        boot.boot()
    assert "haproxy.service" in started(commands)


def test_the_manager_is_reloaded_only_where_it_knows_an_older_unit(
    files: Files, commands: Commands
) -> None:
    conf = settings()
    units = [e["path"] for e in conf["files"] if e["path"].startswith("/etc/systemd/system/")]
    drop_ins = [path for path in units if path.endswith(".conf")]
    assert drop_ins
    fresh = [
        f"FragmentPath=/lib/systemd/system/x.service\nDropInPaths=/etc/other {path}\n"
        "NeedDaemonReload=no\n"
        if path in drop_ins
        else f"FragmentPath={path}\nDropInPaths=\nNeedDaemonReload=no\n"
        for path in units
    ]
    commands.answer("systemctl show", "\n".join(fresh))
    boot.reload_manager(conf)
    assert commands.of("daemon-reload") == []
    stale = [text.replace("=no", "=yes") if UNIT in text else text for text in fresh]
    commands.answer("systemctl show", "\n".join(stale))
    boot.reload_manager(conf)
    assert commands.of("daemon-reload")
    assert files.text(IN_USE) == "{}"
    # HAProxy was started before its drop-in was there.
    files.put(IN_USE, "something")
    without = [text.replace(" /etc/systemd/system/haproxy.service.d", " /x") for text in fresh]
    commands.answer("systemctl show", "\n".join(without))
    boot.reload_manager(conf)
    assert files.text(IN_USE) == "{}"
    # An answer that is cut off is not taken for a good one.
    commands.ran.clear()
    commands.answer("systemctl show", fresh[0])
    boot.reload_manager(conf)
    assert commands.of("daemon-reload")


# ---- beside cloud-init's last stages


def early_seed(files: Files, commands: Commands) -> None:
    conf = settings("haproxy", "chrony")
    conf["install"] = False
    seed(files, conf)
    files.path("/run/cloud-init/result.json").unlink()
    commands.fail("systemctl is-active")


def test_what_began_early_is_not_done_again(files: Files, commands: Commands) -> None:
    early_seed(files, commands)
    boot.early()
    assert {"haproxy.service", "chrony.service", *OWN_UNITS} <= started(commands)
    assert json.loads(files.text(APPLIED))["services"] == ["haproxy", "chrony"]
    commands.ran.clear()
    boot.boot()
    assert commands.ran == []
    # An operator who runs it again means it.
    boot.boot()
    assert "haproxy.service" in started(commands)


def test_an_early_boot_that_comes_late_does_nothing(files: Files, commands: Commands) -> None:
    early_seed(files, commands)
    files.put("/run/cloud-init/result.json")
    boot.early()
    assert commands.ran == []


def test_what_failed_early_is_tried_again(files: Files, commands: Commands) -> None:
    early_seed(files, commands)
    commands.fail("systemctl restart chrony.service", "not yet")
    with pytest.raises(Failure, match="not yet"):
        boot.early()
    commands.answer("systemctl restart chrony.service")
    commands.ran.clear()
    boot.boot()
    assert commands.of("restart chrony.service")
    assert json.loads(files.text(APPLIED))["services"] == ["haproxy", "chrony"]


@pytest.mark.parametrize("path", [SETTINGS, "/etc/haproxy/haproxy.cfg"])
def test_a_file_that_came_later_is_applied(path: str, files: Files, commands: Commands) -> None:
    early_seed(files, commands)
    boot.early()
    files.put(path, files.text(path) + "\n")
    commands.ran.clear()
    boot.boot()
    assert "haproxy.service" in started(commands)


def test_the_end_of_the_early_boot_is_waited_for(files: Files, commands: Commands) -> None:
    early_seed(files, commands)
    ended = False

    def early() -> None:
        nonlocal ended
        with locked():
            begun.set()
            time.sleep(0.5)
            ended = True

    begun = threading.Event()
    other = threading.Thread(target=early)
    other.start()
    begun.wait()
    with pytest.raises(Failure, match="another change of this guest runs for over 0 s"):
        locked(0).__enter__()
    boot.boot()
    assert ended
    other.join()
