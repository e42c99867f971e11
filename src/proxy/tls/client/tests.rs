//! What a connection has proved stays with the authorities that verified it.

use ir::ClientAuthMode::{Optional, Require};
use rcgen::date_time_ymd;

use super::*;
use crate::tls::testing::{Authority, Shown, client_auth};

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
fn a_revoked_certificate_is_refused_and_so_is_what_no_current_list_speaks_of() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let (below, link) = one.below("below");
    let (good, revoked) = (one.issue("ada"), one.issue("bob"));
    let mut linked = below.issue("eve");
    linked.0.push(link);
    let of_two = two.issue("dan");
    let list = one.revokes(&[&revoked], 2090);
    let old = one.revokes(&[&revoked], 2026);
    let of_link = below.revokes(&[], 2090);
    let forged = Authority::new("one").revokes(&[], 2090);
    let both = [&*one.pem, &two.pem].concat();
    for (name, lists, want) in [
        ("no list", String::new(), [true, true, true, true]),
        ("a list of one authority", list.clone(), [true, false, false, false]),
        ("and of the link", list.clone() + &of_link, [true, false, true, false]),
        ("and of the other authority", list + &two.revokes(&[], 2090), [true, false, false, true]),
        ("all is revoked", one.revokes(&[&good, &revoked], 2090), [false, false, false, false]),
        ("a list that has ended", old, [false, false, false, false]),
        ("a list that another has signed", forged, [false, false, false, false]),
    ] {
        for mode in [Require, Optional] {
            let auth = ClientAuth { ca_pem: both.clone().into(), ..(*one.auth_with(mode, &lists)).clone() };
            let asks = asks(&Arc::new(auth));
            let takes = |(chain, _): &Shown| asks.takes(ClientCertificate::new(chain).as_ref());
            assert_eq!([&good, &revoked, &linked, &of_two].map(takes), want, "{name} {mode:?}");
        }
    }
}

#[test]
fn lists_that_cannot_be_read_leave_no_verifier() {
    let one = Authority::new("one");
    let good = one.revokes(&[], 2090);
    let not_one = "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n";
    for (name, lists, want) in [
        ("good", &*good, true),
        ("good and bad", &format!("{good}{not_one}"), false),
        ("bad", not_one, false),
        ("cut short", &good[..good.len() / 2], false),
        ("none in it", "no list", false),
    ] {
        assert_eq!(verifier(&one.auth_with(Require, lists)).is_ok(), want, "{name}");
    }
}

#[test]
fn the_end_of_the_first_list_is_known() {
    let one = Authority::new("one");
    let ends = |lists: &str| revocation_ends_s(&one.auth_with(Require, lists));
    assert_eq!(ends(&(one.revokes(&[], 2090) + &one.revokes(&[], 2030))), Some(1_893_456_000));
    assert_eq!((ends(""), ends("no list")), (None, None));
}

#[test]
fn a_certificate_that_came_to_be_revoked_meets_nothing_more() {
    let one = Authority::new("one");
    let shown = one.issue("ada");
    let client = |asks| Client::new(Some(asks), Some(&shown.0), false).unwrap();
    let (before, after) =
        (asks(&one.auth(Require)), asks(&one.auth_with(Require, &one.revokes(&[&shown], 2090))));
    let ada = client(&before);
    assert!(!ada.meets(&after) && ada.meets(&before));
    assert!(ada.verified_by(&after.auth).is_none() && ada.verified_by(&before.auth).is_some());
    assert!(Client::new(Some(&after), Some(&shown.0), true).is_none(), "a session that is resumed");
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
