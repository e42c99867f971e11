//! Tests of the flag parsers.

use std::time::Duration;

use super::*;

#[test]
fn durations_are_read_with_every_unit_and_refused_with_a_reason() {
    let ms = |n: u64| Ok(Duration::from_millis(n));
    let cases: &[(&str, Result<Duration, ValueError>)] = &[
        ("30s", ms(30_000)),
        ("500ms", ms(500)),
        ("2m", ms(120_000)),
        ("1h30m", ms(5_400_000)),
        ("1h2m3s4ms", ms(3_723_004)),
        ("0", ms(0)),
        ("0s", ms(0)),
        ("", Err(ValueError::Empty)),
        ("30", Err(ValueError::NoUnit(DURATION_UNITS))),
        ("s", Err(ValueError::NoNumber)),
        ("-5s", Err(ValueError::NoNumber)),
        ("1.5s", Err(ValueError::UnknownUnit(".".to_owned(), DURATION_UNITS))),
        ("5d", Err(ValueError::UnknownUnit("d".to_owned(), DURATION_UNITS))),
        ("5 s", Err(ValueError::UnknownUnit(" s".to_owned(), DURATION_UNITS))),
        ("5s1m", Err(ValueError::UnitOrder)),
        ("5s5s", Err(ValueError::UnitOrder)),
        ("99999999999999999999s", Err(ValueError::TooLarge)),
        ("18446744073709551615h", Err(ValueError::TooLarge)),
    ];
    for (input, want) in cases {
        assert_eq!(&parse_duration(input), want, "{input:?}");
    }
}

#[test]
fn a_duration_outside_its_bounds_names_both_bounds() {
    let parse = duration(Duration::from_secs(1)..=Duration::from_secs(60));
    assert_eq!(parse("1s"), Ok(Duration::from_secs(1)));
    assert_eq!(parse("1m"), Ok(Duration::from_secs(60)));
    for input in ["999ms", "61s", "0"] {
        let error = parse(input).unwrap_err().to_string();
        assert_eq!(error, "must be between 1s and 60s", "{input}");
    }
}

#[test]
fn sizes_are_read_with_every_unit_and_refused_with_a_reason() {
    let cases: &[(&str, Result<u64, ValueError>)] = &[
        ("4096", Ok(4096)),
        ("1Ki", Ok(1024)),
        ("1Mi", Ok(1 << 20)),
        ("2Gi", Ok(2 << 30)),
        ("3k", Ok(3000)),
        ("3M", Ok(3_000_000)),
        ("3G", Ok(3_000_000_000)),
        ("", Err(ValueError::Empty)),
        ("Mi", Err(ValueError::NoNumber)),
        ("1MB", Err(ValueError::UnknownUnit("MB".to_owned(), SIZE_UNITS))),
        ("1 Mi", Err(ValueError::UnknownUnit(" Mi".to_owned(), SIZE_UNITS))),
        ("18446744073709551615Ki", Err(ValueError::TooLarge)),
    ];
    for (input, want) in cases {
        assert_eq!(&parse_size(input), want, "{input:?}");
    }
    assert_eq!(size(4096..=8192)("1").unwrap_err().to_string(), "must be between 4096 bytes and 8192 bytes");
}

#[test]
fn addresses_to_listen_on_are_read() {
    let cases: &[(&str, Option<&str>)] = &[
        ("127.0.0.1:8080", Some("127.0.0.1:8080")),
        ("[::]:8080", Some("[::]:8080")),
        (":8080", Some("[::]:8080")),
        ("localhost:8080", None),
        ("8080", None),
        ("127.0.0.1", None),
        ("127.0.0.1:70000", None),
        ("", None),
    ];
    for (input, want) in cases {
        let got = parse_listen(input).ok().map(|address| address.to_string());
        assert_eq!(got.as_deref(), *want, "{input:?}");
    }
}

#[test]
fn networks_are_cut_to_their_prefix_and_bare_addresses_are_networks_of_one() {
    let cases: &[(&str, Option<&str>)] = &[
        ("10.1.2.3/8", Some("10.0.0.0/8")),
        ("192.0.2.1", Some("192.0.2.1/32")),
        ("2001:db8::1", Some("2001:db8::1/128")),
        ("fd00::/8", Some("fd00::/8")),
        (" 10.0.0.0/8", Some("10.0.0.0/8")),
        ("10.0.0.0/33", None),
        ("example.com", None),
        ("", None),
    ];
    for (input, want) in cases {
        let got = parse_network(input).ok().map(|net| net.to_string());
        assert_eq!(got.as_deref(), *want, "{input:?}");
    }
}

#[test]
fn the_access_log_goes_nowhere_to_standard_output_or_into_a_file() {
    assert_eq!(parse_access_log("off"), Ok(AccessLogTarget::Off));
    assert_eq!(parse_access_log("stdout"), Ok(AccessLogTarget::Stdout));
    assert_eq!(parse_access_log("-"), Ok(AccessLogTarget::Stdout));
    assert_eq!(parse_access_log("/var/log/a"), Ok(AccessLogTarget::File("/var/log/a".into())));
    assert_eq!(parse_access_log(""), Err(ValueError::Empty));
}

#[test]
fn namespaces_services_and_statuses_are_read_or_refused() {
    assert_eq!(parse_namespace(" shop "), Ok("shop".to_owned()));
    for input in ["Shop", "-a", "a-", "a.b", "a/b", &"a".repeat(64)] {
        assert_eq!(parse_namespace(input), Err(ValueError::NotANamespace), "{input}");
    }
    assert_eq!(parse_service("ns/gw"), Ok(("ns".to_owned(), "gw".to_owned())));
    for input in ["gw", "ns/", "/gw", "ns/gw/x", "ns/Gw"] {
        assert_eq!(parse_service(input), Err(ValueError::NotAService), "{input}");
    }
    assert_eq!(parse_secret("ns/wild.example.com"), Ok(("ns".to_owned(), "wild.example.com".to_owned())));
    for input in ["tls", "ns/", "/tls", "ns/tls/x", "ns/Tls", "ns/a..b", "n.s/tls"] {
        assert_eq!(parse_secret(input), Err(ValueError::NotASecret), "{input}");
    }
    assert_eq!(parse_maybe_listen("off"), Ok(MaybeListen(None)));
    assert_eq!(parse_maybe_listen("127.0.0.1:443"), Ok(MaybeListen("127.0.0.1:443".parse().ok())));
    assert_eq!(parse_maybe_listen("of"), Err(ValueError::NotAnAddress));
    assert_eq!(parse_statuses("404"), Ok(404..=404));
    assert_eq!(parse_statuses("200-399"), Ok(200..=399));
    for input in ["2xx", "399-200", "99", "600", "200-", "-"] {
        assert_eq!(parse_statuses(input), Err(ValueError::NotStatuses), "{input}");
    }
    for parse in [
        |text| parse_namespace(text).err(),
        |text| parse_service(text).err(),
        |text| parse_secret(text).err(),
        |text| parse_maybe_listen(text).err(),
        |text| parse_statuses(text).err(),
    ] {
        assert_eq!(parse(""), Some(ValueError::Empty));
    }
}
