//! Who leads: the one replica that may write status and Events. Decides by the Lease that all candidates share; `now`
//! is given, and nothing here talks to the API server.
//!
//! No two lead at once: a leader stops on its own `renew_deadline` after the last renewal was *sent*, with each of its
//! writes bounded by `write_max`; the others take the Lease no earlier than `duration` after they *saw* that renewal.
//! Neither looks at the other's clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use k8s_openapi::jiff::Timestamp;

#[cfg(test)]
mod tests;

/// How many writes without an answer are remembered; a leader has given up long before.
const ATTEMPTS_MAX: usize = 16;

/// The times of an election.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// How long a Lease that nobody renews keeps the others away.
    pub(crate) duration: Duration,
    /// How often a leader renews.
    pub(crate) renew_every: Duration,
    /// How long after its last renewal a leader leads on.
    pub(crate) renew_deadline: Duration,
    /// How often a follower looks, and half of it to all of it at random after a lost race.
    pub(crate) retry: Duration,
    /// The longest that any write of a leader takes.
    pub(crate) write_max: Duration,
}

/// One candidate's view of the election.
#[derive(Debug)]
pub(crate) struct Election {
    identity: String,
    timing: Timing,
    owner: Option<OwnerReference>,
    role: Role,
    seen: Option<Seen>,
    /// Writes whose outcome is not known; one of them may be what stands in the Lease.
    attempts: VecDeque<Attempt>,
    must_read: bool,
    next: Instant,
    jitter: Jitter,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing before this time.
    Wait(Instant),
    /// Get the Lease, then [`Election::on_read`].
    Read,
    /// Create it, then one of the `on_` functions.
    Create(Box<Lease>),
    /// Replace it under its resourceVersion, then one of the `on_` functions.
    Replace(Box<Lease>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Follower,
    /// `renewed`: when the last renewal that arrived was sent.
    Leader {
        renewed: Instant,
    },
}

#[derive(Debug)]
struct Seen {
    lease: Lease,
    /// Since when its spec stands as it is, as far as we saw.
    since: Instant,
}

#[derive(Debug)]
struct Attempt {
    spec: LeaseSpec,
    sent: Instant,
}

/// SplitMix64: spreads candidates that wake together.
#[derive(Debug)]
struct Jitter(u64);

impl Timing {
    /// 6 s + 3 s < 10 s leaves a second for what clocks that run unevenly make of it.
    pub(crate) const STANDARD: Self = Self {
        duration: Duration::from_secs(10),
        renew_every: Duration::from_secs(2),
        renew_deadline: Duration::from_secs(6),
        retry: Duration::from_secs(2),
        write_max: Duration::from_secs(3),
    };
}

impl Election {
    pub(crate) fn new(identity: String, timing: Timing, now: Instant, seed: u64) -> Self {
        debug_assert!(timing.renew_deadline + timing.write_max < timing.duration, "two could write at once");
        Self {
            identity,
            timing,
            owner: None,
            role: Role::Follower,
            seen: None,
            attempts: VecDeque::new(),
            must_read: true,
            next: now,
            jitter: Jitter(seed),
        }
    }

    /// What the Lease belongs to, so that it goes with it.
    pub(crate) fn own(&mut self, owner: Option<&OwnerReference>) {
        self.owner = owner.cloned();
    }

    /// Until when this candidate leads if it renews no more. `None`: it does not.
    pub(crate) fn leads_until(&self) -> Option<Instant> {
        match self.role {
            Role::Follower => None,
            Role::Leader { renewed } => Some(renewed + self.timing.renew_deadline),
        }
    }

    /// The next thing to do. `wall` is only shown to people.
    pub(crate) fn step(&mut self, now: Instant, wall: Timestamp) -> Step {
        if self.leads_until().is_some_and(|until| now >= until) {
            self.role = Role::Follower;
            self.must_read = true;
        }
        if now < self.next {
            return Step::Wait(self.leads_until().map_or(self.next, |until| until.min(self.next)));
        }
        if self.must_read {
            return Step::Read;
        }
        match self.role {
            Role::Leader { .. } => self.write(now, wall),
            Role::Follower if self.is_free(now) => self.write(now, wall),
            Role::Follower => {
                self.must_read = true;
                self.next = now + self.wait_of_a_follower(now);
                Step::Wait(self.next)
            }
        }
    }

    /// The Lease as it stands on the server.
    pub(crate) fn on_read(&mut self, now: Instant, lease: Option<Lease>) {
        self.must_read = false;
        let Some(lease) = lease else {
            self.seen = None;
            self.role = Role::Follower;
            return;
        };
        let known = self.seen.as_ref().filter(|seen| seen.lease.spec == lease.spec);
        let is_known = known.is_some();
        let since = known.map_or(now, |seen| seen.since);
        // A write without an answer may have arrived all the same.
        let arrived = self.attempts.iter().find(|attempt| lease.spec.as_ref() == Some(&attempt.spec));
        if let Some(Attempt { sent, .. }) = arrived {
            self.role = Role::Leader { renewed: *sent };
            self.attempts.clear();
        } else if !is_known {
            // Somebody else wrote, be it under our name: then a process before us, or one beside us.
            self.role = Role::Follower;
            self.attempts.clear();
        }
        self.seen = Some(Seen { lease, since });
    }

    /// The write that was sent at `sent` arrived, and this is the Lease now.
    pub(crate) fn on_written(&mut self, sent: Instant, now: Instant, lease: Lease) {
        self.role = Role::Leader { renewed: sent };
        self.seen = Some(Seen { lease, since: now });
        self.attempts.clear();
        self.must_read = false;
        self.next = sent + self.timing.renew_every;
    }

    /// Somebody else wrote in between.
    pub(crate) fn on_conflict(&mut self, now: Instant) {
        self.must_read = true;
        self.next = now + self.wait_after_failure();
    }

    /// No answer, or one that says nothing of the Lease.
    pub(crate) fn on_failed(&mut self, now: Instant) {
        self.must_read = true;
        self.next = now + self.wait_after_failure();
    }

    /// Ends leading. The Lease to write so that another takes it at once.
    pub(crate) fn release(&mut self, now: Instant, wall: Timestamp) -> Option<Lease> {
        let leads = self.leads_until().is_some_and(|until| now < until);
        self.role = Role::Follower;
        let mut lease = self.seen.take().filter(|_| leads)?.lease;
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(micro(wall));
        Some(lease)
    }

    /// The Lease with us as its holder.
    fn write(&mut self, now: Instant, wall: Timestamp) -> Step {
        let time = micro(wall);
        let mut lease = self.seen.as_ref().map(|seen| seen.lease.clone()).unwrap_or_default();
        let last = lease.spec.take().unwrap_or_default();
        let is_renewal = matches!(self.role, Role::Leader { .. });
        let changes = self.seen.is_some() && last.holder_identity.as_ref() != Some(&self.identity);
        let transitions = last.lease_transitions.unwrap_or_default().saturating_add(i32::from(changes));
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds(self.timing.duration)),
            acquire_time: if is_renewal { last.acquire_time } else { Some(time.clone()) },
            renew_time: Some(time),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        lease.spec = Some(spec.clone());
        if let Some(owner) = &self.owner {
            let owners = lease.metadata.owner_references.get_or_insert_default();
            if owners.iter().all(|other| other.uid != owner.uid) {
                owners.push(owner.clone());
            }
        }
        self.attempts.push_back(Attempt { spec, sent: now });
        if self.attempts.len() > ATTEMPTS_MAX {
            self.attempts.pop_front();
        }
        if self.seen.is_some() { Step::Replace(Box::new(lease)) } else { Step::Create(Box::new(lease)) }
    }

    /// Whether the Lease may be taken.
    fn is_free(&self, now: Instant) -> bool {
        self.seen.as_ref().is_none_or(|seen| match holder(&seen.lease) {
            None => true,
            Some(_) => now >= seen.since + self.timing.duration.max(duration(&seen.lease)),
        })
    }

    /// Not past the time at which the Lease becomes free.
    fn wait_of_a_follower(&mut self, now: Instant) -> Duration {
        let wait = self.jitter.between(self.timing.retry * 3 / 4, self.timing.retry);
        let free =
            self.seen.as_ref().map(|seen| seen.since + self.timing.duration.max(duration(&seen.lease)));
        free.map_or(wait, |free| wait.min(free.saturating_duration_since(now)))
    }

    fn wait_after_failure(&mut self) -> Duration {
        match self.role {
            Role::Follower => self.jitter.between(self.timing.retry / 2, self.timing.retry),
            Role::Leader { .. } => self.timing.retry / 8,
        }
    }
}

impl Jitter {
    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let thousandth = u32::try_from((mixed ^ (mixed >> 31)) % 1001).unwrap_or_default();
        least + most.saturating_sub(least) * thousandth / 1000
    }
}

/// Who holds the Lease. A Lease that was released has no holder.
pub(crate) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// How long the Lease lasts by what stands in it.
pub(crate) fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// As precise as the API keeps it, so that what is read again is equal to what was written.
pub(crate) fn micro(wall: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(wall))
}

pub(crate) fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}
