//! The short way: a small body that is in memory, to a socket that has room, leaves in the first poll.
//!
//! Nothing is decided here: the plan says what to do, and the calls are those that its route would
//! make. What is left out is what a route has for the case that something must wait. Whatever does
//! not leave at once goes on by the route, from the byte where this stopped.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Instant;

use bytes::Bytes;
use ringway_runtime as runtime;
use ringway_runtime::fs::{File, FileKind, Metadata};

use super::Transfer;
use crate::cancel::CancelToken;
use crate::error::errno::{EINVAL, EIO, EISDIR};
use crate::error::{ErrorKind, Side, TransferError};
use crate::plan::{
    self, DirectIo, Filesystem, Mode, Plan, Residency, Route, SinkKind, SourceFacts, Wishes,
};
use crate::receipt::Receipt;
use crate::route::{self, to_len};
use crate::source::{self, Part};

/// How far the short way led.
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each small body")]
pub(super) enum Prompt {
    /// To the end.
    Over(Result<Receipt, TransferError>),
    /// Not so far; a route goes on from here.
    Begun(Begun),
}

/// What was done before a route took over.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Begun {
    /// Bytes of the body that the socket has accepted.
    pub(super) bytes: u64,
    pub(super) sendfile_calls: u64,
    /// Whether the file is in memory, if that was asked: once is enough.
    pub(super) residency: Option<Residency>,
}

/// What was asked about a body that may be small enough.
#[derive(Default)]
struct Asked {
    residency: Option<Residency>,
    /// The file as it was seen, and what is wanted of it.
    seen: Option<(Range<u64>, Metadata)>,
}

/// A body that may go this way: memory, and one range of a file behind it.
struct Small<'b> {
    before: &'b [u8],
    file: &'b File,
    seen: Metadata,
    offset: u64,
    /// Bytes of the file.
    len: u64,
    plan: Plan,
}

impl Transfer<'_> {
    pub(super) fn promptly(&mut self) -> Prompt {
        let started = Instant::now();
        let mut asked = Asked::default();
        let Some(small) = self.small(&mut asked) else {
            // Asked once is enough.
            if let Some((range, seen)) = asked.seen {
                self.hold_to(range, seen);
            }
            return Prompt::Begun(Begun { residency: asked.residency, ..Begun::default() });
        };
        let mut residency = asked.residency;
        let mut receipt = Receipt::new(&small.plan);
        let outcome = match small.plan.route {
            Route::Copy => self.copy_now(&small, &mut receipt, &mut residency),
            _ => self.sendfile_now(&small, &mut receipt),
        };
        let (sent, failure) = match outcome {
            Ok(sent) if sent == small.total() => (sent, None),
            Ok(bytes) => {
                let range = small.offset..small.offset + small.len;
                let seen = small.seen;
                self.hold_to(range, seen);
                let sendfile_calls = receipt.sendfile_calls;
                return Prompt::Begun(Begun { bytes, sendfile_calls, residency });
            }
            Err(error) => (error.sent(), Some(error)),
        };
        receipt.bytes = sent;
        receipt.memory_bytes = sent.min(small.before.len() as u64);
        receipt.file_bytes = sent - receipt.memory_bytes;
        receipt.duration = started.elapsed();
        Prompt::Over(route::concluded(receipt, failure.map_or(Ok(()), Err)))
    }

    /// From here on the body is this range of this version of the file, which nobody need look at again.
    fn hold_to(&mut self, range: Range<u64>, seen: Metadata) {
        if let Some(part @ Part::File(..)) = self.source.parts.last_mut()
            && let Part::File(file, _) = std::mem::replace(part, Part::Bytes(Bytes::new()))
        {
            *part = Part::Seen(file, range, seen);
        }
    }

    /// The body, if there is nothing about it or the transfer that may have to wait.
    /// What is asked on the way is kept in `asked`.
    fn small(&self, asked: &mut Asked) -> Option<Small<'_>> {
        let stream = self.sink.stream();
        if self.options.is_some()
            || self.sink.tls().is_some()
            || stream.is_poisoned()
            || self.token.as_ref().is_some_and(CancelToken::is_cancelled)
            || self.limits.check().is_err()
            || self.source.parts.len() > self.limits.parts_max.min(self.limits.segments_max)
        {
            return None;
        }
        let (before, file_part): (&[u8], &Part) = match self.source.parts.as_slice() {
            [file] => (&[], file),
            [Part::Bytes(before), file] => (before, file),
            _ => return None,
        };
        let (file, range, seen) = match file_part {
            Part::Seen(file, range, seen) => (file, range.clone(), *seen),
            Part::File(file, range) => {
                let seen = file.metadata().ok()?;
                (file, range.clone().unwrap_or(0..seen.len), seen)
            }
            Part::Bytes(_) | Part::Fixed(..) => return None,
        };
        let filesystem = source::class_of(file.file_system().ok()?);
        let len = range.end.checked_sub(range.start)?;
        if len == 0
            || len > self.limits.quantum_bytes
            || before.len() as u64 > self.limits.quantum_bytes
            || range.end > seen.len
            || seen.kind != FileKind::Regular
            || !matches!(filesystem, Filesystem::Local | Filesystem::Memory)
            || file.is_direct().ok()?
        {
            return None;
        }
        asked.seen = Some((range.clone(), seen));
        let mut facts = SourceFacts {
            total_bytes: before.len() as u64 + len,
            file_bytes: len,
            file_parts: 1,
            filesystem,
            direct_io: DirectIo::No,
            residency: Residency::Resident,
        };
        let wishes = Wishes { consistency: self.consistency.unwrap_or_default(), ..self.wishes };
        if source::residency_matters(&facts, &wishes, &self.thresholds) {
            let age = self.limits.residency_age;
            facts.residency = source::residency_of(file.residency_lately(range.start, len, age));
            asked.residency = Some(facts.residency);
        }
        let sink = self.sink.facts();
        let host = self.host(&facts, &sink, &wishes).ok()?;
        let plan = plan::plan(&facts, &sink, &wishes, &host, &self.thresholds).ok()?;
        let at_once = plan.mode == Mode::Inline
            && match plan.route {
                Route::Copy => facts.total_bytes <= self.limits.copy_batch_bytes,
                Route::Splice => !plan.mode_fixed && len <= self.thresholds.sendfile_max_bytes,
                _ => false,
            };
        at_once.then_some(Small { before, file, seen, offset: range.start, len, plan })
    }

    /// One read that refuses to wait and one send. Gives the bytes that the socket has accepted; an
    /// error is one that the route would end with.
    fn copy_now(
        &self,
        small: &Small<'_>,
        receipt: &mut Receipt,
        residency: &mut Option<Residency>,
    ) -> Result<u64, TransferError> {
        let Ok(Some(mut lease)) = runtime::try_lease(to_len(small.total())) else { return Ok(0) };
        // Whatever is wrong with the file, the route finds it too and says so.
        match small.file.try_read(&mut lease, small.offset, to_len(small.len)) {
            Ok(read) if read as u64 == small.len => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                *residency = Some(Residency::Cold);
                return Ok(0);
            }
            Ok(_) | Err(_) => return Ok(0),
        }
        // What is sent from here on was read before this look, so this is the last one.
        if small.look(receipt) && self.only_as_seen {
            return Err(changed(receipt));
        }
        receipt.buffer_bytes = lease.capacity() as u64;
        receipt.buffer_registered = lease.is_registered();
        let pieces = [IoSlice::new(small.before), IoSlice::new(&lease)];
        let pieces = if small.before.is_empty() { &pieces[1..] } else { &pieces };
        match self.sink.stream().try_send(pieces, false) {
            Ok(sent) => Ok(sent as u64),
            Err(error) => failed("send", error, 0),
        }
    }

    /// Memory, corked where the route would cork it, and one sendfile(2).
    fn sendfile_now(&self, small: &Small<'_>, receipt: &mut Receipt) -> Result<u64, TransferError> {
        let stream = self.sink.stream();
        let before = small.before.len() as u64;
        if self.only_as_seen && small.look(receipt) {
            return Err(changed(receipt));
        }
        let is_tcp = self.sink.facts().kind == SinkKind::Tcp;
        let holds =
            before > 0 && is_tcp && self.thresholds.holds_cork(small.total(), || stream.is_paced());
        let _corked = holds.then(|| stream.cork());
        if before > 0 {
            let more = self.thresholds.corks(small.len, || stream.is_paced());
            match stream.try_send(&[IoSlice::new(small.before)], more) {
                Ok(sent) if sent as u64 == before => {}
                Ok(sent) => return Ok(sent as u64),
                Err(error) => return failed("send", error, 0),
            }
        }
        receipt.sendfile_calls = 1;
        let len = u32::try_from(small.len).unwrap_or(u32::MAX);
        match stream.try_sendfile(small.file.as_fd(), small.offset, len) {
            Ok(sent) => {
                small.look(receipt);
                Ok(before + u64::from(sent))
            }
            // The file's errors: the route meets them again, and may copy instead.
            Err(error) if matches!(error.raw_os_error(), Some(EINVAL | EIO | EISDIR)) => Ok(before),
            Err(error) => failed("sendfile", error, before).inspect_err(|_| self.sink.flush()),
        }
    }
}

impl Small<'_> {
    /// Whether the file is another one than was seen, with the answer in the receipt.
    fn look(&self, receipt: &mut Receipt) -> bool {
        let change = source::change_since(&self.seen, self.file);
        receipt.source_changed = change.map(Box::new);
        receipt.source_changed.is_some()
    }

    fn total(&self) -> u64 {
        self.before.len() as u64 + self.len
    }
}

/// Nothing is sent of a file that is another one.
fn changed(receipt: &Receipt) -> TransferError {
    let change = receipt.source_changed.clone().unwrap_or_default();
    TransferError::new(ErrorKind::SourceChanged(change), 0)
}

/// What a failed call means after `sent` bytes: a full socket is the route's to wait for.
fn failed(op: &'static str, error: io::Error, sent: u64) -> Result<u64, TransferError> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(sent),
        _ => Err(TransferError::from_io(op, Side::Sink, error, sent)),
    }
}
