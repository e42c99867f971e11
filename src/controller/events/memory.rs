//! What people were told of each object, and what they are to be told next. Has no clock and talks to nobody.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use api::{ConditionReason, ConditionType};
use ir::ObjectRef;
use k8s_openapi::jiff::Timestamp;
use translate::{Judgement, Object};

use crate::outlook::Outlook;

#[cfg(test)]
mod tests;

/// How long a trouble has to stand: objects that are applied together arrive one after the other.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two Events of one condition of one object.
const PACE: Duration = Duration::from_secs(10);
/// Before an Event that did not go out is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What was told of all objects of ours. As many entries as there are objects.
#[derive(Debug)]
pub(super) struct Memory {
    /// When this replica came to lead, in whole seconds as conditions have it.
    term: i64,
    topics: HashMap<(ObjectRef, ConditionType), Topic>,
}

/// One Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) object: ObjectRef,
    pub(super) uid: String,
    pub(super) version: Option<String>,
    pub(super) about: ConditionType,
    pub(super) tone: Tone,
    pub(super) reason: &'static str,
    pub(super) note: String,
    /// How often we said anything about this condition of the object.
    pub(super) times: i32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Normal,
    Warning,
}

/// One condition of one object.
#[derive(Debug)]
struct Topic {
    uid: String,
    version: Option<String>,
    /// `None`: nobody ever spoke of it.
    told: Option<State>,
    now: State,
    since: Instant,
    not_before: Option<Instant>,
    times: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Good,
    Bad {
        reason: &'static str,
        note: String,
    },
    /// What a leader before us wrote into the object's status.
    BadBefore {
        reason: String,
        note: String,
    },
}

impl Memory {
    /// Of a leader since `wall`.
    pub(super) fn of_term(wall: Timestamp) -> Self {
        Self { term: wall.as_second(), topics: HashMap::new() }
    }

    /// Takes in how all objects stand.
    pub(super) fn look(&mut self, now: Instant, outlook: &Outlook) {
        self.topics.retain(|(id, _), _| outlook.standings.contains_key(id));
        for (id, standing) in &*outlook.standings {
            let Some(object) = outlook.snapshot.object(id) else { continue };
            for (about, judgement) in [
                (ConditionType::Accepted, &standing.accepted),
                (ConditionType::ResolvedRefs, &standing.resolved_refs),
            ] {
                let state = State::of(judgement);
                let topic = self.topics.entry((id.clone(), about));
                let topic = topic.or_insert_with(|| {
                    Topic::of(now, &object, told(&object, about, self.term), state.clone())
                });
                topic.meet(now, &object, state);
            }
        }
    }

    /// What is to be told now: what stands longest.
    pub(super) fn next(&mut self, now: Instant) -> Option<Word> {
        for topic in self.topics.values_mut() {
            topic.settle();
        }
        let due = self.topics.iter().filter(|(_, topic)| topic.is_due(now));
        let ((id, about), topic) = due.min_by_key(|((id, about), topic)| (topic.since, id, *about))?;
        let (tone, reason, note) = match &topic.now {
            State::Good => (Tone::Normal, about.as_str(), recovery(*about).to_owned()),
            State::Bad { reason, note } => (Tone::Warning, *reason, note.clone()),
            State::BadBefore { .. } => return None,
        };
        Some(Word {
            object: id.clone(),
            uid: topic.uid.clone(),
            version: topic.version.clone(),
            about: *about,
            tone,
            reason,
            note,
            times: topic.times,
            state: topic.now.clone(),
        })
    }

    /// Whether anything will be told.
    pub(super) fn is_waiting(&self) -> bool {
        self.topics.values().any(Topic::is_open)
    }

    pub(super) fn told(&mut self, now: Instant, word: &Word) {
        if let Some(topic) = self.topics.get_mut(&(word.object.clone(), word.about)) {
            topic.told = Some(word.state.clone());
            topic.times = topic.times.saturating_add(1);
            topic.not_before = Some(now + PACE);
        }
    }

    pub(super) fn failed(&mut self, now: Instant, word: &Word) {
        if let Some(topic) = self.topics.get_mut(&(word.object.clone(), word.about)) {
            topic.not_before = Some(now + RETRY);
        }
    }
}

impl Topic {
    fn of(now: Instant, object: &Object, told: Option<State>, state: State) -> Self {
        Self {
            uid: object.metadata().uid.clone().unwrap_or_default(),
            version: object.metadata().resource_version.clone(),
            told,
            now: state,
            since: now,
            not_before: None,
            times: 0,
        }
    }

    fn meet(&mut self, now: Instant, object: &Object, state: State) {
        if self.uid != object.metadata().uid.as_deref().unwrap_or_default() {
            *self = Self::of(now, object, None, state);
            return;
        }
        self.version.clone_from(&object.metadata().resource_version);
        if self.now != state {
            self.now = state;
            self.since = now;
        }
    }

    /// That an object is well is no news unless it was not.
    fn settle(&mut self) {
        if self.told.is_none() && self.now == State::Good {
            self.told = Some(State::Good);
        }
    }

    fn is_open(&self) -> bool {
        match (&self.told, &self.now) {
            (None, State::Good) => false,
            (None, State::Bad { .. } | State::BadBefore { .. }) => true,
            (Some(told), now) => !told.is_same(now),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.is_open() && self.since + PATIENCE <= now && self.not_before.is_none_or(|time| time <= now)
    }
}

impl State {
    fn of(judgement: &Judgement) -> Self {
        let is_partial = judgement.reason == ConditionReason::PartiallyInvalid;
        if judgement.holds && !is_partial {
            Self::Good
        } else {
            Self::Bad { reason: judgement.reason.as_str(), note: judgement.message.clone() }
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self.trouble(), other.trouble()) {
            (None, None) => true,
            (Some(one), Some(other)) => one == other,
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    fn trouble(&self) -> Option<(&str, &str)> {
        match self {
            Self::Good => None,
            Self::Bad { reason, note } => Some((reason, note)),
            Self::BadBefore { reason, note } => Some((reason, note)),
        }
    }
}

impl Word {
    /// What the gateway did, in one word.
    pub(super) fn action(&self) -> &'static str {
        match self.about {
            ConditionType::Accepted => "Accept",
            ConditionType::ResolvedRefs => "ResolveReferences",
            ConditionType::Programmed => "Program",
            ConditionType::JwksReady => "FetchKeys",
        }
    }
}

impl Tone {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

fn recovery(about: ConditionType) -> &'static str {
    match about {
        ConditionType::Accepted => "all of it is accepted now",
        ConditionType::ResolvedRefs => "all that it names can be used now",
        ConditionType::Programmed => "it is live now",
        ConditionType::JwksReady => "its keys are there now",
    }
}

/// What a leader before this one told: what the object's status said before our term. What it says since, this leader
/// wrote itself, and may not have told yet.
fn told(object: &Object, about: ConditionType, term: i64) -> Option<State> {
    let status = match object {
        Object::GatewayRoute(object) => object.status.as_ref(),
        Object::RateLimitPolicy(object) => object.status.as_ref(),
        Object::AuthPolicy(object) => object.status.as_ref(),
        Object::Ingress(..)
        | Object::IngressClass(_)
        | Object::Service(_)
        | Object::EndpointSlice(_)
        | Object::Secret(_)
        | Object::ConfigMap(_)
        | Object::ReferenceGrant(_) => None,
    };
    let condition = status?.conditions.iter().find(|condition| condition.type_ == about.as_str())?;
    if condition.last_transition_time.0.as_second() >= term {
        return None;
    }
    let is_partial = condition.reason == ConditionReason::PartiallyInvalid.as_str();
    if condition.status == "True" && !is_partial {
        return Some(State::Good);
    }
    Some(State::BadBefore { reason: condition.reason.clone(), note: condition.message.clone() })
}
