//! The way into the file: writes of what is gathered, one after another, and what becomes of those that
//! are short, interrupted or refused.

use std::io;

use bytes::Bytes;
use ringway_runtime::PipeLease;

use super::error::{ReceiveError, ReceiveErrorKind};
use super::run::Run;
use super::vessel::Vessel;
use crate::error::Side;
use crate::error::errno::*;
use crate::plan::{Mode, Route};
use crate::route::{Stop, cannot};

/// Times in a row that an interrupted write is begun again. Nobody interrupts them but a test.
const INTERRUPTED_MAX: u32 = 8;
/// Bytes that are copied at once out of a pipe that cannot be spliced on.
const COPIED_OUT_BYTES: usize = 64 << 10;

impl Run<'_> {
    /// Hands what is gathered to a write.
    pub(super) async fn store(&mut self) -> Result<(), ReceiveError> {
        let Some(vessel) = self.gathering.take() else { return Err(self.lost()) };
        self.held_since = None;
        self.was_readable = false;
        self.progress.begin_store().map_err(|misstep| self.misstep(misstep))?;
        self.write(vessel).await
    }

    /// Begins the write of a vessel, or in memory makes it.
    async fn write(&mut self, vessel: Vessel) -> Result<(), ReceiveError> {
        match vessel {
            Vessel::Pipe(pipe) if self.plan.route == Route::Copy => self.copy_out(pipe).await,
            Vessel::Pipe(pipe) if self.plan.mode == Mode::Inline => self.write_inline(pipe).await,
            vessel => {
                let store = vessel.store(self.file, self.progress.offset());
                self.storing = Some(store.map_err(|error| self.file_error(error))?);
                Ok(())
            }
        }
    }

    /// Writes to a file in memory.
    async fn write_inline(&mut self, mut pipe: PipeLease) -> Result<(), ReceiveError> {
        while self.progress.storing() > 0 {
            match self.file.try_drain(&mut pipe, self.progress.offset()) {
                Ok(0) => return Err(self.lost()),
                Ok(written) => {
                    self.interrupted = 0;
                    self.stored(written.into())?;
                }
                Err(error) if again(&error) && self.interrupted < INTERRUPTED_MAX => {
                    self.interrupted += 1;
                }
                Err(error) if self.may_copy && cannot(&error) => {
                    self.copy_from_now_on("the kernel refuses to splice into the file");
                    return self.copy_out(pipe).await;
                }
                Err(error) => return Err(self.file_error(error)),
            }
        }
        self.spare = Vessel::Pipe(pipe).emptied();
        Ok(())
    }

    /// Waits for the write that is under way. A stop does not interrupt it.
    pub(super) async fn collect(&mut self) -> Result<(), ReceiveError> {
        let Some(store) = self.storing.take() else { return Err(self.lost()) };
        let ((written, vessel), stop) = self.watch.supervised(store, |_| {}, false).await;
        self.written(written, vessel).await?;
        stop.map_or(Ok(()), |kind| Err(self.stopped(Stop::Kind(kind))))
    }

    /// A write has ended. What it did not take goes into another one.
    async fn written(
        &mut self,
        written: io::Result<usize>,
        vessel: Option<Vessel>,
    ) -> Result<(), ReceiveError> {
        let Some(mut vessel) = vessel else { return Err(self.lost()) };
        match written {
            // A write of nothing would go on for ever.
            Ok(0) => Err(self.lost()),
            Ok(written) => {
                self.interrupted = 0;
                self.stored(written as u64)?;
                vessel.advance(written as u64);
                if self.progress.storing() > 0 {
                    return self.write(vessel).await;
                }
                self.spare = vessel.emptied();
                Ok(())
            }
            Err(error) if again(&error) && self.interrupted < INTERRUPTED_MAX => {
                self.interrupted += 1;
                self.write(vessel).await
            }
            Err(error) => match vessel {
                Vessel::Pipe(pipe) if self.may_copy && cannot(&error) => {
                    self.copy_from_now_on("the kernel refuses to splice into the file");
                    self.copy_out(pipe).await
                }
                _ => Err(self.file_error(error)),
            },
        }
    }

    fn stored(&mut self, bytes: u64) -> Result<(), ReceiveError> {
        self.progress.store(bytes).map_err(|misstep| self.misstep(misstep))?;
        self.receipt.writes += 1;
        self.tell(None);
        Ok(())
    }

    pub(super) fn copy_from_now_on(&mut self, why: &'static str) {
        self.plan.route = Route::Copy;
        self.spare = None;
        self.receipt.note_fallback("copied instead of spliced", why);
    }

    /// Writes what is in a pipe that cannot be spliced into the file. It happens once, if ever.
    async fn copy_out(&mut self, mut pipe: PipeLease) -> Result<(), ReceiveError> {
        while self.progress.storing() > 0 {
            let mut chunk = vec![0; COPIED_OUT_BYTES];
            let read = pipe.try_read(&mut chunk);
            let read = read.map_err(|error| self.fail_io("read", Side::Host, error))?;
            chunk.truncate(read);
            let mut rest = Bytes::from(chunk);
            while !rest.is_empty() {
                let (written, _) =
                    self.file.write_at(rest.clone(), 0, self.progress.offset()).await;
                match written {
                    Ok(0) => return Err(self.lost()),
                    Ok(written) => {
                        self.interrupted = 0;
                        self.stored(written as u64)?;
                        rest = rest.slice(written.min(rest.len())..);
                    }
                    Err(error) if again(&error) && self.interrupted < INTERRUPTED_MAX => {
                        self.interrupted += 1;
                    }
                    Err(error) => return Err(self.file_error(error)),
                }
            }
            if read == 0 {
                return Err(self.lost());
            }
        }
        Ok(())
    }

    /// Writes what has come, whatever has ended the transfer.
    pub(super) async fn flush(&mut self) -> Result<(), ReceiveError> {
        while self.progress.storing() > 0 || self.progress.gathered() > 0 {
            let step = match self.progress.storing() {
                0 => self.store().await,
                _ => self.collect().await,
            };
            // The reason of the end comes with each write that it did not interrupt.
            if let Err(error) = step
                && (self.file_failed || !is_stop(&error))
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The file takes no more.
    fn file_error(&mut self, error: io::Error) -> ReceiveError {
        self.file_failed = true;
        let op = if self.plan.route == Route::Splice { "splice" } else { "write" };
        self.fail_io(op, Side::Sink, error)
    }

    /// Bytes that should be in a vessel are not there, or a write took none of them.
    pub(super) fn lost(&mut self) -> ReceiveError {
        self.file_failed = true;
        self.fail(ReceiveErrorKind::UnexpectedErrno { op: "write", errno: 0 })
    }
}

fn is_stop(error: &ReceiveError) -> bool {
    use ReceiveErrorKind::*;
    matches!(
        error.kind(),
        Cancelled | DeadlineExceeded { .. } | PeerTooSlow(_) | PeerTimedOut { .. }
    )
}

/// Who was interrupted before it wrote anything can begin again.
fn again(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EAGAIN | EINTR | ECANCELED | ERESTARTSYS))
}
