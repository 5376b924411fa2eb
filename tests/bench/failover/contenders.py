"""The configurations that run side by side: lbctl's own rendering, that of lbctl 0.1.0, the replaced module's, and Patroni's
sample.

0.1.0's is the text that it rendered. The module's and the sample's are written down from their published settings, with the
same certificates, nodes and timeouts as lbctl's where they leave those to the user. What is done with them does not belong
here.
"""
import dataclasses
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "dataplane"))
from rendered import files_of  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
LBCTL = ROOT / "target/debug/lbctl"
# The others get what lbctl's HAProxy has, for it decides how large HAProxy's tables are.
NOFILE = 16384
CONFIG = "/etc/haproxy/haproxy.cfg"
SCRIPT = "/usr/local/lib/lbctl/lbctl-guest"
# The script's place in the guest, and where it can be in a private mount namespace without hiding anything of the machine.
MOVED = {"/usr/local/lib/lbctl": "/run/lbctl-script"}


@dataclasses.dataclass
class Network:
    """Where the nodes are, the CA they trust, and the address to listen on. Nodes of the same machine need one of its own:
    what listens on every address has the port of a node that is down, too, and would connect to itself."""
    domain: str
    dns: str
    nodes: list
    ca_key: str
    ca_certificate: str
    listen: str


def of_lab(env):
    """`env`: what the env file of a full lab says."""
    return Network(env["POSTGRES_DOMAIN"], env["NETWORK_DNS"], env["PG_NODES"].split(","), env["CA_KEY"], env["CA_CERT"],
                   "0.0.0.0")


def contenders(network, work, hold="10s"):
    """{name: {path in the guest: text}}: four load balancers before one cluster."""
    lbctl = lbctl_files(network, work, hold=hold)
    tls = {path: lbctl[path] for path in ("/etc/haproxy/ca.pem", "/etc/haproxy/client.pem")}
    return {"lbctl": lbctl,
            "0.1.0": dict(lbctl, **{CONFIG: former_config(network)}),
            "module": dict(tls, **{CONFIG: module_config(network)}),
            "sample": dict(tls, **{CONFIG: sample_config(network)})}


def lbctl_files(network, work, version="3.2", hold="10s", max_connections=2000):
    """Every file that lbctl gives its guest, taken from the seed that it renders."""
    config = pathlib.Path(work, "lbctl.toml")
    given = dict(dataclasses.asdict(network), version=version, hold=hold, max_connections=max_connections)
    config.write_text(LBCTL_CONFIG % given, encoding="utf-8")
    subprocess.run([LBCTL, "-c", config, "render", "--show-secrets", "--out", pathlib.Path(work, "files")],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    files = {moved(path): moved(text) for path, (text, _) in files_of(pathlib.Path(work, "files")).items()}
    # lbctl refuses an address that the VM does not have.
    files[CONFIG] = files[CONFIG].replace("bind *:", "bind %s:" % network.listen)
    return {path: text for path, text in files.items() if not path.startswith("/etc/systemd/")}


def former_config(network, version="3.2"):
    """0.1.0's, with its state file where the guest's program has it now, and without what lbctl's has not here: replicas."""
    text = (ROOT / "tests/render/0.1.0.haproxy.cfg").read_text(encoding="utf-8")
    for old, new in (("127.0.0.1:", network.listen + ":"), ("127.0.0.2:53", network.dns + ":53"),
                     ("server.postgres.local", network.domain),
                     ("/var/lib/haproxy/server-state", "/run/haproxy/server-state")):
        text = text.replace(old, new)
    text = re.sub(r"frontend replicas\n.*?(?=# /metrics)", "", text, flags=re.S)
    if version != "2.6" and version != "3.0":
        text = text.replace("rise 1 fall 2", "rise 1 fall 2 init-state down")
    return text


def moved(text):
    for old, new in MOVED.items():
        text = text.replace(old, new)
    return text


LBCTL_CONFIG = """
name = "bench-failover"
vcpus = 2
memory = 1024
cloud_init_volume_pool = "default"
install_dependencies = false
admin_user_password = "bench"
[volume]
name = "bench-failover"
pool = "default"
base_volume_name = "base"
[libvirt_network]
network_name = "lab"
ip = "192.168.150.20"
[haproxy]
runtime = "package"
version = "%(version)s"
hold = "%(hold)s"
max_connections = %(max_connections)d
postgres_nodes_max_count = 3
postgres_nameserver_ips = ["%(dns)s"]
postgres_domain = "%(domain)s"
verify_host = "%(domain)s"
[haproxy.patroni_client]
ca_key = { file = "%(ca_key)s" }
ca_certificate = { file = "%(ca_certificate)s" }
certificate_validity_period = 240
certificate_early_renewal_period = 24
"""

TLS = "check-ssl verify required ca-file /etc/haproxy/ca.pem crt /etc/haproxy/client.pem"


def module_config(network):
    backends = "".join(MODULE_BACKEND % dict(dataclasses.asdict(network), name=name, port=port, tls=TLS)
                       for name, port in (("postgres", 5432), ("patroni", 4443)))
    return MODULE % {"dns": network.dns} + backends


MODULE = """
global
    log stdout local0 info
defaults
    mode tcp
    log global
    timeout connect 5s
    timeout check 2s
    timeout client 24h
    timeout server 24h
resolvers internal_dns
    nameserver ns1 %(dns)s:53
    resolve_retries 3
    timeout retry 1s
    hold other 5s
    hold refused 5s
    hold nx 5s
    hold timeout 5s
    hold valid 5s
"""

MODULE_BACKEND = """
frontend %(name)s
    bind %(listen)s:%(port)d
    default_backend %(name)s_servers
backend %(name)s_servers
    balance roundrobin
    option httpchk
    http-check connect port 4443 ssl
    http-check send meth OPTIONS uri /master
    http-check expect status 200
    default-server inter 1000ms rise 1 fall 1
    server-template %(name)s_nodes 3 %(domain)s:%(port)d check %(tls)s resolvers internal_dns init-addr none
"""


def sample_config(network):
    servers = "".join("    server node%d %s:5432 maxconn 100 check port 4443 %s\n" % (number + 1, ip, TLS)
                      for number, ip in enumerate(network.nodes))
    return SAMPLE % {"listen": network.listen} + servers


SAMPLE = """
global
    maxconn 100
defaults
    log stdout format raw local0
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
listen postgres
    bind %(listen)s:5432
    option httpchk
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
"""
