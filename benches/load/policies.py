"""What each policy adds to a request: one gateway, one host for each policy, and CPU time per request by host.

All hosts are routes of one process, so that everything but the policy is the same. The policies take turns within a round;
the figure of a policy is the median over the rounds of its difference from the plain route of the same round. Before
the load each policy must show that it is at work.
"""

import base64
import dataclasses
import hashlib
import json
import statistics
import sys

import proxies
from processes import Failure, Running, ask, free_ports, wait_until_serving

PLAIN = "none"
REFUSED = "limit by address, all refused"
# Of the CPU time of the plain route (hardening RL11). Half is the goal; pairs gave 0.41 to 0.55, with medians of 0.48 and 0.52.
REFUSED_SHARE_MAX = 0.6
# A round has a part for each policy, so these are shorter than those of other loads.
SHARE_OF_SECONDS = 3
SHARE = "a refusal, of a request that is proxied"
# A plain and a refused part in each round.
PAIRS = 2
API_KEY = "bench-key-0123456789abcdef"
# {SHA} as in old files: checked once, then the verdict is remembered, as with bcrypt.
HTPASSWD = "bench:{SHA}" + base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
BASIC = "Basic " + base64.b64encode(b"bench:secret").decode()


@dataclasses.dataclass(frozen=True)
class Policy:
    """Text of YAML flow style that goes into the one rule of a route, and what a request must bring."""

    name: str
    rule: str = ""
    headers: dict = dataclasses.field(default_factory=dict)
    # Limits of a RateLimitPolicy for the route.
    limits: str = ""
    # Status of a request without `headers`, where it is not 200.
    without: int = 200
    # An answer's header that must be there.
    answers: str = ""
    # What every request of the load is answered with, once the first has passed.
    status: int = 200


def limit(name, keys="[]", rates="[{requests: 1000000, per: 1s}]", more=""):
    return f"{{name: {name}, keys: {keys}, rates: {rates}{more}}}"


TOKEN = {"Authorization": f"Bearer {proxies.token(expires_in=24 * 3600)}"}
BY_ADDRESS = "[{type: ClientIP}]"
POLICIES = [
    Policy(PLAIN),
    Policy("ip access", "ipAccess: {allow: [127.0.0.0/8, 10.0.0.0/8], deny: [192.0.2.0/24]}"),
    Policy("largest body", "maxRequestBody: 1Mi"),
    Policy(
        "headers of both ways",
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b}], remove: [X-C]}},"
        " {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-D, value: e}]}}]",
        answers="x-d",
    ),
    Policy(
        "rewrite by expression",
        'filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceRegex, regex: "^/(.*)", substitution: "/${1}"}}}]',
    ),
    Policy(
        "CORS",
        f'filters: [{{type: CORS, cors: {{allowOrigins: ["{proxies.ORIGIN}"]}}}}]',
        headers={"Origin": proxies.ORIGIN},
        answers="vary",
    ),
    Policy("limit, one for all", limits=limit("all"), answers="ratelimit"),
    Policy("limit by address", limits=limit("address", BY_ADDRESS), answers="ratelimit"),
    Policy(
        "limit by address, three rates",
        limits=limit("address", BY_ADDRESS, "[" + ", ".join(f"{{requests: {10**n}, per: {p}}}" for n, p in ((6, "1s"), (8, "1m"), (9, "1h"))) + "]"),
        answers="ratelimit",
    ),
    Policy("limit, sliding window", limits=limit("sliding", BY_ADDRESS, more=", algorithm: SlidingWindow"), answers="ratelimit"),
    Policy("limit of the calendar", limits=limit("calendar", BY_ADDRESS, "[{requests: 100000000, per: 1m, calendar: true}]"), answers="ratelimit"),
    Policy("limit in shadow", limits=limit("shadow", BY_ADDRESS, more=", mode: Shadow")),
    Policy("JWT HS256, verdict remembered", "auth: {jwt: {providers: [bench]}}", TOKEN, without=401),
    Policy(
        "JWT with a rule over claims",
        "auth: {jwt: {providers: [bench]}, authorization: {rules: [{name: a, action: Allow, claims: [{claim: sub, operator: In, values: [bench]}]}]}}",
        TOKEN,
        without=401,
    ),
    Policy("password, verdict remembered", "auth: {basic: {secretRef: {name: htpasswd}}}", {"Authorization": BASIC}, without=401),
    Policy(
        "API key",
        "auth: {apiKey: {secretSelector: {matchLabels: {tier: bench}}, clientIdHeader: X-Client}}",
        {"X-API-Key": API_KEY},
        without=401,
    ),
    Policy(
        "another service decides, answer kept",
        "auth: {external: {backendRef: {name: web, port: 80}, path: /, cache: {key: [X-User], ttl: 10m}}}",
        {"X-User": "bench"},
    ),
    Policy("another service decides, asked each time", "auth: {external: {backendRef: {name: web, port: 80}, path: /}}"),
    Policy("error pages, none shown", "filters: [{type: ErrorPages, errorPages: [{statusCodes: ['500-599'], backendRef: {name: web, port: 80}}]}]"),
    Policy("mirror of all requests", "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}]"),
    Policy("faults for a header that is not there", "filters: [{type: Fault, fault: {header: {name: X-Fault}, abort: {statusCode: 503}}}]"),
    Policy("adaptive bound", "circuitBreaker: {adaptive: {minRequests: 1000}}"),
    Policy(
        "retry, timeouts, breaker, ejection",
        "retry: {attempts: 2, 'on': [ConnectFailure, Reset, '503']}, timeouts: {request: 10s, perTry: 3s, connect: 1s},"
        " circuitBreaker: {maxConnections: 1024, maxRequests: 1024}, healthCheck: {passive: {consecutive5xx: 5}}",
    ),
    Policy("least request of two", "loadBalancing: {policy: LeastRequest}"),
    Policy("EWMA", "loadBalancing: {policy: EWMA}"),
    Policy("consistent hash", "loadBalancing: {policy: ConsistentHash, hashOn: {type: SourceIP}}"),
    Policy("affinity by cookie, first visits", "affinity: {cookie: {name: SRV}}", answers="set-cookie"),
    Policy(REFUSED, limits=limit("shut", BY_ADDRESS, "[{requests: 1, per: 744h}]"), answers="ratelimit", status=429),
]


def host(policy):
    return "".join(c if c.isalnum() else "-" for c in policy.name.lower()).strip("-")


def route(policy):
    providers = "jwtProviders: [{name: bench, issuer: " + proxies.ISSUER + ", algorithms: [HS256], jwks: {secretRef: {name: key}}}]"
    rule = f", {policy.rule}" if policy.rule else ""
    text = f"""---
apiVersion: gateway.baribhara.io/v1alpha1
kind: GatewayRoute
metadata: {{name: {host(policy)}, namespace: bench}}
spec: {{hostnames: [{host(policy)}.bench], {providers}, rules: [{{name: all, backendRefs: [{{name: web, port: 80}}]{rule}}}]}}
"""
    if policy.limits:
        text += f"""---
apiVersion: gateway.baribhara.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: {host(policy)}, namespace: bench}}
spec:
  targetRefs: [{{group: gateway.baribhara.io, kind: GatewayRoute, name: {host(policy)}}}]
  limits: [{policy.limits}]
"""
    return text


def secrets():
    keys = json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": proxies.base64url(proxies.KEY.encode())}]})
    entries = [("key", "", "jwks.json", keys), ("htpasswd", "", "auth", HTPASSWD), ("clients", ", labels: {tier: bench}", "bench", API_KEY)]
    return "".join(
        f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: bench{labels}}}\n"
        f"data: {{{entry}: {base64.b64encode(value.encode()).decode()}}}\n"
        for name, labels, entry, value in entries
    )


def check(policy, port):
    """That the policy is at work."""
    headers = {"Host": f"{host(policy)}.bench"}
    if policy.without != 200:
        status = ask(port, headers=headers)[0]
        if status != policy.without:
            raise Failure(f"{policy.name}: answers {status} without {', '.join(policy.headers)}")
    status, answer, body = ask(port, headers=headers | policy.headers)
    if status != 200 or body != proxies.BODY:
        raise Failure(f"{policy.name}: answers {status}: {body[:300]}")
    if policy.answers and policy.answers not in answer:
        raise Failure(f"{policy.name}: the answer has no {policy.answers}")
    if policy.status != 200 and ask(port, headers=headers)[0] != policy.status:
        raise Failure(f"{policy.name}: the second request is not answered {policy.status}")


def measure(folder, options, run):
    """Rows for the table and for --json. `run` puts load on the gateway: (process id, port, headers, whether all are
    refused, seconds) → a round."""
    running = Running()
    try:
        backends = tuple(free_ports(3))
        place = folder / "backend"
        place.mkdir(parents=True)
        running.start(proxies.backend(place, backends), "1", place / "log")
        for port in backends:
            wait_until_serving("the backend", port, place / "log", {})
        place = folder / "baribhara"
        place.mkdir()
        ports = proxies.Ports(*free_ports(2), backends)
        proxy = proxies.baribhara(place, "plain", ports, options.binary)
        (place / "config" / "policies.yaml").write_text("".join(map(route, POLICIES)) + secrets())
        pid = running.start(proxy.command, "0", place / "log")
        wait_until_serving("baribhara", ports.http, place / "log", {"Host": f"{host(POLICIES[0])}.bench"})
        for policy in POLICIES:
            check(policy, ports.http)
        seconds = max(options.seconds // SHARE_OF_SECONDS, 1)
        rounds = {policy.name: [] for policy in POLICIES}
        pairs = []

        def load(policy, seconds):
            headers = {"Host": f"{host(policy)}.bench"} | policy.headers
            return run(pid, ports.http, headers, policy.status != 200, seconds)

        for number in range(options.rounds + 1):
            for policy in POLICIES:
                result = load(policy, seconds if number else 1)
                if number:
                    rounds[policy.name].append(result)
            if number:
                # One right after the other and as long as other loads: what is asked of them is a ratio.
                pairs += [(load(POLICIES[0], options.seconds), load(POLICIES[-1], options.seconds)) for _ in range(PAIRS)]
            print(f"  policies {number}/{options.rounds}", file=sys.stderr)
        return rows(rounds) + [share_row(pairs)]
    finally:
        running.stop()


def share_row(pairs):
    shares = [refused.micros / plain.micros for plain, refused in pairs]
    return {
        "load": "policies",
        "policy": SHARE,
        "share": statistics.median(shares),
        "share_min": min(shares),
        "share_max": max(shares),
        "errors": sum(result.errors for pair in pairs for result in pair),
    }


def rows(rounds):
    plain = [result.micros for result in rounds[PLAIN]]
    found = []
    for name, results in rounds.items():
        added = [result.micros - base for result, base in zip(results, plain)]
        found.append({
            "load": "policies",
            "policy": name,
            "micros": statistics.median(result.micros for result in results),
            "added": statistics.median(added),
            "added_min": min(added),
            "added_max": max(added),
            "errors": sum(result.errors for result in results),
        })
    return found


def print_table(title, found, options):
    seconds = max(options.seconds // SHARE_OF_SECONDS, 1)
    print(f"\n{title}: {options.connections} connections, {options.rounds} rounds of {seconds} s")
    print(f"{'policy':36} {'CPU µs/request':>15} {'adds µs':>24} {'errors':>7}")
    for row in found:
        if row["policy"] == SHARE:
            continue
        added = f"{row['added']:+.2f} [{row['added_min']:+.2f}–{row['added_max']:+.2f}]"
        print(f"{row['policy']:36} {row['micros']:>15.2f} {added:>24} {row['errors']:>7}")
    row = next(row for row in found if row["policy"] == SHARE)
    print(f"a refusal takes {row['share']:.2f} [{row['share_min']:.2f}–{row['share_max']:.2f}] of a request that is proxied")
    if row["share"] > REFUSED_SHARE_MAX:
        raise Failure(f"a refusal takes more than {REFUSED_SHARE_MAX} of a request that is proxied")
