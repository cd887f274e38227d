//! A digest of what is sent, while it is sent.

use std::fmt;

use bytes::Bytes;
use sha2::Digest as _;

use super::{Output, Piece, ProcessError, Processor, Window};
use crate::plan::Consistency;
use crate::receipt::Digest;

/// How a digest is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// CRC-32C (Castagnoli), RFC 3720: 4 bytes, big-endian. Notices accidents, not attacks.
    Crc32c,
    /// SHA-256, FIPS 180-4: 32 bytes.
    Sha256,
    /// BLAKE3 with its default output of 32 bytes.
    Blake3,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Crc32c => "crc32c",
            Self::Sha256 => "sha-256",
            Self::Blake3 => "blake3",
        }
    }
}

/// Computes a digest over everything that is sent, puts it into the receipt, and can send it behind the
/// body.
///
/// By default it sends the whole file. Around another processor it covers what that one sends of the
/// file, changed or not, and what it adds.
///
/// Without a choice of the caller it asks for a snapshot: a digest over bytes that may still change is
/// worth nothing.
///
/// ```
/// use ringway::process::{Algorithm, Digesting, rehearse};
///
/// let sent = rehearse(Digesting::new(Algorithm::Crc32c).with_trailer(), b"123456789", 4)?;
/// assert_eq!(sent, b"123456789\xe3\x06\x92\x83");
/// # Ok::<(), ringway::process::ProcessError>(())
/// ```
pub struct Digesting<P = All> {
    inner: P,
    algorithm: Algorithm,
    state: State,
    trailer: bool,
}

/// Sends everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct All;

enum State {
    Crc32c(u32),
    Sha256(sha2::Sha256),
    Blake3(Box<blake3::Hasher>),
}

impl Digesting<All> {
    /// A digest over the whole file.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self::of(All, algorithm)
    }
}

impl<P: Processor> Digesting<P> {
    /// A digest over what `inner` sends.
    #[must_use]
    pub fn of(inner: P, algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Crc32c => State::Crc32c(0),
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Blake3 => State::Blake3(Box::new(blake3::Hasher::new())),
        };
        Self { inner, algorithm, state, trailer: false }
    }

    /// Sends the digest, as it is in binary, behind the last byte.
    #[must_use]
    pub fn with_trailer(mut self) -> Self {
        self.trailer = true;
        self
    }

    /// Adds what `inner` has asked for in this turn.
    fn add(&mut self, window: Option<&Window<'_>>, output: &Output<'_>) {
        let (pieces, made, own): (&[Piece], &[u8], &[Bytes]) = output.pieces();
        for piece in pieces {
            match *piece {
                Piece::Window { at, len } => {
                    if let Some(window) = window {
                        window.visit(at..at + len, |chunk| self.state.add(chunk));
                    }
                }
                Piece::Made { at, len } => self.state.add(&made[at..at + len]),
                Piece::Own { index, .. } => self.state.add(&own[index]),
            }
        }
    }
}

impl State {
    fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    fn finish(&mut self) -> Vec<u8> {
        match self {
            Self::Crc32c(crc) => crc.to_be_bytes().to_vec(),
            Self::Sha256(hasher) => hasher.finalize_reset().to_vec(),
            Self::Blake3(hasher) => hasher.finalize().as_bytes().to_vec(),
        }
    }
}

impl Processor for All {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        output.send(0..window.len());
        Ok(window.len())
    }
}

impl<P: Processor> Processor for Digesting<P> {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        let used = self.inner.process(window, output)?;
        self.add(Some(window), output);
        Ok(used)
    }

    fn end(&mut self, output: &mut Output<'_>) -> Result<(), ProcessError> {
        self.inner.end(output)?;
        self.add(None, output);
        let digest = self.state.finish();
        if self.trailer {
            output.write(&digest)?;
        }
        output.note_digest(Digest { algorithm: self.algorithm.name(), bytes: digest });
        Ok(())
    }

    fn consistency(&self) -> Consistency {
        Consistency::Snapshot
    }

    fn changes(&self) -> bool {
        self.inner.changes()
    }

    fn writes(&self) -> usize {
        self.inner.writes()
    }
}

impl<P: fmt::Debug> fmt::Debug for Digesting<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digesting")
            .field("inner", &self.inner)
            .field("algorithm", &self.algorithm)
            .field("trailer", &self.trailer)
            .finish_non_exhaustive()
    }
}
