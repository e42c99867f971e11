//! What is made anew from generation to generation and what is not, and what many certificates cost.

use std::time::{Duration, Instant};

use rustls::sign::CertifiedKey;

use super::*;
use crate::tls::testing::{Issued, tls};

const OLD: TlsVersion = TlsVersion::V1_2;

fn key_of(runtime: &TlsRuntime, name: &str) -> Option<Arc<CertifiedKey>> {
    runtime.store.find(Some(name)).certificate.as_ref().map(|loaded| Arc::clone(&loaded.key))
}

#[test]
fn an_unchanged_certificate_keeps_its_key_and_a_changed_one_gets_a_new_one() {
    let (one, two) = (Issued::of(&["a.example"]), Issued::of(&["a.example"]));
    let mut builder = TlsBuilder::default();
    let first = builder.build(&tls(&[("a.example", Some(&one.secret("s")), OLD)], None));
    // Equal, but read anew.
    let hosts = [("a.example", Some(&one.secret("s")), OLD), ("b.example", None, OLD)];
    let second = builder.build(&tls(&hosts, None));
    let third = builder.build(&tls(&[("a.example", Some(&two.secret("s")), OLD)], None));
    let [first, second, third] = [first, second, third].map(|runtime| key_of(&runtime, "a.example").unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&second, &third));
    assert_eq!(third.cert, two.chain_der);
}

#[test]
fn nothing_is_built_where_nothing_changed() {
    let issued = Issued::of(&["a.example"]);
    let mut builder = TlsBuilder::default();
    let make = || tls(&[("a.example", Some(&issued.secret("s")), OLD)], None);
    assert!(Arc::ptr_eq(&builder.build(&make()), &builder.build(&make())));
}

#[test]
fn a_certificate_that_cannot_be_used_leaves_its_host_the_default_one_or_none() {
    let good = Issued::of(&["d.example"]);
    let mut bad = Certificate::clone(&good.secret("bad"));
    bad.chain_pem.clear();
    let bad = Arc::new(bad);
    let hosts = [("a.example", Some(&bad), OLD)];
    let mut builder = TlsBuilder::default();
    let runtime = builder.build(&tls(&hosts, Some(&good.secret("good"))));
    assert_eq!(key_of(&runtime, "a.example").unwrap().cert, good.chain_der);
    assert_eq!((runtime.certificates, runtime.not_after_s), (1, 1_769_817_600));
    let runtime = builder.build(&tls(&hosts, None));
    assert!(key_of(&runtime, "a.example").is_none());
    assert!(runtime.select(Some("a.example")).is_none());
    assert_eq!((runtime.certificates, runtime.not_after_s), (0, 0));
}

#[test]
fn hosts_get_the_settings_of_their_policy_and_all_generations_share_its_tickets() {
    let issued = Issued::of(&["a.example"]).secret("s");
    let mut builder = TlsBuilder::default();
    let hosts = [("a.example", Some(&issued), OLD), ("b.example", Some(&issued), TlsVersion::V1_3)];
    let first = builder.build(&tls(&hosts, None));
    let second = builder.build(&tls(&hosts, Some(&issued)));
    let of = |runtime: &TlsRuntime, name| runtime.select(Some(name)).unwrap();
    let Selected { config: lax, server_name: name, .. } = of(&first, "A.Example.");
    assert_eq!(name.as_deref(), Some("a.example"));
    let strict = of(&first, "b.example").config;
    assert!(!Arc::ptr_eq(&lax.ticketer, &strict.ticketer));
    assert!(Arc::ptr_eq(&lax.ticketer, &of(&second, "a.example").config.ticketer));
    assert_eq!(lax.max_early_data_size, 0);
    assert!(lax.ignore_client_order && !lax.session_storage.can_cache());
    assert!(first.select(None).is_none());
    assert_eq!(second.select(None).unwrap().server_name, None);
}

/// Resident memory in bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn many_certificates_load_soon_and_are_small() {
    const COUNT: u32 = 500;
    let issued = Issued::of(&["any.example"]);
    let names: Vec<String> = (0..COUNT).map(|n| format!("{n}.example")).collect();
    let secrets: Vec<_> = names.iter().map(|name| issued.secret(name)).collect();
    let hosts: Vec<_> =
        names.iter().zip(&secrets).map(|(name, secret)| (&**name, Some(secret), OLD)).collect();
    let tls = tls(&hosts, None);
    let mut builder = TlsBuilder::default();
    let (before, started) = (resident_bytes(), Instant::now());
    let runtime = builder.build(&tls);
    let (took, grown) = (started.elapsed(), resident_bytes().saturating_sub(before));
    println!("{COUNT} certificates: {took:?}, {} bytes each", grown / u64::from(COUNT));
    assert_eq!(runtime.certificates, 500);
    // 10,000 may take 2 s; a build without optimisation on a busy machine gets five times that.
    assert!(took < Duration::from_millis(500), "{took:?}");
    // 10 KiB each; tests beside this one grow, too.
    assert!(grown / u64::from(COUNT) < 64 << 10, "{grown}");
    let names: Vec<_> =
        names.iter().map(|name| runtime.select(Some(name)).unwrap().server_name.unwrap()).collect();
    assert_eq!(names.len(), 500);
}
