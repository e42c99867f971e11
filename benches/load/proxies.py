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

# A message of gRPC with its length before it, and the call that sends it and gets it back.
GRPC_MESSAGE = b"\0\0\0\0\x80" + b"x" * 128
GRPC_PATH = "/bench.Echo/Unary"

# Loads over TLS, those of them over HTTP/2, and what the proxy offers by ALPN.
TLS_LOADS = ("tls", "h2", "handshake-full", "handshake-resumed", "grpc", "idle-tls")
H2_LOADS = ("h2", "grpc")

# What a proxy must be able to hold.
CONNECTIONS_MAX = 16384

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
    # Where its configuration is.
    folder: pathlib.Path
    metrics_path: str = "/metrics"


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
events {{ worker_connections {CONNECTIONS_MAX}; }}
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


def grpc_backend(folder, ports):
    """As backend, but HTTP/2 without TLS; answers every call with the same message and `grpc-status: 0`."""
    (folder / "message").write_bytes(GRPC_MESSAGE)
    servers = "\n".join(
        f"""  server {{
    listen 127.0.0.1:{port} http2 backlog=4096;
    root {folder};
    types {{ }}
    default_type application/grpc;
    location / {{
      add_trailer grpc-status 0 always;
      # Takes the length away, as answers of gRPC have none: behind one, HAProxy drops the trailers.
      sub_filter_types application/grpc;
      sub_filter "no such text" "";
      # A file is not for POST; this is nginx's own way to answer one with it.
      error_page 405 =200 /message;
      try_files /message =404;
    }}
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
    if load in TLS_LOADS:
        chain, key = certificate(folder)
        http2 = " http2" if load in H2_LOADS else ""
        tls = f" ssl{http2}; ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3"
        if load == "handshake-resumed":
            tls += "; ssl_session_cache shared:sessions:10m"
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
    to_backends = """
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;""" + forwarded + """
      proxy_pass http://backends;"""
    if load == "grpc":
        to_backends = forwarded.replace("proxy_set_header", "grpc_set_header") + "\n      grpc_pass grpc://backends;"
    # A client may send as many requests as it likes on a connection of HTTP/2 too (keepalive_requests holds for both).
    config = f"""{nginx_head(folder)}
  upstream backends {{
{upstreams}
    keepalive 256;
    keepalive_requests 1000000000;
  }}{zone}
  server {{
    listen 127.0.0.1:{ports.http} backlog=4096{tls};
    location / {{{features}{to_backends}
    }}
  }}
  server {{
    listen 127.0.0.1:{ports.admin};
    location = /metrics {{ stub_status; }}
  }}
}}
"""
    command = nginx_command(folder, config)
    return Proxy("nginx", command, ports, "Active connections", False if load == "mission" else None, folder)


def haproxy(folder, load, ports, bare):
    to_backend = " proto h2" if load == "grpc" else ""
    servers = "\n".join(
        f"  server s{i} 127.0.0.1:{port} maxconn 1024{to_backend}" for i, port in enumerate(ports.backends)
    )
    scheme, tls = "http", ""
    if load in TLS_LOADS:
        chain, key = certificate(folder)
        both = folder / "both.pem"
        both.write_text(chain.read_text() + key.read_text())
        scheme, tls = "https", f" ssl crt {both} ssl-min-ver TLSv1.2"
        tls += " alpn h2,http/1.1" if load in H2_LOADS else ""
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
  maxconn {CONNECTIONS_MAX}
  # It would ask for files for a server's connection beside each client's.
  no strict-limits
defaults
  mode http
  timeout connect 3s
  # Counts for a connection that waits for its next request, too.
  timeout client 120s
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
    return Proxy("haproxy", command, ports, "haproxy_frontend_http_requests_total", True if load == "mission" else None, folder)


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
    if load in TLS_LOADS:
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
    backendRefs: [{{name: web, port: 80{", protocol: GRPC" if load == "grpc" else ""}}}]
{policies if mission else ""}""")
    command = [
        str(pathlib.Path(binary).resolve()), "run", "--config", str(config), "--workers", "1",
        *listen, "--admin", f"127.0.0.1:{ports.admin}",
        "--access-log", "off", "--lame-duck", "0s", "--drain", "1s",
    ]
    return Proxy("baribhara", command, ports, "http_requests_total", True if mission else None, folder)


def envoy(folder, load, ports, bare):
    """Every load but the mission's."""
    tls = ""
    if load in TLS_LOADS:
        chain, key = certificate(folder)
        protocols = '["h2", "http/1.1"]' if load in H2_LOADS else '["http/1.1"]'
        tls = f"""
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
        common_tls_context:
          alpn_protocols: {protocols}
          tls_certificates: [{{certificate_chain: {{filename: "{chain}"}}, private_key: {{filename: "{key}"}}}}]"""
    endpoints = "\n".join(
        f"      - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}"
        for port in ports.backends
    )
    forwarded = "" if bare else """
            request_headers_to_add:
            - {header: {key: x-forwarded-host, value: "%REQ(:AUTHORITY)%"}}
            - {header: {key: x-real-ip, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}"""
    version = "http2_protocol_options" if load == "grpc" else "http_protocol_options"
    path = folder / "envoy.yaml"
    path.write_text(f"""admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {ports.admin}}}}}}}
static_resources:
  listeners:
  - name: gateway
    address: {{socket_address: {{address: 127.0.0.1, port_value: {ports.http}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: gateway
          use_remote_address: true
          generate_request_id: {"false" if bare else "true"}
          route_config:
            name: all
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: backends}}}}]}}{forwarded}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}{tls.replace(chr(10), chr(10) + "  ")}
  clusters:
  - name: backends
    connect_timeout: 3s
    type: STATIC
    lb_policy: ROUND_ROBIN
    circuit_breakers: {{thresholds: [{{max_connections: 8192, max_pending_requests: 8192, max_requests: 8192}}]}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{{version}: {{}}}}
    load_assignment:
      cluster_name: backends
      endpoints:
      - lb_endpoints:
{endpoints.replace("      - ", "        - ")}
""")
    command = ["envoy", "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]
    return Proxy("envoy", command, ports, "envoy_http_downstream_rq_total", None, folder, "/stats/prometheus")
