"""The documents that lbctl and this program exchange, as types. Python 3.10 or newer, standard
library only.

Never imported when the program runs: `typing` takes a slow guest longer than all the rest of a
`status`. The other side of each is in Rust, and tests on both sides read one golden document."""

from __future__ import annotations

from typing import Literal, TypedDict

# ---- what lbctl writes


class ServiceFacts(TypedDict):
    """What there is to know of a service, for one that needs no code of its own."""

    unit: str
    # How the running service learns that its files changed.
    on_change: Literal["nothing", "reload", "restart"]


class AdminKeys(TypedDict):
    user: str
    # Lines of `authorized_keys`: lbctl's. There may be others beside them.
    keys: list[str]


class ProbeNode(TypedDict):
    """A node that the configuration lists."""

    name: str
    # Or host name.
    address: str
    port: int
    verify_host: str | None


class ProbeTarget(TypedDict):
    """How to ask a node whether it accepts a certificate."""

    port: int
    host: str
    verify_host: str | None
    tls: Literal["mutual", "server", "off"]
    # Empty: they are those that HAProxy knows, all with this port and name.
    nodes: list[ProbeNode]


class SharedPeer(TypedDict):
    """Another VM that shares the address."""

    address: str
    # None: its card's is learned.
    mac: str | None


class SharedAddress(TypedDict):
    """The address that several VMs share."""

    address: str
    # The VM's own, by which the peers know it.
    own: str
    # Of the card that carries both.
    mac: str
    # Of UDP.
    port: int
    # Where clients come.
    ports: list[int]
    peers: list[SharedPeer]
    router_id: int
    detection_ms: int
    # 0: sessions are cut as the address moves.
    drain_ms: int


class FileFacts(TypedDict):
    path: str
    # Octal.
    mode: str
    owner: Literal["root", "haproxy", "fluentd"]
    # A service, or `guest`, or `haproxy-unit`.
    affects: str


class Settings(TypedDict):
    """`/etc/lbctl/guest.json`. Another version of lbctl may have written the settings that were
    applied before: any key may be missing there, as `service_table` is in those of lbctl 0.1."""

    schema: int
    name: str
    runtime: Literal["package", "container"]
    image: str | None
    registry: str | None
    pull_image: bool
    nofile: int
    install: bool
    # Those that are wanted, in the order of starting.
    services: list[str]
    # All that lbctl knows, also those that are not wanted.
    service_table: dict[str, ServiceFacts]
    admin: AdminKeys
    probe: ProbeTarget
    # Host names of nodes that nobody resolves later.
    resolved_at_start: list[str]
    settle_s: float
    virtual_ip: SharedAddress | None
    files: list[FileFacts]


class SpecFile(TypedDict):
    path: str
    content: str
    secret: bool
    mode: int
    owner: Literal["root", "haproxy", "fluentd"]
    affects: str


class AdminAccount(TypedDict):
    user: str
    # As crypt(5) writes it. None: the account has no password.
    password_hash: str | None
    public_keys: list[str]


class Start(TypedDict):
    image: str | None
    nofile: int


class SharedIdentity(TypedDict):
    address: str
    router_id: int


class Spec(TypedDict):
    """What the guest is to be. Without a shared address it has no `virtual_ip`."""

    schema: int
    name: str
    admin: AdminAccount
    packages: list[str]
    start: Start
    files: list[SpecFile]
    virtual_ip: SharedIdentity


class Task(TypedDict):
    """What `converge` reads. `only`: these files and nothing else; empty: everything. `despite`:
    addresses of nodes that have no vote on a new certificate. The programs that come with it have
    been unpacked by then."""

    # Those that are not among the spec's files, or are other ones there.
    programs: dict[str, str]
    only: list[str]
    despite: list[str]
    spec: Spec


# ---- what lbctl reads


class Done(TypedDict):
    """The answer to `converge`."""

    ok: Literal[True]
    notes: list[str]


class Refused(TypedDict):
    """The other answer. `restored`: the guest is unchanged."""

    ok: Literal[False]
    error: str
    restored: bool


class CloudInit(TypedDict):
    status: Literal["not started", "running", "done", "error", "disabled"]
    stage: str | None
    errors: list[str]


class Server(TypedDict):
    backend: str
    name: str
    address: str | None
    state: str
    check: str | None
    check_code: int | None
    check_detail: str | None
    last_change_s: int | None
    sessions: int | None


class Haproxy(TypedDict):
    active: bool
    version: str | None
    sessions: int | None
    max_connections: int | None
    # Clients that wait for a primary. None: this HAProxy has no Lua, so none waits.
    held: int | None
    servers: list[Server]
    servers_up: int
    # Address of the one server that is up.
    primary: str | None
    error: str | None


class CertificateFacts(TypedDict):
    # Lower-case hexadecimal.
    serial: str
    # RFC 3339.
    not_after: str


class Certificates(TypedDict):
    on_disk: CertificateFacts | None
    in_use: CertificateFacts | None


class PeerStatus(TypedDict):
    address: str
    alive: bool
    held: bool
    weight: int | None
    # Whether it has the same address, router_id and detection.
    agrees: bool


class VirtualIpStatus(TypedDict):
    """The shared address, as this VM sees it."""

    address: str
    held: bool
    # 0: ready, -20: no primary seen, -50: stepped back, -254: HAProxy does not run.
    weight: int | None
    # Of clients that came by the address, in this VM.
    sessions: int | None
    stepped_back: bool
    # The MAC address of a machine that is none of the VMs and has the address, for which this one
    # does not take it.
    taken_by: str | None
    peers: list[PeerStatus]
    error: str | None


class Yielded(TypedDict):
    """The answer to `yield` and `unyield`."""

    ok: bool
    # Who has the address now.
    holder: str | None
    reason: Literal["no-spare", "not-taken"] | None
    error: str | None


class Status(TypedDict):
    boot_id: str
    uptime_s: float
    cloud_init: CloudInit
    haproxy: Haproxy
    certificate: Certificates
    virtual_ip: VirtualIpStatus | None
    ready: bool


class WaitCloudInit(TypedDict):
    status: Literal["not started", "running", "done", "error", "disabled"]
    errors: list[str]


class WaitHaproxy(TypedDict):
    servers_up: int
    primary: str | None


class WaitStatus(TypedDict):
    """What `wait.py` prints: a part of a `Status`."""

    cloud_init: WaitCloudInit
    ready: bool
    haproxy: WaitHaproxy
