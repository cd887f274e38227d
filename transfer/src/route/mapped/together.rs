//! Short runs of a map are brought together in a buffer, and leave from there.
//!
//! A send that takes its bytes in short pieces out of a map waits for memory at the beginning of each. Copied
//! here, what comes next is asked for while this is copied, and the kernel's copy finds everything in the
//! cache. The buffer is held for one call: what the socket has not taken is copied again.

use std::io::{self, IoSlice};

use ringway_runtime::region::View;
use ringway_runtime::try_lease;

use super::Mapped;
use super::frame::Memory;
use super::runs::Run as Outgo;
use super::sending::corks;
use crate::route::{Run, to_len};

/// What is a cache line nearly everywhere, in bytes. Where it is not, some are asked for twice.
const LINE: usize = 64;
/// How far ahead of the copy lines are asked for, in runs.
const AHEAD_RUNS: usize = 2;
/// How much of a run is asked for: the processor goes on by itself then.
const AHEAD_BYTES: usize = 2048;

impl Mapped<'_> {
    /// Sends what follows from a buffer, at most `most` bytes. `None` where that does not pay, or no buffer is
    /// free.
    pub(super) fn try_together(&self, run: &mut Run<'_>, most: usize) -> Option<io::Result<usize>> {
        let Some(Memory::Map(window)) = &self.frame else { return None };
        if !self.texture.is_short() {
            return None;
        }
        let remaining = self.outgoing.remaining();
        let most = to_len(run.limits.copy_batch_bytes.min(remaining)).min(most);
        let mut lease = try_lease(most).ok()??;
        let room = &mut lease.spare_mut()[..most];
        // The window is whole before it is looked at and after: nothing behind the end of a file that was cut
        // is in the buffer.
        let filled = match window.read(|view| self.bring_together(view, room)) {
            Ok(0) => return None,
            Ok(filled) => filled,
            Err(poisoned) => return Some(Err(io::Error::other(poisoned))),
        };
        lease.set_filled(filled);
        run.receipt.buffer_bytes = run.receipt.buffer_bytes.max(lease.capacity() as u64);
        run.receipt.buffer_registered = lease.is_registered();
        let more = corks(run, remaining - filled as u64);
        Some(run.stream.try_send(&[IoSlice::new(&lease)], more))
    }

    /// Copies what fits, and returns how many bytes that were.
    fn bring_together(&self, view: &View<'_>, room: &mut [u8]) -> usize {
        let mut filled = 0;
        let mut ahead = self.outgoing.gathered().skip(AHEAD_RUNS);
        for piece in self.outgoing.gathered() {
            if let Some(Outgo::Window { at, len } | Outgo::Changed { at, len }) = ahead.next() {
                let lines = (0..len.min(AHEAD_BYTES)).step_by(LINE);
                lines.for_each(|line| view.prefetch(at + line));
            }
            let len = to_len(piece.len()).min(room.len() - filled);
            let part = &mut room[filled..filled + len];
            let copied = match piece {
                Outgo::Window { at, .. } | Outgo::Changed { at, .. } => view.copy_to(at, part),
                _ => {
                    let (bytes, at) = self.bytes(piece);
                    let bytes = bytes.get(at..at + len).unwrap_or_default();
                    part[..bytes.len()].copy_from_slice(bytes);
                    bytes.len()
                }
            };
            // There is no room any more; or what should be there is not, which the next send tells.
            if copied < len || len == 0 {
                break;
            }
            filled += len;
        }
        filled
    }
}
