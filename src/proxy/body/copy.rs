//! A copy of a request's body for a mirror. Who writes never waits: what the reader has not taken is bounded, and a
//! reader that falls further behind gets nothing more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// How far a copy may be behind.
pub(crate) const BEHIND_BYTES_MAX: usize = 1 << 20;
/// The same for all copies of one worker together.
const WORKER_BYTES_MAX: usize = 16 << 20;

thread_local! {
    /// What all copies of this worker hold.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// The copy ends before the body does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutShort;

/// Where the parts go. One that is dropped before the end cuts the copy short.
#[derive(Debug)]
pub(crate) struct CopyWriter {
    queue: Weak<RefCell<Queue>>,
    /// Bytes still to come, where that is known.
    left: Option<u64>,
}

/// Where the parts come from.
#[derive(Debug)]
pub(crate) struct CopyReader(Rc<RefCell<Queue>>);

/// Tells afterwards whether a copy fell behind.
#[derive(Debug)]
pub(crate) struct CopyFate(Rc<RefCell<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    parts: VecDeque<Frame<Bytes>>,
    bytes: usize,
    state: State,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Whole,
    Cut,
    /// Nothing more is taken, as too much waits already.
    Behind,
}

/// A copy of a body with this many bytes, if that is known.
pub(crate) fn copy(length: Option<u64>) -> (CopyWriter, CopyReader, CopyFate) {
    let queue = Rc::new(RefCell::new(Queue::default()));
    let writer = CopyWriter { queue: Rc::downgrade(&queue), left: length };
    (writer, CopyReader(Rc::clone(&queue)), CopyFate(queue))
}

impl CopyWriter {
    /// The next part. False: nothing more need be written.
    pub(super) fn data(&mut self, data: &Bytes) -> bool {
        let Some(queue) = self.queue.upgrade() else { return false };
        let is_open = queue.borrow_mut().push(data);
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.left = self.left.map(|left| left.saturating_sub(length));
        if is_open && self.left == Some(0) {
            queue.borrow_mut().end(State::Whole);
            return false;
        }
        is_open
    }

    pub(super) fn trailers(&self, trailers: &HeaderMap) {
        if let Some(queue) = self.queue.upgrade() {
            let mut queue = queue.borrow_mut();
            if queue.state == State::Open {
                queue.parts.push_back(Frame::trailers(trailers.clone()));
            }
        }
    }

    /// The body has ended as it should.
    pub(super) fn end(self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.borrow_mut().end(State::Whole);
        }
    }
}

impl Drop for CopyWriter {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.borrow_mut().end(State::Cut);
        }
    }
}

impl CopyReader {
    /// The next part; `None` is the end.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let mut queue = self.0.borrow_mut();
        if let Some(part) = queue.parts.pop_front() {
            queue.give_back(part.data_ref().map_or(0, Bytes::len));
            return Poll::Ready(Some(Ok(part)));
        }
        match queue.state {
            State::Open => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Whole => Poll::Ready(None),
            State::Cut | State::Behind => Poll::Ready(Some(Err(CutShort))),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let queue = self.0.borrow();
        queue.state == State::Whole && queue.parts.is_empty()
    }
}

impl Drop for CopyReader {
    fn drop(&mut self) {
        let mut queue = self.0.borrow_mut();
        queue.end(State::Cut);
        queue.clear();
    }
}

impl CopyFate {
    pub(crate) fn fell_behind(&self) -> bool {
        self.0.borrow().state == State::Behind
    }
}

impl Queue {
    /// Whether more may come.
    fn push(&mut self, data: &Bytes) -> bool {
        if self.state != State::Open {
            return false;
        }
        if data.is_empty() {
            return true;
        }
        let (own, all) = (self.bytes + data.len(), HELD.get() + data.len());
        if own > BEHIND_BYTES_MAX || all > WORKER_BYTES_MAX {
            self.end(State::Behind);
            return false;
        }
        self.bytes = own;
        HELD.set(all);
        self.parts.push_back(Frame::data(data.clone()));
        self.wake();
        true
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        HELD.set(HELD.get() - bytes);
    }

    /// No more is written. The first end counts; one that is too early gives back at once what is held.
    fn end(&mut self, state: State) {
        if self.state == State::Open {
            self.state = state;
            if state != State::Whole {
                self.clear();
            }
            self.wake();
        }
    }

    fn clear(&mut self) {
        self.parts.clear();
        self.give_back(self.bytes);
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reader: &mut CopyReader) -> Poll<Option<Result<usize, CutShort>>> {
        let polled = reader.poll_frame(&mut Context::from_waker(Waker::noop()));
        polled.map(|part| part.map(|part| part.map(|part| part.data_ref().map_or(0, Bytes::len))))
    }

    #[test]
    fn a_copy_is_whole_when_its_length_is_there_or_the_body_has_ended() {
        let (mut writer, mut reader, fate) = copy(Some(5));
        assert!(writer.data(&Bytes::from_static(b"abc")));
        assert!(!writer.data(&Bytes::from_static(b"de")));
        drop(writer);
        assert_eq!(read(&mut reader), Poll::Ready(Some(Ok(3))));
        assert_eq!(read(&mut reader), Poll::Ready(Some(Ok(2))));
        assert!(reader.is_end_stream());
        assert_eq!(read(&mut reader), Poll::Ready(None));
        assert!(!fate.fell_behind());
        let (mut writer, mut reader, _) = copy(None);
        assert!(writer.data(&Bytes::from_static(b"abc")));
        assert_eq!(read(&mut reader), Poll::Ready(Some(Ok(3))));
        assert_eq!(read(&mut reader), Poll::Pending);
        writer.end();
        assert_eq!(read(&mut reader), Poll::Ready(None));
        assert_eq!(HELD.get(), 0);
    }

    #[test]
    fn a_copy_of_a_body_that_breaks_off_is_cut_short() {
        let (mut writer, mut reader, fate) = copy(Some(5));
        assert!(writer.data(&Bytes::from_static(b"abc")));
        drop(writer);
        assert_eq!(read(&mut reader), Poll::Ready(Some(Err(CutShort))));
        assert!(!reader.is_end_stream() && !fate.fell_behind());
        assert_eq!(HELD.get(), 0);
    }

    #[test]
    fn what_waits_is_bounded_for_one_and_for_all() {
        let part = Bytes::from(vec![0; 256 << 10]);
        let (mut writer, mut reader, fate) = copy(None);
        for _ in 0..4 {
            assert!(writer.data(&part));
        }
        assert_eq!(read(&mut reader), Poll::Ready(Some(Ok(256 << 10))));
        assert!(writer.data(&part), "what was taken counts no more");
        assert!(!writer.data(&part));
        assert!(fate.fell_behind());
        assert_eq!(read(&mut reader), Poll::Ready(Some(Err(CutShort))));
        assert_eq!(HELD.get(), 0);
        let mut copies: Vec<_> = (0..16).map(|_| copy(None)).collect();
        for (writer, _, _) in &mut copies {
            for _ in 0..4 {
                assert!(writer.data(&part));
            }
        }
        let (mut writer, _reader, fate) = copy(None);
        assert!(!writer.data(&part) && fate.fell_behind());
        drop(copies);
        assert_eq!(HELD.get(), 0);
    }

    #[test]
    fn nothing_is_kept_for_a_reader_that_is_gone() {
        let (mut writer, reader, fate) = copy(None);
        assert!(writer.data(&Bytes::from_static(b"abc")));
        drop(reader);
        assert_eq!(HELD.get(), 0);
        assert!(!writer.data(&Bytes::from_static(b"abc")));
        assert!(!fate.fell_behind());
        drop((writer, fate));
        assert_eq!(HELD.get(), 0);
    }
}
