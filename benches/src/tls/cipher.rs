//! The cipher by itself: records sealed in place, with no file and no socket.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};

use super::suite::Suite;
use super::{RECORD_DATA, RECORD_REST};
use crate::measure::{Start, Usage};

/// Records that lie beside each other, as in the buffer that a transfer seals in.
const SLOTS: usize = 16;

/// Seals as many full records as a file of `len` bytes makes, by AWS-LC.
pub(super) fn alone(suite: &Suite, len: u64) -> Result<Usage> {
    let key = vec![7; suite.algorithm.key_len()];
    let key = UnboundKey::new(suite.algorithm, &key).ok().context("no key")?;
    let key = LessSafeKey::new(key);
    // The data and its content type are sealed, the header is not.
    let (slot, sealed) = (usize::try_from(RECORD_DATA + RECORD_REST)?, 5..5 + 16 * 1024 + 1);
    let mut buffer = vec![0x5a; slot * SLOTS];
    let start = Start::now();
    for number in 0..len.div_ceil(RECORD_DATA) {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        let at = usize::try_from(number)? % SLOTS * slot;
        let record = &mut buffer[at..at + slot];
        let header = [23, 3, 3, 0x40, 0x11];
        let tag = key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(header),
            &mut record[sealed.clone()],
        );
        let tag = tag.ok().context("a record was not sealed")?;
        record[sealed.end..].copy_from_slice(tag.as_ref());
    }
    std::hint::black_box(&buffer);
    Ok(start.used())
}

/// CPU seconds per GB of OpenSSL's, from three runs of `openssl speed`; empty where it cannot be had.
pub(super) fn openssl(suite: &Suite, cpu: usize) -> Vec<f64> {
    (0..3).filter_map(|_| openssl_once(suite, cpu)).collect()
}

fn openssl_once(suite: &Suite, cpu: usize) -> Option<f64> {
    let own = std::env::current_exe().ok()?;
    let output = Command::new(own)
        .args(["launch", "--cpu", &cpu.to_string()])
        .args(["--parent", &std::process::id().to_string(), "--", "openssl", "speed"])
        .args(["-mr", "-aead", "-evp", suite.evp, "-bytes", "16384", "-seconds", "1"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    per_gb(&String::from_utf8_lossy(&output.stdout))
}

/// From `+F:<number>:<cipher>:<bytes per second of user time>`.
fn per_gb(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.starts_with("+F:"))?;
    let rate: f64 = line.rsplit(':').next()?.trim().parse().ok()?;
    (rate > 0.0).then(|| 1e9 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_become_seconds_per_gb() {
        let said = "+H:16384\n+F:24:AES-256-GCM:4000000000.00\n";
        assert_eq!(per_gb(said), Some(0.25));
        assert_eq!(per_gb("+H:16384\n"), None);
    }
}
