//! One receiving transfer under way: what it holds, and its account.

use std::time::Duration;

use ringway_runtime as runtime;
use ringway_runtime::fault::{Sabotage, sabotaged};
use ringway_runtime::fs::File;

use super::error::{ReceiveError, ReceiveErrorKind};
use super::incoming::{Decoded, Incoming, Origin};
use super::plan::Plan;
use super::progress::Progress;
use super::receipt::Received;
use super::vessel::{Store, Vessel};
use super::{Arrived, Report};
use crate::error::{ErrorKind, Misstep, Side};
use crate::limits::{Limits, Thresholds};
use crate::pace::Pace;
use crate::route::{Stop, Watch};
use crate::transfer::Ended;

pub(super) struct Run<'t> {
    pub(super) origin: Origin<'t>,
    pub(super) file: &'t File,
    pub(super) progress: Progress,
    pub(super) plan: Plan,
    pub(super) limits: Limits,
    pub(super) thresholds: Thresholds,
    pub(super) watch: Watch,
    pub(super) pace: Option<Pace>,
    /// Copying is not forbidden, so it can stand in for a splice.
    pub(super) may_copy: bool,
    pub(super) receipt: Received,
    pub(super) report: Option<Report<'t>>,
    /// What is being filled, if anything is in it, or is about to be.
    pub(super) gathering: Option<Vessel>,
    /// An empty one that was just written.
    pub(super) spare: Option<Vessel>,
    pub(super) storing: Option<Store>,
    /// Since when the gathered bytes wait for more.
    pub(super) held_since: Option<Duration>,
    /// The stream was readable since the last receive that brought something.
    pub(super) was_readable: bool,
    /// Times in a row that a write was interrupted.
    pub(super) interrupted: u32,
    /// The file takes no more.
    pub(super) file_failed: bool,
    /// Bytes that had come when the current turn began.
    turn_began: u64,
    /// What the stream had given before, on the scale of its own count.
    stream_began: u64,
    resolved: bool,
}

impl<'t> Run<'t> {
    pub(super) fn new(
        incoming: Incoming<'t>,
        file: &'t File,
        progress: Progress,
        plan: Plan,
        watch: Watch,
    ) -> Self {
        let Incoming { origin, given, .. } = incoming;
        let stream_began = origin.taken();
        let receipt = Received::new(&plan, given.len() as u64);
        let first = (!given.is_empty()).then_some(Vessel::Given { bytes: given, start: 0 });
        Self {
            origin,
            file,
            progress,
            plan,
            limits: Limits::default(),
            thresholds: Thresholds::default(),
            watch,
            pace: None,
            may_copy: true,
            receipt,
            report: None,
            gathering: first,
            spare: None,
            storing: None,
            held_since: None,
            was_readable: false,
            interrupted: 0,
            file_failed: false,
            turn_began: 0,
            stream_began,
            resolved: false,
        }
    }

    /// Ends the account, and tells whoever wants to know.
    pub(super) fn end(
        mut self,
        outcome: Result<(), ReceiveError>,
    ) -> Result<Received, ReceiveError> {
        self.resolved = true;
        let ended = if outcome.is_ok() { Ended::Complete } else { Ended::Failed };
        self.tell(Some(ended));
        let receipt = &mut self.receipt;
        receipt.received = self.progress.received();
        receipt.written = self.progress.written();
        receipt.route = self.plan.route;
        receipt.held_back = self.pace.as_ref().map_or(Duration::ZERO, Pace::held_back);
        receipt.duration = self.watch.elapsed();
        let receipt = receipt.clone();
        match outcome {
            Ok(()) => {
                tracing::debug!(%receipt, "a body was received");
                Ok(receipt)
            }
            Err(error) => {
                let error = error.with_receipt(receipt);
                tracing::debug!(%error, "a body was not received");
                Err(error)
            }
        }
    }

    pub(super) fn tell(&mut self, ended: Option<Ended>) {
        if let Some(report) = &mut self.report {
            report(Arrived {
                received: self.progress.received(),
                written: self.progress.written(),
                total: self.progress.expected(),
                ended,
            });
        }
    }

    /// One peer brings one quantum at a time: after it, the others have their turn.
    pub(super) async fn give_way(&mut self) {
        let received = self.progress.received();
        if received - self.turn_began >= self.limits.quantum_bytes {
            self.turn_began = received;
            runtime::yield_now().await;
        }
    }

    /// An error with the exact counts as of now.
    pub(super) fn fail(&self, kind: ReceiveErrorKind) -> ReceiveError {
        ReceiveError::new(kind, (self.progress.received(), self.progress.written()))
    }

    pub(super) fn fail_io(
        &self,
        op: &'static str,
        side: Side,
        error: std::io::Error,
    ) -> ReceiveError {
        let counts = (self.progress.received(), self.progress.written());
        ReceiveError::from_io(op, side, error, counts)
    }

    pub(super) fn misstep(&self, misstep: Misstep) -> ReceiveError {
        self.fail(ReceiveErrorKind::Misstep(misstep))
    }

    /// The error of something that ends a transfer from outside.
    pub(super) fn stopped(&self, stop: Stop) -> ReceiveError {
        let kind = match stop {
            Stop::Io(error) => return self.fail_io("poll", Side::Source, error),
            Stop::Kind(kind) => kind,
        };
        self.fail(match kind {
            ErrorKind::Cancelled => ReceiveErrorKind::Cancelled,
            ErrorKind::DeadlineExceeded { limit } => ReceiveErrorKind::DeadlineExceeded { limit },
            ErrorKind::PeerTooSlow(slow) => ReceiveErrorKind::PeerTooSlow(slow),
            ErrorKind::PeerTimedOut { waited } => ReceiveErrorKind::PeerTimedOut { waited },
            _ => ReceiveErrorKind::Foreign { op: "wait" },
        })
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.resolved
            && self.origin.taken() != self.stream_began
            && !sabotaged(Sabotage::DroppedReceiveNotMarked)
        {
            self.origin.tear(self.stream_began);
        }
    }
}
