"""HAProxy in the guest, from its package or in its container: its state across restarts, its check,
start and reload, and changes at run time. Python 3.10 or newer, standard library only."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

from . import beside, listeners, predecessor, server_state, tracking
from .paths import (
    ADMIN_SOCKET,
    CA_PEM,
    CLIENT_PEM,
    HAPROXY,
    HAPROXY_CFG,
    HAPROXY_RUN,
    KEPT_STATES,
    MASTER_SOCKET,
    PROGRAM,
    SERVER_STATE,
    SETTINGS,
    STATE_FOLDER,
    at,
)
from .status import held, servers
from .tools import (
    CONTAINER_UID,
    DOCKER,
    Attempts,
    Failure,
    ask,
    complain,
    digest,
    enable,
    is_active,
    journal,
    make_folder,
    memory,
    own_files,
    read_bytes,
    read_json,
    remove,
    run,
    settings,
    systemctl,
    write,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .wire import Server, Settings

UNIT = predecessor.UNIT
# For how many seconds a reload waits for clients that wait themselves. Most outages are shorter.
PATIENCE = 60.0
CONTAINER = "haproxy"
# Exit code of `ports`, where a port is another program's. The units know it.
TAKEN = 3
# Of one certificate file, in bytes. HAProxy's buffer (tune.bufsize) has 16384.
MOST_ON_SOCKET = 15000
# Digests of what the running HAProxy has read.
IN_USE = predecessor.IN_USE
# It speaks to HAProxy's sockets and to nobody else. In the container runtime they are another
# user's, which takes CAP_DAC_OVERRIDE.
OLD_WORKERS_SANDBOX = (
    "CapabilityBoundingSet=CAP_DAC_OVERRIDE",
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "DevicePolicy=closed",
    "PrivateNetwork=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectControlGroups=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictAddressFamilies=AF_UNIX",
    "RestrictNamespaces=yes",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
)


def save_state() -> None:
    """For the next start."""
    keep_state(current_state())


def keep_state(text: str) -> None:
    """A disk that is full or read-only costs one of the copies and no more."""
    for path in KEPT_STATES:
        try:
            write(path, text)
        except OSError as problem:
            complain(f"cannot save the state of the servers to {path}: {problem.strerror}")


def current_state() -> str:
    text = ask(ADMIN_SOCKET, "show servers state")
    if not text.startswith("1\n"):
        raise Failure(f"HAProxy's answer to `show servers state` is not a state: {text[:80]!r}")
    return text


def hand_over_state(text: str) -> None:
    """To the worker that a reload starts. Without one it knows no server until it has checked them;
    with one of an earlier minute it would take a former primary for the primary."""
    try:
        write(SERVER_STATE, server_state.handed_over(text, haproxy_cfg()))
    except OSError as problem:
        complain(f"the next worker gets no state of the servers: {problem.strerror}")
        remove(SERVER_STATE)


def forget_health() -> None:
    """The file is always there afterwards: HAProxy warns if it is missing or empty."""
    texts = (read_bytes(path).decode("utf-8", "replace") for path in KEPT_STATES)
    text = next((text for text in texts if text.startswith("1\n")), server_state.NOTHING)
    names = (read_json(SETTINGS) or {}).get("resolved_at_start", [])
    write(SERVER_STATE, server_state.at_start(text, haproxy_cfg(), names))


def haproxy_cfg() -> str:
    return read_bytes(HAPROXY_CFG).decode("utf-8", "replace")


# ---- the configuration's check


def check_config(conf: Settings) -> None:
    check_staged(conf, HAPROXY)


def check_staged(conf: Settings, place: str) -> None:
    """HAProxy's verdict on the files in a folder that is to become /etc/haproxy."""
    staged = place != HAPROXY
    if conf["runtime"] == "container":
        if staged:
            for path in [place] + [f"{place}/{name}" for name in os.listdir(at(place))]:
                os.chown(at(path), CONTAINER_UID, CONTAINER_UID)
        options = [*container_options(place), conf["image"] or ""]
        argv = [*DOCKER, "run", "--rm", *options, "-c", "-f", HAPROXY_CFG]
    else:
        path = f"{place}/haproxy.cfg"
        if staged:
            there = read_bytes(path).replace(f"{HAPROXY}/".encode(), f"{place}/".encode())
            write(path, there, 0o600)
        argv = ["haproxy", "-c", "-f", path]
    code, text = run(*argv, timeout=300, check=False)
    if code != 0:
        raise Failure("HAProxy refuses the configuration: " + alerts(text).replace(place, HAPROXY))


def alerts(text: str) -> str:
    """Those of HAProxy, without the time and process number of each."""
    lines = [
        re.sub(r"^\[\w+\]\s+\(\d+\) : ", "", line) for line in text.split("\n") if "ALERT" in line
    ]
    return "; ".join(lines)[-1500:] or text.strip()[-1500:]


def is_installed(conf: Settings) -> bool:
    # Read by few commands: see `digest` in tools.
    import shutil

    return shutil.which("docker" if conf["runtime"] == "container" else "haproxy") is not None


def container_options(place: str = HAPROXY) -> list[str]:
    uid = str(CONTAINER_UID)
    return [
        *("--network", "host", "--user", f"{uid}:{uid}", "--read-only"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--volume", f"{place}:{HAPROXY}:ro"),
        # Where configurations of lbctl 0.1 have the state, to which a change may be put back.
        *("--volume", f"{STATE_FOLDER}:{STATE_FOLDER}:ro"),
        *("--volume", f"{HAPROXY_RUN}:{HAPROXY_RUN}", "--entrypoint", "haproxy"),
    ]


# ---- what the running HAProxy has read


def digests(conf: Settings) -> dict[str, str]:
    """They decide between nothing to do, a reload and a restart. What they are made of must stay
    as it is: another digest of `start` restarts HAProxy, and that cuts every session."""
    of_unit = digest(concerned(conf, "haproxy-unit"))
    start = of_unit + json.dumps([conf.get("image"), conf["nofile"]])
    config = digest(concerned(conf, "haproxy"))
    # Read by few commands: see `digest` in tools.
    import hashlib

    return {"config": config, "start": hashlib.sha256(start.encode()).hexdigest()}


def concerned(conf: Settings, name: str) -> list[str]:
    return [entry["path"] for entry in conf["files"] if entry["affects"] == name]


def remember_in_use(conf: Settings) -> None:
    write(IN_USE, json.dumps(digests(conf)))


# ---- start and reload


def prepare() -> None:
    """What the unit runs before HAProxy. Nothing that a disk refuses keeps HAProxy from starting:
    it starts with what there is."""
    attempts = Attempts()
    attempts.attempt("the state of the servers", forget_health)
    conf = settings()
    attempts.attempt("the owners of HAProxy's files", own_files, conf, "haproxy")
    if conf["runtime"] == "container":
        attempts.attempt("the folder of the sockets", share_sockets)
        run(*DOCKER, "rm", "--force", CONTAINER, check=False)
        attempts.attempt("the configuration without ports", beside.prepare)
    attempts.attempt("room for tracked connections", tracking.make_room)
    attempts.attempt("the digests of what is in use", remember_in_use, conf)
    for failure in attempts.failures:
        complain(failure)
    if conf["runtime"] == "container":
        ensure_image(conf)


def check_ports() -> int:
    """What the unit runs last before HAProxy, which would share a port with a program of the same
    user that allows it: some clients would be led by other rules, and nobody would see it. Only
    this exit code keeps HAProxy down: where it cannot be told HAProxy starts."""
    others = listeners.in_the_way(predecessor.shared())
    if not others:
        return 0
    complain("HAProxy does not start: " + "; ".join(others))
    return TAKEN


def share_sockets() -> None:
    """The container's user makes its sockets there, and can take no file of root's away."""
    make_folder(HAPROXY_RUN)
    os.chown(at(HAPROXY_RUN), 0, CONTAINER_UID)
    os.chmod(at(HAPROXY_RUN), 0o1770)


def ensure_image(conf: Settings) -> None:
    """Fetched only where it is missing: neither a restart nor a reboot depends on the registry."""
    image = conf["image"] or ""
    if run(*DOCKER, "image", "inspect", "--format", "{{.Id}}", image, check=False)[0] == 0:
        return
    if not conf["pull_image"]:
        raise Failure(
            f"the guest has no image {image}, and install_dependencies = false forbids fetching it"
        )
    run(*DOCKER, "pull", "--quiet", image, timeout=600)


def reload(patience: float = PATIENCE) -> None:
    conf = settings()
    own_files(conf, "haproxy")
    check_config(conf)
    wait_for_held(patience)
    state = current_state()
    hand_over_state(state)
    keep_state(state)
    start_worker()
    remember_in_use(conf)
    unit = ["--collect", "--quiet", "--unit=lbctl-old-workers"]
    unit += [f"--property={line}" for line in OLD_WORKERS_SANDBOX]
    run("systemd-run", *unit, PROGRAM, "old-workers", check=False)


def take_ports(step_back: Callable[[], None]) -> None:
    """From the load balancer that had them until now, which is told to `step_back`. Nobody listens
    from then on until the new worker does, so all else is done before. Done again, it is done to
    its end."""
    hand_over_state(current_state())
    beside.read_all_of_it()
    step_back()
    beside.wait_for_ports()
    start_worker()
    beside.end()


def start_worker() -> None:
    """Has the master start a worker with what is on the disk, in the place of the present one."""
    before = process_id()
    answer = ask(MASTER_SOCKET, "reload", timeout=60)
    if "Success=0" in answer:
        raise Failure(
            "HAProxy refused the new configuration and keeps the old one: " + answer[-2000:]
        )
    # Before 2.7 the master gives no verdict: a new worker is one.
    deadline = time.monotonic() + 60
    while process_id() in (None, before):
        if time.monotonic() > deadline:
            raise Failure("HAProxy did not start a new worker within 60 s of the reload")
        time.sleep(0.1)


def wait_for_held(seconds: float) -> None:
    """A reload ends those who wait for a primary: the old worker's checks stop."""
    deadline = time.monotonic() + seconds
    while held() and time.monotonic() < deadline:
        time.sleep(0.2)


def process_id() -> int | None:
    try:
        found = re.search(r"^Pid: (\d+)", ask(ADMIN_SOCKET, "show info"), re.M)
    except OSError:
        return None
    return int(found.group(1)) if found else None


def apply_haproxy(conf: Settings) -> None:
    """Makes it run with what is on the disk, with the least disturbance."""
    wanted = digests(conf)
    in_use = read_json(IN_USE) or {}
    enable(UNIT)
    if not is_active(UNIT) or in_use.get("start") != wanted["start"]:
        start_haproxy()
    elif in_use.get("config") != wanted["config"]:
        reload()


def start_haproxy() -> None:
    """By `restart`, also where it does not run: `start` fails while a unit waits for its next
    try."""
    code, text = systemctl("restart", UNIT, timeout=960, check=False)
    if code != 0:
        log = journal("--unit", UNIT, lines=15)[-3000:]
        raise Failure(f"{UNIT} does not start: {text.strip()}\n{log}")


# ---- the container


def run_container() -> None:
    """Starts HAProxy's container and stays as long as it runs, through restarts of Docker."""
    conf = settings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    nofile = conf["nofile"]
    options = ["--detach", "--rm", "--name", CONTAINER, "--log-driver", "journald"]
    # Each worker has a thread for each CPU, and old workers live on for a while.
    options += ["--pids-limit", "2048", "--memory", f"{memory_limit()}m", "--oom-score-adj=-900"]
    options += ["--ulimit", f"nofile={nofile}:{nofile}", *container_options(), conf["image"] or ""]
    haproxy = ["-W", "-db", "-f", beside.config(), "-S", f"{MASTER_SOCKET},mode,600"]
    try:
        run(*DOCKER, "run", *options, *haproxy, timeout=300)
        wait_for_socket()
        notify_systemd("READY=1")
        while container_lives():
            subprocess.run(
                [*DOCKER, "wait", CONTAINER],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            time.sleep(0.5)
        raise Failure(
            f"the container ended; its last messages: journalctl CONTAINER_NAME={CONTAINER}"
        )
    finally:
        run(*DOCKER, "stop", "-t", "5", CONTAINER, timeout=20, check=False)


def memory_limit() -> int:
    """MiB: four fifths of the guest's. A HAProxy that leaks is ended and started again, and the
    guest's other programs live on."""
    return memory() * 4 // 5


def container_lives() -> bool:
    """Whether it runs. While Docker does not answer it is asked again, for up to two minutes."""
    inspect = (*DOCKER, "container", "inspect", "--format", "{{.State.Running}}", CONTAINER)
    for _ in range(120):
        code, text = run(*inspect, check=False)
        if code == 0:
            return text.strip() == "true"
        if "no such container" in text.lower():
            return False
        time.sleep(1)
    return False


def wait_for_socket() -> None:
    deadline = time.monotonic() + 60
    while not answers_within(2):
        if time.monotonic() > deadline or not container_lives():
            # Docker keeps no log of a container that was removed; the journal does.
            text = journal(f"CONTAINER_NAME={CONTAINER}", "--boot", lines=20)
            raise Failure("HAProxy's socket does not answer: " + text[-2000:])


def answers_within(seconds: float) -> bool:
    """Asking Docker instead takes longer than HAProxy does to start."""
    deadline = time.monotonic() + seconds
    while process_id() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def notify_systemd(text: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


# ---- changes of a running HAProxy


def servers_up() -> int:
    """How many nodes are up in the backend of the primary; 0 also where HAProxy does not run."""
    try:
        return sum(s["state"].startswith("UP") for s in primary_servers())
    except OSError:
        return 0


def primary_servers() -> list[Server]:
    return [s for s in servers(ask(ADMIN_SOCKET, "show stat -1 4 -1")) if s["backend"] == "primary"]


def node_addresses() -> dict[str, str]:
    """Of each node that has one, by the name of its server."""
    try:
        there = [(s["name"], s["address"]) for s in primary_servers()]
    except OSError:
        return {}
    return {name: server_state.split(address)[0] for name, address in there if address}


def follow(conf: Settings, paths: set[str], old_ca: str, patience: float) -> None:
    """By the runtime socket where only certificates changed, which leaves no old worker behind;
    else by a reload."""
    if not is_active(UNIT):
        apply_haproxy(conf)
    elif paths & set(concerned(conf, "haproxy")) <= {CLIENT_PEM, CA_PEM} and fits_socket(old_ca):
        swap_certificates(paths, old_ca)
        remember_in_use(conf)
    else:
        reload(patience)


def fits_socket(old_ca: str) -> bool:
    """HAProxy takes a command of its socket into one buffer (tune.bufsize), and a long chain is
    more."""
    return all(len(text) < MOST_ON_SOCKET for text in (read_bytes(CLIENT_PEM), combined(old_ca)))


def combined(old_ca: str) -> bytes:
    return read_bytes(CA_PEM) + old_ca.encode()


def swap_certificates(paths: set[str], old_ca: str) -> None:
    """A new CA together with the old one first, so that at no moment there is a pair that the nodes
    would refuse. Without that step a wrong CA takes every server down and cuts every session."""
    new_ca = read_bytes(CA_PEM).decode()
    if CA_PEM in paths and CLIENT_PEM in paths:
        commit("ssl ca-file", CA_PEM, new_ca + old_ca)
    if CLIENT_PEM in paths:
        commit("ssl cert", CLIENT_PEM, read_bytes(CLIENT_PEM).decode())
    if CA_PEM in paths:
        commit("ssl ca-file", CA_PEM, new_ca)


def commit(kind: str, path: str, pem: str) -> None:
    """HAProxy management guide 9.3, "set ssl cert", "commit ssl cert". An empty line would end the
    text."""
    text = "\n".join(line for line in pem.split("\n") if line.strip())
    said = ask(ADMIN_SOCKET, f"set {kind} {path} <<\n{text}\n", timeout=30)
    answer = ask(ADMIN_SOCKET, f"commit {kind} {path}", timeout=60)
    if "Success!" not in answer:
        ask(ADMIN_SOCKET, f"abort {kind} {path}")
        reason = " ".join((said + answer).split())[-1000:]
        raise Failure(f"HAProxy does not accept {path}: {reason}")


def verify(conf: Settings, up_before: int) -> None:
    """A guest that had a primary must still have one when the checks have had their time."""
    if up_before == 0:
        return
    deadline = time.monotonic() + conf["settle_s"]
    while time.monotonic() < deadline:
        time.sleep(0.2)
    if servers_up() == 0:
        seen = "; ".join(
            f"{s['address']} {s['state']} {s['check_detail'] or s['check']}"
            for s in primary_servers()
        )
        raise Failure(f"HAProxy lost the primary after the change: {seen}")
