//! Who may pass: how methods of authentication are combined, JSON Web Tokens (RFC 7519), and authorization by claims.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;
use serde::Serialize;

use crate::{ApiKeys, BasicAuth, ExternalAuth, ObjectRef, Redacted, RemoteKeys, ser};

/// One requirement of one object. A route may have several (its own and those of AuthPolicies); all must pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Auth {
    pub source: ObjectRef,
    #[serde(skip_serializing_if = "AuthMode::is_all")]
    pub mode: AuthMode,
    pub jwt: Option<JwtRequirement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Arc<ApiKeys>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Arc<BasicAuth>>,
    /// Asked after the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<Arc<ExternalAuth>>,
    /// Always asked, whatever the mode, and after the methods above.
    pub authorization: Option<Authorization>,
}

impl Auth {
    /// The headers by which a backend is told who asks. A name may come twice.
    pub fn identity_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let claims = self.jwt.iter().flat_map(|jwt| &jwt.providers);
        let claims = claims.flat_map(|provider| &provider.claims_to_headers).map(|claim| &claim.header);
        let client = self.api_key.iter().filter_map(|keys| keys.client_id_header.as_ref());
        let told = self.external.iter().flat_map(|external| &external.response_headers);
        claims.chain(client).chain(told)
    }
}

/// How many of the methods of one object must succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum AuthMode {
    #[default]
    All,
    /// One is enough. No method is optional then.
    Any,
}

impl AuthMode {
    /// Whether every method must succeed.
    pub const fn is_all(&self) -> bool {
        match self {
            Self::All => true,
            Self::Any => false,
        }
    }
}

/// A token of one of these providers is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JwtRequirement {
    /// Any of them may have issued the token; never empty.
    pub providers: Vec<Arc<JwtProvider>>,
    /// A missing token passes; an invalid one never does.
    pub optional: bool,
}

/// Where tokens come from and what makes one valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JwtProvider {
    pub source: ObjectRef,
    pub name: Arc<str>,
    /// The exact `iss`; `None` only where the object says `anyIssuer`.
    pub issuer: Option<String>,
    /// Any of them must stand in `aud`; empty means not checked.
    pub audiences: Vec<String>,
    pub keys: KeySource,
    /// The allow-list. Never empty, never `none`, HS* only with keys of a Secret.
    pub algorithms: Vec<Algorithm>,
    /// Tried in order; more than one token in a request is refused.
    pub from: Vec<TokenSource>,
    /// Added to `exp` and taken from `nbf`; at most 60 s.
    #[serde(serialize_with = "ser::millis")]
    pub clock_skew: Duration,
    /// `exp` is always among them.
    pub required_claims: Vec<String>,
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// False: the token is removed before the request goes upstream.
    pub forward_token: bool,
}

/// Signature algorithms of RFC 7518 §3.1 and RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// Every algorithm, in the order of RFC 7518 §3.1.
    pub const ALL: [Self; 12] = [
        Self::HS256,
        Self::HS384,
        Self::HS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// The algorithm of this name. Names are compared with regard to case (RFC 7515 §4.1.1); `none` is not among them.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// The name as it stands in a token's head.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// Whether the key is a secret that both sides share.
    pub const fn is_hmac(self) -> bool {
        match self {
            Self::HS256 | Self::HS384 | Self::HS512 => true,
            Self::RS256
            | Self::RS384
            | Self::RS512
            | Self::PS256
            | Self::PS384
            | Self::PS512
            | Self::ES256
            | Self::ES384
            | Self::EdDSA => false,
        }
    }
}

/// Where the keys of a provider are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum KeySource {
    /// Here: objects hold them.
    Given(KeySet),
    /// The data plane fetches them. Never symmetric ones.
    Remote(Arc<RemoteKeys>),
}

/// The keys of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeySet {
    pub keys: Vec<Jwk>,
}

/// One key (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jwk {
    pub kid: Option<String>,
    /// `alg` of the key: the only algorithm it may be used with.
    pub algorithm: Option<Algorithm>,
    pub material: JwkMaterial,
}

/// The key itself. Numbers are the raw big-endian bytes, already base64url-decoded and checked for size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum JwkMaterial {
    /// HMAC; at least one byte.
    Symmetric(Redacted<Vec<u8>>),
    /// 2048 to 8192 bits.
    Rsa {
        #[serde(serialize_with = "ser::hex")]
        n: Vec<u8>,
        #[serde(serialize_with = "ser::hex")]
        e: Vec<u8>,
    },
    P256 {
        #[serde(serialize_with = "ser::hex")]
        x: Vec<u8>,
        #[serde(serialize_with = "ser::hex")]
        y: Vec<u8>,
    },
    P384 {
        #[serde(serialize_with = "ser::hex")]
        x: Vec<u8>,
        #[serde(serialize_with = "ser::hex")]
        y: Vec<u8>,
    },
    Ed25519 {
        #[serde(serialize_with = "ser::hex")]
        x: Vec<u8>,
    },
}

/// Where in a request a token may stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum TokenSource {
    /// `prefix` (like `Bearer `) is compared without regard to case; it may be empty.
    Header {
        #[serde(serialize_with = "ser::header_name")]
        name: HeaderName,
        prefix: String,
    },
    Cookie {
        name: String,
    },
    Query {
        name: String,
    },
}

/// A claim that the upstream gets as a header. The client's own copies are always removed first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimToHeader {
    /// The way to the claim, already split: `realm.roles` is `["realm", "roles"]`, `/a~1b` is `["a/b"]`.
    pub path: Vec<String>,
    #[serde(serialize_with = "ser::header_name")]
    pub header: HeaderName,
    /// What stands between the elements of an array.
    pub join: String,
}

/// The first rule that matches decides; no rule matches: denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authorization {
    pub rules: Vec<AuthorizationRule>,
}

/// All conditions must hold; an empty condition holds always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorizationRule {
    pub name: Arc<str>,
    pub action: AuthorizationAction,
    pub claims: Vec<ClaimCondition>,
    #[serde(serialize_with = "ser::methods")]
    pub methods: Vec<Method>,
    pub client_cidrs: Vec<IpNet>,
    /// Ids of clients, one of whose API keys the request brings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// Names of users, one of whose passwords the request brings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
}

impl AuthorizationRule {
    /// Whether the address lies in one of the rule's networks, or the rule names none.
    pub fn takes_address(&self, address: IpAddr) -> bool {
        self.client_cidrs.is_empty() || self.client_cidrs.iter().any(|net| net.contains(&address))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AuthorizationAction {
    Allow,
    Deny,
}

/// What a claim must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimCondition {
    /// Only claims of this provider's token count; `None`: of any.
    pub provider: Option<Arc<str>>,
    pub path: Vec<String>,
    pub operator: ClaimOperator,
    pub values: Vec<String>,
}

/// How a claim is compared with the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ClaimOperator {
    /// The claim (as text) is one of the values.
    In,
    /// The claim is there and is none of the values.
    NotIn,
    /// The array, or the string split at blanks, holds at least one of the values.
    ContainsAny,
    /// … holds all of the values.
    ContainsAll,
    /// The claim is there.
    Exists,
}
