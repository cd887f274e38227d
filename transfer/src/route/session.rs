//! What the routes to an encrypted stream share: what goes before anything else, and the peer's voice.
//!
//! A TLS stream has things of its own to say (the rest of a half-sent record, an answer to a key update,
//! an alert), and it may be told some (a key update, an alert) while a transfer sends. So these routes
//! listen where they wait, and after each batch; and they flush what is owed before they seal more.

use ringway_runtime::fault::{Sabotage, sabotaged};

use super::{Ready, Run};
use crate::error::{ErrorKind, Refusal, Side, TransferError};
use crate::plan::Route;
use crate::tls::{Received, TlsStream};

/// An encrypted stream, as long as a transfer sends over it.
pub(super) struct Session<'t> {
    pub(super) tls: &'t TlsStream,
    /// Staged bytes of ours, of one record, whose sealed form the stream keeps: they count once it has
    /// gone out.
    kept: u64,
    /// Something may still come, and there is room for it.
    listening: bool,
}

impl<'t> Session<'t> {
    pub(super) fn of(run: &Run<'t>, route: Route) -> Result<Self, TransferError> {
        match run.sink.tls() {
            Some(tls) => Ok(Self { tls, kept: 0, listening: true }),
            None => Err(run.fail(ErrorKind::Refused(Refusal::NotEncrypted(route)))),
        }
    }

    /// The stream keeps the sealed form of the first `bytes` that are staged.
    pub(super) fn keeps(&mut self, bytes: u64) {
        self.kept += bytes;
    }

    /// Takes what the peer has sent meanwhile. If that is nothing, as almost always, it costs one call
    /// and no memory; the end of the connection shows when it is waited for.
    pub(super) fn listen(&mut self, run: &Run<'_>) -> Result<(), TransferError> {
        let failed = |error| run.fail_io("ioctl", Side::Sink, error);
        if self.listening && run.stream.unread().map_err(failed)? > 0 {
            self.hear(run)?;
        }
        Ok(())
    }

    /// Takes what is there, without waiting for it.
    pub(super) fn hear(&mut self, run: &Run<'_>) -> Result<(), TransferError> {
        while self.listening {
            match self.tls.try_receive() {
                Ok(Received::Nothing) => break,
                // Nobody reads while a transfer has the stream.
                Ok(Received::Full | Received::Closed) => self.listening = false,
                Err(error) => return Err(run.fail_io("recv", Side::Sink, error)),
            }
        }
        Ok(())
    }

    /// Sends what goes before anything else. After it, all that is staged has been accepted.
    pub(super) async fn flush(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        self.flush_holding(run, false).await.map(drop)
    }

    /// The same for who may hold something meanwhile: `false` if it has been held as long as it may be,
    /// and not all is out.
    pub(super) async fn flush_holding(
        &mut self,
        run: &mut Run<'_>,
        holding: bool,
    ) -> Result<bool, TransferError> {
        while self.kept > 0 || self.tls.owes() {
            let before = run.stream.accepted();
            let flushed = self.tls.try_flush();
            if run.stream.accepted() != before {
                run.watch.heard(run.progress.accepted());
            }
            if self.kept > 0 && self.tls.half_sent() == 0 {
                run.receipt.records += 1;
                run.accept(std::mem::take(&mut self.kept))?;
            }
            match flushed {
                Ok(true) => break,
                Ok(false) => {
                    if self.wait(run, holding).await? == Ready::HoldOver {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(run.fail_io("send", Side::Sink, error)),
            }
            run.watch.check().map_err(|kind| run.fail(kind))?;
        }
        Ok(true)
    }

    /// Waits until the socket takes bytes again, at most as long as something may be held, and listens
    /// meanwhile.
    pub(super) async fn wait(
        &mut self,
        run: &mut Run<'_>,
        holding: bool,
    ) -> Result<Ready, TransferError> {
        let holding = holding && !sabotaged(Sabotage::StalledPeerKeepsPipe);
        let hold = holding.then_some(run.limits.stall_hold);
        run.receipt.stalls += 1;
        // A batch that just fitted was sent with more to follow: where the socket holds less than a
        // segment, nothing of it would leave for 200 ms, and nothing would be acknowledged.
        run.sink.flush();
        let began = run.watch.elapsed();
        let ready = loop {
            let waited = run.watch.elapsed().saturating_sub(began);
            let left = hold.map(|hold| hold.saturating_sub(waited));
            match run.ready(left, self.listening).await {
                Ok(Ready::Readable) => {
                    if let Err(error) = self.hear(run) {
                        break Err(error);
                    }
                }
                other => break other,
            }
        };
        run.receipt.stalled += run.watch.elapsed().saturating_sub(began);
        ready
    }
}
