//! `ringwayd push`: files to many receivers by HTTP PUT, all on one ring.
//!
//! Each receiver has a task and a connection of its own and takes the files one after another, so
//! that one that is slow or dead holds none of the others.
//!
//! | room | is |
//! |---|---|
//! | `source` | a file to push: open, looked at, its digest computed once |
//! | `request` | the heads of requests |
//! | `receiver` | one receiver, its files, its attempts |
//! | `attempt` | one attempt: connect, ask, send, listen |
//! | `resume` | the same by tus 1.0, gone on with where it broke off |
//! | `memory` | where uploads are that were begun |
//! | `listener` | what a receiver says meanwhile |
//! | `budget` | a rate that several transfers share |

mod attempt;
mod budget;
mod listener;
mod memory;
pub(crate) mod receiver;
mod request;
mod resume;
pub(crate) mod source;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use ringway::runtime::signal::{Kind, Signals};
use ringway::runtime::{Runtime, spawn, time};
use ringway::tls::TlsConnector;

use self::budget::Budget;
use self::memory::Memory;
use self::receiver::Receiver;
use self::source::SourceFile;
use crate::cli::client::Header;
use crate::cli::push::{Push, PushLimits};
use crate::client::hasher::Hasher;
use crate::client::outcome::Tally;
use crate::client::secret::Token;
use crate::client::show::Show;
use crate::client::trust;
use crate::client::url::{Scheme, Url};
use crate::state;

/// What all receivers of one run share.
#[derive(Debug)]
pub(crate) struct Order {
    sources: Vec<Rc<SourceFile>>,
    pub(crate) token: Option<Token>,
    headers: Vec<Header>,
    /// What shakes hands, if any receiver is to be spoken to over https.
    pub(crate) tls: Option<TlsConnector>,
    /// Where uploads are that can be gone on with, if files are pushed so.
    memory: Option<Memory>,
    pub(crate) limits: PushLimits,
    /// The rate of all receivers together.
    total: Option<Budget>,
    pub(crate) show: Show,
    pub(crate) tally: Tally,
    pub(crate) hasher: Option<Rc<Hasher>>,
}

/// Pushes all files to all receivers.
///
/// # Errors
///
/// What keeps it from starting. What fails later is told by [`Show`] and by the exit code.
pub(crate) fn run(settings: &Push) -> anyhow::Result<ExitCode> {
    check(settings)?;
    let signals = Signals::new(&[Kind::Terminate, Kind::Interrupt]);
    let signals = signals.context("cannot listen to signals")?;
    let order = order(settings)?;
    let runtime = Runtime::new().map_err(|error| anyhow!("{error}"))?;
    runtime.block_on(push_all(Rc::new(order), settings, signals))
}

/// Makes ready what all receivers share.
///
/// # Errors
///
/// A token or certificates that cannot be read, and threads that cannot be had.
pub(crate) fn order(settings: &Push) -> anyhow::Result<Order> {
    let token = Token::of(&settings.caller)?;
    if token.is_some() && settings.to.iter().any(travels_in_the_clear) {
        eprintln!("ringwayd: the token travels in the clear: http has no encryption");
    }
    let tls = match settings.to.iter().any(|url| url.scheme == Scheme::Https) {
        true => {
            Some(trust::connector(&settings.trust, settings.limits.attempts.connect_timeout())?)
        }
        false => None,
    };
    let memory = match settings.resume {
        true => Some(Memory::open(&state::folder(settings.state_dir.as_deref())?)?),
        false => None,
    };
    let hasher = match settings.no_digest {
        true => None,
        false => Some(Rc::new(Hasher::start().context("cannot start a thread for digests")?)),
    };
    let source = |path| Rc::new(SourceFile::new(path, hasher.clone()));
    Ok(Order {
        sources: settings.files.iter().map(|path| source(path.clone())).collect(),
        token,
        headers: settings.caller.header.clone(),
        tls,
        memory,
        limits: settings.limits,
        total: settings.limits.total_rate_bytes_per_second.map(Budget::new),
        show: Show::start(settings.caller.progress, "to")
            .context("cannot start to tell of progress")?,
        tally: Tally::default(),
        hasher,
    })
}

/// What is wrong with the order itself, before anything is begun.
fn check(settings: &Push) -> anyhow::Result<()> {
    ensure!(!settings.files.is_empty(), "name at least one FILE to push");
    ensure!(!settings.to.is_empty(), "name at least one receiver: --to URL");
    for url in &settings.to {
        ensure!(
            settings.files.len() == 1 || url.is_folder() || settings.resume,
            "{url} names one file and {} are pushed: end it with `/`, so that each keeps its name",
            settings.files.len()
        );
    }
    for path in &settings.files {
        let shown = path.display();
        let metadata = path.metadata().with_context(|| format!("cannot push {shown}"))?;
        ensure!(metadata.is_file(), "cannot push {shown}: it is no regular file");
        ensure!(path.file_name().is_some(), "cannot push {shown}: it has no name");
    }
    Ok(())
}

/// Lets every receiver run to its end, or until a signal comes.
async fn push_all(
    order: Rc<Order>,
    settings: &Push,
    mut signals: Signals,
) -> anyhow::Result<ExitCode> {
    let receivers: Vec<_> = settings
        .to
        .iter()
        .map(|url| Rc::new(Receiver::new(Rc::clone(&order), url.clone())))
        .collect();
    let mut tasks: Vec<_> =
        receivers.iter().map(|receiver| spawn(Rc::clone(receiver).run())).collect();
    let painting = spawn(paint(Rc::clone(&order)));
    let mut interrupted = pin!(signals.recv());
    let stopped = poll_fn(|context| {
        if interrupted.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        // One that has ended must not be polled again.
        tasks.retain_mut(|task| pin!(task).poll(context).is_pending());
        if tasks.is_empty() { Poll::Ready(false) } else { Poll::Pending }
    })
    .await;
    if stopped {
        tasks.iter().for_each(ringway::runtime::JoinHandle::abort);
    }
    painting.abort();
    // A task that was aborted, or that has panicked, has left files for which nobody has spoken.
    receivers.iter().for_each(|receiver| receiver.tell_unfinished(stopped));
    Ok(order.show.finish(&order.tally).await)
}

/// How often bars move. JSON lines of progress come once a second.
const PAINT: Duration = Duration::from_millis(100);

async fn paint(order: Rc<Order>) {
    let mut ticks = time::interval(PAINT);
    loop {
        ticks.tick().await;
        order.show.paint();
    }
}

fn travels_in_the_clear(url: &Url) -> bool {
    let address = url.host.parse::<std::net::IpAddr>();
    let stays = url.host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    url.scheme == Scheme::Http && !stays
}
