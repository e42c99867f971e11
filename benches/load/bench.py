#!/usr/bin/env python3
"""CPU time per request of the gateway beside nginx, HAProxy and Envoy, on one machine, in one run. For the idle loads:
memory per connection (idle.py); for `policies`: what each policy adds (policies.py).

The proxy has core 0 and one worker; the load (wrk, h2load or handshakes.py) and the backend share core 1. A figure is the user and system time of all
processes of a proxy divided by the requests that completed: it is stable to some five per cent where the requests
per second of a shared machine are not. The proxies take turns (A B C A B C …), the median of the rounds counts, and
only ratios inside one run say anything. Before a load each proxy must show that it does all the work.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys

sys.dont_write_bytecode = True  # the checkout stays clean

import idle
import policies
import proxies
from processes import ANY_CERTIFICATE, Failure, Running, ask, cpu_seconds, family, free_ports, pss_kib
from processes import raise_file_limit, wait_until_listening, wait_until_serving

HERE = pathlib.Path(__file__).resolve().parent
PROXY_CORE, LOAD_CORE = "0", "1"
LOADS = {
    "plain": "plain proxying",
    "tls": "plain proxying over TLS 1.3, connections kept",
    "mission": "CORS + rate limit + JWT HS256 + metrics",
    "h2": "HTTP/2 over TLS 1.3, ten streams a connection",
    "handshake-full": "full handshakes of TLS 1.3, one after the other, with one request each",
    "handshake-resumed": "the same, resumed",
    "grpc": "unary gRPC over TLS 1.3 to backends without, ten calls a connection",
    "policies": "what each policy adds to a request",
    "idle": "memory of connections that rest after one request",
    "idle-tls": "the same over TLS 1.3",
}
IDLE_LOADS = ("idle", "idle-tls")
STREAMS_OF_A_CONNECTION = 10
# Envoy does no work of the mission's path here. To Debian's nginx a WINDOW_UPDATE of a stream that is over is an error of
# its backend, and soon all backends are dead to it.
LEFT_OUT = {("envoy", "mission"), ("nginx", "grpc")}


@dataclasses.dataclass
class Round:
    micros: float
    requests: int
    per_second: float
    errors: int
    p99_ms: float
    pss_mib: float


# --- what a proxy must show ------------------------------------------------------------------------------------------


def expect(proxy, what, held):
    if not held:
        raise Failure(f"{proxy.name}: {what}")


def check_features(proxy, load, bare):
    """That the proxy does the work of the load. What it cannot do is known beforehand and stands in the table."""
    port, headers, tls = proxy.ports.http, load_headers(load), load in proxies.TLS_LOADS
    if load in proxies.H2_LOADS:
        check_h2(proxy, load)
    if load == "grpc":
        return
    status, _, body = ask(port, headers=headers, tls=tls)
    expect(proxy, f"answers {status} and {len(body)} bytes", status == 200 and body == proxies.BODY)
    seen = [ask(port, "/headers", headers=headers, tls=tls)[2] for _ in range(2 * len(proxy.ports.backends))]
    backends = {text.split()[0] for text in seen}
    expect(proxy, f"uses {len(backends)} backends", len(backends) == len(proxy.ports.backends))
    if not bare:
        empty = [name for name in proxies.FORWARDED if not re.search(rf"{name}=\S", seen[0])]
        expect(proxy, f"does not send {', '.join(empty)}", not empty)
        scheme = "https" if tls else "http"
        expect(proxy, f"does not say {scheme}", f"x-forwarded-proto={scheme} " in seen[0])
    if tls:
        expect(proxy, "does not speak TLS 1.3", tls_version(port) == "TLSv1.3")
    status, _, body = ask(proxy.ports.admin, proxy.metrics_path)
    expect(proxy, "has no metrics", status == 200 and proxy.metrics in body)
    if load == "mission":
        check_mission(proxy, headers)


def check_h2(proxy, load):
    """That HTTP/2 is agreed on, and that calls come back whole with their status."""
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--insecure", "--http2", "--max-time", "5",
               "--dump-header", "-", "--output", "-"]
    url = f"https://127.0.0.1:{proxy.ports.http}/"
    wanted = proxies.BODY.encode()
    if load == "grpc":
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", f"@{message_file(proxy)}"]
        url, wanted = url[:-1] + proxies.GRPC_PATH, proxies.GRPC_MESSAGE
    said = subprocess.run([*command, url], capture_output=True, timeout=10, check=False).stdout
    expect(proxy, "does not speak HTTP/2", said.startswith(b"HTTP/2 200"))
    expect(proxy, "does not send the body", wanted in said)
    if load == "grpc":
        expect(proxy, "sends no status of gRPC", b"grpc-status: 0" in said)


def message_file(proxy):
    """The message that calls send, in a file of its own beside the log."""
    path = proxy.folder / "call"
    path.write_bytes(proxies.GRPC_MESSAGE)
    return path


def tls_version(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        with ANY_CERTIFICATE.wrap_socket(plain) as secured:
            return secured.version()


def check_mission(proxy, headers):
    port = proxy.ports.http
    answer = ask(port, headers=headers)[1]
    expect(proxy, "sends no CORS headers", answer.get("access-control-allow-origin") == proxies.ORIGIN)
    expect(proxy, "sends no Vary: Origin", "origin" in answer.get("vary", "").lower())
    other = ask(port, headers={**headers, "Origin": "https://evil.example"})[1]
    expect(proxy, "allows every origin", not other.get("access-control-allow-origin"))
    preflight = {"Origin": proxies.ORIGIN, "Access-Control-Request-Method": "GET"}
    status, answer, _ = ask(port, method="OPTIONS", headers=preflight)
    allowed = answer.get("access-control-allow-origin") == proxies.ORIGIN
    expect(proxy, f"answers {status} to a preflight", status in (200, 204) and allowed)
    if proxy.jwt:
        bad = {
            "no token": None,
            "a wrong key": proxies.token(key="x" * 40),
            "an old token": proxies.token(expires_in=-3600),
        }
        for name, token in bad.items():
            wrong = {"Origin": proxies.ORIGIN} | ({"Authorization": f"Bearer {token}"} if token else {})
            expect(proxy, f"takes {name}", ask(port, headers=wrong)[0] == 401)


# --- load -------------------------------------------------------------------------------------------------------


TOKEN = proxies.token(expires_in=24 * 3600)


def load_headers(load):
    if load != "mission":
        return {}
    return {"Origin": proxies.ORIGIN, "Authorization": f"Bearer {TOKEN}"}


def load_command(proxy, load, options, seconds):
    """The program that puts this load on a proxy, and how its output is read."""
    port = proxy.ports.http
    if load in proxies.H2_LOADS:
        log = proxy.folder / "requests"
        log.unlink(missing_ok=True)
        command = ["h2load", "-t", "1", "-c", str(options.connections), "-m", str(STREAMS_OF_A_CONNECTION),
                   "-D", str(seconds), f"--log-file={log}"]
        if load == "grpc":
            command += ["-H", "content-type: application/grpc", "-H", "te: trailers", "-d", str(message_file(proxy))]
        path = proxies.GRPC_PATH if load == "grpc" else "/"
        return [*command, f"https://127.0.0.1:{port}{path}"], lambda text: h2load_report(text, log, seconds)
    if load.startswith("handshake-"):
        command = [sys.executable, str(HERE / "handshakes.py"), str(port), str(seconds), load.removeprefix("handshake-")]
        return command, wrk_report
    scheme = "https" if load in proxies.TLS_LOADS else "http"
    return wrk_command(f"{scheme}://127.0.0.1:{port}/", load_headers(load), options, seconds), wrk_report


def wrk_command(url, headers, options, seconds):
    command = ["wrk", "-t", "1", "-c", str(options.connections), "-d", f"{seconds}s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    return [*command, "-s", str(HERE / "report.lua"), url]


def wrk_report(text):
    """The closing line of report.lua and of handshakes.py; None where there is none."""
    line = re.search(r"^REPORT (.*)$", text, re.MULTILINE)
    if line is None:
        return None
    return {key: int(value) for key, value in (pair.split("=") for pair in line.group(1).split())}


def refusals_report(text):
    """The same where each answer should be a refusal: those that are none are the errors."""
    report = wrk_report(text)
    return report and report | {"status": report["requests"] - report["status"]}


def h2load_report(text, log, seconds):
    """The same figures from what h2load says and from its log: start, status and microseconds of each request."""
    requests = re.search(r"^requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text, re.MULTILINE)
    if requests is None or not log.exists():
        return None
    done, succeeded, failed, _, timeout = map(int, requests.groups())
    times = sorted(int(line.split()[2]) for line in log.read_text().splitlines())
    p99 = times[int(len(times) * 0.99)] if times else 0
    return {"requests": done, "micros": seconds * 1_000_000, "connect": 0, "read": max(failed - timeout, 0), "write": 0,
            "timeout": timeout, "status": max(done - succeeded - failed, 0), "p99": p99}


def run_round(proxy, pid, load, options, seconds):
    """One bounded run of a load against one proxy."""
    command, read = load_command(proxy, load, options, seconds)
    return spend(proxy.name, pid, command, read, seconds)


def spend(name, pid, command, read, seconds):
    """Runs the load; what it cost the process and those below it."""
    pids = family(pid)
    before = cpu_seconds(pids)
    done = subprocess.run(["taskset", "-c", LOAD_CORE, *command], capture_output=True, text=True, timeout=seconds + 30, check=False)
    spent = cpu_seconds(pids) - before
    report = read(done.stdout)
    if report is None:
        raise Failure(f"{command[0]} against {name}: {done.stdout}{done.stderr}")
    completed = report["requests"] - report["status"]
    if completed <= 0:
        raise Failure(f"{name} completed no request: {report}")
    return Round(
        micros=spent * 1e6 / completed,
        requests=completed,
        per_second=completed * 1e6 / report["micros"],
        errors=sum(report[key] for key in ("connect", "read", "write", "timeout", "status")),
        p99_ms=report["p99"] / 1000,
        pss_mib=pss_kib(pids) / 1024,
    )


def start_field(load, folder, options, running):
    """The backend and the proxies, each of which does its work: [(proxy, process id)]."""
    backend_ports = tuple(free_ports(3))
    (folder / "backend").mkdir(parents=True)
    log = folder / "backend" / "log"
    make = proxies.grpc_backend if load == "grpc" else proxies.backend
    running.start(make(folder / "backend", backend_ports), LOAD_CORE, log)
    for port in backend_ports:
        if load == "grpc":
            wait_until_listening("the backend", port, log)
        else:
            wait_until_serving("the backend", port, log, {})

    field = []
    for name in (name for name in options.proxies if (name, load) not in LEFT_OUT):
        place = folder / name
        place.mkdir()
        ports = proxies.Ports(*free_ports(2), backend_ports)
        if name == "baribhara":
            proxy = proxies.baribhara(place, load, ports, options.binary)
        else:
            proxy = {"nginx": proxies.nginx, "haproxy": proxies.haproxy, "envoy": proxies.envoy}[name](place, load, ports, options.bare)
        pid = running.start(proxy.command, PROXY_CORE, place / "log")
        if load == "grpc":
            wait_until_listening(name, ports.http, place / "log")
        else:
            wait_until_serving(name, ports.http, place / "log", load_headers(load), load in proxies.TLS_LOADS)
        check_features(proxy, load, options.bare)
        field.append((proxy, pid))
    return field


def measure_idle(load, folder, options):
    """What idle connections take of each proxy's memory."""
    running = Running()
    try:
        field = start_field(load, folder, options, running)
        rows = [idle.hold(proxy, pid, load == "idle-tls", options.idle_connections) for proxy, pid in field]
        return idle.report(load, rows)
    finally:
        running.stop()


def compare(load, folder, options):
    """All rounds of one load: {proxy: rounds}, and the proxies."""
    running = Running()
    try:
        field = start_field(load, folder, options, running)
        rounds = {proxy.name: [] for proxy, _ in field}
        for proxy, pid in field:
            run_round(proxy, pid, load, options, 1)
        for number in range(options.rounds):
            for proxy, pid in field:
                result = run_round(proxy, pid, load, options, options.seconds)
                rounds[proxy.name].append(result)
                print(f"  {load} {number + 1}/{options.rounds} {proxy.name}: {result.micros:.2f} µs", file=sys.stderr)
        return [proxy for proxy, _ in field], rounds
    finally:
        running.stop()


# --- report -----------------------------------------------------------------------------------------------------


def best_peer(field, medians):
    """The cheaper of the peers that do the whole work."""
    costs = {p.name: medians[p.name] for p in field if p.name != "baribhara" and p.jwt is not False}
    return min(costs, key=costs.get) if costs else None


def report(load, field, rounds):
    """Rows for the table and for --json."""
    medians = {name: statistics.median(r.micros for r in results) for name, results in rounds.items()}
    best = best_peer(field, medians)
    rows = []
    for proxy in field:
        results = rounds[proxy.name]
        rows.append({
            "load": load,
            "proxy": proxy.name + (" (without JWT)" if proxy.jwt is False else ""),
            "micros": medians[proxy.name],
            "micros_min": min(r.micros for r in results),
            "micros_max": max(r.micros for r in results),
            "ratio": medians[proxy.name] / medians[best] if best else None,
            "requests_per_second": statistics.median(r.per_second for r in results),
            "p99_ms": statistics.median(r.p99_ms for r in results),
            "errors": sum(r.errors for r in results),
            "pss_mib": results[-1].pss_mib,
        })
    return rows


def print_table(load, rows, options):
    print(f"\n{LOADS[load]}: {options.connections} connections, {options.rounds} rounds of {options.seconds} s")
    print(f"{'proxy':22} {'CPU µs/request':>24} {'ratio':>6} {'requests/s':>11} {'p99 ms':>7} {'errors':>7} {'Pss MiB':>8}")
    for row in rows:
        cost = f"{row['micros']:.2f} [{row['micros_min']:.2f}–{row['micros_max']:.2f}]"
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else "–"
        print(
            f"{row['proxy']:22} {cost:>24} {ratio:>6} {row['requests_per_second']:>11.0f} {row['p99_ms']:>7.2f}"
            f" {row['errors']:>7} {row['pss_mib']:>8.1f}"
        )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/baribhara", help="the gateway (default: %(default)s)")
    parser.add_argument("--proxies", nargs="+", default=["nginx", "haproxy", "envoy", "baribhara"],
                        choices=["nginx", "haproxy", "envoy", "baribhara"])
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=list(LOADS))
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=6, help="of one round (default: %(default)s, at most 60)")
    parser.add_argument("--connections", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--idle-connections", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--bare", action="store_true",
                        help="peers set no forwarding headers and no request id, though the gateway does")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(".bench"),
                        help="for configurations and logs (default: %(default)s)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the rows there")
    options = parser.parse_args()
    if not (1 <= options.seconds <= 60 and 1 <= options.rounds <= 100 and 1 <= options.connections <= 4096):
        parser.error("seconds: 1 to 60, rounds: 1 to 100, connections: 1 to 4096")
    if not 100 <= options.idle_connections <= proxies.CONNECTIONS_MAX - 1000:
        parser.error(f"idle connections: 100 to {proxies.CONNECTIONS_MAX - 1000}")
    return options


def main():
    options = arguments()
    if os.cpu_count() < 2:
        raise Failure("two cores are needed: one for the proxy, one for load and backend")
    if set(options.loads) & set(IDLE_LOADS):
        raise_file_limit(options.idle_connections + 1000)
    rows = []
    for load in options.loads:
        folder = (options.folder / load).resolve()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if load in IDLE_LOADS:
            rows += measure_idle(load, folder, options)
            idle.print_table(LOADS[load], [row for row in rows if row["load"] == load], options.idle_connections)
            continue
        if load == "policies":
            rows += policies.measure(folder, options, lambda pid, port, headers, refused, seconds: spend(
                "baribhara", pid, wrk_command(f"http://127.0.0.1:{port}/", headers, options, seconds),
                refusals_report if refused else wrk_report, seconds))
            policies.print_table(LOADS[load], [row for row in rows if row["load"] == load], options)
            continue
        field, rounds = compare(load, folder, options)
        rows += report(load, field, rounds)
        print_table(load, [row for row in rows if row["load"] == load], options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    if any(row["errors"] for row in rows):
        raise Failure("there were errors, so the figures do not count")


if __name__ == "__main__":
    try:
        main()
    except (Failure, OSError) as problem:
        sys.exit(f"bench: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)
