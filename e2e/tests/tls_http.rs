//! HTTP/1.1 over TLS: bodies, pipelining, what the upstream learns, the end of the process, and curl.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use e2e::certificate::Authority;
use e2e::client::Request;
use e2e::echo::Echo;
use e2e::tls_client::{TlsConnection, ask, config};
use e2e::until::until;
use rustls::ClientConfig;

use crate::site::{HOST, Site, site, site_with};
use crate::tls_site::tls_route;

const BYTES: usize = 10 << 20;

struct Echoing {
    site: Site,
    authority: Authority,
    client: Arc<ClientConfig>,
    _upstream: Echo,
}

/// An echo upstream behind one host with TLS.
fn echoing(more: &str, flags: &[&str]) -> Echoing {
    let authority = Authority::new();
    let upstream = Echo::start("a");
    let yaml =
        authority.issue(&[HOST]).secret("shop") + &tls_route("shop", HOST, "shop", more, upstream.address);
    let client = Arc::new(config(&authority));
    Echoing { site: site_with(&yaml, flags), authority, client, _upstream: upstream }
}

#[test]
fn ten_mebibytes_go_up_and_down_bit_exact() {
    let Echoing { site, client, _upstream, .. } = echoing("", &[]);
    let mut connection = TlsConnection::open(site.gateway.https, HOST, &client).unwrap();
    // Not periodic in any power of two, so that lost or swapped records show.
    let body: Vec<u8> = (0..BYTES as u64).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let want = digest::digest(&digest::SHA256, &body);
    let want: String = want.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let up = connection.ask(&Request::new("POST", HOST, "/").body(body)).unwrap().json();
    assert_eq!((&up["bodyBytes"], &up["bodySha256"]), (&BYTES.into(), &want.into()));
    for query in ["bytes=10Mi", "bytes=10Mi&chunked"] {
        let down = connection.ask(&Request::get(HOST, &format!("/?{query}"))).unwrap();
        assert_eq!((down.status, down.body.len()), (200, BYTES), "{query}");
        let wrong = down.body.iter().enumerate().find(|(i, byte)| usize::from(**byte) != i % 251);
        assert_eq!(wrong, None, "{query}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let Echoing { site, client, _upstream, .. } = echoing("", &[]);
    let mut bytes = Vec::new();
    for number in 0..5 {
        // The first ones take longest.
        let path = format!("/{number}?delay={}ms", 20 - 4 * number);
        bytes.extend(Request::new("POST", HOST, &path).body(number.to_string()).bytes());
    }
    let mut connection = TlsConnection::open(site.gateway.https, HOST, &client).unwrap();
    connection.send(&bytes).unwrap();
    for number in 0..5 {
        assert_eq!(connection.response("POST").unwrap().json()["body"], number.to_string());
    }
}

#[test]
fn a_closed_connection_ends_with_a_close_notify() {
    let Echoing { site, client, _upstream, .. } = echoing("", &["--idle-timeout", "1s"]);
    let mut asked = TlsConnection::open(site.gateway.https, HOST, &client).unwrap();
    let response = asked.ask(&Request::get(HOST, "/").header("Connection", "close")).unwrap();
    assert!(response.closes(), "{response:?}");
    assert!(asked.rest().expect("a close_notify").is_empty());
    let mut idle = TlsConnection::open(site.gateway.https, HOST, &client).unwrap();
    assert_eq!(idle.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    assert!(idle.rest().expect("a close_notify").is_empty());
    let mut wrong = TlsConnection::open(site.gateway.https, HOST, &client).unwrap();
    wrong.send(b"no request\r\n\r\n").unwrap();
    assert_eq!(wrong.response("GET").unwrap().status, 400);
    assert!(wrong.rest().expect("a close_notify").is_empty());
}

#[test]
fn the_upstream_learns_that_the_client_came_over_tls() {
    let Echoing { site, client, _upstream, .. } = echoing("", &[]);
    let forged = Request::get(HOST, "/").header("X-Forwarded-Proto", "http").header("X-Forwarded-Port", "80");
    let over_tls = ask(site.gateway.https, &client, &forged).unwrap();
    assert_eq!(over_tls.echoed("x-forwarded-proto"), ["https"]);
    let forged = Request::get(HOST, "/").header("X-Forwarded-Proto", "https");
    assert_eq!(site.gateway.ask(&forged).echoed("x-forwarded-proto"), ["http"]);
}

#[test]
fn strict_transport_security_is_sent_over_tls_only() {
    // RFC 6797 §7.2: not over a connection without TLS.
    let cases: [(&str, Option<&[&str]>); 4] = [
        ("", None),
        (", hsts: {}", Some(&["max-age=31536000", "includesubdomains"])),
        (", hsts: {maxAge: 1h, includeSubDomains: false}", Some(&["max-age=3600"])),
        (
            ", hsts: {maxAge: 8760h, preload: true}",
            Some(&["max-age=31536000", "includesubdomains", "preload"]),
        ),
    ];
    for (more, want) in cases {
        let Echoing { site, client, _upstream, .. } = echoing(more, &[]);
        let over_tls = ask(site.gateway.https, &client, &Request::get(HOST, "/")).unwrap();
        let values = over_tls.all("strict-transport-security");
        let directives: Vec<Vec<String>> = values
            .iter()
            .map(|value| value.split(';').map(|part| part.trim().to_ascii_lowercase()).collect())
            .collect();
        let want: Vec<&[&str]> = want.into_iter().collect();
        assert_eq!(directives, want, "{more}");
        let plain = site.gateway.get(HOST, "/");
        assert_eq!((plain.status, plain.header("strict-transport-security")), (200, None), "{more}");
    }
}

#[test]
fn strict_transport_security_stands_in_the_gateways_own_answers_too() {
    let authority = Authority::new();
    let spec = format!(
        "hostnames: [{HOST}]
tls: {{secretRef: {{name: shop}}, hsts: {{maxAge: 1h}}}}
rules:
- {{name: own, filters: [{{type: DirectResponse, directResponse: {{statusCode: 503, body: closed}}}}]}}
- {{name: denied, matches: [{{path: {{type: PathPrefix, value: /denied}}}}], ipAccess: {{deny: [127.0.0.1]}},
   filters: [{{type: DirectResponse, directResponse: {{statusCode: 200, body: open}}}}]}}"
    );
    let site = site(&(authority.issue(&[HOST]).secret("shop") + &e2e::folder::route("shop", &spec)));
    let client = Arc::new(config(&authority));
    for (path, status) in [("/", 503), ("/denied", 403)] {
        let response = ask(site.gateway.https, &client, &Request::get(HOST, path)).unwrap();
        assert_eq!(response.status, status, "{path}");
        let value = response.header("strict-transport-security");
        assert_eq!(value, Some("max-age=3600; includeSubDomains"), "{path}");
    }
}

/// Asks until it is told to stop; opens a connection anew where an answer says that its own ends. Counts
/// connections.
fn keep_asking(
    address: std::net::SocketAddr,
    client: &Arc<ClientConfig>,
    stop: &AtomicBool,
    done: &AtomicU64,
) -> Result<u64, String> {
    let mut connections = 0;
    while !stop.load(Ordering::SeqCst) {
        let mut connection =
            TlsConnection::open(address, HOST, client).map_err(|error| format!("handshake: {error}"))?;
        connections += 1;
        while !stop.load(Ordering::SeqCst) {
            let request = Request::new("POST", HOST, "/").body(vec![b'x'; 3000]);
            let response = connection.ask(&request).map_err(|error| format!("request: {error}"))?;
            if response.status != 200 {
                return Err(format!("{response:?}"));
            }
            done.fetch_add(1, Ordering::SeqCst);
            if response.closes() {
                let rest = connection.rest().map_err(|error| format!("close: {error}"))?;
                if !rest.is_empty() {
                    return Err(format!("{} bytes behind the last answer", rest.len()));
                }
                break;
            }
        }
    }
    Ok(connections)
}

#[test]
fn a_sigterm_under_load_loses_no_request_and_ends_idle_connections_with_a_close_notify() {
    let flags = ["--lame-duck", "2s", "--drain", "10s", "--access-log", "off"];
    let Echoing { mut site, client, _upstream, .. } = echoing("", &flags);
    let https = site.gateway.https;
    let mut idle = TlsConnection::open(https, HOST, &client).unwrap();
    assert_eq!(idle.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (client, stop, done) = (Arc::clone(&client), Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || keep_asking(https, &client, &stop, &done))
        })
        .collect();
    let count = || done.load(Ordering::SeqCst);
    until("the load runs", || (count() > 100).then_some(()));
    site.gateway.process.signal("TERM");
    let signalled = Instant::now();
    // One slow request begins in the lame-duck time and ends after it.
    let slow = {
        let client = Arc::clone(&client);
        thread::spawn(move || ask(https, &client, &Request::get(HOST, "/slow?delay=3s")))
    };
    until("readiness is off", || {
        let status = site.gateway.ask_admin("/readyz").map(|response| response.status);
        matches!(status, Ok(503)).then_some(())
    });
    let seen = count();
    until("the load goes on while draining", || (count() > seen + 100).then_some(()));
    stop.store(true, Ordering::SeqCst);
    let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(signalled.elapsed() < Duration::from_secs(2), "too slow a machine for this test");
    let connections: Result<Vec<u64>, String> = ended.into_iter().collect();
    let connections: u64 = connections.expect("no request fails").iter().sum();
    assert!(connections > 4, "no answer said `Connection: close`");
    assert!(idle.rest().expect("a close_notify").is_empty());
    assert_eq!(slow.join().unwrap().expect("the slow request ends well").status, 200);
    let (status, _) = site.gateway.process.wait(Duration::from_secs(15));
    assert_eq!(status.code(), Some(0), "{:#?}", site.gateway.process.stderr());
}

#[test]
fn curl_takes_the_certificate_and_gets_an_answer() {
    let Echoing { site, authority, _upstream, .. } = echoing("", &[]);
    let pem = e2e::folder::Folder::new();
    pem.write("authority.pem", &authority.pem);
    let port = site.gateway.https.port();
    for version in ["--tls-max 1.2", "--tlsv1.3"] {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20"])
            .args(version.split(' '))
            .args(["--write-out", "\n%{http_code} %{http_version} %{ssl_verify_result}"])
            .arg("--cacert")
            .arg(pem.path().join("authority.pem"))
            .args(["--resolve", &format!("{HOST}:{port}:127.0.0.1")])
            .args(["--data", "from curl", &format!("https://{HOST}:{port}/a?b=c")])
            .output()
            .expect("curl (.ci/tools curl)");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, outcome) = text.rsplit_once('\n').unwrap_or_default();
        assert_eq!(outcome, "200 2 0", "{version}: {output:?}");
        let echo: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&echo["path"], &echo["body"]), (&"/a?b=c".into(), &"from curl".into()));
    }
}
