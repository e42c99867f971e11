//! Responses are written here by hand, so that each part of one can be another.

use super::*;
use crate::tls::testing::Issued;

fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut der =
        if content.len() < 0x80 { vec![tag, length[1]] } else { vec![tag, 0x82, length[0], length[1]] };
    der.extend(content);
    der
}

/// What a response says, each part as DER.
struct Said {
    status: u8,
    hash: usize,
    serial: Vec<u8>,
    issuer: Vec<u8>,
    key: Vec<u8>,
    verdict: Vec<u8>,
    next_update: Option<&'static str>,
}

impl Said {
    fn good(issued: &Issued) -> Self {
        let own = Names::read(&issued.chain_der[0]).unwrap();
        let issuer = Names::read(&issued.chain_der[1]).unwrap();
        Self {
            status: 0,
            hash: 0,
            serial: own.serial.to_vec(),
            issuer: own.issuer.to_vec(),
            key: issuer.key.to_vec(),
            verdict: value(0x80, &[]),
            next_update: Some("20260108000000Z"),
        }
    }

    fn single(&self) -> Vec<u8> {
        let (identifier, hash) = HASHES[self.hash];
        let hashed = |bytes: &[u8]| value(OCTET_STRING, &[digest::digest(hash, bytes).as_ref()]);
        let algorithm = value(SEQUENCE, &[&value(OBJECT_IDENTIFIER, &[identifier]), &[5, 0]]);
        let serial = value(INTEGER, &[&self.serial]);
        let id = value(SEQUENCE, &[&algorithm, &hashed(&self.issuer), &hashed(&self.key), &serial]);
        let time = |text: &str| value(GENERALIZED_TIME, &[text.as_bytes()]);
        let next_update = self.next_update.map(|text| value(TAGGED_0, &[&time(text)]));
        let next_update = next_update.unwrap_or_default();
        value(SEQUENCE, &[&id, &self.verdict, &time("20260101000000Z"), &next_update])
    }

    fn der(&self) -> Vec<u8> {
        response(self.status, &[&self.single()])
    }
}

fn response(status: u8, singles: &[&[u8]]) -> Vec<u8> {
    let produced = value(GENERALIZED_TIME, &[b"20260101000000Z"]);
    let responder = value(0xa2, &[&value(OCTET_STRING, &[&[7; 20]])]);
    let signed = value(SEQUENCE, &[&responder, &produced, &value(SEQUENCE, singles)]);
    let algorithm = value(SEQUENCE, &[&value(OBJECT_IDENTIFIER, &[&[0x2a, 3]])]);
    let basic = value(SEQUENCE, &[&signed, &algorithm, &value(BIT_STRING, &[&[0, 1, 2, 3]])]);
    let bytes = value(SEQUENCE, &[&value(OBJECT_IDENTIFIER, &[BASIC]), &value(OCTET_STRING, &[&basic])]);
    value(SEQUENCE, &[&value(ENUMERATED, &[&[status]]), &value(TAGGED_0, &[&bytes])])
}

const JANUARY_1: i64 = 1_767_225_600;

#[test]
fn a_good_response_holds_from_this_update_to_the_next_by_any_of_the_hashes() {
    let issued = Issued::of(&["a.example"]);
    let want = Validity { not_before_s: JANUARY_1, not_after_s: JANUARY_1 + 7 * 86_400 };
    for hash in 0..HASHES.len() {
        let der = Said { hash, ..Said::good(&issued) }.der();
        assert_eq!(read(&der, &issued.chain_der), Ok(want), "hash {hash}");
        // Without the authority's certificate there is only its name.
        assert_eq!(read(&der, &issued.chain_der[..1]), Ok(want), "hash {hash}");
    }
    let (other, good) = (Said::good(&Issued::of(&["a.example"])).single(), Said::good(&issued).single());
    assert_eq!(read(&response(0, &[&other, &good]), &issued.chain_der), Ok(want), "the second of two");
}

#[test]
fn what_is_not_the_word_of_the_authority_on_this_very_certificate_is_refused() {
    let issued = Issued::of(&["a.example"]);
    let good = || Said::good(&issued);
    let time = value(GENERALIZED_TIME, &[b"20260102000000Z"]);
    let other = "it is for another certificate";
    for (name, der, want) in [
        ("nothing", vec![], NO_RESPONSE),
        ("PEM", b"-----BEGIN OCSP RESPONSE-----".to_vec(), NO_RESPONSE),
        ("a certificate", issued.chain_der[0].to_vec(), NO_RESPONSE),
        ("something behind it", [good().der(), vec![0]].concat(), NO_RESPONSE),
        ("large", vec![0; RESPONSE_BYTES_MAX + 1], "it is larger than 16 KiB"),
        ("try later", Said { status: 3, ..good() }.der(), "it is an error of its responder: tryLater"),
        ("a status that is none", Said { status: 4, ..good() }.der(), NO_RESPONSE),
        ("no responses", response(0, &[]), other),
        ("another serial", Said { serial: vec![1], ..good() }.der(), other),
        ("another issuer", Said { issuer: vec![1], ..good() }.der(), other),
        ("another key of the issuer", Said { key: vec![1], ..good() }.der(), other),
        (
            "revoked",
            Said { verdict: value(0xa1, &[&time]), ..good() }.der(),
            "it says that the certificate is revoked",
        ),
        (
            "unknown",
            Said { verdict: value(0x82, &[]), ..good() }.der(),
            "its responder does not know the certificate",
        ),
        ("a verdict that is none", Said { verdict: value(0x83, &[]), ..good() }.der(), NO_RESPONSE),
        (
            "no end",
            Said { next_update: None, ..good() }.der(),
            "it does not say until when it holds (nextUpdate)",
        ),
        ("an end that is no time", Said { next_update: Some("tomorrow"), ..good() }.der(), NO_RESPONSE),
    ] {
        assert_eq!(read(&der, &issued.chain_der), Err(want), "{name}");
    }
}

#[test]
fn a_response_that_is_cut_short_is_none() {
    let issued = Issued::of(&["a.example"]);
    let der = Said::good(&issued).der();
    for end in 0..der.len() {
        assert_eq!(read(&der[..end], &issued.chain_der), Err(NO_RESPONSE), "{end} bytes");
    }
}

#[test]
fn a_response_is_stapled_within_its_time_and_then_no_more() {
    let issued = Issued::of(&["a.example"]);
    let (chain, key) = (issued.chain_pem.concat(), issued.key_pem.as_bytes());
    let mut loaded = crate::tls::Loaded::new(chain.as_bytes(), key).unwrap();
    let der = Said::good(&issued).der();
    for (now_s, want) in [
        (JANUARY_1 - 3601, false),
        (JANUARY_1 - 3600, true),
        (JANUARY_1 + 7 * 86_400, true),
        (JANUARY_1 + 7 * 86_400 + 1, false),
    ] {
        assert!(loaded.key_at(now_s).ocsp.is_none(), "there is none yet");
        loaded.staple(&der).unwrap();
        assert_eq!(loaded.key_at(now_s).ocsp.as_deref(), want.then_some(der.as_slice()), "{now_s}");
        assert_eq!(loaded.stapled_until_s(), Some(JANUARY_1 + 7 * 86_400));
        assert!(loaded.staple(b"none").is_err(), "a bad one");
        loaded = crate::tls::Loaded::new(chain.as_bytes(), key).unwrap();
    }
}

#[test]
fn a_check_says_when_the_time_of_a_response_is_not_now() {
    let issued = Issued::of(&["a.example"]);
    let (chain, der) = (issued.chain_pem.concat(), Said::good(&issued).der());
    let check = |der: &[u8], now| crate::tls::check_ocsp_response(chain.as_bytes(), der, now);
    let begin = crate::tls::testing::day(0);
    let hours = |hours: u64| std::time::Duration::from_secs(hours * 3600);
    for (now, want) in [
        (begin - hours(2), Err("it is not valid yet")),
        (begin, Ok(())),
        (begin + hours(7 * 24), Ok(())),
        (begin + hours(7 * 24 + 1), Err("it has expired")),
    ] {
        assert_eq!(check(&der, now), want.map_err(str::to_owned), "{now:?}");
    }
    assert_eq!(check(b"none", begin), Err(NO_RESPONSE.to_owned()));
}
