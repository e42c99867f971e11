//! What the status of one object is to say, what it says, and whether these are the same. Talks to nobody.

use std::borrow::Cow;

use api::{ConditionReason, ConditionType, Status};
use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use translate::Object;

/// The conditions that are ours.
pub(super) const OUR_TYPES: [ConditionType; 4] = [
    ConditionType::Accepted,
    ConditionType::ResolvedRefs,
    ConditionType::Programmed,
    ConditionType::JwksReady,
];

/// What is to be said.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    /// Of a route or policy of ours.
    Conditions {
        generation: Option<i64>,
        verdicts: [Verdict; 3],
        /// `None`: no rule of it uses keys that are fetched.
        keys: Option<Verdict>,
    },
    /// Of a route or policy that is ours no more.
    NoConditions,
    /// Of an Ingress of ours.
    Addresses(Vec<IngressLoadBalancerIngress>),
    /// Of an Ingress that is ours no more.
    NoAddresses,
}

/// One condition without the parts that time adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) about: ConditionType,
    pub(super) holds: bool,
    pub(super) reason: ConditionReason,
    pub(super) message: String,
}

/// What an object's status says, as far as we write it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said<'a> {
    Conditions(Cow<'a, Status>),
    Addresses(Cow<'a, [IngressLoadBalancerIngress]>),
}

impl Target {
    /// Whether `said` says this already.
    pub(super) fn is(&self, said: &Said<'_>) -> bool {
        match (self, said) {
            (Self::Conditions { generation, verdicts, keys }, Said::Conditions(status)) => {
                status.observed_generation == *generation
                    && says_of_keys(status, keys.as_ref())
                    && verdicts.iter().chain(keys).all(|verdict| {
                        condition(status, verdict.about).is_some_and(|condition| {
                            verdict.is(condition) && condition.observed_generation == *generation
                        })
                    })
            }
            (Self::NoConditions, Said::Conditions(status)) => !has_ours(status),
            (Self::Addresses(addresses), Said::Addresses(said)) => addresses.as_slice() == &**said,
            (Self::NoAddresses, Said::Addresses(said)) => said.is_empty(),
            (Self::Conditions { .. } | Self::NoConditions, Said::Addresses(_))
            | (Self::Addresses(_) | Self::NoAddresses, Said::Conditions(_)) => false,
        }
    }

    /// What `said` becomes: a condition that stands as it stood keeps its time.
    pub(super) fn over(&self, said: &Said<'_>, wall: Timestamp) -> Said<'static> {
        // As precise as it is written, so that what is read again is equal.
        let wall = Timestamp::from_second(wall.as_second()).unwrap_or(wall);
        match self {
            Self::Conditions { generation, verdicts, keys } => {
                let last = match said {
                    Said::Conditions(status) => Some(status),
                    Said::Addresses(_) => None,
                };
                let conditions = verdicts.iter().chain(keys).map(|verdict| {
                    let last = last.and_then(|status| condition(status, verdict.about));
                    let same = last.filter(|last| last.status == verdict.status());
                    Condition {
                        type_: verdict.about.as_str().to_owned(),
                        status: verdict.status().to_owned(),
                        reason: verdict.reason.as_str().to_owned(),
                        message: verdict.message.clone(),
                        observed_generation: *generation,
                        last_transition_time: same
                            .map_or(Time(wall), |condition| condition.last_transition_time.clone()),
                    }
                });
                let conditions = conditions.collect();
                Said::Conditions(Cow::Owned(Status { observed_generation: *generation, conditions }))
            }
            Self::NoConditions => Said::Conditions(Cow::Owned(Status::default())),
            Self::Addresses(addresses) => Said::Addresses(Cow::Owned(addresses.clone())),
            Self::NoAddresses => Said::Addresses(Cow::Owned(Vec::new())),
        }
    }
}

impl Verdict {
    fn status(&self) -> &'static str {
        if self.holds { "True" } else { "False" }
    }

    /// Whether the condition says this, whatever version of the object it was made of.
    pub(super) fn is(&self, condition: &Condition) -> bool {
        condition.status == self.status()
            && condition.reason == self.reason.as_str()
            && condition.message == self.message
    }
}

impl<'a> Said<'a> {
    /// `None`: no object of a kind whose status we write.
    pub(super) fn of(object: &'a Object) -> Option<Self> {
        let status = match object {
            Object::GatewayRoute(object) => object.status.as_ref(),
            Object::RateLimitPolicy(object) => object.status.as_ref(),
            Object::AuthPolicy(object) => object.status.as_ref(),
            Object::Ingress(object, _) => {
                let balancer = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
                let addresses = balancer.and_then(|balancer| balancer.ingress.as_deref());
                return Some(Self::Addresses(Cow::Borrowed(addresses.unwrap_or_default())));
            }
            Object::IngressClass(_)
            | Object::Service(_)
            | Object::EndpointSlice(_)
            | Object::Secret(_)
            | Object::ConfigMap(_)
            | Object::ReferenceGrant(_) => return None,
        };
        Some(Self::Conditions(status.map_or_else(Cow::default, Cow::Borrowed)))
    }

    /// Whether all that this says is said there too, whatever others say beside it.
    pub(super) fn is_kept_by(&self, there: &Said<'_>) -> bool {
        match (self, there) {
            (Self::Conditions(here), Said::Conditions(there)) => {
                here.observed_generation == there.observed_generation
                    && here.conditions.iter().all(|condition| there.conditions.contains(condition))
            }
            (Self::Addresses(here), Said::Addresses(there)) => here == there,
            (Self::Conditions(_), Said::Addresses(_)) | (Self::Addresses(_), Said::Conditions(_)) => false,
        }
    }

    pub(super) fn into_owned(self) -> Said<'static> {
        match self {
            Self::Conditions(status) => Said::Conditions(Cow::Owned(status.into_owned())),
            Self::Addresses(addresses) => Said::Addresses(Cow::Owned(addresses.into_owned())),
        }
    }
}

/// Whether the status says this of fetched keys, and nothing where there is nothing to say.
pub(super) fn says_of_keys(status: &Status, keys: Option<&Verdict>) -> bool {
    let said = condition(status, ConditionType::JwksReady);
    match keys {
        None => said.is_none(),
        Some(verdict) => said.is_some_and(|condition| verdict.is(condition)),
    }
}

/// The condition of this type.
pub(super) fn condition(status: &Status, about: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == about.as_str())
}

/// Whether there is any condition of ours.
pub(super) fn has_ours(status: &Status) -> bool {
    OUR_TYPES.into_iter().any(|about| condition(status, about).is_some())
}
