//! Whether a password is the one of a hash: bcrypt, MD5-crypt, SHA-crypt and `{SHA}`. Takes as long as the hash says, so
//! that all but `{SHA}` belong on a thread of their own. Compares in constant time.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ir::{HashScheme, PasswordHash};
use md5::{Digest as _, Md5};

/// Without `rounds=` in the hash.
const SHA_CRYPT_ROUNDS: u32 = 5_000;
const MD5_CRYPT_ROUNDS: usize = 1_000;
const MD5_BYTES: usize = 16;

/// Digits of crypt's own base 64, lowest first.
const CRYPT64: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// In which order each triple of a digest's bytes is written.
const MD5_ORDER: [[Option<usize>; 3]; 6] = [
    [Some(0), Some(6), Some(12)],
    [Some(1), Some(7), Some(13)],
    [Some(2), Some(8), Some(14)],
    [Some(3), Some(9), Some(15)],
    [Some(4), Some(10), Some(5)],
    [None, None, Some(11)],
];

/// Whether a check takes so little time that a worker may do it itself.
pub(super) const fn is_quick(scheme: HashScheme) -> bool {
    match scheme {
        HashScheme::Sha1 => true,
        HashScheme::Bcrypt | HashScheme::Md5Crypt | HashScheme::Sha256Crypt | HashScheme::Sha512Crypt => {
            false
        }
    }
}

/// About how long one check takes, to be compared with others.
pub(super) fn cost(hash: &PasswordHash) -> u64 {
    let text = hash.text.expose();
    match hash.scheme {
        HashScheme::Sha1 => 1,
        HashScheme::Md5Crypt => 1_000,
        HashScheme::Sha256Crypt | HashScheme::Sha512Crypt => {
            u64::from(sha_crypt_parts(text).map_or(SHA_CRYPT_ROUNDS, |parts| parts.rounds)) * 2
        }
        HashScheme::Bcrypt => {
            let cost = text.get(4..6).and_then(|cost| cost.parse::<u32>().ok()).unwrap_or_default();
            1_u64.checked_shl(cost).unwrap_or(u64::MAX).saturating_mul(200)
        }
    }
}

/// Whether this is the password. A hash that cannot be read is nobody's.
pub(super) fn verify(hash: &PasswordHash, password: &[u8]) -> bool {
    let text = hash.text.expose();
    match hash.scheme {
        HashScheme::Bcrypt => bcrypt::verify(password, text).unwrap_or(false),
        HashScheme::Sha1 => {
            let Some(wanted) = text.strip_prefix("{SHA}").and_then(|text| STANDARD.decode(text).ok()) else {
                return false;
            };
            is_same(digest(&SHA1_FOR_LEGACY_USE_ONLY, password).as_ref(), &wanted)
        }
        HashScheme::Md5Crypt => {
            md5_crypt(text, password).is_some_and(|found| is_same(found.as_bytes(), text.as_bytes()))
        }
        HashScheme::Sha256Crypt => {
            sha_crypt(text, password, |salt, params| sha_crypt::sha256_crypt(password, salt, params).to_vec())
        }
        HashScheme::Sha512Crypt => {
            sha_crypt(text, password, |salt, params| sha_crypt::sha512_crypt(password, salt, params).to_vec())
        }
    }
}

fn is_same(left: &[u8], right: &[u8]) -> bool {
    verify_slices_are_equal(left, right).is_ok()
}

/// What a password of MD5-crypt comes to under the salt of this hash, as text.
fn md5_crypt(text: &str, password: &[u8]) -> Option<String> {
    let (id, rest) = text.strip_prefix('$')?.split_once('$')?;
    let (salt, _) = rest.split_once('$')?;
    let (magic, salt) = (format!("${id}$"), salt.as_bytes());

    let mut inner = Md5::new();
    inner.update(password);
    inner.update(salt);
    inner.update(password);
    let inner = inner.finalize();

    let mut outer = Md5::new();
    outer.update(password);
    outer.update(magic.as_bytes());
    outer.update(salt);
    outer.update(inner.iter().copied().cycle().take(password.len()).collect::<Vec<u8>>());
    let mut left = password.len();
    while left > 0 {
        // The quirk of the first author: a zero byte, or the first of the password.
        outer.update(if left & 1 == 1 { &[0][..] } else { password.get(..1).unwrap_or_default() });
        left >>= 1;
    }
    let mut digest: [u8; MD5_BYTES] = outer.finalize().into();
    for round in 0..MD5_CRYPT_ROUNDS {
        let mut next = Md5::new();
        let is_odd = round & 1 == 1;
        next.update(if is_odd { password } else { &digest[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if is_odd { &digest[..] } else { password });
        digest = next.finalize().into();
    }
    let mut found = format!("{magic}{}$", std::str::from_utf8(salt).ok()?);
    for triple in MD5_ORDER {
        let byte =
            |place: Option<usize>| place.and_then(|place| digest.get(place)).copied().map_or(0, u32::from);
        let [high, middle, low] = triple.map(byte);
        let mut value = high << 16 | middle << 8 | low;
        let digits = if triple.first() == Some(&None) { 2 } else { 4 };
        for _ in 0..digits {
            found.push(char::from(*CRYPT64.get(usize::try_from(value & 0x3f).ok()?)?));
            value >>= 6;
        }
    }
    Some(found)
}

struct ShaCryptParts<'a> {
    rounds: u32,
    salt: &'a [u8],
    digest: &'a [u8],
}

fn sha_crypt_parts(text: &str) -> Option<ShaCryptParts<'_>> {
    let rest = text.strip_prefix("$5$").or_else(|| text.strip_prefix("$6$"))?;
    let (rounds, rest) = match rest.strip_prefix("rounds=") {
        Some(rest) => {
            let (rounds, rest) = rest.split_once('$')?;
            (rounds.parse().ok()?, rest)
        }
        None => (SHA_CRYPT_ROUNDS, rest),
    };
    let (salt, digest) = rest.split_once('$')?;
    Some(ShaCryptParts { rounds, salt: salt.as_bytes(), digest: digest.as_bytes() })
}

fn sha_crypt(text: &str, password: &[u8], compute: impl FnOnce(&[u8], sha_crypt::Params) -> Vec<u8>) -> bool {
    // It takes the password's length once more for each byte of it.
    debug_assert!(password.len() <= super::basic::CREDENTIALS_BYTES_MAX);
    let Some(ShaCryptParts { rounds, salt, digest }) = sha_crypt_parts(text) else { return false };
    let Ok(params) = sha_crypt::Params::new(rounds) else { return false };
    let found = compute(salt, params);
    let order: &[[usize; 3]] = if found.len() == 32 { &SHA256_ORDER } else { &SHA512_ORDER };
    let tail: &[usize] = if found.len() == 32 { &[31, 30] } else { &[63] };
    is_same(&crypt64(&found, order, tail), digest)
}

/// In which order each triple of a digest's bytes is written.
const SHA256_ORDER: [[usize; 3]; 10] = {
    let mut order = [[0, 10, 20]; 10];
    let mut line = 1;
    #[expect(clippy::indexing_slicing, reason = "checked when this is compiled")]
    while line < 10 {
        let [high, middle, low] = order[line - 1];
        order[line] = [low + 1, high + 1, middle + 1];
        line += 1;
    }
    order
};
const SHA512_ORDER: [[usize; 3]; 21] = {
    let mut order = [[0, 21, 42]; 21];
    let mut line = 1;
    #[expect(clippy::indexing_slicing, reason = "checked when this is compiled")]
    while line < 21 {
        let [high, middle, low] = order[line - 1];
        order[line] = [middle + 1, low + 1, high + 1];
        line += 1;
    }
    order
};

fn crypt64(digest: &[u8], order: &[[usize; 3]], tail: &[usize]) -> Vec<u8> {
    let byte = |place: &usize| digest.get(*place).copied().map_or(0, u32::from);
    let mut text = Vec::with_capacity(digest.len() * 4 / 3 + 2);
    let mut push = |mut value: u32, digits: usize| {
        for _ in 0..digits {
            let digit = usize::try_from(value & 0x3f).ok().and_then(|place| CRYPT64.get(place));
            text.extend(digit);
            value >>= 6;
        }
    };
    for [high, middle, low] in order {
        push(byte(high) << 16 | byte(middle) << 8 | byte(low), 4);
    }
    let value = tail.iter().fold(0, |value, place| value << 8 | byte(place));
    push(value, tail.len() + 1);
    text
}

#[cfg(test)]
mod tests {
    use ir::Redacted;

    use super::*;

    /// Made with `htpasswd`, `openssl passwd` and crypt(3); the last two are of the specification of SHA-crypt.
    const HASHES: [(HashScheme, &str, &str); 11] = [
        (HashScheme::Bcrypt, "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe", "password"),
        (HashScheme::Sha1, "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "password"),
        (HashScheme::Md5Crypt, "$apr1$r31.....$ARC3pREO82RIm0aQ2zszC0", "password"),
        (
            HashScheme::Md5Crypt,
            "$apr1$xyz$SRRkyXI7mcd3lRbg2rrux/",
            "a passphrase of more than sixteen bytes, with ä",
        ),
        (HashScheme::Md5Crypt, "$1$abcdefgh$G//4keteveJp0qb8z2DxG/", "password"),
        (HashScheme::Sha256Crypt, "$5$saltsalt$gOjOtoMpVhru2uyjeJSEc/JaLQWOXMNmlOnj6T4AtC.", "password"),
        (
            HashScheme::Sha512Crypt,
            "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/",
            "password",
        ),
        (
            HashScheme::Sha256Crypt,
            "$5$rounds=1400$anotherlongsalts$Up.HOgi.NCVVXEr4egyYn62/wMl7R1DXKAE75dQNLKC",
            "ein Passwort mit ß",
        ),
        (
            HashScheme::Sha512Crypt,
            "$6$rounds=1400$anotherlongsalts$KAgc0y2zLM.Ac.9rtn7z9JfFb1PqGOYV3q8kMr/GLvnpLMQ7zWJ4UneDnlh1mZ8E8LwpfTQVCtBZMbHiLtlsp.",
            "ein Passwort mit ß",
        ),
        (
            HashScheme::Sha256Crypt,
            "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
            "Hello world!",
        ),
        (
            HashScheme::Sha512Crypt,
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "Hello world!",
        ),
    ];

    fn hash(scheme: HashScheme, text: &str) -> PasswordHash {
        PasswordHash { scheme, text: Redacted::new(text.to_owned()) }
    }

    #[test]
    fn each_scheme_takes_its_password_and_no_other() {
        for (scheme, text, password) in HASHES {
            let hash = hash(scheme, text);
            assert!(verify(&hash, password.as_bytes()), "{text}");
            for wrong in ["", "Password", "password ", "Hello world"] {
                assert!(!verify(&hash, wrong.as_bytes()), "{text} takes {wrong:?}");
            }
        }
    }

    #[test]
    fn a_hash_that_cannot_be_read_is_nobodys() {
        for (scheme, text) in [
            (HashScheme::Bcrypt, ""),
            (HashScheme::Sha1, "{SHA}"),
            (HashScheme::Md5Crypt, "$apr1$"),
            (HashScheme::Sha256Crypt, "$5$rounds=x$a$b"),
            (HashScheme::Sha512Crypt, "$6$a"),
        ] {
            assert!(!verify(&hash(scheme, text), b""), "{scheme:?} {text}");
        }
    }

    #[test]
    fn the_costs_are_in_the_order_of_the_time_that_a_check_takes() {
        let costs = [
            cost(&hash(HashScheme::Sha1, "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=")),
            cost(&hash(HashScheme::Md5Crypt, "$apr1$a$b")),
            cost(&hash(HashScheme::Sha512Crypt, "$6$a$b")),
            cost(&hash(HashScheme::Sha512Crypt, "$6$rounds=100000$a$b")),
            cost(&hash(HashScheme::Bcrypt, "$2y$10$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe")),
            cost(&hash(HashScheme::Bcrypt, "$2y$12$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe")),
        ];
        assert!(costs.is_sorted(), "{costs:?}");
    }
}
