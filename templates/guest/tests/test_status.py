"""What HAProxy, cloud-init and a certificate say, and what is read from it."""

from __future__ import annotations

import base64

import pytest

from conftest import Commands, Files, HaproxySocket
from lbctl_guest import status
from lbctl_guest.paths import CLIENT_PEM
from samples import CLIENT, DOWN, INFO, LATER, SLOT, UP, stat

ENDS = "Dec  2 19:36:58 2026 GMT"


# ---- HAProxy's CSV


def test_a_server_is_read_from_its_row() -> None:
    assert status.servers(stat(UP)) == [
        {
            "backend": "primary",
            "name": "node2",
            "address": "10.77.0.12",
            "state": "UP",
            "check": "L7OK",
            "check_code": 200,
            "check_detail": "OK",
            "last_change_s": 772,
            "sessions": 12,
        }
    ]


def test_a_slot_without_an_address_and_a_place_to_wait_are_no_servers() -> None:
    assert [s["name"] for s in status.servers(stat(LATER, UP, SLOT, DOWN))] == ["node2", "node1"]


@pytest.mark.parametrize("words", ["a,b,UP", 'a ""quoted"" one', "x\u2028y", "x\x0by", "\x1b[2J"])
def test_what_a_node_answers_stays_in_its_field(words: str) -> None:
    row = DOWN.replace("Service Unavailable", words)
    evil, good = status.servers(stat(row, UP))
    assert evil["check_detail"] == words.replace('""', '"')
    assert (good["name"], good["state"]) == ("node2", "UP")


@pytest.mark.parametrize("text", ["", "\0", "# ", '"', "# a,b\n1", "#\n\n\n", "\n" * 9])
def test_an_answer_that_is_no_table_has_no_servers(text: str) -> None:
    assert status.servers(text) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("0", 0), ("-1", None), ("", None), (None, None), ("x", None), ("9" * 30, None)],
)
def test_numbers_are_those_that_every_reader_can_hold(text: str | None, value: int | None) -> None:
    assert status.number(text) == value


def test_haproxy_as_its_socket_shows_it(commands: Commands, admin_socket: HaproxySocket) -> None:
    admin_socket.answers.update({"show info": INFO, "show stat": stat(UP, DOWN)})
    found = status.haproxy_status()
    assert (found["active"], found["version"], found["error"]) == (True, "2.6.12", None)
    assert (found["sessions"], found["max_connections"]) == (13, 2064)
    assert (found["servers_up"], found["primary"], found["held"]) == (1, "10.77.0.12", None)
    admin_socket.answers["show lbctl"] = "held: 3\n\n"
    assert status.haproxy_status()["held"] == 3


def test_with_two_primaries_there_is_none(admin_socket: HaproxySocket) -> None:
    admin_socket.answers["show stat"] = stat(UP, UP.replace("node2", "node3"))
    found = status.haproxy_status()
    assert (found["servers_up"], found["primary"]) == (2, None)


def test_without_haproxy_there_is_an_error(commands: Commands) -> None:
    commands.fail("systemctl is-active")
    found = status.haproxy_status()
    assert (found["active"], found["servers"]) == (False, [])
    assert found["error"]


# ---- cloud-init


def test_cloud_inits_state_is_read_from_its_files(files: Files) -> None:
    assert status.cloud_init()["status"] == "not started"
    files.put("/run/cloud-init/status.json", '{"v1": {"stage": "init", "init": {"errors": []}}}')
    assert status.cloud_init() == {"status": "running", "stage": "init", "errors": []}
    files.put("/run/cloud-init/result.json", "{}")
    assert status.cloud_init()["status"] == "done"
    files.put("/run/cloud-init/status.json", '{"v1": {"init": {"errors": ["no space"]}}}')
    assert status.cloud_init() == {"status": "error", "stage": None, "errors": ["no space"]}


def test_cloud_init_may_be_disabled(files: Files) -> None:
    files.put("/run/cloud-init/disabled")
    assert status.cloud_init()["status"] == "disabled"


# ---- certificates


def test_a_certificate_is_read_from_a_pem(files: Files) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    files.put(CLIENT_PEM, key + CLIENT)
    assert status.on_disk() == {"serial": "abcdef01", "not_after": "2052-11-29T13:56:41Z"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----",
    ],
)
def test_a_damaged_certificate_is_none(text: str, files: Files) -> None:
    files.put(CLIENT_PEM, text)
    assert status.on_disk() is None


def item(tag: int, *content: bytes) -> bytes:
    data = b"".join(content)
    if len(data) < 0x80:
        return bytes([tag, len(data)]) + data
    return bytes([tag, 0x82]) + len(data).to_bytes(2, "big") + data


@pytest.mark.parametrize(
    ("after", "tag", "expected"),
    [
        (b"491231235959Z", 0x17, "2049-12-31T23:59:59Z"),
        (b"500101000000Z", 0x17, "1950-01-01T00:00:00Z"),
        (b"21261029161816Z", 0x18, "2126-10-29T16:18:16Z"),
    ],
)
def test_both_forms_of_a_date_are_read(after: bytes, tag: int, expected: str) -> None:
    validity = item(0x30, item(0x17, b"200101000000Z"), item(tag, after))
    serial, algorithm, issuer = item(2, b"\0\x80\x01"), item(0x30), item(0x30, b"x" * 300)
    tbs = item(0x30, item(0xA0, item(2, b"\2")), serial, algorithm, issuer, validity)
    found = status.certificate(item(0x30, tbs, item(0x30)))
    assert found == {"serial": "8001", "not_after": expected}


def test_a_real_der_is_what_openssl_reads() -> None:
    der = base64.b64decode("".join(CLIENT.splitlines()[1:-1]))
    assert status.certificate(der)["serial"] == "abcdef01"


def test_the_certificate_in_use_is_the_one_that_haproxy_shows(admin_socket: HaproxySocket) -> None:
    shown = f"Filename: {CLIENT_PEM}\nSerial: 4781365D\nnotAfter: {ENDS}\n"
    admin_socket.answers[f"show ssl cert {CLIENT_PEM}"] = shown
    assert status.in_use() == {"serial": "4781365d", "not_after": "2026-12-02T19:36:58Z"}


def test_without_haproxy_no_certificate_is_in_use() -> None:
    assert status.in_use() is None
