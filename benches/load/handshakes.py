#!/usr/bin/env python3
"""Handshakes of TLS 1.3, one after the other, each with one small request: `handshakes.py PORT SECONDS full|resumed`.

Closes with the same line as report.lua. Only what the proxy spends is measured by the caller; how fast this is does
not matter.
"""

import socket
import ssl
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def context():
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    trusting.minimum_version = ssl.TLSVersion.TLSv1_3
    return trusting


def shake_hands(client, port, session):
    """The status, whether the session was resumed, and the next session."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client.wrap_socket(plain, session=session) as secured:
            secured.sendall(REQUEST)
            answer = b""
            while piece := secured.recv(4096):
                answer += piece
            return answer.startswith(b"HTTP/1.1 200 "), secured.session_reused, secured.session


def main():
    port, seconds, kind = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    client = context()
    # A ticket is there once something has been read.
    session = shake_hands(client, port, None)[2] if kind == "resumed" else None
    times, connect, status = [], 0, 0
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        began = time.monotonic()
        try:
            good, resumed, fresh = shake_hands(client, port, session)
        except OSError:
            connect += 1
            continue
        if not good or resumed != (kind == "resumed"):
            status += 1
        if kind == "resumed":
            # A ticket of TLS 1.3 is for one use (RFC 8446 §C.4).
            session = fresh
        times.append((time.monotonic() - began) * 1e6)
    times.sort()
    micros = int((time.monotonic() - started) * 1e6)
    p50, p99 = (int(times[int(len(times) * share)]) if times else 0 for share in (0.50, 0.99))
    print(f"\nREPORT requests={len(times)} micros={micros} connect={connect} read=0 write=0 timeout=0"
          f" status={status} p50={p50} p99={p99}")


if __name__ == "__main__":
    main()
