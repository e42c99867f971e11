//! One direction over memory pipes, polled by hand.

use std::task::Waker;

use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;

const CLOSE: [u8; 4] = [0x88, 2, 3, 0xe9];

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn write(pipe: &mut DuplexStream, bytes: &[u8]) {
    assert!(matches!(pin!(pipe.write_all(bytes)).poll(&mut context()), Poll::Ready(Ok(()))));
}

/// What there is now; `None` in the place of an end that has not come.
fn read(pipe: &mut DuplexStream) -> (Vec<u8>, Option<()>) {
    let mut bytes = Vec::new();
    loop {
        match pin!(pipe.read_buf(&mut bytes)).poll(&mut context()) {
            Poll::Ready(read) => {
                if read.unwrap() == 0 {
                    return (bytes, Some(()));
                }
            }
            Poll::Pending => return (bytes, None),
        }
    }
}

/// A direction between two pipes.
struct Way {
    direction: Direction,
    sender: DuplexStream,
    from: DuplexStream,
    to: DuplexStream,
    receiver: DuplexStream,
}

impl Way {
    fn new(ahead: &[u8], is_websocket: bool, to_bytes: usize) -> Self {
        let (sender, from) = duplex(1 << 20);
        let (to, receiver) = duplex(to_bytes);
        let direction = Direction::new(BytesMut::from(ahead), is_websocket);
        Self { direction, sender, from, to, receiver }
    }

    fn poll(&mut self) -> Poll<io::Result<()>> {
        self.direction.poll(&mut context(), &mut self.from, &mut self.to)
    }
}

#[test]
fn what_was_read_ahead_goes_first_and_the_end_last() {
    let mut way = Way::new(b"ahead, ", false, 64);
    assert!(way.poll().is_pending());
    write(&mut way.sender, b"behind");
    assert!(way.poll().is_pending());
    assert_eq!(read(&mut way.receiver), (b"ahead, behind".to_vec(), None));
    way.sender = duplex(1).0;
    assert!(matches!(way.poll(), Poll::Ready(Ok(()))));
    assert_eq!(read(&mut way.receiver), (Vec::new(), Some(())));
    assert_eq!(way.direction.bytes(), 13);
    assert!(matches!(way.poll(), Poll::Ready(Ok(()))), "and it stays so");
}

#[test]
fn an_idle_direction_holds_no_buffer_and_a_stuck_one_a_small_one() {
    let mut way = Way::new(b"", false, 100);
    assert!(way.poll().is_pending());
    assert_eq!(way.direction.buffer.capacity(), 0);
    write(&mut way.sender, &[7; 1 << 20]);
    assert!(way.poll().is_pending());
    let buffered = way.direction.buffer.capacity();
    assert!((1..=BUFFER_BYTES).contains(&buffered), "{buffered}");
    let mut received = 0;
    while received < 1 << 20 {
        received += read(&mut way.receiver).0.len();
        assert!(way.poll().is_pending());
        assert!(way.direction.buffer.capacity() <= BUFFER_BYTES);
    }
    assert!(way.poll().is_pending());
    assert_eq!(way.direction.buffer.capacity(), 0);
}

#[test]
fn much_that_was_read_ahead_is_no_licence_to_hold_much() {
    let mut way = Way::new(&[7; 200_000], false, 100);
    write(&mut way.sender, &[7; 1 << 20]);
    let mut received = 0;
    while received < 200_000 + 100_000 {
        assert!(way.poll().is_pending());
        received += read(&mut way.receiver).0.len();
        let behind_ahead = way.direction.bytes() > 200_000;
        assert!(!behind_ahead || way.direction.buffer.len() <= BUFFER_BYTES);
    }
}

#[test]
fn a_receiver_that_is_gone_is_an_error() {
    let mut way = Way::new(b"", false, 100);
    write(&mut way.sender, b"hello");
    way.receiver = duplex(1).0;
    assert!(matches!(way.poll(), Poll::Ready(Err(_))));
}

/// Frames without masks, and where each ends.
fn frames() -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (Vec::new(), vec![0]);
    for length in [0, 5, 125, 130, 1] {
        bytes.push(0x82);
        match u8::try_from(length) {
            Ok(short) if short < 126 => bytes.push(short),
            _ => {
                bytes.push(126);
                bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + length, 0x88);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

#[test]
fn a_farewell_stands_behind_a_whole_frame_wherever_it_comes() {
    let (bytes, ends) = frames();
    // A narrow receiver: a part of what was read still waits when the farewell is ordered.
    for (cut, narrow) in (0..=bytes.len()).flat_map(|cut| [(cut, 1 << 20), (cut, 7)]) {
        let (before, after) = bytes.split_at(cut);
        let mut way = Way::new(b"", true, narrow);
        write(&mut way.sender, before);
        assert!(way.poll().is_pending());
        let passed = usize::try_from(way.direction.bytes()).unwrap();
        let want = ends.iter().copied().find(|&end| end >= passed).unwrap();
        way.direction.say_farewell(CLOSE.to_vec());
        let mut received = Vec::new();
        write(&mut way.sender, after);
        for _ in 0..bytes.len() {
            assert!(way.poll().is_pending(), "cut at {cut}");
            received.extend(read(&mut way.receiver).0);
        }
        assert_eq!(received.len(), want + CLOSE.len(), "cut at {cut}, narrow {narrow}");
        assert_eq!(received[..want], bytes[..want], "cut at {cut}");
        assert_eq!(received[want..], CLOSE, "cut at {cut}");
        assert!(way.direction.has_ended(), "cut at {cut}");
        // The sender's own Close ends it.
        write(&mut way.sender, &[0x88, 0]);
        assert!(matches!(way.poll(), Poll::Ready(Ok(()))), "cut at {cut}");
        assert_eq!(way.direction.bytes(), u64::try_from(want).unwrap());
    }
}

#[test]
fn nothing_is_said_behind_a_close() {
    let mut way = Way::new(&[0x81, 1, 7, 0x88, 0], true, 100);
    assert!(way.poll().is_pending());
    way.direction.say_farewell(CLOSE.to_vec());
    assert!(matches!(way.poll(), Poll::Ready(Ok(()))));
    assert_eq!(read(&mut way.receiver).0, [0x81, 1, 7, 0x88, 0]);
}

#[test]
fn a_direction_that_has_ended_says_no_farewell() {
    let mut way = Way::new(b"", true, 100);
    way.sender = duplex(1).0;
    assert!(matches!(way.poll(), Poll::Ready(Ok(()))));
    way.direction.say_farewell(CLOSE.to_vec());
    assert!(matches!(way.poll(), Poll::Ready(Ok(()))));
    assert_eq!(read(&mut way.receiver), (Vec::new(), Some(())));
}
