"""What the metrics of a rendered haproxy.cfg say in health and in each kind of trouble: of a real HAProxy before three fake
Patroni nodes, one file for each state, in the folder `metrics` beside the configuration. tests/it/watch.rs has Prometheus
judge them.

  python3 watch.py HAPROXY_ROOT GUEST_SCRIPT HAPROXY_CFG
"""
import http.client
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
import apart
from cluster import ONE, THREE, TWO
from guest import CONFIG, LOG, LUA, Guest, enter, eventually, install
from load import Session, Waiter, answering
from setup import SetUp

ROOT, SCRIPT, CFG = sys.argv[1:4]
# Of those that wait, and of the sessions that nearly reach the limit of the configuration, which is 40.
WAIT, NEARLY_ALL = 5, 38


def get(path):
    connection = http.client.HTTPConnection("127.0.0.1", 8405, timeout=2)
    connection.request("GET", path)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


def facts(metrics):
    """What tells the states apart: primaries, sessions, and how many nodes have each result of a check."""
    found = {}
    for name, of in (("active", 'haproxy_backend_active_servers{proxy="primary"}'),
                     ("in backend", 'haproxy_backend_current_sessions{proxy="primary"}'),
                     ("at the port", 'haproxy_frontend_current_sessions{proxy="postgres"}')):
        found[name] = re.search("^%s (\\S+)$" % re.escape(of), metrics, re.MULTILINE).group(1)
    results = re.findall(r'^haproxy_server_check_status\{proxy="primary",.*state="(\w+)"\} 1$', metrics, re.MULTILINE)
    for result in set(results):
        found["check " + result] = str(results.count(result))
    return found


class Scraper:
    def __init__(self):
        self.folder = pathlib.Path(CFG).with_name("metrics")
        self.folder.mkdir()

    def keep(self, state, **wanted):
        """Keeps the metrics as soon as they are so."""
        self.last = None

        def so():
            metrics = get("/metrics")
            self.last = facts(metrics)
            if any(self.last.get(name.replace("_", " ")) != value for name, value in wanted.items()):
                return False
            (self.folder / state).write_text(metrics, encoding="utf-8")
            return True
        try:
            eventually(so, 20)
        except AssertionError as problem:
            raise AssertionError("%s: %s, not %s" % (state, self.last, wanted)) from problem


def tell():
    install({"/etc/lbctl/guest.json": SETUP.guest_json(), LUA: LUA_TEXT,
             CONFIG: pathlib.Path(CFG).read_text(encoding="utf-8")})
    SETUP.install_certificates()
    cluster = SETUP.cluster()
    haproxy = Guest(SCRIPT)
    haproxy.start()
    eventually(lambda: answering(10) == ONE, 20)
    scraper = Scraper()
    well = {"active": "1", "check_L7STS": "2"}
    scraper.keep("well", **well, at_the_port="0")

    cluster.rest_frozen = {TWO}
    scraper.keep("slow", active="1", **{SLOW: "1"})
    cluster.rest_frozen = set()
    cluster.stop(THREE)
    scraper.keep("failed", active="1", check_L7STS="1", check_L4CON="1")
    cluster.restart(THREE)
    scraper.keep("well again", **well)

    cluster.make_primary()
    scraper.keep("no primary", active="0")
    waiters = [Waiter(timeout=12) for _ in range(WAIT)]
    scraper.keep("held", active="0", in_backend=str(WAIT))
    held = get("/metrics/lbctl").splitlines()[-1]
    if held != "lbctl_held_clients %d" % WAIT:
        raise AssertionError("%s, and %d wait" % (held, WAIT))
    cluster.make_primary(ONE, TWO)
    scraper.keep("two primaries", active="2")
    cluster.make_primary(ONE)
    answers = [waiter.result() for waiter in waiters]
    if answers != [ONE] * WAIT:
        raise AssertionError("those that waited got %s" % answers)

    sessions = [Session() for _ in range(NEARLY_ALL)]
    scraper.keep("full", active="1", at_the_port=str(NEARLY_ALL))
    for session in sessions:
        session.close()
    haproxy.stop()
    print("; ".join(sorted(path.name for path in scraper.folder.iterdir())))


def alone():
    enter(ROOT)
    try:
        tell()
    except BaseException:
        print(pathlib.Path(LOG).read_text(encoding="utf-8", errors="replace")[-6000:])
        raise


if __name__ == "__main__":
    SETUP = SetUp(CFG)
    # By TLS a node that stands still does not even shake hands.
    SLOW = "check_L7TOUT" if SETUP.tls == "off" else "check_L6TOUT"
    LUA_TEXT = pathlib.Path(SCRIPT).parents[1].joinpath("lbctl.lua").read_text(encoding="utf-8")
    if sys.argv[4:5] == [apart.ALONE]:
        alone()
    else:
        apart.tell(__file__, sys.argv[1:4], ["states"])
