//! Sending over a stream that seals here: what a processor kept is copied into record slots, and sealed
//! there.
//!
//! ```text
//!   window (map or memory), what was written, own bytes
//!      └─ copied ─▶ draft: │hdr│plaintext│tag│hdr│ …   one buffer of the pool
//!                             └─ whole? then sealed ─▶ socket
//! ```
//!
//! A batch holds what is kept of one window. The bytes are copied while the window is known to be whole,
//! so no zero behind the end of a file that was cut is ever sealed. From there on the routes of encrypted
//! streams have it: half-sent records, key updates and alerts are theirs. Runs count when the records with
//! them are out whole, by what the transfer has counted. At most one buffer is held, which is why windows
//! are not read into one, and nothing is while the peer stalls.

use ringway_runtime::region;

use super::frame::Memory;
use super::outgoing::Beyond;
use super::runs::Run as Outgo;
use super::sending::{corks, is_of_window, misstep};
use super::{Mapped, truncated};
use crate::error::TransferError;
use crate::plan::Route;
use crate::route::draft::{Draft, Drafting};
use crate::route::registered::Sealing;
use crate::route::session::Session;
use crate::route::{Run, copy, library, to_len};
use crate::tls::Backend;
use crate::tls::record::PLAINTEXT_MAX;

/// Who makes the records.
pub(super) struct Records<'t> {
    maker: Maker<'t>,
    /// What the transfer had counted when the runs were last told.
    counted: u64,
    /// Something was sent already, so the peer may have answered.
    begun: bool,
}

enum Maker<'t> {
    Ours(Sealing<'t>),
    Library { session: Session<'t>, drafting: Drafting },
}

impl<'t> Records<'t> {
    /// `None` where the socket takes the bytes as they are.
    pub(super) fn of(run: &Run<'t>) -> Result<Option<Self>, TransferError> {
        let Some(tls) = run.sink.tls() else { return Ok(None) };
        let maker = match tls.backend() {
            Backend::KernelTls => return Ok(None),
            Backend::Registered { .. } => Maker::Ours(Sealing::of(run)?),
            Backend::Rustls { .. } => Maker::Library {
                session: Session::of(run, Route::Copy)?,
                drafting: library::drafting(),
            },
        };
        Ok(Some(Self { maker, counted: 0, begun: false }))
    }

    fn session(&mut self) -> &mut Session<'t> {
        match &mut self.maker {
            Maker::Ours(sealing) => &mut sealing.session,
            Maker::Library { session, .. } => session,
        }
    }

    /// The most plaintext of the next batch, in bytes.
    fn most(&self) -> u64 {
        match &self.maker {
            Maker::Ours(sealing) => sealing.most,
            Maker::Library { .. } => PLAINTEXT_MAX as u64,
        }
    }

    async fn begin(&self, run: &mut Run<'_>, bytes: u64) -> Result<Draft, TransferError> {
        match &self.maker {
            Maker::Ours(sealing) => sealing.drafting.begin(run, bytes).await,
            Maker::Library { drafting, .. } => drafting.begin(run, bytes).await,
        }
    }

    /// Hears the peer, and sends what goes before anything else. `false` if `holding` is over.
    async fn flush(&mut self, run: &mut Run<'_>, holding: bool) -> Result<bool, TransferError> {
        let begun = std::mem::replace(&mut self.begun, true);
        let session = self.session();
        // The first time nothing has been said that the last read did not hear.
        if begun {
            session.listen(run)?;
        }
        session.flush_holding(run, holding).await
    }

    /// Seals and sends what is staged. `false` if the peer stalls: the buffer is given back then.
    async fn send(
        &mut self,
        run: &mut Run<'_>,
        draft: Draft,
        more: bool,
    ) -> Result<bool, TransferError> {
        match &mut self.maker {
            Maker::Ours(sealing) => {
                sealing.seal(run, draft)?;
                sealing.send(run, more).await
            }
            Maker::Library { session, .. } => {
                library::seal(run, session, draft)?;
                session.flush_holding(run, true).await
            }
        }
    }
}

impl Mapped<'_> {
    /// Seals and sends memory of the caller.
    pub(super) async fn seal_memory(
        &mut self,
        run: &mut Run<'_>,
        part: usize,
        len: u64,
    ) -> Result<(), TransferError> {
        self.outgoing.load(|list| list.push(Outgo::Memory { part, at: 0, len }));
        self.seal(run).await
    }

    /// Seals and sends all runs.
    pub(super) async fn seal(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        if let Some(records) = &mut self.records {
            records.counted = run.progress.accepted();
        }
        loop {
            self.flush(run).await?;
            if self.outgoing.remaining() == 0 {
                return Ok(());
            }
            self.batch(run).await?;
            run.give_way().await;
            run.watch.check().map_err(|kind| run.fail(kind))?;
        }
    }

    /// After it, nothing is staged and all that was accepted is told to the runs.
    async fn flush(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        let Some(records) = &mut self.records else { return Ok(()) };
        let is_out = records.flush(run, true).await?;
        self.tell_runs(run)?;
        if is_out { Ok(()) } else { self.pause(run).await }
    }

    /// Seals and sends what fits into one buffer, or gives it up if the peer stalls.
    async fn batch(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        if self.frame.is_none() && self.outgoing.gathered().any(is_of_window) {
            self.frame_again(run).await?;
        }
        let Some(records) = &mut self.records else { return Ok(()) };
        let allowed = run.quantum().await?;
        let most = allowed.min(records.most()).min(self.outgoing.remaining());
        let mut draft = records.begin(run, most).await?;
        let is_whole = self.copy_into(run, &mut draft, to_len(most));
        let filled = draft.filled as u64;
        run.unused(allowed.saturating_sub(filled));
        if !is_whole {
            return Err(truncated(run));
        }
        if filled == 0 {
            // A batch of nothing would go on for ever.
            return Err(misstep(run, Beyond, 0));
        }
        run.stage(filled)?;
        let more = corks(run, self.outgoing.remaining() - filled);
        let Some(records) = &mut self.records else { return Ok(()) };
        let is_out = records.send(run, draft, more).await?;
        self.tell_runs(run)?;
        if is_out { Ok(()) } else { self.pause(run).await }
    }

    /// Waits for a peer that stalls, and holds only what cannot be had again.
    async fn pause(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        self.let_go(run)?;
        let Some(records) = &mut self.records else { return Ok(()) };
        let session = records.session();
        session.wait(run, false).await?;
        session.flush(run).await?;
        self.tell_runs(run)
    }

    /// What the transfer has counted meanwhile is out.
    fn tell_runs(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        let Some(records) = &mut self.records else { return Ok(()) };
        let accepted = run.progress.accepted();
        let moved = accepted - std::mem::replace(&mut records.counted, accepted);
        self.accept(run, moved)
    }

    /// Copies at most so much of what follows into the slots; `false` if the window that it lies in is not
    /// whole any more.
    fn copy_into(&self, run: &Run<'_>, draft: &mut Draft, most: usize) -> bool {
        match &self.frame {
            // One look at the file for all runs: a length that is still right vouches for each of them.
            Some(Memory::Map(window)) => {
                window.read(|view| self.copy_runs(run, draft, most, Some(view))).is_ok()
            }
            _ => {
                self.copy_runs(run, draft, most, None);
                true
            }
        }
    }

    fn copy_runs(
        &self,
        run: &Run<'_>,
        draft: &mut Draft,
        most: usize,
        view: Option<&region::View<'_>>,
    ) {
        for piece in self.outgoing.gathered() {
            let len = to_len(piece.len()).min(most - draft.filled);
            let copied = match (piece, view) {
                (Outgo::Window { at, .. } | Outgo::Changed { at, .. }, Some(view)) => {
                    draft.put_by(len, |from, part| view.copy_to(at + from, part) == part.len())
                }
                (Outgo::Memory { part, at, .. }, _) => {
                    draft.put(copy::memory(run, part, at, len as u64))
                }
                _ => {
                    let (bytes, at) = self.bytes(piece);
                    draft.put(bytes.get(at..at + len).unwrap_or_default())
                }
            };
            // There is no room, or it is not there, which an empty batch tells.
            if copied != Some(len as u64) || len == 0 {
                return;
            }
        }
    }
}
