#!/usr/bin/env python3
"""relay.py PID PORT HOST TARGET-PORT: listens on 127.0.0.1:PORT here and connects to HOST:TARGET-PORT where PID lives.

Port 0 takes a free one; the port is printed once it listens. The relay ends with process PID.
"""

import ctypes
import os
import select
import socket
import sys
import threading

CLONE_NEWNET = 0x40000000


def pump(source, sink):
    """Copies until one side ends, and passes the end on."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(client, target):
    with client:
        try:
            server = socket.create_connection(target)
        except OSError:
            return
        with server:
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join()


def main(pid, port, host, target_port):
    # A socket stays in the network namespace where it was made: listen here, then change over, then dial.
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=128)
    ended = os.pidfd_open(int(pid))
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        sys.exit("setns: " + os.strerror(ctypes.get_errno()))
    print(listener.getsockname()[1], flush=True)
    target = (host, int(target_port))
    while True:
        ready, _, _ = select.select([listener, ended], [], [])
        if ended in ready:
            return
        threading.Thread(target=serve, args=(listener.accept()[0], target), daemon=True).start()


main(*sys.argv[1:])
