//! What the tasks of the daemon share: the ledger, and the lines to the threads.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::future::poll_fn;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_channel::mpsc;
use ringway::runtime::time;
use serde_json::json;

use super::done::Done;
use super::ledger::{Change, Ended, FileId, FileRow, Job, Ledger, RelativePath};
use super::spool::{News, Spool, now_ms};
use super::writer::Line;
use crate::cli::watch::Watch;
use crate::client::blocking::on_a_thread;
use crate::client::url::Url;
use crate::push::Order;
use crate::push::receiver::Receiver;
use crate::push::source::SourceFile;

/// How often bars move, and how long somebody may wait to hear that the journal can be written again.
const PAINT: Duration = Duration::from_millis(100);
/// How often rates are read.
const RATE: Duration = Duration::from_secs(1);
/// How long to wait before a file is tried again that could not be moved or deleted.
const DONE_AGAIN: Duration = Duration::from_secs(10);

/// What it is made of.
pub(crate) struct Parts {
    pub(crate) order: Rc<Order>,
    pub(crate) folder: PathBuf,
    pub(crate) ledger: Ledger,
    pub(crate) line: Line,
    pub(crate) spool: Spool,
}

/// What all tasks share.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) order: Rc<Order>,
    pub(crate) folder: PathBuf,
    pub(crate) ledger: RefCell<Ledger>,
    pub(crate) line: Line,
    pub(crate) done: Done,
    pub(crate) meters: Vec<Meter>,
    /// Versions of files that were queued since the start.
    pub(crate) seen: Cell<u64>,
    spool: Spool,
    /// Files that somebody is sending, so that others who send them need not open and read them again.
    sources: RefCell<HashMap<FileId, Weak<SourceFile>>>,
    /// Files that every receiver has.
    finished: RefCell<Vec<FileId>>,
    files_max: usize,
    /// A file had to be left out because there were so many.
    left_out: Cell<bool>,
    stopping: Cell<bool>,
    /// Somebody waits for the journal, however short the time was in which it could not be written.
    held_up: Cell<bool>,
    failure: RefCell<Option<String>>,
    waiters: RefCell<Vec<Waker>>,
}

/// One receiver in numbers.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) receiver: Rc<Receiver>,
    pub(crate) url: Url,
    /// Bytes of files that have arrived since the start.
    pub(crate) bytes: Cell<u64>,
    pub(crate) files: Cell<u64>,
    /// Attempts that failed and were followed by another, since the start.
    pub(crate) retries: Cell<u64>,
    /// Deliveries that became dead letters, since the start.
    pub(crate) given_up: Cell<u64>,
    pub(crate) bytes_per_second: Cell<u64>,
    pub(crate) last_error: RefCell<Option<String>>,
    before: Cell<u64>,
}

impl Daemon {
    pub(crate) fn new(parts: Parts, settings: &Watch) -> Daemon {
        let Parts { order, folder, ledger, line, spool } = parts;
        let meter = |url: &Url| Meter {
            receiver: Rc::new(Receiver::new(Rc::clone(&order), url.clone())),
            url: url.clone(),
            bytes: Cell::new(0),
            files: Cell::new(0),
            retries: Cell::new(0),
            given_up: Cell::new(0),
            bytes_per_second: Cell::new(0),
            last_error: RefCell::default(),
            before: Cell::new(0),
        };
        let meters = settings.push.to.iter().map(meter).collect();
        let done: Vec<FileId> =
            ledger.files().map(|(id, ..)| id).filter(|&id| ledger.is_done(id)).collect();
        Daemon {
            order,
            folder,
            line,
            spool,
            meters,
            seen: Cell::new(0),
            done: settings.done.clone(),
            finished: RefCell::new(done),
            ledger: RefCell::new(ledger),
            sources: RefCell::default(),
            files_max: usize::try_from(settings.max_files).unwrap_or(usize::MAX),
            left_out: Cell::new(false),
            stopping: Cell::new(false),
            held_up: Cell::new(false),
            failure: RefCell::default(),
            waiters: RefCell::default(),
        }
    }

    /// Begins with the oldest file for a receiver, as soon as there is one; none at the end.
    pub(crate) async fn next_job(&self, place: usize) -> Option<Job> {
        let begun = self.until(|| {
            if self.stopping.get() {
                return Some(None);
            }
            if self.line.ailment().is_some() {
                self.held_up.set(true);
                return None;
            }
            self.ledger.borrow_mut().begin(place).map(Some)
        });
        let (job, change) = begun.await?;
        self.line.write(vec![change]);
        Some(job)
    }

    /// An attempt has ended.
    pub(crate) fn ended(&self, job: &Job, place: usize, ended: Ended) {
        let changes = self.ledger.borrow_mut().ended(job.id, place, ended);
        self.write(changes);
        if self.ledger.borrow().is_done(job.id) {
            self.finished.borrow_mut().push(job.id);
            self.wake();
        }
    }

    /// The file is not what was queued: whatever is there now is looked at again.
    pub(crate) fn is_another(&self, job: &Job) {
        let change = self.ledger.borrow_mut().forget(job.id);
        // If it was forgotten before, it was seen again too.
        if let Some(change) = change {
            self.write(vec![change]);
            self.spool.look_at(&job.row.path);
        }
    }

    /// Queues again what was given up, and says how many deliveries that are.
    pub(crate) fn retry(&self, wanted: impl Fn(&[u8]) -> bool) -> usize {
        let changes = self.ledger.borrow_mut().retry(wanted, now_ms());
        let revived = changes.iter().filter(|change| matches!(change, Change::Delivery(..)));
        let count = revived.count();
        self.write(changes);
        count
    }

    /// The open file of a job, shared by all who send it at the same time.
    pub(crate) fn source(&self, job: &Job) -> Rc<SourceFile> {
        let mut sources = self.sources.borrow_mut();
        if let Some(source) = sources.get(&job.id).and_then(Weak::upgrade) {
            return source;
        }
        sources.retain(|_, source| source.strong_count() > 0);
        let source = SourceFile::new(self.path(&job.row), self.order.hasher.clone());
        let source = Rc::new(match job.row.digest {
            Some(digest) => source.with_digest(seen(&job.row), digest),
            None => source,
        });
        sources.insert(job.id, Rc::downgrade(&source));
        source
    }

    pub(crate) fn path(&self, row: &FileRow) -> PathBuf {
        self.folder.join(below(&row.path))
    }

    /// Hears of the folder as long as it can be watched.
    pub(crate) async fn hear(self: Rc<Self>, mut news: mpsc::Receiver<News>) {
        loop {
            match news.recv().await {
                Ok(News::Seen(path, stamp)) => {
                    let mut ledger = self.ledger.borrow_mut();
                    if ledger.len() >= self.files_max && !ledger.knows(&path) {
                        drop(ledger);
                        self.leave_out();
                        continue;
                    }
                    let changes = ledger.seen(&path, stamp, now_ms());
                    drop(ledger);
                    if !changes.is_empty() {
                        self.seen.set(self.seen.get() + 1);
                        let shown = String::from_utf8_lossy(&path);
                        let line = json!({"event": "queued", "file": shown, "bytes": stamp.len});
                        self.order.show.happened(&line, &format!("{shown}: queued"));
                    }
                    self.write(changes);
                }
                Ok(News::Gone(path)) => self.gone(&path),
                Ok(News::Walked(paths)) => {
                    let there: HashSet<RelativePath> = paths.into_iter().collect();
                    let absent = self.ledger.borrow().absent(|path| there.contains(path));
                    absent.iter().for_each(|path| self.gone(path));
                }
                Ok(News::Failed(why)) => {
                    let folder = self.folder.display();
                    return self.fail(format!("{folder} cannot be watched any more: {why}"));
                }
                Err(_) => return self.fail("the thread that watches has ended".to_owned()),
            }
        }
    }

    fn gone(&self, path: &[u8]) {
        let change = self.ledger.borrow_mut().gone(path);
        if let Some(change) = change {
            let shown = String::from_utf8_lossy(path);
            let line = json!({"event": "gone", "file": shown});
            self.order.show.happened(&line, &format!("{shown}: gone from the folder"));
            self.write(vec![change]);
            self.find_left_out();
        }
    }

    /// There are more files than may be remembered: they are found again when there is room.
    fn leave_out(&self) {
        if !self.left_out.replace(true) {
            let most = self.files_max;
            let text =
                format!("there are more than {most} files, and further ones wait: --max-files");
            self.order.show.happened(&json!({"event": "full", "files": most}), &text);
        }
    }

    /// There is room again for a file that had to be left out.
    fn find_left_out(&self) {
        if self.left_out.replace(false) {
            self.spool.walk();
        }
    }

    /// Moves or deletes what every receiver has, once that is on the disk.
    pub(crate) async fn finish_files(self: Rc<Self>) {
        if self.done == Done::Keep {
            return;
        }
        loop {
            let take = || Some(self.finished.take()).filter(|finished| !finished.is_empty());
            let finished = self.until(take).await;
            if !self.line.written().await {
                return;
            }
            let rows: Vec<(FileId, FileRow)> = {
                let ledger = self.ledger.borrow();
                let wanted: HashSet<FileId> = finished.into_iter().collect();
                let files = ledger.files().filter(|(id, ..)| wanted.contains(id));
                files.map(|(id, row, _)| (id, row.clone())).collect()
            };
            let (done, folder) = (self.done.clone(), self.folder.clone());
            let carrying = on_a_thread("done", move || {
                let carry_out = |(id, row): (FileId, FileRow)| {
                    let outcome = done.carry_out(&folder, below(&row.path), row.stamp);
                    (id, row.path, outcome)
                };
                rows.into_iter().map(carry_out).collect::<Vec<_>>()
            });
            let mut again = Vec::new();
            for (id, path, outcome) in carrying.await.unwrap_or_default() {
                match outcome {
                    Ok(()) => {
                        let change = self.ledger.borrow_mut().forget(id);
                        self.write(change.into_iter().collect());
                        // Another one may have got its name back.
                        self.spool.look_at(&path);
                    }
                    Err(error) => {
                        let shown = String::from_utf8_lossy(&path);
                        let text = format!("{shown} is delivered and cannot be put away: {error}");
                        let line = json!({"event": "not-put-away", "file": shown, "error": error.to_string()});
                        self.order.show.happened(&line, &text);
                        again.push(id);
                    }
                }
            }
            self.find_left_out();
            if !again.is_empty() {
                time::sleep(DONE_AGAIN).await;
                self.finished.borrow_mut().extend(again);
            }
        }
    }

    /// Moves bars, reads rates, and lets those look again who wait for the journal.
    pub(crate) async fn paint(self: Rc<Self>) {
        let mut ticks = time::interval(PAINT);
        let mut rates = Instant::now();
        let mut ill = false;
        loop {
            ticks.tick().await;
            self.order.show.paint();
            let ailment = self.line.ailment();
            if ill != ailment.is_some() {
                ill = ailment.is_some();
                let line = json!({"event": "journal", "error": ailment});
                // The thread itself has told it on standard error.
                self.order.show.happened(&line, if ill { "waiting" } else { "going on" });
            }
            if !ill && self.held_up.replace(false) {
                self.wake();
            }
            if rates.elapsed() >= RATE {
                self.meters.iter().for_each(|meter| meter.read(rates.elapsed()));
                rates = Instant::now();
            }
        }
    }

    /// Sleeps; less if the end comes.
    pub(crate) async fn pause(&self, pause: Duration) {
        let stopped = self.until(|| self.stopping.get().then_some(()));
        _ = time::timeout(pause, stopped).await;
    }

    /// Nothing new is begun from now on.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.wake();
    }

    /// Resolves when it was stopped from inside.
    pub(crate) async fn stopped(&self) {
        self.until(|| self.stopping.get().then_some(())).await;
    }

    /// Whether the journal cannot be written, so that nothing new is begun.
    pub(crate) fn is_held_up(&self) -> bool {
        self.line.ailment().is_some()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    fn fail(&self, why: String) {
        *self.failure.borrow_mut() = Some(why);
        self.stop();
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    fn write(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.line.write(changes);
            self.wake();
        }
    }

    fn wake(&self) {
        self.waiters.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until there is something, looking whenever anything has changed.
    async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        poll_fn(|context: &mut Context<'_>| match look() {
            Some(found) => Poll::Ready(found),
            None => {
                let mut waiters = self.waiters.borrow_mut();
                if !waiters.iter().any(|waiter| waiter.will_wake(context.waker())) {
                    waiters.push(context.waker().clone());
                }
                Poll::Pending
            }
        })
        .await
    }
}

impl Meter {
    fn read(&self, over: Duration) {
        let now = self.bytes.get() + self.receiver.track.sent();
        // An attempt that failed takes its bytes with it.
        let more = now.saturating_sub(self.before.replace(now));
        let millis = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1);
        self.bytes_per_second.set(more.saturating_mul(1000) / millis);
    }
}

/// A path below the folder.
pub(crate) fn below(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// What the file looked like, as a push has it.
pub(crate) fn seen(row: &FileRow) -> crate::push::source::Seen {
    let stamp = row.stamp;
    let nanos = Duration::from_nanos;
    (stamp.inode, stamp.len, nanos(stamp.modified), nanos(stamp.changed))
}
