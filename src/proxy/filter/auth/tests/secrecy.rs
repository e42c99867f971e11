//! Nothing that prints shows a token, a claim or a key.

use std::sync::Arc;

use serde_json::json;

use super::support::{Gate, SECRET, auth, claims_with, header_map, hs256, provider};
use crate::filter::auth::{AuthRequest, SigningKey};

#[test]
fn debug_output_holds_no_secret_token_or_claim() {
    let mut provider = provider();
    provider.claims_to_headers = vec![ir::ClaimToHeader {
        path: vec!["sub".to_owned()],
        header: "x-user".parse().expect("a name"),
        join: ",".to_owned(),
    }];
    let canary = "canary-subject-91c2";
    let token = hs256(&claims_with(json!({"sub": canary})));
    let mut gate = Gate::new(&[auth(vec![provider.clone()])]);
    let headers = header_map(&[("authorization", &format!("Bearer {token}"))]);
    let query = format!("access_token={token}");
    let identity = gate.ask_all(&headers, Some(&query)).expect("the request passes");
    let refusal = gate.ask_all(&header_map(&[("authorization", &format!("Bearer {token}x"))]), None);
    let request = AuthRequest {
        headers: &headers,
        query: Some(&query),
        method: &gate.method,
        client: Some(gate.client),
    };
    let verifier = gate.verifiers.get(&Arc::new(provider));
    let secret = std::str::from_utf8(SECRET).expect("text");
    let printed = [
        format!("{request:?}"),
        format!("{identity:?}"),
        format!("{:?}", refusal.expect_err("a refusal")),
        format!("{:?}", gate.stage),
        format!("{:?}", gate.cache),
        format!("{:?}", gate.verifiers),
        format!("{verifier:?}"),
        format!("{:?}", SigningKey::Secret(SECRET)),
        format!("{:?}", SigningKey::Pem(SECRET)),
    ];
    let bytes = format!("{SECRET:?}");
    for text in printed {
        for hidden in [token.as_str(), &token[token.len() - 20..], canary, secret, &bytes[1..40]] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
    assert_eq!(gate.cache.stats().entries, 1, "there was something to print");
}
