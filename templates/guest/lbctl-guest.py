#!/usr/bin/python3 -SB
"""lbctl's program in the guest: checks, applies and reports. Python 3.10 or newer, standard library
only.

  boot           what cloud-init runs last: everything below, once each, as far as it changed
  early          the same, beside cloud-init's last stages
  status         one JSON document on stdout
  reload         HAProxy's new configuration, without cutting a session
  save-state     HAProxy's view of its servers, for its next start
  converge       does the task on stdin, and answers in JSON
  old-workers    closes the sessions that a reload left in old workers when their primary is down
  liveness       restarts a HAProxy that hangs
  prepare        before HAProxy starts: files, owners, the image; HAProxy itself checks its
                 configuration
  ports          before HAProxy starts: exit 3 where another program would share a port with it
  container      runs HAProxy's container for systemd
  fluentd        becomes fluentd
  vip            says how fit this VM is for the shared address, for as long as it runs
  vip-prepare    what keepalived needs before it reads its configuration
  yield          gives the shared address to another VM, and answers in JSON; nothing changes where
                 none takes it
  unyield        ends that

Exit 0: done. Exit 1: something failed, named on stderr. Secrets are never printed.
"""

from __future__ import annotations

import importlib
import sys

from lbctl_guest.tools import Failure

# Each in a module of its own: a slow guest takes long to read them all.
COMMANDS = {
    "boot": ("boot", "boot"),
    "early": ("boot", "early"),
    "status": ("status", "status"),
    "reload": ("haproxy", "reload"),
    "save-state": ("haproxy", "save_state"),
    "prepare": ("haproxy", "prepare"),
    "ports": ("haproxy", "check_ports"),
    "container": ("haproxy", "run_container"),
    "fluentd": ("services", "fluentd"),
    "converge": ("converge", "main"),
    "old-workers": ("old_workers", "watch"),
    "liveness": ("liveness", "watch"),
    "vip": ("vip_watch", "watch"),
    "vip-prepare": ("vip", "prepare"),
    "yield": ("vip_yield", "step_back"),
    "unyield": ("vip_yield", "come_back"),
}


def main(argv: list[str]) -> int:
    if len(argv) != 1 or argv[0] not in COMMANDS:
        sys.stderr.write(__doc__ or "")
        return 2
    module, function = COMMANDS[argv[0]]
    code: int | None = getattr(importlib.import_module(f"lbctl_guest.{module}"), function)()
    return code or 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Failure, OSError, ValueError, KeyError) as problem:
        sys.stderr.write(f"lbctl-guest: {problem}\n")
        sys.exit(1)
