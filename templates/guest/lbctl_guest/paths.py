"""Where things are in the guest. Python 3.10 or newer, standard library only.

Every path in this program is one of the guest's, absolute. `at` puts the root in front of it, at
the moment when the file is touched: the tests have a folder of their own for a root."""

from __future__ import annotations

ROOT = "/"

# Written by lbctl, at boot by cloud-init and later by `converge`.
SETTINGS = "/etc/lbctl/guest.json"
PROGRAMS = "/usr/local/lib/lbctl"
PROGRAM = f"{PROGRAMS}/lbctl-guest"
SYSTEMD = "/etc/systemd"
UNITS = "/etc/systemd/system"

HAPROXY = "/etc/haproxy"
HAPROXY_CFG = "/etc/haproxy/haproxy.cfg"
HAPROXY_LUA = "/etc/haproxy/lbctl.lua"
CLIENT_PEM = "/etc/haproxy/client.pem"
CA_PEM = "/etc/haproxy/ca.pem"

# What this program keeps: the first over a reboot, the folder until the next one.
APPLIED = "/var/lib/lbctl/settings.json"
RUN = "/run/lbctl"

# HAProxy's own. The state is what it reads at its next start or reload.
SERVER_STATE = "/run/haproxy/server-state"
# Saved states, the newest first: one outlives a stop of HAProxy, the other a reboot.
STATE_FOLDER = "/var/lib/haproxy"
KEPT_STATES = (f"{RUN}/server-state", f"{STATE_FOLDER}/server-state")
HAPROXY_RUN = "/run/haproxy"
ADMIN_SOCKET = "/run/haproxy/admin.sock"
MASTER_SOCKET = "/run/haproxy/master.sock"

CLOUD_INIT = "/run/cloud-init"
# With this file it does nothing from the next boot on.
CLOUD_INIT_OFF = "/etc/cloud/cloud-init.disabled"


def at(path: str) -> str:
    """The guest's path, as this process reaches it."""
    return path if ROOT == "/" else ROOT + path
