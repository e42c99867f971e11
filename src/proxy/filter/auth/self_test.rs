//! The start-up self test of signature verification: the published example of each key type must verify, and a changed
//! one must not. Without it a missing backend would show at the first request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ir::{Algorithm, Jwk, JwkMaterial, Redacted};
use thiserror::Error;

use super::key::VerifyingKey;
use super::token::UnverifiedToken;

/// Which part of the cryptography does not work; the gateway must not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SelfTestError {
    /// A key of a published example is refused.
    #[error("the self test of {0:?} failed: its key was refused")]
    KeyRefused(Algorithm),
    /// A published example does not verify.
    #[error("the self test of {0:?} failed: a good signature was refused")]
    GoodRefused(Algorithm),
    /// A changed example verifies.
    #[error("the self test of {0:?} failed: a bad signature was taken")]
    BadTaken(Algorithm),
}

/// Verifies known answers with every type of key. Takes less than a millisecond.
///
/// # Errors
/// The first algorithm that does not work.
pub(crate) fn self_test() -> Result<(), SelfTestError> {
    for (algorithm, material, token) in examples() {
        let jwk = Jwk { kid: None, algorithm: Some(algorithm), material };
        let key = VerifyingKey::new(&jwk, &[algorithm]).map_err(|_| SelfTestError::KeyRefused(algorithm))?;
        let token = UnverifiedToken::parse(token.as_bytes())
            .ok()
            .filter(|token| token.algorithm == algorithm)
            .ok_or(SelfTestError::GoodRefused(algorithm))?;
        if !key.verifies(algorithm, token.signed, token.signature) {
            return Err(SelfTestError::GoodRefused(algorithm));
        }
        let changed = token.signed.get(1..).unwrap_or_default();
        if key.verifies(algorithm, changed, token.signature) {
            return Err(SelfTestError::BadTaken(algorithm));
        }
    }
    Ok(())
}

fn number(text: &str) -> Vec<u8> {
    // An empty number makes an unusable key, which the test reports.
    URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
}

/// RFC 7515 appendices A.1, A.2 and A.3, RFC 8037 appendix A.4.
fn examples() -> [(Algorithm, JwkMaterial, &'static str); 4] {
    [
        (
            Algorithm::HS256,
            JwkMaterial::Symmetric(Redacted::new(number(
                "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            ))),
            concat!(
                "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
                ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
                ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            ),
        ),
        (
            Algorithm::RS256,
            JwkMaterial::Rsa {
                n: number(concat!(
                    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR",
                    "T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB",
                    "dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9ia",
                    "GNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
                )),
                e: number("AQAB"),
            },
            concat!(
                "eyJhbGciOiJSUzI1NiJ9",
                ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
                ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9u",
                "JdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN",
                "9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIh",
                "WkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
            ),
        ),
        (
            Algorithm::ES256,
            JwkMaterial::P256 {
                x: number("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
                y: number("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
            },
            concat!(
                "eyJhbGciOiJFUzI1NiJ9",
                ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
                ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            ),
        ),
        (
            Algorithm::EdDSA,
            JwkMaterial::Ed25519 { x: number("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo") },
            concat!(
                "eyJhbGciOiJFZERTQSJ9",
                ".RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
                ".hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            ),
        ),
    ]
}
