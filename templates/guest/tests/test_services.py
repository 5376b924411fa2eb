"""Services, from the table that lbctl sends to the unit that is started."""

from __future__ import annotations

import json

import pytest

from conftest import Commands, Files, golden
from lbctl_guest import services
from lbctl_guest.tools import Attempts, Failure
from samples import settings, settings_0_1

CHRONY = "/etc/chrony/chrony.conf"
PACKAGED = "pool 2.debian.pool.ntp.org iburst\nmakestep 1 3\nrtcsync\n"


def units(name: str) -> str:
    return settings()["service_table"][name]["unit"]


@pytest.mark.parametrize("name", golden("services.json"))
def test_every_service_that_lbctl_knows_is_started(
    name: str, files: Files, commands: Commands
) -> None:
    commands.fail("systemctl is-active")
    files.put("/usr/bin/fluentd", mode=0o755)
    services.apply_service(name, settings())
    started = [line for line in commands.of(units(name)) if "add-wants" not in line]
    assert started[-1].split()[1] in ("start", "restart", "reload-or-restart")
    assert commands.of(f"add-wants multi-user.target {units(name)}")


def test_the_services_with_code_are_services_that_lbctl_knows() -> None:
    assert set(services.SPECIAL) <= set(golden("services.json"))


def test_a_service_without_code_needs_only_its_row(files: Files, commands: Commands) -> None:
    conf = settings("keepalived")
    conf["service_table"]["keepalived"] = {"unit": "keepalived.service", "on_change": "reload"}
    path = "/etc/keepalived/keepalived.conf"
    conf["files"].append({"path": path, "mode": "0644", "owner": "root", "affects": "keepalived"})
    files.put(path, "one")
    services.apply_service("keepalived", conf)
    services.apply_service("keepalived", conf)
    files.put(path, "two")
    services.apply_service("keepalived", conf)
    asked = [line for line in commands.of("keepalived.service") if "add-wants" not in line]
    assert [line.split()[1] for line in asked] == [
        "reload-or-restart",
        "start",
        "reload-or-restart",
    ]


def test_one_service_that_fails_does_not_stop_the_others(files: Files, commands: Commands) -> None:
    conf = settings("docker", "unheard-of", "chrony", "node-exporter")
    files.put("/etc/docker/daemon.json", "[1, 2]")
    commands.fail("systemctl restart chrony.service", "no such unit")
    attempts = Attempts()
    services.apply(conf, attempts)
    docker, unknown, chrony = attempts.failures
    assert docker.startswith("docker: ")
    assert unknown == "unheard-of: lbctl's program in this guest does not know this service"
    assert chrony.startswith("chrony: systemctl restart chrony.service: exit 1: no such unit")
    assert commands.ran[-1] == "systemctl start prometheus-node-exporter.service"


# ---- chrony


def test_the_packages_sources_give_way_to_lbctls() -> None:
    ours = b"server ntp.example iburst\n"
    assert services.chrony_conf(PACKAGED.encode(), ours) == (
        b"#lbctl# pool 2.debian.pool.ntp.org iburst\nmakestep 1 3\nrtcsync\n"
    )
    assert services.chrony_conf(PACKAGED.encode(), b"makestep 0.5 -1\n") == (
        b"pool 2.debian.pool.ntp.org iburst\n#lbctl# makestep 1 3\nrtcsync\n"
    )


def test_the_packages_settings_come_back() -> None:
    ours = b"pool ntp.example\nmakestep 0.5 -1\n"
    once = services.chrony_conf(PACKAGED.encode(), ours)
    assert once.count(b"#lbctl# ") == 2
    assert services.chrony_conf(once, ours) == once
    assert services.chrony_conf(once, b"# Rendered by lbctl.\n") == PACKAGED.encode()


def test_chrony_is_restarted_for_a_change_only(files: Files, commands: Commands) -> None:
    files.put(CHRONY, PACKAGED)
    files.put("/etc/chrony/sources.d/lbctl.sources", "server ntp.example\n")
    conf = settings("chrony")
    services.apply_chrony(conf)
    assert commands.of("restart chrony.service")
    assert "#lbctl# pool" in files.text(CHRONY)
    commands.ran.clear()
    services.apply_chrony(conf)
    assert commands.of("restart") == []


def test_chrony_that_is_not_wanted_keeps_its_packages_settings(
    files: Files, commands: Commands
) -> None:
    files.put(CHRONY, "#lbctl# " + PACKAGED)
    services.switch_off("chrony", settings("haproxy"))
    assert files.text(CHRONY) == PACKAGED
    assert commands.of("disable") == []
    assert commands.of("restart chrony.service")


# ---- Docker and fluentd


def test_docker_keeps_the_images_settings(files: Files, commands: Commands) -> None:
    files.put("/etc/docker/daemon.json", '{"debug": true}')
    files.put("/etc/lbctl/docker-daemon.json", '{"live-restore": true}')
    files.put("/etc/lbctl/docker/registry-ca.crt", "the CA\n")
    conf = settings("docker")
    services.apply_docker(conf)
    wanted = {"debug": True, "live-restore": True}
    assert json.loads(files.text("/etc/docker/daemon.json")) == wanted
    assert files.text("/etc/docker/certs.d/registry.example:5000/ca.crt") == "the CA\n"
    assert commands.ran[-1] == "systemctl reload-or-restart docker.service"
    services.apply_docker(conf)
    assert commands.ran[-1] == "systemctl start docker.service"


def test_fluentd_is_installed_where_it_may_be(files: Files, commands: Commands) -> None:
    conf = settings("fluentd")
    commands.fail("apt-cache show fluent-package")
    services.apply_fluentd(conf)
    assert commands.of("useradd")
    assert len(commands.of("gem install")) == 2
    conf["install"] = False
    with pytest.raises(Failure, match=r"forbids installing"):
        services.apply_fluentd(conf)


def test_a_service_that_is_not_wanted_is_stopped(commands: Commands) -> None:
    conf = settings("haproxy")
    for name in golden("services.json"):
        services.switch_off(name, conf)
    stopped = {line.split()[-1] for line in commands.of("disable --now")}
    stay = ("docker", "haproxy", "chrony")
    assert stopped == {units(name) for name in golden("services.json") if name not in stay}


def test_a_table_is_found_on_either_side() -> None:
    now, before = settings("haproxy"), settings_0_1()
    assert "service_table" not in before
    assert services.with_table(before, now)["service_table"] == now["service_table"]
    assert services.with_table(now, before)["service_table"] == now["service_table"]
    assert services.with_table(before, before)["service_table"] == {}
