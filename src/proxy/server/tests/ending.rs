//! How connections with TLS end: by drain, by deadline, in order.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use ir::TlsVersion::V1_2;
use ir::{Action, DirectResponse};

use super::support::{Site, ask, dial, get, handshake, route, until};
use crate::settings::Settings;
use crate::tls::testing::{Issued, any_client, tls};

#[test]
fn a_connection_that_waits_for_its_handshake_is_served_while_draining() {
    let one = Issued::of(&["a.example"]).secret("one");
    let mut site = Site::start(&[route("all", &[])], &tls(&[("a.example", Some(&one), V1_2)], None));
    let mut idle = site.connect("a.example");
    assert_eq!(get(&mut idle, "a.example", "/").status, 200);
    let waiting = dial(site.https);
    until("it has come", || site.open_connections() == 2.0);
    let (http, https) = (site.http, site.https);
    let stopped = site.stop();
    until("the listeners are closed", || [http, https].iter().all(|&at| TcpStream::connect(at).is_err()));
    // An idle one ends at once, and in order: with close_notify, or this read would fail.
    assert_eq!(idle.read(&mut [0u8; 64]).unwrap(), 0);
    assert!(!stopped.is_finished());
    let mut client = handshake(waiting, "a.example", &any_client()).unwrap();
    let answer = get(&mut client, "a.example", "/");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(client.read(&mut [0u8; 64]).unwrap(), 0);
    stopped.join().unwrap();
}

#[test]
fn what_waits_in_the_queue_is_answered_before_the_end() {
    let mut site = Site::unconfigured(Settings::default());
    let waiting = dial(site.https);
    // Nothing is accepted before there is something to serve.
    assert_eq!(site.open_connections(), 0.0);
    let stopped = site.stop();
    let refused = handshake(waiting, "a.example", &any_client()).unwrap_err();
    assert_eq!(refused, rustls::Error::AlertReceived(rustls::AlertDescription::UnrecognisedName));
    stopped.join().unwrap();
}

#[test]
fn a_client_that_leaves_without_a_word_is_still_told_of_the_end() {
    let one = Issued::of(&["a.example"]).secret("one");
    let site = Site::start(&[route("all", &[])], &tls(&[("a.example", Some(&one), V1_2)], None));
    let mut client = site.connect("a.example");
    assert_eq!(get(&mut client, "a.example", "/").status, 200);
    client.sock.shutdown(Shutdown::Write).unwrap();
    // By close_notify: without it this would be an error.
    assert_eq!(client.read(&mut [0u8; 64]).unwrap(), 0);
}

#[test]
fn a_client_that_takes_no_answer_is_cut_off() {
    let one = Issued::of(&["a.example"]).secret("one");
    let body = vec![b'x'; 32 << 20];
    let action = Action::Respond(DirectResponse { status: 200, content_type: None, body });
    let large = ir::Route { action, ..route("large", &[]) };
    let settings = Settings { write_timeout: Duration::from_millis(300), ..Settings::default() };
    let site = Site::with(settings, &[large], &tls(&[("a.example", Some(&one), V1_2)], None));
    // One that reads gets it all.
    let answer = get(&mut site.connect("a.example"), "a.example", "/");
    assert_eq!(answer.body.len(), 32 << 20);
    until("it is gone", || site.open_connections() == 0.0);
    let mut stuck = site.connect("a.example");
    std::io::Write::write_all(&mut stuck, b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    until("its request has come", || site.metric("http_requests_in_flight") == 1.0);
    until("it is cut off", || site.open_connections() == 0.0);
    let mut rest = Vec::new();
    let got = stuck.read_to_end(&mut rest);
    assert!(got.is_err(), "an end like any other, after {} bytes", rest.len());
    assert!(rest.len() < 32 << 20);
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let one = Issued::of(&["a.example"]).secret("one");
    let small = ir::Route { request_body_bytes_max: Some(10), ..route("small", &[]) };
    let site = Site::start(&[small], &tls(&[("a.example", Some(&one), V1_2)], None));
    let mut client = site.connect("a.example");
    let length = [("content-length", "100000000")];
    let answer = ask(&mut client, "POST", "a.example", "/", &length).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert_eq!(client.read(&mut [0u8; 64]).unwrap(), 0);
}
