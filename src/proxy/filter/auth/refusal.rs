//! Why a request may not pass, as the client sees it (kind) and as logs and metrics see it (reason). Holds no text of
//! the request.

use http::HeaderValue;

/// What the client learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthRefusalKind {
    /// 401: no token or password, or not a good one.
    Unauthenticated,
    /// 403: the claims, the method or the address do not authorise.
    Forbidden,
    /// 503: it cannot be found out now.
    Unavailable,
    /// 503: the keys of the tokens are not there.
    KeysUnavailable,
}

/// Why, for the log line and the metric label. Closed, so that no byte of a request becomes a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AuthReason {
    /// No configured place holds a token.
    TokenMissing,
    /// More than one token; none of them is trusted.
    SeveralTokens,
    /// Longer than `TOKEN_BYTES_MAX`.
    TokenTooLong,
    /// Not three base64url parts whose first is a JSON object of the right shape.
    TokenMalformed,
    /// `crit`, or `b64` other than true (RFC 7515 §4.1.11, RFC 7797).
    HeaderUnsupported,
    /// `alg` is unknown or not one that the provider and its keys allow; `none` among them.
    AlgorithmNotAllowed,
    /// No usable key has the token's `kid`, and every one has some.
    KeyUnknown,
    /// The provider's keys never came, are too old, or may lack the token's: it cannot be asked now.
    KeysUnavailable,
    /// No candidate key made the signature.
    SignatureInvalid,
    /// The claims are not one JSON object with unique names and bounded depth.
    ClaimsMalformed,
    /// A registered claim has a type that RFC 7519 §4.1 does not allow.
    ClaimWrongType,
    /// A required claim is missing or null.
    ClaimMissing,
    /// `exp` has passed.
    TokenExpired,
    /// `nbf` or `iat` lies in the future.
    TokenNotYetValid,
    /// `iss` is not the provider's.
    IssuerMismatch,
    /// `aud` names none of the provider's audiences.
    AudienceMismatch,
    /// No configured place holds an API key.
    ApiKeyMissing,
    /// More than one API key, or one that is too long.
    ApiKeyMalformed,
    /// Nobody has this API key.
    ApiKeyUnknown,
    /// No name and password.
    PasswordMissing,
    /// The header is no name and password (RFC 7617), or stands there twice.
    CredentialsMalformed,
    /// Nobody has this name with this password.
    PasswordWrong,
    /// As many checks of passwords wait as may.
    ChecksBusy,
    /// The service that was asked does not let it pass.
    ExternalRefused,
    /// The service could not be asked, or gave no answer that decides.
    ExternalUnavailable,
    /// A rule denied, or none allowed.
    NotAuthorized,
}

/// Which method of authentication a reason is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Token,
    ApiKey,
    Password,
    External,
}

impl AuthReason {
    /// The value of the field `reason` in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::TokenMissing => "token_missing",
            Self::SeveralTokens => "several_tokens",
            Self::TokenTooLong => "token_too_long",
            Self::TokenMalformed => "token_malformed",
            Self::HeaderUnsupported => "header_unsupported",
            Self::AlgorithmNotAllowed => "algorithm_not_allowed",
            Self::KeyUnknown => "key_unknown",
            Self::KeysUnavailable => "keys_unavailable",
            Self::SignatureInvalid => "signature_invalid",
            Self::ClaimsMalformed => "claims_malformed",
            Self::ClaimWrongType => "claim_wrong_type",
            Self::ClaimMissing => "claim_missing",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::AudienceMismatch => "audience_mismatch",
            Self::ApiKeyMissing => "api_key_missing",
            Self::ApiKeyMalformed => "api_key_malformed",
            Self::ApiKeyUnknown => "api_key_unknown",
            Self::PasswordMissing => "password_missing",
            Self::CredentialsMalformed => "credentials_malformed",
            Self::PasswordWrong => "password_wrong",
            Self::ChecksBusy => "checks_busy",
            Self::ExternalRefused => "external_refused",
            Self::ExternalUnavailable => "external_unavailable",
            Self::NotAuthorized => "not_authorized",
        }
    }

    /// Whether the client brought nothing of this kind, rather than something that is not good.
    pub(super) fn is_missing(self) -> bool {
        matches!(self, Self::TokenMissing | Self::ApiKeyMissing | Self::PasswordMissing)
    }

    /// Which of two refusals counts where one method would have been enough: what the client brought says more than what it
    /// did not, and what could not be found out may have been good.
    pub(super) fn or_weightier(self, other: Self) -> Self {
        let is_open = |reason: Self| reason.kind() == AuthRefusalKind::Unavailable;
        if is_open(self) || (!is_open(other) && (!self.is_missing() || other.is_missing())) {
            self
        } else {
            other
        }
    }

    /// `None`: no method's.
    pub(super) const fn scheme(self) -> Option<Scheme> {
        match self {
            Self::TokenMissing
            | Self::SeveralTokens
            | Self::TokenTooLong
            | Self::TokenMalformed
            | Self::HeaderUnsupported
            | Self::AlgorithmNotAllowed
            | Self::KeyUnknown
            | Self::KeysUnavailable
            | Self::SignatureInvalid
            | Self::ClaimsMalformed
            | Self::ClaimWrongType
            | Self::ClaimMissing
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::IssuerMismatch
            | Self::AudienceMismatch => Some(Scheme::Token),
            Self::ApiKeyMissing | Self::ApiKeyMalformed | Self::ApiKeyUnknown => Some(Scheme::ApiKey),
            Self::PasswordMissing | Self::CredentialsMalformed | Self::PasswordWrong | Self::ChecksBusy => {
                Some(Scheme::Password)
            }
            Self::ExternalRefused | Self::ExternalUnavailable => Some(Scheme::External),
            Self::NotAuthorized => None,
        }
    }

    pub(super) const fn kind(self) -> AuthRefusalKind {
        match (self, self.scheme()) {
            (Self::ChecksBusy | Self::ExternalUnavailable, _) => AuthRefusalKind::Unavailable,
            (Self::KeysUnavailable, _) => AuthRefusalKind::KeysUnavailable,
            (_, Some(Scheme::Token | Scheme::ApiKey | Scheme::Password | Scheme::External)) => {
                AuthRefusalKind::Unauthenticated
            }
            (_, None) => AuthRefusalKind::Forbidden,
        }
    }

    /// The challenge of a refused token (RFC 6750 §3).
    pub(super) fn bearer_challenge(self) -> HeaderValue {
        let challenge = match (self, self.scheme()) {
            (Self::NotAuthorized, _) => "Bearer error=\"insufficient_scope\"",
            // RFC 6750 §3.1: more than one method of sending a token is a malformed request.
            (Self::SeveralTokens, _) => "Bearer error=\"invalid_request\"",
            // The request has no token at all, as far as anyone looked.
            (Self::TokenMissing, _)
            | (_, Some(Scheme::ApiKey | Scheme::Password | Scheme::External) | None) => "Bearer",
            (_, Some(Scheme::Token)) => "Bearer error=\"invalid_token\"",
        };
        HeaderValue::from_static(challenge)
    }
}

/// One refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AuthRefusal {
    pub(crate) reason: AuthReason,
    /// Which object's methods refused; `None`: a rule.
    pub(super) demand: Option<usize>,
    /// Which object's rules did, and the rule that denied, if one did.
    pub(super) rules: Option<(usize, Option<usize>)>,
}

impl AuthRefusal {
    pub(super) const fn by_demand(reason: AuthReason, demand: usize) -> Self {
        Self { reason, demand: Some(demand), rules: None }
    }

    pub(super) const fn by_rules(rules: usize, rule: Option<usize>) -> Self {
        Self { reason: AuthReason::NotAuthorized, demand: None, rules: Some((rules, rule)) }
    }

    pub(crate) const fn kind(self) -> AuthRefusalKind {
        self.reason.kind()
    }
}
