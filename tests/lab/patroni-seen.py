"""Patroni as it is, and a list of the client certificates that its REST API has seen: their serial numbers, each once, one
a line, in the file `clients` of its directory. In TLS 1.3 nobody on the wire could tell them."""
from patroni import api
from patroni.__main__ import main

seen = set()
answer = api.RestApiHandler.handle_one_request


def noting(handler):
    certificate = getattr(handler.request, "getpeercert", dict)() or {}
    serial = certificate.get("serialNumber", "").lower()
    if serial not in seen:
        seen.add(serial)
        with open("clients", "a", encoding="ascii") as f:
            f.write(serial + "\n")
    answer(handler)


# Patroni starts PostgreSQL by a process that reads this file once more.
if __name__ == "__main__":
    api.RestApiHandler.handle_one_request = noting
    main()
