//! By records: file → registered buffer → sealed in place → socket, for a TLS stream.
//!
//! ```text
//!   page cache ──readv──▶ │hdr│plaintext│tag│hdr│plaintext│tag│ …   one buffer of the ring's
//!                            └─ sealed where it lies ─┘
//!                         └──────────────── one send ────────────────▶ socket
//! ```
//!
//! The cipher is the only thing of ours that touches the payload. All records of a batch are full but
//! the last. What the socket has taken of a batch is counted in whole records, because the peer can read
//! nothing of half a one. If the peer stalls, the buffer is given back: the records that it has not seen
//! begin of are taken back, to be read and sealed again, and the rest of the one that it has is kept by
//! the stream, since a record can be sealed only once. The next batch is then no longer than what the
//! socket took of this one, so that little is sealed twice; each batch that goes out at once doubles it.

use std::io::{self, IoSlice};

use ringway_runtime::fault::{Sabotage, sabotaged};
use ringway_runtime::net::Sending;
use ringway_runtime::{Lease, Slots};

use super::draft::{Draft, Drafting, Layout};
use super::session::Session;
use super::{Ready, Run};
use crate::error::{ErrorKind, Side, TransferError};
use crate::plan::{Mode, Route};
use crate::progress::Step;
use crate::tls::record::{HEADER, PLAINTEXT_MAX, SLOT, Sent, TAIL};
use crate::tls::{TlsError, Unsealed};

const RECORDS: Slots = Slots { start: 0, gap: HEADER, room: PLAINTEXT_MAX, tail: TAIL };

/// What the route holds between two steps.
pub(super) struct Sealing<'t> {
    pub(super) session: Session<'t>,
    pub(super) drafting: Drafting,
    /// Sealed records on their way.
    batch: Option<Batch>,
    /// The same, as long as a send in the ring has them.
    flight: Option<Flight>,
    /// The most plaintext of the next batch, in bytes: what the peer has lately shown to take.
    pub(super) most: u64,
}

/// Sealed records, back to back.
struct Batch {
    lease: Lease,
    /// Bytes that the socket has taken.
    sent: usize,
}

struct Flight {
    op: Sending<Lease>,
    /// Bytes that the socket had taken before.
    sent: usize,
}

pub(super) async fn drive(run: &mut Run<'_>) -> Result<(), TransferError> {
    let mut sealing = Sealing::of(run)?;
    let tls = sealing.session.tls;
    if run.zero_copy {
        run.receipt.note_fallback("plain sends", "the rest of a half-sent record is needed again");
    }
    let outcome = sealing.drive(run).await;
    if outcome.is_err() {
        drop(sealing);
        run.receipt.half_sent_bytes = tls.half_sent();
    }
    outcome
}

impl<'t> Sealing<'t> {
    pub(super) fn of(run: &Run<'t>) -> Result<Self, TransferError> {
        let session = Session::of(run, Route::Registered)?;
        let layout = Layout { slots: RECORDS, bytes_max: run.limits.seal_batch_bytes };
        let drafting = Drafting::new(layout);
        Ok(Self { session, drafting, batch: None, flight: None, most: u64::MAX })
    }

    async fn drive(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        let mut begun = false;
        loop {
            run.watch.check().map_err(|kind| run.fail(kind))?;
            match run.progress.next(run.limits.quantum_bytes) {
                Step::Done => return Ok(()),
                Step::Truncated(truncated) => return Err(run.truncated(truncated)),
                Step::Drain { .. } => self.session.flush(run).await?,
                Step::SendBytes { .. } | Step::Fill(_) => {
                    // A short body does not ask whether the peer has said something: one call saved.
                    if std::mem::replace(&mut begun, true) {
                        self.session.listen(run)?;
                    }
                    self.session.flush(run).await?;
                    self.batch(run).await?;
                }
            }
            run.give_way().await;
        }
    }

    /// Brings a batch together, seals it and sends it, or gives it up if the peer stalls.
    async fn batch(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        let allowed = run.quantum().await?;
        let draft = self.drafting.gather(run, allowed.min(self.most)).await?;
        run.unused(allowed.saturating_sub(run.progress.staged()));
        let Some(draft) = draft else { return Ok(()) };
        self.seal(run, draft)?;
        self.drafting.read_ahead(run, self.most)?;
        let more = run.progress.more_after(run.progress.staged());
        if self.send(run, more).await? {
            return Ok(());
        }
        self.session.wait(run, false).await.map(drop)
    }

    /// Seals record after record, as many as the key still may; the rest is read again under the next.
    pub(super) fn seal(&mut self, run: &mut Run<'_>, draft: Draft) -> Result<(), TransferError> {
        let Draft { mut lease, slots, filled, .. } = draft;
        let (mut plaintext, mut sealed) = (0, 0);
        let mut refused = None;
        while plaintext < filled && refused.is_none() {
            let len = slots.room.min(filled - plaintext);
            match self.session.tls.seal(&mut lease.spare_mut()[sealed..], len) {
                Ok(record) => {
                    plaintext += len;
                    sealed += record;
                }
                Err(unsealed) => refused = Some(unsealed),
            }
        }
        if let Some(unsealed) = refused {
            if !sabotaged(Sabotage::UnsealedRemainsKept) {
                lease.spare_mut()[sealed..].fill(0);
            }
            run.rewind_behind(plaintext as u64);
            if unsealed != Unsealed::PrepareFirst {
                self.session.tls.rewind(Sent::of(sealed, 0).untouched);
                return Err(run.fail_io("seal", Side::Sink, TlsError::from(unsealed).into_io()));
            }
        }
        lease.set_filled(sealed);
        lease.set_secret(0);
        self.batch = (sealed > 0).then_some(Batch { lease, sent: 0 });
        Ok(())
    }

    /// Sends what is sealed, with `more` to follow. `false` if the peer stalls: nothing is held then.
    pub(super) async fn send(
        &mut self,
        run: &mut Run<'_>,
        more: bool,
    ) -> Result<bool, TransferError> {
        let stalls = run.receipt.stalls;
        while let Some(batch) = self.batch.take() {
            let sent = if run.plan.mode == Mode::Ring {
                self.send_by_ring(run, batch, more).await?
            } else {
                let sent = run.stream.try_send(&[IoSlice::new(&batch.lease[batch.sent..])], more);
                self.batch = Some(batch);
                sent
            };
            match sent {
                // A send of nothing would go on for ever.
                Ok(0) => return Err(run.fail(ErrorKind::UnexpectedErrno { op: "send", errno: 0 })),
                Ok(sent) => self.took(run, sent)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.session.wait(run, true).await? == Ready::HoldOver {
                        self.stalled(run);
                        return Ok(false);
                    }
                }
                Err(error) => return Err(run.fail_io("send", Side::Sink, error)),
            }
            run.watch.check().map_err(|kind| run.fail(kind))?;
        }
        if run.receipt.stalls == stalls {
            self.most = self.most.saturating_mul(2);
        }
        Ok(true)
    }

    /// The outer error ends the transfer; the inner one is the socket's.
    async fn send_by_ring(
        &mut self,
        run: &mut Run<'_>,
        batch: Batch,
        more: bool,
    ) -> Result<io::Result<usize>, TransferError> {
        let Batch { lease, sent: before } = batch;
        run.receipt.send_sqes += 1;
        let op = run.stream.send(lease, before, more).map_err(|error| {
            self.session.tls.break_off("its records were lost before they were sent");
            run.fail_io("send", Side::Sink, error)
        })?;
        let flight = self.flight.insert(Flight { op, sent: before });
        let ((sent, back), stop) =
            run.watch.supervised(&mut flight.op, |op| op.cancel(), true).await;
        self.flight = None;
        self.batch = back.map(|lease| Batch { lease, sent: before });
        if let Some(kind) = stop {
            self.took(run, sent.unwrap_or(0))?;
            return Err(run.fail(kind));
        }
        Ok(sent)
    }

    /// Counts the records that are now out whole.
    fn took(&mut self, run: &mut Run<'_>, count: usize) -> Result<(), TransferError> {
        let Some(batch) = &mut self.batch else { return Ok(()) };
        let (records, plaintext) = batch.advance(count);
        self.session.tls.took(records, plaintext);
        run.receipt.records += records;
        if batch.sent == batch.lease.len() {
            self.batch = None;
        }
        if plaintext > 0 {
            return run.accept(plaintext);
        }
        // It lives, though it has not got a whole record.
        run.watch.heard(run.progress.accepted());
        Ok(())
    }

    /// Gives the buffers back, to wait without any.
    fn stalled(&mut self, run: &mut Run<'_>) {
        let taken = self.batch.as_ref().map_or(0, |batch| batch.sent);
        self.most = (taken.div_ceil(SLOT).max(1) * PLAINTEXT_MAX) as u64;
        let kept = self.give_up();
        self.session.keeps(kept);
        self.drafting.forget_ahead();
        run.rewind_behind(kept);
    }

    /// Takes back what the peer has seen nothing of. The rest of a record that it has the beginning of
    /// is left with the stream; returns how much plaintext that is.
    fn give_up(&mut self) -> u64 {
        let Some(Batch { lease, sent }) = self.batch.take() else { return 0 };
        self.session.tls.give_up(&lease, sent)
    }
}

impl Drop for Sealing<'_> {
    fn drop(&mut self) {
        // A send that nobody awaits any more: the stream hears of its outcome.
        if let Some(Flight { op, sent }) = self.flight.take() {
            self.session.tls.land(op, sent);
        }
        self.give_up();
    }
}

impl Batch {
    /// The socket has taken so many bytes more: the records that are now out whole, and their plaintext.
    fn advance(&mut self, count: usize) -> (u64, u64) {
        let before = self.sent;
        self.sent += count;
        Sent::between(self.lease.len(), before, self.sent)
    }
}
