//! The subject of a certificate as text in visible ASCII (RFC 4514). Verifies nothing.

use super::validity::{INTEGER, Reader, SEQUENCE, VERSION};

const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const SET: u8 = 0x31;

/// The names of RFC 4514 §3 by their object identifiers (X.690 §8.19).
const NAMES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// The last part of the name first, as RFC 4514 has it. `None`: the bytes are no certificate as far as it was read.
pub(super) fn subject(certificate_der: &[u8]) -> Option<String> {
    let mut outer = Reader(certificate_der);
    let mut certificate = Reader(outer.expect(SEQUENCE)?);
    let mut signed = Reader(certificate.expect(SEQUENCE)?);
    if signed.0.first() == Some(&VERSION) {
        signed.expect(VERSION)?;
    }
    signed.expect(INTEGER)?;
    // Algorithm, issuer and validity stand before it (RFC 5280 §4.1).
    for _ in 0..3 {
        signed.expect(SEQUENCE)?;
    }
    name(signed.expect(SEQUENCE)?)
}

fn name(der: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut name = Reader(der);
    while !name.0.is_empty() {
        let mut set = Reader(name.expect(SET)?);
        let mut part = String::new();
        while !set.0.is_empty() {
            if !part.is_empty() {
                part.push('+');
            }
            attribute(set.expect(SEQUENCE)?, &mut part)?;
        }
        parts.push(part);
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(der: &[u8], out: &mut String) -> Option<()> {
    let mut attribute = Reader(der);
    let identifier = attribute.expect(OBJECT_IDENTIFIER)?;
    let encoded = attribute.0;
    let (tag, content) = attribute.next()?;
    let text = match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => std::str::from_utf8(content).ok(),
        _ => None,
    };
    let known = NAMES.iter().find(|(known, _)| *known == identifier);
    match known {
        Some((_, name)) => out.push_str(name),
        None => dotted(identifier, out)?,
    }
    out.push('=');
    match (known, text) {
        (Some(_), Some(text)) => escape(text, out),
        // RFC 4514 §2.4: the value whole, as it is encoded.
        (None, _) | (_, None) => {
            out.push('#');
            encoded.iter().for_each(|byte| hex(*byte, out));
        }
    }
    Some(())
}

/// RFC 4514 §2.4. All that is not visible ASCII is written as pairs of digits, so that it can stand in a header.
fn escape(text: &str, out: &mut String) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            b'#' if at == 0 => out.push_str("\\#"),
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' => out.push(char::from(byte)),
            other => {
                out.push('\\');
                hex(other, out);
            }
        }
    }
}

fn hex(byte: u8, out: &mut String) {
    out.push_str(&format!("{byte:02x}"));
}

/// `1.2.840.113549.1.9.1`.
fn dotted(identifier: &[u8], out: &mut String) -> Option<()> {
    let mut number: u64 = 0;
    let mut is_first = true;
    for byte in identifier {
        number = number.checked_mul(128)? + u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if is_first {
            let root = (number / 40).min(2);
            out.push_str(&format!("{root}.{}", number - root * 40));
        } else {
            out.push_str(&format!(".{number}"));
        }
        (number, is_first) = (0, false);
    }
    // The last byte ends a number, and there is one.
    identifier.last().filter(|last| **last & 0x80 == 0).map(|_| ())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn subject_of(parts: &[(DnType, DnValue)]) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        subject(certificate.der()).unwrap()
    }

    fn text(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn a_subject_is_written_as_rfc_4514_has_it() {
        let serial = DnType::CustomDnType(vec![2, 5, 4, 5]);
        let mail = DnType::CustomDnType(vec![1, 2, 840, 113549, 1, 9, 1]);
        for (parts, want) in [
            (vec![], ""),
            (vec![(DnType::CommonName, text("ada"))], "CN=ada"),
            (
                vec![
                    (DnType::CountryName, text("IN")),
                    (DnType::OrganizationName, text("Shop, Ltd.")),
                    (DnType::CommonName, text("ada")),
                ],
                r"CN=ada,O=Shop\, Ltd.,C=IN",
            ),
            (vec![(DnType::CommonName, text("a+b\"c\\d<e>f;g=h"))], r#"CN=a\+b\"c\\d\<e\>f\;g=h"#),
            (vec![(DnType::CommonName, text(" #a "))], r"CN=\ #a\ "),
            (vec![(DnType::CommonName, text("#a"))], r"CN=\#a"),
            (vec![(DnType::CommonName, text("x\0\r\nX-Admin: 1"))], r"CN=x\00\0d\0aX-Admin: 1"),
            (vec![(DnType::CommonName, text("é"))], r"CN=\c3\a9"),
            (vec![(serial, text("7"))], "2.5.4.5=#0c0137"),
            (vec![(mail, text("a"))], "1.2.840.113549.1.9.1=#0c0161"),
            (vec![(DnType::CommonName, DnValue::BmpString("a".try_into().unwrap()))], "CN=#1e020061"),
        ] {
            assert_eq!(subject_of(&parts), want);
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_subject() {
        let certificate = CertificateParams::new(Vec::new()).unwrap();
        let certificate = certificate.self_signed(&KeyPair::generate().unwrap()).unwrap();
        for end in 0..certificate.der().len() {
            assert_eq!(subject(&certificate.der()[..end]), None, "{end}");
        }
        assert_eq!(name(&[0x31, 4, 0x30, 2, 6, 0]), None, "an attribute without a value");
        assert_eq!(name(&[0x31, 7, 0x30, 5, 6, 1, 0x80, 5, 0]), None, "an identifier without an end");
    }
}
