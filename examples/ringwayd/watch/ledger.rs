//! What is to be brought to whom, and what follows from what happens. Pure: no file, no clock.
//!
//! ```text
//!            ┌──────────── again, or the daemon was killed ───────────┐
//!            ▼                                                        │
//! seen ─▶ Queued ─▶ Sending ─▶ Delivered   for each receiver by itself │
//!            ▲          ├──────▶ GivenUp ──┐                          │
//!            │          └─────────────────────────────────────────────┘
//!            └───────────── retry ─────────┘
//!
//! other stamp under the same path: the old version is forgotten, the new one begins at Queued
//! ```
//!
//! Every call says what has to be written down ([`Change`]). A file is forgotten only when it is gone
//! from the folder, so nothing that a change says can lose one.

mod backlog;

use std::collections::{BTreeMap, HashMap};

use crate::client::digest::Sha256;

pub(crate) use self::backlog::Backlog;

/// The number of one version of a file; later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(pub(crate) u64);

/// The number of a receiver in the journal, which stays the same from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReceiverId(pub(crate) u32);

/// The path below the folder, as the kernel has it.
pub(crate) type RelativePath = Box<[u8]>;

/// Which version of a file has a path: while these are the same, so are the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) inode: u64,
    pub(crate) len: u64,
    /// Nanoseconds since the epoch.
    pub(crate) modified: u64,
    pub(crate) changed: u64,
}

/// What the journal keeps of a version of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRow {
    pub(crate) path: RelativePath,
    pub(crate) stamp: Stamp,
    /// When it was seen, in milliseconds since the epoch.
    pub(crate) queued_ms: u64,
    /// Known since it was first pushed.
    pub(crate) digest: Option<Sha256>,
}

/// How far one version of a file is with one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It waits for its turn. `unsure`: the receiver may have it already.
    Queued { attempts: u32, unsure: bool },
    /// It is on its way, or was when the daemon was killed.
    Sending { attempts: u32 },
    /// It is there.
    Delivered,
    /// It stands in the dead-letter list.
    GivenUp { attempts: u32, why: String },
}

/// What is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    File(FileId, FileRow),
    Delivery(FileId, ReceiverId, Delivery),
    Forget(FileId),
}

/// What an attempt led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Delivered(Option<Sha256>),
    /// It is to be tried again; `counted` if that was an attempt at this file, and not at a receiver
    /// that is not there.
    Again {
        counted: bool,
    },
    GivenUp(String),
}

/// What there is to know of a file before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) id: FileId,
    pub(crate) row: FileRow,
    /// Attempts that have failed.
    pub(crate) attempts: u32,
    pub(crate) unsure: bool,
}

/// A version of a file with what has become of it.
#[derive(Debug)]
struct Entry {
    row: FileRow,
    /// In the order of the receivers.
    deliveries: Vec<Delivery>,
}

/// Everything that is known.
#[derive(Debug)]
pub(crate) struct Ledger {
    receivers: Vec<ReceiverId>,
    files: BTreeMap<FileId, Entry>,
    paths: HashMap<RelativePath, FileId>,
    /// In the order of the receivers.
    backlogs: Vec<Backlog>,
    next: u64,
}

impl Ledger {
    /// Nothing is known yet.
    pub(crate) fn new(receivers: Vec<ReceiverId>) -> Ledger {
        let backlogs = vec![Backlog::default(); receivers.len()];
        Ledger { receivers, files: BTreeMap::new(), paths: HashMap::new(), backlogs, next: 0 }
    }

    /// Takes over what a journal knew of a file. A receiver of which it knew nothing is new, and gets
    /// the file too. Who was being sent it may have it: the daemon was killed in between. The same goes
    /// for who was to be sent it, because the mark of a beginning is not waited for.
    pub(crate) fn restore(&mut self, id: FileId, row: FileRow, known: &[(ReceiverId, Delivery)]) {
        let delivery = |receiver: &ReceiverId| {
            let found = known.iter().find(|(of, _)| of == receiver).map(|(_, delivery)| delivery);
            match found {
                None => Delivery::Queued { attempts: 0, unsure: false },
                Some(Delivery::Queued { attempts, .. } | Delivery::Sending { attempts }) => {
                    Delivery::Queued { attempts: *attempts, unsure: true }
                }
                Some(settled) => settled.clone(),
            }
        };
        let deliveries = self.receivers.iter().map(delivery).collect();
        self.next = self.next.max(id.0 + 1);
        self.insert(id, row, deliveries);
    }

    /// A file was seen whole. Says what is new, if anything.
    pub(crate) fn seen(&mut self, path: &[u8], stamp: Stamp, now_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(&id) = self.paths.get(path) {
            if self.files.get(&id).is_some_and(|entry| entry.row.stamp == stamp) {
                return changes;
            }
            changes.extend(self.forget(id));
        }
        let id = FileId(self.next);
        self.next += 1;
        let row = FileRow { path: path.into(), stamp, queued_ms: now_ms, digest: None };
        changes.push(Change::File(id, row.clone()));
        let queued = Delivery::Queued { attempts: 0, unsure: false };
        let deliveries = vec![queued; self.receivers.len()];
        for (receiver, delivery) in self.receivers.iter().zip(&deliveries) {
            changes.push(Change::Delivery(id, *receiver, delivery.clone()));
        }
        self.insert(id, row, deliveries);
        changes
    }

    fn insert(&mut self, id: FileId, row: FileRow, deliveries: Vec<Delivery>) {
        for (backlog, delivery) in self.backlogs.iter_mut().zip(&deliveries) {
            backlog.join(id, delivery, row.stamp.len);
        }
        self.paths.insert(row.path.clone(), id);
        self.files.insert(id, Entry { row, deliveries });
    }

    /// There is no file of this path any more.
    pub(crate) fn gone(&mut self, path: &[u8]) -> Option<Change> {
        let id = *self.paths.get(path)?;
        self.forget(id)
    }

    /// This version is no more: another one will be seen, or none.
    pub(crate) fn forget(&mut self, id: FileId) -> Option<Change> {
        let entry = self.files.remove(&id)?;
        self.paths.remove(&entry.row.path);
        for (backlog, delivery) in self.backlogs.iter_mut().zip(&entry.deliveries) {
            backlog.leave(id, delivery, entry.row.stamp.len);
        }
        Some(Change::Forget(id))
    }

    /// Everything that is known and that this set of paths does not hold.
    pub(crate) fn absent(&self, is_there: impl Fn(&[u8]) -> bool) -> Vec<RelativePath> {
        self.paths.keys().filter(|path| !is_there(path)).cloned().collect()
    }

    /// Begins with the oldest file that waits for a receiver.
    pub(crate) fn begin(&mut self, receiver: usize) -> Option<(Job, Change)> {
        let backlog = self.backlogs.get_mut(receiver)?;
        let id = *backlog.waiting.first()?;
        let entry = self.files.get_mut(&id)?;
        let delivery = entry.deliveries.get_mut(receiver)?;
        let Delivery::Queued { attempts, unsure } = *delivery else { return None };
        backlog.leave(id, delivery, entry.row.stamp.len);
        *delivery = Delivery::Sending { attempts };
        backlog.join(id, delivery, entry.row.stamp.len);
        let change = Change::Delivery(id, self.receivers[receiver], delivery.clone());
        Some((Job { id, row: entry.row.clone(), attempts, unsure }, change))
    }

    /// An attempt has ended. What is said of a version that was forgotten meanwhile is not heard.
    pub(crate) fn ended(&mut self, id: FileId, receiver: usize, ended: Ended) -> Vec<Change> {
        let Some(entry) = self.files.get_mut(&id) else { return Vec::new() };
        let Some(delivery) = entry.deliveries.get_mut(receiver) else { return Vec::new() };
        let Delivery::Sending { attempts } = *delivery else { return Vec::new() };
        let backlog = &mut self.backlogs[receiver];
        backlog.leave(id, delivery, entry.row.stamp.len);
        let mut changes = Vec::new();
        *delivery = match ended {
            Ended::Delivered(digest) => {
                if digest.is_some() && entry.row.digest != digest {
                    entry.row.digest = digest;
                    changes.push(Change::File(id, entry.row.clone()));
                }
                Delivery::Delivered
            }
            Ended::Again { counted } => {
                Delivery::Queued { attempts: attempts + u32::from(counted), unsure: true }
            }
            Ended::GivenUp(why) => Delivery::GivenUp { attempts: attempts + 1, why },
        };
        backlog.join(id, delivery, entry.row.stamp.len);
        changes.push(Change::Delivery(id, self.receivers[receiver], delivery.clone()));
        changes
    }

    /// Queues again what was given up: all of it, or what these paths name.
    pub(crate) fn retry(&mut self, wanted: impl Fn(&[u8]) -> bool, now_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        for (&id, entry) in self.files.iter_mut().filter(|(_, entry)| wanted(&entry.row.path)) {
            let mut revived = false;
            for (place, delivery) in entry.deliveries.iter_mut().enumerate() {
                if matches!(delivery, Delivery::GivenUp { .. }) {
                    let backlog = &mut self.backlogs[place];
                    backlog.leave(id, delivery, entry.row.stamp.len);
                    *delivery = Delivery::Queued { attempts: 0, unsure: true };
                    backlog.join(id, delivery, entry.row.stamp.len);
                    revived = true;
                    changes.push(Change::Delivery(id, self.receivers[place], delivery.clone()));
                }
            }
            if revived {
                // Its time begins anew.
                entry.row.queued_ms = now_ms;
                changes.push(Change::File(id, entry.row.clone()));
            }
        }
        changes
    }

    /// Whether every receiver has it.
    pub(crate) fn is_done(&self, id: FileId) -> bool {
        let done = |delivery: &Delivery| *delivery == Delivery::Delivered;
        self.files.get(&id).is_some_and(|entry| entry.deliveries.iter().all(done))
    }

    /// All versions, oldest first, with how far each is.
    pub(crate) fn files(&self) -> impl Iterator<Item = (FileId, &FileRow, &[Delivery])> {
        self.files.iter().map(|(id, entry)| (*id, &entry.row, &entry.deliveries[..]))
    }

    /// What each receiver is to have, and since when the file waits that is on its way to it or is next, in
    /// milliseconds since the epoch.
    pub(crate) fn backlogs(&self) -> impl Iterator<Item = (&Backlog, Option<u64>)> {
        self.backlogs.iter().map(|backlog| {
            let first = backlog.first().and_then(|id| self.files.get(&id));
            (backlog, first.map(|entry| entry.row.queued_ms))
        })
    }

    /// How many versions are known.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether a path is known.
    pub(crate) fn knows(&self, path: &[u8]) -> bool {
        self.paths.contains_key(path)
    }
}

#[cfg(test)]
mod tests;
