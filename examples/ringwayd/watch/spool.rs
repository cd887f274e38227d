//! The folder that is watched: what appears in it, told when it holds still.
//!
//! A thread of its own waits for inotify(7) and walks folders, because both would hold the ring. Events
//! only say where to look: what counts is what stat(2) says then. So an event that is lost in an
//! overflow costs a rescan and nothing else.

mod tree;

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use futures_channel::mpsc;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;

use self::tree::{Touched, Tree};
use super::ignored::Ignored;
use super::ledger::{RelativePath, Stamp};
use super::settle::{Settling, Verdict};

/// News that wait for the ring, at most; then the thread waits, and the kernel keeps the events.
const NEWS_MAX: usize = 1024;
/// How often a full queue of news is tried again.
const NEWS_PAUSE: Duration = Duration::from_millis(5);
/// The longest sleep; a clock that was set must not hold a file for ever.
const SLEEP_MAX_MS: u64 = 60_000;

/// What the thread has to tell.
#[derive(Debug)]
pub(crate) enum News {
    /// This file is there and holds still.
    Seen(RelativePath, Stamp),
    /// It is there no more.
    Gone(RelativePath),
    /// All files that were there when the folder was walked; each of them is told of by itself.
    Walked(Vec<RelativePath>),
    /// The folder cannot be watched any more.
    Failed(String),
}

/// The line to the thread. It ends with this.
#[derive(Debug)]
pub(crate) struct Spool {
    orders: Sender<Order>,
    bell: Arc<OwnedFd>,
}

#[derive(Debug)]
enum Order {
    LookAt(RelativePath),
    Walk,
}

impl Spool {
    /// Watches a folder from now on, and walks it first.
    ///
    /// # Errors
    ///
    /// Those of inotify(7), with the setting to change, and of starting a thread.
    pub(crate) fn start(
        folder: PathBuf,
        recursive: bool,
        settle_ms: u64,
        ignored: Ignored,
    ) -> anyhow::Result<(Spool, mpsc::Receiver<News>)> {
        let tree = Tree::watch(folder.clone(), recursive, ignored.clone())
            .with_context(|| format!("cannot watch {}", folder.display()))?;
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (orders, queue) = channel();
        let (tell, news) = mpsc::channel(NEWS_MAX);
        let watcher = Watcher {
            folder,
            ignored,
            tree,
            settling: Settling::new(settle_ms),
            bell: Arc::clone(&bell),
            tell,
        };
        let builder = thread::Builder::new().name("ringwayd-spool".to_owned());
        builder.spawn(move || watcher.run(&queue)).context("cannot start a thread")?;
        Ok((Spool { orders, bell }, news))
    }

    /// Asks for a look at a file that has changed meanwhile.
    pub(crate) fn look_at(&self, path: &[u8]) {
        self.order(Order::LookAt(path.into()));
    }

    /// Asks for a walk through the whole folder.
    pub(crate) fn walk(&self) {
        self.order(Order::Walk);
    }

    fn order(&self, order: Order) {
        // A thread that has ended has told why.
        _ = self.orders.send(order);
        self.ring();
    }

    fn ring(&self) {
        _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.orders = channel().0;
        self.ring();
    }
}

/// What the thread works with.
struct Watcher {
    folder: PathBuf,
    ignored: Ignored,
    tree: Tree,
    settling: Settling,
    bell: Arc<OwnedFd>,
    tell: mpsc::Sender<News>,
}

/// Nobody listens any more.
struct Deaf;

impl Watcher {
    fn run(mut self, orders: &Receiver<Order>) {
        if let Err(error) = self.watch(orders) {
            _ = self.say(News::Failed(error.to_string()));
        }
    }

    fn watch(&mut self, orders: &Receiver<Order>) -> io::Result<()> {
        let mut walk = true;
        loop {
            if walk && self.walk()?.is_err() {
                return Ok(());
            }
            walk = false;
            for path in self.settling.due(now_ms()) {
                if self.look(&path).is_err() {
                    return Ok(());
                }
            }
            self.sleep()?;
            loop {
                match orders.try_recv() {
                    Ok(Order::LookAt(path)) => {
                        if self.look(&path).is_err() {
                            return Ok(());
                        }
                    }
                    Ok(Order::Walk) => walk = true,
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
                }
            }
            for touched in self.tree.touched()? {
                let heard = match touched {
                    Touched::File(path) => self.look(&path),
                    Touched::Everything => {
                        walk = true;
                        Ok(())
                    }
                };
                if heard.is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// Waits for an event, an order, or the time to look again.
    fn sleep(&self) -> io::Result<()> {
        let now = now_ms();
        let pause = self.settling.next_ms().map_or(SLEEP_MAX_MS, |next| next.saturating_sub(now));
        let pause = Timespec::try_from(Duration::from_millis(pause.min(SLEEP_MAX_MS) + 1));
        let mut waits = [
            PollFd::new(self.tree.descriptor(), PollFlags::IN),
            PollFd::new(&*self.bell, PollFlags::IN),
        ];
        match poll(&mut waits, pause.ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut count = [0; 8];
        _ = rustix::io::read(&*self.bell, &mut count);
        Ok(())
    }

    /// Tells of everything that is there, so that what was missed is known too.
    fn walk(&mut self) -> io::Result<Result<(), Deaf>> {
        let mut found = self.tree.walk()?;
        // Oldest first, as they would have been told of.
        found.sort_by_key(|(_, stamp)| stamp.modified);
        let paths = found.iter().map(|(path, _)| path.clone()).collect();
        if self.say(News::Walked(paths)).is_err() {
            return Ok(Err(Deaf));
        }
        for (path, stamp) in found {
            if self.judge(path, stamp).is_err() {
                return Ok(Err(Deaf));
            }
        }
        Ok(Ok(()))
    }

    fn look(&mut self, path: &[u8]) -> Result<(), Deaf> {
        if self.ignored.has(path) {
            return Ok(());
        }
        match stamp_of(&self.folder.join(std::ffi::OsStr::from_bytes(path))) {
            Ok(Some(stamp)) => self.judge(path.into(), stamp),
            // What cannot be looked at cannot be pushed either.
            Ok(None) | Err(_) => {
                self.settling.forget(path);
                self.say(News::Gone(path.into()))
            }
        }
    }

    fn judge(&mut self, path: RelativePath, stamp: Stamp) -> Result<(), Deaf> {
        match self.settling.look(&path, stamp, now_ms()) {
            Verdict::Take => self.say(News::Seen(path, stamp)),
            Verdict::Wait => Ok(()),
        }
    }

    fn say(&mut self, news: News) -> Result<(), Deaf> {
        let mut news = news;
        loop {
            match self.tell.try_send(news) {
                Ok(()) => return Ok(()),
                Err(refused) if refused.is_disconnected() => return Err(Deaf),
                Err(refused) => {
                    news = refused.into_inner();
                    thread::sleep(NEWS_PAUSE);
                }
            }
        }
    }
}

/// The stamp of a regular file; none for anything else, links included.
///
/// # Errors
///
/// Those of lstat(2).
pub(crate) fn stamp_of(path: &Path) -> io::Result<Option<Stamp>> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(metadata.is_file().then(|| stamp(&metadata)))
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    let nanos = |seconds: i64, nanos: i64| {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(nanos).unwrap_or(0))
    };
    Stamp {
        inode: metadata.ino(),
        len: metadata.len(),
        modified: nanos(metadata.mtime(), metadata.mtime_nsec()),
        changed: nanos(metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
