//! Connections of HTTP/1.1 that rest between two requests: nobody but the memory notices.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ir::TlsVersion::V1_2;

use super::support::{Client, Site, dial, get, read_to_end, route, until};
use crate::settings::Settings;
use crate::tls::testing::{Issued, tls};

/// Longer than what counts as one in tests.
const REST: Duration = Duration::from_millis(300);

fn site(settings: Settings) -> Site {
    let one = Issued::of(&["a.example"]).secret("one");
    Site::with(settings, &[route("all", &[])], &tls(&[("a.example", Some(&one), V1_2)], None))
}

/// Nothing comes for so long, not even an end.
fn nothing_comes(io: &mut impl Read) {
    let error = io.read(&mut [0u8; 64]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
}

fn plain(site: &Site) -> TcpStream {
    let tcp = dial(site.http);
    tcp.set_read_timeout(Some(REST)).unwrap();
    tcp
}

fn with_tls(site: &Site) -> Client {
    let client = site.connect("a.example");
    client.sock.set_read_timeout(Some(REST)).unwrap();
    client
}

#[test]
fn a_connection_is_served_on_after_each_rest() {
    let site = site(Settings::default());
    let mut tcp = plain(&site);
    let mut secured = with_tls(&site);
    for _ in 0..3 {
        assert_eq!(get(&mut tcp, "a.example", "/").body, "all");
        assert_eq!(get(&mut secured, "a.example", "/").body, "all");
        nothing_comes(&mut tcp);
        nothing_comes(&mut secured);
    }
    assert_eq!(get(&mut tcp, "a.example", "/").body, "all");
    assert_eq!(get(&mut secured, "a.example", "/").body, "all");
}

#[test]
fn the_rest_counts_as_idle_and_ends_in_order() {
    let site = site(Settings { idle_timeout: 2 * REST, ..Settings::default() });
    let (mut tcp, mut secured) = (plain(&site), with_tls(&site));
    assert_eq!(get(&mut tcp, "a.example", "/").status, 200);
    nothing_comes(&mut tcp);
    assert_eq!(get(&mut secured, "a.example", "/").status, 200);
    nothing_comes(&mut secured);
    until("both are gone", || site.open_connections() == 0.0);
    assert_eq!(tcp.read(&mut [0u8; 64]).unwrap(), 0);
    // With close_notify, or this would be an error.
    assert_eq!(secured.read(&mut [0u8; 64]).unwrap(), 0);
}

#[test]
fn resting_connections_end_at_once_when_the_server_drains() {
    let mut site = site(Settings::default());
    let (mut tcp, mut secured) = (plain(&site), with_tls(&site));
    assert_eq!(get(&mut tcp, "a.example", "/").status, 200);
    assert_eq!(get(&mut secured, "a.example", "/").status, 200);
    nothing_comes(&mut tcp);
    nothing_comes(&mut secured);
    site.stop().join().unwrap();
    assert_eq!(tcp.read(&mut [0u8; 64]).unwrap(), 0);
    assert_eq!(secured.read(&mut [0u8; 64]).unwrap(), 0);
}

#[test]
fn a_client_that_leaves_a_resting_connection_is_answered_with_its_end() {
    let site = site(Settings::default());
    let mut tcp = plain(&site);
    assert_eq!(get(&mut tcp, "a.example", "/").status, 200);
    nothing_comes(&mut tcp);
    tcp.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(tcp.read(&mut [0u8; 64]).unwrap(), 0);
}

#[test]
fn the_beginning_of_a_request_outlives_the_rest_and_has_its_time_from_then_on() {
    let site = site(Settings { read_timeout: 3 * REST, ..Settings::default() });
    let begin = |tcp: &mut TcpStream| {
        // The beginning is read with the request before it.
        tcp.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\nGET / HTTP/1.1\r\nho").unwrap();
        let mut answer = [0u8; 4096];
        let mut got = 0;
        while !answer[..got].ends_with(b"all") {
            got += tcp.read(&mut answer[got..]).unwrap();
        }
        nothing_comes(tcp);
    };
    let (mut whole, mut part) = (plain(&site), plain(&site));
    begin(&mut whole);
    whole.write_all(b"st: a.example\r\nconnection: close\r\n\r\n").unwrap();
    whole.set_read_timeout(None).unwrap();
    assert!(read_to_end(&whole).ends_with(b"all"));
    // As idle it could last for minutes.
    begin(&mut part);
    part.set_read_timeout(Some(Settings::default().idle_timeout / 4)).unwrap();
    assert_eq!(read_to_end(&part), b"");
}
