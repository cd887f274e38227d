//! `Progress` against a naive model: a body that is one vector of bytes, a pipe that is a queue, and a
//! socket that is another vector.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;

use proptest::prelude::*;
use ringway::error::{LengthOverflow, Truncated};
use ringway::progress::{Extent, FILE_END_MAX, Fill, OP_LEN_MAX, Progress, Segment, Step};

/// The byte at an offset of the one file that all extents are ranges of.
fn file_byte(offset: u64) -> u8 {
    offset.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

/// The byte at a position within a memory extent.
fn memory_byte(part: usize, start: u64) -> u8 {
    file_byte(start ^ ((part as u64 + 1) << 40))
}

/// A route without a kernel. It moves real bytes and keeps its own counts.
struct World {
    progress: Progress,
    body: Vec<u8>,
    /// Bytes in the pipe; `true` for those of a file.
    pipe: VecDeque<(u8, bool)>,
    socket: Vec<u8>,
    file_end: u64,
    read: u64,
    discarded: u64,
    sent_from_file: u64,
}

impl World {
    fn new(extents: &[Extent], file_end: u64) -> Self {
        let mut body = Vec::new();
        for (part, extent) in extents.iter().enumerate() {
            match *extent {
                Extent::Bytes { len } => body.extend((0..len).map(|at| memory_byte(part, at))),
                Extent::File { offset, len } => {
                    body.extend((0..len).map(|at| file_byte(offset + at)));
                }
            }
        }
        Self {
            progress: Progress::new(extents.to_vec()).unwrap(),
            body,
            pipe: VecDeque::new(),
            socket: Vec::new(),
            file_end,
            read: 0,
            discarded: 0,
            sent_from_file: 0,
        }
    }

    /// Reads up to `count` of what was asked into the pipe, at least one byte if the file has one.
    fn read_file(&mut self, fill: Fill, count: u64) -> u64 {
        assert!(fill.len > 0 && fill.len <= OP_LEN_MAX);
        let there = self.file_end.saturating_sub(fill.offset).min(fill.len);
        let n = count.clamp(1, fill.len).min(there);
        self.pipe.extend((0..n).map(|at| (file_byte(fill.offset + at), true)));
        self.read += n;
        n
    }

    fn take_memory(&mut self, part: usize, start: u64, n: u64) {
        self.pipe.extend((0..n).map(|at| (memory_byte(part, start + at), false)));
    }

    /// Moves up to `count` bytes from the pipe to the socket.
    fn drain(&mut self, count: u64) -> u64 {
        let n = count.min(self.pipe.len() as u64);
        for _ in 0..n {
            let (byte, of_file) = self.pipe.pop_front().unwrap();
            self.socket.push(byte);
            self.sent_from_file += u64::from(of_file);
        }
        n
    }

    fn check_more(&self, len: u64, more: bool) {
        assert_eq!(more, self.socket.len() as u64 + len < self.body.len() as u64);
    }

    /// Does what `next` says, with a count as short as `count`; `false` at the end.
    fn step(&mut self, quantum: u64, count: u64) -> bool {
        match self.progress.next(quantum) {
            Step::Done | Step::Truncated(_) => return false,
            Step::Drain { len, more } => {
                assert_eq!(len, self.pipe.len() as u64);
                self.check_more(len, more);
                let n = self.drain(count);
                self.progress.accept(n).unwrap();
            }
            Step::SendBytes { part, start, len, more } => {
                assert!(len <= quantum.max(1));
                self.check_more(len, more);
                let n = count.min(len);
                self.take_memory(part, start, n);
                self.drain(n);
                self.progress.pass(n).unwrap();
            }
            Step::Fill(fill) => {
                assert!(fill.len <= quantum.max(1));
                let n = self.read_file(fill, count);
                if count.is_multiple_of(3) {
                    self.drain(n); // sendfile(2): no pipe in between
                    self.progress.pass(n).unwrap();
                } else {
                    self.progress.stage(n).unwrap();
                }
            }
        }
        true
    }

    /// Fills a second pipe ahead of the first.
    fn read_ahead(&mut self, quantum: u64, count: u64) {
        if let Some(fill) = self.progress.next_fill(quantum) {
            let n = self.read_file(fill, count);
            self.progress.stage(n).unwrap();
        }
    }

    /// Gathers a batch, up to the first short read, as the copying route does.
    fn gather(&mut self, max_file_bytes: u64, max_segments: usize, count: u64) {
        let window: Vec<_> = self.progress.window(max_file_bytes, max_segments).collect();
        assert!(window.len() <= max_segments);
        let of_file = window.iter().filter_map(|segment| match segment {
            Segment::File(fill) => Some(fill.len),
            Segment::Bytes { .. } => None,
        });
        assert!(of_file.sum::<u64>() <= max_file_bytes);
        for segment in window {
            match segment {
                Segment::Bytes { part, start, len } => {
                    self.take_memory(part, start, len);
                    self.progress.stage(len).unwrap();
                }
                Segment::File(fill) => {
                    let n = self.read_file(fill, count);
                    self.progress.stage(n).unwrap();
                    if n < fill.len {
                        break;
                    }
                }
            }
        }
    }

    /// Throws away what is staged, but for the first `kept` bytes.
    fn rewind(&mut self, kept: u64) {
        let kept = usize::try_from(kept).unwrap().min(self.pipe.len());
        let thrown =
            self.pipe.split_off(kept).iter().filter(|(_, of_file)| *of_file).count() as u64;
        self.discarded += thrown;
        let told = match kept {
            0 => self.progress.rewind(),
            _ => self.progress.rewind_behind(kept as u64),
        };
        assert_eq!(told, thrown);
    }

    fn check(&self) {
        let progress = &self.progress;
        assert!(
            self.body.starts_with(&self.socket),
            "the socket has the bytes of the body in order"
        );
        assert_eq!(progress.total(), self.body.len() as u64);
        assert_eq!(progress.accepted(), self.socket.len() as u64);
        assert_eq!(progress.staged(), self.pipe.len() as u64);
        assert_eq!(progress.remaining(), progress.total() - progress.accepted());
        assert_eq!(progress.accepted_from_file(), self.sent_from_file);
        assert_eq!(progress.read(), self.read);
        assert_eq!(progress.discarded(), self.discarded);
        assert_eq!(
            progress.read(),
            progress.accepted_from_file() + progress.staged_from_file() + progress.discarded()
        );
        assert_eq!(progress.is_complete(), self.socket.len() == self.body.len());
        self.check_residue();
    }

    /// What `residue` names is what the pipe holds.
    fn check_residue(&self) {
        let extents = self.progress.residue(usize::MAX);
        let named: Vec<u8> = extents
            .flat_map(|segment| match segment {
                Segment::Bytes { part, start, len } => {
                    (start..start + len).map(|at| memory_byte(part, at)).collect::<Vec<_>>()
                }
                Segment::File(Fill { offset, len, .. }) => {
                    (offset..offset + len).map(file_byte).collect()
                }
            })
            .collect();
        let held: Vec<u8> = self.pipe.iter().map(|(byte, _)| *byte).collect();
        assert_eq!(named, held);
    }
}

#[derive(Debug, Clone)]
enum Act {
    Step { quantum: u64, count: u64 },
    ReadAhead { quantum: u64, count: u64 },
    Gather { max_file_bytes: u64, max_segments: usize, count: u64 },
    Drain { count: u64 },
    Rewind { kept: u64 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0u64..300, 0u64..200).prop_map(|(quantum, count)| Act::Step { quantum, count }),
        3 => (0u64..300, 0u64..200).prop_map(|(quantum, count)| Act::ReadAhead { quantum, count }),
        3 => (0u64..300, 0usize..6, 0u64..200).prop_map(|(max_file_bytes, max_segments, count)| {
            Act::Gather { max_file_bytes, max_segments, count }
        }),
        2 => (0u64..200).prop_map(|count| Act::Drain { count }),
        1 => prop_oneof![Just(0u64), 0u64..400].prop_map(|kept| Act::Rewind { kept }),
    ];
    prop::collection::vec(act, 0..80)
}

/// Extents of one file that begins to matter at `base`; some are empty.
fn extents() -> impl Strategy<Value = (u64, Vec<Extent>)> {
    let base = prop_oneof![
        Just(0u64),
        (1u64 << 32) - 200..(1u64 << 32) + 200,
        Just(FILE_END_MAX - 1000),
        0..FILE_END_MAX - 1000,
    ];
    let piece = (any::<bool>(), 0u64..500, prop_oneof![Just(0u64), 1u64..300]);
    (base, prop::collection::vec(piece, 0..9)).prop_map(|(base, pieces)| {
        let extents = pieces.into_iter().map(|(memory, offset, len)| {
            if memory { Extent::Bytes { len } } else { Extent::File { offset: base + offset, len } }
        });
        (base, extents.collect())
    })
}

fn run(world: &mut World, acts: &[Act]) {
    world.check();
    for act in acts {
        match *act {
            Act::Step { quantum, count } => {
                world.step(quantum, count);
            }
            Act::ReadAhead { quantum, count } => world.read_ahead(quantum, count),
            Act::Gather { max_file_bytes, max_segments, count } => {
                world.gather(max_file_bytes, max_segments, count);
            }
            Act::Drain { count } => {
                let n = world.drain(count);
                world.progress.accept(n).unwrap();
            }
            Act::Rewind { kept } => world.rewind(kept),
        }
        world.check();
    }
}

/// Lets everything through from here on; a transfer must end in few steps.
fn finish(world: &mut World) {
    for _ in 0..200 {
        if !world.step(100, 100) {
            return;
        }
        world.check();
    }
    panic!("the transfer does not end");
}

proptest! {
    #[test]
    fn every_byte_once_and_in_order((_, extents) in extents(), acts in acts()) {
        let mut world = World::new(&extents, u64::MAX);
        run(&mut world, &acts);
        finish(&mut world);
        prop_assert_eq!(&world.socket, &world.body);
        prop_assert_eq!(world.progress.next(1), Step::Done);
        prop_assert_eq!(world.progress.truncated(), None);
    }

    #[test]
    fn a_file_that_shrinks_ends_in_truncated(
        (base, extents) in extents(), acts in acts(), shrunk in 0u64..800,
    ) {
        let mut world = World::new(&extents, base + shrunk);
        run(&mut world, &acts);
        finish(&mut world);
        let mut possible = 0;
        for extent in &extents {
            let there = match *extent {
                Extent::Bytes { len } => len,
                Extent::File { offset, len } => world.file_end.saturating_sub(offset).min(len),
            };
            possible += there;
            if there < extent.len() {
                break;
            }
        }
        prop_assert_eq!(world.progress.accepted(), possible, "all that was there was sent");
        let expected = world.progress.total();
        if possible < expected {
            let truncated = Truncated { expected, sent: possible };
            prop_assert_eq!(world.progress.next(1), Step::Truncated(truncated));
            prop_assert_eq!(world.progress.next_fill(1), None);
        } else {
            prop_assert_eq!(world.progress.next(1), Step::Done);
        }
    }

    #[test]
    fn lengths_are_counted_in_full_or_refused(
        pieces in prop::collection::vec((any::<bool>(), any::<u64>(), any::<u64>(), 0u32..64), 0..6),
    ) {
        let extents: Vec<_> = pieces.into_iter().map(|(memory, offset, len, shift)| {
            let len = len >> shift;
            if memory { Extent::Bytes { len } } else { Extent::File { offset: offset >> 1, len } }
        }).collect();
        let total: u128 = extents.iter().map(|extent| u128::from(extent.len())).sum();
        let too_far = extents.iter().any(|extent| match *extent {
            Extent::Bytes { .. } => false,
            Extent::File { offset, len } => {
                u128::from(offset) + u128::from(len) > u128::from(FILE_END_MAX)
            }
        });
        match Progress::new(extents.clone()) {
            Err(LengthOverflow::Range { .. }) => prop_assert!(too_far),
            Err(LengthOverflow::Total { .. }) => prop_assert!(total > u128::from(u64::MAX)),
            Ok(mut progress) => {
                prop_assert!(!too_far);
                prop_assert_eq!(u128::from(progress.total()), total);
                for extent in extents.iter().filter(|extent| extent.len() > 0) {
                    match (progress.next(u64::MAX), *extent) {
                        (Step::Fill(fill), Extent::File { offset, len }) => {
                            prop_assert_eq!((fill.offset, fill.len), (offset, len.min(OP_LEN_MAX)));
                        }
                        (Step::SendBytes { start, len: now, .. }, Extent::Bytes { len }) => {
                            prop_assert_eq!((start, now), (0, len.min(OP_LEN_MAX)));
                        }
                        (step, extent) => prop_assert!(false, "{step:?} at {extent:?}"),
                    }
                    progress.pass(extent.len()).unwrap();
                }
                prop_assert_eq!(progress.next(1), Step::Done);
            }
        }
    }

    #[test]
    fn a_false_report_changes_nothing((_, extents) in extents(), acts in acts(), over in 1u64..500) {
        let mut world = World::new(&extents, u64::MAX);
        run(&mut world, &acts);
        let staged = world.progress.staged();
        prop_assert!(world.progress.accept(staged + over).is_err());
        let room = match world.progress.window(u64::MAX, 1).next() {
            Some(Segment::Bytes { len, .. } | Segment::File(Fill { len, .. })) => len,
            None => 0,
        };
        prop_assert!(world.progress.stage(room + over).is_err());
        prop_assert!(world.progress.stage(u64::MAX).is_err());
        if staged > 0 {
            prop_assert!(world.progress.pass(1).is_err());
        }
        world.check();
    }
}

#[test]
fn an_empty_body_is_done_at_once() {
    for extents in [vec![], vec![Extent::Bytes { len: 0 }, Extent::File { offset: 7, len: 0 }]] {
        let mut progress = Progress::new(extents).unwrap();
        assert_eq!(progress.next(1), Step::Done);
        assert_eq!(progress.stage(0), Ok(()), "nothing is read, so nothing is truncated");
        assert_eq!(progress.next(1), Step::Done);
    }
}

#[test]
fn staged_bytes_leave_before_the_truncation_is_told() {
    let mut progress = Progress::new([Extent::File { offset: 0, len: 10 }]).unwrap();
    progress.stage(4).unwrap();
    progress.stage(0).unwrap();
    assert_eq!(progress.next(10), Step::Drain { len: 4, more: true });
    assert!(progress.stage(1).is_err(), "there is nothing behind the end");
    assert_eq!((progress.next_fill(10), progress.window(10, 1).next()), (None, None));
    progress.accept(4).unwrap();
    assert_eq!(progress.next(10), Step::Truncated(Truncated { expected: 10, sent: 4 }));
}

#[test]
fn a_rewind_reads_again_even_behind_an_end() {
    let mut progress = Progress::new([Extent::File { offset: 0, len: 10 }]).unwrap();
    progress.stage(4).unwrap();
    progress.stage(0).unwrap();
    assert_eq!(progress.rewind(), 4);
    assert_eq!(progress.next(10), Step::Fill(Fill { part: 0, offset: 0, len: 10 }));
}

#[test]
fn header_file_and_trailer_are_one_window() {
    let extents =
        [Extent::Bytes { len: 3 }, Extent::File { offset: 9, len: 5 }, Extent::Bytes { len: 2 }];
    let progress = Progress::new(extents).unwrap();
    let window: Vec<_> = progress.window(5, 3).collect();
    assert_eq!(
        window,
        [
            Segment::Bytes { part: 0, start: 0, len: 3 },
            Segment::File(Fill { part: 1, offset: 9, len: 5 }),
            Segment::Bytes { part: 2, start: 0, len: 2 },
        ]
    );
    let cut: Vec<_> = progress.window(4, 3).collect();
    assert_eq!(cut[1..], [Segment::File(Fill { part: 1, offset: 9, len: 4 })], "and no trailer");
}

#[test]
fn ranges_at_the_end_of_the_offsets() {
    let last = Extent::File { offset: FILE_END_MAX - 1, len: 1 };
    assert!(Progress::new([last]).is_ok());
    let beyond = Extent::File { offset: FILE_END_MAX, len: 1 };
    let error = Progress::new([last, beyond]).unwrap_err();
    assert_eq!(error, LengthOverflow::Range { part: 1, offset: FILE_END_MAX, len: 1 });
    assert!(error.to_string().starts_with("part 1 asks for 1 bytes at offset 9223372036854775807"));
    assert!(Progress::new([Extent::File { offset: u64::MAX, len: u64::MAX }]).is_err());
    let too_many = Progress::new([Extent::Bytes { len: u64::MAX }, Extent::Bytes { len: 1 }]);
    assert_eq!(too_many.unwrap_err(), LengthOverflow::Total { part: 1 });
}
