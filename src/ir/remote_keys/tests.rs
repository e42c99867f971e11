//! Which URLs and addresses may be asked for keys.

use super::*;

#[test]
fn jw16_addresses_are_public_private_or_never_asked_in_every_form_of_theirs() {
    use AddressRange::{Never, Private, Public};
    let cases = [
        ("192.0.3.1", Public),
        ("8.8.8.8", Public),
        ("100.63.0.1", Public),
        ("2606:4700::1", Public),
        ("127.0.0.1", Private),
        ("127.255.255.254", Private),
        ("10.96.0.1", Private),
        ("172.16.0.1", Private),
        ("172.32.0.1", Public),
        ("192.168.1.1", Private),
        ("100.64.0.1", Private),
        ("198.19.0.1", Private),
        ("192.0.0.1", Private),
        ("192.0.2.1", Private),
        ("::1", Private),
        ("fd00::1", Private),
        ("fec0::1", Private),
        ("2001:db8::1", Private),
        ("169.254.169.254", Never),
        ("169.254.0.1", Never),
        ("100.100.100.200", Never),
        ("168.63.129.16", Never),
        ("0.0.0.0", Never),
        ("0.1.2.3", Never),
        ("224.0.0.1", Never),
        ("255.255.255.255", Never),
        ("240.0.0.1", Never),
        ("::", Never),
        ("fe80::1", Never),
        ("febf::1", Never),
        ("ff02::1", Never),
        ("fd00:ec2::254", Never),
        ("::ffff:169.254.169.254", Never),
        ("::ffff:127.0.0.1", Private),
        ("::ffff:8.8.8.8", Public),
        ("::169.254.169.254", Never),
        ("64:ff9b::a9fe:a9fe", Never),
        ("64:ff9b:1::a9fe:a9fe", Never),
        ("2002:a9fe:a9fe::1", Never),
        ("2002:7f00:1::1", Private),
    ];
    for (address, want) in cases {
        assert_eq!(AddressRange::of(address.parse().expect(address)), want, "{address}");
    }
}

#[test]
fn urls_are_read_without_credentials_and_print_no_query() {
    let uri = KeysUri::parse("HTTPS://Id.Example.com/realms/shop/jwks?client=canary").expect("a URL");
    assert_eq!((uri.scheme(), uri.host(), uri.port()), (Scheme::Https, "id.example.com", 443));
    assert_eq!(uri.target(), "/realms/shop/jwks?client=canary");
    assert_eq!(uri.to_string(), "https://id.example.com/realms/shop/jwks?[redacted]");
    assert!(!format!("{uri:?}").contains("canary"));
    let cases = [
        ("https://id.example.com", "https://id.example.com/"),
        ("https://id.example.com:443/a", "https://id.example.com/a"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ("http://127.0.0.1/a", "http://127.0.0.1/a"),
    ];
    for (text, want) in cases {
        assert_eq!(KeysUri::parse(text).expect(text).to_string(), want, "{text}");
    }
    let cases = [
        ("file:///etc/passwd", KeysUriError::Scheme),
        ("gopher://x/", KeysUriError::Scheme),
        ("/jwks", KeysUriError::Malformed),
        ("id.example.com", KeysUriError::Malformed),
        ("https:///jwks", KeysUriError::Malformed),
        ("https://a b/", KeysUriError::Malformed),
        ("https://id.example.com:0/", KeysUriError::Malformed),
        ("https://id.example.com:99999/", KeysUriError::Malformed),
        ("https://user:canary@id.example.com/", KeysUriError::Credentials),
        ("", KeysUriError::Malformed),
    ];
    for (text, want) in cases {
        assert_eq!(KeysUri::parse(text), Err(want), "{text}");
    }
}

#[test]
fn redirects_are_resolved_and_other_servers_told_from_this_one() {
    let base = KeysUri::parse("https://id.example.com/a/b?c").expect("a URL");
    let cases = [
        ("/x", "https://id.example.com/x", true),
        ("x", "https://id.example.com/a/x", true),
        ("?x", "https://id.example.com/a/b?[redacted]", true),
        ("/x#y", "https://id.example.com/x", true),
        ("/x?to=https://y", "https://id.example.com/x?[redacted]", true),
        ("https://id.example.com:443/x", "https://id.example.com/x", true),
        ("https://ID.example.com/x", "https://id.example.com/x", true),
        ("//id.example.com/x", "https://id.example.com/x", true),
        ("http://id.example.com/x", "http://id.example.com/x", false),
        ("https://id.example.com:8443/x", "https://id.example.com:8443/x", false),
        ("//evil.example.com/x", "https://evil.example.com/x", false),
        ("https://id.example.com.evil/x", "https://id.example.com.evil/x", false),
    ];
    for (reference, want, same) in cases {
        let got = base.join(reference).expect(reference);
        assert_eq!((got.to_string().as_str(), got.is_same_server(&base)), (want, same), "{reference}");
    }
    assert_eq!(base.join("file:///x"), Err(KeysUriError::Scheme));
    assert_eq!(base.join("https://u:p@id.example.com/"), Err(KeysUriError::Credentials));
    assert_eq!(base.join("a b"), Err(KeysUriError::Malformed));
}
