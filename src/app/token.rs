//! `baribhara token`: signs a JSON Web Token for trying things out. Checks nothing about tokens; that is the proxy's.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use proxy::SigningKey;
use serde_json::{Map, Value};

use crate::cli::TokenArgs;
use crate::stdout;

/// # Errors
/// A key file that cannot be read, a claim without `=`, a key that does not fit the algorithm, standard output.
pub(crate) fn run(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let claims = claims(&args.claims, now, args.expires_in)?;
    let file = match &args.key {
        Some(path) => std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?,
        None => Vec::new(),
    };
    let key = match &args.secret {
        Some(secret) => SigningKey::Secret(secret.as_bytes()),
        None if args.alg.is_hmac() => SigningKey::Secret(&file),
        None => SigningKey::Pem(&file),
    };
    let token = proxy::sign_token(args.alg, key, args.kid.as_deref(), &claims)?;
    let mut out = stdout::lock();
    writeln!(out, "{token}")?;
    stdout::finish(out, ExitCode::SUCCESS)
}

/// `iat` and `exp` from the clock, then what was asked for, which wins.
fn claims(pairs: &[String], now: Duration, expires_in: Duration) -> anyhow::Result<Value> {
    let mut claims = Map::new();
    claims.insert("iat".to_owned(), now.as_secs().into());
    claims.insert("exp".to_owned(), (now + expires_in).as_secs().into());
    for pair in pairs {
        let Some((name, text)) = pair.split_once('=') else {
            bail!("a claim is NAME=VALUE, and '{pair}' has no =");
        };
        if name.is_empty() {
            bail!("a claim is NAME=VALUE, and '{pair}' has no name");
        }
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        claims.insert(name.to_owned(), value);
    }
    Ok(Value::Object(claims))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_json_where_they_are_json_and_text_where_not() {
        let pairs = ["sub=ada", "n=5", "roles=[\"a\",\"b\"]", "on=true", "text=\"5\"", "empty=", "eq=a=b"];
        let pairs = pairs.map(str::to_owned);
        let got = claims(&pairs, Duration::from_secs(100), Duration::from_secs(3600)).unwrap();
        let want = json!({
            "iat": 100, "exp": 3700, "sub": "ada", "n": 5, "roles": ["a", "b"], "on": true, "text": "5",
            "empty": "", "eq": "a=b",
        });
        assert_eq!(got, want);
    }

    #[test]
    fn a_claim_may_set_what_the_clock_would_say() {
        let got = claims(&["exp=7".to_owned()], Duration::from_secs(100), Duration::ZERO).unwrap();
        assert_eq!(got, json!({"iat": 100, "exp": 7}));
    }

    #[test]
    fn a_claim_without_name_or_value_is_an_error() {
        for pair in ["sub", "=x"] {
            let error = claims(&[pair.to_owned()], Duration::ZERO, Duration::ZERO).unwrap_err().to_string();
            assert!(error.contains("NAME=VALUE"), "{pair}: {error}");
        }
    }
}
