//! Keys that must not be loaded, and which keys an algorithm may use.

use ir::{Algorithm, Jwk, JwkMaterial};
use serde_json::json;

use super::support::{ALL, Gate, NOW, claims_with, good_claims, jwk, material, provider_with, secret, token};
use crate::filter::auth::key::{KeyRefusal, VerifyingKey};
use crate::filter::auth::refusal::AuthReason;
use crate::filter::auth::self_test;

fn refusal(material: JwkMaterial) -> Option<KeyRefusal> {
    VerifyingKey::new(&jwk(None, material), &ALL).err()
}

#[test]
fn the_self_test_passes() {
    assert_eq!(self_test(), Ok(()));
}

#[test]
fn every_algorithm_verifies_with_its_own_key_and_no_other() {
    let kinds = [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
    for signer in ALL {
        let good = token(signer, &good_claims());
        for kind in kinds {
            let mut gate = Gate::of(provider_with(&ALL, vec![jwk(None, material(kind))]));
            let fits = material(kind) == material(signer);
            let want = (!fits).then_some(AuthReason::AlgorithmNotAllowed);
            assert_eq!(gate.reason(&good), want, "{signer:?} with the key of {kind:?}");
        }
        let mut all = Gate::of(provider_with(&ALL, kinds.map(|kind| jwk(None, material(kind))).to_vec()));
        assert_eq!(all.reason(&good), None, "{signer:?} among all keys");
        let others: Vec<Algorithm> = ALL.into_iter().filter(|other| *other != signer).collect();
        let mut others = Gate::of(provider_with(&others, vec![jwk(None, material(signer))]));
        assert_eq!(others.reason(&good), Some(AuthReason::AlgorithmNotAllowed), "{signer:?} not allowed");
    }
}

#[test]
fn weak_and_broken_keys_are_refused_at_load() {
    let JwkMaterial::Rsa { n, e } = material(Algorithm::RS256) else { panic!("an RSA key") };
    let rsa = |n: &[u8], e: &[u8]| refusal(JwkMaterial::Rsa { n: n.to_vec(), e: e.to_vec() });
    assert_eq!(rsa(&n, &e), None);
    assert_eq!(rsa(&[&[0, 0], n.as_slice()].concat(), &[&[0], e.as_slice()].concat()), None, "leading zeros");
    assert_eq!(
        rsa(&[&[0; 128], &n[..128]].concat(), &e),
        Some(KeyRefusal::RsaModulusSize),
        "padded 1,024 bits"
    );
    assert_eq!(rsa(&n[1..], &e), Some(KeyRefusal::RsaModulusSize), "2,040 bits");
    assert_eq!(rsa(&[], &e), Some(KeyRefusal::RsaModulusSize));
    assert_eq!(rsa(&[0xff; 1025], &e), Some(KeyRefusal::RsaModulusSize));
    for exponent in [&[][..], &[0], &[1], &[0, 1], &[2], &[1, 0, 0]] {
        assert_eq!(rsa(&n, exponent), Some(KeyRefusal::RsaExponent), "{exponent:?}");
    }
    assert_eq!(rsa(&n, &[0xff; 5]), Some(KeyRefusal::RsaExponent));
    assert_eq!(rsa(&n, &[3]), None);
    let mut even = n;
    even[255] &= 0xfe;
    assert_eq!(rsa(&even, &e), Some(KeyRefusal::RsaInvalid));

    assert_eq!(refusal(secret(b"")), Some(KeyRefusal::EmptySecret));
    assert_eq!(refusal(secret(b"x")), None);
    assert_eq!(
        VerifyingKey::new(&jwk(None, secret(b"x")), &[Algorithm::RS256]).err(),
        Some(KeyRefusal::NoFittingAlgorithm)
    );
    let pinned = Jwk { kid: None, algorithm: Some(Algorithm::RS256), material: secret(b"x") };
    assert_eq!(VerifyingKey::new(&pinned, &ALL).err(), Some(KeyRefusal::NoFittingAlgorithm));
}

#[test]
fn points_off_the_curve_are_refused_at_load() {
    let JwkMaterial::P256 { x, y } = material(Algorithm::ES256) else { panic!("a P-256 key") };
    let p256 = |x: &[u8], y: &[u8]| refusal(JwkMaterial::P256 { x: x.to_vec(), y: y.to_vec() });
    let mut off = y.clone();
    off[31] ^= 1;
    assert_eq!(p256(&x, &y), None);
    for (name, x, y) in [
        ("off the curve", x.as_slice(), off.as_slice()),
        ("swapped", &y, &x),
        ("zero", &[0; 32], &[0; 32]),
        ("x too large", &[0xff; 32], &y),
        ("x cut", &x[1..], &y),
        ("empty", &[], &[]),
        ("one long and one short", &[x.as_slice(), &y[..1]].concat(), &y[1..]),
    ] {
        assert_eq!(p256(x, y), Some(KeyRefusal::NotOnCurve), "{name}");
    }
    let JwkMaterial::P384 { x, mut y } = material(Algorithm::ES384) else { panic!("a P-384 key") };
    assert_eq!(refusal(JwkMaterial::P384 { x: x.clone(), y: y.clone() }), None);
    y[0] ^= 0x10;
    assert_eq!(refusal(JwkMaterial::P384 { x, y }), Some(KeyRefusal::NotOnCurve));
}

#[test]
fn every_encoding_of_a_small_order_point_is_refused_at_load() {
    let little = |low: u8, rest: u8, high: u8| {
        let mut y = [rest; 32];
        (y[0], y[31]) = (low, high);
        y
    };
    let order_8 = [
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    ]
    .map(|hex| {
        let mut y = [0; 32];
        for (index, byte) in y.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).expect("hexadecimal");
        }
        y
    });
    let ys = [
        little(0, 0, 0),
        little(1, 0, 0),
        little(0xec, 0xff, 0x7f),
        little(0xed, 0xff, 0x7f),
        little(0xee, 0xff, 0x7f),
        order_8[0],
        order_8[1],
    ];
    for y in ys {
        for sign in [0, 0x80] {
            let mut x = y;
            x[31] |= sign;
            let got = refusal(JwkMaterial::Ed25519 { x: x.to_vec() });
            assert_eq!(got, Some(KeyRefusal::Ed25519SmallOrder), "{x:02x?}");
        }
    }
    assert_eq!(refusal(material(Algorithm::EdDSA)), None);
    assert_eq!(refusal(JwkMaterial::Ed25519 { x: vec![7; 31] }), Some(KeyRefusal::Ed25519Length));
    assert_eq!(refusal(JwkMaterial::Ed25519 { x: little(2, 0, 0).to_vec() }), None);
}

#[test]
fn a_bad_key_does_not_spoil_its_set_and_an_unusable_set_stays_shut() {
    let off_curve = JwkMaterial::P256 { x: vec![1; 32], y: vec![1; 32] };
    let keys = vec![jwk(Some("bad"), off_curve.clone()), jwk(Some("good"), material(Algorithm::ES256))];
    let good = token(Algorithm::ES256, &good_claims());
    let mut gate = Gate::of(provider_with(&[Algorithm::ES256], keys));
    assert_eq!(gate.reason(&good), None);
    for keys in [vec![], vec![jwk(None, off_curve)]] {
        let mut gate = Gate::of(provider_with(&[Algorithm::ES256], keys));
        assert_eq!(gate.reason(&good), Some(AuthReason::KeyUnknown));
    }
}

#[test]
fn one_of_several_providers_is_enough_and_each_keeps_its_own_rules() {
    let mut first = provider_with(&[Algorithm::HS256], vec![jwk(None, secret(b"of the first"))]);
    first.issuer = Some("https://first/".to_owned());
    let mut second = provider_with(&[Algorithm::ES256], vec![jwk(None, material(Algorithm::ES256))]);
    second.name = "second".into();
    let mut gate = Gate::new(&[super::support::auth(vec![first, second])]);
    let identity = gate.ask_bearer(&token(Algorithm::ES256, &good_claims())).expect("of the second");
    assert_eq!(identity.claim(Some("second"), "sub").as_deref(), Some("alice"));
    assert_eq!(identity.claim(Some("corp"), "sub"), None);
    assert_eq!(identity.claim(None, "sub").as_deref(), Some("alice"));
    // The second's key does not make the first's issuer, and the reason is that of who signed.
    let foreign = token(Algorithm::ES256, &claims_with(json!({"iss": "https://first/"})));
    assert_eq!(gate.reason(&foreign), Some(AuthReason::IssuerMismatch));
    let expired = token(Algorithm::ES256, &claims_with(json!({"exp": NOW - 100})));
    assert_eq!(gate.reason(&expired), Some(AuthReason::TokenExpired));
}
