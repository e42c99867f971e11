//! What is refused and why, and that no message quotes what it is about.

use super::*;
use crate::tls::testing::{Issued, day};

/// PKCS #8, on the curve secp256k1: nothing that TLS signs with.
const KOBLITZ_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgj7/4i9+ux20aDnOc8nuw\n\
Paq5GtQgpNOWCNKpm/58UIGhRANCAASxkEdoWXsgQIS5sw6pMBJiqLN0hySTbHbU\n\
mS2maiO5htiUDBsa/EVdGWVehS8mKQNcegZfQuLZgs29Aoj2gXBz\n\
-----END PRIVATE KEY-----\n";

#[test]
fn a_chain_and_its_key_are_taken_whatever_the_kind_of_key() {
    for (name, algorithm) in [
        ("P-256", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("P-521", &rcgen::PKCS_ECDSA_P521_SHA512),
        ("Ed25519", &rcgen::PKCS_ED25519),
        ("RSA", &rcgen::PKCS_RSA_SHA256),
    ] {
        let issued = Issued::with_key(&["a.example"], algorithm);
        let chain = issued.chain_pem.concat();
        assert_eq!(check_certificate(chain.as_bytes(), issued.key_pem.as_bytes(), day(1)), Ok(()), "{name}");
    }
}

#[test]
fn each_fault_is_named() {
    let issued = Issued::of(&["a.example"]);
    let [own, authority] = &issued.chain_pem;
    let (good, key) = (issued.chain_pem.concat(), issued.key_pem.as_str());
    let other_key = Issued::of(&["b.example"]).key_pem;
    let reversed = [authority.as_str(), own].concat();
    let cut = &own[..own.len() / 2];
    let wild = own.replacen('M', "!", 1);
    let no_certificate = own.replace("MII", "AAA");
    let bad_second = format!("{own}{no_certificate}");
    let bad_key = key.replace("MI", "AA");
    let cases: [(&str, &str, &str, u64, &str); 15] = [
        ("empty chain", "", key, 1, "there is no certificate in the chain"),
        ("chain without certificate", key, key, 1, "there is no certificate in the chain"),
        ("text", "hello", key, 1, "there is no certificate in the chain"),
        ("cut chain", cut, key, 1, "the certificate is not PEM (RFC 7468)"),
        ("wild chain", &wild, key, 1, "the certificate is not PEM (RFC 7468)"),
        ("no certificate inside", &no_certificate, key, 1, "certificate 1 can't be read"),
        ("no certificate inside the second", &bad_second, key, 1, "certificate 2 can't be read"),
        ("empty key", &good, "", 1, "there is no private key (PKCS #8, PKCS #1 or SEC 1, not encrypted)"),
        ("cut key", &good, &key[..key.len() / 2], 1, "the private key is not PEM (RFC 7468)"),
        ("no key inside", &good, &bad_key, 1, "the private key can't sign"),
        ("curve", &good, KOBLITZ_KEY, 1, "the private key can't sign"),
        ("other key", &good, &other_key, 1, "the private key does not belong to the first certificate"),
        ("reversed", &reversed, key, 1, "the private key does not belong to the first certificate"),
        ("expired", &good, key, 31, "the certificate has expired"),
        ("too early", &good, key, 0, "the certificate is not valid yet"),
    ];
    for (name, chain, key, days, want) in cases {
        let now = if days == 0 { day(0) - std::time::Duration::from_secs(3601) } else { day(days) };
        let error = check_certificate(chain.as_bytes(), key.as_bytes(), now).expect_err(name);
        assert!(error.starts_with(want), "{name}: {error}");
        for line in chain.lines().chain(key.lines()).filter(|line| line.len() > 8) {
            assert!(!error.contains(line), "{name}: quotes what it is about: {error}");
        }
    }
}

#[test]
fn the_ends_of_the_time_belong_to_it() {
    let issued = Issued::of(&["a.example"]);
    let chain = issued.chain_pem.concat();
    // The clock of the issuer may be an hour ahead.
    let ends = [
        (day(0) - std::time::Duration::from_secs(3600), true),
        (day(30), true),
        (day(30) + std::time::Duration::from_secs(1), false),
    ];
    for (now, want) in ends {
        let got = check_certificate(chain.as_bytes(), issued.key_pem.as_bytes(), now);
        assert_eq!(got.is_ok(), want, "{now:?}: {got:?}");
    }
}
