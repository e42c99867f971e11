//! How long a refusal takes tells nothing of what was wrong (JW18). After dudect: two classes of input in a random order,
//! Welch's t over their times, and 4.5 as the bound beyond which they differ.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use ir::{
    ApiKey, ApiKeys, Auth, AuthMode, BasicAuth, BasicUser, HashScheme, Kind, ObjectRef, PasswordHash,
    Redacted, TokenSource,
};

use super::support::{Gate, auth, claims_with, header_map, hs256, provider};
use crate::random::Random;

/// In one round; with all rounds of the three tests more than a million.
const SAMPLES: usize = 200_000;
/// So many are made before they are timed: what making one leaves in the processor differs by the place that was changed.
const BATCH: usize = 100;
/// Somebody else's work on the machine can make one round differ, but not each of them in the same way.
const ROUNDS: usize = 5;
const T_MAX: f64 = 4.5;

/// What is sent in one header: many values of which one is taken at random, and what makes it wrong in two ways.
struct Classes<'a> {
    header: &'a str,
    values: Vec<String>,
    /// Makes a value of the first or the second class of it, as long as it was, with the help of a random number.
    spoil: &'a dyn Fn(&mut [u8], usize, u64),
}

/// The smallest t of a few rounds: what differs by its nature differs in each.
fn least_t(gate: &mut Gate, classes: &Classes<'_>) -> f64 {
    let random = Random::new();
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let mut times = [Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES)];
        for _ in 0..SAMPLES / BATCH {
            let batch: Vec<_> = (0..BATCH).map(|_| request(classes, random.next())).collect();
            for (class, request) in &batch {
                let began = Instant::now();
                let outcome = black_box(gate.ask_all(black_box(request), None));
                let took = began.elapsed();
                assert!(outcome.is_err(), "both classes are refused");
                times[*class].push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
            }
        }
        let [first, second] = times;
        least = least.min(t_value(first, second));
        if least < T_MAX {
            break;
        }
    }
    least
}

/// A request and its class.
fn request(classes: &Classes<'_>, number: u64) -> (usize, HeaderMap) {
    let class = usize::from(number & 1 == 1);
    let index = usize::try_from(number >> 8).expect("64 bits") % classes.values.len();
    let mut value = classes.values[index].clone().into_bytes();
    (classes.spoil)(&mut value, class, number >> 32);
    (class, header_map(&[(classes.header, std::str::from_utf8(&value).expect("text"))]))
}

/// Four other characters than are there, from the first place on for the first class and from the second for the second. Any
/// others, and many of them: what the bytes are may take its time, where the wrong ones are must not.
fn spoil_at(value: &mut [u8], at: [usize; 2], class: usize, number: u64) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = usize::try_from(number).expect("64 bits");
    for (index, byte) in value[at[class]..at[class] + 4].iter_mut().enumerate() {
        let place = ALPHABET.iter().position(|known| known == byte).expect("a character of base64url");
        // The first is never the same.
        let further = if index == 0 { 1 + number % 63 } else { number >> (6 * index) };
        *byte = ALPHABET[(place + further) % 64];
    }
}

/// Without the slowest tenth, which is the scheduler's.
fn t_value(mut first: Vec<u32>, mut second: Vec<u32>) -> f64 {
    let mut all = [first.as_slice(), second.as_slice()].concat();
    all.sort_unstable();
    let most = all[all.len() * 9 / 10];
    first.retain(|time| *time <= most);
    second.retain(|time| *time <= most);
    let ((mean, share), (other_mean, other_share)) = (moments(&first), moments(&second));
    ((mean - other_mean) / (share + other_share).sqrt()).abs()
}

/// The mean, and the variance of the mean.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn moments(times: &[u32]) -> (f64, f64) {
    let count = times.len() as f64;
    let mean = times.iter().map(|time| f64::from(*time)).sum::<f64>() / count;
    let variance = times.iter().map(|time| (f64::from(*time) - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance / count)
}

fn guarded(api_key: Option<ApiKeys>, basic: Option<BasicAuth>) -> Gate {
    Gate::new(&[Auth {
        source: ObjectRef::new(Kind::AuthPolicy, "shop", "timing"),
        mode: AuthMode::All,
        jwt: None,
        api_key: api_key.map(Arc::new),
        basic: basic.map(Arc::new),
        external: None,
        authorization: None,
    }])
}

#[test]
fn jw18_an_api_key_that_is_nearly_right_is_refused_no_later_than_one_that_is_all_wrong() {
    const KEY: &str = "gold-key-0123456789abcdef0123456789abcdef";
    let key = ApiKey {
        client: "acme".into(),
        source: ObjectRef::new(Kind::Secret, "shop", "gold"),
        key: Redacted::new(KEY.to_owned()),
    };
    let from =
        vec![TokenSource::Header { name: http::HeaderName::from_static("x-api-key"), prefix: String::new() }];
    let keys = ApiKeys { selector: Vec::new(), keys: vec![key], from, client_id_header: None };
    let mut gate = guarded(Some(keys), None);
    let classes = Classes {
        header: "x-api-key",
        values: vec![KEY.to_owned()],
        spoil: &|value, class, number| spoil_at(value, [0, KEY.len() - 4], class, number),
    };
    let t = least_t(&mut gate, &classes);
    assert!(t < T_MAX, "t = {t}");
}

#[test]
fn jw18_a_signature_that_is_nearly_right_is_refused_no_later_than_one_that_is_all_wrong() {
    let mut gate = Gate::new(&[auth(vec![provider()])]);
    let bearer = |number: u32| {
        let subject = serde_json::json!({"sub": format!("{number:08}")});
        format!("Bearer {}", hs256(&claims_with(subject)))
    };
    // So many that no processor learns them by heart.
    let values: Vec<String> = (0..16_384).map(bearer).collect();
    let signature = values[0].rfind('.').expect("a signature") + 1;
    // The last character has bits that must be 0.
    let end = values[0].len() - 5;
    assert!(values.iter().all(|value| value.rfind('.') == Some(signature - 1) && value.len() == end + 5));
    let spoil = |value: &mut [u8], class, number| spoil_at(value, [signature, end], class, number);
    let t = least_t(&mut gate, &Classes { header: "authorization", values, spoil: &spoil });
    assert!(t < T_MAX, "t = {t}");
}

#[test]
fn jw18_two_wrong_passwords_of_one_length_take_as_long() {
    use base64::Engine as _;
    let line = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let hash = PasswordHash {
        scheme: HashScheme::Sha1,
        text: Redacted::new("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned()),
    };
    let users = vec![BasicUser { name: Redacted::new("ada".to_owned()), hash }];
    let source = ObjectRef::new(Kind::Secret, "shop", "users");
    let mut gate = guarded(None, Some(BasicAuth { source, realm: "shop".to_owned(), users }));
    // Of one length, so that only the letters differ.
    let wrong = |class: usize, number: u64| {
        let letters = (0..6)
            .map(|index| char::from(b'a' + u8::try_from((number >> (4 * index)) & 15).expect("4 bits")));
        line(&format!("ada:{}{}", ["pa", "qq"][class], letters.collect::<String>()))
    };
    let classes = Classes {
        header: "authorization",
        values: vec![wrong(0, 0)],
        spoil: &|value, class, number| value.copy_from_slice(wrong(class, number).as_bytes()),
    };
    let t = least_t(&mut gate, &classes);
    assert!(t < T_MAX, "t = {t}");
}

#[test]
fn the_measure_sees_a_difference_of_a_few_nanoseconds() {
    let random = Random::new();
    let times = |more: u32| -> Vec<u32> {
        (0..100_000).map(|_| 1000 + more + u32::try_from(random.next() % 200).unwrap_or_default()).collect()
    };
    assert!(t_value(times(0), times(0)) < T_MAX + 1.0);
    assert!(t_value(times(0), times(5)) > T_MAX);
}
