//! Every answer that the gateway makes itself because something is wrong, in one table: status, name, words.

use http::StatusCode;

/// Why the gateway refuses or fails. The names go to the access log, to `X-Baribhara-Reason`-free problem types and
/// nowhere else; clients see status, title and type only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The path is not one that can be made canonical.
    BadPath,
    /// Host missing, twice, or not a host.
    BadHost,
    /// A header name with `_` where those are rejected, or fields that contradict each other.
    BadHeader,
    /// The connection's TLS was agreed on for another host, whose certificate or settings are not this one's (RFC 9110
    /// §15.5.20).
    MisdirectedRequest,
    /// CONNECT and TRACE.
    MethodNotAllowed,
    /// A tunnel was asked for (RFC 8441) that the route does not offer, or the upstream did not agree to.
    UpgradeRefused,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// The process has no memory left for it.
    Overloaded,
    RouteNotFound,
    AddressDenied,
    BodyTooLarge,
    /// The client's body did not come in time.
    BodyTimeout,
    /// The client broke off.
    ClientGone,
    RateLimited,
    /// No token or password, or one that does not count.
    Unauthenticated,
    /// No rule authorises the request.
    Unauthorized,
    /// As many passwords wait to be checked as may.
    AuthBusy,
    /// The service that decides could not be asked, or gave no answer that decides.
    AuthUnavailable,
    /// The keys that tokens are verified with are not there: fail closed.
    KeysUnavailable,
    /// The rule or one of its policies could not be built: fail closed.
    RuleInvalid,
    /// No such Service or port.
    BackendMissing,
    NoEndpoint,
    ConnectFailed,
    /// What TLS towards the backend needs could not be made of the configuration: fail closed.
    UpstreamTlsInvalid,
    /// The endpoint is not who it should be, or does not speak what it is asked to.
    UpstreamTlsFailed,
    BreakerOpen,
    /// The upstream broke off before its answer.
    UpstreamReset,
    /// The upstream's answer is no HTTP that can be sent on.
    UpstreamInvalid,
    UpstreamTimeout,
    /// A rewrite gave a path that can't be sent.
    RewriteFailed,
}

/// One line of the table.
struct Row {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
}

impl Reason {
    #[expect(clippy::too_many_lines, reason = "a table, one line for each reason")]
    const fn row(self) -> Row {
        let (status, name, title) = match self {
            Self::BadPath => (StatusCode::BAD_REQUEST, "bad-path", "The path is malformed"),
            Self::BadHost => (StatusCode::BAD_REQUEST, "bad-host", "The Host field is missing or malformed"),
            Self::BadHeader => (StatusCode::BAD_REQUEST, "bad-header", "A header field is not accepted"),
            Self::MisdirectedRequest => (
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected-request",
                "This connection is for another host",
            ),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed")
            }
            Self::UpgradeRefused => {
                (StatusCode::NOT_IMPLEMENTED, "upgrade-refused", "The protocol is not offered here")
            }
            Self::ExpectationFailed => {
                (StatusCode::EXPECTATION_FAILED, "expectation-failed", "The expectation can't be met")
            }
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The gateway is overloaded"),
            Self::RouteNotFound => (StatusCode::NOT_FOUND, "route-not-found", "No route takes this request"),
            Self::AddressDenied => {
                (StatusCode::FORBIDDEN, "address-denied", "The client address is not allowed")
            }
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large"),
            Self::BodyTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "body-timeout", "The body did not arrive in time")
            }
            Self::ClientGone => (StatusCode::BAD_REQUEST, "client-gone", "The request broke off"),
            Self::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "rate-limited", "Too many requests"),
            Self::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, "unauthenticated", "Valid credentials are required")
            }
            Self::Unauthorized => (StatusCode::FORBIDDEN, "unauthorized", "This is not permitted"),
            Self::AuthBusy => {
                (StatusCode::SERVICE_UNAVAILABLE, "auth-busy", "Too many are signing in at once")
            }
            Self::AuthUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "auth-unavailable", "Who may pass can't be found out now")
            }
            Self::KeysUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "keys-unavailable",
                "Credentials can't be checked at the moment",
            ),
            Self::RuleInvalid => {
                (StatusCode::INTERNAL_SERVER_ERROR, "rule-invalid", "The route is not configured correctly")
            }
            Self::BackendMissing => {
                (StatusCode::INTERNAL_SERVER_ERROR, "backend-missing", "The route has no backend")
            }
            Self::NoEndpoint => (StatusCode::SERVICE_UNAVAILABLE, "no-endpoint", "No endpoint is ready"),
            Self::ConnectFailed => {
                (StatusCode::SERVICE_UNAVAILABLE, "connect-failed", "The upstream can't be reached")
            }
            Self::UpstreamTlsInvalid => (
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream-tls-invalid",
                "TLS to the upstream is not configured correctly",
            ),
            Self::UpstreamTlsFailed => {
                (StatusCode::BAD_GATEWAY, "upstream-tls-failed", "The upstream's TLS was refused")
            }
            Self::BreakerOpen => {
                (StatusCode::SERVICE_UNAVAILABLE, "breaker-open", "The upstream is overloaded")
            }
            Self::UpstreamReset => (StatusCode::BAD_GATEWAY, "upstream-reset", "The upstream broke off"),
            Self::UpstreamInvalid => {
                (StatusCode::BAD_GATEWAY, "upstream-invalid", "The upstream's answer is malformed")
            }
            Self::UpstreamTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "upstream-timeout", "The upstream did not answer in time")
            }
            Self::RewriteFailed => {
                (StatusCode::INTERNAL_SERVER_ERROR, "rewrite-failed", "The rewritten path is malformed")
            }
        };
        Row { status, name, title }
    }

    pub(crate) const fn status(self) -> StatusCode {
        self.row().status
    }

    /// The stable name: in the log line and at the end of the problem type.
    pub(crate) const fn name(self) -> &'static str {
        self.row().name
    }

    /// What a person reads. Names nothing inside.
    pub(crate) const fn title(self) -> &'static str {
        self.row().title
    }

    /// When a client may try again, in seconds, where it makes sense to say so.
    pub(crate) fn retry_after(self) -> Option<u16> {
        if matches!(self, Self::KeysUnavailable) {
            return Some(5);
        }
        matches!(self, Self::BreakerOpen | Self::AuthBusy | Self::AuthUnavailable | Self::Overloaded)
            .then_some(1)
    }

    /// Whether the connection must end: what is left of the request on it can't be told from the next one.
    pub(crate) const fn closes(self) -> bool {
        matches!(
            self,
            Self::BadHost
                | Self::BadHeader
                | Self::MethodNotAllowed
                | Self::BodyTooLarge
                | Self::BodyTimeout
                | Self::ClientGone
                | Self::ExpectationFailed
        )
    }
}
