"""What the fake nodes must know of a configuration that was rendered: how the REST API is asked, and ports of nodes that have
others than everybody. It is said in setup.json beside the configuration; without that file it is mutual TLS, and DNS names
the nodes."""
import json
import pathlib

from cluster import Cluster, make_certificates
from guest import CONFIG, install
from protocols import server_context

AT = "/run/certificates"


class SetUp:
    def __init__(self, cfg):
        path = pathlib.Path(cfg).with_name("setup.json")
        facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        # mutual, server or off, as haproxy.patroni_tls.
        self.tls = facts.get("tls", "mutual")
        # By address, as cluster.Cluster has them.
        self.ports = facts.get("ports", {})
        # Of the main port. None: DNS names the nodes, and there are no services.
        self.role = facts.get("role")
        # Of each port for clients.
        self.max_connections = facts.get("max_connections", 2000)
        # Of the load balancer, for Patroni's REST API.
        self.rest = 8008 if self.tls == "off" else 4443

    def guest_json(self, nofile=65536):
        """What the guest's program knows of its files."""
        files = [{"path": CONFIG, "owner": "root", "affects": "haproxy"}]
        if self.tls == "mutual":
            files.append({"path": "/etc/haproxy/client.pem", "owner": "haproxy", "affects": "haproxy"})
        return json.dumps({"runtime": "package", "nofile": nofile, "services": [], "files": files})

    def install_certificates(self):
        """Makes them, and installs those that HAProxy needs."""
        make_certificates(AT)
        text = {name: pathlib.Path(AT, name).read_text(encoding="ascii") for name in ("client.key", "client.pem", "ca.pem")}
        if self.tls == "mutual":
            install({"/etc/haproxy/client.pem": text["client.key"] + text["client.pem"]})
        if self.tls != "off":
            install({"/etc/haproxy/ca.pem": text["ca.pem"]})

    def cluster(self):
        return Cluster(server_context(AT, self.tls), ports=self.ports)
