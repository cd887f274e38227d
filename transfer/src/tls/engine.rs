//! The two ways to seal and open under one stream: our own records, or rustls's.

#[cfg(any(test, fuzzing))]
mod heard;

use super::classic::{self, Classic};
use super::error::{TlsError, TlsErrorKind};
use super::handshake::{Connection, Records};
use super::record::{HEADER, PLAINTEXT_MAX, SLOT};
use super::session::{Event, Fault, Inbox, Pending, Session, Unsealed};

/// What a stream does its records with.
#[allow(clippy::large_enum_variant, reason = "there is one per connection, in a box")]
pub(crate) enum Engine {
    /// TLS 1.3.
    Own(Session, Inbox),
    /// TLS 1.2.
    Classic(Box<Classic>),
}

/// How far reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Something was read.
    Bytes(usize),
    /// More must be received.
    Nothing,
    /// The peer has said that nothing follows.
    End,
}

impl Engine {
    /// `None` for a suite that is unknown.
    pub(crate) fn new(
        records: Records,
        plaintext: Vec<u8>,
        ciphertext: &[u8],
        closed_by_peer: bool,
        key_records_max: u64,
    ) -> Option<Self> {
        let mut session = match records {
            Records::Ours(keys, secrets) => Session::new(keys, &secrets, key_records_max)?,
            Records::Kernels(keys, receiving) => Session::sealed_elsewhere(keys, &receiving)?,
            Records::Theirs(connection) => {
                let classic = Self::classic(connection, plaintext, ciphertext, closed_by_peer);
                return Some(Self::Classic(classic));
            }
        };
        if closed_by_peer {
            session.peer_has_closed();
        }
        Some(Self::Own(session, Inbox::with_leftover(&plaintext, ciphertext)))
    }

    fn classic(
        connection: Connection,
        plaintext: Vec<u8>,
        ciphertext: &[u8],
        closed_by_peer: bool,
    ) -> Box<Classic> {
        Box::new(Classic::new(connection, plaintext, ciphertext, closed_by_peer))
    }

    /// Takes plaintext that is there, opening what must be opened for it.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<Unread, TlsError> {
        let mut count = 0;
        loop {
            count += self.take(&mut into[count..]);
            if count == into.len() {
                return Ok(Unread::Bytes(count));
            }
            match self.step() {
                Ok(Stepped::Opened) => {}
                // The error stays with the session, for the next call.
                Err(_) if count > 0 => return Ok(Unread::Bytes(count)),
                Ok(_) if count > 0 => return Ok(Unread::Bytes(count)),
                Ok(Stepped::NeedsMore) => return Ok(Unread::Nothing),
                Ok(Stepped::End) => return Ok(Unread::End),
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, into: &mut [u8]) -> usize {
        match self {
            Self::Own(_, inbox) => inbox.take(into),
            Self::Classic(classic) => classic.take(into),
        }
    }

    /// Opens the next record.
    pub(crate) fn step(&mut self) -> Result<Stepped, TlsError> {
        match self {
            Self::Own(session, inbox) => Ok(match inbox.step(session)? {
                Some(Event::Data(_) | Event::Control) => Stepped::Opened,
                Some(Event::Closed) => Stepped::End,
                None => Stepped::NeedsMore,
            }),
            Self::Classic(classic) => {
                let before = classic.unread();
                let stepped = classic.step();
                stepped.map_err(|error| TlsError::of_handshake(error, &[22, 3]))?;
                Ok(match () {
                    () if classic.unread() > before => Stepped::Opened,
                    () if classic.is_closed_by_peer() => Stepped::End,
                    () => Stepped::NeedsMore,
                })
            }
        }
    }

    /// Plaintext that can be taken without a receive, in bytes.
    pub(crate) fn unread(&self) -> usize {
        match self {
            Self::Own(_, inbox) => inbox.unread(),
            Self::Classic(classic) => classic.unread(),
        }
    }

    /// Room for a receive.
    pub(crate) fn room(&mut self) -> Result<&mut [u8], TlsError> {
        match self {
            Self::Own(_, inbox) => Ok(inbox.room()),
            Self::Classic(classic) => classic.room(),
        }
    }

    pub(crate) fn received(&mut self, count: usize) {
        match self {
            Self::Own(_, inbox) => inbox.received(count),
            Self::Classic(classic) => classic.received(count),
        }
    }

    /// Nothing will come for a while: holds no more memory than what is unread.
    pub(crate) fn rest(&mut self) {
        match self {
            Self::Own(_, inbox) => inbox.rest(),
            Self::Classic(classic) => classic.rest(),
        }
    }

    /// The stream below has ended.
    pub(crate) fn end_of_stream(&mut self) -> Result<(), TlsError> {
        match self {
            Self::Own(session, _) => session.end_of_stream().map_err(TlsError::from),
            Self::Classic(classic) if classic.is_closed_by_peer() => Ok(()),
            Self::Classic(_) => Err(TlsError::new(TlsErrorKind::Truncated)),
        }
    }

    /// Seals in place; only our own records can.
    pub(crate) fn seal(&mut self, slot: &mut [u8], len: usize) -> Result<usize, Unsealed> {
        match self {
            Self::Own(session, _) => session.seal(slot, len),
            Self::Classic(_) => Err(Unsealed::Failed(Fault::Unexpected("a record of TLS 1.2"))),
        }
    }

    /// Seals a copy of up to one record of plaintext, appended to `into`; returns how much was taken.
    /// The record is staged, as by [`Self::seal`].
    pub(crate) fn seal_copy(
        &mut self,
        plaintext: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<usize, Unsealed> {
        match self {
            Self::Own(session, _) => {
                let (begin, len) = (into.len(), plaintext.len().min(PLAINTEXT_MAX));
                into.resize(begin + SLOT - PLAINTEXT_MAX + len, 0);
                into[begin + HEADER..begin + HEADER + len].copy_from_slice(&plaintext[..len]);
                let sealed = session.seal(&mut into[begin..], len);
                if sealed.is_err() {
                    zeroize::Zeroize::zeroize(&mut into[begin..]);
                    into.truncate(begin);
                }
                sealed.map(|_| len)
            }
            Self::Classic(classic) if classic.is_closed_by_us() => Err(Unsealed::Closed),
            Self::Classic(classic) if !classic.pending.is_empty() => Err(Unsealed::PrepareFirst),
            Self::Classic(classic) => {
                classic.seal(plaintext, into).map_err(|_error| Unsealed::Failed(Fault::NoKey))
            }
        }
    }

    /// What was staged went out: whole records with so much plaintext in all.
    pub(crate) fn took(&mut self, records: u64, plaintext: u64) {
        match self {
            Self::Own(session, _) => session.took(records, plaintext),
            Self::Classic(classic) => classic.accepted += plaintext,
        }
    }

    /// The first staged record is half sent; see [`Session::keep`].
    pub(crate) fn keep(&mut self, rest: &[u8], plaintext: u64) {
        match self {
            Self::Own(session, _) => session.keep(rest, plaintext),
            Self::Classic(classic) => classic.pending.keep(rest, plaintext),
        }
    }

    /// Takes the last staged records back; impossible, and ignored, for rustls's.
    pub(crate) fn rewind(&mut self, records: u64) {
        if let Self::Own(session, _) = self {
            session.rewind(records);
        }
    }

    pub(crate) fn pending(&self) -> &Pending {
        match self {
            Self::Own(session, _) => session.pending(),
            Self::Classic(classic) => &classic.pending,
        }
    }

    pub(crate) fn pending_sent(&mut self, count: usize) {
        match self {
            Self::Own(session, _) => session.pending_sent(count),
            Self::Classic(classic) => classic.accepted += classic.pending.advance(count),
        }
    }

    pub(crate) fn accepted(&self) -> u64 {
        match self {
            Self::Own(session, _) => session.accepted(),
            Self::Classic(classic) => classic.accepted,
        }
    }

    /// Whether something must go out before further data.
    pub(crate) fn owes(&self) -> bool {
        match self {
            Self::Own(session, _) => session.owes() || !session.pending().is_empty(),
            Self::Classic(classic) => !classic.pending.is_empty(),
        }
    }

    /// Seals what is owed, at a border of records.
    pub(crate) fn prepare(&mut self) -> Result<(), TlsError> {
        match self {
            Self::Own(session, _) => session.prepare().map_err(TlsError::from),
            Self::Classic(_) => Ok(()),
        }
    }

    pub(crate) fn close(&mut self) -> Result<(), TlsError> {
        match self {
            Self::Own(session, _) => session.close(),
            Self::Classic(classic) => {
                let closed = classic.close();
                closed.map_err(|error| TlsError::of_handshake(error, &[22, 3]))?;
            }
        }
        Ok(())
    }

    /// Bytes of memory held for what has come.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held(&self) -> usize {
        match self {
            Self::Own(session, inbox) => inbox.held() + session.fragment_held(),
            Self::Classic(_) => 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn refresh_keys(&mut self) {
        match self {
            Self::Classic(classic) => classic.refresh_keys(),
            Self::Own(session, _) => session.update_keys(true),
        }
    }

    pub(crate) fn is_classic(&self) -> bool {
        matches!(self, Self::Classic(_))
    }

    pub(crate) fn classic_reason() -> &'static str {
        classic::REASON
    }
}

/// What opening a record came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stepped {
    /// One was opened; there may be more.
    Opened,
    /// More bytes must be received first.
    NeedsMore,
    /// The peer has said that nothing follows.
    End,
}
