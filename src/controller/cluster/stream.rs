//! Follows one kind in one place: lists it, watches it, lists it again where the watch cannot go on, and never gives up.
//! What the objects mean is for whoever takes them.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use kube::Client;
use serde_json::Value;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::backoff::{Backoff, chance};
use super::intake::Intake;
use super::keeper::Versions;
use super::request::{self, Part, WatchEvent};
use super::resource::{Resource, Target, is_own};
use super::roll::Roll;
use super::trouble::Trouble;

/// How often a kind is looked for that the API server does not have.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The same for our own kinds, which are likely to be installed soon.
const LOOK_AGAIN_OWN: Duration = Duration::from_secs(5);
/// How often in a row a kind must be missing whose objects are in use, before they go: an API server that has just
/// started may not know all kinds yet.
const MISSING_MIN: u32 = 5;
/// A watch that ends sooner counts as a failure, so that it is not opened again in a tight loop.
const WATCH_MIN: Duration = Duration::from_secs(1);

/// What is told of the objects.
#[derive(Debug)]
pub(super) enum Event {
    /// A list begins; pages follow. What came of a list that did not get to its end is forgotten.
    ListBegins,
    Page(Vec<Value>),
    /// All that there are stood in the pages.
    ListEnds,
    Applied(Value),
    Deleted(Value),
    /// There is no such kind.
    NoKind,
}

/// Who takes the objects.
#[derive(Debug)]
pub(super) enum Taker {
    Objects(Intake),
    Versions(Versions),
}

/// One stream.
pub(super) struct Stream {
    client: Client,
    target: Target,
    taker: Taker,
    roll: Roll,
    /// It counts as empty where it may not be read.
    optional: bool,
    /// Where the kind is, as far as it was found.
    resource: Resource,
    backoff: Backoff,
    missing: u32,
    /// What was logged last and holds still.
    said: Option<Trouble>,
}

/// Why a watch is not opened again at its version.
enum Over {
    ListAgain,
    /// Nobody takes objects any more.
    Stop,
}

impl Stream {
    /// `None` for a kind that has no place, which there is not.
    pub(super) fn new(
        client: Client,
        target: Target,
        taker: Taker,
        roll: Roll,
        optional: bool,
    ) -> Option<Self> {
        let resource = *Resource::versions(target.kind).first()?;
        let backoff = Backoff::default();
        Some(Self { client, target, taker, roll, optional, resource, backoff, missing: 0, said: None })
    }

    /// Works until nobody takes objects any more. After a panic all objects are listed again: what of them was taken when it
    /// happened does not matter then.
    pub(super) async fn run(mut self) {
        while AssertUnwindSafe(self.follow()).catch_unwind().await.is_err() {
            error!(watch = %self.target, "a watch panicked and begins again");
            self.roll.panicked(&self.target);
            sleep(self.backoff.next(chance()).max(WATCH_MIN)).await;
        }
    }

    async fn follow(&mut self) {
        loop {
            let over = match self.list().await {
                Ok(version) => {
                    self.missing = 0;
                    if !self.taker.take(Event::ListEnds).await {
                        return;
                    }
                    self.roll.listed(&self.target);
                    self.watch(version).await
                }
                Err(trouble) => self.not_listed(trouble).await,
            };
            match over {
                Over::ListAgain => {}
                Over::Stop => return,
            }
        }
    }

    /// Passes on all objects and returns the version that the list is of. Of the kind's versions it takes the first one
    /// that is there.
    async fn list(&mut self) -> Result<String, Trouble> {
        for resource in Resource::versions(self.target.kind) {
            self.resource = *resource;
            match self.list_pages().await {
                Err(Trouble::Absent) => {}
                other => return other,
            }
        }
        Err(Trouble::Absent)
    }

    async fn list_pages(&mut self) -> Result<String, Trouble> {
        let part = self.part();
        self.taker.take(Event::ListBegins).await;
        let mut next = None;
        loop {
            let page = request::list(&self.client, self.resource, &self.target, part, next).await?;
            self.taker.take(Event::Page(page.objects)).await;
            next = page.next;
            if next.is_none() {
                return Ok(page.version);
            }
        }
    }

    async fn not_listed(&mut self, trouble: Trouble) -> Over {
        let optional = self.optional && matches!(trouble, Trouble::Forbidden(_));
        let wait = if trouble == Trouble::Absent || optional {
            self.missing = self.missing.saturating_add(1);
            if self.taker.holds_objects() && self.missing < MISSING_MIN {
                self.backoff.next(chance())
            } else {
                if !self.taker.take(Event::NoKind).await {
                    return Over::Stop;
                }
                self.roll.listed(&self.target);
                // Nothing is missed where a kind is only read if it is there.
                let own = is_own(self.target.kind);
                self.roll.stands(&self.target, !own);
                if optional {
                    self.say(&trouble);
                }
                self.backoff.reset();
                if own { LOOK_AGAIN_OWN } else { LOOK_AGAIN }
            }
        } else {
            // A list that took too long to be gone on with is simply begun again.
            if trouble != Trouble::Gone {
                self.down(&trouble);
            }
            self.backoff.next(chance())
        };
        sleep(wait).await;
        Over::ListAgain
    }

    /// Watches from this version on for as long as that is possible.
    async fn watch(&mut self, mut version: String) -> Over {
        loop {
            let (client, part) = (&self.client, self.part());
            let trouble = match request::watch(client, self.resource, &self.target, part, &version).await {
                Ok(watch) => {
                    self.up();
                    match self.read(watch, &mut version).await {
                        Ok(Over::Stop) => return Over::Stop,
                        Ok(Over::ListAgain) => continue,
                        Err(trouble) => trouble,
                    }
                }
                Err(trouble) => trouble,
            };
            // A list goes on from there or finds out what is there instead; in between nothing is wrong.
            let lists_again = matches!(trouble, Trouble::Gone | Trouble::Absent);
            if !lists_again {
                self.down(&trouble);
            }
            sleep(self.backoff.next(chance())).await;
            if lists_again {
                return Over::ListAgain;
            }
        }
    }

    /// Takes the events of one watch. `ListAgain`: it came to its natural end.
    async fn read(&mut self, mut watch: request::Watch, version: &mut String) -> Result<Over, Trouble> {
        let opened = Instant::now();
        while let Some(event) = watch.next().await {
            let (object, event): (_, fn(Value) -> Event) = match event {
                WatchEvent::Applied(object) => (object, Event::Applied),
                WatchEvent::Deleted(object) => (object, Event::Deleted),
                WatchEvent::Bookmark(object) => {
                    *version = version_of(&object)?;
                    continue;
                }
                WatchEvent::Trouble(trouble) => return Err(trouble),
            };
            *version = version_of(&object)?;
            self.backoff.reset();
            #[cfg(test)]
            super::tests::panic_if_asked(&object);
            if !self.taker.take(event(object)).await {
                return Ok(Over::Stop);
            }
        }
        if opened.elapsed() >= WATCH_MIN {
            self.backoff.reset();
        } else {
            sleep(self.backoff.next(chance())).await;
        }
        Ok(Over::ListAgain)
    }

    fn part(&self) -> Part {
        match self.taker {
            Taker::Objects(_) => Part::Whole,
            Taker::Versions(_) => Part::Metadata,
        }
    }

    fn up(&mut self) {
        self.roll.stands(&self.target, true);
        if self.said.take().is_some() {
            info!(watch = %self.target, "watch stands again");
        }
    }

    fn down(&mut self, trouble: &Trouble) {
        self.roll.stands(&self.target, false);
        self.say(trouble);
    }

    /// Logs each kind of trouble once, not with each try.
    fn say(&mut self, trouble: &Trouble) {
        if !self.said.as_ref().is_some_and(|said| said.is_like(trouble)) {
            warn!(watch = %self.target, error = %trouble, "watch is down; what was read last stays in use");
        }
        self.said = Some(trouble.clone());
    }
}

impl Drop for Stream {
    /// However it ends, a stream that is gone does not stand.
    fn drop(&mut self) {
        self.roll.stands(&self.target, false);
    }
}

impl Taker {
    /// False: nobody takes objects any more.
    async fn take(&mut self, event: Event) -> bool {
        match self {
            Self::Objects(intake) => intake.take(event).await,
            Self::Versions(versions) => versions.take(event).await,
        }
    }

    fn holds_objects(&self) -> bool {
        match self {
            Self::Objects(intake) => intake.holds_objects(),
            // What is kept of these is what the objects of other kinds name.
            Self::Versions(_) => false,
        }
    }
}

fn version_of(object: &Value) -> Result<String, Trouble> {
    let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    version.filter(|version| !version.is_empty()).map(str::to_owned).ok_or(Trouble::Garbled)
}
