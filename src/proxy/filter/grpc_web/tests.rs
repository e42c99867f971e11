//! The codec: what is taken for gRPC-Web, base64 over any borders, and trailers as a part of the body.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
}

#[test]
fn a_request_is_grpc_web_by_its_content_type_and_its_answer_has_the_form_that_it_accepts() {
    let (binary, text) = (Some((false, false)), Some((true, true)));
    for (content_type, accept, want) in [
        ("application/grpc-web", "", binary),
        ("application/grpc-web+proto", "*/*", binary),
        ("Application/gRPC-Web;charset=utf-8", "", binary),
        ("application/grpc-web-text", "", text),
        ("application/grpc-web-text+proto", "application/grpc-web-text", text),
        ("application/grpc-web-text", "application/grpc-web+proto", Some((true, false))),
        ("application/grpc-web+proto", "application/grpc-web-text, */*", Some((false, true))),
        ("application/grpc-web-texts", "", None),
        ("application/grpc-webs", "", None),
        ("application/grpc", "", None),
        ("application/grpc+proto", "application/grpc-web", None),
        ("application/json", "", None),
    ] {
        let mut headers = fields(&[("content-type", content_type)]);
        if !accept.is_empty() {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        let got = GrpcWeb::of(&Method::POST, &headers).map(|web| (web.is_text, web.wants_text));
        assert_eq!(got, want, "{content_type} {accept}");
        assert_eq!(GrpcWeb::of(&Method::GET, &headers), None, "{content_type}");
    }
    assert_eq!(GrpcWeb::of(&Method::POST, &HeaderMap::new()), None);
}

#[test]
fn trailers_are_one_part_with_a_length() {
    let mut trailers = fields(&[("grpc-status", "0"), ("x-twice", "1")]);
    trailers.append("x-twice", HeaderValue::from_static("2"));
    assert_eq!(
        &*trailers_part(&trailers),
        b"\x80\0\0\0\x28grpc-status: 0\r\nx-twice: 1\r\nx-twice: 2\r\n".as_slice()
    );
    assert_eq!(&*trailers_part(&HeaderMap::new()), b"\x80\0\0\0\0");
}

#[test]
fn an_answer_of_grpc_becomes_one_of_grpc_web_and_another_stays() {
    for (wants_text, content_type, want_type, want_body) in [
        (false, "application/grpc", "application/grpc-web", "frame"),
        (false, "application/grpc+proto", "application/grpc-web+proto", "frame"),
        (true, "application/grpc+proto", "application/grpc-web-text+proto", "ZnJhbWU="),
        (true, "text/plain", "text/plain", "frame"),
        (false, "application/grpc-web", "application/grpc-web", "frame"),
    ] {
        let mut response = Response::new(Payload::Full("frame".into()));
        *response.headers_mut() = fields(&[("content-type", content_type), ("trailer", "grpc-status")]);
        GrpcWeb { is_text: false, wants_text }.end(&mut response);
        assert_eq!(response.headers()["content-type"], want_type, "{content_type}");
        let is_ours = content_type != want_type;
        assert_eq!(response.headers().contains_key("trailer"), !is_ours, "{content_type}");
        let Payload::Full(body) = response.body() else { panic!("{response:?}") };
        assert_eq!(body, want_body, "{content_type}");
    }
}

/// Reads the text in parts of these lengths, and the rest in one.
fn read_in_parts(text: &[u8], lengths: &[usize]) -> Option<Vec<u8>> {
    let (mut reader, mut bytes, mut rest) = (Base64Reader::default(), Vec::new(), text);
    for length in lengths {
        let (part, next) = rest.split_at((*length).min(rest.len()));
        bytes.extend(reader.read(part)?);
        rest = next;
    }
    bytes.extend(reader.read(rest)?);
    reader.is_whole().then_some(bytes)
}

#[test]
fn base64_may_be_padded_wherever_a_client_flushed_and_must_be_whole() {
    for (text, want) in [
        ("", Some("")),
        ("YQ==", Some("a")),
        ("YQ==YWI=YWJj", Some("aababc")),
        ("YWJjYQ==YWJjZA==", Some("abcaabcd")),
        ("YQ", None),
        ("YQ=", None),
        ("YQ==Y", None),
        ("=", None),
        ("====", None),
        ("YQ=a", None),
        ("Y=Q=", None),
        ("YR==", None),
        ("YW\nJj", None),
        ("YW-_", None),
    ] {
        for cut in 0..=text.len() {
            let got = read_in_parts(text.as_bytes(), &[cut]);
            assert_eq!(got.as_deref(), want.map(str::as_bytes), "{text:?} cut at {cut}");
        }
    }
}

proptest! {
    #[test]
    fn base64_is_read_over_any_borders(
        flushes in vec(vec(any::<u8>(), 0..40), 0..6),
        lengths in vec(0_usize..9, 0..40),
    ) {
        let text: String = flushes.iter().map(|bytes| STANDARD.encode(bytes)).collect();
        prop_assert_eq!(read_in_parts(text.as_bytes(), &lengths), Some(flushes.concat()));
    }

    #[test]
    fn whatever_is_read_is_the_same_in_parts_as_in_one(
        text in "[A-C/+=-]{0,40}",
        lengths in vec(0_usize..7, 0..12),
    ) {
        prop_assert_eq!(read_in_parts(text.as_bytes(), &lengths), read_in_parts(text.as_bytes(), &[]));
    }

    #[test]
    fn what_is_written_in_parts_is_read_as_one(parts in vec(vec(any::<u8>(), 0..50), 0..8)) {
        let web = GrpcWeb { is_text: true, wants_text: true };
        let written: Vec<u8> = parts.iter().flat_map(|part| web.written(part.clone().into())).collect();
        prop_assert_eq!(read_in_parts(&written, &[]), Some(parts.concat()));
    }
}
