//! Fingerprints: which tuples share a bucket and which must not.

use proptest::prelude::*;

use super::*;

fn texts(parts: &[&[u8]]) -> u64 {
    let mut print = FingerprintSeed::new([1, 2]).start();
    for part in parts {
        print.text(part);
    }
    print.finish()
}

fn address(text: &str, v4: u8, v6: u8) -> u64 {
    let mut print = FingerprintSeed::new([1, 2]).start();
    print.address(text.parse().unwrap(), v4, v6);
    print.finish()
}

#[test]
fn the_border_between_parts_counts() {
    assert_ne!(texts(&[b"a", b"bc"]), texts(&[b"ab", b"c"]));
    assert_ne!(texts(&[b"abc"]), texts(&[b"abc", b""]));
    assert_ne!(texts(&[b"a", b"b"]), texts(&[b"b", b"a"]));
    // Nor can a value spell the border.
    assert_ne!(texts(&[b"a", b"b"]), texts(&[b"a\x01b"]));
}

#[test]
fn the_seed_counts_and_the_same_seed_repeats() {
    let of = |seed| {
        let mut print = FingerprintSeed::new(seed).start();
        print.text(b"x");
        print.finish()
    };
    assert_eq!(of([7, 8]), of([7, 8]));
    assert_ne!(of([7, 8]), of([8, 7]));
    assert_ne!(of([7, 8]), of([7, 9]));
}

#[test]
fn absent_empty_and_address_as_text_are_three_things() {
    let mut absent = FingerprintSeed::new([1, 2]).start();
    absent.absent();
    assert_ne!(absent.finish(), texts(&[b""]));
    assert_ne!(address("10.0.0.1", 32, 64), texts(&[&[10, 0, 0, 1]]));
    assert_ne!(address("10.0.0.1", 32, 64), texts(&[b"10.0.0.1"]));
}

#[test]
fn addresses_share_a_bucket_by_prefix() {
    let cases: &[(&str, &str, u8, u8, bool)] = &[
        ("10.0.0.1", "10.0.0.2", 32, 64, false),
        ("10.0.0.1", "10.0.0.2", 24, 64, true),
        ("10.0.0.1", "10.0.1.1", 24, 64, false),
        ("10.0.0.1", "200.0.0.1", 0, 64, true),
        ("10.0.0.1", "10.0.0.1", 200, 64, true),
        ("2001:db8::1", "2001:db8::ffff", 32, 64, true),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", 32, 64, false),
        ("2001:db8::1", "2001:db8::2", 32, 128, false),
        ("2001:db8::1", "fe80::1", 32, 0, true),
        ("::ffff:10.0.0.1", "10.0.0.1", 32, 64, true),
        ("0.0.0.0", "::", 0, 0, false),
    ];
    for &(a, b, v4, v6, same) in cases {
        assert_eq!(address(a, v4, v6) == address(b, v4, v6), same, "{a} {b} /{v4} /{v6}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn different_tuples_have_different_fingerprints(
        a in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..4),
        b in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..4),
    ) {
        let of = |parts: &[Vec<u8>]| texts(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert_eq!(of(&a) == of(&b), a == b);
    }
}

#[test]
fn rl03_all_addresses_of_a_network_are_one_key() {
    let first = address("2001:db8:0:1::", 32, 64);
    for number in 0..1u128 << 16 {
        // Over the low bits, and over all bits of the interface's half.
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & u128::from(u64::MAX);
        for half in [number, spread] {
            let one = std::net::Ipv6Addr::from_bits((0x2001_0db8_0000_0001 << 64) | half);
            assert_eq!(address(&one.to_string(), 32, 64), first, "{one}");
        }
    }
    assert_ne!(address("2001:db8:0:2::", 32, 64), first);
    assert_eq!(address("::ffff:10.0.0.1", 32, 64), address("10.0.0.1", 32, 64));
}

#[test]
fn rl05_odd_bytes_make_no_two_keys_one() {
    let long = [b'k'; 4096];
    let mut longer = long.to_vec();
    longer.push(b'k');
    let keys: [&[&[u8]]; 14] = [
        &[b"a:b", b"c"],
        &[b"a", b"b:c"],
        &[b"a:b:c"],
        &[b"a*", b""],
        &[b"a", b"*"],
        &[b"a*"],
        &[b"a\r\nSET x 1"],
        &[b"a", b"\r\nSET x 1"],
        &[&long],
        &[&longer],
        &[&long, b""],
        &[b"\xff\xfe"],
        &["\u{fffd}\u{fffd}".as_bytes()],
        &[b"\xff", b"\xfe"],
    ];
    for (index, left) in keys.iter().enumerate() {
        for right in keys.iter().skip(index + 1) {
            assert_ne!(texts(left), texts(right), "{left:?} and {right:?}");
        }
        assert_eq!(texts(left), texts(left));
    }
}
