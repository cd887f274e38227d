//! From answers to runs to bytes, against a plain oracle: no ring, no socket, no file.

use proptest::prelude::*;

use super::outgoing::{Next, Outgoing};
use super::runs::{ByReference, Origin, Run, Texture, plan};
use crate::process::{Changes, Piece};
use crate::receipt::Processed;

const WINDOW: usize = 600;
const MADE: usize = 300;
const OWN: usize = 40;
/// Where the window begins in its file.
const OFFSET: u64 = 10_000;

/// The byte of each place tells which place it is.
fn file(at: usize) -> u8 {
    below(at, 97)
}

fn changed(at: usize) -> u8 {
    100 + below(at, 53)
}

fn made(at: usize) -> u8 {
    160 + below(at, 41)
}

fn own(index: usize, at: usize) -> u8 {
    210 + below(index * 7 + at, 43)
}

fn below(at: usize, end: usize) -> u8 {
    u8::try_from(at % end).unwrap()
}

fn from(min: u64) -> ByReference {
    ByReference { whole_pages_min: min, skewed_min: min }
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        4 => (0..WINDOW, 1..WINDOW).prop_map(|(at, len)| Piece::Window {
            at,
            len: len.min(WINDOW - at)
        }),
        1 => (0..MADE, 1..MADE).prop_map(|(at, len)| Piece::Made { at, len: len.min(MADE - at) }),
        1 => (0usize..5, 1..OWN).prop_map(|(index, len)| Piece::Own { index, len }),
    ]
}

/// What happens next: the socket takes bytes, or a stall throws away what is staged, or everything that
/// can be had again is let go of.
#[derive(Debug, Clone, Copy)]
enum Event {
    Take(u64),
    Rewind,
    Keep,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1u64..200).prop_map(Event::Take),
        1 => Just(Event::Rewind),
        1 => Just(Event::Keep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_goes_out_is_what_was_asked_for(
        pieces in prop::collection::vec(piece(), 0..12),
        changes in prop::collection::vec((0..WINDOW, 1usize..60), 0..6),
        reference_min in prop::option::of(1u64..300),
        events in prop::collection::vec(event(), 0..40),
    ) {
        let mut known = Changes::default();
        let mut window: Vec<u8> = (0..WINDOW).map(file).collect();
        for (at, len) in changes {
            let end = (at + len).min(WINDOW);
            known.add(at..end);
            (at..end).for_each(|at| window[at] = changed(at));
        }
        let expected: Vec<u8> = pieces.iter().flat_map(|piece| match *piece {
            Piece::Window { at, len } => window[at..at + len].to_vec(),
            Piece::Made { at, len } => (at..at + len).map(made).collect(),
            Piece::Own { index, len } => (0..len).map(|at| own(index, at)).collect(),
        }).collect();

        let mut outgoing = Outgoing::default();
        outgoing.load(|runs| plan(&pieces, &known, OFFSET, reference_min.map(from), runs));
        prop_assert_eq!(outgoing.remaining(), expected.len() as u64);
        let mut sent = Socket { window, ..Socket::default() };
        let mut account = Processed::default();
        let mut events = events.into_iter().chain([Event::Take(7); 2]).cycle();
        for _ in 0..20_000 {
            let step = outgoing.next();
            if step == Next::Done {
                break;
            }
            match events.next().unwrap() {
                Event::Rewind => { sent.pipe.clear(); outgoing.rewind(); }
                Event::Keep => { sent.pipe.clear(); outgoing.rewrite(|run| sent.keep(run)); }
                Event::Take(n) => {
                    let moved = match step {
                        Next::Reference { offset, len } => {
                            let staged = n.min(len);
                            sent.fill(offset, staged);
                            outgoing.stage(staged).unwrap();
                            if let Some((offset, len)) = outgoing.stageable() {
                                let staged = n.min(len);
                                sent.fill(offset, staged);
                                outgoing.stage(staged).unwrap();
                            }
                            0
                        }
                        Next::Drain => sent.drain(n.min(outgoing.staged())),
                        Next::Gather => sent.gather(outgoing.gathered(), n),
                        Next::Done => unreachable!(),
                    };
                    outgoing.accept(moved, &mut account).unwrap();
                }
            }
        }
        prop_assert_eq!(outgoing.next(), Next::Done);
        prop_assert_eq!(outgoing.remaining(), 0);
        prop_assert_eq!(&sent.taken, &expected);
        prop_assert!(outgoing.accept(1, &mut account).is_err());
        let by_kind = [account.referenced_bytes, account.gathered_bytes, account.changed_bytes,
            account.added_bytes];
        prop_assert_eq!(by_kind.iter().sum::<u64>(), expected.len() as u64);
        let count = |low, high| expected.iter().filter(|b| (low..high).contains(*b)).count() as u64;
        prop_assert_eq!(account.referenced_bytes + account.gathered_bytes, count(0, 100));
        prop_assert_eq!(account.changed_bytes, count(100, 160));
        if reference_min.is_none() {
            prop_assert_eq!(account.referenced_bytes, 0);
        }
    }

    #[test]
    fn a_run_by_reference_is_unchanged_long_enough_and_as_long_as_it_can_be(
        at in 0..WINDOW,
        len in 1..WINDOW,
        changes in prop::collection::vec((0..WINDOW, 1usize..60), 0..6),
        min in 1u64..300,
    ) {
        let len = len.min(WINDOW - at);
        let mut known = Changes::default();
        changes.iter().for_each(|(at, len)| known.add(*at..at + len));
        let mut runs = Vec::new();
        plan(&[Piece::Window { at, len }], &known, OFFSET, Some(from(min)), &mut runs);
        prop_assert_eq!(runs.iter().map(|run| run.len()).sum::<u64>(), len as u64);
        let mut at = at;
        for run in &runs {
            let bytes = usize::try_from(run.len()).unwrap();
            let is_changed = !known.within(at..at + bytes).is_empty();
            match *run {
                Run::File { offset, len } => {
                    prop_assert!(len >= min && !is_changed);
                    prop_assert_eq!(offset, OFFSET + at as u64);
                }
                Run::Window { len, .. } => prop_assert!((len as u64) < min && !is_changed),
                Run::Changed { .. } => {
                    prop_assert!((at..at + bytes).all(|at| !known.within(at..at + 1).is_empty()));
                }
                _ => prop_assert!(false, "{:?}", run),
            }
            at += bytes;
        }
        // Neighbours are never of one kind, or they would have been one run.
        for pair in runs.windows(2) {
            let changed = |run| matches!(run, Run::Changed { .. });
            prop_assert!(changed(pair[0]) != changed(pair[1]), "{:?}", runs);
        }
    }
}

#[test]
fn runs_are_brought_together_where_much_is_kept_in_short_pieces_only() {
    let pieces = |count: usize, len: usize| vec![Run::Window { at: 0, len }; count];
    let short = |runs: &[Run]| Texture::of(runs, 1 << 20).is_short();
    assert!(short(&pieces(512, 1024)), "every second record");
    assert!(!short(&pieces(10, 1024)), "one in a hundred");
    assert!(!short(&pieces(8, 64 << 10)), "long ones, which may not leave by reference");
    assert!(!short(&[Run::File { offset: 0, len: 1 << 20 }]) && !short(&[]));
}

#[test]
fn reports_that_cannot_be_true_are_refused() {
    let mut outgoing = Outgoing::default();
    let account = &mut Processed::default();
    outgoing.load(|runs| {
        runs.extend([Run::File { offset: 0, len: 10 }, Run::Made { at: 0, len: 5 }]);
    });
    assert!(outgoing.stage(11).is_err(), "beyond the run");
    outgoing.stage(10).unwrap();
    assert!(outgoing.stage(1).is_err(), "what is gathered is never staged");
    assert!(outgoing.accept(11, account).is_err(), "beyond what is staged");
    outgoing.accept(10, account).unwrap();
    assert!(outgoing.accept(6, account).is_err(), "beyond the end");
    assert_eq!((outgoing.remaining(), account.referenced_bytes), (5, 10));
}

/// The other side: a pipe, a socket, and memory that is kept.
#[derive(Default)]
struct Socket {
    window: Vec<u8>,
    pipe: Vec<u8>,
    kept: Vec<u8>,
    taken: Vec<u8>,
}

impl Socket {
    fn fill(&mut self, offset: u64, len: u64) {
        let from = usize::try_from(offset - OFFSET).unwrap();
        self.pipe.extend((from..from + usize::try_from(len).unwrap()).map(file));
    }

    fn drain(&mut self, n: u64) -> u64 {
        self.taken.extend(self.pipe.drain(..usize::try_from(n).unwrap()));
        n
    }

    fn gather(&mut self, runs: impl Iterator<Item = Run>, n: u64) -> u64 {
        let bytes: Vec<u8> = runs.flat_map(|run| self.bytes(run)).collect();
        let n = usize::try_from(n).unwrap().min(bytes.len());
        self.taken.extend(&bytes[..n]);
        n as u64
    }

    fn keep(&mut self, run: Run) -> Run {
        let was = match run {
            Run::Changed { .. } => Origin::Changed,
            Run::Made { .. } => Origin::Made,
            Run::Kept { was, .. } => was,
            other => return other,
        };
        let (at, bytes) = (self.kept.len(), self.bytes(run));
        self.kept.extend(&bytes);
        Run::Kept { at, len: bytes.len(), was }
    }

    fn bytes(&self, run: Run) -> Vec<u8> {
        match run {
            Run::Window { at, len } | Run::Changed { at, len } => {
                self.window[at..at + len].to_vec()
            }
            Run::Made { at, len } => (at..at + len).map(made).collect(),
            Run::Own { index, at, len } => (at..at + len).map(|at| own(index, at)).collect(),
            Run::Kept { at, len, .. } => self.kept[at..at + len].to_vec(),
            Run::File { .. } => panic!("it goes through the pipe"),
            Run::Memory { .. } => panic!("no processor names it"),
        }
    }
}

#[test]
fn a_run_that_begins_or_ends_inside_of_a_page_must_be_longer_to_leave_by_reference() {
    let by_reference = Some(ByReference { whole_pages_min: 4096, skewed_min: 16_384 });
    for (offset, at, len, refers) in [
        (0, 0, 4096, true),
        (8192, 4096, 8192, true),
        (0, 0, 4095, false),
        (0, 0, 4097, false),
        (0, 1, 8192, false),
        (4095, 1, 4096, true),
        (1, 0, 16_383, false),
        (1, 0, 16_384, true),
    ] {
        let mut runs = Vec::new();
        plan(&[Piece::Window { at, len }], &Changes::default(), offset, by_reference, &mut runs);
        assert_eq!(matches!(runs[..], [Run::File { .. }]), refers, "{offset} {at} {len}");
    }
}
