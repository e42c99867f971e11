//! The first bytes on a connection without TLS tell which HTTP it speaks. Nothing of them is lost, and nothing is
//! answered here.

use std::future::poll_fn;
use std::task::Poll;

use super::downstream::{Downstream, Protocol};
use super::socket::Socket;

/// What a client that speaks HTTP/2 without having asked says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it is known. `None`: the client is gone, was too slow, or the connection is to end.
pub(super) async fn protocol(socket: &mut Socket, downstream: &Downstream) -> Option<Protocol> {
    poll_fn(|cx| {
        if let Some(protocol) = spoken(socket.ahead()) {
            return Poll::Ready(Some(protocol));
        }
        loop {
            match socket.poll_ahead(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) => match spoken(socket.ahead()) {
                    Some(protocol) => return Poll::Ready(Some(protocol)),
                    None => downstream.on_read(),
                },
                Poll::Pending => {
                    let unasked = socket.ahead().is_empty() && downstream.is_asked_to_close();
                    let over = unasked || downstream.poll_expired(cx);
                    downstream.remember_waker(cx);
                    return if over { Poll::Ready(None) } else { Poll::Pending };
                }
            }
        }
    })
    .await
}

/// `None`: it may still be either, as nothing is.
fn spoken(bytes: &[u8]) -> Option<Protocol> {
    let seen = bytes.len().min(PREFACE.len());
    match (bytes.get(..seen), PREFACE.get(..seen)) {
        (Some(bytes), Some(preface)) if bytes == preface => {
            (seen == PREFACE.len()).then_some(Protocol::Http2)
        }
        _ => Some(Protocol::Http1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_preface_is_http_2() {
        for end in 1..PREFACE.len() {
            assert_eq!(spoken(&PREFACE[..end]), None, "{end}");
            let mut other = PREFACE[..end].to_vec();
            other.push(b'x');
            assert_eq!(spoken(&other), Some(Protocol::Http1), "{end}");
        }
        assert_eq!(spoken(PREFACE), Some(Protocol::Http2));
        assert_eq!(spoken(&[PREFACE, b"\0\0\0\x04".as_slice()].concat()), Some(Protocol::Http2));
        assert_eq!(spoken(b"GET / HTTP/1.1\r\n"), Some(Protocol::Http1));
        assert_eq!(spoken(b"PUT / HTTP/1.1\r\n"), Some(Protocol::Http1));
    }
}
