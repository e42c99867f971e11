//! What the limits of a request said, as header fields of its answer, and what they keep of it until it ends. Must not decide
//! anything.

use std::num::NonZeroU64;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ir::{LimitAnswer, LimitHeaders};
use traffic::LimitVerdict;

use super::charge::Charges;
use super::cost::Owed;
use super::turn::Permit;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LEGACY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LEGACY_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Of `".…";r=…;t=…`, with all numbers as long as they can be.
const STATE_BYTES_MAX: usize = 48;

/// What the limits that were asked said, for the answer's headers (draft-ietf-httpapi-ratelimit-headers).
#[derive(Debug, Default)]
pub(crate) struct LimitNotes {
    quotas: Vec<u8>,
    states: Vec<u8>,
    legacy: Option<Legacy>,
    retry_after_s: Option<NonZeroU64>,
    /// The request has waited for something, so that the time at which it began is over.
    pub(crate) has_waited: bool,
    pub(super) charges: Charges,
    /// Seldom anything.
    held: Option<Box<LimitHeld>>,
}

/// What limits keep of a request until it ends.
#[derive(Debug, Default)]
pub(crate) struct LimitHeld {
    permits: Vec<Permit>,
    owed: Vec<Owed>,
    answer: Option<Arc<LimitAnswer>>,
}

/// The limit with the least left, as most clients know it: requests, requests left, seconds until all are there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Legacy {
    limit: u32,
    remaining: u32,
    reset_s: u32,
}

/// A limit as it shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    pub(super) headers: LimitHeaders,
    pub(super) limit: &'a ir::Limit,
    /// `"name";q=…;w=…`, prepared.
    pub(super) quota: &'a [u8],
}

impl LimitNotes {
    pub(super) fn note(&mut self, shown: Shown<'_>, verdict: LimitVerdict) {
        match shown.headers {
            LimitHeaders::Standard => self.note_standard(shown, verdict),
            LimitHeaders::Legacy => self.note_legacy(shown, verdict),
            LimitHeaders::None => return,
        }
        if !verdict.allowed {
            let seconds = NonZeroU64::new(verdict.retry_after_ns.div_ceil(NANOS_PER_SECOND));
            self.retry_after_s = Some(seconds.unwrap_or(NonZeroU64::MIN));
        }
    }

    fn note_standard(&mut self, shown: Shown<'_>, verdict: LimitVerdict) {
        if !self.quotas.is_empty() {
            self.quotas.extend_from_slice(b", ");
            self.states.extend_from_slice(b", ");
        }
        self.quotas.extend_from_slice(shown.quota);
        self.states.reserve(shown.limit.name.len() + STATE_BYTES_MAX);
        self.states.push(b'"');
        self.states.extend_from_slice(shown.limit.name.as_bytes());
        let mut digits = itoa::Buffer::new();
        // As `quota` names them.
        if verdict.rate_index > 0 {
            self.states.push(b'.');
            self.states.extend_from_slice(digits.format(verdict.rate_index + 1).as_bytes());
        }
        self.states.extend_from_slice(b"\";r=");
        self.states.extend_from_slice(digits.format(verdict.remaining).as_bytes());
        self.states.extend_from_slice(b";t=");
        self.states.extend_from_slice(digits.format(verdict.reset_ns.div_ceil(NANOS_PER_SECOND)).as_bytes());
    }

    fn note_legacy(&mut self, shown: Shown<'_>, verdict: LimitVerdict) {
        let rate = shown.limit.rates.get(verdict.rate_index);
        let said = Legacy {
            limit: rate.map_or(0, |rate| rate.requests),
            remaining: verdict.remaining,
            reset_s: u32::try_from(verdict.reset_ns.div_ceil(NANOS_PER_SECOND)).unwrap_or(u32::MAX),
        };
        if !verdict.allowed || self.legacy.is_none_or(|least| said.remaining < least.remaining) {
            self.legacy = Some(said);
        }
    }

    /// Waiting may help, for nobody knows how long.
    pub(super) fn come_back_soon(&mut self, headers: LimitHeaders) {
        match headers {
            LimitHeaders::Standard | LimitHeaders::Legacy => self.retry_after_s = Some(NonZeroU64::MIN),
            LimitHeaders::None => {}
        }
    }

    pub(super) fn hold(&mut self, permit: Permit) {
        self.held.get_or_insert_default().permits.push(permit);
    }

    pub(super) fn owe(&mut self, owed: Owed) {
        self.held.get_or_insert_default().owed.push(owed);
    }

    /// A limit of a policy that answers in its own way has refused.
    pub(super) fn refuse(&mut self, answer: Option<&Arc<LimitAnswer>>) {
        if let Some(answer) = answer {
            self.held.get_or_insert_default().answer = Some(Arc::clone(answer));
        }
    }

    /// How the refusal is to be answered; `None`: as always.
    pub(crate) fn answer(&self) -> Option<&LimitAnswer> {
        self.held.as_ref()?.answer.as_deref()
    }

    /// Charges what the upstream's answer says.
    pub(super) fn settle(&mut self, headers: &HeaderMap, now_ns: impl FnOnce() -> u64) {
        let Some(held) = self.held.as_mut().filter(|held| !held.owed.is_empty()) else { return };
        let now_ns = now_ns();
        for owed in held.owed.drain(..) {
            owed.settle(headers, now_ns);
        }
    }

    /// Sets the fields; after a refusal `Retry-After`, too. What an upstream said of these is replaced only where a limit
    /// was asked. Returns what is kept until the answer has ended.
    pub(crate) fn apply(self, headers: &mut HeaderMap) -> Option<Box<LimitHeld>> {
        if !self.quotas.is_empty()
            && let (Ok(quotas), Ok(states)) = (
                HeaderValue::from_maybe_shared(bytes::Bytes::from(self.quotas)),
                HeaderValue::from_maybe_shared(bytes::Bytes::from(self.states)),
            )
        {
            headers.insert(RATE_LIMIT_POLICY, quotas);
            headers.insert(RATE_LIMIT, states);
        }
        if let Some(Legacy { limit, remaining, reset_s }) = self.legacy {
            headers.insert(LEGACY_LIMIT, HeaderValue::from(limit));
            headers.insert(LEGACY_REMAINING, HeaderValue::from(remaining));
            headers.insert(LEGACY_RESET, HeaderValue::from(reset_s));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.get()));
        }
        self.held
    }
}
