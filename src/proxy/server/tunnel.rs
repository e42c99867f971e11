//! Runs the tunnel that a client's connection has become, to its end. Knows nothing of what passes.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use super::connection::Open;
use crate::tunnel::Drain;

/// Copies until both ends, the idle limit or a drain end it.
pub(super) async fn run<T: Drain>(open: &Open, mut tunnel: Pin<Box<T>>) {
    let downstream = &open.downstream;
    poll_fn(|cx| {
        if downstream.is_asked_to_close() {
            tunnel.as_mut().drain();
        } else {
            // Not once it is told: a drain wakes who can be woken every few milliseconds.
            downstream.remember_waker(cx);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| tunnel.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            open.worker.metrics.panicked();
            tracing::error!("a tunnel panicked; its connection is closed");
            Poll::Ready(())
        })
    })
    .await;
}
