#!/usr/bin/env python3
"""Holds idle connections: `holder.py PORT COUNT plain|tls`.

Each does one request and rests. Says `HELD count` when all rest, and `ALIVE count` of those that are still open when
its input ends. One after the other: how fast this is does not matter.
"""

import resource
import select
import socket
import ssl
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
BODY_END = b"x\n"
# So many share an address: a port is used once for each.
OF_AN_ADDRESS = 5000
# The first may not rest so long that a proxy closes it.
SECONDS_MAX = 90
# Linux' IP_BIND_ADDRESS_NO_PORT: the port is chosen when it is known where to.
BIND_ADDRESS_NO_PORT = 24


def context():
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    trusting.minimum_version = ssl.TLSVersion.TLSv1_3
    return trusting


def connect(port, number, client):
    """A connection that has had its answer."""
    one = socket.socket()
    one.settimeout(10)
    one.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
    one.bind((f"127.0.0.{2 + number // OF_AN_ADDRESS}", 0))
    one.connect(("127.0.0.1", port))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if client:
        one = client.wrap_socket(one)
    one.sendall(REQUEST)
    answer = b""
    while not (b"\r\n\r\n" in answer and answer.endswith(BODY_END)):
        piece = one.recv(4096)
        if not piece or len(answer) > 65536:
            raise OSError(f"no whole answer: {answer[:200]}")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise OSError(f"refused: {answer[:200]}")
    return one


def is_open(one):
    """Nothing is there to be read, nor the end. What TLS says of itself was read with the answer."""
    poller = select.poll()
    poller.register(one, select.POLLIN | select.POLLHUP)
    return not poller.poll(0)


def main():
    port, count, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    client = context() if kind == "tls" else None
    deadline = time.monotonic() + SECONDS_MAX
    held = []
    while len(held) < count:
        if time.monotonic() > deadline:
            sys.exit(f"holder: {len(held)} connections in {SECONDS_MAX} s, not {count}")
        held.append(connect(port, len(held), client))
    print(f"HELD {len(held)}", flush=True)
    sys.stdin.read()
    print(f"ALIVE {sum(map(is_open, held))}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except OSError as problem:
        sys.exit(f"holder: {problem}")
