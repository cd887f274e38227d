//! A certificate for development, made when there is none yet and kept, so that clients can be told to
//! trust it once.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::state;

/// The files of the certificate and of its key.
pub(crate) type Files = (PathBuf, PathBuf);

/// Finds the certificate in the folder, or makes one for this host and these addresses.
///
/// # Errors
///
/// A folder that cannot be made or written to.
pub(crate) fn provide(folder: Option<&Path>, addresses: &[SocketAddr]) -> anyhow::Result<Files> {
    let folder = state::folder(folder)?;
    let files = (folder.join("self-signed.pem"), folder.join("self-signed.key"));
    if files.0.exists() && files.1.exists() {
        return Ok(files);
    }
    let shown = folder.display();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.with_context(|| format!("cannot make {shown}: name another folder with --state-dir"))?;
    let made = made_for(names(addresses)).context("cannot make a certificate")?;
    write(&files.1, 0o600, &made.key)?;
    write(&files.0, 0o644, &made.certificate)?;
    Ok(files)
}

/// A certificate and its key, as PEM.
struct Made {
    certificate: String,
    key: String,
}

fn made_for(names: Vec<String>) -> Result<Made, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    // What browsers and `openssl s_client` show.
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "ringwayd, for development");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    Ok(Made { certificate, key: key.serialize_pem() })
}

/// What clients may call this host.
fn names(addresses: &[SocketAddr]) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let listening = addresses.iter().map(|address| address.ip());
    names.extend(listening.filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    names.extend(Some(host.trim().to_owned()).filter(|host| !host.is_empty() && host.is_ascii()));
    names.sort();
    names.dedup();
    names
}

fn write(file: &Path, mode: u32, content: &str) -> anyhow::Result<()> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(file);
    let written = opened.and_then(|mut file| file.write_all(content.as_bytes()));
    written.with_context(|| format!("cannot write {}", file.display()))
}
