"""Fake Patroni nodes in a process of their own, at ADDRESS...: `primary ADDRESS...` makes those the primaries, or nobody."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dataplane"))
import cluster

if __name__ == "__main__":
    # Nobody asks the name server: the nodes are listed.
    cluster.DNS_IP = "127.0.0.1"
    nodes = cluster.Cluster(None, nodes={address: "node-%d" % number for number, address in enumerate(sys.argv[1:])})
    print("ready", flush=True)
    for line in sys.stdin:
        _, *primaries = line.split()
        nodes.make_primary(*primaries)
        print("done", flush=True)
