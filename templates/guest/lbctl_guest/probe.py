"""Asks every node, with a certificate that is not in use yet, whether it would accept it. Python 3.8 or newer, standard
library only."""
import socket
import ssl
import threading

from guest_tools import Failure

TIMEOUT = 8.0
IN_USE = "/etc/haproxy"


def probe_all(target, addresses, stage):
    """Refuses when a node that takes today's pair does not take the new one. Nodes that are down have no say. `stage`
    holds the new client.pem and ca.pem. The result is what to tell beside success."""
    new = ask_all(target, addresses, stage)
    bad = [address for address in addresses if new[address]]
    old = ask_all(target, bad, IN_USE)
    lost = ["%s: %s" % (address, new[address]) for address in bad if not old[address]]
    if lost:
        raise Failure("%d of %d nodes would not take the new certificate or CA, so the old ones stay: %s"
                      % (len(lost), len(addresses), "; ".join(lost)))
    notes = ["node %s could not be asked whether it takes the new certificate: %s" % (a, new[a]) for a in bad]
    return notes if addresses else ["no node is known yet, so none was asked whether it takes the new certificate"]


def ask_all(target, addresses, place):
    """For each address what went wrong; None: it took the pair."""
    found = {}
    threads = [threading.Thread(target=lambda a=a: found.__setitem__(a, ask_node(target, a, place)), daemon=True)
               for a in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * TIMEOUT)
    return {a: found.get(a, "no answer in time") for a in addresses}


def ask_node(target, address, place):
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = target["verify_host"] is not None
        context.load_verify_locations(place + "/ca.pem")
        context.load_cert_chain(place + "/client.pem")
        with socket.create_connection((address, target["port"]), timeout=TIMEOUT) as plain:
            with context.wrap_socket(plain, server_hostname=target["verify_host"]) as tls:
                # In TLS 1.3 a refused client certificate shows at the first answer only.
                tls.sendall(("GET /primary HTTP/1.0\r\nHost: %s\r\n\r\n" % target["host"]).encode())
                if not tls.recv(16).startswith(b"HTTP/"):
                    return "it answers, and not in HTTP"
        return None
    except (OSError, ValueError) as problem:
        return str(problem)
