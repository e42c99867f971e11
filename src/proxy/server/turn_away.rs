//! Connections that are turned away because a budget of the process is used up. They are told so where that costs next
//! to nothing.

use std::cell::Cell;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time;

const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-length: 0\r\n\r\n";
/// How long what the client has sent is read away, so that its answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);
/// Connections of one worker that are told at once. More are just closed.
const TOLD_MAX: u32 = 64;

thread_local! {
    static TOLD: Cell<u32> = const { Cell::new(0) };
}

/// Counts one until it is dropped.
struct Told;

impl Drop for Told {
    fn drop(&mut self) {
        TOLD.set(TOLD.get() - 1);
    }
}

/// Says 503 to a client without TLS; a handshake would cost more than the request.
pub(super) fn turn_away(stream: TcpStream, has_tls: bool) {
    if has_tls || TOLD.get() >= TOLD_MAX {
        return;
    }
    TOLD.set(TOLD.get() + 1);
    let told = Told;
    tokio::task::spawn_local(async move {
        drop(time::timeout(LINGER, tell(stream)).await);
        drop(told);
    });
}

async fn tell(mut stream: TcpStream) {
    let mut sink = [0; 1024];
    // Not before it has asked: an answer to nothing would be taken for one to the request before.
    let asks = matches!(stream.read(&mut sink).await, Ok(read) if read > 0);
    if asks && stream.write_all(ANSWER).await.is_ok() && stream.shutdown().await.is_ok() {
        while matches!(stream.read(&mut sink).await, Ok(read) if read > 0) {}
    }
}
