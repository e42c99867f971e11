//! Tells people once, by an Event of the object, that an object of ours came to be refused or to name what cannot be
//! used, and that it is well again. Only while this replica leads. Which and when is [`memory`]'s business.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use api::{AuthPolicy, GatewayRoute, RateLimitPolicy};
use ir::Kind;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde_json::json;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::leader::micro;
use crate::outlook::Outlook;
use crate::replica::{CALL_MAX, Context, FIELD_MANAGER, Leadership, bounded, changed, now, stopped};

mod memory;
#[cfg(test)]
mod tests;

use memory::{Memory, Word};

/// Between two Events.
const PACE: Duration = Duration::from_millis(100);
/// Between two looks at all objects.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(5);
/// While Events may not be written.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// The longest name of an object, and the longest `reportingInstance`.
const NAME_BYTES_MAX: usize = 253;
const INSTANCE_BYTES_MAX: usize = 128;

/// What came of an Event.
enum Outcome {
    Told,
    Refused,
    Failed,
}

/// Works until `stop`.
pub(crate) async fn run(
    context: &Context,
    mut outlook: watch::Receiver<Arc<Outlook>>,
    mut leadership: Leadership,
    mut stop: watch::Receiver<bool>,
) {
    let mut memory = Memory::of_term(Timestamp::now());
    let mut is_new = true;
    let mut next_look = now();
    let mut next = next_look;
    let mut is_refused = false;
    let mut leads = false;
    loop {
        let wake = if is_new { next_look.max(next) } else { next };
        tokio::select! {
            () = stopped(&mut stop) => break,
            () = tokio::time::sleep_until(wake.into()) => {}
            () = changed(&mut outlook) => { is_new = true; continue }
            () = leadership.turns(leads) => {}
        }
        let now = now();
        if leadership.is_held() != leads {
            leads = !leads;
            memory = Memory::of_term(Timestamp::now());
            is_new = leads;
        }
        if !leads {
            next = now + IDLE;
            continue;
        }
        if is_new && next_look <= now {
            let outlook = Arc::clone(&outlook.borrow());
            memory.look(now, &outlook);
            is_new = false;
            next_look = now + LOOK_EVERY;
        }
        let Some(word) = memory.next(now).filter(|_| leadership.holds(now)) else {
            next = now + if memory.is_waiting() { LOOK_EVERY } else { IDLE };
            continue;
        };
        match tell(context, &word).await {
            Outcome::Told => {
                is_refused = false;
                memory.told(now, &word);
                next = now + PACE;
            }
            Outcome::Failed => {
                memory.failed(now, &word);
                next = now + PACE;
            }
            Outcome::Refused => {
                if !std::mem::replace(&mut is_refused, true) {
                    warn!("events may not be written: grant create and patch on events.k8s.io events");
                }
                memory.failed(now, &word);
                next = now + REFUSED_PAUSE;
            }
        }
    }
}

async fn tell(context: &Context, word: &Word) -> Outcome {
    let api: Api<Event> = Api::namespaced(context.client.clone(), &word.object.namespace);
    let wall = Timestamp::now();
    let event = event(word, &context.settings.pod_name, wall);
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let answer = match bounded(api.create(&parameters, &event), CALL_MAX).await {
        // The same was told before. By us: then it came again. By a leader before us: then people know.
        Some(Err(kube::Error::Api(status))) if status.code == 409 => {
            let Some(count) = word.times.checked_add(1).filter(|count| *count > 1) else {
                return Outcome::Told;
            };
            let series = json!({"series": {"count": count, "lastObservedTime": micro(wall)}});
            let name = event.metadata.name.as_deref().unwrap_or_default();
            bounded(api.patch(name, &PatchParams::default(), &Patch::Merge(&series)), CALL_MAX).await
        }
        answer => answer,
    };
    match answer {
        Some(Ok(_)) => Outcome::Told,
        Some(Err(kube::Error::Api(status))) if status.code == 403 && !is_ending(&status) => Outcome::Refused,
        // The namespace is gone or going, or an old Event of this name went away just now.
        Some(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404 | 409 | 422) => {
            debug!(object = %word.object, error = %status.message, "an event is left out");
            Outcome::Told
        }
        Some(Err(error)) => {
            debug!(object = %word.object, %error, "an event was not written");
            Outcome::Failed
        }
        None => Outcome::Failed,
    }
}

/// Whether a namespace is being deleted, which nobody can be granted anything against.
fn is_ending(status: &kube::core::Status) -> bool {
    status
        .details
        .as_ref()
        .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

/// Its name follows from what it says, so that the next leader does not say it again.
fn event(word: &Word, pod: &str, wall: Timestamp) -> Event {
    let mut hasher = DefaultHasher::new();
    for part in [&*word.uid, word.about.as_str(), word.reason, &*word.note] {
        hasher.write(part.as_bytes());
        hasher.write_u8(0);
    }
    let tail = format!("{:016x}", hasher.finish());
    let room = NAME_BYTES_MAX - tail.len() - 1;
    let head: String = word.object.name.chars().take(room).collect();
    let instance: String = pod.chars().take(INSTANCE_BYTES_MAX).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{tail}", head.trim_end_matches(['.', '-']))),
            namespace: Some(word.object.namespace.to_string()),
            ..ObjectMeta::default()
        },
        event_time: Some(micro(wall)),
        type_: Some(word.tone.as_str().to_owned()),
        reason: Some(word.reason.to_owned()),
        action: Some(word.action().to_owned()),
        note: Some(word.note.clone()),
        regarding: Some(reference(word)),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(instance),
        ..Event::default()
    }
}

fn reference(word: &Word) -> ObjectReference {
    let version = match word.object.kind {
        Kind::Ingress => Some(Ingress::api_version(&())),
        Kind::GatewayRoute => Some(GatewayRoute::api_version(&())),
        Kind::RateLimitPolicy => Some(RateLimitPolicy::api_version(&())),
        Kind::AuthPolicy => Some(AuthPolicy::api_version(&())),
        Kind::IngressClass
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::ReferenceGrant => None,
    };
    ObjectReference {
        api_version: version.map(std::borrow::Cow::into_owned),
        kind: Some(word.object.kind.as_str().to_owned()),
        namespace: Some(word.object.namespace.to_string()),
        name: Some(word.object.name.to_string()),
        uid: Some(word.uid.clone()),
        resource_version: word.version.clone(),
        ..ObjectReference::default()
    }
}
