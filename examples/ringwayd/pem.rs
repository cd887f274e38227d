//! Certificates and keys out of PEM files, with errors that say what to do.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{anyhow, bail};
use ringway::tls::rustls::pki_types::pem::{self, PemObject};
use ringway::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// All certificates of a file that was named by this option.
///
/// # Errors
///
/// A file that cannot be read, or that has none.
pub(crate) fn chain(file: &Path, option: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = file.display();
    let chain =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| unreadable(file, "certificate", option, &error))?;
    if chain.is_empty() {
        bail!("there is no certificate in {shown}: {option} takes a PEM file (BEGIN CERTIFICATE)");
    }
    Ok(chain)
}

/// The first key of a file that was named by `--key`.
///
/// # Errors
///
/// A file that cannot be read, or that has none.
pub(crate) fn key(file: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| unreadable(file, "key", "--key", &error))
}

fn unreadable(file: &Path, what: &str, option: &str, error: &pem::Error) -> anyhow::Error {
    let file = file.display();
    match error {
        pem::Error::Io(error) if error.kind() == ErrorKind::NotFound => {
            anyhow!("there is no {file}: name the {what} with {option}")
        }
        pem::Error::Io(error) => anyhow!("the {what} in {file} cannot be read: {error}"),
        pem::Error::NoItemsFound => {
            anyhow!("there is no {what} in {file}: {option} takes a PEM file, not encrypted")
        }
        error => anyhow!("the {what} in {file} is no good PEM: {error:?}"),
    }
}
