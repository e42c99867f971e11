//! What becomes of a panic: it costs its task and no other, and a task that must not end begins again. Knows nothing of
//! what the tasks do.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;
use tracing::error;

use crate::observe::{LastingTask, Metrics};

/// From a panic to the next beginning.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs a task to its end. `None`: it panicked.
pub(crate) async fn caught<F: Future>(task: F) -> Option<F::Output> {
    let mut task = pin!(task);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}

/// Runs a task until it ends by itself. One that panics is counted and begins again, with what it lent to its future as
/// the panic left it.
pub(crate) async fn lasting(task: LastingTask, metrics: &Metrics, mut begin: impl AsyncFnMut()) {
    while caught(begin()).await.is_none() {
        metrics.task_panicked(task);
        error!(task = task.as_str(), "a task panicked and begins again");
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_begins_again_after_a_pause_and_is_counted() {
        let metrics = Metrics::new();
        let (mut begun, started) = (0, Instant::now());
        lasting(LastingTask::KeySet, &metrics, async || {
            begun += 1;
            tokio::task::yield_now().await;
            assert!(begun > 1, "an injected panic");
        })
        .await;
        assert_eq!(begun, 2);
        assert!(started.elapsed() >= PAUSE, "{:?}", started.elapsed());
        let text = metrics.render();
        assert!(text.contains("baribhara_task_restarts_total{task=\"key_set\"} 1\n"), "{text}");
        assert!(text.contains("baribhara_panics_total 1\n"), "{text}");
    }

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_not_begun_again() {
        let metrics = Metrics::new();
        let mut begun = 0;
        lasting(LastingTask::Sampler, &metrics, async || begun += 1).await;
        assert_eq!(begun, 1);
        assert!(!metrics.render().contains("baribhara_task_restarts_total{"));
    }
}
