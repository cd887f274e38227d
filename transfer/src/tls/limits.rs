//! What one TLS connection may hold and how long its handshake may take.

use std::time::Duration;

/// The bounds of one TLS connection. Each field names its unit, its default and its cost at worst.
///
/// ```
/// use ringway::tls::TlsLimits;
/// use std::time::Duration;
///
/// let limits = TlsLimits::default().with_handshake_timeout(Duration::from_secs(3));
/// assert!(limits.unread_max_bytes >= 16 * 1024);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsLimits {
    /// How long a handshake may take in all. Default 10 s.
    ///
    /// At worst a silent peer keeps a socket and up to 80 KiB of handshake messages this long.
    pub handshake_timeout: Duration,
    /// The plaintext that is received and kept while a transfer sends, in bytes. Default 64 KiB. Beyond
    /// it receiving stops until it is read, so that key updates and alerts of the peer wait as well.
    ///
    /// At worst this much memory, and one record more, per connection that sends.
    pub unread_max_bytes: usize,
    /// The records that one key seals at most; never more than the cipher allows (2²⁴ for AES-GCM).
    /// Default: what the cipher allows. At least 8.
    ///
    /// At worst, with a small number, a key update for each so many records: about 10 µs.
    pub key_records_max: u64,
    /// Whether the kernel may seal what is sent, where it can. Default true: a file then goes to the
    /// socket without a copy in user space.
    ///
    /// At worst, before Linux 6.14, a connection whose key is spent (after 256 GiB) or whose peer asks
    /// for a new one ends with an error, because that kernel takes no second key.
    pub kernel_tls: bool,
}

/// Fewer records than this would leave no room for data.
const KEY_RECORDS_MIN: u64 = 8;

impl Default for TlsLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            unread_max_bytes: 64 << 10,
            key_records_max: u64::MAX,
            kernel_tls: true,
        }
    }
}

impl TlsLimits {
    /// Sets [`handshake_timeout`](Self::handshake_timeout).
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Sets [`unread_max_bytes`](Self::unread_max_bytes).
    #[must_use]
    pub fn with_unread_max_bytes(mut self, bytes: usize) -> Self {
        self.unread_max_bytes = bytes;
        self
    }

    /// Sets [`kernel_tls`](Self::kernel_tls).
    #[must_use]
    pub fn with_kernel_tls(mut self, may: bool) -> Self {
        self.kernel_tls = may;
        self
    }

    /// Sets [`key_records_max`](Self::key_records_max); what is below 8 counts as 8.
    #[must_use]
    pub fn with_key_records_max(mut self, records: u64) -> Self {
        self.key_records_max = records.max(KEY_RECORDS_MIN);
        self
    }
}
