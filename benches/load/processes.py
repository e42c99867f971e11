"""What benches do with processes, and how they ask them one thing at a time. Measures nothing by itself."""

import http.client
import os
import pathlib
import re
import resource
import socket
import ssl
import subprocess
import time


class Failure(Exception):
    """The comparison cannot be made; the text says why."""


# --- processes ---------------------------------------------------------------------------------------------------


class Running:
    """Started processes, ended together. Only these are ever signalled."""

    def __init__(self):
        self.children = []

    def start(self, command, core, log):
        with open(log, "wb") as sink:
            child = subprocess.Popen(
                ["taskset", "-c", core, *command], stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
            )
        self.children.append(child)
        return child.pid

    def wait(self, seconds):
        """For processes that end by themselves."""
        for child in self.children:
            child.wait(timeout=seconds)

    def stop(self):
        for child in self.children:
            child.terminate()
        for child in self.children:
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.children.clear()


def stat_fields(pid):
    # The name in brackets may hold blanks; all else comes after it.
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2 :].split()


def family(pid):
    """The process and all below it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents.setdefault(int(stat_fields(entry)[1]), []).append(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        found.append(current)
        todo += parents.get(current, [])
    return found


def cpu_seconds(pids):
    """User and system time of the processes, their ended threads included."""
    ticks = sum(int(field) for pid in pids for field in stat_fields(pid)[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_kib(pids):
    total = 0
    for pid in pids:
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE).group(1))
    return total


def raise_file_limit(needed):
    """As many open files as this process and its children may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Failure(f"{needed} open files are needed, {hard} allowed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


# --- one request at a time ---------------------------------------------------------------------------------------


# The certificates are of this run's own making.
ANY_CERTIFICATE = ssl.create_default_context()
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE


def ask(port, path="/", method="GET", headers=None, tls=False):
    """Status, headers (names in lower case) and body."""
    if tls:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=ANY_CERTIFICATE)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


def wait_until_serving(name, port, log, headers, tls=False, seconds=15):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if ask(port, headers=headers, tls=tls)[0] == 200:
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise Failure(f"{name} does not serve:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)


def wait_until_listening(name, port, log):
    """For what answers no plain request with 200."""
    deadline = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise Failure(f"{name} does not listen:\n{log.read_text(errors='replace')[-3000:]}") from None
        time.sleep(0.05)
