//! A client's connection whose TLS is none of ours: to an endpoint with it, its first message first. Understands nothing
//! of it, and can say nothing on it but an alert before an endpoint was reached.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncWrite;

use super::connection::Open;
use super::proxy_header;
use super::tls::Wire;
use super::tunnel;
use crate::filter::balance;
use crate::observe::PassthroughResult;
use crate::passthrough::PassedHost;
use crate::tunnel::Passing;
use crate::upstream::{Passage, PassageError};

/// A connection to be passed through.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) wire: Wire,
    /// All that was read of it.
    pub(super) heard: BytesMut,
    pub(super) host: Arc<PassedHost>,
}

/// A fatal alert `internal_error` as a record (RFC 8446 §5.1, §6.2). There are no keys to seal it.
const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// Passes a connection through to its end.
pub(super) async fn serve(open: &Open, passed: Passed) {
    let Passed { wire, heard, host } = passed;
    open.downstream.on_passthrough();
    let (random, idle) = (open.worker.random.next(), host.config.stream_idle);
    let reached = match host.pick(random) {
        Some((backend, proxy)) => {
            let address_key = balance::address_key(open.downstream.peer);
            let passage = Passage { worker: &open.worker, backend, config: &host.config, address_key };
            passage.open().await.map(|reached| (reached, proxy))
        }
        None => Err(PassageError::NoEndpoint),
    };
    let ((endpoint, held), proxy) = match reached {
        Ok(reached) => reached,
        Err(error) => {
            host.metrics.ended(match error {
                PassageError::NoEndpoint => PassthroughResult::NoEndpoint,
                PassageError::Connect => PassthroughResult::ConnectFailed,
                PassageError::Breaker => PassthroughResult::BreakerOpen,
            });
            return refuse(wire).await;
        }
    };
    host.metrics.ended(PassthroughResult::Ok);
    // It may last for days, and must not keep the configuration of its first one.
    drop(host);
    let ahead = match proxy {
        Some(version) => {
            let downstream = &open.downstream;
            let client = SocketAddr::new(downstream.peer, downstream.peer_port);
            let local = SocketAddr::new(downstream.local_ip, downstream.local_port);
            let mut ahead = proxy_header::encode(version, client, local);
            ahead.extend_from_slice(&heard);
            ahead
        }
        None => heard,
    };
    let passing = Box::pin(Passing::new(&open.worker, (wire, endpoint), ahead, held, idle));
    tunnel::run(open, passing).await;
}

/// Ends a connection whose client waits for an answer to its first message.
pub(super) async fn refuse(mut wire: Wire) {
    // Into an empty buffer. The client may have gone; it is refused either way.
    drop(wire.tcp.try_write(&INTERNAL_ERROR));
    drop(poll_fn(|cx| Pin::new(&mut wire).poll_shutdown(cx)).await);
}
