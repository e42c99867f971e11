"""The proxies that are compared, each with a configuration that does the same work, and the backend behind them.

Writes configurations into a folder and says how to start them; starts and measures nothing.
"""

import base64
import dataclasses
import hashlib
import hmac
import json
import pathlib
import subprocess
import time

ORIGIN = "https://app.example.com"
ISSUER = "https://id.bench.example"
# Public on purpose: it signs nothing but this bench.
KEY = "bench-key-0123456789-0123456789-0123456789"
BODY = "x" * 127 + "\n"

# The headers that every proxy sets for the backend, so that nobody wins by doing less.
FORWARDED = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "x-request-id")


@dataclasses.dataclass(frozen=True)
class Ports:
    http: int
    admin: int
    backends: tuple


@dataclasses.dataclass(frozen=True)
class Proxy:
    """How one proxy does one load."""

    name: str
    command: list
    ports: Ports
    # Where its numbers are read.
    metrics: str
    # Whether it checks tokens; None where the load has none.
    jwt: bool | None


def base64url(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def token(expires_in=3600, key=KEY):
    """A JWT signed with HS256."""
    claims = {"iss": ISSUER, "sub": "bench", "exp": int(time.time()) + expires_in}
    signed = ".".join(base64url(json.dumps(value).encode()) for value in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{signed}.{base64url(hmac.digest(key.encode(), signed.encode(), hashlib.sha256))}"


def certificate(folder):
    """A certificate that signs itself, ECDSA P-256, with its key: two files of PEM."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(chain)],
        check=True, capture_output=True,
    )
    return chain, key


def nginx_command(folder, config):
    path = folder / "nginx.conf"
    path.write_text(config)
    return ["nginx", "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(path)]


def nginx_head(folder):
    temporary = "\n".join(
        f"  {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  server_tokens off;
  keepalive_timeout 120s;
  keepalive_requests 1000000000;
{temporary}
"""


def backend(folder, ports):
    """Three servers in one nginx worker. /headers shows what a proxy sent."""
    seen = " ".join(f"{name}=$http_{name.replace('-', '_')}" for name in FORWARDED)
    servers = "\n".join(
        f"""  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type text/plain; return 200 "{BODY[:-1]}\\n"; }}
    location /headers {{ default_type text/plain; return 200 "port={port} {seen}\\n"; }}
  }}"""
        for port in ports
    )
    return nginx_command(folder, nginx_head(folder) + servers + "\n}\n")


def nginx(folder, load, ports, bare):
    """The mission's path without JWT: Debian's nginx cannot check one."""
    upstreams = "\n".join(f"    server 127.0.0.1:{port};" for port in ports.backends)
    forwarded = "" if bare else """
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Request-Id $request_id;"""
    zone = features = tls = ""
    if load == "tls":
        chain, key = certificate(folder)
        tls = f" ssl; ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3"
    if load == "mission":
        zone = f"""
  limit_req_zone $binary_remote_addr zone=clients:10m rate=1000000r/s;
  map $http_origin $allowed {{ default ""; "{ORIGIN}" $http_origin; }}"""
        features = """
      if ($request_method = OPTIONS) {
        add_header Access-Control-Allow-Origin $allowed always;
        add_header Access-Control-Allow-Methods "GET, POST" always;
        add_header Vary Origin always;
        return 204;
      }
      limit_req zone=clients burst=1000000 nodelay;
      add_header Access-Control-Allow-Origin $allowed always;
      add_header Vary Origin always;"""
    config = f"""{nginx_head(folder)}
  upstream backends {{
{upstreams}
    keepalive 256;
    keepalive_requests 1000000000;
  }}{zone}
  server {{
    listen 127.0.0.1:{ports.http} backlog=4096{tls};
    location / {{{features}
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;{forwarded}
      proxy_pass http://backends;
    }}
  }}
  server {{
    listen 127.0.0.1:{ports.admin};
    location = /metrics {{ stub_status; }}
  }}
}}
"""
    command = nginx_command(folder, config)
    return Proxy("nginx", command, ports, "Active connections", False if load == "mission" else None)


def haproxy(folder, load, ports, bare):
    servers = "\n".join(f"  server s{i} 127.0.0.1:{port} maxconn 1024" for i, port in enumerate(ports.backends))
    scheme, tls = "http", ""
    if load == "tls":
        chain, key = certificate(folder)
        both = folder / "both.pem"
        both.write_text(chain.read_text() + key.read_text())
        scheme, tls = "https", f" ssl crt {both} ssl-min-ver TLSv1.2"
    forwarded = "" if bare else f"""
  option forwardfor
  http-request set-header X-Forwarded-Proto {scheme}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Request-Id %[uuid()] unless {{ req.hdr(x-request-id) -m found }}"""
    features = ""
    if load == "mission":
        features = f"""
  http-request set-var(txn.origin) req.hdr(origin)
  http-request return status 204 hdr Access-Control-Allow-Origin %[var(txn.origin)] hdr Access-Control-Allow-Methods "GET, POST" hdr Vary Origin if METH_OPTIONS {{ req.hdr(access-control-request-method) -m found }} {{ var(txn.origin) -m str {ORIGIN} }}
  http-response set-header Access-Control-Allow-Origin %[var(txn.origin)] if {{ var(txn.origin) -m str {ORIGIN} }}
  http-response add-header Vary Origin
  stick-table type ip size 100k expire 60s store http_req_rate(10s)
  http-request track-sc0 src
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 2000000000 }}
  http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')
  http-request set-var(txn.iss) http_auth_bearer,jwt_payload_query('$.iss')
  http-request set-var(txn.exp) http_auth_bearer,jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.alg) -m str HS256 }}
  http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}
  http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
  http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_verify(txn.alg,"{KEY}") -m int 1 }}"""
    path = folder / "haproxy.cfg"
    path.write_text(f"""global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 3s
  timeout client 30s
  timeout server 30s
  timeout http-keep-alive 120s
  option http-keep-alive
frontend gateway
  bind 127.0.0.1:{ports.http} backlog 4096{tls}{forwarded}{features}
  default_backend servers
backend servers
  balance roundrobin
  http-reuse always
{servers}
frontend metrics
  bind 127.0.0.1:{ports.admin}
  http-request use-service prometheus-exporter if {{ path /metrics }}
""")
    command = ["haproxy", "-db", "-f", str(path)]
    return Proxy("haproxy", command, ports, "haproxy_frontend_http_requests_total", True if load == "mission" else None)


def baribhara(folder, load, ports, binary):
    config = folder / "config"
    config.mkdir(exist_ok=True)
    slices = "".join(
        f"""---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-{i}, namespace: bench, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: true}}}}]
"""
        for i, port in enumerate(ports.backends)
    )
    mission = load == "mission"
    providers = f"""
  jwtProviders:
  - name: bench
    issuer: {ISSUER}
    algorithms: [HS256]
    jwks: {{secretRef: {{name: key}}}}"""
    features = f"""
    filters:
    - type: CORS
      cors: {{allowOrigins: ["{ORIGIN}"], allowMethods: [GET, POST]}}
    auth: {{jwt: {{providers: [bench]}}}}"""
    key_set = {"keys": [{"kty": "oct", "alg": "HS256", "k": base64url(KEY.encode())}]}
    secret = base64.b64encode(json.dumps(key_set).encode()).decode()
    policies = f"""---
apiVersion: v1
kind: Secret
metadata: {{name: key, namespace: bench}}
data: {{jwks.json: {secret}}}
---
apiVersion: gateway.baribhara.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: clients, namespace: bench}}
spec:
  targetRefs: [{{group: gateway.baribhara.io, kind: GatewayRoute, name: web}}]
  limits:
  - name: per-client
    keys: [{{type: ClientIP}}]
    rates: [{{requests: 1000000, per: 1s}}]
"""
    listen = ["--http", f"127.0.0.1:{ports.http}", "--https", "off"]
    if load == "tls":
        chain, key = (base64.b64encode(file.read_bytes()).decode() for file in certificate(folder))
        (config / "certificate.yaml").write_text(f"""apiVersion: v1
kind: Secret
metadata: {{name: certificate, namespace: bench}}
type: kubernetes.io/tls
data: {{tls.crt: {chain}, tls.key: {key}}}
""")
        # The load names no host in its handshakes.
        listen = ["--http", "127.0.0.1:0", "--https", f"127.0.0.1:{ports.http}"]
        listen += ["--default-tls-secret", "bench/certificate"]
    (config / "bench.yaml").write_text(f"""apiVersion: v1
kind: Service
metadata: {{name: web, namespace: bench}}
spec:
  ports: [{{name: http, port: 80, targetPort: http}}]
{slices}---
apiVersion: gateway.baribhara.io/v1alpha1
kind: GatewayRoute
metadata: {{name: web, namespace: bench}}
spec:{providers if mission else ""}
  rules:
  - name: all
    matches:
    - path: {{type: PathPrefix, value: /}}{features if mission else ""}
    backendRefs: [{{name: web, port: 80}}]
{policies if mission else ""}""")
    command = [
        str(pathlib.Path(binary).resolve()), "run", "--config", str(config), "--workers", "1",
        *listen, "--admin", f"127.0.0.1:{ports.admin}",
        "--access-log", "off", "--lame-duck", "0s", "--drain", "1s",
    ]
    return Proxy("baribhara", command, ports, "http_requests_total", True if mission else None)
