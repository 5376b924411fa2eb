"""Fake Patroni nodes for the zoo of CAs (tests/it/cert/zoo.rs): Python's ssl, as Patroni uses it, and so OpenSSL.

  python3 nodes.py FOLDER...     each with node.pem, node.key and trusts.pem

Prints one port for each on standard output, and answers until standard input ends. A folder whose files Python does not take
gets port 0.
"""
import socket
import ssl
import sys
import threading

BODY = b'{"state": "running", "role": "primary"}'
ANSWER = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + BODY


def context_of(folder):
    """`restapi` with certfile, keyfile, cafile and verify_client: required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder + "/node.pem", folder + "/node.key")
    context.load_verify_locations(folder + "/trusts.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def answer(context, connection):
    try:
        connection.settimeout(5)
        with context.wrap_socket(connection, server_side=True) as tls:
            request = b""
            while b"\r\n\r\n" not in request:
                data = tls.recv(1000)
                if not data:
                    return
                request += data
            tls.sendall(ANSWER)
    except OSError:
        pass
    finally:
        connection.close()


def serve(folder):
    try:
        context = context_of(folder)
    except OSError as problem:
        print("nodes.py: %s: %s" % (folder, problem), file=sys.stderr)
        return 0
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(context, connection), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


print("\n".join(str(serve(folder)) for folder in sys.argv[1:]), flush=True)
sys.stdin.read()
