//! The Kubernetes types of the gateway: GatewayRoute, RateLimitPolicy and AuthPolicy, and the names users
//! write.
//!
//! Invariant: says what users may write, and nothing of what becomes of it.

mod affinity;
mod auth;
mod balance;
mod condition;
mod cors;
mod crd;
mod error_page;
mod external;
mod fault;
mod filter;
mod grant;
mod health;
mod limit;
mod matches;
mod meta;
mod mirror;
mod policy;
mod remote_jwks;
mod route;
mod text;
mod tls;
mod upstream;
mod value;

pub use affinity::{Affinity, AffinityCookie, AffinityFailure, AffinityMode, AffinityType, SameSite};
pub use auth::{
    ApiKeyAuth, Auth, AuthMode, Authorization, AuthorizationAction, AuthorizationRule, BasicAuth,
    ClaimCondition, ClaimOperator, ClaimToHeader, HtpasswdRef, Jwks, JwtAlgorithm, JwtAuth, JwtProvider,
    KeyRef, SecretSelector, TokenCookie, TokenHeader, TokenQuery, TokenSource,
};
pub use balance::{HashOn, HashOnType, LoadBalancing, LoadBalancingPolicy, ZonePreference};
pub use condition::{ConditionReason, ConditionType, Status};
pub use cors::Cors;
pub use crd::{crds, crds_reference, crds_yaml};
pub use error_page::{ErrorPage, ServiceRef};
pub use external::{AuthBackendRef, AuthCache, ExternalAuth, FailureMode, SignIn};
pub use fault::{Fault, FaultAbort, FaultDelay, FaultHeader};
pub use filter::{
    DirectResponse, Filter, FilterType, HeaderModifier, HttpHeader, PathModifier, PathModifierType,
    RedirectScheme, RequestRedirect, UrlRewrite,
};
pub use grant::{GrantFrom, GrantTo, ReferenceGrant, ReferenceGrantSpec};
pub use health::{ActiveCheckType, ActiveHealthCheck};
pub use limit::{
    Concurrency, CounterScope, Limit, LimitAlgorithm, LimitBody, LimitCost, LimitHeaders, LimitKey,
    LimitKeyType, LimitMode, LimitPhase, LimitResponse, LimitWhen, OnMissing, Rate,
};
pub use matches::{
    CookieMatch, HeaderMatch, PathMatch, PathMatchType, QueryParamMatch, RouteMatch, ValueMatchType,
};
pub use meta::{
    AFFINITY_ANNOTATION, AFFINITY_KEY, AFFINITY_MODE_ANNOTATION, AUTH_CACHE_DURATION_ANNOTATION,
    AUTH_CACHE_KEY_ANNOTATION, AUTH_FAILURE_MODE_ANNOTATION, AUTH_METHOD_ANNOTATION, AUTH_POLICY_ANNOTATION,
    AUTH_REALM_ANNOTATION, AUTH_REQUEST_REDIRECT_ANNOTATION, AUTH_RESPONSE_HEADERS_ANNOTATION,
    AUTH_SECRET_ANNOTATION, AUTH_SECRET_TYPE_ANNOTATION, AUTH_SIGNIN_ANNOTATION,
    AUTH_SIGNIN_REDIRECT_PARAM_ANNOTATION, AUTH_TIMEOUT_ANNOTATION, AUTH_TYPE_ANNOTATION,
    AUTH_URL_ANNOTATION, BACKEND_PROTOCOL_ANNOTATION, BACKEND_TLS_CA_ANNOTATION,
    BACKEND_TLS_CLIENT_CERT_ANNOTATION, BACKEND_TLS_HOSTNAME_ANNOTATION, BACKEND_TLS_VERIFY_ANNOTATION,
    CA_CRL_KEY, CA_KEY, CIRCUIT_BREAKER_ANNOTATION, CLIENT_AUTH_ANNOTATION, CLIENT_AUTH_CA_ANNOTATION,
    CLIENT_AUTH_FORWARD_ANNOTATION, CONTROLLER_NAME, CUSTOM_HTTP_ERRORS_ANNOTATION,
    DEFAULT_BACKEND_ANNOTATION, DEFAULT_CLASS_ANNOTATION, DEFAULT_INGRESS_CLASS, DEFAULT_REALM,
    FILTERS_ANNOTATION, GROUP, HEALTH_CHECK_ANNOTATION, HTPASSWD_KEY, INGRESS_CLASS_ANNOTATION,
    IP_ACCESS_ANNOTATION, JWKS_KEY, LIMIT_ALLOWLIST_ANNOTATION, LIMIT_BURST_MULTIPLIER_ANNOTATION,
    LIMIT_CONNECTIONS_ANNOTATION, LIMIT_RPM_ANNOTATION, LIMIT_RPS_ANNOTATION, LOAD_BALANCE_ANNOTATION,
    LOAD_BALANCING_ANNOTATION, MAX_REQUEST_BODY_ANNOTATION, MIRROR_REQUEST_BODY_ANNOTATION,
    MIRROR_TARGET_ANNOTATION, NGINX_CUSTOM_HTTP_ERRORS_ANNOTATION, NGINX_DEFAULT_BACKEND_ANNOTATION,
    NGINX_MIRROR_REQUEST_BODY_ANNOTATION, NGINX_MIRROR_TARGET_ANNOTATION, RATE_LIMIT_POLICY_ANNOTATION,
    REDIRECT_HTTP_ANNOTATION, RETRY_ANNOTATION, RULE_ANNOTATIONS,
    SESSION_COOKIE_CHANGE_ON_FAILURE_ANNOTATION, SESSION_COOKIE_DOMAIN_ANNOTATION,
    SESSION_COOKIE_MAX_AGE_ANNOTATION, SESSION_COOKIE_NAME_ANNOTATION, SESSION_COOKIE_PATH_ANNOTATION,
    SESSION_COOKIE_SAMESITE_ANNOTATION, SESSION_COOKIE_SECURE_ANNOTATION, STREAM_IDLE_TIMEOUT_ANNOTATION,
    TIMEOUTS_ANNOTATION, TLS_CERTIFICATE_KEY, TLS_OCSP_STAPLE_KEY, TLS_PRIVATE_KEY_KEY, TLS_SECRET_TYPE,
    UPGRADES_ANNOTATION, UPSTREAM_HASH_BY_ANNOTATION, VERSION,
};
pub use mirror::RequestMirror;
pub use policy::{
    AuthPolicy, AuthPolicySpec, RateLimitPolicy, RateLimitPolicySpec, TargetGroup, TargetKind, TargetRef,
};
pub use remote_jwks::RemoteJwks;
pub use route::{GatewayRoute, GatewayRouteSpec, IpAccess, RouteDefaults, RouteRule};
pub use tls::{
    ClientAuth, ClientAuthMode, ClientForward, Hsts, RedirectHttp, SecretRef, Tls, TlsMode, TlsVersion,
};
pub use upstream::{
    AdaptiveConcurrency, BackendProtocol, BackendRef, BackendTls, BackendValidation, Backoff,
    BreakerFailures, CaKind, CaRef, CircuitBreaker, HealthCheck, PassiveHealthCheck, ProxyProtocol, Retry,
    SuccessRate, Timeouts,
};
pub use value::{ByteQuantity, Duration};
