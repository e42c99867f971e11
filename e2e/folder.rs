//! A folder of YAML that a gateway serves, and pieces of YAML that many tests share.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// Removed with all its files when dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// # Panics
    /// When the temporary folder cannot be written.
    pub fn new() -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("baribhara-e2e-{}-{number}", std::process::id()));
        // A killed process of the same id may have left one.
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).expect("a temporary folder");
        Self { path }
    }

    /// A folder with one file.
    pub fn with(yaml: &str) -> Self {
        let folder = Self::new();
        folder.write("all.yaml", yaml);
        folder
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in one step, as careful tools do: a temporary name first, then a rename.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &str) {
        let temporary = self.path.join(format!(".{name}.tmp"));
        fs::write(&temporary, content).expect("write a file of the folder");
        fs::rename(&temporary, self.path.join(name)).expect("rename a file of the folder");
    }

    /// # Panics
    /// When it is not there.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path.join(name)).expect("remove a file of the folder");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
    }
}

/// A Service in namespace `shop` with port 80 and an EndpointSlice of these addresses (all of one family).
///
/// # Panics
/// Never: writing to a string does not fail.
pub fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let family = if endpoints.iter().any(SocketAddr::is_ipv6) { "IPv6" } else { "IPv4" };
    let mut yaml = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  ports:\n  - {{name: http, port: 80, targetPort: 8080}}\n"
    );
    // One slice an address, because a slice has one port for all of its endpoints.
    for (index, endpoint) in endpoints.iter().enumerate() {
        write!(
            yaml,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{index}\n  \
             namespace: shop\n  labels: {{kubernetes.io/service-name: {name}}}\naddressType: {family}\n\
             ports: [{{name: http, port: {}, protocol: TCP}}]\n\
             endpoints: [{{addresses: [\"{}\"], conditions: {{ready: true}}}}]\n",
            endpoint.port(),
            endpoint.ip(),
        )
        .expect("a string takes everything");
    }
    yaml
}

/// A GatewayRoute in namespace `shop` whose `spec` is this YAML (not indented).
pub fn route(name: &str, spec: &str) -> String {
    let indented: String = spec.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "---\napiVersion: gateway.baribhara.io/v1alpha1\nkind: GatewayRoute\n\
         metadata: {{name: {name}, namespace: shop}}\nspec:\n{indented}"
    )
}

/// A RateLimitPolicy in namespace `shop` whose `spec` is this YAML (not indented).
pub fn limit_policy(name: &str, spec: &str) -> String {
    route(name, spec).replacen("kind: GatewayRoute", "kind: RateLimitPolicy", 1)
}

/// An AuthPolicy in namespace `shop` whose `spec` is this YAML (not indented).
pub fn auth_policy(name: &str, spec: &str) -> String {
    route(name, spec).replacen("kind: GatewayRoute", "kind: AuthPolicy", 1)
}

/// A Secret in namespace `shop` with one entry.
pub fn secret(name: &str, key: &str, value: &str) -> String {
    use base64::Engine as _;
    let value = base64::engine::general_purpose::STANDARD.encode(value);
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: shop}}\ndata: {{\"{key}\": {value}}}\n"
    )
}
