//! `ringwayd watch`: what appears in a folder goes to every receiver, though the daemon be killed.
//!
//! ```text
//! inotify, walks ─▶ spool ─▶ ledger ─▶ one sender for each receiver ─▶ the attempts of `push`
//!  (thread)                    │ ▲                     │
//!                              ▼ └──── what became of it
//!                            writer ─▶ journal (thread, one file, fsync)
//! ```
//!
//! | room | is | pure |
//! |---|---|---|
//! | `ledger` | what is to be brought to whom, and what follows from what happens | yes |
//! | `settle` | whether a file holds still | yes |
//! | `ignored` | which files are none of ours | yes |
//! | `journal` | the ledger on the disk | |
//! | `writer` | the thread that writes it | |
//! | `spool` | the folder: events, walks | |
//! | `daemon` | what all tasks share | |
//! | `sender` | one receiver, file by file | |
//! | `probe` | asks a receiver what it has | |
//! | `done` | what becomes of a file that everybody has | |
//! | `status` | tells how things stand, from inside and from outside | |
//! | `metrics` | the same in numbers for Prometheus | |

mod daemon;
mod done;
mod ignored;
mod journal;
mod ledger;
mod metrics;
mod probe;
mod sender;
mod settle;
mod spool;
pub(crate) mod status;
mod writer;

use std::future::{Future, poll_fn};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use ringway::runtime::signal::{Kind, Signals};
use ringway::runtime::{JoinHandle, Runtime, spawn, time};

pub(crate) use self::done::Done;

use self::daemon::{Daemon, Parts};
use self::ignored::Ignored;
use self::journal::{Journal, JournalError};
use self::ledger::Ledger;
use self::spool::Spool;
use self::writer::Writer;
use crate::cli::watch::Watch;
use crate::privileges;
use crate::push;
use crate::serve::admin::answer_all;
use crate::serve::listen;
use crate::state;

/// Name of the journal in the state folder.
const JOURNAL: &str = "watch.redb";
/// How long another one may have the journal that only looks into it.
const GLANCE_MAX: Duration = Duration::from_secs(1);
/// Name of the socket for `status` there.
const SOCKET: &str = "watch.sock";

/// Watches until a signal ends it.
///
/// # Errors
///
/// What keeps it from starting, and what ends it before its time; nothing is lost by that.
pub(crate) fn run(settings: &Watch) -> anyhow::Result<ExitCode> {
    let folder = check(settings)?;
    // First of all: who is asked to end while it starts ends in order.
    let signals = Signals::new(&[Kind::Terminate, Kind::Interrupt]);
    let signals = signals.context("cannot listen to signals")?;
    let admin = settings.admin_listen.map(|address| listen::bind(&[address], 1)).transpose()?;
    if let Some(identity) = &settings.user {
        privileges::become_user(identity)?;
    }
    let state = open_state(settings.push.state_dir.as_deref(), &folder)?;
    let path = state.join(JOURNAL);
    let (journal, ledger) = open_journal(&path, &folder, settings)?;
    prepare_done(settings, &folder)?;
    done::restore_interrupted(&folder, settings.recursive)
        .with_context(|| format!("cannot look through {}", folder.display()))?;
    let mut patterns = settings.ignore.clone();
    patterns.push(done::DELETING_PATTERN.to_owned());
    let ignored = Ignored::new(&patterns).context("--ignore cannot be used")?;
    let order = push::order(&settings.push)?;
    let writer = Writer::start(journal, path).context("cannot start a thread")?;
    let (spool, news) =
        Spool::start(folder.clone(), settings.recursive, settings.settle_milliseconds, ignored)?;
    let runtime = Runtime::new().map_err(|error| anyhow!("{error}"))?;
    let line = writer.line();
    let outcome = runtime.block_on(async {
        let parts = Parts { order: Rc::new(order), folder, ledger, line, spool };
        let daemon = Rc::new(Daemon::new(parts, settings));
        let admin = admin.into_iter().flat_map(|admin| admin.by_thread).flatten();
        for listener in admin {
            let address = listener.local_address()?;
            eprintln!("health and metrics at http://{address}/health and /metrics");
            drop(spawn(answer_all(listener, Rc::clone(&daemon))));
        }
        watch(&daemon, news, signals, &state.join(SOCKET), settings).await
    });
    // Tasks that were cut short hold lines to the writer.
    drop(runtime);
    let unwritten = writer.finish();
    outcome?;
    match unwritten {
        Some(why) => bail!("{why}; what it misses is asked of the receivers at the next start"),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Runs all tasks until a signal comes or the folder is lost, and then those that send to their end.
async fn watch(
    daemon: &Rc<Daemon>,
    news: futures_channel::mpsc::Receiver<spool::News>,
    mut signals: Signals,
    socket: &Path,
    settings: &Watch,
) -> anyhow::Result<()> {
    let answering = status::listen(daemon, socket)?;
    let hearing = spawn(Rc::clone(daemon).hear(news));
    let painting = spawn(Rc::clone(daemon).paint());
    let finishing = spawn(Rc::clone(daemon).finish_files());
    let mut senders: Vec<_> = (0..settings.push.to.len())
        .map(|place| spawn(sender::run(Rc::clone(daemon), place)))
        .collect();
    eprintln!(
        "watching {} for {} receivers, journal in {}",
        daemon.folder.display(),
        senders.len(),
        socket.parent().unwrap_or(socket).display()
    );
    {
        let mut interrupted = pin!(signals.recv());
        let mut stopped = pin!(daemon.stopped());
        poll_fn(|context| {
            let signal = interrupted.as_mut().poll(context).is_ready();
            if signal || stopped.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
    daemon.stop();
    hearing.abort();
    drain(&mut senders, &mut signals, Duration::from_secs(settings.drain_timeout_seconds)).await;
    senders.iter().for_each(JoinHandle::abort);
    finishing.abort();
    painting.abort();
    answering.abort();
    _ = std::fs::remove_file(socket);
    _ = daemon.order.show.finish(&daemon.order.tally).await;
    match daemon.failure() {
        Some(why) => bail!("{why}"),
        None => Ok(()),
    }
}

/// Waits for those who are sending, until the deadline or another signal.
async fn drain(senders: &mut Vec<JoinHandle<()>>, signals: &mut Signals, limit: Duration) {
    let mut again = pin!(signals.recv());
    let ended = poll_fn(|context| {
        senders.retain_mut(|sender| pin!(sender).poll(context).is_pending());
        if senders.is_empty() || again.as_mut().poll(context).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    // Who has not finished is asked at the next start what it has.
    _ = time::timeout(limit, ended).await;
}

/// What is wrong with the order itself; otherwise the folder, resolved once.
fn check(settings: &Watch) -> anyhow::Result<PathBuf> {
    let push = &settings.push;
    let dir = settings.dir.as_deref().context("name the folder to watch: ringwayd watch DIR")?;
    ensure!(push.files.is_empty(), "one folder is watched: name no files behind it");
    ensure!(!push.to.is_empty(), "name at least one receiver: --to URL");
    ensure!(
        !push.no_digest,
        "a watch needs digests, to know what a receiver has: leave --no-digest"
    );
    for (place, url) in push.to.iter().enumerate() {
        ensure!(
            url.is_folder(),
            "{url} names one file: end it with `/`, so that each keeps its name"
        );
        ensure!(!push.to[..place].contains(url), "{url} is named twice");
    }
    let shown = dir.display();
    let folder = dir.canonicalize().with_context(|| format!("cannot watch {shown}"))?;
    ensure!(folder.is_dir(), "cannot watch {shown}: it is not a folder");
    Ok(folder)
}

/// Makes the state folder, readable for nobody else.
fn open_state(given: Option<&Path>, folder: &Path) -> anyhow::Result<PathBuf> {
    let state = state::folder(given)?;
    let shown = state.display().to_string();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&state);
    made.with_context(|| format!("cannot make {shown}: name another folder with --state-dir"))?;
    let state = state.canonicalize().with_context(|| format!("cannot open {shown}"))?;
    ensure!(
        !state.starts_with(folder),
        "the state folder {shown} lies in the folder that is watched: name another with --state-dir"
    );
    Ok(state)
}

fn open_journal(path: &Path, folder: &Path, settings: &Watch) -> anyhow::Result<(Journal, Ledger)> {
    let shown = path.display();
    let deadline = Instant::now() + GLANCE_MAX;
    let opened = loop {
        match Journal::open(path, true) {
            // Somebody asks for its status just now.
            Err(JournalError::Taken) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => break opened,
        }
    };
    let journal = match opened {
        Ok(journal) => journal,
        Err(JournalError::Taken) => bail!(
            "another `ringwayd watch` has the journal {shown}: end it, or name another state folder \
             with --state-dir"
        ),
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "cannot use the journal {shown}; without it, what was delivered is asked of the \
                     receivers"
                )
            });
        }
    };
    let unusable = || format!("cannot use the journal {shown}");
    match journal.folder().with_context(unusable)? {
        None => journal.set_folder(folder.as_os_str().as_bytes()).with_context(unusable)?,
        Some(known) if known == folder.as_os_str().as_bytes() => {}
        Some(known) => bail!(
            "the journal {shown} is that of {}: name another state folder with --state-dir",
            String::from_utf8_lossy(&known)
        ),
    }
    let urls: Vec<String> =
        settings.push.to.iter().map(crate::client::url::Url::secret_text).collect();
    let receivers = journal.number(&urls).with_context(unusable)?;
    let ledger = journal.ledger(receivers).with_context(unusable)?;
    Ok((journal, ledger))
}

/// Makes the folder for what is done, where files can be moved to in one step.
fn prepare_done(settings: &Watch, folder: &Path) -> anyhow::Result<()> {
    let Done::Move(into) = &settings.done else { return Ok(()) };
    let shown = into.display();
    std::fs::create_dir_all(into).with_context(|| format!("cannot make {shown}"))?;
    let resolved = into.canonicalize().with_context(|| format!("cannot open {shown}"))?;
    ensure!(
        resolved != folder && !(settings.recursive && resolved.starts_with(folder)),
        "what is done would be moved to {shown}, which is watched: name a folder elsewhere"
    );
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev());
    ensure!(
        device(&resolved)? == device(folder)?,
        "{shown} is on another file system than {}, and files are moved in one step or not at all",
        folder.display()
    );
    Ok(())
}
