//! One receiver: the oldest file first, one after another, each as often as it takes.

use std::rc::Rc;
use std::time::{Duration, Instant};

use ringway::runtime::time;

use super::daemon::{Daemon, Meter, seen};
use super::ledger::{Ended, Job};
use super::probe;
use super::spool::{now_ms, stamp_of};
use crate::client::outcome::{Delivered, Failure};
use crate::client::retry::{Policy, Verdict};
use crate::client::url::Url;
use crate::client::wire::{self, Terms};
use crate::push::receiver::Standing;
use crate::push::source::{self, SourceFile};

/// What is to be done after an attempt that failed.
enum After {
    /// The file is another one by now, or none.
    Look,
    /// Again after this time; `counted` if that was an attempt at this file.
    Again {
        wait: Duration,
        counted: bool,
    },
    GiveUp,
}

/// Brings files to a receiver as long as the daemon runs.
pub(crate) async fn run(daemon: Rc<Daemon>, place: usize) {
    let meter = &daemon.meters[place];
    let mut standing = Standing::default();
    // How often in a row the receiver was not there: no file is to blame for that.
    let mut absences = 0;
    while let Some(job) = daemon.next_job(place).await {
        let began = Instant::now();
        let url = meter.url.for_path(&job.row.path);
        let track = &meter.receiver.track;
        track.next(&daemon.path(&job.row));
        let source = daemon.source(&job);
        let outcome = bring(&daemon, meter, &job, &url, &source, &mut standing).await;
        let failure = match outcome {
            Ok((delivered, digest)) => {
                absences = 0;
                meter.bytes.set(meter.bytes.get() + job.row.stamp.len);
                meter.files.set(meter.files.get() + 1);
                *meter.last_error.borrow_mut() = None;
                daemon.order.tally.delivered();
                daemon.order.show.ended(track, &url, &Ok(delivered), began.elapsed());
                track.begin(0);
                daemon.ended(&job, place, Ended::Delivered(digest));
                continue;
            }
            Err(failure) => failure,
        };
        track.begin(0);
        *meter.last_error.borrow_mut() = Some(failure.to_string());
        match after(&daemon, &job, &failure, &mut absences, &mut standing) {
            After::Look => daemon.is_another(&job),
            After::GiveUp => {
                meter.given_up.set(meter.given_up.get() + 1);
                let why = failure.to_string();
                daemon.order.show.ended(track, &url, &Err(failure), began.elapsed());
                daemon.ended(&job, place, Ended::GivenUp(why));
            }
            After::Again { wait, counted } => {
                meter.retries.set(meter.retries.get() + 1);
                let attempts = job.attempts.max(absences) + u32::from(counted);
                daemon.order.show.retrying(track, &url, &failure, attempts, wait);
                daemon.ended(&job, place, Ended::Again { counted });
                daemon.pause(wait).await;
            }
        }
    }
}

/// Brings one file, unless it is there already.
async fn bring(
    daemon: &Daemon,
    meter: &Meter,
    job: &Job,
    url: &Url,
    source: &SourceFile,
    standing: &mut Standing,
) -> Result<(Delivered, Option<crate::client::digest::Sha256>), Failure> {
    let limits = &daemon.order.limits;
    let version = source.version().await?;
    if source::key(&version.seen) != seen(&job.row) {
        source.forget(&version);
        return Err(Failure::SourceChanged("it is another one than was queued".to_owned()));
    }
    if let (true, Some(digest)) = (job.unsure, &version.digest) {
        let terms = Terms {
            connect_timeout: limits.attempts.connect_timeout(),
            unsent_bytes_max: limits.max_unsent_bytes,
            tls: daemon.order.tls.as_ref(),
        };
        let mut wire = wire::reach(url, terms).await?;
        let silence = limits.attempts.silence();
        let token = daemon.order.token.as_ref();
        // Who cannot say what it has is sent the file.
        if probe::has(&mut wire, url, token, digest, silence).await.unwrap_or(false) {
            let receipt = Some("already there".to_owned());
            return Ok((Delivered { status: 200, verified: true, receipt }, Some(*digest)));
        }
    }
    let limit = limits.attempts.whole();
    let attempt = time::timeout(limit, meter.receiver.attempt(source, url, standing)).await;
    let delivered = attempt.unwrap_or(Err(Failure::OutOfTime(limit)))?;
    Ok((delivered, version.digest))
}

/// What follows from a failure.
fn after(
    daemon: &Daemon,
    job: &Job,
    failure: &Failure,
    absences: &mut u32,
    standing: &mut Standing,
) -> After {
    let limits = &daemon.order.limits;
    let policy = limits.attempts.policy();
    match failure {
        Failure::SourceChanged(_) => return After::Look,
        Failure::SourceUnreadable(_) => {
            let now = stamp_of(&daemon.path(&job.row));
            let same = now.is_ok_and(|now| now == Some(job.row.stamp));
            return if same { After::GiveUp } else { After::Look };
        }
        Failure::Refused { status: 417, .. } if !standing.no_expect => {
            // It cannot be asked first (RFC 9110, section 15.5.18): that is no failure.
            standing.no_expect = true;
            return After::Again { wait: Duration::ZERO, counted: false };
        }
        _ => {}
    }
    let age = Duration::from_millis(now_ms().saturating_sub(job.row.queued_ms));
    if age >= limits.attempts.whole() {
        return After::GiveUp;
    }
    // A receiver or a host that is in no state to take anything says nothing about this file.
    let elsewhere =
        matches!(failure, Failure::Unreachable(_) | Failure::Unresolved(_) | Failure::Host(_));
    if elsewhere {
        *absences += 1;
        let endless = Policy { retries: u32::MAX, ..policy };
        return match endless.after(failure.remedy(), *absences, fastrand::f64()) {
            Verdict::Wait(wait) => After::Again { wait, counted: false },
            Verdict::GiveUp(_) => After::GiveUp,
        };
    }
    *absences = 0;
    match policy.after(failure.remedy(), job.attempts + 1, fastrand::f64()) {
        Verdict::Wait(wait) => After::Again { wait, counted: true },
        Verdict::GiveUp(_) => After::GiveUp,
    }
}
