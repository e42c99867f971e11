//! Carries out what [`Election`] decides. Decides nothing itself.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Instant;

use ir::ControlState;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{CALL_MAX, Context, FIELD_MANAGER, bounded, now, stopped};
use crate::leader::{Election, Step, Timing, holder};

/// Who is told about the leadership.
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) leads: watch::Sender<Option<Instant>>,
    pub(super) state: watch::Sender<ControlState>,
}

/// Stands for election until the writers have ended, then hands over.
pub(super) async fn run(
    context: &Context,
    outlets: Outlets,
    owner: watch::Receiver<Option<OwnerReference>>,
    mut writers_end: watch::Receiver<bool>,
) {
    let settings = &context.settings;
    let api = context.leases();
    let seed = RandomState::new().build_hasher().finish();
    let mut election = Election::new(settings.pod_name.clone(), Timing::STANDARD, now(), seed);
    let mut forbidden = false;
    while !*writers_end.borrow() {
        election.own(owner.borrow().as_ref());
        let step = election.step(now(), Timestamp::now());
        outlets.tell(&election, &settings.lease_name);
        match step {
            Step::Wait(until) => {
                tokio::select! {
                    () = stopped(&mut writers_end) => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                }
            }
            Step::Read | Step::Create(_) | Step::Replace(_) => {
                let outcome = call(&api, &settings.lease_name, &mut election, step).await;
                warn_once(&mut forbidden, outcome);
                outlets.tell(&election, &settings.lease_name);
            }
        }
    }
    let released = election.release(now(), Timestamp::now());
    outlets.tell(&election, &settings.lease_name);
    if let Some(lease) = released {
        let parameters = parameters();
        match bounded(api.replace(&settings.lease_name, &parameters, &lease), CALL_MAX).await {
            Some(Ok(_)) => info!(lease = settings.lease_name, "leadership is handed over"),
            Some(Err(error)) => warn!(%error, "leadership was not handed over; it ends by itself"),
            None => warn!("leadership was not handed over in time; it ends by itself"),
        }
    }
}

/// Calls the API server and tells the election what came of it.
async fn call(api: &Api<Lease>, name: &str, election: &mut Election, step: Step) -> Result<(), kube::Error> {
    let sent = now();
    // A leader is not held up by a call beyond its own end.
    let most =
        election.leads_until().map_or(CALL_MAX, |until| until.saturating_duration_since(sent).min(CALL_MAX));
    let answer = match step {
        Step::Wait(_) => return Ok(()),
        Step::Read => {
            let answer = bounded(api.get_opt(name), most).await;
            let now = now();
            return match answer {
                Some(Ok(lease)) => {
                    let who = lease.as_ref().and_then(holder).unwrap_or_default();
                    debug!(lease = name, holder = who, "the Lease was read");
                    election.on_read(now, lease);
                    Ok(())
                }
                Some(Err(error)) => {
                    election.on_failed(now);
                    Err(error)
                }
                None => {
                    election.on_failed(now);
                    Ok(())
                }
            };
        }
        Step::Create(mut lease) => {
            lease.metadata.name = Some(name.to_owned());
            bounded(api.create(&parameters(), &lease), most).await
        }
        Step::Replace(lease) => bounded(api.replace(name, &parameters(), &lease), most).await,
    };
    let now = now();
    match answer {
        Some(Ok(lease)) => election.on_written(sent, now, lease),
        Some(Err(kube::Error::Api(status))) if status.code == 409 => election.on_conflict(now),
        Some(Err(error)) => {
            election.on_failed(now);
            return Err(error);
        }
        None => election.on_failed(now),
    }
    Ok(())
}

impl Outlets {
    fn tell(&self, election: &Election, lease: &str) {
        let until = election.leads_until();
        self.leads.send_if_modified(|last| {
            let is_new = *last != until;
            *last = until;
            is_new
        });
        let is_leader = until.is_some();
        let turned = self.state.send_if_modified(|state| {
            let is_new = state.is_leader != is_leader;
            state.is_leader = is_leader;
            is_new
        });
        match (turned, is_leader) {
            (true, true) => info!(lease, "this replica leads: it writes status and events"),
            (true, false) => info!(lease, "this replica leads no more"),
            (false, _) => {}
        }
    }
}

fn warn_once(forbidden: &mut bool, outcome: Result<(), kube::Error>) {
    match outcome {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if status.code == 403 => {
            if !std::mem::replace(forbidden, true) {
                warn!(error = %status.message, "leases may not be used: no replica can lead and write status");
            }
        }
        Err(error) => debug!(%error, "the Lease was not reached"),
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
