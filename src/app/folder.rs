//! Reading folders of objects once, for the commands that look and do not serve.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context as _;
use controller::Loaded;
use translate::{Settings, Severity};

use crate::logging;

/// What the ingress class of a command means for translation.
pub(crate) fn settings(ingress_class: &str) -> Settings {
    Settings { ingress_class: ingress_class.to_owned(), ..Settings::folder() }
}

/// Whether a certificate can be served now, and why its OCSP response, if it has one, cannot be stapled. The one place
/// where the control plane's question meets the data plane.
///
/// # Errors
/// Why not, for people.
pub(crate) fn check_certificate(
    chain_pem: &[u8],
    key_pem: &[u8],
    ocsp_response: Option<&[u8]>,
) -> Result<Option<String>, String> {
    let now = SystemTime::now();
    proxy::check_certificate(chain_pem, key_pem, now)?;
    Ok(ocsp_response.and_then(|response| proxy::check_ocsp_response(chain_pem, response, now).err()))
}

/// Reads folders (or single files) as one.
///
/// # Errors
/// One of them cannot be read at all. What is wrong with an object inside is a problem, not an error.
pub(crate) fn load(folders: &[PathBuf], ingress_class: &str) -> anyhow::Result<Loaded> {
    for folder in folders {
        let readable =
            if folder.is_file() { fs::File::open(folder).map(drop) } else { fs::read_dir(folder).map(drop) };
        readable.with_context(|| format!("{} cannot be read", folder.display()))?;
    }
    Ok(controller::load(folders, settings(ingress_class), check_certificate))
}

/// Says on standard error that the answer is about less than what stands in the folder.
pub(crate) fn warn_of_errors(loaded: &Loaded) {
    let errors = loaded.problems.count(Severity::Error);
    if errors > 0 {
        logging::note(&format!("{errors} errors in the folder; `baribhara check` lists them"));
    }
}
