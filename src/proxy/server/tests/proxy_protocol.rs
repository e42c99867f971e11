//! Load balancers that say for whom they connect.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use ir::TlsVersion::V1_2;

use super::support::{Site, dial, get, handshake, read_to_end, route, until};
use crate::settings::Settings;
use crate::tls::testing::{Issued, any_client, tls};

/// A gateway for whose clients only 203.0.113.0/24 is allowed.
fn site_of(settings: Settings) -> Site {
    let allow = vec!["203.0.113.0/24".parse().unwrap()];
    let ip_access = ir::IpAccess { allow, ..Default::default() };
    let one = Issued::of(&["a.example"]).secret("one");
    let tls = tls(&[("a.example", Some(&one), V1_2)], None);
    Site::with(settings, &[ir::Route { ip_access, ..route("all", &[]) }], &tls)
}

fn balanced() -> Settings {
    Settings { proxy_protocol: vec!["127.0.0.0/8".parse().unwrap()], ..Settings::default() }
}

fn say(mut tcp: &TcpStream, text: &str) {
    tcp.write_all(text.as_bytes()).unwrap();
}

fn refused(site: &Site) -> f64 {
    site.metric(&format!("baribhara_proxy_protocol_refused_total{{listener=\"{}\"}}", site.http))
}

#[test]
fn the_client_is_whom_the_load_balancer_names() {
    let site = site_of(balanced());
    for (header, want) in [
        ("PROXY TCP4 203.0.113.9 192.0.2.1 51000 443\r\n", 200),
        ("PROXY TCP4 198.51.100.9 192.0.2.1 51000 443\r\n", 403),
        ("PROXY TCP6 ::ffff:203.0.113.9 ::ffff:192.0.2.1 51000 443\r\n", 200),
        ("PROXY UNKNOWN\r\n", 403),
    ] {
        let mut plain = dial(site.http);
        say(&plain, header);
        assert_eq!(get(&mut plain, "a.example", "/").status, want, "{header}");
        assert_eq!(get(&mut plain, "a.example", "/").status, want, "{header}");
        let secure = dial(site.https);
        say(&secure, header);
        let mut secure = handshake(secure, "a.example", &any_client()).unwrap();
        assert_eq!(get(&mut secure, "a.example", "/").status, want, "{header}");
    }
    // In one write with the request, and byte by byte.
    let together = dial(site.http);
    say(
        &together,
        "PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    assert!(read_to_end(&together).starts_with(b"HTTP/1.1 200 OK\r\n"));
    let mut slow = dial(site.http);
    for byte in "PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n".chars() {
        say(&slow, &byte.to_string());
    }
    assert_eq!(get(&mut slow, "a.example", "/").status, 200);
    assert_eq!(refused(&site), 0.0);
}

#[test]
fn who_must_say_it_and_does_not_is_closed_and_nobody_else_may() {
    let settings = Settings { read_timeout: Duration::from_millis(300), ..balanced() };
    let site = site_of(settings);
    for bytes in
        ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "PROXY TCP4 203.0.113.9 192.0.2.1 1\r\n", "PROXY TCP4 203"]
    {
        let tcp = dial(site.http);
        say(&tcp, bytes);
        assert_eq!(read_to_end(&tcp), b"", "{bytes}");
    }
    until("all three are counted", || refused(&site) == 3.0);
    // A check of the port alone is no failure.
    drop(dial(site.http));
    until("it has gone", || {
        site.metric(&format!("baribhara_connections{{listener=\"{}\"}}", site.http)) == 0.0
    });
    assert_eq!(refused(&site), 3.0);

    let others = Settings { proxy_protocol: vec!["192.0.2.0/24".parse().unwrap()], ..Settings::default() };
    let other = site_of(others);
    let tcp = dial(other.http);
    say(&tcp, "PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(read_to_end(&tcp).starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
}
