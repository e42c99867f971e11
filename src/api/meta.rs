//! Group, version and the labels, annotations and names that users write, each once.

/// The group of all kinds of this gateway.
pub const GROUP: &str = "gateway.baribhara.io";
/// The version that is served and stored.
pub const VERSION: &str = "v1alpha1";
/// `spec.controller` of the IngressClass that this gateway serves.
pub const CONTROLLER_NAME: &str = "gateway.baribhara.io/controller";
/// The class that is served where no flag names another.
pub const DEFAULT_INGRESS_CLASS: &str = "baribhara";
/// The annotation that named an Ingress's class before `ingressClassName`.
pub const INGRESS_CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Marks the IngressClass that Ingresses without a class belong to.
pub const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// On an Ingress: RateLimitPolicies of its namespace, by name, separated by commas. The same as a target
/// reference.
pub const RATE_LIMIT_POLICY_ANNOTATION: &str = "gateway.baribhara.io/rate-limit-policy";
/// On an Ingress: so many requests of one client address at once, 1 to 1000000 (ingress-nginx: `limit-connections`).
pub const LIMIT_CONNECTIONS_ANNOTATION: &str = "gateway.baribhara.io/limit-connections";
/// On an Ingress: so many requests of one client address a second, 1 to 1000000 (ingress-nginx: `limit-rps`).
pub const LIMIT_RPS_ANNOTATION: &str = "gateway.baribhara.io/limit-rps";
/// On an Ingress: so many requests of one client address a minute, 1 to 1000000 (ingress-nginx: `limit-rpm`).
pub const LIMIT_RPM_ANNOTATION: &str = "gateway.baribhara.io/limit-rpm";
/// On an Ingress: so many times the rate passes at once, 1 to 1000 (ingress-nginx: `limit-burst-multiplier`). Default 5.
pub const LIMIT_BURST_MULTIPLIER_ANNOTATION: &str = "gateway.baribhara.io/limit-burst-multiplier";
/// On an Ingress: addresses and networks of clients that its limits do not count, separated by commas (ingress-nginx:
/// `limit-allowlist`).
pub const LIMIT_ALLOWLIST_ANNOTATION: &str = "gateway.baribhara.io/limit-allowlist";
/// On an Ingress: AuthPolicies of its namespace, by name, separated by commas. The same as a target
/// reference.
pub const AUTH_POLICY_ANNOTATION: &str = "gateway.baribhara.io/auth-policy";
/// On an Ingress: `basic`: a name and password are needed (ingress-nginx: `auth-type`).
pub const AUTH_TYPE_ANNOTATION: &str = "gateway.baribhara.io/auth-type";
/// On an Ingress: the Secret of its namespace with the users (ingress-nginx: `auth-secret`).
pub const AUTH_SECRET_ANNOTATION: &str = "gateway.baribhara.io/auth-secret";
/// On an Ingress: `auth-file`: the entry `auth` of the Secret is a file of `htpasswd`; `auth-map`: each entry is a user's
/// name and holds the hash. Default `auth-file`.
pub const AUTH_SECRET_TYPE_ANNOTATION: &str = "gateway.baribhara.io/auth-secret-type";
/// On an Ingress: what browsers show when they ask for the password. Default `Restricted`.
pub const AUTH_REALM_ANNOTATION: &str = "gateway.baribhara.io/auth-realm";
/// On an Ingress: the URL of a service that is asked about each request (ingress-nginx: the same name).
pub const AUTH_URL_ANNOTATION: &str = "gateway.baribhara.io/auth-url";
/// On an Ingress: the page that browsers are sent to instead of a 401 (ingress-nginx: the same name).
pub const AUTH_SIGNIN_ANNOTATION: &str = "gateway.baribhara.io/auth-signin";
/// On an Ingress: the query parameter that tells that page what was asked for. Default `rd`.
pub const AUTH_SIGNIN_REDIRECT_PARAM_ANNOTATION: &str = "gateway.baribhara.io/auth-signin-redirect-param";
/// On an Ingress: the method that the service is asked with. Default `GET`.
pub const AUTH_METHOD_ANNOTATION: &str = "gateway.baribhara.io/auth-method";
/// On an Ingress: headers of the service's answer that backends get, separated by commas.
pub const AUTH_RESPONSE_HEADERS_ANNOTATION: &str = "gateway.baribhara.io/auth-response-headers";
/// On an Ingress: what answers are kept by, in variables of nginx like `$http_authorization`. Unset: none are kept.
pub const AUTH_CACHE_KEY_ANNOTATION: &str = "gateway.baribhara.io/auth-cache-key";
/// On an Ingress: how long they count. Default `5m`.
pub const AUTH_CACHE_DURATION_ANNOTATION: &str = "gateway.baribhara.io/auth-cache-duration";
/// On an Ingress: how long the service may take, 1ms to 60s. Default `2s`.
pub const AUTH_TIMEOUT_ANNOTATION: &str = "gateway.baribhara.io/auth-timeout";
/// On an Ingress: `Closed` or `Open`: what becomes of requests while the service cannot be asked. Default `Closed`.
pub const AUTH_FAILURE_MODE_ANNOTATION: &str = "gateway.baribhara.io/auth-failure-mode";
/// On an Ingress: what the service is told as `X-Auth-Request-Redirect` (ingress-nginx: the same name). Default: path and
/// query that were asked for.
pub const AUTH_REQUEST_REDIRECT_ANNOTATION: &str = "gateway.baribhara.io/auth-request-redirect";
/// The entry of a Secret with users, one `name:hash` a line.
pub const HTPASSWD_KEY: &str = "auth";
/// What browsers show where nothing else is said.
pub const DEFAULT_REALM: &str = "Restricted";
/// The key of a Secret or ConfigMap that holds a JWK set, unless the reference names another.
pub const JWKS_KEY: &str = "jwks.json";
/// On an Ingress with `spec.tls`: the status (301, 302, 303, 307, 308) by which requests without TLS for the hosts in it
/// are sent to `https`, or `false`: they are served. Default 308 (ingress-nginx: `ssl-redirect`).
pub const REDIRECT_HTTP_ANNOTATION: &str = "gateway.baribhara.io/redirect-http";
/// On an Ingress: how its backends are spoken to, `HTTP`, `H2C`, `HTTPS`, `GRPC` or `GRPCS`. Default: what the Service
/// port's `appProtocol` says.
pub const BACKEND_PROTOCOL_ANNOTATION: &str = "gateway.baribhara.io/backend-protocol";
/// On an Ingress: `configmap/NAME` or `secret/NAME` of its namespace, whose entry `ca.crt` holds the authorities that
/// certificates of its backends must be of. Default: those of the system.
pub const BACKEND_TLS_CA_ANNOTATION: &str = "gateway.baribhara.io/backend-tls-ca";
/// On an Ingress: the name that certificates of its backends must be for. Default: the Service's.
pub const BACKEND_TLS_HOSTNAME_ANNOTATION: &str = "gateway.baribhara.io/backend-tls-hostname";
/// On an Ingress: the Secret of its namespace with the certificate that is shown to its backends.
pub const BACKEND_TLS_CLIENT_CERT_ANNOTATION: &str = "gateway.baribhara.io/backend-tls-client-cert";
/// On an Ingress: `off`: certificates of its backends are not verified. Default `on`.
pub const BACKEND_TLS_VERIFY_ANNOTATION: &str = "gateway.baribhara.io/backend-tls-verify";
/// On an Ingress: protocols that clients may change to, separated by commas; empty: none. Default `websocket`.
pub const UPGRADES_ANNOTATION: &str = "gateway.baribhara.io/upgrades";
/// On an Ingress: `timeouts.streamIdle` of its rules (GEP-2257). Default `1h`; `0s`: no bound.
pub const STREAM_IDLE_TIMEOUT_ANNOTATION: &str = "gateway.baribhara.io/stream-idle-timeout";
/// On an Ingress: how the endpoints of its backends are chosen among: `RoundRobin`, `LeastRequest`, `EWMA` or `Random`.
/// Default `RoundRobin` (ingress-nginx: `load-balance`).
pub const LOAD_BALANCE_ANNOTATION: &str = "gateway.baribhara.io/load-balance";
/// On an Ingress: `Header NAME`, `Cookie NAME`, `QueryParam NAME`, `SourceIP`, `Host`, `Path` or `URI`: requests that are
/// alike in it go to one endpoint (ingress-nginx: `upstream-hash-by`).
pub const UPSTREAM_HASH_BY_ANNOTATION: &str = "gateway.baribhara.io/upstream-hash-by";
/// On an Ingress: statuses from 400 to 599, separated by commas, whose answers get a page of the Service that
/// `default-backend` names (ingress-nginx: the same name).
pub const CUSTOM_HTTP_ERRORS_ANNOTATION: &str = "gateway.baribhara.io/custom-http-errors";
/// On an Ingress: the Service of its namespace that makes its error pages, by its first port; it answers, too, where a
/// backend has no endpoint (ingress-nginx: the same name).
pub const DEFAULT_BACKEND_ANNOTATION: &str = "gateway.baribhara.io/default-backend";
/// On an Ingress: the Service of its namespace that gets copies of its requests: `NAME`, `NAME:PORT`, or a URL of the
/// cluster's such as `http://NAME.NAMESPACE.svc:PORT` (ingress-nginx: the same name).
pub const MIRROR_TARGET_ANNOTATION: &str = "gateway.baribhara.io/mirror-target";
/// On an Ingress: `on` or `off`: whether these copies have bodies. Default `on` (ingress-nginx: the same name).
pub const MIRROR_REQUEST_BODY_ANNOTATION: &str = "gateway.baribhara.io/mirror-request-body";
/// ingress-nginx's own names of these, which are read where ours are not there.
pub const NGINX_CUSTOM_HTTP_ERRORS_ANNOTATION: &str = "nginx.ingress.kubernetes.io/custom-http-errors";
pub const NGINX_DEFAULT_BACKEND_ANNOTATION: &str = "nginx.ingress.kubernetes.io/default-backend";
pub const NGINX_MIRROR_TARGET_ANNOTATION: &str = "nginx.ingress.kubernetes.io/mirror-target";
pub const NGINX_MIRROR_REQUEST_BODY_ANNOTATION: &str = "nginx.ingress.kubernetes.io/mirror-request-body";
/// On an Ingress: as YAML, what the field of this name says in a rule of a GatewayRoute, for all of its paths.
pub const TIMEOUTS_ANNOTATION: &str = "gateway.baribhara.io/timeouts";
/// The same for `retry`.
pub const RETRY_ANNOTATION: &str = "gateway.baribhara.io/retry";
/// The same for `circuitBreaker`.
pub const CIRCUIT_BREAKER_ANNOTATION: &str = "gateway.baribhara.io/circuit-breaker";
/// The same for `healthCheck`.
pub const HEALTH_CHECK_ANNOTATION: &str = "gateway.baribhara.io/health-check";
/// The same for `loadBalancing`.
pub const LOAD_BALANCING_ANNOTATION: &str = "gateway.baribhara.io/load-balancing";
/// The same for `filters`.
pub const FILTERS_ANNOTATION: &str = "gateway.baribhara.io/filters";
/// The same for `ipAccess`.
pub const IP_ACCESS_ANNOTATION: &str = "gateway.baribhara.io/ip-access";
/// The same for `maxRequestBody`.
pub const MAX_REQUEST_BODY_ANNOTATION: &str = "gateway.baribhara.io/max-request-body";
/// The annotations of an Ingress whose value is a field of a GatewayRoute's rule, each with that field.
pub const RULE_ANNOTATIONS: [(&str, &str); 8] = [
    (TIMEOUTS_ANNOTATION, "timeouts"),
    (RETRY_ANNOTATION, "retry"),
    (CIRCUIT_BREAKER_ANNOTATION, "circuitBreaker"),
    (HEALTH_CHECK_ANNOTATION, "healthCheck"),
    (LOAD_BALANCING_ANNOTATION, "loadBalancing"),
    (FILTERS_ANNOTATION, "filters"),
    (IP_ACCESS_ANNOTATION, "ipAccess"),
    (MAX_REQUEST_BODY_ANNOTATION, "maxRequestBody"),
];
/// The entry of the Secret of `--affinity-key-secret`.
pub const AFFINITY_KEY: &str = "key";
/// On an Ingress: `cookie`: the requests of one client go to one endpoint (ingress-nginx: the same name).
pub const AFFINITY_ANNOTATION: &str = "gateway.baribhara.io/affinity";
/// On an Ingress: `balanced` (a new endpoint takes its share of the sessions) or `persistent`. Default `balanced`.
pub const AFFINITY_MODE_ANNOTATION: &str = "gateway.baribhara.io/affinity-mode";
/// On an Ingress: the name of the cookie. Default: one of the path's own.
pub const SESSION_COOKIE_NAME_ANNOTATION: &str = "gateway.baribhara.io/session-cookie-name";
/// On an Ingress: the path that the cookie is for. Default `/`.
pub const SESSION_COOKIE_PATH_ANNOTATION: &str = "gateway.baribhara.io/session-cookie-path";
/// On an Ingress: the domain that the cookie is for. Default: the host alone.
pub const SESSION_COOKIE_DOMAIN_ANNOTATION: &str = "gateway.baribhara.io/session-cookie-domain";
/// On an Ingress: `Strict`, `Lax` or `None`. Default `Lax`.
pub const SESSION_COOKIE_SAMESITE_ANNOTATION: &str = "gateway.baribhara.io/session-cookie-samesite";
/// On an Ingress: `true` or `false`. Default: where the client asked with TLS.
pub const SESSION_COOKIE_SECURE_ANNOTATION: &str = "gateway.baribhara.io/session-cookie-secure";
/// On an Ingress: how long the browser keeps the cookie, in seconds. Default: as long as it runs.
pub const SESSION_COOKIE_MAX_AGE_ANNOTATION: &str = "gateway.baribhara.io/session-cookie-max-age";
/// On an Ingress: `false`: a session goes nowhere else while its endpoint is there. Default `true`.
pub const SESSION_COOKIE_CHANGE_ON_FAILURE_ANNOTATION: &str =
    "gateway.baribhara.io/session-cookie-change-on-failure";
/// On an Ingress with `spec.tls`: `Require` or `Optional`: its clients are asked for a certificate. Default: `Require`
/// where authorities are named, else none is asked.
pub const CLIENT_AUTH_ANNOTATION: &str = "gateway.baribhara.io/client-auth";
/// On an Ingress: `configmap/NAME` or `secret/NAME` of its namespace, whose entry `ca.crt` holds the authorities of its
/// clients.
pub const CLIENT_AUTH_CA_ANNOTATION: &str = "gateway.baribhara.io/client-auth-ca";
/// On an Ingress: what its backends are told of a client's certificate: `Subject`, `Verify`, `Certificate`, separated by
/// commas. Default: nothing.
pub const CLIENT_AUTH_FORWARD_ANNOTATION: &str = "gateway.baribhara.io/client-auth-forward";
/// The entry of a ConfigMap or Secret with certificates of authorities, as PEM, unless the reference names another.
pub const CA_KEY: &str = "ca.crt";
/// The entry beside authorities of clients with their revocation lists, as PEM.
pub const CA_CRL_KEY: &str = "ca.crl";
/// The type of Secrets that hold a certificate and its key.
pub const TLS_SECRET_TYPE: &str = "kubernetes.io/tls";
/// The entry with the certificate chain, as PEM.
pub const TLS_CERTIFICATE_KEY: &str = "tls.crt";
/// The entry with the private key, as PEM.
pub const TLS_PRIVATE_KEY_KEY: &str = "tls.key";
/// The entry with an OCSP response for the certificate, as DER (RFC 6960).
pub const TLS_OCSP_STAPLE_KEY: &str = "tls.ocsp-staple";
