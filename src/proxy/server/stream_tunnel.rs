//! Tunnels on a stream of HTTP/2 (RFC 8441): like those on a connection of their own, but the connection lives on.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{Downstream, Worker};
use crate::tunnel::{Drain, Offer};

/// Runs the tunnel once the client has its answer. `stream` is the client's end.
pub(crate) fn begin(worker: &Rc<Worker>, downstream: &Rc<Downstream>, stream: OnUpgrade, offer: Offer) {
    let tunnel = run(Rc::clone(worker), Rc::clone(downstream), stream, offer);
    worker.spawn(tunnel);
}

async fn run(worker: Rc<Worker>, downstream: Rc<Downstream>, stream: OnUpgrade, offer: Offer) {
    // The client may have gone before it got the answer.
    let Ok(stream) = stream.await else { return };
    let mut tunnel = Box::pin(offer.accept(&worker, TokioIo::new(stream), &Bytes::new()));
    let mut drained = pin!(downstream.drained());
    let mut is_drained = false;
    poll_fn(|cx| {
        if !is_drained && drained.as_mut().poll(cx).is_ready() {
            is_drained = true;
            tunnel.as_mut().drain();
        }
        tunnel.as_mut().poll(cx)
    })
    .await;
}
