//! A key in the form in which the kernel takes it: `tls12_crypto_info_*` of `linux/tls.h`.
//!
//! ```text
//! version, cipher   2 bytes each, in the order of the machine
//! iv                8 bytes (the vector's last ones); ChaCha20-Poly1305: all 12
//! key               16 or 32 bytes
//! salt              4 bytes (the vector's first ones); ChaCha20-Poly1305: none
//! number            8 bytes, big end first
//! ```

use std::fmt;

use rustls::ConnectionTrafficSecrets;
use zeroize::Zeroize;

use crate::tls::record::Suite;

const TLS_1_3: u16 = 0x0304;
const LEN_MAX: usize = 56;
const NUMBER: usize = 8;

/// Wiped when it is dropped.
pub(super) struct CryptoInfo {
    bytes: [u8; LEN_MAX],
    suite: Suite,
}

impl CryptoInfo {
    /// `None` for a suite that is unknown.
    pub(super) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Option<Self> {
        let (suite, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (Suite::ChaCha20Poly1305, key, iv)
            }
            _ => return None,
        };
        Some(Self::of(suite, sequence, key.as_ref(), iv.as_ref().try_into().ok()?))
    }

    /// With a key that is known to everybody, to try whether the kernel takes the suite.
    pub(super) fn trial(suite: Suite) -> Self {
        let key = [0; 32];
        let len = if suite == Suite::Aes128Gcm { 16 } else { 32 };
        Self::of(suite, 0, &key[..len], &[0; 12])
    }

    /// To be filled by the kernel.
    pub(super) fn blank(suite: Suite) -> Self {
        Self { bytes: [0; LEN_MAX], suite }
    }

    fn of(suite: Suite, sequence: u64, key: &[u8], vector: &[u8; 12]) -> Self {
        let mut info = Self::blank(suite);
        let (salt, iv) = vector.split_at(if suite == Suite::ChaCha20Poly1305 { 0 } else { 4 });
        let (version, cipher) = (TLS_1_3.to_ne_bytes(), cipher(suite).to_ne_bytes());
        let number = sequence.to_be_bytes();
        let mut at = 0;
        for part in [&version[..], &cipher, iv, key, salt, &number] {
            info.bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        debug_assert_eq!(at, info.len(), "{suite}");
        info
    }

    pub(super) fn suite(&self) -> Suite {
        self.suite
    }

    /// The number of the next record.
    pub(super) fn sequence(&self) -> u64 {
        let mut number = [0; NUMBER];
        number.copy_from_slice(&self.bytes[self.len() - NUMBER..self.len()]);
        u64::from_be_bytes(number)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        let len = self.len();
        &mut self.bytes[..len]
    }

    fn len(&self) -> usize {
        if self.suite == Suite::Aes128Gcm { 40 } else { LEN_MAX }
    }
}

/// The numbers of `linux/tls.h`.
fn cipher(suite: Suite) -> u16 {
    match suite {
        Suite::Aes128Gcm => 51,
        Suite::Aes256Gcm => 52,
        Suite::ChaCha20Poly1305 => 54,
    }
}

impl Drop for CryptoInfo {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for CryptoInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CryptoInfo").field("suite", &self.suite).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pair::memory_at;

    #[test]
    fn a_key_lies_as_the_kernel_wants_it() {
        let vector: [u8; 12] = std::array::from_fn(|n| u8::try_from(n).unwrap_or(0));
        let info = CryptoInfo::of(Suite::Aes128Gcm, 258, &[7; 16], &vector);
        let mut wanted = Vec::from(TLS_1_3.to_ne_bytes());
        wanted.extend(51u16.to_ne_bytes());
        wanted.extend(4..12);
        wanted.extend([7; 16]);
        wanted.extend(0..4);
        wanted.extend([0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(info.as_slice(), wanted);
        assert_eq!(info.sequence(), 258);
    }

    #[test]
    fn nothing_is_left_where_the_keys_for_the_kernel_were_dropped() {
        // A place that stays ours, and is not written to, when the keys in it are dropped.
        let mut place = vec![CryptoInfo::of(Suite::Aes256Gcm, 1, &[7; 32], &[9; 12])];
        let bytes = place[0].as_slice();
        let (address, len) = (bytes.as_ptr().addr(), bytes.len());
        assert_eq!(memory_at(address, len), bytes);
        place.clear();
        assert_eq!(memory_at(address, len), vec![0; len]);
        drop(place);
    }

    #[test]
    fn chacha_has_no_salt() {
        let vector: [u8; 12] = std::array::from_fn(|n| u8::try_from(n).unwrap_or(0));
        let info = CryptoInfo::of(Suite::ChaCha20Poly1305, u64::MAX, &[7; 32], &vector);
        assert_eq!(info.as_slice().len(), 56);
        assert_eq!(info.as_slice()[4..16], vector);
        assert_eq!(info.sequence(), u64::MAX);
    }
}
