//! What the tests of this room share: a folder of their own and objects to put into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Takes every certificate but one, and every OCSP response but one.
pub(crate) fn check_certificate(
    chain: &[u8],
    _key: &[u8],
    ocsp_response: Option<&[u8]>,
) -> Result<Option<String>, String> {
    if chain == b"bad" {
        return Err("it is bad".to_owned());
    }
    Ok(ocsp_response.filter(|response| *response == b"stale").map(|_| "it is stale".to_owned()))
}

/// A folder that is removed with the value.
#[derive(Debug)]
pub(crate) struct TempDir {
    path: PathBuf,
}

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("baribhara-controller-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Truncates and writes, as `cp` and most programs do.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes beside and renames, as careful programs do.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        self.write(".new", text);
        fs::rename(self.file(".new"), self.file(name)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).unwrap();
    }
}

/// A route of this name that takes `path`.
pub(crate) fn route(name: &str, path: &str) -> String {
    format!(
        "apiVersion: gateway.baribhara.io/v1alpha1
kind: GatewayRoute
metadata:
  name: {name}
  namespace: shop
spec:
  hostnames: [{name}.example.com]
  rules:
  - name: main
    matches:
    - path: {{type: PathPrefix, value: {path}}}
      methods: [GET, POST]
      headers:
      - {{name: X-Version, type: Exact, value: \"2\"}}
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set:
        - {{name: X-Route, value: {name}}}
    backendRefs:
    - {{address: 127.0.0.1, port: 8080}}
"
    )
}

/// A Service of this name.
pub(crate) fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
    )
}

/// A policy on the route `shop/r`; `per` may be made wrong.
pub(crate) fn limit_policy(name: &str, rates: &str) -> String {
    format!(
        "apiVersion: gateway.baribhara.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  targetRefs:
  - {{group: gateway.baribhara.io, kind: GatewayRoute, name: r}}
  limits:
  - name: all
    keys: [{{type: ClientIP}}]
    rates: {rates}
"
    )
}
