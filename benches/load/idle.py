"""Memory of a proxy for each connection on which nothing happens. Starts no proxy."""

import pathlib
import subprocess
import sys
import time

from processes import Failure, family, pss_kib

HOLDER = pathlib.Path(__file__).resolve().parent / "holder.py"
# Until what a proxy frees late has been given back.
SETTLE_SECONDS = 5


def hold(proxy, pid, tls, connections):
    """A row: what so many connections add to the proxy's memory."""
    pids = family(pid)
    before = pss_kib(pids)
    holder = subprocess.Popen(
        [sys.executable, str(HOLDER), str(proxy.ports.http), str(connections), "tls" if tls else "plain"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        if holder.stdout.readline() != f"HELD {connections}\n":
            raise Failure(f"{proxy.name}: {holder.communicate(timeout=10)[1]}")
        time.sleep(SETTLE_SECONDS)
        after = pss_kib(pids)
        said = holder.communicate(timeout=30)[0]
    finally:
        holder.kill()
        holder.wait()
    alive = int(said.split()[1])
    return {
        "proxy": proxy.name,
        "kib_per_connection": (after - before) / connections,
        "before_mib": before / 1024,
        "after_mib": after / 1024,
        "errors": connections - alive,
    }


def report(load, rows):
    """The same rows with their ratio to the peer that takes least."""
    peers = [row["kib_per_connection"] for row in rows if row["proxy"] != "baribhara"]
    least = min(peers) if peers else None
    return [{"load": load, **row, "ratio": row["kib_per_connection"] / least if least else None} for row in rows]


def print_table(what, rows, connections):
    print(f"\n{what}: {connections} connections")
    print(f"{'proxy':22} {'KiB/connection':>15} {'ratio':>6} {'before MiB':>11} {'after MiB':>10} {'errors':>7}")
    for row in rows:
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else "–"
        print(f"{row['proxy']:22} {row['kib_per_connection']:>15.2f} {ratio:>6} {row['before_mib']:>11.1f}"
              f" {row['after_mib']:>10.1f} {row['errors']:>7}")
