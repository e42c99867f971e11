//! Reads what an OCSP response (RFC 6960 §4.2.1) says of a certificate, and from when to when. Verifies no signature: that
//! is for the clients that it is stapled for.

use aws_lc_rs::digest::{self, Algorithm};
use rustls::pki_types::CertificateDer;

use super::validity::{INTEGER, Reader, SEQUENCE, VERSION, Validity};

/// Usual ones have half a KiB to 2 KiB. It is sent with every full handshake.
const RESPONSE_BYTES_MAX: usize = 16 << 10;

const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`.
const TAGGED_0: u8 = 0xa0;
/// The two forms of a responder's name: `[1]` and `[2] EXPLICIT`.
const RESPONDER: [u8; 2] = [0xa1, 0xa2];

/// `id-pkix-ocsp-basic`: 1.3.6.1.5.5.7.48.1.1.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

/// The hashes by which a response may name its certificate (X.690 §8.19).
static HASHES: [(&[u8], &Algorithm); 4] = [
    (&[0x2b, 14, 3, 2, 26], &digest::SHA1_FOR_LEGACY_USE_ONLY),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1], &digest::SHA256),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2], &digest::SHA384),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3], &digest::SHA512),
];

const NO_RESPONSE: &str = "it is no OCSP response in DER (RFC 6960)";

/// From when to when a response says that the first certificate of this chain is good.
///
/// # Errors
/// A text for people: it is no response, not a successful one, for another certificate, says that this one is revoked, or
/// does not say until when it holds.
pub(super) fn read(response_der: &[u8], chain: &[CertificateDer<'_>]) -> Result<Validity, &'static str> {
    if response_der.len() > RESPONSE_BYTES_MAX {
        return Err("it is larger than 16 KiB");
    }
    let mut responses = Reader(responses(response_der)?);
    let own = chain.first().and_then(|own| Names::read(own)).ok_or("its certificate can't be read")?;
    let others = chain.iter().skip(1).filter_map(|one| Names::read(one));
    let issuers: Vec<Names<'_>> = others.filter(|one| one.subject == own.issuer).collect();
    while !responses.0.is_empty() {
        let single = Single::read(&mut responses).ok_or(NO_RESPONSE)?;
        if single.is_for(&own, &issuers) {
            return single.verdict();
        }
    }
    Err("it is for another certificate")
}

/// The list of responses in a successful basic response.
fn responses(response_der: &[u8]) -> Result<&[u8], &'static str> {
    let mut response = Reader(only(response_der, SEQUENCE).ok_or(NO_RESPONSE)?);
    match response.expect(ENUMERATED) {
        Some([0]) => {}
        Some([1]) => return Err("it is an error of its responder: malformedRequest"),
        Some([2]) => return Err("it is an error of its responder: internalError"),
        Some([3]) => return Err("it is an error of its responder: tryLater"),
        Some([5]) => return Err("it is an error of its responder: sigRequired"),
        Some([6]) => return Err("it is an error of its responder: unauthorized"),
        Some(_) | None => return Err(NO_RESPONSE),
    }
    basic(&mut response).ok_or(NO_RESPONSE)
}

fn basic<'a>(response: &mut Reader<'a>) -> Option<&'a [u8]> {
    let bytes = response.expect(TAGGED_0)?;
    let mut bytes = Reader(only(bytes, SEQUENCE).filter(|_| response.0.is_empty())?);
    if bytes.expect(OBJECT_IDENTIFIER)? != BASIC {
        return None;
    }
    let basic = bytes.expect(OCTET_STRING).filter(|_| bytes.0.is_empty())?;
    let mut basic = Reader(only(basic, SEQUENCE)?);
    let mut signed = Reader(basic.expect(SEQUENCE)?);
    // What the signature is made with, and the signature itself.
    basic.expect(SEQUENCE)?;
    basic.expect(BIT_STRING)?;
    if signed.0.first() == Some(&VERSION) {
        signed.expect(VERSION)?;
    }
    signed.next().filter(|(tag, _)| RESPONDER.contains(tag))?;
    signed.expect(GENERALIZED_TIME)?;
    signed.expect(SEQUENCE)
}

/// The content of a value that has nothing behind it.
fn only(der: &[u8], tag: u8) -> Option<&[u8]> {
    let mut reader = Reader(der);
    reader.expect(tag).filter(|_| reader.0.is_empty())
}

/// What a response says of one certificate.
struct Single<'a> {
    algorithm: &'a [u8],
    issuer_name_hash: &'a [u8],
    issuer_key_hash: &'a [u8],
    serial: &'a [u8],
    /// The tag of its status: `[0]` good, `[1]` revoked, `[2]` unknown.
    status: u8,
    this_update_s: i64,
    next_update_s: Option<i64>,
}

impl<'a> Single<'a> {
    fn read(responses: &mut Reader<'a>) -> Option<Self> {
        let mut single = Reader(responses.expect(SEQUENCE)?);
        let mut id = Reader(single.expect(SEQUENCE)?);
        let algorithm = Reader(id.expect(SEQUENCE)?).expect(OBJECT_IDENTIFIER)?;
        let (issuer_name_hash, issuer_key_hash) = (id.expect(OCTET_STRING)?, id.expect(OCTET_STRING)?);
        let serial = id.expect(INTEGER)?;
        let (status, _) = single.next()?;
        let this_update_s = single.time()?;
        let next_update_s = match single.0.first() {
            Some(&TAGGED_0) => Some(Reader(single.expect(TAGGED_0)?).time()?),
            Some(_) | None => None,
        };
        Some(Self {
            algorithm,
            issuer_name_hash,
            issuer_key_hash,
            serial,
            status,
            this_update_s,
            next_update_s,
        })
    }

    /// `issuers`: those of the chain's certificates that may have issued it. The key is compared only where one is there.
    fn is_for(&self, own: &Names<'_>, issuers: &[Names<'_>]) -> bool {
        let Some((_, hash)) = HASHES.iter().find(|(identifier, _)| *identifier == self.algorithm) else {
            return false;
        };
        let is_key = |issuer: &Names<'_>| digest::digest(hash, issuer.key).as_ref() == self.issuer_key_hash;
        self.serial == own.serial
            && digest::digest(hash, own.issuer).as_ref() == self.issuer_name_hash
            && (issuers.is_empty() || issuers.iter().any(is_key))
    }

    fn verdict(&self) -> Result<Validity, &'static str> {
        match (self.status, self.next_update_s) {
            (0x80, Some(not_after_s)) => Ok(Validity { not_before_s: self.this_update_s, not_after_s }),
            // RFC 6960 §4.2.2.1: newer ones are to be had at any time, so nobody could say when this one is old.
            (0x80, None) => Err("it does not say until when it holds (nextUpdate)"),
            (0xa1, _) => Err("it says that the certificate is revoked"),
            (0x82, _) => Err("its responder does not know the certificate"),
            _ => Err(NO_RESPONSE),
        }
    }
}

/// By what a response names a certificate (RFC 5280 §4.1), and by what it names those that it issued.
struct Names<'a> {
    serial: &'a [u8],
    /// With tag and length, as it is hashed.
    issuer: &'a [u8],
    subject: &'a [u8],
    /// The bits of its public key.
    key: &'a [u8],
}

impl<'a> Names<'a> {
    fn read(certificate_der: &'a [u8]) -> Option<Self> {
        let mut outer = Reader(certificate_der);
        let mut certificate = Reader(outer.expect(SEQUENCE)?);
        let mut signed = Reader(certificate.expect(SEQUENCE)?);
        if signed.0.first() == Some(&VERSION) {
            signed.expect(VERSION)?;
        }
        let serial = signed.expect(INTEGER)?;
        signed.expect(SEQUENCE)?;
        let issuer = signed.whole()?;
        signed.expect(SEQUENCE)?;
        let subject = signed.whole()?;
        let mut key = Reader(signed.expect(SEQUENCE)?);
        key.expect(SEQUENCE)?;
        // The first byte says how many bits of the last one do not count; of keys that is none.
        let key = key.expect(BIT_STRING)?.get(1..)?;
        Some(Self { serial, issuer, subject, key })
    }
}

/// The serial number of a certificate, for tests that revoke it.
#[cfg(test)]
pub(super) fn serial(certificate_der: &[u8]) -> Option<&[u8]> {
    Names::read(certificate_der).map(|names| names.serial)
}

#[cfg(test)]
mod tests;
