//! The machine by itself, and against a model under random events and kills.

use super::*;

const A: ReceiverId = ReceiverId(3);
const B: ReceiverId = ReceiverId(7);
const DIGEST: Sha256 = Sha256([9; 32]);

fn stamp(inode: u64) -> Stamp {
    Stamp { inode, len: 10, modified: 1, changed: 2 }
}

fn ledger() -> Ledger {
    Ledger::new(vec![A, B])
}

/// What a journal would hold after these changes.
#[derive(Clone, Default)]
struct Written {
    files: BTreeMap<FileId, FileRow>,
    deliveries: BTreeMap<(FileId, ReceiverId), Delivery>,
}

impl Written {
    fn write(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::File(id, row) => drop(self.files.insert(*id, row.clone())),
                Change::Delivery(id, receiver, delivery) => {
                    self.deliveries.insert((*id, *receiver), delivery.clone());
                }
                Change::Forget(id) => {
                    self.files.remove(id);
                    self.deliveries.retain(|(of, _), _| of != id);
                }
            }
        }
    }

    fn restored(&self, receivers: Vec<ReceiverId>) -> Ledger {
        let mut ledger = Ledger::new(receivers);
        for (id, row) in &self.files {
            let known = self.deliveries.iter().filter(|((of, _), _)| of == id);
            let known: Vec<_> = known.map(|((_, who), what)| (*who, what.clone())).collect();
            ledger.restore(*id, row.clone(), &known);
        }
        ledger
    }
}

#[test]
fn the_oldest_file_comes_first_for_each_receiver_by_itself() {
    let mut ledger = ledger();
    for (number, path) in [b"c", b"a", b"b"].iter().enumerate() {
        ledger.seen(*path, stamp(number as u64), 0);
    }
    let first = ledger.begin(0).unwrap().0;
    assert_eq!(&*first.row.path, b"c");
    assert_eq!(&*ledger.begin(0).unwrap().0.row.path, b"a");
    assert_eq!(&*ledger.begin(1).unwrap().0.row.path, b"c");
    // What is tried again keeps its place.
    ledger.ended(first.id, 0, Ended::Again { counted: true });
    let again = ledger.begin(0).unwrap().0;
    assert_eq!((again.id, again.attempts, again.unsure), (first.id, 1, true));
}

#[test]
fn a_file_that_is_seen_again_as_it_was_is_no_news() {
    let mut ledger = ledger();
    assert_eq!(ledger.seen(b"a", stamp(1), 5).len(), 3);
    assert_eq!(ledger.seen(b"a", stamp(1), 6), []);
    let (job, _) = ledger.begin(0).unwrap();
    ledger.ended(job.id, 0, Ended::Delivered(Some(DIGEST)));
    assert_eq!(ledger.seen(b"a", stamp(1), 7), []);
    assert!(ledger.begin(0).is_none() && !ledger.is_done(job.id));
    let (job, _) = ledger.begin(1).unwrap();
    assert_eq!(job.row.digest, Some(DIGEST), "it is computed once");
    ledger.ended(job.id, 1, Ended::Delivered(Some(DIGEST)));
    assert!(ledger.is_done(job.id));
}

#[test]
fn another_version_begins_anew_and_what_is_said_of_the_old_one_is_not_heard() {
    let mut ledger = ledger();
    ledger.seen(b"a", stamp(1), 5);
    let (old, _) = ledger.begin(0).unwrap();
    let changes = ledger.seen(b"a", stamp(2), 6);
    assert_eq!(changes[0], Change::Forget(old.id));
    assert_eq!(ledger.ended(old.id, 0, Ended::Delivered(None)), []);
    let (new, _) = ledger.begin(0).unwrap();
    assert!(new.id > old.id && new.row.stamp == stamp(2) && !new.unsure);
    assert_eq!(ledger.len(), 1);
}

#[test]
fn a_dead_letter_stays_until_it_is_asked_for_or_its_file_is_gone() {
    let mut ledger = ledger();
    ledger.seen(b"a", stamp(1), 5);
    let (job, _) = ledger.begin(0).unwrap();
    ledger.ended(job.id, 0, Ended::GivenUp("no".to_owned()));
    assert!(ledger.begin(0).is_none() && !ledger.is_done(job.id));
    assert_eq!(ledger.retry(|path| path == b"b", 9), []);
    assert_eq!(ledger.retry(|_| true, 9).len(), 2);
    let (again, _) = ledger.begin(0).unwrap();
    assert_eq!((again.attempts, again.unsure, again.row.queued_ms), (0, true, 9));
    assert_eq!(ledger.gone(b"a"), Some(Change::Forget(job.id)));
    assert_eq!(ledger.gone(b"a"), None);
    assert!(ledger.begin(1).is_none());
}

#[test]
fn a_receiver_that_is_not_there_costs_a_file_no_attempt() {
    let mut ledger = ledger();
    ledger.seen(b"a", stamp(1), 5);
    for _ in 0..3 {
        let (job, _) = ledger.begin(0).unwrap();
        assert_eq!(job.attempts, 0);
        ledger.ended(job.id, 0, Ended::Again { counted: false });
    }
}

#[test]
fn who_was_being_sent_a_file_when_the_daemon_was_killed_is_asked_first() {
    let mut written = Written::default();
    let mut ledger = ledger();
    written.write(&ledger.seen(b"a", stamp(1), 5));
    let (job, change) = ledger.begin(0).unwrap();
    written.write(&[change]);
    let mut restored = written.restored(vec![A, B, ReceiverId(9)]);
    for (place, unsure) in [(0, true), (1, true), (2, false)] {
        let (again, _) = restored.begin(place).unwrap();
        assert_eq!((again.id, again.unsure), (job.id, unsure), "a new receiver has nothing yet");
    }
    // Numbers are not used twice.
    let Change::File(next, _) = &restored.seen(b"b", stamp(2), 6)[0] else { panic!() };
    assert!(*next > job.id);
}

#[test]
fn a_receiver_that_is_named_no_more_holds_no_file() {
    let mut written = Written::default();
    let mut ledger = ledger();
    written.write(&ledger.seen(b"a", stamp(1), 5));
    let (job, change) = ledger.begin(0).unwrap();
    written.write(&[change]);
    written.write(&ledger.ended(job.id, 0, Ended::Delivered(None)));
    assert!(!ledger.is_done(job.id));
    assert!(written.restored(vec![A]).is_done(job.id));
}

/// What was counted as it happened is what a look through every file finds.
#[track_caller]
fn assert_counted(ledger: &Ledger) {
    for (place, (backlog, since)) in ledger.backlogs().enumerate() {
        let mut found = Backlog::default();
        ledger.files().for_each(|(id, row, all)| found.join(id, &all[place], row.stamp.len));
        assert_eq!(*backlog, found);
        let unsettled = |delivery: &Delivery| {
            matches!(delivery, Delivery::Queued { .. } | Delivery::Sending { .. })
        };
        let mut files = ledger.files();
        let first = files.find(|(_, _, all)| unsettled(&all[place]));
        assert_eq!(since, first.map(|(_, row, _)| row.queued_ms), "the oldest is first");
    }
}

/// Random files, attempts and kills at every point; each change may be the last that was written.
#[test]
fn no_kill_loses_a_file_and_none_is_delivered_that_was_not_sent() {
    for seed in 0..200 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let (mut written, mut ledger) = (Written::default(), ledger());
        let mut pending: Vec<Change> = Vec::new();
        // The folder, and what each receiver has: the inode stands for the bytes.
        let mut folder: BTreeMap<u8, u64> = BTreeMap::new();
        let mut theirs: [BTreeMap<u8, u64>; 2] = Default::default();
        let mut sending: [Option<Job>; 2] = [None, None];
        for step in 1..400u64 {
            let mut changes = Vec::new();
            match chance.u8(..10) {
                0 | 1 => {
                    let name = chance.u8(..6);
                    folder.insert(name, step);
                    changes = ledger.seen(&[name], stamp(step), step);
                }
                2 => {
                    let name = chance.u8(..6);
                    folder.remove(&name);
                    changes.extend(ledger.gone(&[name]));
                }
                3 => changes = ledger.retry(|_| true, step),
                4 => {
                    // Killed, with so much on the disk: a rescan of the folder follows.
                    pending.truncate(chance.usize(..=pending.len()));
                    written.write(&std::mem::take(&mut pending));
                    ledger = written.restored(vec![A, B]);
                    sending = [None, None];
                    for path in ledger.absent(|path| folder.contains_key(&path[0])) {
                        changes.extend(ledger.gone(&path));
                    }
                    for (name, inode) in &folder {
                        changes.extend(ledger.seen(&[*name], stamp(*inode), step));
                    }
                }
                _ => {
                    let to = usize::from(chance.bool());
                    match sending[to].take() {
                        None => {
                            if let Some((job, change)) = ledger.begin(to) {
                                sending[to] = Some(job);
                                changes.push(change);
                            }
                        }
                        Some(job) => {
                            let ended = match chance.u8(..4) {
                                0 => Ended::GivenUp(String::new()),
                                1 => Ended::Again { counted: chance.bool() },
                                _ => {
                                    theirs[to].insert(job.row.path[0], job.row.stamp.inode);
                                    Ended::Delivered(None)
                                }
                            };
                            changes = ledger.ended(job.id, to, ended);
                        }
                    }
                }
            }
            assert_counted(&ledger);
            pending.extend(changes);
            if chance.bool() {
                written.write(&std::mem::take(&mut pending));
            }
        }
        written.write(&pending);
        // At the end everything is asked for once more and nothing fails.
        let mut ledger = written.restored(vec![A, B]);
        for path in ledger.absent(|path| folder.contains_key(&path[0])) {
            ledger.gone(&path);
        }
        for (name, inode) in &folder {
            ledger.seen(&[*name], stamp(*inode), 1000);
        }
        ledger.retry(|_| true, 1000);
        for (to, theirs) in theirs.iter_mut().enumerate() {
            while let Some((job, _)) = ledger.begin(to) {
                theirs.insert(job.row.path[0], job.row.stamp.inode);
                ledger.ended(job.id, to, Ended::Delivered(None));
            }
        }
        for (name, inode) in &folder {
            for (to, theirs) in theirs.iter().enumerate() {
                assert_eq!(theirs.get(name), Some(inode), "seed {seed}, receiver {to}");
            }
        }
        assert!(ledger.files().all(|(id, ..)| ledger.is_done(id)));
    }
}
