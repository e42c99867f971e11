//! gRPC through the whole data plane: refusals, deadlines, retries and streams.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use http::{Method, Response};
use ir::{Action, RetryOn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Answer, Site, ask, dial, get, read_to_end};
use super::upstream::{HTTP1, HTTP2, answer_with, forwarding, read_body, site, speak_h2, start};

fn call(site: &Site, host: &str, fields: &[(&str, &str)]) -> Answer {
    let fields = [&[("content-type", "application/grpc+proto")], fields].concat();
    ask(&mut dial(site.http), "POST", host, "/shop.Cart/Add", &fields).unwrap()
}

#[test]
fn what_the_gateway_refuses_is_told_in_grpcs_own_words() {
    let mut denied = forwarding("denied.example", HTTP2);
    denied.ip_access.deny.push("127.0.0.0/8".parse().unwrap());
    let mut fixed = super::support::route("fixed", &["fixed.example"]);
    fixed.action =
        Action::Respond(ir::DirectResponse { status: 503, content_type: None, body: b"x".to_vec() });
    let mut https = forwarding("https.example", HTTP2);
    https.tls = Some(ir::RouteTls { redirect_status: Some(308), ..Default::default() });
    let site = site(&[denied, fixed, https], &[]);
    for (host, want) in [
        ("unknown.example", "12"),
        ("denied.example", "7"),
        ("fixed.example", "14"),
        ("https.example", "2"),
        ("last.example", "14"),
    ] {
        let answer = call(&site, host, &[]);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{host}: {answer:?}");
        assert_eq!(answer.header("grpc-status"), Some(want), "{host}");
        assert_eq!(answer.header("content-type"), Some("application/grpc"), "{host}");
        assert!(answer.header("grpc-message").is_some_and(|text| !text.is_empty()), "{host}");
        assert!(answer.header("x-baribhara-decision").is_some(), "{host}");
    }
    let web = ask(
        &mut dial(site.http),
        "POST",
        "unknown.example",
        "/",
        &[("content-type", "application/grpc-web")],
    );
    assert_eq!(web.unwrap().status, 404);
}

#[test]
fn the_clients_deadline_ends_a_call_that_nobody_answers() {
    let port = start(None, |accepted| {
        speak_h2(accepted, |_, asked| async move {
            std::future::pending::<()>().await;
            drop(asked);
        })
    });
    let site = site(&[forwarding("a.example", HTTP2)], &[("a.example", port)]);
    let answer = call(&site, "a.example", &[("grpc-timeout", "50m")]);
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("4")), "{answer:?}");
    // The upstream was only silent: no deadline.
    let mut route = forwarding("a.example", HTTP2);
    route.timeouts.idle = Some(Duration::from_millis(50));
    let site = super::upstream::site(&[route], &[("a.example", port)]);
    let answer = call(&site, "a.example", &[]);
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("14")), "{answer:?}");
}

#[test]
fn a_deadline_that_the_client_chose_says_nothing_of_the_backend() {
    let (arrived, arrivals) = mpsc::channel();
    let upstream = || {
        let arrived = arrived.clone();
        start(None, move |accepted| {
            let arrived = arrived.clone();
            speak_h2(accepted, move |number, asked| {
                let deadline = asked.0.headers().get("grpc-timeout").cloned();
                arrived.send(deadline.clone()).unwrap();
                async move {
                    if deadline.is_some() {
                        std::future::pending::<()>().await;
                    }
                    answer_with(number, asked, "");
                }
            })
        })
    };
    let mut route = forwarding("a.example", HTTP2);
    let Action::Forward { passive_health, circuit_breaker, .. } = &mut route.action else { unreachable!() };
    *passive_health = Some(ir::PassiveHealth {
        consecutive_5xx: 1,
        consecutive_connect_failures: 1,
        max_ejected_percent: 100,
        ..ir::PassiveHealth::default()
    });
    let open_for = Duration::from_secs(60);
    circuit_breaker.failures = Some(ir::BreakerFailures { consecutive: 1, rate: None, open_for, probes: 1 });
    let site = site(&[route], &[("a.example", upstream()), ("a.example", upstream())]);
    for deadline in [None, None, Some("1n"), Some("1n"), Some("60m"), Some("60m"), None, None] {
        let fields = deadline.map(|deadline| ("grpc-timeout", deadline));
        let answer = call(&site, "a.example", fields.as_slice());
        assert_eq!(answer.header("grpc-status"), deadline.map(|_| "4"), "{deadline:?}: {answer:?}");
    }
    assert_eq!(site.metric("baribhara_endpoint_ejections_total{backend=\"shop/a.example:80\"}"), 0.0);
    let arrived: Vec<_> = arrivals.try_iter().flatten().collect();
    assert_eq!(arrived, ["60m", "60m"], "nothing is sent when its time is over");
}

/// The first call is answered UNAVAILABLE, later ones are not.
fn unavailable_once() -> u16 {
    let calls = Arc::new(AtomicUsize::new(0));
    start(None, move |accepted| {
        let calls = Arc::clone(&calls);
        speak_h2(accepted, move |number, (mut request, mut respond)| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                read_body(request.body_mut()).await;
                if call > 0 {
                    return answer_with(number, (request, respond), "");
                }
                let response = Response::builder()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", "14")
                    .body(())
                    .unwrap();
                respond.send_response(response, true).unwrap();
            }
        })
    })
}

#[test]
fn unavailable_is_tried_again_where_the_rule_repeats_503_and_the_method() {
    let on = vec![RetryOn::Status { first: 503, last: 503 }];
    for (name, methods, on, want) in [
        ("both", vec![Method::POST], on.clone(), None),
        ("not the method", vec![Method::GET], on, Some("14")),
        ("not the status", vec![Method::POST], vec![RetryOn::Reset], Some("14")),
    ] {
        let port = unavailable_once();
        let mut route = forwarding("a.example", HTTP2);
        let Action::Forward { retry, .. } = &mut route.action else { unreachable!() };
        (retry.methods, retry.on) = (methods, on);
        let site = site(&[route], &[("a.example", port)]);
        let answer = call(&site, "a.example", &[]);
        assert_eq!((answer.status, answer.header("grpc-status")), (200, want), "{name}: {answer:?}");
    }
}

#[test]
fn passive_health_counts_unavailable_as_a_failure() {
    // The last endpoint is never taken out.
    let upstreams = [("a.example", unavailable_once()), ("a.example", unavailable_once())];
    let mut route = forwarding("a.example", HTTP2);
    let Action::Forward { passive_health, .. } = &mut route.action else { unreachable!() };
    *passive_health = Some(ir::PassiveHealth {
        consecutive_5xx: 1,
        max_ejected_percent: 100,
        ..ir::PassiveHealth::default()
    });
    let site = site(&[route], &upstreams);
    assert_eq!(call(&site, "a.example", &[]).header("grpc-status"), Some("14"));
    assert_eq!(site.metric("baribhara_endpoint_ejections_total{backend=\"shop/a.example:80\"}"), 1.0);
}

#[test]
fn streams_may_be_silent_for_longer_than_other_answers() {
    let (release, released) = tokio::sync::watch::channel(false);
    let until_released = released.clone();
    let h2 = start(None, move |accepted| {
        let released = until_released.clone();
        speak_h2(accepted, move |_, (_, mut respond)| {
            let mut released = released.clone();
            async move {
                let response =
                    Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                let mut send = respond.send_response(response, false).unwrap();
                send.send_data("one ".into(), false).unwrap();
                released.wait_for(|released| *released).await.unwrap();
                send.send_data("two".into(), true).unwrap();
            }
        })
    });
    let h1 = start(None, move |mut accepted| {
        let mut released = released.clone();
        async move {
            assert_ne!(accepted.io.read(&mut [0u8; 4096]).await.unwrap(), 0);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream;charset=utf-8\r\nconnection: close\r\n\r\none ";
            accepted.io.write_all(head.as_bytes()).await.unwrap();
            released.wait_for(|released| *released).await.unwrap();
            accepted.io.write_all(b"two").await.unwrap();
        }
    });
    let silent = start(None, |accepted| async move {
        std::future::pending::<()>().await;
        drop(accepted);
    });
    let upstreams = [("h2.example", h2), ("h1.example", h1), ("silent.example", silent)];
    let routes = [("h2.example", HTTP2), ("h1.example", HTTP1), ("silent.example", HTTP1)];
    let routes = routes.map(|(host, protocol)| {
        let mut route = forwarding(host, protocol);
        route.timeouts.idle = Some(Duration::from_millis(100));
        route
    });
    let site = site(&routes, &upstreams);
    let clients =
        [("h2.example", "application/grpc"), ("h1.example", "text/plain")].map(|(host, content_type)| {
            let mut client = dial(site.http);
            let request = format!(
                "GET / HTTP/1.1\r\nhost: {host}\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n"
            );
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"one \r\n") {
                let mut part = [0u8; 4096];
                let count = client.read(&mut part).unwrap();
                assert_ne!(count, 0, "{host}");
                answer.extend_from_slice(&part[..count]);
            }
            client
        });
    // Begun after the streams fell silent, and given up by the same timeout.
    assert_eq!(get(&mut dial(site.http), "silent.example", "/").status, 504);
    release.send_replace(true);
    for client in &clients {
        assert_eq!(read_to_end(client), b"3\r\ntwo\r\n0\r\n\r\n");
    }
}
