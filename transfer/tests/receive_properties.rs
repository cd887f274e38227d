//! The progress of a receiving transfer against a naive model: a stream that is a vector of bytes, a
//! vessel that is a queue, a write that is another one, and a file that is a vector.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;

use proptest::prelude::*;
use ringway::progress::FILE_END_MAX;
use ringway::receive::progress::{Progress, Step};
use ringway::receive::{Misfit, ShortBody};

/// A route without a kernel. It moves real bytes and keeps its own counts.
struct World {
    progress: Progress,
    /// What the peer sends until it closes.
    stream: VecDeque<u8>,
    vessel: VecDeque<u8>,
    under_way: VecDeque<u8>,
    file: Vec<u8>,
    received: u64,
}

fn byte(at: u64) -> u8 {
    at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

impl World {
    fn new(given: u64, sent: u64, expected: Option<u64>, most: u64) -> Self {
        Self {
            progress: Progress::new(1000, given, expected, most).unwrap(),
            stream: (given..given + sent).map(byte).collect(),
            vessel: (0..given).map(byte).collect(),
            under_way: VecDeque::new(),
            file: Vec::new(),
            received: given,
        }
    }

    /// Does what `next` says, with a count as short as `count`; the last step at the end.
    fn step(&mut self, batch: u64, count: u64, dry: bool) -> Option<Step> {
        let step = self.progress.next(batch, dry);
        assert_eq!(step, self.progress.next(batch, dry), "asking changes nothing");
        match step {
            Step::Receive { len } => {
                assert!(len > 0 && len + self.vessel.len() as u64 <= batch.max(1));
                let there = self.stream.len() as u64;
                let n = if there == 0 { 0 } else { count.clamp(1, len).min(there) };
                self.vessel.extend(self.stream.drain(..usize::try_from(n).unwrap()));
                self.progress.receive(n).unwrap();
                self.received += n;
            }
            Step::Probe => {
                let found = self.stream.pop_front().is_some();
                self.received += u64::from(found);
                self.progress.probe(found);
            }
            Step::Store { offset, len } => {
                assert!(self.under_way.is_empty(), "two writes at once");
                assert_eq!(
                    (offset, len),
                    (1000 + self.file.len() as u64, self.vessel.len() as u64)
                );
                self.progress.begin_store().unwrap();
                assert!(self.progress.begin_store().is_err());
                self.under_way.append(&mut self.vessel);
            }
            Step::Await => {
                let n = count.clamp(1, self.under_way.len() as u64);
                assert_eq!(self.progress.offset(), 1000 + self.file.len() as u64);
                self.file.extend(self.under_way.drain(..usize::try_from(n).unwrap()));
                self.progress.store(n).unwrap();
            }
            Step::Done | Step::Short(_) | Step::TooLong { .. } => return Some(step),
        }
        self.check();
        None
    }

    fn check(&self) {
        let progress = &self.progress;
        assert_eq!(progress.received(), self.received);
        assert_eq!(progress.written(), self.file.len() as u64);
        assert_eq!(progress.gathered(), self.vessel.len() as u64);
        assert_eq!(progress.storing(), self.under_way.len() as u64);
        let mut wrong = progress.clone();
        assert!(wrong.store(progress.storing() + 1).is_err());
        assert!(wrong.receive(progress.left() + 1).is_err());
        assert_eq!(wrong.next(7, false), progress.next(7, false), "a wrong report changes nothing");
    }

    fn run(&mut self, choices: &[(u64, u64, bool)]) -> Step {
        for turn in 0..100_000 {
            let (batch, count, dry) = choices[turn % choices.len()];
            if let Some(end) = self.step(batch, count, dry) {
                return end;
            }
        }
        panic!("it does not end");
    }
}

fn choices() -> impl Strategy<Value = Vec<(u64, u64, bool)>> {
    prop::collection::vec((0..40u64, 0..40u64, any::<bool>()), 1..20)
}

proptest! {
    #[test]
    fn each_byte_is_written_once_and_in_order(
        given in 0..50u64, sent in 0..300u64, promised in 0..300u64, choices in choices(),
    ) {
        let expected = given + promised;
        let mut world = World::new(given, sent, Some(expected), u64::MAX);
        let end = world.run(&choices);
        let received = expected.min(given + sent);
        let short = ShortBody { expected, received };
        prop_assert_eq!(end, if received < expected { Step::Short(short) } else { Step::Done });
        prop_assert_eq!(world.file.len() as u64, received, "what came is in the file");
        prop_assert!(world.file.iter().zip(0..).all(|(got, at)| *got == byte(at)));
        prop_assert_eq!(world.stream.len() as u64, given + sent - received, "no byte too many");
    }

    #[test]
    fn a_body_of_unknown_length_ends_with_its_stream_or_at_its_bound(
        given in 0..50u64, sent in 0..300u64, room in 0..300u64, choices in choices(),
    ) {
        let most = given + room;
        let mut world = World::new(given, sent, None, most);
        let end = world.run(&choices);
        let too_long = sent > room;
        prop_assert_eq!(end, if too_long { Step::TooLong { most } } else { Step::Done });
        prop_assert_eq!(world.file.len() as u64, most.min(given + sent));
        prop_assert!(world.file.iter().zip(0..).all(|(got, at)| *got == byte(at)));
        let taken = given + sent - world.stream.len() as u64;
        prop_assert_eq!(world.progress.received(), taken);
        prop_assert_eq!(taken, world.file.len() as u64 + u64::from(too_long));
    }
}

#[test]
fn numbers_that_cannot_be_true_are_refused() {
    let misfit =
        |offset, given, expected, most| Progress::new(offset, given, expected, most).unwrap_err();
    let announced = Misfit::Announced { expected: 11, most: 10 };
    assert_eq!(misfit(0, 0, Some(11), 10), announced);
    assert_eq!(misfit(0, 6, Some(5), 10), Misfit::Given { given: 6, most: 5 });
    assert_eq!(misfit(0, 11, None, 10), Misfit::Given { given: 11, most: 10 });
    let beyond = Misfit::Offset { offset: FILE_END_MAX, len: 1 };
    assert_eq!(misfit(FILE_END_MAX, 0, Some(1), 10), beyond);
    assert!(Progress::new(u64::MAX, 0, None, u64::MAX).is_err());
    let mut edge = Progress::new(FILE_END_MAX - 1, 0, None, u64::MAX).unwrap();
    edge.receive(1).unwrap();
    assert_eq!(edge.left(), 0, "no further than a file can reach");
}
