//! Mirrors: the copy is the request, and whatever becomes of it reaches no client.

use std::io::Write as _;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use e2e::backend::{Backend, Reply};
use e2e::client::{Connection, Request};
use e2e::echo::Echo;
use e2e::folder::{route, service};
use e2e::h2_client::{H2Connection, H2Request};
use e2e::until::until;

use crate::site::{HOST, Site, site};

const SENT: &str = "baribhara_mirrored_requests_total{endpoint=\"shop/shop/all\",result=\"sent\"}";
const FAILED: &str = "baribhara_mirrored_requests_total{endpoint=\"shop/shop/all\",result=\"failed\"}";
const DROPPED: &str = "baribhara_mirrored_requests_total{endpoint=\"shop/shop/all\",result=\"dropped\"}";

fn mirrored(web: SocketAddr, shadow: SocketAddr, more: &str) -> Site {
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  filters:\n  \
         - {{type: RequestMirror, requestMirror: {{backendRef: {{name: shadow, port: 80}}{more}}}}}\n  \
         - {{type: URLRewrite, urlRewrite: {{hostname: web.internal, path: {{type: ReplacePrefixMatch, replacePrefixMatch: /v2}}}}}}\n  \
         - {{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: X-Set, value: by-rule}}]}}}}\n"
    );
    site(&(service("web", &[web]) + &service("shadow", &[shadow]) + &route("shop", &spec)))
}

fn counted(site: &Site, series: &str, want: f64) {
    until(&format!("{series} is {want}"), || (site.gateway.metric(series) == want).then_some(()));
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_copy_is_the_request_as_the_backend_gets_it_with_the_clients_host() {
    let (web, shadow) = (Backend::named("web"), Backend::start(|_| Reply::status(500, "shadow")));
    let site = mirrored(web.address, shadow.address, "");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for n in 0..3 {
        let request = Request::new("POST", HOST, &format!("/p?n={n}"))
            .header("X-Mine", "1")
            .header("X-Request-ID", "abc")
            .body("the body");
        let response = connection.ask(&request).unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "web"));
        counted(&site, SENT, f64::from(n + 1));
    }
    assert_eq!(shadow.connections(), 1, "its connection is kept");
    let (first, copy) = (web.arrived().remove(2), shadow.arrived().remove(2));
    assert_eq!(copy.body, b"the body");
    assert_eq!(copy.head.lines().next(), Some("POST /v2/p?n=2 HTTP/1.1"));
    assert_eq!(copy.all("host"), [HOST]);
    let rest = |head: &str| -> Vec<String> {
        let mut lines: Vec<_> = head
            .lines()
            .filter(|line| !line.to_ascii_lowercase().starts_with("host:"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(rest(&copy.head), rest(&first.head));
    assert_eq!(copy.all("x-set"), ["by-rule"]);
}

#[test]
fn a_mirror_that_is_silent_slow_or_dead_delays_and_fails_nobody() {
    let web = Backend::named("web");
    let silent = Backend::start(|_| Reply::Silence);
    let dead = Backend::named("dead");
    let address = dead.address;
    drop(dead);
    for (name, shadow) in [("silent", silent.address), ("dead", address)] {
        let site = mirrored(web.address, shadow, "");
        let mut connection = Connection::open(site.gateway.http).unwrap();
        let began = Instant::now();
        for _ in 0..300 {
            let response = connection.ask(&Request::get(HOST, "/")).unwrap();
            assert_eq!(response.status, 200, "{name}");
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{name}: {:?}", began.elapsed());
        if name == "dead" {
            counted(&site, FAILED, 300.0);
        } else {
            // As many as may be are under way, and no more are begun.
            counted(&site, DROPPED, 300.0 - 256.0);
        }
    }
}

/// Sends 20 MiB three times, with a length, in chunks and over HTTP/2, and sees them whole at the backend.
fn send_large_bodies(mirror: SocketAddr) -> Site {
    const BYTES: usize = 20 << 20;
    let body = pattern(BYTES);
    let want = sha256(&body);
    let web = Echo::start("web");
    let site = mirrored(web.address, mirror, "");
    let answer = site.gateway.ask(&Request::new("POST", HOST, "/").body(body.clone())).json();
    assert_eq!(answer["bodyBytes"], BYTES);
    assert_eq!(answer["bodySha256"], want.as_str());
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let head = Request::new("POST", HOST, "/").header("Transfer-Encoding", "chunked").head();
    let mut writer = connection.writer().unwrap();
    let parts = body.clone();
    let sender = thread::spawn(move || {
        writer.write_all(&head).unwrap();
        for part in parts.chunks(70_001) {
            write!(writer, "{:x}\r\n", part.len()).unwrap();
            writer.write_all(part).unwrap();
            writer.write_all(b"\r\n").unwrap();
        }
        writer.write_all(b"0\r\n\r\n").unwrap();
    });
    let answer = connection.response("POST").unwrap().json();
    sender.join().unwrap();
    assert_eq!(answer["bodyBytes"], BYTES);
    assert_eq!(answer["bodySha256"], want.as_str());
    let mut client = H2Connection::plain(site.gateway.http).unwrap();
    let answer = client.ask(&H2Request::new("POST", HOST, "/").body(body)).unwrap();
    assert_eq!(answer.json()["bodySha256"], want.as_str());
    site
}

#[test]
fn large_bodies_are_bit_exact_with_a_mirror_that_reads() {
    let shadow = Echo::start("shadow");
    let site = send_large_bodies(shadow.address);
    until("each copy is sent or dropped", || {
        (site.gateway.metric(SENT) + site.gateway.metric(DROPPED) == 3.0).then_some(())
    });
}

#[test]
fn large_bodies_are_bit_exact_with_a_mirror_that_reads_nothing() {
    let deaf = Backend::start_hasty(|_| Reply::After(Duration::from_secs(60), Box::new(Reply::Silence)));
    let site = send_large_bodies(deaf.address);
    // Who falls behind is counted when its connection has stood still for ten seconds.
    counted(&site, DROPPED, 3.0);
}

#[test]
fn a_mirror_gets_every_byte_of_a_body_that_comes_slowly() {
    let (web, shadow) = (Backend::named("web"), Backend::named("shadow"));
    let site = mirrored(web.address, shadow.address, "");
    let body = pattern(3 << 20);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection
        .send(&Request::new("PUT", HOST, "/").header("Content-Length", &body.len().to_string()).head())
        .unwrap();
    for part in body.chunks(256 << 10) {
        connection.send(part).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(connection.response("PUT").unwrap().status, 200);
    counted(&site, SENT, 1.0);
    assert!(shadow.arrived()[0].body == body && web.arrived()[0].body == body);
}

#[test]
fn a_client_that_breaks_off_cuts_the_copy_short() {
    let (web, shadow) = (Backend::named("web"), Backend::named("shadow"));
    let site = mirrored(web.address, shadow.address, "");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&Request::new("POST", HOST, "/").header("Content-Length", "100").head()).unwrap();
    connection.send(b"a part").unwrap();
    until("the mirror is asked", || (shadow.connections() == 1).then_some(()));
    drop(connection);
    counted(&site, FAILED, 1.0);
    assert!(shadow.arrived().is_empty(), "no part was taken for the whole");
    assert_eq!(site.gateway.get(HOST, "/").status, 200);
    counted(&site, SENT, 1.0);
}

#[test]
fn a_share_is_mirrored_and_bodies_may_stay_behind() {
    let (web, shadow) = (Backend::named("web"), Backend::named("shadow"));
    let site = mirrored(web.address, shadow.address, ", percent: 25, includeBody: false");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for _ in 0..1000 {
        let response = connection.ask(&Request::new("POST", HOST, "/").body("the body")).unwrap();
        assert_eq!(response.status, 200);
    }
    let sent = until("copies settle", || {
        let sent = site.gateway.metric(SENT) + site.gateway.metric(FAILED) + site.gateway.metric(DROPPED);
        (sent as usize == shadow.arrived().len()).then_some(sent)
    });
    // Five times the deviation of 1000 draws.
    assert!((180.0..=320.0).contains(&sent), "{sent}");
    let copy = shadow.arrived().remove(0);
    assert_eq!((copy.body.len(), copy.all("content-length")), (0, vec!["0"]));
}

#[test]
fn an_ingress_names_its_mirror_by_annotation() {
    let (web, shadow) = (Backend::named("web"), Backend::named("shadow"));
    let ingress = |name: &str, host: &str, target: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  namespace: shop\n  \
             annotations: {{{target}}}\nspec:\n  ingressClassName: baribhara\n  rules:\n  - host: {host}\n    \
             http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}\n"
        )
    };
    let yaml = service("web", &[web.address])
        + &service("shadow", &[shadow.address])
        + &ingress(
            "a",
            "a.example.com",
            "nginx.ingress.kubernetes.io/mirror-target: \"http://shadow.shop.svc.cluster.local$request_uri\"",
        )
        + &ingress(
            "b",
            "b.example.com",
            "gateway.baribhara.io/mirror-target: shadow, gateway.baribhara.io/mirror-request-body: \"off\"",
        )
        + &ingress(
            "c",
            "c.example.com",
            "nginx.ingress.kubernetes.io/mirror-target: \"https://elsewhere.example.com$request_uri\"",
        );
    let site = site(&yaml);
    for host in ["a.example.com", "b.example.com", "c.example.com"] {
        assert_eq!(site.gateway.ask(&Request::new("POST", host, "/x").body("body")).status, 200, "{host}");
    }
    let mut copies = until("two copies", || Some(shadow.arrived()).filter(|copies| copies.len() == 2));
    copies.sort_by_key(|copy| copy.all("host").concat());
    assert_eq!(copies[0].body, b"body");
    assert!(copies[1].body.is_empty());
    assert_eq!(copies[0].target(), "/x");
}
