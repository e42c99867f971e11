//! Bodies of the echo upstream's answers. Holds at most one chunk of a long one in memory.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Byte `i` of a pattern is `i % PERIOD`; a prime, so that a shifted or repeated block shows.
const PERIOD: usize = 251;
/// A multiple of the period, so that every chunk starts alike.
const CHUNK: usize = PERIOD * 256;

/// What is still to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    rest: Rest,
    /// The length is not told, so that it goes out in chunks.
    chunked: bool,
}

#[derive(Debug)]
enum Rest {
    Whole(Bytes),
    Pattern { bytes: u64, chunk: Bytes },
}

impl Answer {
    pub(super) fn whole(body: Bytes, chunked: bool) -> Self {
        Self { rest: Rest::Whole(body), chunked }
    }

    pub(super) fn pattern(bytes: u64, chunked: bool) -> Self {
        let chunk: Vec<u8> = (0..=250u8).cycle().take(CHUNK).collect();
        Self { rest: Rest::Pattern { bytes, chunk: chunk.into() }, chunked }
    }

    fn bytes_left(&self) -> u64 {
        match &self.rest {
            Rest::Whole(body) => body.len() as u64,
            Rest::Pattern { bytes, .. } => *bytes,
        }
    }

    /// The next piece; never empty.
    fn next(&mut self) -> Option<Bytes> {
        match &mut self.rest {
            Rest::Whole(body) if body.is_empty() => None,
            Rest::Whole(body) => Some(std::mem::take(body)),
            Rest::Pattern { bytes: 0, .. } => None,
            Rest::Pattern { bytes, chunk } => {
                let take = usize::try_from(*bytes).map_or(chunk.len(), |bytes| bytes.min(chunk.len()));
                *bytes -= take as u64;
                Some(chunk.slice(..take))
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        // A body in chunks must be asked for its end, or hyper would write `content-length: 0` for an empty one.
        !self.chunked && self.bytes_left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.chunked { SizeHint::new() } else { SizeHint::with_exact(self.bytes_left()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_exactly_the_bytes_asked_for_and_each_is_its_place_modulo_251() {
        for bytes in [0u64, 1, 250, 251, 252, CHUNK as u64, CHUNK as u64 + 1, 3 * CHUNK as u64 + 17] {
            let mut answer = Answer::pattern(bytes, false);
            let mut got = Vec::new();
            while let Some(chunk) = answer.next() {
                assert!(!chunk.is_empty());
                got.extend_from_slice(&chunk);
            }
            assert_eq!(got.len() as u64, bytes);
            assert!(got.iter().enumerate().all(|(i, byte)| usize::from(*byte) == i % PERIOD), "{bytes}");
        }
    }
}
