//! The host lines of PN08, and that a request's host and an object's host name agree.

use std::borrow::Cow;

use proptest::prelude::*;

use super::{HostError, fold};

#[test]
fn every_spelling_of_a_host_has_one_form() {
    let cases = [
        ("plain", "shop.example.com", "shop.example.com"),
        ("PN08 upper case, dot, port", "A.EXAMPLE.com.:443", "a.example.com"),
        ("port", "a.com:8080", "a.com"),
        ("empty port", "a.com:", "a.com"),
        ("highest port", "a.com:65535", "a.com"),
        ("trailing dot", "a.com.", "a.com"),
        ("one label", "localhost", "localhost"),
        ("underscore", "my_svc.ns", "my_svc.ns"),
        ("punycode", "XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("IPv4", "192.0.2.1:80", "192.0.2.1"),
        ("IPv6", "[2001:DB8:0:0::1]:443", "[2001:db8::1]"),
        ("IPv6 short already", "[::1]", "[::1]"),
        ("IPv6 empty port", "[::1]:", "[::1]"),
    ];
    for (name, input, want) in cases {
        assert_eq!(fold(input).as_deref(), Ok(want), "{name}: {input}");
    }
}

#[test]
fn what_is_no_host_is_refused() {
    let long_label = "a".repeat(64);
    let long = format!("{}a", "abcdefg.".repeat(32));
    let cases = [
        ("empty", "", HostError::Empty),
        ("dot only", ".", HostError::Empty),
        ("port only", ":80", HostError::Empty),
        ("two dots at the end", "a.com..", HostError::BadCharacter),
        ("empty label", "a..com", HostError::BadCharacter),
        ("leading dot", ".a.com", HostError::BadCharacter),
        ("userinfo", "user@a.com", HostError::BadCharacter),
        ("userinfo with password", "user:pw@a.com", HostError::BadPort),
        ("comma", "a.com,b.com", HostError::BadCharacter),
        ("slash", "a.com/x", HostError::BadCharacter),
        ("blank", "a com", HostError::BadCharacter),
        ("percent", "a%2ecom", HostError::BadCharacter),
        ("IDN in unicode", "bücher.example", HostError::BadCharacter),
        ("wildcard", "*.a.com", HostError::BadCharacter),
        ("port too high", "a.com:65536", HostError::BadPort),
        ("port with sign", "a.com:+80", HostError::BadPort),
        ("port with letters", "a.com:80a", HostError::BadPort),
        ("two ports", "a.com:80:81", HostError::BadPort),
        ("bare IPv6", "2001:db8::1", HostError::BadPort),
        ("IPv6 with zone", "[fe80::1%25eth0]", HostError::BadAddress),
        ("open bracket", "[::1", HostError::BadAddress),
        ("text behind brackets", "[::1]x", HostError::BadPort),
        ("no address", "[a.com]", HostError::BadAddress),
        ("long label", &long_label, HostError::TooLong),
        ("long name", &long, HostError::TooLong),
    ];
    for (name, input, want) in cases {
        assert_eq!(fold(input), Err(want), "{name}: {input}");
    }
}

#[test]
fn a_folded_host_is_borrowed() {
    for host in ["a.com", "a.com:80", "a.com.", "[::1]:80"] {
        assert!(matches!(fold(host), Ok(Cow::Borrowed(_))), "{host}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_request_and_an_object_fold_a_name_alike(name in "[a-cA-C0-9._@-]{0,12}") {
        let object = ir::HostName::parse(&name).ok();
        let request = fold(&name).ok();
        prop_assert_eq!(request.as_deref(), object.as_ref().map(ir::HostName::as_str));
    }

    #[test]
    fn a_request_and_an_object_fold_an_address_alike(address in any::<std::net::Ipv6Addr>()) {
        let segments: Vec<String> = address.segments().iter().map(|part| format!("{part:04X}")).collect();
        let literal = format!("[{}]", segments.join(":"));
        let object = ir::HostName::parse(&literal).ok();
        let request = fold(&literal).ok();
        prop_assert!(request.is_some());
        prop_assert_eq!(request.as_deref(), object.as_ref().map(ir::HostName::as_str));
    }
}
