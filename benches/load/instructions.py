#!/usr/bin/env python3
"""What a plain HTTP/1.1 request costs one or more binaries of the gateway: instructions, allocations, system calls.

Unlike CPU time these are the same on a busy machine as on a quiet one, so two binaries can be compared to a per cent.
Each figure is the difference between a run with many requests and one with few, over the same wall time, divided by
the difference in requests: start, end and the ticks of timers drop out. One request is under way at a time, the
connections take turns. The kernel's own instructions are not counted.
"""

import argparse
import collections
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
import time

sys.dont_write_bytecode = True  # the checkout stays clean

import proxies
from processes import Failure, Running, family, free_ports, wait_until_serving

TOOLS = {"valgrind": "valgrind", "strace": "strace", "nginx": "nginx-light"}
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
# What the allocator is asked by.
ALLOCATES = re.compile(r"^mi_(malloc|zalloc|calloc|malloc_aligned|zalloc_aligned|realloc|realloc_aligned)$")
FREES = re.compile(r"^mi_free$")


def read_callgrind(path):
    """Instructions by function, and calls by the function called; names as callgrind has them."""
    names, own, calls = {}, collections.Counter(), collections.Counter()

    def name(text):
        number, _, known = text.partition(" ")
        return names.setdefault(number, known)

    function, callee, of_call = None, None, False
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("fn="):
            function = name(line[3:])
        elif line.startswith("cfn="):
            callee = name(line[4:])
        elif line.startswith("calls="):
            calls[callee] += int(line[6:].split()[0])
            of_call = True
        elif function is not None and line[:1] in "0123456789+-*" and line:
            if not of_call:
                own[function] += int(line.split()[1])
            of_call = False
    return own, calls


def read_strace(path):
    """Calls by name."""
    calls = collections.Counter()
    for line in path.read_text().splitlines():
        row = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if row and row.group(2) != "total":
            calls[row.group(2)] = int(row.group(1))
    return calls


def put_load(port, requests, connections):
    """One request after the other, on each connection in turn."""
    held = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(connections)]
    try:
        for number in range(requests):
            one = held[number % connections]
            one.sendall(REQUEST)
            answer = b""
            while not answer.endswith(b"\r\n\r\n" + proxies.BODY.encode()):
                piece = one.recv(65536)
                if not piece or len(answer) > 65536:
                    raise Failure(f"a request was not answered as it should be: {answer[:200]}")
                answer += piece
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise Failure(f"a request was refused: {answer[:200]}")
    finally:
        for one in held:
            one.close()


def run(binary, folder, backends, wrapper, requests, options):
    """One life of the gateway with so many requests in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    proxy = proxies.baribhara(folder, "plain", proxies.Ports(*free_ports(2), backends), binary)
    running = Running()
    try:
        pid = running.start([*wrapper, *proxy.command], "0", folder / "log")
        began = time.monotonic()
        wait_until_serving(binary, proxy.ports.http, folder / "log", {}, seconds=options.seconds)
        put_load(proxy.ports.http, requests, options.connections)
        left = options.seconds - (time.monotonic() - began)
        if left < 0:
            raise Failure(f"{requests} requests took {-left:.0f} s too long: give more --seconds")
        time.sleep(left)
        # strace keeps signals from itself: the gateway is the last of its family.
        os.kill(family(pid)[-1], signal.SIGTERM)
        running.wait(seconds=60)
    finally:
        running.stop()


def measure(binary, folder, backends, options):
    """Per request: instructions by function, calls of functions, system calls by name."""
    few, many = options.requests
    figures = []
    for requests in (few, many):
        own_folder = folder / str(requests)
        counts = own_folder / "callgrind.out"
        run(binary, own_folder, backends, ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}"], requests, options)
        instructions, calls = read_callgrind(counts)
        traced = folder / f"{requests}-traced"
        run(binary, traced, backends, ["strace", "-f", "-c", "-o", str(traced / "strace")], requests, options)
        figures.append((instructions, calls, read_strace(traced / "strace")))
    return [per_request(*pair, many - few) for pair in zip(*figures)]


def per_request(few, many, requests):
    return {name: (many[name] - few[name]) / requests for name in {*few, *many}}


def total(figures, wanted):
    return sum(count for name, count in figures.items() if wanted.match(strip(name)))


def strip(name):
    """Without what callgrind adds to a name for recursion and for the caller."""
    return name.partition("'")[0]


def print_table(rows):
    first = sum(rows[0][1].values())
    print(f"{'binary':40} {'instructions':>13} {'ratio':>7} {'allocations':>12} {'frees':>7} {'system calls':>13}")
    for binary, instructions, calls, syscalls in rows:
        spent = sum(instructions.values())
        print(f"{binary[-40:]:40} {spent:>13.0f} {spent / first:>7.3f} {total(calls, ALLOCATES):>12.2f}"
              f" {total(calls, FREES):>7.2f} {sum(syscalls.values()):>13.2f}")
        named = sorted(syscalls.items(), key=lambda pair: -pair[1])
        print("    " + ", ".join(f"{name} {count:.2f}" for name, count in named if count >= 0.05))


def print_functions(rows, count):
    """The functions whose own instructions differ most between the first binary and the last."""
    before, after = rows[0][1], rows[-1][1]
    if len(rows) == 1:
        before = {}
    differences = {name: after.get(name, 0) - before.get(name, 0) for name in {*before, *after}}
    print(f"\n{'instructions':>13} {'more':>8}  function")
    for name, more in sorted(differences.items(), key=lambda pair: -abs(pair[1]))[:count]:
        print(f"{after.get(name, 0):>13.1f} {more:>+8.1f}  {name[:150]}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="+", help="the gateway; several are compared to the first")
    parser.add_argument("--requests", nargs=2, type=int, default=[1000, 5000], metavar=("FEW", "MANY"),
                        help="default: 1000 5000")
    parser.add_argument("--connections", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=30, help="wall time of each of the four runs (default: %(default)s)")
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="also print the N functions that differ most")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(".bench/instructions"),
                        help="for configurations, logs and callgrind's files (default: %(default)s)")
    options = parser.parse_args()
    if not (0 < options.requests[0] < options.requests[1] <= 100_000 and 1 <= options.connections <= 256):
        parser.error("requests: two rising numbers up to 100000, connections: 1 to 256")
    return options


def main():
    options = arguments()
    missing = [f"{tool} (Debian's package: {package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        raise Failure(f"missing: {', '.join(missing)}")
    folder = options.folder.resolve()
    running, backends = Running(), tuple(free_ports(3))
    try:
        (folder / "backend").mkdir(parents=True, exist_ok=True)
        log = folder / "backend" / "log"
        running.start(proxies.backend(folder / "backend", backends), "1", log)
        for port in backends:
            wait_until_serving("the backend", port, log, {})
        rows = []
        for number, binary in enumerate(options.binary):
            rows.append((binary, *measure(binary, folder / str(number), backends, options)))
    finally:
        running.stop()
    print_table(rows)
    if options.functions:
        print_functions(rows, options.functions)


if __name__ == "__main__":
    try:
        main()
    except (Failure, OSError) as problem:
        sys.exit(f"instructions: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)
