//! Certificates that change while connections live: good ones, bad ones, and very many.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::Backend;
use e2e::certificate::{Authority, Issued, tls_secret};
use e2e::client::Request;
use e2e::folder::{Folder, route};
use e2e::gateway::Gateway;
use e2e::process::command;
use e2e::tls_client::{TlsConnection, ask, config, config_without_trust};
use e2e::until::{until, until_within};
use rustls::AlertDescription;
use rustls::client::Resumption;

use crate::site::{HOST, address, site, site_with};
use crate::tls_site::{refusal, shows, tls_route};

/// How many connections live through a rotation, and on how many threads.
const LIVE: u64 = 200;
const THREADS: u64 = 4;

/// Asks on every connection in turn until it is told to stop, and then on each once more.
fn keep_asking(mut connections: Vec<TlsConnection>, stop: &AtomicBool, done: &AtomicU64) -> Vec<String> {
    let mut failures = Vec::new();
    let mut last_round = false;
    while !last_round {
        last_round = stop.load(Ordering::SeqCst);
        for connection in &mut connections {
            match connection.ask(&Request::get(HOST, "/")) {
                Ok(response) if response.status == 200 && !response.closes() => {}
                Ok(response) => failures.push(format!("{response:?}")),
                Err(error) => failures.push(error.to_string()),
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
        if !failures.is_empty() {
            break;
        }
    }
    failures
}

#[test]
fn a_rotated_certificate_is_shown_within_a_second_and_no_live_connection_notices() {
    // Hardening TL09.
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let first = authority.issue(&[HOST]);
    let route = tls_route("shop", HOST, "shop", "", backend.address);
    let site = site_with(&route, &["--access-log", "off"]);
    let https = site.gateway.https;
    site.folder.write("secret.yaml", &first.secret("shop"));
    let client = Arc::new(config(&authority));
    until("the first certificate is live", || shows(https, HOST, &client, &first).then_some(()));

    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let open = || TlsConnection::open(https, HOST, &client).expect("a live connection");
            let connections: Vec<_> = (0..LIVE / THREADS).map(|_| open()).collect();
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || keep_asking(connections, &stop, &done))
        })
        .collect();
    until("every connection has been used", || (done.load(Ordering::SeqCst) > LIVE).then_some(()));
    let mut times = Vec::new();
    for _ in 0..5 {
        let next = authority.issue(&[HOST]);
        let changed = Instant::now();
        site.folder.write("secret.yaml", &next.secret("shop"));
        until("the new certificate is shown", || shows(https, HOST, &client, &next).then_some(()));
        times.push(changed.elapsed());
        for _ in 0..8 {
            assert!(shows(https, HOST, &client, &next), "some worker still shows the old one");
        }
    }
    stop.store(true, Ordering::SeqCst);
    let failures: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    println!("new certificates shown after {times:?} beside {} requests", done.load(Ordering::SeqCst));
    assert!(failures.is_empty(), "{} failed: {failures:#?}", failures.len());
    assert!(times.iter().all(|time| *time <= Duration::from_secs(1)), "{times:?}");
}

/// A Secret that cannot be used: what is wrong, its two entries, and a word of the reason that is told.
struct Bad {
    what: &'static str,
    certificate: String,
    key: String,
    reason: &'static str,
}

fn bad_secrets(authority: &Authority) -> Vec<Bad> {
    let other = authority.issue(&[HOST]);
    let expired = authority.issue_until(2021, &[HOST]);
    let Issued { certificate_pem: good, key_pem: key, .. } = authority.issue(&[HOST]);
    let garbled = good.replacen("\nMII", "\n!!!", 1);
    assert_ne!(garbled, good);
    let bad = |what, certificate: &str, key: &str, reason| Bad {
        what,
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        reason,
    };
    vec![
        bad("no PEM", "certificate", "key", "certificate"),
        bad("half a PEM", &good[..good.len() / 2], &key, "PEM"),
        bad("PEM that is not base64", &garbled, &key, "PEM"),
        bad("the key of another certificate", &good, &other.key_pem, "private key"),
        bad("an expired certificate", &expired.certificate_pem, &expired.key_pem, "expired"),
        bad("a reversed chain", &(authority.pem.clone() + &good), &key, "private key"),
        bad("nothing", "", "", "certificate"),
        bad("no key", &good, "", "private key"),
        bad("no certificate", "", &key, "certificate"),
        bad("a key as the certificate", &key, &key, "certificate"),
        bad("a certificate as the key", &good, &good, "private key"),
    ]
}

/// The line of `baribhara check` that names a line of this file.
fn checked(folder: &Folder, file: &str) -> Option<String> {
    let checked = command(&["check", &folder.path().display().to_string()]).output().unwrap();
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(!said.contains("PRIVATE KEY"), "{said}");
    let names_a_line = |line: &&str| {
        let rest = line.split_once(&format!("{file}:")).map_or("", |(_, rest)| rest);
        rest.split(':').next().is_some_and(|number| number.parse::<u32>().is_ok())
    };
    said.lines().find(names_a_line).map(str::to_owned)
}

#[test]
fn a_secret_that_cannot_be_used_keeps_the_last_good_certificate_and_harms_no_neighbour() {
    // Hardening TL10.
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let neighbour = "neighbour.example.com";
    let good = authority.issue(&[HOST]);
    let yaml = [
        tls_route("shop", HOST, "shop", "", backend.address),
        authority.issue(&[neighbour]).secret("neighbour"),
    ];
    let numbered = |number: usize| {
        let header = format!("{{set: [{{name: X-Version, value: \"{number}\"}}]}}");
        let spec = format!(
            "hostnames: [{neighbour}]
tls: {{secretRef: {{name: neighbour}}}}
rules:
- name: all
  backendRefs: [{}]
  filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {header}}}]",
            address(backend.address)
        );
        route("neighbour", &spec)
    };
    let folder = Folder::with(&yaml.concat());
    folder.write("secret.yaml", &good.secret("shop"));
    folder.write("neighbour.yaml", &numbered(0));
    let gateway = Gateway::start(folder.path(), &[]);
    let client = Arc::new(config(&authority));
    let mut live = TlsConnection::open(gateway.https, HOST, &client).unwrap();
    let rejected = || gateway.metric("baribhara_config_rejected_objects");
    assert_eq!(rejected(), 0.0);
    for (number, Bad { what, certificate, key, reason }) in bad_secrets(&authority).into_iter().enumerate() {
        folder.write("secret.yaml", &tls_secret("shop", &certificate, &key));
        until(&format!("{what}: the metric"), || (rejected() >= 1.0).then_some(()));
        assert!(shows(gateway.https, HOST, &client, &good), "{what}: the last good one is not shown");
        assert_eq!(live.ask(&Request::get(HOST, "/")).unwrap().status, 200, "{what}");
        // The neighbour's changes go on being taken over, beside what is bad.
        folder.write("neighbour.yaml", &numbered(number + 1));
        let want = (number + 1).to_string();
        until(&format!("{what}: the neighbour's change"), || {
            let response = ask(gateway.https, &client, &Request::get(neighbour, "/")).expect("an answer");
            (response.header("x-version") == Some(&want)).then_some(())
        });
        assert!(shows(gateway.https, HOST, &client, &good), "{what}: lost with another change");

        let said = checked(&folder, "secret.yaml");
        assert!(said.as_ref().is_some_and(|said| said.contains(reason)), "{what}: {said:?}");
        folder.write("secret.yaml", &good.secret("shop"));
        until(&format!("{what}: the metric is back"), || (rejected() == 0.0).then_some(()));
    }
    let renewed = authority.issue(&[HOST]);
    folder.write("secret.yaml", &renewed.secret("shop"));
    until("a good one is taken", || shows(gateway.https, HOST, &client, &renewed).then_some(()));
}

#[test]
fn a_secret_that_goes_away_or_was_never_good_leaves_the_default_certificate() {
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let default = authority.issue(&["default.example.com"]);
    let other = "other.example.com";
    let yaml = [
        default.secret("default"),
        tls_secret("bad", "no PEM", "no PEM"),
        tls_route("shop", HOST, "bad", "", backend.address),
        tls_route("other", other, "missing", "", backend.address),
    ];
    let site = site_with(&yaml.concat(), &["--default-tls-secret", "shop/default"]);
    let https = site.gateway.https;
    let client = Arc::new(config_without_trust());
    for host in [HOST, other] {
        assert!(shows(https, host, &client, &default), "{host}");
        assert_eq!(ask(https, &client, &Request::get(host, "/")).unwrap().text(), "ok", "{host}");
    }
    let created = authority.issue(&[other]);
    site.folder.write("missing.yaml", &created.secret("missing"));
    until("the Secret is used once it is there", || shows(https, other, &client, &created).then_some(()));
    site.folder.remove("missing.yaml");
    until("a deleted Secret is used no more", || shows(https, other, &client, &default).then_some(()));
}

#[test]
fn two_thousand_certificates_load_and_one_of_them_is_rotated_soon() {
    // Hardening TL11.
    const CERTIFICATES: usize = 2000;
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let key = rcgen::KeyPair::generate().unwrap();
    let host = |number: usize| format!("h{number}.example.com");
    let issue = |number: usize| authority.issue_for(&[&host(number)], &key);
    let issued: Vec<Issued> = (0..CERTIFICATES).map(issue).collect();
    let text = |number: usize, issued: &Issued| {
        let name = format!("h{number}");
        issued.secret(&name) + &tls_route(&name, &host(number), &name, "", backend.address)
    };
    let folder = Folder::new();
    let gateway = Gateway::start(folder.path(), &["--access-log", "off"]);
    let client = Arc::new(config(&authority));
    let files: Vec<String> = issued
        .chunks(100)
        .enumerate()
        .map(|(file, chunk)| {
            chunk.iter().enumerate().map(|(at, issued)| text(file * 100 + at, issued)).collect()
        })
        .collect();
    let written = Instant::now();
    for (number, file) in files.iter().enumerate() {
        folder.write(&format!("{number}.yaml"), file);
    }
    let is_live = |number: usize| shows(gateway.https, &host(number), &client, &issued[number]);
    until_within(Duration::from_secs(30), "the first and the last are live", || {
        (is_live(0) && is_live(CERTIFICATES - 1)).then_some(())
    });
    let loaded = written.elapsed();
    for number in (0..CERTIFICATES).step_by(97) {
        assert!(is_live(number), "certificate {number}");
        let response = ask(gateway.https, &client, &Request::get(&host(number), "/")).unwrap();
        assert_eq!(response.text(), "ok", "certificate {number}");
    }

    // One of those in a file of its own, with another key.
    let added = CERTIFICATES;
    let mut times = Vec::new();
    for _ in 0..5 {
        let next = authority.issue(&[&host(added)]);
        let changed = Instant::now();
        folder.write("added.yaml", &text(added, &next));
        until("the rotated one is live", || shows(gateway.https, &host(added), &client, &next).then_some(()));
        times.push(changed.elapsed());
    }
    times.sort();
    println!("{CERTIFICATES} certificates live after {loaded:?}; one of them rotated after {times:?}");
    assert!(loaded <= Duration::from_secs(5), "live after {loaded:?}");
    assert!(times[times.len() / 2] <= Duration::from_millis(500), "rotated after {times:?}");
}

#[test]
fn the_metrics_count_handshakes_and_certificates_and_say_when_the_first_ends() {
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let yaml = [
        authority.issue(&[HOST]).secret("shop"),
        authority.issue_until(2100, &["b.example.com"]).secret("b"),
        tls_route("shop", HOST, "shop", "", backend.address),
        tls_route("b", "b.example.com", "b", "", backend.address),
    ];
    let site = site(&yaml.concat());
    let gateway = &site.gateway;
    let client = Arc::new(config(&authority));
    let certificates = || gateway.metric("baribhara_tls_certificates");
    let not_after = || gateway.metric("baribhara_tls_certificate_not_after_seconds");
    // The first day of 2100.
    assert_eq!((certificates(), not_after()), (2.0, 4_102_444_800.0));
    let handshakes = |result: &str| {
        let listener = gateway.https;
        gateway
            .metric(&format!("baribhara_tls_handshakes_total{{listener=\"{listener}\",result=\"{result}\"}}"))
    };
    for _ in 0..3 {
        assert_eq!(ask(gateway.https, &client, &Request::get(HOST, "/")).unwrap().status, 200);
    }
    for _ in 0..2 {
        let refused = refusal(gateway.https, "unknown.example.com", &client);
        assert_eq!(refused, Ok(AlertDescription::UnrecognisedName));
    }
    until("handshakes are counted by their results", || {
        ((handshakes("ok"), handshakes("no_certificate")) == (3.0, 2.0)).then_some(())
    });
    let mut resuming = config(&authority);
    resuming.resumption = Resumption::in_memory_sessions(8);
    let resuming = Arc::new(resuming);
    for _ in 0..2 {
        assert_eq!(ask(gateway.https, &resuming, &Request::get(HOST, "/")).unwrap().status, 200);
    }
    until("a resumed one is counted apart", || {
        ((handshakes("ok"), handshakes("resumed")) == (4.0, 1.0)).then_some(())
    });
    // A Secret that nobody names is not served.
    site.folder.write("all.yaml", &[&yaml[0][..], &yaml[1], &yaml[2]].concat());
    until("one is left", || {
        // The first day of 2120.
        ((certificates(), not_after()) == (1.0, 4_733_510_400.0)).then_some(())
    });
    site.folder.write("all.yaml", &yaml[0]);
    until("none is left", || ((certificates(), not_after()) == (0.0, 0.0)).then_some(()));
}
