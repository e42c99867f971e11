//! Authorities, whose certificates are believed: the entry of a ConfigMap or Secret that holds them as PEM (RFC 7468).
//! Looks no further into a certificate or a revocation list than that it is one whole DER value, and quotes no byte of any.

use std::sync::Arc;

use api::{CaKind, CaRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ir::{Kind, ObjectRef};

use crate::reader::Reader;
use crate::report::{Fault, Field, Lines, Refused};
use crate::value;

/// As much as a ConfigMap or Secret of a cluster can hold.
const PEM_BYTES_MAX: usize = 1 << 20;
const REMEDY: &str = "store the certificates of the authorities as PEM (RFC 7468)";
const CRL_REMEDY: &str = "store a current revocation list of each authority as PEM (RFC 7468: X509 CRL), or take the \
                          entry out";

/// What a PEM is to hold, and what is said where it does not.
struct Held {
    begin: &'static str,
    end: &'static str,
    damaged: &'static str,
    cut_short: &'static str,
    none: &'static str,
}

static CERTIFICATES: Held = Held {
    begin: "-----BEGIN CERTIFICATE-----",
    end: "-----END CERTIFICATE-----",
    damaged: "holds a certificate that is damaged",
    cut_short: "holds a certificate that is cut short",
    none: "holds no certificate as PEM",
};

static REVOCATION_LISTS: Held = Held {
    begin: "-----BEGIN X509 CRL-----",
    end: "-----END X509 CRL-----",
    damaged: "holds a revocation list that is damaged",
    cut_short: "holds a revocation list that is cut short",
    none: "holds no revocation list as PEM",
};

/// Authorities and where they are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authorities {
    pub(crate) source: ObjectRef,
    pub(crate) pem: Vec<u8>,
}

/// The object that a reference names, in this namespace.
pub(crate) fn source(reference: &CaRef, namespace: &Arc<str>) -> ObjectRef {
    let kind = match reference.kind {
        CaKind::ConfigMap => Kind::ConfigMap,
        CaKind::Secret => Kind::Secret,
    };
    ObjectRef::new(kind, Arc::clone(namespace), reference.name.as_str())
}

/// `configmap/NAME` or `secret/NAME`, as annotations have it.
pub(crate) fn written(text: &str) -> Option<CaRef> {
    let (kind, name) = text.split_once('/')?;
    let kind = match kind {
        "configmap" => CaKind::ConfigMap,
        "secret" => CaKind::Secret,
        _ => return None,
    };
    let sound = !name.is_empty() && !name.contains('/');
    sound.then(|| CaRef { kind, name: name.to_owned(), key: api::CA_KEY.to_owned() })
}

/// Reads the authorities. `name` and `key` are where the object says them; `so` is what follows where there are none.
pub(crate) fn authorities(
    reference: &CaRef,
    (name, key): (Field<'_>, Field<'_>),
    so: &str,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Authorities, Refused> {
    let source = source(reference, &lines.object().namespace);
    let ObjectRef { kind, namespace, name: object } = &source;
    let Some(entry) = entry(reference, &reference.key, namespace, reader) else {
        if let Some(reason) = reader.refusal(namespace, object).filter(|_| *kind == Kind::Secret) {
            let message = format!("the Secret '{object}' cannot be used ({reason}); {so}");
            return Err(lines.fault(Fault::InvalidReference, name, message, "correct the Secret"));
        }
        let message = format!("there is no {kind} '{namespace}/{object}'; {so}");
        let remedy = format!("create the {kind} or correct the name");
        return Err(lines.fault(Fault::CertificateNotFound, name, message, &remedy));
    };
    let Some(pem) = entry else {
        let message = format!("the {kind} '{object}' has no entry '{}'; {so}", reference.key);
        let remedy = format!("{REMEDY}, or name another entry");
        return Err(lines.fault(Fault::InvalidReference, key, message, &remedy));
    };
    if let Err(reason) = check(pem, &CERTIFICATES) {
        let message = format!("the entry '{}' of the {kind} '{object}' {reason}; {so}", reference.key);
        return Err(lines.fault(Fault::InvalidReference, key, message, REMEDY));
    }
    Ok(Authorities { pem: pem.to_vec(), source })
}

/// Reads the revocation lists that stand beside authorities. An entry that is there and empty is no list: it may be what is
/// left of one.
pub(crate) fn revocation_lists(
    reference: &CaRef,
    field: Field<'_>,
    so: &str,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Vec<u8>, Refused> {
    let ObjectRef { kind, namespace, name: object } = &source(reference, &lines.object().namespace);
    let pem = entry(reference, api::CA_CRL_KEY, namespace, reader).flatten();
    let Some(pem) = pem else { return Ok(Vec::new()) };
    if let Err(reason) = check(pem, &REVOCATION_LISTS) {
        let message = format!("the entry '{}' of the {kind} '{object}' {reason}; {so}", api::CA_CRL_KEY);
        return Err(lines.fault(Fault::InvalidReference, field, message, CRL_REMEDY));
    }
    Ok(pem.to_vec())
}

/// An entry of the object that holds authorities. The outer `None`: there is no such object.
#[expect(clippy::option_option, reason = "an object without the entry is another fault than no object")]
fn entry<'a>(
    reference: &CaRef,
    key: &str,
    namespace: &str,
    reader: &mut Reader<'a>,
) -> Option<Option<&'a [u8]>> {
    match reference.kind {
        CaKind::ConfigMap => reader
            .config_map(namespace, &reference.name)
            .map(|map| value::entry((map.data.as_ref(), map.binary_data.as_ref()), key)),
        CaKind::Secret => reader
            .secret(namespace, &reference.name)
            .map(|secret| value::entry((secret.string_data.as_ref(), secret.data.as_ref()), key)),
    }
}

/// What is wrong with the PEM; what stands between its parts is passed over.
fn check(pem: &[u8], held: &Held) -> Result<(), &'static str> {
    if pem.len() > PEM_BYTES_MAX {
        return Err("is larger than 1 MiB");
    }
    let text = std::str::from_utf8(pem).map_err(|_| "is no text")?;
    let mut count = 0_usize;
    let mut open: Option<String> = None;
    for line in text.lines().map(str::trim) {
        open = match (open, line) {
            (None, line) => (line == held.begin).then(String::new),
            (Some(body), line) if line == held.end => {
                if !is_der(&body) {
                    return Err(held.damaged);
                }
                count += 1;
                None
            }
            (Some(mut body), line) => {
                body.push_str(line);
                Some(body)
            }
        };
    }
    match (open, count) {
        (Some(_), _) => Err(held.cut_short),
        (None, 0) => Err(held.none),
        (None, _) => Ok(()),
    }
}

/// Whether the base64 is that of one DER sequence, whole and no more (X.690 §8.1.3).
fn is_der(base64: &str) -> bool {
    let Ok(der) = STANDARD.decode(base64) else { return false };
    let (first, rest) = match der.as_slice() {
        [0x30, first, rest @ ..] => (*first, rest),
        _ => return false,
    };
    if first < 0x80 {
        return rest.len() == usize::from(first);
    }
    let Some((digits, content)) = rest.split_at_checked(usize::from(first & 0x7f)) else { return false };
    let length = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
    (1..=3).contains(&digits.len()) && content.len() == length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_is_taken_with_what_stands_around_it_and_refused_where_a_certificate_is_damaged() {
        let good = "subject=CN=x\n-----BEGIN CERTIFICATE-----\nMAMC\nAQE=\n-----END CERTIFICATE-----\n";
        let twice = format!("{good}\n{}", good.replace('\n', "\r\n"));
        let long = format!("{good}{}", " ".repeat(PEM_BYTES_MAX));
        for (name, pem, want) in [
            ("one", good, Ok(())),
            ("two, of both line ends", &twice, Ok(())),
            ("nothing", "", Err("holds no certificate as PEM")),
            (
                "another label",
                &good.replace("CERTIFICATE", "PRIVATE KEY"),
                Err("holds no certificate as PEM"),
            ),
            ("no base64", &good.replace("MAMC", "M?MC"), Err("holds a certificate that is damaged")),
            ("too short a value", &good.replace("AQE=", ""), Err("holds a certificate that is damaged")),
            ("no sequence", &good.replace("MAMC", "MQMC"), Err("holds a certificate that is damaged")),
            ("no end", &good.replace("END", "FIN"), Err("holds a certificate that is cut short")),
            ("too large", &long, Err("is larger than 1 MiB")),
        ] {
            assert_eq!(check(pem.as_bytes(), &CERTIFICATES), want, "{name}");
        }
        assert_eq!(check(b"\xff", &CERTIFICATES), Err("is no text"));
    }

    #[test]
    fn revocation_lists_have_a_label_of_their_own() {
        let good = "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n";
        for (name, pem, want) in [
            ("one", good, Ok(())),
            ("two", &good.repeat(2), Ok(())),
            (
                "a certificate",
                &good.replace("X509 CRL", "CERTIFICATE"),
                Err("holds no revocation list as PEM"),
            ),
            ("damaged", &good.replace("MAMC", "MAQC"), Err("holds a revocation list that is damaged")),
            ("no end", &good.replace("END", "FIN"), Err("holds a revocation list that is cut short")),
            ("nothing", "", Err("holds no revocation list as PEM")),
        ] {
            assert_eq!(check(pem.as_bytes(), &REVOCATION_LISTS), want, "{name}");
        }
    }

    #[test]
    fn an_annotation_names_kind_and_object() {
        assert_eq!(
            written("configmap/a.b").map(|ca| (ca.kind, ca.name)),
            Some((CaKind::ConfigMap, "a.b".into()))
        );
        assert_eq!(written("secret/x").map(|ca| (ca.kind, ca.key)), Some((CaKind::Secret, "ca.crt".into())));
        for bad in ["", "x", "secret/", "Secret/x", "secret/a/b", "configmaps/x"] {
            assert_eq!(written(bad), None, "{bad}");
        }
    }
}
