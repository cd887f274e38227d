//! The three suites of TLS 1.3, and a key of one of them.

use std::fmt;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;
use zeroize::Zeroize;

/// A cipher of TLS 1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Suite {
    /// TLS_AES_128_GCM_SHA256.
    Aes128Gcm,
    /// TLS_AES_256_GCM_SHA384.
    Aes256Gcm,
    /// TLS_CHACHA20_POLY1305_SHA256.
    ChaCha20Poly1305,
}

impl Suite {
    /// Records that one key may seal: 2²⁴ for AES-GCM (RFC 8446, 5.5), and no bound that a
    /// connection could reach for ChaCha20-Poly1305.
    pub(crate) fn records_max(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 1 << 24,
            Self::ChaCha20Poly1305 => u64::MAX,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        })
    }
}

/// A traffic key and its initialization vector.
///
/// rustls wipes the secrets that it hands out when they are dropped, and AWS-LC wipes the expanded key
/// when its context is freed; the vector is wiped here.
pub(crate) struct TrafficKey {
    key: LessSafeKey,
    iv: [u8; 12],
    suite: Suite,
}

impl TrafficKey {
    /// `None` for a suite that this layer does not know.
    pub(crate) fn new(secrets: &ConnectionTrafficSecrets) -> Option<Self> {
        let (suite, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (Suite::ChaCha20Poly1305, key, iv)
            }
            _ => return None,
        };
        let algorithm = match suite {
            Suite::Aes128Gcm => &AES_128_GCM,
            Suite::Aes256Gcm => &AES_256_GCM,
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?);
        Some(Self { key, iv: iv.as_ref().try_into().ok()?, suite })
    }

    pub(crate) fn suite(&self) -> Suite {
        self.suite
    }

    /// The vector with the sequence number over its last eight bytes.
    fn nonce(&self, sequence: u64) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= number;
        }
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts `plaintext` in place and writes type and tag behind it. `false` if the library fails.
    #[must_use]
    pub(crate) fn seal(
        &self,
        sequence: u64,
        header: [u8; 5],
        plaintext: &mut [u8],
        kind: u8,
        tail: &mut [u8],
    ) -> bool {
        let nonce = self.nonce(sequence);
        self.key.seal_in_place_scatter(nonce, Aad::from(header), plaintext, &[kind], tail).is_ok()
    }

    /// Decrypts in place; `None` if it was not sealed so. What is returned includes type and padding.
    pub(super) fn open<'c>(
        &self,
        sequence: u64,
        header: [u8; 5],
        ciphertext: &'c mut [u8],
    ) -> Option<&'c mut [u8]> {
        self.key.open_in_place(self.nonce(sequence), Aad::from(header), ciphertext).ok()
    }
}

impl Drop for TrafficKey {
    fn drop(&mut self) {
        self.iv.zeroize();
    }
}

impl fmt::Debug for TrafficKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pair::memory_at;

    #[test]
    fn nothing_of_a_vector_is_left_where_a_key_was_dropped() {
        let vector = [0xa7; 12];
        let secrets =
            ConnectionTrafficSecrets::Aes256Gcm { key: [5; 32].into(), iv: vector.into() };
        // A place that stays ours, and is not written to, when the key in it is dropped.
        let mut place = vec![TrafficKey::new(&secrets).expect("a key")];
        let address = std::ptr::from_ref(&place[0].iv).addr();
        assert_eq!(memory_at(address, 12), vector);
        place.clear();
        assert_eq!(memory_at(address, 12), [0; 12]);
        drop(place);
    }
}
