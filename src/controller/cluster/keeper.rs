//! Keeps the Secrets and ConfigMaps that objects name or take by their labels, and no other: fetches each when it is named first and whenever
//! its version changes, and gives it up when nobody names it any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ir::{Kind, ObjectRef};
use kube::Client;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error, warn};
use translate::Selection;

use super::backoff::{Backoff, chance};
use super::intake;
use super::request;
use super::resource::{Resource, Target};
use super::selection::{Labels, Selections, Shift};
use super::shelf::{Answer, Shelf, Ticket};
use super::stream::Event;
use super::trouble::Trouble;
use crate::document;
use crate::schema::Schemas;
use crate::source::{Batch, Change};

/// How many objects are fetched at once.
const FETCHES_MAX: usize = 16;
/// How many messages may wait.
const MESSAGES_MAX: usize = 64;
/// How long an object waits for what it names. Then it goes live without, and what needs it fails closed.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// When it is tried again to fetch what may not be read.
const FORBIDDEN_AGAIN: Duration = Duration::from_secs(30);

/// Speaks to the keeper.
#[derive(Clone, Debug)]
pub(super) struct KeeperHandle {
    messages: mpsc::Sender<Message>,
}

/// Takes the metadata of one stream of Secrets or ConfigMaps.
#[derive(Debug)]
pub(super) struct Versions {
    target: Target,
    keeper: KeeperHandle,
    listed: HashMap<ObjectRef, String>,
    labels: HashMap<ObjectRef, Labels>,
}

/// The keeper.
pub(super) struct Keeper {
    shelf: Shelf,
    selections: Selections,
    client: Client,
    schemas: Arc<Schemas>,
    batches: mpsc::Sender<Batch>,
    messages: mpsc::Receiver<Message>,
    fetches: JoinSet<(u64, ObjectRef, Result<Option<Value>, Trouble>)>,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
    next_ticket: Ticket,
    forbidden: bool,
}

#[derive(Debug)]
enum Message {
    Take {
        names: Vec<ObjectRef>,
        selections: Vec<Selection>,
        done: oneshot::Sender<()>,
    },
    /// Waits for all that is taken by its labels.
    Settle(oneshot::Sender<()>),
    Release {
        names: Vec<ObjectRef>,
        selections: Vec<Selection>,
    },
    Listed {
        target: Target,
        versions: HashMap<ObjectRef, String>,
        labels: HashMap<ObjectRef, Labels>,
    },
    Changed {
        object: ObjectRef,
        version: Option<String>,
        labels: Labels,
    },
}

impl KeeperHandle {
    /// Names objects and selections once more, and waits until those that are new were looked for.
    pub(super) async fn take(&self, names: Vec<ObjectRef>, selections: Vec<Selection>) {
        if names.is_empty() && selections.is_empty() {
            return;
        }
        self.wait(|done| Message::Take { names, selections, done }).await;
    }

    /// Waits until all that is taken by its labels was looked for.
    pub(super) async fn settle(&self) {
        self.wait(Message::Settle).await;
    }

    async fn wait(&self, message: impl FnOnce(oneshot::Sender<()>) -> Message) {
        let (done, waiting) = oneshot::channel();
        if self.messages.send(message(done)).await.is_ok() {
            // Too late is as good as not at all: the object goes live without, and the fetch goes on.
            drop(timeout(WAIT_MAX, waiting).await);
        }
    }

    /// Names objects and selections once less.
    pub(super) async fn release(&self, names: Vec<ObjectRef>, selections: Vec<Selection>) {
        if !names.is_empty() || !selections.is_empty() {
            // It fails only where everything ends.
            drop(self.messages.send(Message::Release { names, selections }).await);
        }
    }
}

impl Versions {
    pub(super) fn new(target: Target, keeper: KeeperHandle) -> Self {
        Self { target, keeper, listed: HashMap::new(), labels: HashMap::new() }
    }

    /// False: the keeper is gone.
    pub(super) async fn take(&mut self, event: Event) -> bool {
        let kind = self.target.kind;
        let message = match event {
            Event::ListBegins => {
                self.listed.clear();
                self.labels.clear();
                return true;
            }
            Event::Page(values) => {
                for value in &values {
                    let Some(object) = document::object_ref(kind, value) else { continue };
                    let labels = labels_of(value);
                    // Most have none, and then there is nothing to remember.
                    if kind == Kind::Secret && !labels.is_empty() {
                        self.labels.insert(object.clone(), labels);
                    }
                    self.listed.insert(object, version_of(value));
                }
                return true;
            }
            Event::ListEnds | Event::NoKind => Message::Listed {
                target: self.target.clone(),
                versions: std::mem::take(&mut self.listed),
                labels: std::mem::take(&mut self.labels),
            },
            Event::Applied(value) => match document::object_ref(kind, &value) {
                Some(object) => {
                    Message::Changed { object, version: Some(version_of(&value)), labels: labels_of(&value) }
                }
                None => return true,
            },
            Event::Deleted(value) => match document::object_ref(kind, &value) {
                Some(object) => Message::Changed { object, version: None, labels: Labels::new() },
                None => return true,
            },
        };
        self.keeper.messages.send(message).await.is_ok()
    }
}

impl Keeper {
    pub(super) fn new(
        client: Client,
        schemas: Arc<Schemas>,
        batches: mpsc::Sender<Batch>,
    ) -> (Self, KeeperHandle) {
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let keeper = Self {
            shelf: Shelf::default(),
            selections: Selections::default(),
            client,
            schemas,
            batches,
            messages,
            fetches: JoinSet::new(),
            waiting: HashMap::new(),
            next_ticket: 0,
            forbidden: false,
        };
        (keeper, KeeperHandle { messages: sender })
    }

    /// Works until nobody names objects any more, or nobody takes them.
    pub(super) async fn run(mut self) {
        loop {
            let now = Instant::now();
            while self.fetches.len() < FETCHES_MAX
                && let Some((number, object)) = self.shelf.next_fetch(now)
            {
                self.fetch(number, object);
            }
            let due = self.shelf.next_due();
            // All arms are cancel-safe: a message, a finished fetch or a time that is not taken now is there next time.
            let went_on = tokio::select! {
                message = self.messages.recv() => match message {
                    Some(message) => self.hear(message).await,
                    None => false,
                },
                Some(fetched) = self.fetches.join_next() => match fetched {
                    Ok((number, object, result)) => self.fetched(number, &object, result).await,
                    Err(error) => {
                        error!(%error, "fetching an object failed");
                        true
                    }
                },
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => true,
            };
            if !went_on {
                return;
            }
        }
    }

    fn fetch(&mut self, number: u64, object: ObjectRef) {
        let Some(resource) = Resource::versions(object.kind).first().copied() else { return };
        let client = self.client.clone();
        self.fetches.spawn(async move {
            let result = request::get(&client, resource, &object).await;
            (number, object, result)
        });
    }

    async fn hear(&mut self, message: Message) -> bool {
        match message {
            Message::Take { names, selections, done } => {
                let Shift { gained, lost } = self.selections.add(selections.clone());
                let also = self.selections.taken_by(&selections);
                self.take([names, gained].concat(), &also, Some(done));
                self.give_up(lost).await
            }
            Message::Settle(done) => {
                let also = self.selections.taken();
                self.take(Vec::new(), &also, Some(done));
                true
            }
            Message::Release { names, selections } => {
                let Shift { gained, lost } = self.selections.remove(selections);
                self.take(gained, &[], None);
                self.give_up([names, lost].concat()).await
            }
            Message::Listed { target, versions, labels } => {
                let shift = self.selections.listed(&target, labels);
                self.shelf.listed(&target, &versions);
                self.shift(shift).await
            }
            Message::Changed { object, version, labels } => {
                let shift = self.selections.changed(&object, labels);
                self.shelf.changed(&object, version.as_deref());
                self.shift(shift).await
            }
        }
    }

    async fn shift(&mut self, shift: Shift) -> bool {
        self.take(shift.gained, &[], None);
        self.give_up(shift.lost).await
    }

    /// Names objects once more, for one who waits for them, and for what others have named also.
    fn take(&mut self, names: Vec<ObjectRef>, also: &[ObjectRef], done: Option<oneshot::Sender<()>>) {
        if names.is_empty() && done.is_none() {
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if let Some(done) = done {
            self.waiting.insert(ticket, done);
        }
        self.shelf.take(names, also, ticket);
        self.call();
    }

    async fn give_up(&mut self, names: Vec<ObjectRef>) -> bool {
        let gone = self.shelf.release(names);
        self.call();
        let forget = |object: ObjectRef| [intake::say(&object, Vec::new(), false), Change::Delete(object)];
        self.send(gone.into_iter().flat_map(forget).collect()).await
    }

    async fn fetched(
        &mut self,
        number: u64,
        object: &ObjectRef,
        result: Result<Option<Value>, Trouble>,
    ) -> bool {
        self.log(object, &result);
        let later = Instant::now() + later(&result, self.shelf.failures(object));
        let answer = match &result {
            Ok(value) => Answer::Looked(value.as_ref().map(version_of)),
            Err(Trouble::Forbidden(_)) => Answer::Forbidden(later),
            Err(_) => Answer::Failed(later),
        };
        let current = self.shelf.is_current(object, number);
        let batch = match result {
            Ok(None) if current => {
                vec![Change::Delete(object.clone()), intake::say(object, Vec::new(), false)]
            }
            Ok(Some(value)) if current => intake::fetched(object, value, &self.schemas),
            Ok(_) | Err(_) => Batch::new(),
        };
        let goes_on = self.send(batch).await;
        // Who waits goes on only when the object is on its way.
        self.shelf.fetched(object, number, answer);
        self.call();
        goes_on
    }

    /// Tells those who wait for nothing more.
    fn call(&mut self) {
        for ticket in self.shelf.called() {
            if let Some(done) = self.waiting.remove(&ticket)
                && done.send(()).is_err()
            {
                debug!("an object went live before what it names was fetched");
            }
        }
    }

    async fn send(&self, batch: Batch) -> bool {
        batch.is_empty() || self.batches.send(batch).await.is_ok()
    }

    /// One line for all objects that may not be read; an outage is told of by the watches.
    fn log(&mut self, object: &ObjectRef, result: &Result<Option<Value>, Trouble>) {
        match result {
            Err(error @ Trouble::Forbidden(_)) if !self.forbidden => {
                self.forbidden = true;
                warn!(%object, %error, "an object that is named cannot be fetched");
            }
            Ok(_) => self.forbidden = false,
            Err(_) => {}
        }
    }
}

fn later(result: &Result<Option<Value>, Trouble>, mut backoff: Backoff) -> Duration {
    match result {
        Err(Trouble::Forbidden(_)) => FORBIDDEN_AGAIN,
        Ok(_) | Err(_) => backoff.next(chance()),
    }
}

fn version_of(object: &Value) -> String {
    let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    version.unwrap_or_default().to_owned()
}

pub(super) fn labels_of(object: &Value) -> Labels {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    labels.into_iter().flatten().filter_map(text).collect()
}
