//! What serves on one thread: its listeners, its seats, its cache and its log, and how it ends.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringway::runtime::fs::File;
use ringway::runtime::net::TcpListener;
use ringway::runtime::{self, spawn, time, yield_now};
use ringway::{Limits, Thresholds};

use super::admin::{Board, Meters};
use super::cache::FileCache;
use super::connection::{self, Link};
use super::desk::Desks;
use super::log_writer::LogSink;
use super::receive::Uploads;
use super::seats::Seats;
use super::stop::Stop;
use super::tls::{self, Certificates, Complaints};
use crate::access_log::{AccessLog, LogFormat};
use crate::cli;
use crate::http::{Date, DateCache, HeadLimits, PathPolicy};

/// Connections accepted in a row before the ones that are there have their turn.
const ACCEPTED_IN_A_ROW_MAX: u32 = 16;
/// How often deadlines are looked at and the log is written.
const TICK: Duration = Duration::from_secs(1);
/// How long connections that were evicted may take to end.
const EVICTED_MAX: Duration = Duration::from_secs(2);
/// How long a thread that ends offers its last lines to a log that takes none.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);

/// All that the connections of one thread share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) seats: Rc<Seats>,
    pub(crate) desks: Desks,
    pub(crate) cache: FileCache,
    /// None if nothing is logged.
    pub(crate) log: Option<RefCell<AccessLog<LogSink>>>,
    pub(crate) head_limits: HeadLimits,
    pub(crate) policy: PathPolicy,
    /// The port that clients without encryption are sent to, if they are not served.
    pub(crate) https_port: Option<u16>,
    pub(crate) times: Times,
    /// None if nothing may be written.
    pub(crate) uploads: Option<Uploads>,
    pub(crate) transfer_limits: Limits,
    pub(crate) thresholds: Thresholds,
    /// Bytes that may wait unsent in the kernel for one client.
    pub(crate) unsent_bytes_max: u32,
    pub(crate) complaints: RefCell<Complaints>,
    /// None if nobody is told.
    pub(crate) meters: Option<Meters>,
    post: Option<Post>,
    dates: RefCell<DateCache>,
}

/// The listeners of one thread.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) plain: Vec<TcpListener>,
    pub(crate) encrypted: Vec<TcpListener>,
    /// What those prove who they are by.
    pub(crate) certificates: Option<Arc<Certificates>>,
}

/// Where the numbers of this thread go.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) board: Arc<Board>,
    pub(crate) thread: usize,
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) send: Duration,
    drain: Duration,
}

impl Server {
    /// A server of the files below `root` that keeps `files_max` of them open.
    pub(crate) fn new(
        settings: &cli::Serve,
        (root, files_max): (File, usize),
        thresholds: Thresholds,
        log: LogSink,
        post: Option<Post>,
        uploads: Option<Uploads>,
        https_port: Option<u16>,
    ) -> Rc<Server> {
        let limits = settings.limits;
        let seconds = Duration::from_secs;
        let logged = settings.log_format != LogFormat::None;
        Rc::new(Server {
            seats: Seats::new(limits.max_connections.get()),
            desks: Desks::default(),
            cache: FileCache::new(root, files_max),
            log: logged.then(|| RefCell::new(AccessLog::new(settings.log_format, log))),
            head_limits: HeadLimits::for_head_bytes(limits.max_header_bytes),
            policy: PathPolicy { hidden: settings.hidden, writable: settings.receive.writable },
            https_port,
            uploads,
            times: Times {
                head: seconds(limits.header_timeout_seconds),
                idle: seconds(limits.idle_timeout_seconds),
                send: seconds(limits.send_timeout_seconds),
                drain: seconds(limits.drain_timeout_seconds),
            },
            transfer_limits: Limits::default()
                .with_peer_timeout(seconds(limits.send_timeout_seconds)),
            thresholds,
            unsent_bytes_max: limits.max_unsent_bytes,
            complaints: Complaints::new(),
            meters: post.is_some().then(Meters::default),
            post,
            dates: RefCell::new(DateCache::new()),
        })
    }

    /// The date for a response.
    pub(crate) fn date(&self) -> Date {
        *self.dates.borrow_mut().at(SystemTime::now())
    }

    /// Serves until the daemon is to stop and the last connection has ended.
    pub(crate) async fn run(
        self: Rc<Self>,
        listeners: Listeners,
        stop: Arc<Stop>,
    ) -> io::Result<()> {
        let ticking = spawn(tick(Rc::clone(&self)));
        let Listeners { plain, encrypted, certificates } = listeners;
        let plain = plain.into_iter().map(|listener| (listener, None));
        let encrypted = encrypted.into_iter().map(|listener| (listener, certificates.clone()));
        let accepting: Vec<_> = plain
            .chain(encrypted)
            .map(|(listener, by)| spawn(accept(Rc::clone(&self), listener, by, Arc::clone(&stop))))
            .collect();
        stop.begun().await;
        if let Some(post) = &self.post {
            post.board.drain();
        }
        self.seats.stop();
        let mut outcome = Ok(());
        for listener in accepting {
            let ended =
                listener.await.unwrap_or_else(|error| Err(io::Error::other(error.to_string())));
            outcome = outcome.and(ended);
        }
        if time::timeout(self.times.drain, self.seats.emptied()).await.is_err() {
            self.seats.evict();
            // Whoever still does not leave is dropped with the runtime.
            _ = time::timeout(EVICTED_MAX, self.seats.emptied()).await;
        }
        ticking.abort();
        self.write_last_lines().await;
        outcome
    }

    /// Leaves the numbers where they are asked for.
    fn tell(&self) {
        if let (Some(meters), Some(post), Ok(stats)) = (&self.meters, &self.post, runtime::stats())
        {
            post.board.post(post.thread, meters.read(self.seats.taken(), stats));
        }
    }

    async fn write_last_lines(&self) {
        let Some(log) = &self.log else { return };
        let deadline = Instant::now() + LAST_LINES_MAX;
        loop {
            {
                let mut log = log.borrow_mut();
                log.flush();
                if Instant::now() >= deadline {
                    log.give_up();
                }
                let lost = log.lost_lines();
                log.sink().report_lost(lost);
                if log.is_flushed() {
                    return;
                }
            }
            time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Accepts until the daemon stops; what waits in the backlog then is still taken.
async fn accept(
    server: Rc<Server>,
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    stop: Arc<Stop>,
) -> io::Result<()> {
    let seats = Rc::clone(&server.seats);
    let mut in_a_row = 0;
    loop {
        let (stream, peer) = match seats.unless_stopping(listener.accept_from()).await {
            None => return Ok(()),
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                // Without this listener the daemon is not what it was started as.
                stop.begin();
                return Err(error);
            }
        };
        // With all seats taken, this one and the backlog behind it wait.
        let Some(seat) = seats.unless_stopping(seats.take()).await else { return Ok(()) };
        let server = Rc::clone(&server);
        if let Some(certificates) = &certificates {
            drop(spawn(tls::greet(server, Arc::clone(certificates), (stream, peer), seat)));
        } else {
            drop(spawn(connection::run(server, Link::new(stream, peer, None, seat))));
        }
        in_a_row += 1;
        if in_a_row == ACCEPTED_IN_A_ROW_MAX {
            in_a_row = 0;
            yield_now().await;
        }
    }
}

async fn tick(server: Rc<Server>) {
    let mut ticks = time::interval(TICK);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        server.seats.expire(now);
        server.cache.expire(now);
        server.complaints.borrow_mut().look(now);
        server.tell();
        if let Some(log) = &server.log {
            let mut log = log.borrow_mut();
            log.flush();
            let lost = log.lost_lines();
            log.sink().report_lost(lost);
        }
    }
}
