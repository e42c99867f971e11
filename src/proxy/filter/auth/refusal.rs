//! Why a request may not pass, as the client sees it (kind) and as logs and metrics see it (reason). Holds no text of
//! the request.

use http::HeaderValue;

/// What the client learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthRefusalKind {
    /// 401: no token, or not a good one.
    Unauthenticated,
    /// 403: the claims, the method or the address do not authorise.
    Forbidden,
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
    /// A rule denied, or none allowed.
    NotAuthorized,
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
            Self::SignatureInvalid => "signature_invalid",
            Self::ClaimsMalformed => "claims_malformed",
            Self::ClaimWrongType => "claim_wrong_type",
            Self::ClaimMissing => "claim_missing",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::AudienceMismatch => "audience_mismatch",
            Self::NotAuthorized => "not_authorized",
        }
    }
}

/// One refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AuthRefusal {
    pub(crate) reason: AuthReason,
    /// Whether a token could have changed the answer: the route asks for tokens at all.
    takes_tokens: bool,
}

impl AuthRefusal {
    pub(crate) const fn new(reason: AuthReason, takes_tokens: bool) -> Self {
        Self { reason, takes_tokens }
    }

    pub(crate) const fn kind(self) -> AuthRefusalKind {
        match self.reason {
            AuthReason::NotAuthorized => AuthRefusalKind::Forbidden,
            AuthReason::TokenMissing
            | AuthReason::SeveralTokens
            | AuthReason::TokenTooLong
            | AuthReason::TokenMalformed
            | AuthReason::HeaderUnsupported
            | AuthReason::AlgorithmNotAllowed
            | AuthReason::KeyUnknown
            | AuthReason::SignatureInvalid
            | AuthReason::ClaimsMalformed
            | AuthReason::ClaimWrongType
            | AuthReason::ClaimMissing
            | AuthReason::TokenExpired
            | AuthReason::TokenNotYetValid
            | AuthReason::IssuerMismatch
            | AuthReason::AudienceMismatch => AuthRefusalKind::Unauthenticated,
        }
    }

    /// The challenge (RFC 6750 §3). `None` on a 403 of a route that takes no tokens: none would help.
    pub(crate) fn www_authenticate(self) -> Option<HeaderValue> {
        let challenge = match (self.kind(), self.reason) {
            (AuthRefusalKind::Forbidden, _) if !self.takes_tokens => return None,
            (AuthRefusalKind::Forbidden, _) => "Bearer error=\"insufficient_scope\"",
            (AuthRefusalKind::Unauthenticated, AuthReason::TokenMissing) => "Bearer",
            // RFC 6750 §3.1: more than one method of sending a token is a malformed request.
            (AuthRefusalKind::Unauthenticated, AuthReason::SeveralTokens) => {
                "Bearer error=\"invalid_request\""
            }
            (AuthRefusalKind::Unauthenticated, _) => "Bearer error=\"invalid_token\"",
        };
        Some(HeaderValue::from_static(challenge))
    }
}
