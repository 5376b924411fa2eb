"""What a starting or reloading HAProxy gets to know of its servers."""

from __future__ import annotations

import pytest

from lbctl_guest import server_state
from lbctl_guest.server_state import at_start, configured, handed_over

CONFIG = """backend primary
    load-server-state-from-file global
    server later1 127.0.0.1:1 backup
    default-server check port 8008
    server pg-1 192.0.2.1
    server pg-2 [2001:db8::2]:5433 port 8009
    server pg-3 pg3.example.com:5432 init-addr last,libc,none
    server pg-4 pg4.example.com:5432 init-addr last,none resolvers dns resolve-prefer ipv4

backend rest
    server pg-1 192.0.2.1:8008 track primary/pg-1 maxconn 2

backend standbys
    load-server-state-from-file global
    server-template replica 1-2 pg.example.com:5432

frontend metrics
    bind 0.0.0.0:8405
"""


def line(name: str, address: str, fqdn: str = "-", port: int = 0, backend: str = "primary") -> str:
    return f"3 {backend} 1 {name} {address} 2 0 1 1 772 15 3 4 6 0 0 0 {fqdn} {port} - 0 0 - - 0"


REST = """backend rest
    load-server-state-from-file global
    use-server pg-1 if { srv_is_up(primary/pg-1) }
    server pg-1 192.0.2.1:8008 track primary/pg-1 maxconn 2
    server pg-2 pg2.example.com:8008 track primary/pg-2 maxconn 2 init-addr last,none resolvers dns
"""


def state(*lines: str) -> str:
    return "\n".join(["1", server_state.HEAD, *lines]) + "\n"


def found(text: str) -> dict[str, tuple[str, str, str]]:
    """Address, state and port of each server, by backend and name."""
    lines = [one.split(" ") for one in text.split("\n") if one and not one.startswith(("#", "1"))]
    lines += [one.split(" ") for one in text.split("\n") if one.startswith("1 ")]
    return {f"{words[1]}/{words[3]}": (words[4], words[5], words[18]) for words in lines}


def test_servers_are_read_from_the_configuration() -> None:
    servers = configured(CONFIG)
    assert {f"{b}/{n}": (s.host, s.port, s.at_run_time) for (b, n), s in servers.items()} == {
        "primary/pg-1": ("192.0.2.1", "0", False),
        "primary/pg-2": ("2001:db8::2", "5433", False),
        "primary/pg-3": ("pg3.example.com", "5432", False),
        "primary/pg-4": ("pg4.example.com", "5432", True),
        "standbys/replica1": ("pg.example.com", "5432", True),
        "standbys/replica2": ("pg.example.com", "5432", True),
    }
    assert configured("") == {}


def test_a_reload_keeps_what_is_known_of_the_same_machine_and_nothing_else() -> None:
    before = state(
        line("pg-1", "192.0.2.1", port=5432),
        line("pg-2", "2001:db8::9"),
        line("pg-3", "192.0.2.3", "PG3.example.com"),
        line("pg-4", "192.0.2.4", "other.example.com"),
        line("replica1", "192.0.2.5", "pg.example.com", 6432, "standbys"),
        line("gone", "192.0.2.9"),
    )
    after = found(handed_over(before, CONFIG))
    # The port of the configuration counts: HAProxy prefers that of the state.
    assert after["primary/pg-1"] == ("192.0.2.1", "2", "0")
    assert after["standbys/replica1"] == ("192.0.2.5", "2", "5432")
    assert after["primary/pg-3"] == ("192.0.2.3", "2", "5432")
    # These are other machines now.
    assert after["primary/pg-2"][1] == after["primary/pg-4"][1] == "0"
    assert after["primary/gone"] == ("192.0.2.9", "2", "0")


def test_a_new_server_is_down_until_it_is_checked() -> None:
    for text in (handed_over("1\n", CONFIG), at_start("1\n", CONFIG)):
        assert text.startswith(f"1\n{server_state.HEAD}\n")
        assert found(text) == {
            "primary/pg-1": ("192.0.2.1", "0", "0"),
            "primary/pg-2": ("2001:db8::2", "0", "5433"),
            "primary/pg-3": ("-", "0", "5432"),
        }
        columns = {len(one.split(" ")) for one in text.split("\n")[2:] if one}
        assert columns == {len(server_state.HEAD.split(" ")) - 1}


def test_a_cold_start_forgets_health_and_resolves_names_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = state(
        line("pg-1", "192.0.2.1"),
        line("pg-3", "192.0.2.3", "pg3.example.com"),
        line("pg-4", "192.0.2.4", "pg4.example.com"),
    )

    def getaddrinfo(name: str, _: object) -> list[object]:
        if name != "pg3.example.com":
            raise OSError
        return [(2, 1, 6, "", ("192.0.2.33", 0))]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    after = found(at_start(before, CONFIG, ["pg3.example.com", "gone.example.com"]))
    assert {state for _, state, _ in after.values()} == {"0"}
    assert after["primary/pg-3"][0] == "192.0.2.33"
    assert after["primary/pg-4"][0] == "192.0.2.4"
    # A resolver that fails leaves the address that is known.
    after = found(at_start(before, CONFIG, ["gone.example.com"]))
    assert after["primary/pg-3"][0] == "192.0.2.3"


def test_a_server_that_follows_another_has_a_state_of_its_own() -> None:
    before = state(
        line("pg-1", "192.0.2.1", port=8008, backend="rest"),
        line("pg-2", "192.0.2.2", "pg2.example.com", 8008, "rest"),
    )
    after = found(handed_over(before, REST))
    assert after["rest/pg-1"] == ("192.0.2.1", "2", "8008")
    assert after["rest/pg-2"] == ("192.0.2.2", "2", "8008")
    # From HAProxy 3.1 on it would be up without one, and stay so.
    assert found(handed_over("1\n", REST))["rest/pg-1"] == ("192.0.2.1", "0", "8008")
    assert found(at_start(before, REST))["rest/pg-2"] == ("192.0.2.2", "0", "8008")
