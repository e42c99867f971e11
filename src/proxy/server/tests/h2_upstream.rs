//! HTTP/2 towards upstreams, without TLS: streams, their ends, and what the gateway does when they fail.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Response};
use ir::Action;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{ask, dial, get, read_to_end, until};
use super::upstream::{HTTP2, answer_with, forwarding, read_body, site, speak_h2, start};

#[test]
fn a_request_and_its_answer_pass_with_their_trailers() {
    let port = start(None, |accepted| {
        speak_h2(accepted, |_, (mut request, mut respond)| async move {
            let body = read_body(request.body_mut()).await;
            let trailers = request.body_mut().trailers().await.unwrap();
            let text = format!(
                "{} {} {:?} {:?} {:?}",
                request.method(),
                request.uri(),
                request.headers(),
                String::from_utf8(body).unwrap(),
                trailers
            );
            let response =
                Response::builder().header("x-own", "1").header("trailer", "x-sum").body(()).unwrap();
            let mut send = respond.send_response(response, false).unwrap();
            send.send_data(text.into(), false).unwrap();
            let trailers = [("x-sum", "42"), ("content-type", "text/evil")]
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            send.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        })
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    let mut client = dial(site.http);
    let request = "POST /p?q=1 HTTP/1.1\r\nhost: a.example:81\r\nte: trailers\r\nx-mine: 2\r\n\
                   transfer-encoding: chunked\r\nconnection: close\r\n\r\n\
                   5\r\nhello\r\n0\r\nx-end: yes\r\n\r\n";
    client.write_all(request.as_bytes()).unwrap();
    let answer = String::from_utf8(read_to_end(&client)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for part in [
        "x-own: 1",
        "POST http://a.example:81/p?q=1",
        "\"x-mine\": \"2\"",
        "\"te\": \"trailers\"",
        "\"x-forwarded-for\": \"127.0.0.1\"",
        "\"hello\"",
        "\"x-end\": \"yes\"",
        "x-sum: 42\r\n",
    ] {
        assert!(answer.contains(part), "no {part} in {answer}");
    }
    for part in ["transfer-encoding\"", "connection\"", "text/evil"] {
        assert!(!answer.contains(part), "{part} in {answer}");
    }
}

#[test]
fn requests_at_the_same_time_share_one_connection() {
    let (arrived, arrivals) = mpsc::channel();
    let (release, released) = tokio::sync::watch::channel(false);
    let port = start(None, move |accepted| {
        let (arrived, released) = (arrived.clone(), released.clone());
        speak_h2(accepted, move |number, asked| {
            let (arrived, mut released) = (arrived.clone(), released.clone());
            async move {
                arrived.send(number).unwrap();
                released.wait_for(|released| *released).await.unwrap();
                answer_with(number, asked, "done");
            }
        })
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    let http = site.http;
    let clients: Vec<_> =
        (0..5).map(|_| std::thread::spawn(move || get(&mut dial(http), "a.example", "/").status)).collect();
    for _ in 0..5 {
        assert_eq!(arrivals.recv_timeout(Duration::from_secs(20)).unwrap(), 0);
    }
    release.send_replace(true);
    for client in clients {
        assert_eq!(client.join().unwrap(), 200);
    }
    assert_eq!(site.metric("baribhara_upstream_connections{backend=\"shop/a.example:80\"}"), 1.0);
}

#[test]
fn a_client_is_not_read_faster_than_the_upstream_reads() {
    let port = start(None, |accepted| {
        speak_h2(accepted, |_, asked| async move {
            // Holds the stream and gives no room.
            std::future::pending::<()>().await;
            drop(asked);
        })
    });
    let mut route = forwarding("a.example", HTTP2);
    route.timeouts.idle = Some(Duration::from_secs(2));
    let site = site(&[route], &[("a.example", port)]);
    let mut client = dial(site.http);
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    const BYTES: usize = 64 << 20;
    write!(client, "PUT / HTTP/1.1\r\nhost: a.example\r\ncontent-length: {BYTES}\r\n\r\n").unwrap();
    let part = [0u8; 64 << 10];
    let mut sent = 0;
    while let Ok(bytes) = client.write(&part) {
        sent += bytes;
        assert!(sent < BYTES, "the gateway took all of it");
    }
    // The peer's window, one part in the gateway, and what the kernel's buffers hold on the way to it.
    assert!(sent < 16 << 20, "{sent} bytes were taken");
}

#[test]
fn an_upstream_may_not_send_faster_than_the_client_reads() {
    const BYTES: usize = 64 << 20;
    let (blocked, blocks) = mpsc::channel();
    let port = start(None, move |accepted| {
        let blocked = blocked.clone();
        speak_h2(accepted, move |number, asked| {
            let blocked = blocked.clone();
            async move {
                if asked.0.uri().path() == "/small" {
                    return answer_with(number, asked, "done");
                }
                let (_, mut respond) = asked;
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                let mut sent = 0;
                while sent < BYTES {
                    send.reserve_capacity(64 << 10);
                    let room = std::future::poll_fn(|cx| send.poll_capacity(cx));
                    let Ok(room) = tokio::time::timeout(Duration::from_millis(500), room).await else {
                        break;
                    };
                    let room = room.unwrap().unwrap();
                    send.send_data(vec![b'x'; room].into(), false).unwrap();
                    sent += room;
                }
                blocked.send(sent).unwrap();
                // Dropped, the stream would give its room back.
                std::future::pending::<()>().await;
            }
        })
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    let mut slow: Vec<_> = (0..6).map(|_| dial(site.http)).collect();
    for client in &mut slow {
        client.write_all(b"GET /large HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    }
    for _ in &slow {
        let sent = blocks.recv_timeout(Duration::from_secs(20)).unwrap();
        // The stream's window, and what the kernel's buffers hold on the way to the client.
        assert!(sent < 16 << 20, "{sent} bytes were sent");
    }
    // The connection goes on beside them.
    let answer = get(&mut dial(site.http), "a.example", "/small");
    assert_eq!((answer.status, answer.header("x-connection")), (200, Some("0")));
}

#[test]
fn a_goaway_sends_new_requests_elsewhere_and_lets_running_ones_end() {
    let (arrived, arrivals) = mpsc::channel();
    let (release, released) = tokio::sync::watch::channel(false);
    let port = start(None, move |accepted| {
        let (arrived, released) = (arrived.clone(), released.clone());
        async move {
            let (number, io) = (accepted.number, accepted.io);
            let mut connection = h2::server::handshake(io).await.unwrap();
            while let Some(Ok(asked)) = connection.accept().await {
                let is_long = asked.0.uri().path() == "/long";
                if is_long {
                    connection.graceful_shutdown();
                    arrived.send(number).unwrap();
                }
                let mut released = released.clone();
                tokio::task::spawn_local(async move {
                    if is_long {
                        released.wait_for(|released| *released).await.unwrap();
                    }
                    answer_with(number, asked, "done");
                });
            }
        }
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    let http = site.http;
    let long = std::thread::spawn(move || get(&mut dial(http), "a.example", "/long"));
    assert_eq!(arrivals.recv_timeout(Duration::from_secs(20)).unwrap(), 0);
    // Until the frame has arrived, requests may still go there; none may fail.
    until("another connection is used", || {
        let answer = ask(&mut dial(http), "POST", "a.example", "/", &[]).unwrap();
        assert_eq!(answer.status, 200);
        answer.header("x-connection") == Some("1")
    });
    release.send_replace(true);
    let answer = long.join().unwrap();
    assert_eq!((answer.status, answer.header("x-connection")), (200, Some("0")));
}

#[test]
fn a_refused_stream_is_sent_again_on_another_connection() {
    let port = start(None, |accepted| {
        speak_h2(accepted, |number, (mut request, mut respond)| async move {
            // The body has come by then.
            let body = read_body(request.body_mut()).await;
            if number == 0 && request.uri().path() == "/refused" {
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                answer_with(number, (request, respond), body);
            }
        })
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    let mut client = dial(site.http);
    let first = ask(&mut client, "POST", "a.example", "/", &[]).unwrap();
    assert_eq!((first.status, first.header("x-connection")), (200, Some("0")));
    // No method may be sent twice here, but this one was not processed.
    let request =
        "POST /refused HTTP/1.1\r\nhost: a.example\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody";
    client.write_all(request.as_bytes()).unwrap();
    let second = String::from_utf8(read_to_end(&client)).unwrap();
    assert!(second.starts_with("HTTP/1.1 200 OK\r\n"), "{second}");
    assert!(second.contains("x-connection: 1\r\n") && second.contains("body"), "{second}");
}

#[test]
fn the_trailers_of_a_request_are_sent_again_with_it() {
    let port = start(None, |accepted| {
        speak_h2(accepted, |number, (mut request, mut respond)| async move {
            let body = read_body(request.body_mut()).await;
            let trailers = request.body_mut().trailers().await.unwrap();
            if number == 0 {
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                let text = format!("{} {trailers:?}", String::from_utf8(body).unwrap());
                answer_with(number, (request, respond), text);
            }
        })
    });
    for body in ["5\r\nhello\r\n", ""] {
        let mut route = forwarding("a.example", HTTP2);
        let Action::Forward { retry, .. } = &mut route.action else { unreachable!() };
        retry.backoff_base = Duration::from_millis(1);
        let site = site(&[route], &[("a.example", port)]);
        let mut client = dial(site.http);
        let request = format!(
            "PUT / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
             {body}0\r\nx-end: yes\r\n\r\n"
        );
        client.write_all(request.as_bytes()).unwrap();
        let answer = String::from_utf8(read_to_end(&client)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let text =
            if body.is_empty() { " Some({\"x-end\": \"yes\"})" } else { "hello Some({\"x-end\": \"yes\"})" };
        assert!(answer.contains(text), "{answer}");
    }
}

#[test]
fn what_was_processed_is_not_sent_again_unless_the_method_may_be() {
    let (arrived, arrivals) = mpsc::channel();
    let port = start(None, move |accepted| {
        let arrived = arrived.clone();
        speak_h2(accepted, move |_, (request, mut respond)| {
            arrived.send(request.method().clone()).unwrap();
            async move { respond.send_reset(Reason::INTERNAL_ERROR) }
        })
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    for (method, want) in [("POST", 1), ("GET", 2)] {
        let answer = ask(&mut dial(site.http), method, "a.example", "/", &[]).unwrap();
        assert_eq!(answer.status, 502, "{method}");
        assert!(answer.body.contains("upstream-reset"), "{}", answer.body);
        assert_eq!(arrivals.try_iter().count(), want, "{method}");
    }
}

#[test]
fn a_stream_that_breaks_within_its_body_is_not_taken_for_a_whole_one() {
    let (release, released) = tokio::sync::watch::channel(false);
    let port = start(None, move |accepted| {
        let released = released.clone();
        speak_h2(accepted, move |_, (_, mut respond)| {
            let mut released = released.clone();
            async move {
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                send.send_data(Bytes::from_static(b"a part"), false).unwrap();
                released.wait_for(|released| *released).await.unwrap();
                send.send_reset(Reason::INTERNAL_ERROR);
            }
        })
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    let mut client = dial(site.http);
    client.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"a part\r\n") {
        let mut part = [0u8; 4096];
        let count = client.read(&mut part).unwrap();
        answer.extend_from_slice(&part[..count]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    release.send_replace(true);
    assert_eq!(read_to_end(&client), b"", "the last chunk would be an end");
}

#[test]
fn a_client_that_goes_away_cancels_its_stream_and_the_connection_stays() {
    let (cancelled, cancellations) = mpsc::channel();
    let port = start(None, move |accepted| {
        let cancelled = cancelled.clone();
        speak_h2(accepted, move |number, (request, mut respond)| {
            let cancelled = cancelled.clone();
            async move {
                if request.uri().path() != "/long" {
                    return answer_with(number, (request, respond), "done");
                }
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                send.send_data(Bytes::from_static(b"a part"), false).unwrap();
                let reason = std::future::poll_fn(|cx| send.poll_reset(cx)).await;
                cancelled.send(reason.unwrap()).unwrap();
            }
        })
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    let mut gone = dial(site.http);
    gone.write_all(b"GET /long HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    assert_ne!(gone.read(&mut [0u8; 4096]).unwrap(), 0);
    drop(gone);
    assert_eq!(cancellations.recv_timeout(Duration::from_secs(20)).unwrap(), Reason::CANCEL);
    let answer = get(&mut dial(site.http), "a.example", "/");
    assert_eq!((answer.status, answer.header("x-connection")), (200, Some("0")));
}

#[test]
fn a_connection_makes_room_for_others_where_their_number_is_bounded() {
    let port = start(None, |accepted| async move {
        let (number, io) = (accepted.number, accepted.io);
        let mut builder = h2::server::Builder::new();
        let mut connection = builder.max_concurrent_streams(1).handshake::<_, Bytes>(io).await.unwrap();
        while let Some(Ok(asked)) = connection.accept().await {
            answer_with(number, asked, "done");
        }
    });
    let mut route = forwarding("a.example", HTTP2);
    let Action::Forward { circuit_breaker, .. } = &mut route.action else { unreachable!() };
    circuit_breaker.max_connections = Some(1);
    let site = site(&[route], &[("a.example", port)]);
    let http = site.http;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = dial(http);
                (0..20).map(|_| get(&mut client, "a.example", "/").status).collect::<Vec<_>>()
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), [200; 20]);
    }
}

#[test]
fn more_requests_than_the_upstream_takes_on_one_connection_go_over_several() {
    let (arrived, arrivals) = mpsc::channel();
    let port = start(None, move |accepted| {
        let arrived = arrived.clone();
        async move {
            let (number, io) = (accepted.number, accepted.io);
            let mut builder = h2::server::Builder::new();
            let mut connection = builder.max_concurrent_streams(3).handshake::<_, Bytes>(io).await.unwrap();
            while let Some(Ok(mut asked)) = connection.accept().await {
                arrived.send(number).unwrap();
                tokio::task::spawn_local(async move {
                    read_body(asked.0.body_mut()).await;
                    answer_with(number, asked, "done");
                });
            }
        }
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    let mut clients: Vec<_> = (0..60).map(|_| dial(site.http)).collect();
    // All are under way before one is answered: the bodies are not whole.
    for client in &mut clients {
        client.write_all(b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\n\r\na").unwrap();
    }
    let mut connections = BTreeMap::new();
    for _ in 0..60 {
        *connections.entry(arrivals.recv_timeout(Duration::from_secs(20)).unwrap()).or_insert(0) += 1;
    }
    assert_eq!(connections, (0..20).map(|number| (number, 3)).collect());
    for client in &mut clients {
        client.write_all(b"b").unwrap();
    }
    for mut client in clients {
        let mut answer = [0u8; 15];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
}

#[test]
fn an_answers_head_that_is_too_large_is_answered_502() {
    let port = start(None, |accepted| {
        speak_h2(accepted, |number, asked| async move {
            if asked.0.uri().path() == "/small" {
                return answer_with(number, asked, "done");
            }
            let (_, mut respond) = asked;
            let response = Response::builder().header("x-large", "x".repeat(65 << 10)).body(()).unwrap();
            drop(respond.send_response(response, true));
        })
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    let mut client = dial(site.http);
    let answer = get(&mut client, "a.example", "/");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.body.contains("upstream-invalid"), "{answer:?}");
    assert_eq!(get(&mut client, "a.example", "/small").status, 200);
}

#[test]
fn an_upstream_that_speaks_another_protocol_cannot_be_connected_to() {
    let port = start(None, |accepted| async move {
        let mut io = accepted.io;
        let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        drop(io.write_all(answer).await);
        std::future::pending::<()>().await;
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    let answer = get(&mut dial(site.http), "a.example", "/");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("connect-failed"), "{answer:?}");
}

/// An upstream whose first connection takes everything and answers nothing.
fn silent_at_first() -> u16 {
    start(None, |accepted| async move {
        if accepted.number == 0 {
            // Takes everything and says nothing more than that it has no settings.
            let mut io = accepted.io;
            io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            let mut part = [0u8; 4096];
            while matches!(io.read(&mut part).await, Ok(1..)) {}
            return;
        }
        speak_h2(accepted, |number, asked| async move { answer_with(number, asked, "done") }).await;
    })
}

#[test]
fn a_connection_that_falls_silent_is_left_for_another_one() {
    let mut route = forwarding("a.example", HTTP2);
    route.timeouts.idle = Some(Duration::from_millis(200));
    let site = site(&[route], &[("a.example", silent_at_first())]);
    let mut client = dial(site.http);
    assert_eq!(get(&mut client, "a.example", "/").status, 504);
    let answer = get(&mut client, "a.example", "/");
    assert_eq!((answer.status, answer.header("x-connection")), (200, Some("1")));
}

#[test]
fn a_connection_that_says_nothing_in_the_time_of_its_requests_is_left_too() {
    for (request, lost) in [(Duration::from_millis(1200), 1), (Duration::from_millis(600), 2)] {
        let mut route = forwarding("a.example", HTTP2);
        route.timeouts.request = Some(request);
        let site = site(&[route], &[("a.example", silent_at_first())]);
        let mut client = dial(site.http);
        for _ in 0..lost {
            assert_eq!(get(&mut client, "a.example", "/").status, 504, "{request:?}");
        }
        let answer = get(&mut client, "a.example", "/");
        assert_eq!((answer.status, answer.header("x-connection")), (200, Some("1")), "{request:?}");
    }
}

#[test]
fn a_connection_that_answers_others_meanwhile_is_kept() {
    let (arrived, arrivals) = mpsc::channel();
    let port = start(None, move |accepted| {
        let arrived = arrived.clone();
        speak_h2(accepted, move |number, asked| {
            let is_silent = asked.0.uri().path() == "/silent";
            if is_silent {
                arrived.send(()).unwrap();
            }
            async move {
                if is_silent {
                    std::future::pending::<()>().await;
                }
                answer_with(number, asked, "done");
            }
        })
    });
    let mut route = forwarding("a.example", HTTP2);
    route.timeouts.request = Some(Duration::from_millis(1500));
    let site = site(&[route], &[("a.example", port)]);
    let http = site.http;
    let silent = std::thread::spawn(move || get(&mut dial(http), "a.example", "/silent").status);
    arrivals.recv_timeout(Duration::from_secs(20)).unwrap();
    let mut client = dial(http);
    assert_eq!(get(&mut client, "a.example", "/").header("x-connection"), Some("0"));
    assert_eq!(silent.join().unwrap(), 504);
    assert_eq!(get(&mut client, "a.example", "/").header("x-connection"), Some("0"));
}

#[test]
fn the_time_of_a_try_begins_with_its_connection_and_only_once() {
    let port = start(None, |accepted| async move {
        // Not to wait for something: that opening takes most of the time is what is tested.
        tokio::time::sleep(Duration::from_millis(800)).await;
        speak_h2(accepted, |_, asked| async move {
            std::future::pending::<()>().await;
            drop(asked);
        })
        .await;
    });
    let mut route = forwarding("a.example", HTTP2);
    route.timeouts.per_try = Some(Duration::from_secs(1));
    let Action::Forward { retry, .. } = &mut route.action else { unreachable!() };
    retry.attempts = 0;
    let site = site(&[route], &[("a.example", port)]);
    let began = Instant::now();
    assert_eq!(get(&mut dial(site.http), "a.example", "/").status, 504);
    let took = began.elapsed();
    assert!((Duration::from_millis(990)..Duration::from_millis(1700)).contains(&took), "{took:?}");
}
