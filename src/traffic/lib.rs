//! The state machines of traffic: limits, circuit breakers, ejection, retry budgets and balancing.
//!
//! Invariant: same state + same inputs = same output. The monotonic clock (nanoseconds) and randomness are
//! arguments; nothing here reads a clock, opens a socket, starts a task or makes chance of its own. What the worker
//! threads share is a `&self` model over atomics (limit counters: over shards that are locked for one step).

mod adaptive;
mod affinity;
mod balance;
mod breaker;
mod chance;
mod concurrency;
mod fingerprint;
mod jwks;
mod limits;
mod outlier;
mod retry;
mod shadow;

pub use adaptive::{Adaptive, AdaptivePermit};
pub use affinity::{Session, SessionPlace, pick_sticky};
pub use balance::{
    Choice, EndpointState, InFlight, Latency, Lineup, Pick, Ring, TriedSet, capacity, pick, stable_hash,
    weighted,
};
pub use breaker::{Breaker, BreakerKind, BreakerPermit, Trip, TripPermit, TripState};
pub use chance::happens;
pub use concurrency::{ConcurrencyStore, Place};
pub use fingerprint::{FingerprintSeed, Fingerprinter};
pub use jwks::KeysSchedule;
pub use limits::{LimitCharge, LimitNow, LimitStore, LimitVerdict};
pub use outlier::{CheckOutcome, CheckRecord, CheckState, EndpointHealth, Outcome, Outlier, ejected_max};
pub use retry::{RETRIES_FREE_PER_SECOND, RetryBudget, backoff};
pub use shadow::{RateReport, ShadowReport, ShadowWatch, TopKey};
