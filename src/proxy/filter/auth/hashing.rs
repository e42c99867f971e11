//! Where passwords are hashed: beside the workers, a few at once and with a bounded number that wait. Decides nothing.

use std::fmt;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::observe::PasswordMetrics;

/// How many checks may wait for each one that is under way. With hashes that take 100 ms the last one waits for 1.6 s.
const WAITING_MAX: usize = 16;

/// The place for all password checks of the process.
pub(super) struct HashPool {
    /// One for each check that is under way or waits.
    places: Arc<Semaphore>,
    /// One for each check that is under way.
    turns: Arc<Semaphore>,
    metrics: Arc<PasswordMetrics>,
}

/// As many checks wait as may; this one is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

impl HashPool {
    /// Half of the cores may hash, so that whoever guesses passwords does not keep the workers from theirs.
    pub(super) fn new(metrics: Arc<PasswordMetrics>) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self::with_threads((cores / 2).max(1), metrics)
    }

    pub(super) fn with_threads(threads: usize, metrics: Arc<PasswordMetrics>) -> Self {
        let places = Arc::new(Semaphore::new(threads * (1 + WAITING_MAX)));
        Self { places, turns: Arc::new(Semaphore::new(threads)), metrics }
    }

    /// Does the work in its turn. Whoever stops waiting before gives its place free at once; work that has begun keeps its
    /// turn to the end.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.metrics.busy.inc();
            return Err(Busy);
        };
        // The semaphore is never closed, so the turn comes.
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Busy)?;
        self.metrics.checked.inc();
        let done = spawn_blocking(move || {
            let result = work();
            drop((turn, place));
            result
        });
        done.await.map_err(|_| Busy)
    }

    /// A check was not needed, because the answer was known.
    pub(super) fn count_cached(&self) {
        self.metrics.cached.inc();
    }
}

impl fmt::Debug for HashPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashPool").field("free", &self.turns.available_permits()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn no_more_run_at_once_than_there_are_threads_and_no_more_wait_than_may() {
        let metrics = Arc::new(PasswordMetrics::default());
        let pool = Arc::new(HashPool::with_threads(1, Arc::clone(&metrics)));
        let (go, wait) = mpsc::channel::<()>();
        let mut runs = tokio::task::JoinSet::new();
        let first = Arc::clone(&pool);
        runs.spawn(async move { first.run(move || wait.recv().is_ok()).await });
        for _ in 0..WAITING_MAX {
            let pool = Arc::clone(&pool);
            runs.spawn(async move { pool.run(|| true).await });
        }
        while pool.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.turns.available_permits(), 0);
        assert_eq!(pool.run(|| true).await, Err(Busy));
        assert_eq!(metrics.busy.get(), 1);
        go.send(()).unwrap();
        while let Some(ended) = runs.join_next().await {
            assert_eq!(ended.unwrap(), Ok(true));
        }
        assert_eq!(pool.run(|| 7).await, Ok(7), "and then there is place again");
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_its_place() {
        let pool = Arc::new(HashPool::with_threads(1, Arc::default()));
        let (go, wait) = mpsc::channel::<()>();
        let first = Arc::clone(&pool);
        let under_way = tokio::task::LocalSet::new();
        under_way
            .run_until(async {
                let first =
                    tokio::task::spawn_local(async move { first.run(move || wait.recv().is_ok()).await });
                while pool.turns.available_permits() > 0 {
                    tokio::task::yield_now().await;
                }
                let before = pool.places.available_permits();
                let mut waits = Box::pin(pool.run(|| true));
                assert!(futures_poll(&mut waits).await, "it waits");
                assert_eq!(pool.places.available_permits(), before - 1);
                drop(waits);
                assert_eq!(pool.places.available_permits(), before);
                go.send(()).unwrap();
                assert_eq!(first.await.unwrap(), Ok(true));
            })
            .await;
    }

    /// Polls once; whether it is pending.
    async fn futures_poll(future: &mut (impl Future + Unpin)) -> bool {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
        })
        .await
    }
}
