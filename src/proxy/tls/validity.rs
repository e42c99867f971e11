//! Reads from when to when a certificate is valid. Understands no more of X.509 than the way there.

/// Seconds since 1970, both inclusive (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before_s: i64,
    pub(super) not_after_s: i64,
}

impl Validity {
    /// `None`: the bytes are no certificate (RFC 5280 §4.1) as far as it was read.
    pub(super) fn read(certificate_der: &[u8]) -> Option<Self> {
        let mut outer = Reader(certificate_der);
        let mut certificate = Reader(outer.expect(SEQUENCE)?);
        let mut signed = Reader(certificate.expect(SEQUENCE)?);
        // The version stands there only if it is not 1.
        if signed.0.first() == Some(&VERSION) {
            signed.expect(VERSION)?;
        }
        signed.expect(INTEGER)?;
        signed.expect(SEQUENCE)?;
        signed.expect(SEQUENCE)?;
        let mut validity = Reader(signed.expect(SEQUENCE)?);
        Some(Self { not_before_s: validity.time()?, not_after_s: validity.time()? })
    }
}

pub(super) const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`.
pub(super) const VERSION: u8 = 0xa0;

/// What is left of a DER value (X.690).
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The tag and content of the next value.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            // The long form: so many bytes of length follow. More than three would be over 16 MiB.
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if digits.is_empty() || digits.len() > 3 {
                return None;
            }
            (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The next value with its tag and length.
    pub(super) fn whole(&mut self) -> Option<&'a [u8]> {
        let before = self.0;
        self.next()?;
        before.get(..before.len().checked_sub(self.0.len())?)
    }

    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }

    /// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`; two digits of a year are of 1950 to 2049.
    pub(super) fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.next()?;
        let (year, rest) = match tag {
            UTC_TIME => {
                let (digits, rest) = text.split_at_checked(2)?;
                let year = number(digits)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            GENERALIZED_TIME => {
                let (digits, rest) = text.split_at_checked(4)?;
                (number(digits)?, rest)
            }
            _ => return None,
        };
        let rest = rest.strip_suffix(b"Z").filter(|rest| rest.len() == 10)?;
        let mut pairs = rest.chunks_exact(2).map(number);
        let mut pair = |range: std::ops::RangeInclusive<i64>| pairs.next()?.filter(|n| range.contains(n));
        let (month, day) = (pair(1..=12)?, pair(1..=31)?);
        let (hour, minute, second) = (pair(0..=23)?, pair(0..=59)?, pair(0..=60)?);
        Some(days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |n, digit| digit.is_ascii_digit().then(|| n * 10 + i64::from(digit - b'0')))
}

/// In the Gregorian calendar. Years begin in March here, so that the leap day is the last of one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_FROM_MARCH_0000_TO_1970: i64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days_of_months = (153 * month + 2) / 5;
    year * 365 + leap_days + days_of_months + day - 1 - DAYS_FROM_MARCH_0000_TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        for (tag, text, want) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "20000301000000Z", Some(951_868_800)),
            (UTC_TIME, "2402291200Z", None),
            (UTC_TIME, "240229120000", None),
            (UTC_TIME, "241301000000Z", None),
            (UTC_TIME, "24022912000xZ", None),
            (UTC_TIME, "", None),
            (INTEGER, "700101000000Z", None),
        ] {
            let der = [&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            assert_eq!(Reader(&der).time(), want, "{tag:#x} {text}");
        }
    }

    #[test]
    fn what_is_cut_short_or_has_a_wild_length_is_no_certificate() {
        let certificate = crate::tls::testing::Issued::of(&["a.example"]);
        let der = &certificate.chain_der[0];
        let whole = Validity::read(der).unwrap();
        assert_eq!(whole.not_after_s - whole.not_before_s, 86_400 * 30);
        for end in 0..der.len() {
            assert_eq!(Validity::read(&der[..end]), None, "{end} bytes");
        }
        for wild in [&[0x30, 0x80][..], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0xff], &[0x30]] {
            assert_eq!(Validity::read(wild), None, "{wild:x?}");
        }
    }
}
