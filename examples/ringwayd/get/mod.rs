//! `ringwayd get`: files from HTTP servers, gone on with where an earlier attempt or run stopped,
//! verified, and seen under their names only when they are whole.
//!
//! | room | is | pure |
//! |---|---|---|
//! | `place` | the file to be, its part, and what is known of the part | |
//! | `answer` | what an answer means for a part | yes |
//! | `fetch` | attempts until the file is whole | |
//! | `chunked` | a body in chunks, decoded on its way | |

mod answer;
mod chunked;
mod fetch;
mod place;

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use ringway::runtime::signal::{Kind, Signals};
use ringway::runtime::{Runtime, spawn, time};

use self::fetch::Order;
use crate::cli::get::Get;
use crate::client::hasher::Hasher;
use crate::client::outcome::{Failure, Tally};
use crate::client::secret::Token;
use crate::client::show::Show;
use crate::client::trust;
use crate::client::url::{Scheme, Url};

/// How often bars move.
const PAINT: Duration = Duration::from_millis(100);

/// Fetches one file after another.
///
/// # Errors
///
/// What keeps it from starting. What fails later is told by [`Show`] and by the exit code.
pub(crate) fn run(settings: &Get) -> anyhow::Result<ExitCode> {
    let jobs = jobs(settings)?;
    let token = Token::of(&settings.caller)?;
    let tls = match settings.urls.iter().any(|url| url.scheme == Scheme::Https) {
        true => {
            Some(trust::connector(&settings.trust, settings.limits.attempts.connect_timeout())?)
        }
        false => None,
    };
    let signals = Signals::new(&[Kind::Terminate, Kind::Interrupt]);
    let signals = signals.context("cannot listen to signals")?;
    let order = Order {
        settings: settings.clone(),
        token,
        tls,
        hasher: Hasher::start().context("cannot start a thread for digests")?,
    };
    let show = Show::start(settings.caller.progress, "from")
        .context("cannot start to tell of progress")?;
    let runtime = Runtime::new().map_err(|error| anyhow!("{error}"))?;
    Ok(runtime.block_on(fetch_all(&order, &jobs, Rc::new(show), signals)))
}

/// Which URL becomes which file.
fn jobs(settings: &Get) -> anyhow::Result<Vec<(Url, PathBuf)>> {
    ensure!(!settings.urls.is_empty(), "name at least one URL to fetch");
    let several = settings.urls.len() > 1;
    ensure!(!(several && settings.output.is_some()), "--output is for one URL");
    ensure!(!(several && settings.sha256.is_some()), "--sha256 is for one URL");
    let mut jobs = Vec::new();
    for url in &settings.urls {
        let path = match &settings.output {
            Some(path) => path.clone(),
            None => url.file_name().with_context(|| {
                format!("{url} does not tell the name of a file: give one by --output")
            })?,
        };
        ensure!(path.file_name().is_some(), "{} is no name of a file", path.display());
        ensure!(!path.is_dir(), "{} is a folder: name a file in it", path.display());
        jobs.push((url.clone(), path));
    }
    Ok(jobs)
}

async fn fetch_all(
    order: &Order,
    jobs: &[(Url, PathBuf)],
    show: Rc<Show>,
    mut signals: Signals,
) -> ExitCode {
    let tally = Tally::default();
    let painted = Rc::clone(&show);
    let painting = spawn(async move {
        let mut ticks = time::interval(PAINT);
        loop {
            ticks.tick().await;
            painted.paint();
        }
    });
    let mut interrupted = pin!(signals.recv());
    let mut stopped = false;
    for (url, path) in jobs {
        let began = Instant::now();
        let track = show.track(url, 1);
        track.next(path);
        let mut fetching = pin!(fetch::in_time(order, &show, &track, url, path));
        let outcome = poll_fn(|context| {
            stopped |= !stopped && interrupted.as_mut().poll(context).is_ready();
            match stopped {
                true => Poll::Ready(Err(Failure::Interrupted)),
                false => fetching.as_mut().poll(context),
            }
        })
        .await;
        match &outcome {
            Ok(_) => tally.delivered(),
            Err(failure) => tally.failed(failure.kind()),
        }
        show.ended(&track, url, &outcome, began.elapsed());
    }
    painting.abort();
    show.finish(&tally).await
}
