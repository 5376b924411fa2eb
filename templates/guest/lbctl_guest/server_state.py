"""What HAProxy gets to know of its servers when it starts or reloads (management guide 9.3, "show
servers state"): never what was true of another machine, and of no machine that it is up before it
was checked. Python 3.10 or newer, standard library only."""

from __future__ import annotations

import re
import socket
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Iterable

    # By backend and name.
    Configured = dict[tuple[str, str], "ConfiguredServer"]

NOTHING = "1\n"
HEAD = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight"
    " srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state"
    " srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl"
    " srv_check_port srv_check_addr srv_agent_addr srv_agent_port"
)
BACKEND, SERVER, ADDRESS, STATE, FQDN, PORT, CHECK_PORT = 1, 3, 4, 5, 17, 18, 21
# Of a server of whom nothing is known: down, of weight 1, with a check that has not begun: 1 in the
# column srv_check_status. With 0 there HAProxy 2.6 never ends the first check.
UNKNOWN = "0 {} 0 {} {} 0 0 1 1 0 1 0 0 6 0 0 0 {} {} - 0 0 - - 0"
DOWN = "0"
# For all lookups together.
PATIENCE = 3.0


class ConfiguredServer:
    """What haproxy.cfg says of a server."""

    def __init__(self, address: str, options: str) -> None:
        host, port = split(address)
        self.host = host.lower()
        # 0: the one that the client came to.
        self.port = port or "0"
        self.ip = ip_address(host)
        self.at_run_time = " resolvers " in f" {options} "

    def is_at(self, words: list[str]) -> bool:
        """Whether a line of the state is about the machine that is meant."""
        if self.ip is None:
            return words[FQDN].lower() == self.host
        return ip_address(words[ADDRESS]) == self.ip


def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    # Read by few commands: see `digest` in tools.
    import ipaddress

    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def split(address: str) -> tuple[str, str]:
    """Host and port, as in haproxy.cfg."""
    found = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+)(?::(\d+))?", address)
    if not found:
        return address, ""
    return found[1] or found[3], found[2] or found[4] or ""


def configured(text: str) -> Configured:
    """The servers of the backends whose state is loaded. Places to wait are none."""
    found: Configured = {}
    backend, loads = "", False
    for line in text.split("\n"):
        words = line.split()
        if line[:1] not in ("", " ", ".", "#"):
            backend, loads = words[1] if words[0] == "backend" else "", False
        elif words[:1] == ["load-server-state-from-file"]:
            loads = True
        elif loads and words[:1] == ["server"] and "backup" not in words:
            found[backend, words[1]] = ConfiguredServer(words[2], " ".join(words[3:]))
        elif loads and words[:1] == ["server-template"]:
            template = ConfiguredServer(words[3], " ".join(words[4:]))
            template.at_run_time = True
            for number in range(1, int(words[2].split("-")[-1]) + 1):
                found[backend, f"{words[1]}{number}"] = template
    return found


def handed_over(state: str, config: str) -> str:
    """For the worker that a reload starts: what is known of each machine, at its present port. A
    server that is another machine now, and one that is new, are down until they are checked."""
    return adapted(state, config, False, {})


def at_start(state: str, config: str, resolved: Iterable[str] = ()) -> str:
    """For a cold start: addresses, and no health. What was the primary may not be it now. The names
    that are `resolved` at the start are so once more, and keep their address where they cannot."""
    return adapted(state, config, True, lookup(resolved))


def adapted(state: str, config: str, cold: bool, found: dict[str, str]) -> str:
    servers = configured(config)
    kept = []
    for line in state.removesuffix("\n").split("\n"):
        words = line.split(" ")
        if line.startswith("#") or len(words) <= STATE:
            kept.append(line)
            continue
        # A place where connections wait has no state to hand over: it is always there.
        if words[SERVER].startswith("later"):
            continue
        # One that is cut off has nothing more to change.
        whole = len(words) > CHECK_PORT
        server = servers.pop((words[BACKEND], words[SERVER]), None) if whole else None
        if cold or (server and not server.is_at(words)):
            words[STATE] = DOWN
        if server:
            words[PORT] = server.port
            # That of haproxy.cfg: HAProxy would go on to ask where the node was asked before.
            words[CHECK_PORT] = "0"
            words[ADDRESS] = found.get(server.host, words[ADDRESS])
        kept.append(" ".join(words))
    new = [
        unknown(backend, name, server, found)
        for (backend, name), server in servers.items()
        if not server.at_run_time
    ]
    if new and not any(line.startswith("#") for line in kept):
        kept.append(HEAD)
    return "\n".join(kept + new) + "\n"


def unknown(backend: str, name: str, server: ConfiguredServer, found: dict[str, str]) -> str:
    address = str(server.ip) if server.ip else found.get(server.host, "-")
    return UNKNOWN.format(backend, name, address, "-" if server.ip else server.host, server.port)


def lookup(names: Iterable[str]) -> dict[str, str]:
    """Those that can be resolved in time. A resolver that says nothing must not hold up a start."""
    found: dict[str, str] = {}

    def ask(name: str) -> None:
        found[name.lower()] = address_of(name)

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return {name: address for name, address in list(found.items()) if address}


def address_of(name: str) -> str:
    try:
        return str(socket.getaddrinfo(name, None)[0][4][0])
    except OSError:
        return ""
