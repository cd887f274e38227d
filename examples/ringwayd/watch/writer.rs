//! The thread that writes the journal, because the disk would hold the ring.
//!
//! What has come meanwhile goes into one transaction, so a burst costs one fsync(2). A disk that is full
//! or fails loses nothing: the changes wait here, in their order, the journal is opened anew, and
//! nothing new is begun until they are on the disk.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_channel::oneshot;

use super::journal::{Journal, JournalError};
use super::ledger::Change;

/// How long to wait before a journal that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The thread.
#[derive(Debug)]
pub(crate) struct Writer {
    line: Line,
    thread: JoinHandle<()>,
}

/// The line to the thread, which ends with the last of these.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    orders: Sender<Order>,
    ailment: Ailment,
}

/// Why nothing can be written now, for both sides.
#[derive(Clone, Debug, Default)]
struct Ailment(Arc<Mutex<Option<String>>>);

impl Ailment {
    fn now(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

#[derive(Debug)]
enum Order {
    Write(Vec<Change>),
    Tell(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the thread with an open journal.
    ///
    /// # Errors
    ///
    /// When no thread can be had.
    pub(crate) fn start(journal: Journal, path: PathBuf) -> std::io::Result<Writer> {
        let (orders, queue) = channel();
        let ailment = Ailment::default();
        let shared = ailment.clone();
        let builder = thread::Builder::new().name("ringwayd-journal".to_owned());
        let thread = builder.spawn(move || {
            Work { journal: Some(journal), path, ailment: shared, pending: Vec::new() }.run(&queue);
        })?;
        Ok(Writer { line: Line { orders, ailment }, thread })
    }

    pub(crate) fn line(&self) -> Line {
        self.line.clone()
    }

    /// Waits for the last changes; all lines must be gone. Gives the reason why they cannot be written,
    /// if so.
    pub(crate) fn finish(self) -> Option<String> {
        let Writer { line: Line { orders, ailment }, thread } = self;
        drop(orders);
        _ = thread.join();
        ailment.now()
    }
}

impl Line {
    /// Has changes written down, behind all that came before.
    pub(crate) fn write(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            // The thread ends with its last sender, so it is there.
            _ = self.orders.send(Order::Write(changes));
        }
    }

    /// Resolves when everything so far is on the disk; false if that was given up.
    pub(crate) async fn written(&self) -> bool {
        let (tell, told) = oneshot::channel();
        self.orders.send(Order::Tell(tell)).is_ok() && told.await.is_ok()
    }

    /// Why nothing can be written now, if that is so.
    pub(crate) fn ailment(&self) -> Option<String> {
        self.ailment.now()
    }
}

struct Work {
    journal: Option<Journal>,
    path: PathBuf,
    ailment: Ailment,
    pending: Vec<Change>,
}

impl Work {
    fn run(mut self, queue: &Receiver<Order>) {
        let mut waiting = Vec::new();
        let mut open = true;
        while open {
            let ill = self.ailment.now().is_some();
            let mut order = match ill {
                false => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                true => queue.recv_timeout(AGAIN),
            };
            loop {
                match order {
                    Ok(Order::Write(changes)) => self.pending.extend(changes),
                    Ok(Order::Tell(tell)) => waiting.push(tell),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => {
                        open = false;
                        break;
                    }
                }
                order = queue.recv_timeout(Duration::ZERO);
            }
            match self.write() {
                Ok(()) => {
                    if ill {
                        eprintln!("ringwayd: the journal can be written again");
                    }
                    self.ailment.set(None);
                    self.pending.clear();
                    for tell in waiting.drain(..) {
                        // Who does not wait any more needs no answer.
                        _ = oneshot::Sender::send(tell, ());
                    }
                }
                Err(error) => {
                    // It refuses everything after an error until it is opened anew.
                    self.journal = None;
                    let shown = self.path.display();
                    let why = format!("the journal {shown} cannot be written: {error}");
                    if !ill {
                        eprintln!(
                            "ringwayd: {why}; nothing is lost and nothing new is begun until it \
                             can: make room"
                        );
                    }
                    self.ailment.set(Some(why));
                }
            }
        }
    }

    fn write(&mut self) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let journal = match self.journal.take() {
            Some(journal) => journal,
            None => Journal::open(&self.path, false)?,
        };
        journal.write(&self.pending)?;
        self.journal = Some(journal);
        Ok(())
    }
}
