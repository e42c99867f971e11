//! A whole tunnel over memory pipes.

use std::future::poll_fn;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::timer;

const OPTIONS: TunnelOptions =
    TunnelOptions { is_websocket: true, idle: None, drain: Duration::ZERO, random: 0x0403_0201 };

type Pipes = Tunnel<DuplexStream, DuplexStream>;

/// A tunnel and its two ends.
fn tunnel(options: TunnelOptions) -> (Pipes, DuplexStream, DuplexStream) {
    let (client, near_client) = duplex(1 << 10);
    let (upstream, near_upstream) = duplex(1 << 10);
    let ahead = (BytesMut::from(&b"c"[..]), BytesMut::from(&b"u"[..]));
    (Tunnel::new(near_client, near_upstream, ahead, options), client, upstream)
}

/// To its end, while the timers tick.
async fn run(mut tunnel: Pipes) -> Pipes {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let mut over = std::pin::pin!(poll_fn(|cx| tunnel.poll(cx)));
    loop {
        tokio::select! {
            biased;
            () = &mut over => break,
            _ = ticks.tick() => timer::tick(),
        }
    }
    tunnel
}

async fn next(pipe: &mut DuplexStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    pipe.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn each_direction_ends_on_its_own() {
    for client_first in [true, false] {
        let (tunnel, client, upstream) = tunnel(OPTIONS);
        let ends = async {
            let (mut first, mut last) = if client_first { (client, upstream) } else { (upstream, client) };
            let (ahead_of_first, ahead_of_last) = if client_first { (b"c", b"u") } else { (b"u", b"c") };
            assert_eq!(next(&mut first, 1).await, ahead_of_last);
            first.shutdown().await.unwrap();
            let mut all = Vec::new();
            last.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, ahead_of_first);
            last.write_all(b"and more").await.unwrap();
            assert_eq!(next(&mut first, 8).await, b"and more");
            last.shutdown().await.unwrap();
            assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
        };
        let (tunnel, ()) = tokio::join!(run(tunnel), ends);
        assert_eq!(tunnel.bytes(), if client_first { (1, 9) } else { (9, 1) });
    }
}

#[tokio::test]
async fn an_end_that_is_gone_takes_the_other_with_it() {
    let (tunnel, client, mut upstream) = tunnel(OPTIONS);
    drop(client);
    drop(run(tunnel).await);
    let mut rest = Vec::new();
    upstream.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn nothing_for_too_long_ends_it_and_any_byte_keeps_it() {
    let idle = Duration::from_millis(200);
    let (tunnel, mut client, mut upstream) = tunnel(TunnelOptions { idle: Some(idle), ..OPTIONS });
    let began = Instant::now();
    let ends = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        for turn in 0..12 {
            ticks.tick().await;
            // One direction at a time is enough.
            let (from, to) =
                if turn < 6 { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
            from.write_all(b"x").await.unwrap();
            next(to, 1).await;
        }
        let last = Instant::now();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        upstream.read_to_end(&mut rest).await.unwrap();
        (last, rest)
    };
    let (_, (last, rest)) = tokio::join!(run(tunnel), ends);
    assert!(last.duration_since(began) >= Duration::from_millis(500));
    assert!(last.elapsed() >= idle, "not before its time");
    assert_eq!(rest.len(), 2, "what the two had said ahead pushed the rest back by one each: {rest:?}");
}

#[tokio::test]
async fn a_drain_says_1001_to_both_ends_of_a_websocket() {
    let (mut tunnel, mut client, mut upstream) = tunnel(OPTIONS);
    // The ends are between frames once these are whole: `c` and `u` are first bytes.
    client.write_all(&[0x80, 1, 2, 3, 4]).await.unwrap();
    upstream.write_all(&[0]).await.unwrap();
    tunnel.drain();
    tunnel.drain();
    let ends = async {
        assert_eq!(next(&mut client, 2).await, [b'u', 0]);
        assert_eq!(next(&mut client, 4).await, CLOSE_1001);
        assert_eq!(next(&mut upstream, 6).await, [b'c', 0x80, 1, 2, 3, 4]);
        let close = next(&mut upstream, 8).await;
        assert_eq!(close, [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2]);
        // What they still say is thrown away, up to their own Close.
        client.write_all(&[0x82, 0x80, 1, 2, 3, 4, 0x88, 0x80, 1, 2, 3, 4]).await.unwrap();
        upstream.write_all(&[0x82, 1, 7, 0x88, 0]).await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        upstream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    };
    tokio::join!(run(tunnel), ends);
}

#[tokio::test]
async fn ends_that_do_not_answer_a_goodbye_are_waited_for_a_second() {
    let (mut tunnel, mut client, mut upstream) = tunnel(OPTIONS);
    client.write_all(&[0]).await.unwrap();
    upstream.write_all(&[0]).await.unwrap();
    let began = Instant::now();
    tunnel.drain();
    drop(run(tunnel).await);
    assert!((GOODBYE..GOODBYE * 10).contains(&began.elapsed()));
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [b'u', 0, 0x88, 2, 3, 0xe9]);
}

#[tokio::test]
async fn a_drain_just_ends_what_is_no_websocket() {
    let (mut tunnel, mut client, mut upstream) = tunnel(TunnelOptions { is_websocket: false, ..OPTIONS });
    tunnel.drain();
    drop(run(tunnel).await);
    let (mut to_client, mut to_upstream) = (Vec::new(), Vec::new());
    client.read_to_end(&mut to_client).await.unwrap();
    upstream.read_to_end(&mut to_upstream).await.unwrap();
    assert_eq!((&*to_client, &*to_upstream), (&b"u"[..], &b"c"[..]));
}

#[test]
fn the_moment_lies_in_the_second_half_of_the_drain_and_leaves_time_for_a_goodbye() {
    for (drain_ms, first_ms, last_ms) in [
        (30_000, 15_000, 27_000),
        (10_000, 5_000, 8_750),
        (5_000, 2_500, 3_750),
        (1_000, 500, 900),
        (0, 0, 0),
    ] {
        let drain = Duration::from_millis(drain_ms);
        let at = |random| u64::try_from(moment(drain, random).as_millis()).unwrap();
        assert_eq!((at(0), at(u64::MAX)), (first_ms, last_ms), "{drain_ms}");
        let middle = at(1 << 63);
        assert!((first_ms..=last_ms).contains(&middle), "{drain_ms}: {middle}");
    }
}
