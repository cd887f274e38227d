//! wrk and curl: how they are started, and what they say.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use ringway::tls::rustls::ClientConfig;

use crate::data::DataFile;
use crate::tls::{self, Certificate, TLS_SUITE};

/// What OpenSSL's clients are told: there is one suite.
const OPENSSL_CONF: &str = "\
openssl_conf = all
[all]
ssl_conf = of_tls
[of_tls]
system_default = of_all_contexts
[of_all_contexts]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_256_GCM_SHA384
";

const SUITE: &str = "TLSv1.3 / TLS_AES_256_GCM_SHA384";

/// The clients, with their configuration.
pub(super) struct Clients {
    openssl_conf: PathBuf,
    certificate: PathBuf,
    config: Arc<ClientConfig>,
}

impl Clients {
    pub(super) fn make(directory: &Path, certificate: &Certificate) -> Result<Self> {
        let openssl_conf = directory.join("openssl.cnf");
        std::fs::write(&openssl_conf, OPENSSL_CONF)?;
        let config = certificate.client(TLS_SUITE)?;
        Ok(Self { openssl_conf, certificate: certificate.chain(), config })
    }

    /// GETs once and compares every byte; the suite must be the one.
    pub(super) fn compare(&self, url: &str, data: &DataFile) -> Result<()> {
        let mut curl = self.curl(url).arg("-v").stderr(Stdio::piped()).spawn()?;
        let mut body = curl.stdout.take().context("curl has no stdout")?;
        let (mut buffer, mut position) = (vec![0; 1 << 20], 0);
        let compared = loop {
            match body.read(&mut buffer)? {
                0 => break Ok(()),
                read => {
                    if let Err(error) = data.canary.check(position, &buffer[..read]) {
                        break Err(error);
                    }
                    position += read as u64;
                }
            }
        };
        drop(body);
        let output = curl.wait_with_output()?;
        compared?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "curl: {}: {said}", output.status);
        ensure!(position == data.slices.len, "{position} of {} bytes came", data.slices.len);
        ensure!(said.contains(SUITE), "another suite was agreed on: {said}");
        Ok(())
    }

    /// GETs once and counts.
    pub(super) fn download(&self, url: &str, len: u64) -> Result<()> {
        let output = self
            .curl(url)
            .args(["-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"])
            .stderr(Stdio::inherit())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said == format!("200 {len}"), "curl: {}: {said}", output.status);
        Ok(())
    }

    /// GETs once, and discards what is sealed.
    pub(super) fn discard(&self, address: SocketAddr, name: &str, len: u64) -> Result<()> {
        tls::discard_answer(address, &self.config, name, len)
    }

    fn curl(&self, url: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.arg("--cacert").arg(&self.certificate).arg(url);
        curl.env("OPENSSL_CONF", &self.openssl_conf);
        curl.stdin(Stdio::null()).stdout(Stdio::piped());
        curl
    }

    /// Asks for some time over keep-alive connections; how many answers came.
    pub(super) fn wrk(&self, url: &str, connections: u32, seconds: u32) -> Result<u64> {
        let output = Command::new("wrk")
            .args(["-t1", "-c", &connections.to_string(), "-d", &format!("{seconds}s"), url])
            .env("OPENSSL_CONF", &self.openssl_conf)
            .stdin(Stdio::null())
            .output()
            .context("wrk cannot be started")?;
        requests(&String::from_utf8_lossy(&output.stdout))
    }
}

/// From `  12345 requests in 3.00s, 1.2GB read`.
fn requests(said: &str) -> Result<u64> {
    for wrong in ["Socket errors", "Non-2xx"] {
        ensure!(!said.contains(wrong), "wrk: {said}");
    }
    let Some(line) = said.lines().find(|line| line.contains(" requests in ")) else {
        bail!("wrk: {said}");
    };
    let number: u64 = line.split_whitespace().next().context("no number")?.parse()?;
    ensure!(number > 0, "wrk was not answered");
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_believed_only_without_errors() {
        let said = "Running 3s test\n  Thread Stats\n  4711 requests in 3.00s, 1.2GB read\n";
        assert_eq!(requests(said).unwrap(), 4711);
        assert!(requests(&format!("{said}  Non-2xx or 3xx responses: 1\n")).is_err());
        assert!(requests(&format!("{said}  Socket errors: connect 0, read 1\n")).is_err());
        assert!(requests("  0 requests in 3.00s").is_err());
        assert!(requests("").is_err());
    }
}
