//! OCSP responses that are stapled to certificates: made by openssl, and read by it and by rustls.

use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::backend::Backend;
use e2e::certificate::{Authority, Issued};
use e2e::client::Request;
use e2e::folder::Folder;
use e2e::process::command;
use e2e::tls_client::{TlsConnection, config, openssl, roots};
use e2e::until::until;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::site::{HOST, site};
use crate::tls_site::{shows, tls_route};

/// What the responder's database says of a certificate.
const GOOD: &str = "V\t491231235959Z\t\t";
const REVOKED: &str = "R\t491231235959Z\t260101000000Z\t";

fn run(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().expect("openssl (.ci/tools openssl)");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What openssl's responder says of this certificate, for so many minutes.
fn response(authority: &Authority, certificate: &Issued, verdict: &str, minutes: u32) -> Vec<u8> {
    let folder = Folder::new();
    let file = |name: &str| folder.path().join(name).display().to_string();
    folder.write("ca.pem", &authority.pem);
    folder.write("ca.key", &authority.key_pem());
    folder.write("own.pem", &certificate.certificate_pem);
    let serial = run(&["x509", "-in", &file("own.pem"), "-noout", "-serial"]);
    let serial = serial.trim().strip_prefix("serial=").expect("a serial number").to_owned();
    folder.write("index.txt", &format!("{verdict}{serial}\tunknown\t/CN=x\n"));
    let (ca, key, own, index) = (file("ca.pem"), file("ca.key"), file("own.pem"), file("index.txt"));
    let (answer, minutes) = (file("response.der"), minutes.to_string());
    run(&[
        "ocsp",
        "-issuer",
        &ca,
        "-cert",
        &own,
        "-CA",
        &ca,
        "-rsigner",
        &ca,
        "-rkey",
        &key,
        "-index",
        &index,
        "-no_nonce",
        "-nmin",
        &minutes,
        "-respout",
        &answer,
    ]);
    std::fs::read(answer).expect("a response")
}

/// The Secret with this response.
fn secret(certificate: &Issued, response: &[u8]) -> String {
    format!("{}  tls.ocsp-staple: \"{}\"\n", certificate.secret("shop"), STANDARD.encode(response))
}

/// Keeps what was stapled, and leaves the rest to rustls.
#[derive(Debug)]
struct Looks {
    inner: Arc<WebPkiServerVerifier>,
    stapled: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Looks {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.stapled.lock().unwrap() = ocsp_response.to_vec();
        self.inner.verify_server_cert(own, others, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, own, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, own, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A client and where it keeps what was stapled.
fn looking(authority: &Authority) -> (Arc<ClientConfig>, Arc<Looks>) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(&[&authority.der])), provider);
    let looks = Arc::new(Looks { inner: inner.build().unwrap(), stapled: Mutex::default() });
    let mut client = config(authority);
    client.dangerous().set_certificate_verifier(Arc::clone(&looks) as Arc<dyn ServerCertVerifier>);
    (Arc::new(client), looks)
}

#[test]
fn a_response_is_stapled_and_openssl_takes_it_for_what_it_is() {
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let certificate = authority.issue(&[HOST]);
    let said = response(&authority, &certificate, GOOD, 60);
    let yaml = tls_route("shop", HOST, "shop", "", backend.address) + &secret(&certificate, &said);
    let site = site(&yaml);
    site.folder.write("authority.pem", &authority.pem);
    let trusted = site.folder.path().join("authority.pem").display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let args = ["-servername", HOST, "-status", "-CAfile", &trusted, version];
        let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        let stdout = openssl(site.gateway.https, &args, &request).stdout;
        for want in
            ["OCSP Response Status: successful (0x0)", "Cert Status: good", "Verify return code: 0 (ok)"]
        {
            assert!(stdout.contains(want), "{version}: no {want} in {stdout}");
        }
        let without = openssl(site.gateway.https, &args[..2], &request).stdout;
        assert!(!without.contains("OCSP"), "nobody asked: {without}");
    }
    assert!(site.gateway.metric("baribhara_tls_ocsp_next_update_seconds") > 1.7e9);
}

#[test]
fn a_new_response_is_stapled_without_a_failed_handshake_and_a_bad_one_costs_only_itself() {
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let (certificate, other) = (authority.issue(&[HOST]), authority.issue(&[HOST]));
    let first = response(&authority, &certificate, GOOD, 60);
    let site = site(&tls_route("shop", HOST, "shop", "", backend.address));
    let (client, looks) = looking(&authority);
    site.folder.write("secret.yaml", &certificate.secret("shop"));
    until("the certificate is live", || shows(site.gateway.https, HOST, &client, &certificate).then_some(()));
    // Each handshake must end well, and each request on the first connection, too.
    let mut live = TlsConnection::open(site.gateway.https, HOST, &client).unwrap();
    let mut stapled = || {
        assert_eq!(live.ask(&Request::get(HOST, "/")).unwrap().status, 200);
        let mut new = TlsConnection::open(site.gateway.https, HOST, &client).unwrap();
        assert_eq!(*new.certificate(), certificate.der);
        assert_eq!(new.ask(&Request::get(HOST, "/")).unwrap().status, 200);
        looks.stapled.lock().unwrap().clone()
    };
    let mut staples = |what: &str, yaml: &str, want: &[u8]| {
        site.folder.write("secret.yaml", yaml);
        until(what, || (stapled() == want).then_some(()));
    };
    staples("the first response", &secret(&certificate, &first), &first);
    let second = response(&authority, &certificate, GOOD, 120);
    assert_ne!(first, second);
    staples("the second response", &secret(&certificate, &second), &second);
    for (what, bad) in [
        ("one for another certificate", response(&authority, &other, GOOD, 60)),
        ("one that says that the certificate is revoked", response(&authority, &certificate, REVOKED, 60)),
        ("none", b"nonsense".to_vec()),
    ] {
        staples(what, &secret(&certificate, &bad), b"");
        staples("a good one after it", &secret(&certificate, &second), &second);
    }
    staples("no response", &certificate.secret("shop"), b"");
}

#[test]
fn check_names_the_secret_its_entry_and_what_is_wrong_with_the_response() {
    let authority = Authority::new();
    let (certificate, other) = (authority.issue(&[HOST]), authority.issue(&[HOST]));
    let pem = format!("-----BEGIN OCSP RESPONSE-----\n{}", STANDARD.encode([48, 3, 10, 1, 0]));
    for (said, want) in [
        (response(&authority, &certificate, GOOD, 60), None),
        (response(&authority, &other, GOOD, 60), Some("it is for another certificate")),
        (response(&authority, &certificate, REVOKED, 60), Some("it says that the certificate is revoked")),
        (pem.into_bytes(), Some("it is no OCSP response in DER")),
    ] {
        let folder = Folder::with(&secret(&certificate, &said));
        let checked = command(&["check", &folder.path().display().to_string()]).output().unwrap();
        let stdout = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success(), "the certificate is served: {stdout}");
        match want {
            Some(want) => {
                for part in ["Secret/shop/shop", "tls.ocsp-staple", want, "store a current response"] {
                    assert!(stdout.contains(part), "no {part:?} in {stdout}");
                }
            }
            None => assert!(!stdout.contains("ocsp"), "{stdout}"),
        }
    }
}
