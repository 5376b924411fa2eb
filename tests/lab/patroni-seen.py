"""Patroni as it is, with its REST API on two ports more: PLAIN_PORT has no TLS, TLS_PORT asks for no client certificate. And
a list of the client certificates that the REST API has seen: their serial numbers, each once, one a line, in the file
`clients` of its directory. In TLS 1.3 nobody on the wire could tell them."""
import os

from patroni import api
from patroni.__main__ import main

seen = set()
answer = api.RestApiHandler.handle_one_request
begin = api.RestApiServer.start


def noting(handler):
    certificate = getattr(handler.request, "getpeercert", dict)() or {}
    serial = certificate.get("serialNumber", "").lower()
    if serial not in seen:
        seen.add(serial)
        with open("clients", "a", encoding="ascii") as f:
            f.write(serial + "\n")
    answer(handler)


def begin_all(server):
    """Patroni has one server of its REST API; the others are of the same kind and tell of the same node."""
    begin(server)
    restapi = server.patroni.config["restapi"]
    address = restapi["listen"].rpartition(":")[0]
    for port, without in (("TLS_PORT", ("cafile", "verify_client")),
                          ("PLAIN_PORT", ("cafile", "verify_client", "certfile", "keyfile"))):
        own = {key: value for key, value in restapi.items() if key not in without}
        own["listen"] = "%s:%s" % (address, os.environ[port])
        begin(api.RestApiServer(server.patroni, own))


# Patroni starts PostgreSQL by a process that reads this file once more.
if __name__ == "__main__":
    api.RestApiHandler.handle_one_request = noting
    api.RestApiServer.start = begin_all
    main()
