"""HAProxy as lbctl's guest runs it, in a namespace on a lab's segment, before its real Patroni, and the stories of promise.py.

  python3 before_patroni.py ENV SUITE STORY...

`ENV` is the env file of a full lab, `SUITE` one of those that tests/render/haproxy-versions has.
"""
import pathlib
import subprocess
import sys
import tempfile

import promise

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench/failover"))
import contenders
from place import Place

# Each suite's HAProxy, and the last number of its address.
SUITES = {"bookworm": ("2.6", 71), "trixie": ("3.0", 72), "sid": ("3.2", 73)}


def main(path, suite, *stories):
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    env = dict(line.split("=", 1) for line in lines if "=" in line)
    version, number = SUITES[suite]
    root = subprocess.run([contenders.ROOT / "tests/render/haproxy-versions", suite], check=True, stdout=subprocess.PIPE,
                          universal_newlines=True).stdout.strip()
    # There are keys in it: the lab's folder goes with the lab, also after a kill.
    with tempfile.TemporaryDirectory(dir=env["LAB_RUN"], prefix="before-patroni-") as work:
        job = {"name": "lbctl", "state": True, "root": root, "nofile": contenders.NOFILE,
               "script": contenders.moved(contenders.SCRIPT),
               "files": contenders.lbctl_files(contenders.of_lab(env), work, version, hold="1m")}
        address = "%s.%d" % (env["MACVTAP_GUEST_IP"].rpartition(".")[0], number)
        place = Place(job, ("lbctl-%s-net" % env["LAB_NAME"], "br-seg"), address)
        try:
            place.ask("start")
            print("HAProxy %s" % version, flush=True)
            return promise.main(path, env["CLIENT_NETNS"], address, *stories)
        finally:
            place.close()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
