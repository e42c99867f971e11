//! What a connection has proved stays with the authorities that verified it.

use ir::ClientAuthMode::{Optional, Require};
use rcgen::date_time_ymd;

use super::*;
use crate::tls::testing::{Authority, client_auth};

fn asks(auth: &Arc<ClientAuth>) -> Asks {
    Asks { auth: Arc::clone(auth), verifier: verifier(auth).unwrap() }
}

#[test]
fn without_a_usable_authority_there_is_no_verifier() {
    let good = Authority::new("one").pem;
    let cut = good.replace("-----END", "-----FIN");
    for (name, pem, want) in [
        ("one", &*good, true),
        (
            "one among damaged ones",
            &format!("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n{good}"),
            true,
        ),
        ("nothing", "", false),
        ("cut short", &cut, false),
        ("no certificate", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", false),
    ] {
        for mode in [Require, Optional] {
            assert_eq!(verifier(&client_auth(mode, pem)).is_ok(), want, "{name} {mode:?}");
        }
    }
}

#[test]
fn a_certificate_counts_only_by_the_authorities_that_have_verified_it() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let (by_one, by_two) = (asks(&one.auth(Require)), asks(&two.auth(Require)));
    let both = asks(&client_auth(Require, &[&*two.pem, &one.pem].concat()));
    let (chain, _) = one.issue("ada");
    let client = Client::new(Some(&by_one), Some(&chain), false).unwrap();
    assert_eq!(client.verified_by(&by_one.auth).unwrap().subject, "CN=ada");
    assert!(client.verified_by(&one.auth(Optional)).is_some(), "the mode says nothing about a certificate");
    assert!(client.verified_by(&by_two.auth).is_none());
    assert!(!client.meets(&by_two) && !client.meets(&by_two));
    assert!(client.verified_by(&by_two.auth).is_none() && client.verified_by(&by_one.auth).is_some());
    // Another authority joins the first one: who came by that is verified anew, and stays.
    assert!(client.meets(&both) && client.verified_by(&both.auth).is_some());
}

#[test]
fn who_has_shown_nothing_meets_only_what_is_optional() {
    let one = Authority::new("one");
    let (require, optional) = (asks(&one.auth(Require)), asks(&one.auth(Optional)));
    for client in [Client::default(), Client::new(Some(&optional), None, false).unwrap()] {
        assert!(!client.meets(&require) && client.meets(&optional));
        assert!(client.verified_by(&optional.auth).is_none());
    }
}

#[test]
fn a_resumed_session_is_verified_anew() {
    let one = Authority::new("one");
    let require = asks(&one.auth(Require));
    let (good, _) = one.issue("ada");
    let (expired, _) = one.issue_with("ada", |params| params.not_after = date_time_ymd(2020, 1, 1));
    assert!(Client::new(Some(&require), Some(&good), true).is_some());
    assert!(Client::new(Some(&require), Some(&expired), true).is_none());
    assert!(Client::new(Some(&require), None, true).is_none());
}

#[test]
fn a_certificate_that_is_too_large_to_tell_of_is_not_served() {
    let one = Authority::new("one");
    let require = asks(&one.auth(Require));
    let name = "x".repeat(CERTIFICATE_BYTES_MAX);
    let (chain, _) = one.issue(&name);
    assert!(Client::new(Some(&require), Some(&chain), false).is_none());
}
