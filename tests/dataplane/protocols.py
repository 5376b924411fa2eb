"""What all fake nodes speak: TLS as Patroni's REST API does, the PROXY protocol's head, Patroni's words for sizes."""
import os
import re
import socket
import ssl
import struct
import subprocess

# Of the PROXY protocol, version 2.
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"
TCP_OVER_IPV4 = b"\x21\x11"
SIZES = {"": 1, "B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
# restapi.verify_client.
VERIFY = {"server": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "mutual": ssl.CERT_REQUIRED}


def make_certificates(at, names):
    """ca, client and node, each .key and .pem: one CA, and one certificate for all nodes, with those names and addresses."""
    os.makedirs(at, exist_ok=True)
    alternative = ",".join(("IP:" if re.fullmatch(r"[\d.]+", name) else "DNS:") + name for name in names)
    subprocess.run("""
    set -e
    ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
    openssl req -x509 $ec -keyout ca.key -out ca.pem -days 30 -subj /CN=ca \\
        -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
    for n in client node; do
        openssl req $ec -keyout $n.key -out $n.csr -subj /CN=$n 2>/dev/null
        printf 'subjectAltName={}\\nextendedKeyUsage=serverAuth,clientAuth\\n' >ext
        openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -set_serial 0xabcdef01 -days 2 -extfile ext \\
            -out $n.pem 2>/dev/null
    done
    """.format(alternative), shell=True, check=True, cwd=at)


def server_context(at, tls="mutual"):
    """What a node of Patroni does with `verify_client: required` ("mutual"), `optional`, without it ("server"), or without a
    certificate ("off")."""
    if tls == "off":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(at + "/node.pem", at + "/node.key")
    if tls != "server":
        context.load_verify_locations(at + "/ca.pem")
    context.verify_mode = VERIFY[tls]
    return context


def proxied(connection):
    """The client's address, as a PROXY header tells it; None where it tells none, as of a check. Whoever sends no header is
    not served."""
    head = connection.recv(16, socket.MSG_WAITALL)
    if head[:12] != PROXY_V2:
        raise OSError("no PROXY header")
    length = struct.unpack("!H", head[14:])[0]
    rest = connection.recv(length, socket.MSG_WAITALL) if length else b""
    return socket.inet_ntoa(rest[:4]) if head[12:14] == TCP_OVER_IPV4 else None


def size(text):
    """As Patroni reads a lag: bytes, or with a unit."""
    number, unit = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text).groups()
    return int(number) * SIZES[unit]
