//! What a route needs of a TLS stream: sealing at the right place, exact counts, and an ear for the peer.
//!
//! Nothing here waits, and nothing is borrowed after a call, so routes can await in between.

use super::*;
use crate::tls::record::{HEADER, PLAINTEXT_MAX, TAIL};
use crate::tls::session::Unsealed;

/// What was heard of the peer while sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// All that was there has been taken.
    Nothing,
    /// As much plaintext waits as may: nothing more is received until it is read.
    Full,
    /// The peer will send nothing more.
    Closed,
}

impl TlsStream {
    /// Seals a record in place; see [`Session::seal`](crate::tls::session::Session::seal).
    pub(crate) fn seal(&self, slot: &mut [u8], len: usize) -> Result<usize, Unsealed> {
        self.state.lock().engine.seal(slot, len)
    }

    /// Seals a copy of at most one record of plaintext, behind what `into` holds; returns how much.
    pub(crate) fn seal_copy(
        &self,
        plaintext: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<usize, Unsealed> {
        self.state.lock().engine.seal_copy(plaintext, into)
    }

    /// The socket has taken the first `records` staged records whole, with so much plaintext in all.
    pub(crate) fn took(&self, records: u64, plaintext: u64) {
        self.state.lock().engine.took(records, plaintext);
    }

    /// The first staged record is half sent: its rest waits here and goes before anything else.
    pub(crate) fn keep(&self, rest: &[u8], plaintext: u64) {
        self.state.lock().engine.keep(rest, plaintext);
    }

    /// Takes back the last `records` staged records, of which nothing has gone out.
    pub(crate) fn rewind(&self, records: u64) {
        self.state.lock().engine.rewind(records);
    }

    /// Whether something must go out before further data: call [`Self::try_flush`].
    pub(crate) fn owes(&self) -> bool {
        let state = self.state.lock();
        state.landing || state.engine.owes()
    }

    /// Sends what is owed and pending, without waiting; `false` if the socket is full, or what a transfer
    /// that was dropped has sent is not known yet.
    ///
    /// # Errors
    ///
    /// As for [`write_all`](Self::write_all).
    pub fn try_flush(&self) -> io::Result<bool> {
        self.try_flush_with(false)
    }

    /// The same, of bytes that `more` will follow.
    pub(super) fn try_flush_with(&self, more: bool) -> io::Result<bool> {
        self.check_broken()?;
        if self.backend == Backend::KernelTls {
            return self.try_say();
        }
        let mut state = self.state.lock();
        if state.landing {
            return Ok(false);
        }
        loop {
            state.engine.prepare().map_err(TlsError::into_io)?;
            let pending = state.engine.pending();
            if pending.is_empty() {
                return Ok(true);
            }
            match self.stream.try_send(&[IoSlice::new(pending.as_slice())], more) {
                Ok(count) => state.engine.pending_sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what the peer has sent, without waiting: data is kept for [`read`](Self::read), up to the
    /// bound, and what it asks for is owed.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub(crate) fn try_receive(&self) -> io::Result<Received> {
        self.check_broken()?;
        self.note_kernel();
        // Somebody has waited, or wants to know.
        self.state.lock().dry = false;
        let heard = self.hear();
        let mut state = self.state.lock();
        if state.engine.unread() > 0 || !matches!(heard, Ok(Received::Nothing)) {
            state.tell_reader();
        }
        heard
    }

    fn hear(&self) -> io::Result<Received> {
        loop {
            let mut state = self.state.lock();
            if state.engine.unread() >= state.unread_max {
                return Ok(Received::Full);
            }
            match state.engine.step().map_err(TlsError::into_io)? {
                Stepped::Opened => {}
                Stepped::End => return Ok(Received::Closed),
                Stepped::NeedsMore => {
                    if !state.fill(&self.stream)? {
                        return Ok(Received::Nothing);
                    }
                }
            }
        }
    }

    /// Nothing can be sent or read any more, because of `why`.
    pub(crate) fn break_off(&self, why: &'static str) {
        self.state.lock().broken.get_or_insert(why);
    }

    /// A transfer that began when [`Self::accepted`] was `began` was dropped in the middle.
    pub(crate) fn poison(&self, began: u64) {
        self.state.lock().poisoned.get_or_insert(began);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.state.lock().poisoned.is_some() || self.stream.is_poisoned()
    }

    /// Plaintext of the records that the socket has taken whole, in bytes, since the handshake. After a
    /// transfer was dropped it may still grow, until the stream is [settled](Self::settle).
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.note_kernel();
        self.state.lock().engine.accepted()
    }

    /// Plaintext of a record of which the socket has taken only the beginning, in bytes. It goes out
    /// before anything else, and counts as accepted then.
    #[must_use]
    pub fn half_sent(&self) -> u64 {
        self.state.lock().engine.pending().plaintext()
    }

    /// Waits until nothing of a dropped transfer is in flight any more and its half-sent record is out,
    /// and tells how many bytes of its plaintext the socket has accepted. The stream can be used again.
    ///
    /// # Errors
    ///
    /// If the stream cannot go on, and those of send(2).
    ///
    /// # Cancel safety
    ///
    /// The stream stays poisoned.
    pub async fn settle(&mut self) -> io::Result<u64> {
        self.stream.settle().await;
        // What has become of its last send comes first in there.
        self.flush().await?;
        self.close_record();
        self.note_kernel();
        let mut state = self.state.lock();
        let accepted = state.engine.accepted();
        Ok(state.poisoned.take().map_or(0, |began| accepted - began))
    }

    /// Seals and sends one batch of copies; returns the plaintext that is accepted or pending.
    pub(super) fn write_ready(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.backend == Backend::KernelTls {
            return self.write_to_kernel(bytes);
        }
        /// Records in a batch.
        const RECORDS: usize = 4;
        // One allocation for a batch, whatever it holds.
        let room = bytes.len().min(RECORDS * PLAINTEXT_MAX) + RECORDS * (HEADER + TAIL);
        let mut batch = Vec::with_capacity(room);
        let mut ends = [(0, 0); RECORDS];
        let (mut taken, mut records) = (0, 0);
        while taken < bytes.len() && records < RECORDS {
            match self.seal_copy(&bytes[taken..], &mut batch) {
                Ok(len) => taken += len,
                // Send what is sealed; the caller flushes before the next batch.
                Err(Unsealed::PrepareFirst) => break,
                Err(Unsealed::Closed) => {
                    return Err(TlsError::new(TlsErrorKind::Closed).into_io());
                }
                Err(Unsealed::Failed(fault)) => return Err(TlsError::from(fault).into_io()),
            }
            ends[records] = (batch.len(), taken);
            records += 1;
        }
        if records == 0 {
            return Ok(0);
        }
        let sent = match self.stream.try_send(&[IoSlice::new(&batch)], false) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                self.rewind(records as u64);
                return Err(error);
            }
        };
        self.account(&batch, &ends[..records], sent)
    }

    /// Records what became of a batch; `ends` are those of the records and of their plaintext.
    fn account(&mut self, batch: &[u8], ends: &[(usize, usize)], sent: usize) -> io::Result<usize> {
        let whole = ends.iter().take_while(|(end, _)| *end <= sent).count();
        let (begin, accepted) = whole.checked_sub(1).map_or((0, 0), |last| ends[last]);
        self.took(whole as u64, accepted as u64);
        let Some(&(end, plain_end)) = ends.get(whole) else { return Ok(accepted) };
        let mut state = self.state.lock();
        if state.engine.is_classic() {
            // rustls cannot take a record back, so all of them wait here.
            let all = ends[ends.len() - 1].1;
            state.engine.keep(&batch[sent..], (all - accepted) as u64);
            return Ok(all);
        }
        let untouched = ends.len() - whole - usize::from(sent > begin);
        state.engine.rewind(untouched as u64);
        if sent > begin {
            state.engine.keep(&batch[sent..end], (plain_end - accepted) as u64);
            return Ok(plain_end);
        }
        Ok(accepted)
    }
}
