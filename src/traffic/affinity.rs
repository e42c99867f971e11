//! Picks the endpoint of a session. Knows no cookie and remembers no session.

use crate::balance::{Choice, EndpointState, Pick, pick};

/// Where a session belongs, and how firmly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub place: SessionPlace,
    /// It goes nowhere else while its endpoint is in the list, whatever that one's health, and whether it was tried or not.
    pub is_strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionPlace {
    /// At this endpoint, by its index.
    Endpoint(usize),
    /// Where this key falls on the ring. Needs [`crate::Lineup::ring`].
    Key(u64),
    /// Nowhere yet, or nowhere any more.
    None,
}

/// As [`pick`], for a request of a session. A session that has a key goes where every replica sends it, so neither the
/// bound of an endpoint's load nor the zone counts for it.
pub fn pick_sticky<E: AsRef<EndpointState>>(
    endpoints: &[E],
    ask: &Pick<'_>,
    session: Session,
) -> Option<usize> {
    match session.place {
        SessionPlace::Endpoint(index) => {
            let may_take = |endpoint: &E| {
                let admits = || endpoint.as_ref().health().admits_session(ask.now_ns);
                session.is_strict || (!ask.tried.contains(index) && admits())
            };
            if endpoints.get(index).is_some_and(may_take) { Some(index) } else { pick(endpoints, ask) }
        }
        SessionPlace::Key(key) => {
            let home = session.is_strict.then(|| ask.lineup.ring()?.home(key)).flatten();
            let home = home.filter(|index| *index < endpoints.len());
            let choice = Choice::ConsistentHash { key: Some(key), under_way: u32::MAX };
            home.or_else(|| pick(endpoints, &Pick { choice, prefers_local: false, ..*ask }))
        }
        SessionPlace::None => pick(endpoints, ask),
    }
}

#[cfg(test)]
mod tests;
