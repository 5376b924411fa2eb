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

import contextlib
import importlib.util
import marshal
import os
import sys
from importlib.machinery import FileFinder, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

# Of a guest only.
SETTINGS = "/etc/lbctl/guest.json"
# Gone at the next boot. Not in a folder that a unit with a sandbox may write to: what is kept is
# run outside of it, too.
COMPILED = "/run/lbctl-compiled"
# As it is told in a traceback: where the modules are, and not where a change had them unpacked.
FOLDER = "/usr/local/lib/lbctl/lbctl_guest"


class Loader(SourceFileLoader):
    """Keeps what Python compiles of lbctl's modules, which takes longer than all the rest of a
    short command. It is kept by the text that it comes from: another text is another file. Python's
    own files on the disk are no help (`-B`: there are none), for one that a power cut has cut short
    fails each start from then on."""

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path)
        key = importlib.util.MAGIC_NUMBER + importlib.util.source_hash(source)
        kept = f"{COMPILED}/{fullname}-{key.hex()}"
        try:
            code: CodeType = marshal.loads(self.get_data(kept))
        except (OSError, EOFError, TypeError, ValueError):
            code = self.source_to_code(source, f"{FOLDER}/{os.path.basename(self.path)}")
            # Does nothing, and says nothing, where it cannot be kept.
            self.set_data(kept, marshal.dumps(code))
        return code


def keep_compiled() -> None:
    """For root only, who runs it."""
    if os.geteuid() == 0 and os.path.exists(SETTINGS):
        with contextlib.suppress(OSError):
            os.mkdir(COMPILED, 0o700)
        sys.path_hooks.insert(0, finder)


def finder(path: str) -> FileFinder:
    if path != f"{os.path.dirname(os.path.abspath(__file__))}/lbctl_guest":
        raise ImportError
    return FileFinder(path, (Loader, [".py"]))


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
    keep_compiled()
    failure = importlib.import_module("lbctl_guest.tools").Failure
    module, function = COMMANDS[argv[0]]
    try:
        code: int | None = getattr(importlib.import_module(f"lbctl_guest.{module}"), function)()
    except (failure, OSError, ValueError, KeyError) as problem:
        sys.stderr.write(f"lbctl-guest: {problem}\n")
        return 1
    return code or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
