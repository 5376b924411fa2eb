"""What lbctl has the guest agent run, with a task on standard input: unpacks the programs that come
with the task, in memory and for root only, and runs them. So no program of another version has to
understand the task. Imports nothing of lbctl's. Python 3.10 or newer, standard library only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib

# Where the spec has them.
PROGRAMS = "/usr/local/lib/lbctl/"


def main() -> int:
    os.umask(0o077)
    # An agent's command has a limit of size: see MAX_INPUT in lbctl's src/guest/agent.rs.
    text = zlib.decompress(sys.stdin.buffer.read())
    place = tempfile.mkdtemp(prefix="lbctl-", dir="/run")
    try:
        task = json.loads(text.decode())
        # What the spec brings is not sent twice.
        brought = {
            entry["path"].removeprefix(PROGRAMS): entry["content"]
            for entry in task["spec"]["files"]
            if entry["path"].startswith(PROGRAMS)
        }
        for name, program in {**brought, **task["programs"]}.items():
            path = os.path.join(place, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(program)
        entry = [sys.executable, "-SB", os.path.join(place, "lbctl-guest"), "converge"]
        return subprocess.run(entry, input=text, check=False).returncode
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
