"""The configurations that run side by side: lbctl's own rendering, the replaced module's, and Patroni's sample.

The module's and the sample's are written down from their published settings, with the same certificates, nodes and timeouts
as lbctl's where they leave those to the user. What is done with them does not belong here.
"""
import dataclasses
import pathlib
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
LBCTL = ROOT / "target/debug/lbctl"
# What lbctl's unit sets for lbctl's 2000 connections; the others get it too, for it decides how large HAProxy's tables are.
NOFILE = 5152
SCRIPT = "/usr/local/lib/lbctl/lbctl-guest"
# The script's place in the guest, and where it can be in a private mount namespace without hiding anything of the machine.
MOVED = {"/usr/local/lib/lbctl": "/run/lbctl-script"}


@dataclasses.dataclass
class Network:
    """Where the nodes are, and the CA they trust."""
    domain: str
    dns: str
    nodes: list
    ca_key: str
    ca_certificate: str


def contenders(network, work):
    """{name: {path in the guest: text}}: three load balancers before one cluster."""
    lbctl = lbctl_files(network, work)
    tls = {path: lbctl[path] for path in ("/etc/haproxy/ca.pem", "/etc/haproxy/client.pem")}
    return {"lbctl": lbctl,
            "module": dict(tls, **{"/etc/haproxy/haproxy.cfg": module_config(network)}),
            "sample": dict(tls, **{"/etc/haproxy/haproxy.cfg": sample_config(network)})}


def lbctl_files(network, work):
    """Every file that lbctl gives its guest, taken from the user-data that it renders."""
    config = pathlib.Path(work, "lbctl.toml")
    config.write_text(LBCTL_CONFIG % dataclasses.asdict(network), encoding="utf-8")
    subprocess.run([LBCTL, "-c", config, "render", "--show-secrets", "--out", pathlib.Path(work, "files")],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    data = yaml.safe_load(pathlib.Path(work, "files/user-data").read_text(encoding="utf-8"))
    files = {}
    for entry in data["write_files"]:
        files[moved(entry["path"])] = moved(entry["content"])
    return {path: text for path, text in files.items() if not path.startswith("/etc/systemd/")}


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
version = "3.2"
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
    backends = "".join(MODULE_BACKEND % {"name": name, "port": port, "domain": network.domain, "tls": TLS}
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
    bind *:%(port)d
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
    return SAMPLE + servers


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
    bind *:5432
    option httpchk
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
"""
