//! One receiver: its files one after another, and the attempts for each.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringway::runtime::time;

use super::Order;
use super::attempt::{Attempt, Link, Method};
use super::budget::Budget;
use super::resume::Resumption;
use super::source::SourceFile;
use crate::client::outcome::{Delivered, Failure};
use crate::client::retry::Verdict;
use crate::client::show::Track;
use crate::client::url::Url;

/// Who is to have the files.
#[derive(Debug)]
pub(crate) struct Receiver {
    order: Rc<Order>,
    url: Url,
    pub(crate) track: Rc<Track>,
    /// Files of which the fate is told.
    told: Cell<usize>,
    /// Its own rate; transfers keep it themselves unless there is one for all as well.
    rate: Option<Budget>,
}

/// What lasts from one attempt to the next.
#[derive(Default)]
pub(crate) struct Standing {
    link: Option<Link>,
    /// It has refused to be asked first.
    pub(crate) no_expect: bool,
}

impl Receiver {
    pub(crate) fn new(order: Rc<Order>, url: Url) -> Receiver {
        let track = order.show.track(&url, order.sources.len());
        let shared = order.total.is_some();
        let rate = order.limits.attempts.rate_bytes_per_second.filter(|_| shared).map(Budget::new);
        Receiver { order, url, track, told: Cell::new(0), rate }
    }

    /// Brings all files, and tells of each.
    pub(crate) async fn run(self: Rc<Self>) {
        let mut standing = Standing::default();
        let mut given_up = false;
        for source in &self.order.sources {
            let began = Instant::now();
            self.track.next(source.path());
            let outcome = match given_up {
                true => Err(Failure::GivenUp),
                false => self.bring_in_time(source, &mut standing).await,
            };
            // Who is not there for one file is not waited for with each of the others.
            given_up |= matches!(
                outcome,
                Err(Failure::Unreachable(_) | Failure::Unresolved(_) | Failure::NoTls(_))
            );
            self.tell(source, &outcome, began.elapsed());
        }
        if let Some(link) = standing.link {
            link.close().await;
        }
    }

    /// Tells of the files that this receiver did not come to.
    pub(crate) fn tell_unfinished(&self, interrupted: bool) {
        for source in self.order.sources.iter().skip(self.told.get()) {
            let failure = match interrupted {
                true => Failure::Interrupted,
                false => Failure::Host("its task ended by a panic: please report it".to_owned()),
            };
            self.track.next(source.path());
            self.tell(source, &Err(failure), Duration::ZERO);
        }
    }

    fn tell(&self, source: &SourceFile, outcome: &Result<Delivered, Failure>, took: Duration) {
        self.told.set(self.told.get() + 1);
        match outcome {
            Ok(_) => self.order.tally.delivered(),
            Err(failure) => self.order.tally.failed(failure.kind()),
        }
        self.order.show.ended(&self.track, &self.url.for_file(source.name()), outcome, took);
    }

    async fn bring_in_time(
        &self,
        source: &SourceFile,
        standing: &mut Standing,
    ) -> Result<Delivered, Failure> {
        let limit = self.order.limits.attempts.whole();
        let brought = time::timeout(limit, self.bring(source, standing)).await;
        brought.unwrap_or(Err(Failure::OutOfTime(limit)))
    }

    /// Tries until it has arrived, or until trying on makes no sense.
    async fn bring(
        &self,
        source: &SourceFile,
        standing: &mut Standing,
    ) -> Result<Delivered, Failure> {
        let policy = self.order.limits.attempts.policy();
        let url = self.url.for_file(source.name());
        let mut attempts = 0;
        loop {
            let failure = match self.attempt(source, &url, standing).await {
                Ok(delivered) => return Ok(delivered),
                Err(Failure::Refused { status: 417, .. }) if !standing.no_expect => {
                    // It cannot be asked first (RFC 9110, section 15.5.18): that is no failure.
                    standing.no_expect = true;
                    continue;
                }
                Err(failure) => failure,
            };
            attempts += 1;
            match policy.after(failure.remedy(), attempts, fastrand::f64()) {
                Verdict::GiveUp(_) => return Err(failure),
                Verdict::Wait(wait) => {
                    self.order.show.retrying(&self.track, &url, &failure, attempts, wait);
                    time::sleep(wait).await;
                }
            }
        }
    }

    /// Makes one attempt to bring the file to `url`.
    ///
    /// # Errors
    ///
    /// Every [`Failure`] but those of waiting.
    ///
    /// # Cancel safety
    ///
    /// The connection is lost.
    pub(crate) async fn attempt(
        &self,
        source: &SourceFile,
        url: &Url,
        standing: &mut Standing,
    ) -> Result<Delivered, Failure> {
        let version = source.version().await?;
        let attempt = Attempt {
            order: &self.order,
            url,
            version: &version,
            track: &self.track,
            rate: self.rate.as_ref(),
            may_expect: !standing.no_expect,
            method: Method::Put,
            shows_token: true,
        };
        // Boxed, because they are large and there is one for each receiver.
        let outcome = match &self.order.memory {
            None => Box::pin(attempt.make(&mut standing.link)).await,
            Some(memory) => {
                let attempt = Attempt { url: &self.url, ..attempt };
                let resumption = Resumption { attempt, memory, source };
                Box::pin(resumption.make(&mut standing.link)).await
            }
        };
        if version.has_changed() {
            source.forget(&version);
        }
        outcome
    }
}
