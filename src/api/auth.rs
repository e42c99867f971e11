//! Who may pass: JSON Web Tokens (RFC 7519), API keys, passwords, and authorization by claims. Shared by GatewayRoute
//! and AuthPolicy.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::external::ExternalAuth;
use crate::matches::yes;
use crate::meta::{DEFAULT_REALM, JWKS_KEY};
use crate::remote_jwks::RemoteJwks;
use crate::text::{CIDR, DATA_KEY, DNS_LABEL, DNS_SUBDOMAIN, METHOD, TOKEN};
use crate::value::Duration;

/// Where tokens come from and what makes one valid. `exp` is always required.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.issuer) != self.anyIssuer",
        "message": "exactly one of issuer and anyIssuer: true must be set; name the exact iss of the tokens as issuer",
    },
    {
        "rule": "!has(self.algorithms) || !self.algorithms.exists(a, a.startsWith('HS')) || has(self.jwks.secretRef)",
        "message": "HS256, HS384 and HS512 need a key that is secret; take jwks.secretRef or another algorithm",
    },
]))]
pub struct JwtProvider {
    /// The name that rules and limits use: a DNS label.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// The exact `iss` of the tokens. At most 512 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub issuer: Option<String>,
    /// True: `iss` is not checked. Default false.
    #[serde(default)]
    pub any_issuer: bool,
    /// One of these must stand in `aud`. Empty: `aud` is not checked. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub audiences: Vec<String>,
    /// The keys that sign the tokens.
    pub jwks: Jwks,
    /// The algorithms that are allowed; each key is used with those of its own kind only. HS* only with
    /// `jwks.secretRef`. Empty: all that fit the keys of a JWKS (a bare HMAC key needs one named). At most 12.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Vec<JwtAlgorithm>,
    /// Where a token may stand, tried in order: 1 to 8. A request with more than one token is refused.
    /// Default: the Authorization header with the prefix `Bearer `.
    #[serde(default = "bearer")]
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub from: Vec<TokenSource>,
    /// How far the issuer's clock may be off: added to `exp`, taken from `nbf`. At most 60s, default 30s.
    #[serde(default = "thirty_seconds")]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "duration(self) <= duration('60s')", "message": "clockSkew is at most 60s; write a shorter time"},
    ]))]
    pub clock_skew: Duration,
    /// Claims that every token must have, beside `exp`. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub required_claims: Vec<String>,
    /// Claims that the backend gets as headers. The client's own headers of these names are always removed.
    /// At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["header"]))]
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// Whether the backend gets the token. Default true.
    #[serde(default = "yes")]
    pub forward_token: bool,
}

/// A set of keys (JWK set, RFC 7517), from exactly one place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(has(self.remote) ? 1 : 0) + (has(self.secretRef) ? 1 : 0) + (has(self.configMapRef) ? 1 : 0) \
                 + (has(self.inline) ? 1 : 0) == 1",
        "message": "exactly one of remote, secretRef, configMapRef and inline must be set; keep one of them",
    },
]))]
pub struct Jwks {
    /// The identity provider's own key set, fetched over the network and kept fresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteJwks>,
    /// A Secret of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyRef>,
    /// A ConfigMap of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyRef>,
    /// The JWK set as JSON text: at most 65536 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 65536))]
    pub inline: Option<String>,
}

/// One entry of a Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
    /// The entry of its data. Default `jwks.json`.
    #[serde(default = "jwks_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

/// Signature algorithms of RFC 7518 §3.1 and RFC 8037. There is no `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum JwtAlgorithm {
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

/// One place where a token may stand: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(has(self.header) ? 1 : 0) + (has(self.cookie) ? 1 : 0) + (has(self.query) ? 1 : 0) == 1",
        "message": "exactly one of header, cookie and query must be set; make one list item of each",
    },
]))]
pub struct TokenSource {
    /// A request header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<TokenHeader>,
    /// A cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<TokenCookie>,
    /// A query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<TokenQuery>,
}

/// A header that holds a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenHeader {
    /// The header's name, without regard to case.
    #[schemars(length(min = 1, max = 256), regex(pattern = TOKEN))]
    pub name: String,
    /// What stands before the token, without regard to case, like `Bearer `. Default: nothing.
    #[serde(default)]
    #[schemars(length(max = 64), regex(pattern = "^[ -~]*$"))]
    pub prefix: String,
}

/// A cookie that holds a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenCookie {
    /// The cookie's name, with regard to case.
    #[schemars(length(min = 1, max = 256), regex(pattern = TOKEN))]
    pub name: String,
}

/// A query parameter that holds a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenQuery {
    /// The parameter's name, with regard to case.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
}

/// A claim that the backend gets as a header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// The claim: its name, a dotted path (`realm.roles`) or a JSON pointer
    /// (`/https:~1~1example.com~1roles`).
    #[schemars(length(min = 1, max = 256))]
    pub claim: String,
    /// The header's name.
    #[schemars(length(min = 1, max = 256), regex(pattern = TOKEN))]
    pub header: String,
    /// What stands between the elements of an array. Default `,`.
    #[serde(default = "comma")]
    #[schemars(length(max = 8), regex(pattern = "^[ -~]*$"))]
    pub join: String,
}

/// What a request must bring. Authentication comes first, authorization after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(has(self.disabled) && self.disabled) != \
                 (has(self.jwt) || has(self.apiKey) || has(self.basic) || has(self.external) || has(self.authorization))",
        "message": "auth needs jwt, apiKey, basic, external or authorization, or else disabled: true; set one of them, or remove auth",
    },
    {
        "rule": "self.mode != 'Any' || !has(self.jwt) || !self.jwt.optional",
        "message": "with mode: Any a token that may be missing would let everybody pass; remove optional or write mode: All",
    },
]))]
pub struct Auth {
    /// True: the rule does not take `defaults.auth`. Then nothing else is set. Default false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// All: every method that is set (jwt, apiKey, basic, external) must succeed. Any: one of them is enough. `authorization` holds after
    /// them either way. Default All.
    #[serde(default)]
    pub mode: AuthMode,
    /// A token is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuth>,
    /// A key is needed that a client was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyAuth>,
    /// A name and password are needed (RFC 7617).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
    /// Another service must let the request pass. It is asked after the other methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalAuth>,
    /// What the claims and the client's address must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// A token of one of these providers is needed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtAuth {
    /// Names of `jwtProviders` of this object; any of them may have issued the token. 1 to 8.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 63), regex(pattern = DNS_LABEL)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub providers: Vec<String>,
    /// True: a request without a token passes; one with an invalid token never does. Default false.
    #[serde(default)]
    pub optional: bool,
}

/// How many of the methods must succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AuthMode {
    #[default]
    All,
    Any,
}

/// A key is needed that a client was given. It is not passed on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyAuth {
    /// Secrets of the same namespace. Every entry of theirs is a client: its name is the client's id and its value the key.
    /// A client may have several keys, in several Secrets. A key that two clients have is neither's.
    pub secret_selector: SecretSelector,
    /// Where a key may stand: at most 8 places. A request with more than one key is refused. Default: the header
    /// `X-API-Key`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub from: Vec<TokenSource>,
    /// The backend gets the client's id as this header. The client's own headers of this name are always removed. Unset:
    /// it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = TOKEN))]
    pub client_id_header: Option<String>,
}

/// Secrets by their labels.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretSelector {
    /// A Secret has all of these labels: 1 to 16.
    #[schemars(extend(
        "minProperties" = 1,
        "maxProperties" = 16,
        "additionalProperties" = {"type": "string", "maxLength": 63},
    ))]
    pub match_labels: BTreeMap<String, String>,
}

/// A name and password are needed. They are not passed on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// A Secret of the same namespace whose entry `auth` is a file as `htpasswd` writes it: one `name:hash` a line, hashed
    /// with bcrypt (`htpasswd -B`), or with MD5-crypt (`$apr1$`, `$1$`), SHA-crypt (`$5$`, `$6$`) or `{SHA}`. Passwords in
    /// plain text are refused.
    pub secret_ref: HtpasswdRef,
    /// What browsers show when they ask for the password. Default `Restricted`.
    #[serde(default = "restricted")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[ -~]+$"))]
    pub realm: String,
}

/// A Secret with users.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HtpasswdRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
}

/// The first rule that matches decides. No rule matches: 403.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// The rules in order: 1 to 32.
    #[schemars(length(min = 1, max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub rules: Vec<AuthorizationRule>,
}

/// Conditions that must all hold, and what follows. A condition that is not set holds always.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationRule {
    /// The rule's name: a DNS label.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// Allow or Deny.
    pub action: AuthorizationAction,
    /// What claims must be; all of them. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub claims: Vec<ClaimCondition>,
    /// The request has one of these methods. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 32), regex(pattern = METHOD)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub methods: Vec<String>,
    /// The client's address lies in one of these networks (CIDR, or one address). At most 64.
    #[serde(default, rename = "clientCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 2, max = 49), regex(pattern = CIDR)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub client_cidrs: Vec<String>,
    /// The request brings the API key of one of these clients, by their ids. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253), regex(pattern = DATA_KEY)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub clients: Vec<String>,
    /// The request brings the name and password of one of these users (`auth.basic`). At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub users: Vec<String>,
}

/// What an authorization rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AuthorizationAction {
    Allow,
    Deny,
}

/// What a claim must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(self.operator == 'Exists') == (!has(self.values) || size(self.values) == 0)",
        "message": "Exists takes no values and every other operator needs some; add or remove values",
    },
]))]
pub struct ClaimCondition {
    /// Only claims of this provider's token count. Unset: of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub provider: Option<String>,
    /// The claim: its name, a dotted path (`realm.roles`) or a JSON pointer.
    #[schemars(length(min = 1, max = 256))]
    pub claim: String,
    /// In (the claim is one of the values), NotIn (it is there and is none of them), ContainsAny and
    /// ContainsAll (an array, or a string split at blanks, holds one or all of them), Exists (it is there).
    pub operator: ClaimOperator,
    /// What the claim is compared with: 1 to 64, none with Exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub values: Vec<String>,
}

/// How a claim is compared with the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ClaimOperator {
    In,
    NotIn,
    ContainsAny,
    ContainsAll,
    Exists,
}

fn bearer() -> Vec<TokenSource> {
    let header = TokenHeader { name: "Authorization".into(), prefix: "Bearer ".into() };
    vec![TokenSource { header: Some(header), cookie: None, query: None }]
}

fn thirty_seconds() -> Duration {
    Duration::from_millis(30_000)
}

fn jwks_key() -> String {
    JWKS_KEY.into()
}

fn restricted() -> String {
    DEFAULT_REALM.into()
}

fn comma() -> String {
    ",".into()
}

fn is_false(value: &bool) -> bool {
    !*value
}
