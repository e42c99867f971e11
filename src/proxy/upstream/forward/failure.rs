//! Why a try fails: what that says of its endpoint, and what is told to the client. Decides no retry.

use traffic::Outcome;

use crate::body::BodyError;
use crate::error::Reason;
use crate::upstream::h1::ExchangeError;

/// Why one try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TryError {
    NoEndpoint,
    Breaker,
    Connect,
    /// TLS was not agreed on.
    Tls,
    /// The request can't be said in HTTP/2.
    Head,
    /// The exchange failed on a connection that had served before (`reused`) or on a new one.
    Exchange {
        error: ExchangeError,
        reused: bool,
    },
    /// The time of the try was over before its connection stood: nothing was sent.
    OpenTimeout {
        /// Of the endpoint; `None`: nothing.
        says: Option<Outcome>,
    },
    PerTryTimeout,
    RequestTimeout {
        /// Of the endpoint; `None`: nothing, as it had no fair time or no part in it.
        says: Option<Outcome>,
    },
    /// An answer whose status is tried again; that there is another try was settled before it was given up.
    Status,
}

impl TryError {
    /// The time of the request was over before the try could begin.
    pub(super) const OVER: Self = Self::RequestTimeout { says: None };

    /// How the try ended for its endpoint; `None`: it says nothing of that, or the answer did.
    pub(super) fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Connect | Self::Tls => Some(Outcome::ConnectFailure),
            Self::OpenTimeout { says } | Self::RequestTimeout { says } => says,
            // A client that breaks off or sends too much says nothing about the endpoint.
            Self::Exchange { error: ExchangeError::Client(_), .. } => None,
            // A pooled connection that the peer had closed meanwhile is no failure of the endpoint.
            Self::Exchange { error: ExchangeError::Closed { .. } | ExchangeError::Refused, reused: true } => {
                None
            }
            Self::Exchange { .. } | Self::PerTryTimeout => Some(Outcome::NoAnswer),
            Self::NoEndpoint | Self::Breaker | Self::Head | Self::Status => None,
        }
    }

    /// Whether the time of the whole request was over.
    pub(super) fn is_late(self) -> bool {
        matches!(self, Self::RequestTimeout { .. })
    }

    /// Whether a request that ends so counts as failed; `None`: it says nothing of the backend.
    pub(super) fn is_failure(self) -> Option<bool> {
        self.outcome().map(|_| true)
    }

    /// What the client is told.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::NoEndpoint => Reason::NoEndpoint,
            Self::Breaker => Reason::BreakerOpen,
            Self::Connect => Reason::ConnectFailed,
            Self::Tls => Reason::UpstreamTlsFailed,
            Self::Head => Reason::BadHost,
            Self::OpenTimeout { .. } | Self::PerTryTimeout | Self::RequestTimeout { .. } => {
                Reason::UpstreamTimeout
            }
            Self::Status => Reason::UpstreamInvalid,
            Self::Exchange { error, .. } => match error {
                ExchangeError::Closed { .. }
                | ExchangeError::Refused
                | ExchangeError::Reset
                | ExchangeError::Truncated => Reason::UpstreamReset,
                ExchangeError::Malformed => Reason::UpstreamInvalid,
                ExchangeError::Timeout => Reason::UpstreamTimeout,
                ExchangeError::Client(BodyError::TooLarge) => Reason::BodyTooLarge,
                ExchangeError::Client(BodyError::Timeout) => Reason::BodyTimeout,
                ExchangeError::Client(BodyError::Broken) => Reason::ClientGone,
            },
        }
    }
}
