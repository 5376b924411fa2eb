#!/usr/bin/python3 -SB
"""lbctl's hand in the guest: checks, applies and tells. Python 3.8 or newer, standard library only.

  boot           what cloud-init runs last: everything below, once each, as far as it changed
  apply NAME...  makes services follow their files: docker haproxy node-exporter chrony fluentd
  status         one JSON document on stdout
  reload         HAProxy's new configuration, without cutting a session
  save-state     HAProxy's view of its servers, for its next start
  converge       does the task on stdin, and answers in JSON
  old-workers    watches over the sessions that a reload has left in old workers
  prepare        before HAProxy starts: files, owners, the image; HAProxy itself checks its configuration
  container      runs HAProxy's container for systemd
  fluentd        becomes fluentd

Exit 0: done. Exit 1: something failed, named on stderr. Secrets are never printed.
"""
import importlib
import sys

from guest_tools import Failure

# Each in a module of its own, for a slow guest takes long to read them all.
COMMANDS = {"boot": ("guest_boot", "boot"), "status": ("guest_status", "status"), "reload": ("guest_haproxy", "reload"),
            "save-state": ("guest_haproxy", "save_state"), "prepare": ("guest_haproxy", "prepare"),
            "container": ("guest_haproxy", "run_container"), "fluentd": ("guest_services", "fluentd"),
            "converge": ("guest_converge", "main"), "old-workers": ("guest_old_workers", "watch")}


def main(argv):
    if len(argv) >= 2 and argv[0] == "apply":
        return importlib.import_module("guest_services").apply(argv[1:])
    if len(argv) != 1 or argv[0] not in COMMANDS:
        sys.stderr.write(__doc__)
        return 2
    module, function = COMMANDS[argv[0]]
    return getattr(importlib.import_module(module), function)()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]) or 0)
    except (Failure, OSError, ValueError, KeyError) as problem:
        sys.stderr.write("lbctl-guest: %s\n" % problem)
        sys.exit(1)
