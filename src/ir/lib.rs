//! The contract between what users wrote and what the proxy does: plain data, no behaviour but the one form of names,
//! paths and key sets.
//!
//! Invariant: a value; equal values mean equal behaviour. Nothing here reads a clock, a socket or a file.

mod affinity;
mod api_key;
mod auth;
mod backend;
mod balance;
mod basic;
mod config;
mod control;
mod cors;
mod external;
mod extras;
mod filter;
mod health;
mod home;
mod host;
mod jwks;
mod limit;
mod object;
mod passthrough;
mod path;
mod remote_keys;
mod route;
mod secret;
mod ser;
mod tls;
mod upgrade;
mod upstream;

pub use affinity::{Affinity, AffinityCookie, AffinityFailure, AffinityMode, SameSite};
pub use api_key::{ApiKey, ApiKeys};
pub use auth::{
    Algorithm, Auth, AuthMode, Authorization, AuthorizationAction, AuthorizationRule, ClaimCondition,
    ClaimOperator, ClaimToHeader, Jwk, JwkMaterial, JwtProvider, JwtRequirement, KeySet, KeySource,
    TokenSource,
};
pub use backend::{BackendEndpoints, BackendId, Endpoint, EndpointMap};
pub use balance::{BalancePolicy, HashOn, LoadBalancing, ZonePreference};
pub use basic::{BasicAuth, BasicUser, HashScheme, PasswordHash};
pub use config::{Applied, Config};
pub use control::{ControlState, KeySetPhase, KeySetState, KeySetStates};
pub use cors::{Cors, CorsOrigin};
pub use external::{AnswerCache, CacheKey, ExternalAuth, FailureMode, SignIn, UrlPart, UrlTemplate};
pub use extras::{
    ErrorPage, Fault, FaultAbort, FaultAnswer, FaultDelay, FaultHeader, Mirror, RouteExtras, SideBackend,
    StatusRange,
};
pub use filter::{
    DirectResponse, HeaderEdit, HeaderEdits, IpAccess, PathRewrite, Redirect, Rewrite, RewritePath, Scheme,
};
pub use health::{ActiveHealth, Probe};
pub use home::Home;
pub use host::{HostName, HostNameError, HostPattern};
pub use jwks::{
    HMAC_BYTES_ADVISED, JWKS_BYTES_MAX, JWKS_KEYS_MAX, KeyFinding, KeySetError, ParsedKeys, key_fits,
    parse_jwks, was_meant_as_json,
};
pub use limit::{
    Concurrency, CounterScope, Limit, LimitAnswer, LimitBody, LimitCost, LimitHeaders, LimitKey, LimitMode,
    LimitPhase, LimitPolicy, LimitWhen, OnMissing, Rate, RateCounting,
};
pub use object::{Kind, ObjectRef, RouteId};
pub use passthrough::{Passthrough, PassthroughBackend, ProxyVersion};
pub use path::{PathError, canonical_path, hex_digit, push_escape};
pub use remote_keys::{AddressRange, KeysUri, KeysUriError, RemoteKeys};
pub use route::{
    Action, AdaptiveLimit, BackendTarget, BreakerFailures, CircuitBreaker, CookieMatch, FailReason,
    HeaderMatch, Match, PassiveHealth, PathMatch, QueryMatch, Retry, RetryOn, Route, SuccessRate, Timeouts,
    ValueMatch, WeightedBackend,
};
pub use secret::Redacted;
pub use tls::{
    Certificate, ClientAuth, ClientAuthMode, ClientForward, RouteClient, RouteTls, Tls, TlsHost, TlsPolicy,
    TlsVersion,
};
pub use upgrade::Upgrades;
pub use upstream::{Trust, UpstreamProtocol, UpstreamTls, UpstreamVersion};

/// The largest compiled size of one regular expression in bytes; a larger one is refused with its rule (hardening CP05).
pub const REGEX_SIZE_BYTES_MAX: usize = 1 << 20;
/// The longest regular expression in characters.
pub const REGEX_CHARS_MAX: usize = 1024;
