//! Where the parts of a vectored read lie in a buffer, and the vectors that tell the kernel.

use std::io::IoSliceMut;
use std::ops::Range;
use std::rc::Rc;

use super::Pool;

/// The most parts of one vectored read. At worst 1 KiB of vector per read that is under way.
pub const SLOTS_MAX: usize = 64;

/// Equal slots in a buffer, one behind the other; only a part of each is read into.
///
/// ```text
///    start     gap      room      tail   gap      room      tail
///   |........|hhhhh|pppppppppppp|ttttt|hhhhh|pppppppppppp|ttttt| …
///            |<-------- slot 0 ------>|<-------- slot 1 ------>|
/// ```
///
/// Who reads counts only the bytes `p`: position 0 is the first of slot 0, and position `room` the
/// first of slot 1. What lies around them is the caller's, for headers and the like, and no read
/// touches it. All numbers are bytes.
///
/// ```
/// use ringway_runtime::Slots;
///
/// let slots = Slots { start: 0, gap: 5, room: 100, tail: 17 };
/// let parts: Vec<_> = slots.ranges(90, 20).collect();
/// assert_eq!(parts, [95..105, 127..137]);
/// assert_eq!(slots.whole_in(300), 2, "a third one would need 366 bytes");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// Where the first slot begins in the buffer.
    pub start: usize,
    /// Bytes before the part that is read into.
    pub gap: usize,
    /// The part that is read into.
    pub room: usize,
    /// Bytes behind it.
    pub tail: usize,
}

impl Slots {
    /// From the beginning of one slot to that of the next.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.gap.saturating_add(self.room).saturating_add(self.tail)
    }

    /// How many whole slots fit into a buffer of this many bytes.
    #[must_use]
    pub fn whole_in(&self, bytes: usize) -> usize {
        bytes.saturating_sub(self.start).checked_div(self.stride()).unwrap_or(0)
    }

    /// Where the `len` bytes from position `from` on lie in the buffer, slot by slot.
    pub fn ranges(&self, from: usize, len: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let slots = *self;
        let end = if slots.room == 0 { 0 } else { from.saturating_add(len) };
        let mut at = from;
        std::iter::from_fn(move || {
            let left = end.checked_sub(at).filter(|left| *left > 0)?;
            let within = at % slots.room;
            let slot = (at / slots.room).saturating_mul(slots.stride());
            let before = slots.start.saturating_add(slots.gap).saturating_add(within);
            let begin = before.saturating_add(slot);
            let part = left.min(slots.room - within);
            at += part;
            Some(begin..begin.saturating_add(part))
        })
    }

    /// The same as slices of the buffer, cut where it ends, and how many there are.
    pub(crate) fn slices<'b>(
        &self,
        buffer: &'b mut [u8],
        from: usize,
        len: usize,
    ) -> ([IoSliceMut<'b>; SLOTS_MAX], usize) {
        let mut slices = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let (mut rest, mut passed, mut count) = (buffer, 0, 0);
        for range in self.ranges(from, len).take(SLOTS_MAX) {
            let Some((_, behind)) = rest.split_at_mut_checked(range.start - passed) else { break };
            let (part, behind) = behind.split_at_mut(range.len().min(behind.len()));
            passed = range.start + part.len();
            slices[count] = IoSliceMut::new(part);
            rest = behind;
            count += 1;
        }
        (slices, count)
    }
}

/// What a vectored op reads by address: it lives in the op's slot until the last completion, and then
/// goes back to the pool for the next one, so that no op costs an allocation.
pub(crate) struct Vector {
    entries: Vec<libc::iovec>,
    pool: Rc<Pool>,
}

impl Vector {
    /// The parts of a buffer of `capacity` bytes at `base`, cut where it ends.
    pub(super) fn new(
        pool: &Rc<Pool>,
        (base, capacity): (*mut u8, usize),
        parts: impl Iterator<Item = Range<usize>>,
    ) -> Self {
        let mut entries = pool.vector();
        let inside = parts.take(SLOTS_MAX).map(|part| part.start..part.end.min(capacity));
        entries.extend(inside.filter(|part| !part.is_empty()).map(|part| libc::iovec {
            iov_base: base.wrapping_add(part.start).cast(),
            iov_len: part.len(),
        }));
        Self { entries, pool: Rc::clone(pool) }
    }

    /// Where the kernel finds the parts, and how many there are.
    pub(crate) fn parts(&self) -> (*const libc::iovec, u32) {
        (self.entries.as_ptr(), u32::try_from(self.entries.len()).unwrap_or(0))
    }

    /// Leaves only the first `len` bytes, so that the kernel itself is short.
    #[cfg(feature = "fault")]
    pub(crate) fn shorten(&mut self, len: u32) {
        let mut left = len as usize;
        self.entries.retain_mut(|part| {
            part.iov_len = part.iov_len.min(left);
            left -= part.iov_len;
            part.iov_len > 0
        });
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        self.pool.keep_vector(std::mem::take(&mut self.entries));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: Slots = Slots { start: 3, gap: 5, room: 10, tail: 7 };

    #[test]
    fn positions_map_to_the_rooms_of_the_slots_and_to_nothing_else() {
        let all: Vec<usize> = SLOTS.ranges(0, 30).flatten().collect();
        let expected: Vec<usize> = (8..18).chain(30..40).chain(52..62).collect();
        assert_eq!(all, expected);
        for from in 0..30 {
            for len in 0..=30 - from {
                let some: Vec<usize> = SLOTS.ranges(from, len).flatten().collect();
                assert_eq!(some, expected[from..from + len]);
                assert!(SLOTS.ranges(from, len).all(|part| !part.is_empty()));
            }
        }
    }

    #[test]
    fn slices_are_the_same_bytes_and_end_with_the_buffer() {
        let mut buffer: Vec<u8> = (0..35).collect();
        let (slices, count) = SLOTS.slices(&mut buffer, 4, 100);
        assert_eq!(&*slices[0], &[12, 13, 14, 15, 16, 17]);
        assert_eq!((&*slices[1], count), (&[30, 31, 32, 33, 34][..], 2));
        let mut large = vec![0; 64 * 1024];
        let (_, count) = SLOTS.slices(&mut large, 0, usize::MAX);
        assert_eq!(count, SLOTS_MAX);
    }

    #[test]
    fn slots_without_room_or_beyond_counting_read_nothing() {
        let none = Slots { room: 0, ..SLOTS };
        assert_eq!(none.ranges(0, 100).count(), 0);
        assert_eq!(Slots { start: 0, gap: 0, room: 0, tail: 0 }.whole_in(100), 0);
        let far = Slots { start: usize::MAX - 2, ..SLOTS };
        assert_eq!(far.slices(&mut [0; 100], 0, 100).1, 0);
        assert_eq!((SLOTS.whole_in(2), SLOTS.whole_in(46), SLOTS.whole_in(47)), (0, 1, 2));
    }
}
