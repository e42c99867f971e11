//! What can go wrong when the API server is asked. No message holds a byte of an answer's body, for that may be a
//! Secret's.

use std::error::Error as _;

use super::resource::Permission;

/// The longest text that the API server's own words may take up in a message, in bytes.
const WORDS_BYTES_MAX: usize = 300;

/// Why a request to the API server came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// Nobody answers, or the connection broke.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// An answer did not come, or not to its end.
    #[error("the API server does not answer in time")]
    Silent,
    /// 404: there is no such kind, or no such object.
    #[error("the API server does not know this")]
    Absent,
    /// 410: the version to go on from is forgotten.
    #[error("the API server has forgotten the version to go on from")]
    Gone,
    #[error("the API server does not allow to {0}; grant it by a Role or ClusterRole")]
    Forbidden(Permission),
    #[error("the API server does not know who asks (401); check the token or the certificate")]
    Unauthorized,
    /// Any other refusal.
    #[error("the API server answers {status}: {words}")]
    Refused { status: u16, words: String },
    /// Not the JSON that was expected.
    #[error("the API server's answer cannot be read")]
    Garbled,
}

impl Trouble {
    /// Reads the client's error. `permission`: what was asked for.
    pub(super) fn of(error: &kube::Error, permission: impl FnOnce() -> Permission) -> Self {
        if let kube::Error::Api(status) = error {
            return Self::of_status(status.code, &status.message, permission);
        }
        // The first words of these would quote what could not be read.
        if matches!(error, kube::Error::SerdeError(_) | kube::Error::FromUtf8(_)) {
            return Self::Garbled;
        }
        Self::Unreachable(with_causes(error))
    }

    /// Reads a status, of an answer or of an event.
    pub(super) fn of_status(status: u16, words: &str, permission: impl FnOnce() -> Permission) -> Self {
        match status {
            401 => Self::Unauthorized,
            403 => Self::Forbidden(permission()),
            404 => Self::Absent,
            410 => Self::Gone,
            status => Self::Refused { status, words: cut(words) },
        }
    }

    /// Whether it is the same trouble for somebody who reads of it, so that it need not be said again.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.cause() == other.cause()
    }

    fn cause(&self) -> Cause {
        match self {
            // An API server that goes, is gone and comes again shows all of these in turn.
            Self::Unreachable(_) | Self::Silent | Self::Refused { .. } | Self::Garbled => Cause::Outage,
            Self::Absent | Self::Gone => Cause::Absence,
            Self::Forbidden(_) | Self::Unauthorized => Cause::Rights,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Outage,
    Absence,
    Rights,
}

/// An error with its causes, for the client's own say little.
fn with_causes(error: &kube::Error) -> String {
    // These only say which part of the client they come from.
    let says_nothing = matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_));
    let mut text = if says_nothing { String::new() } else { error.to_string() };
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        cause = error.source();
    }
    cut(&text)
}

fn cut(words: &str) -> String {
    words.get(..words.floor_char_boundary(WORDS_BYTES_MAX)).unwrap_or_default().replace(['\n', '\r'], " ")
}
