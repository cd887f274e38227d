//! Small requests at a fixed rate, each timed from the moment at which it was meant to be sent: one
//! that has to wait because the one before it was slow is slow as well.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, assert_same};

/// Bytes of the file that is asked for.
pub(crate) const SMALL_BYTES: usize = 1024;
/// Its name.
pub(crate) const SMALL: &str = "small";

const CONNECTIONS: u32 = 4;
/// Between two requests on one connection: 400 requests per second in all.
const INTERVAL: Duration = Duration::from_millis(10);

/// How long requests took, sorted.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Those of several runs together.
    pub(crate) fn of(runs: Vec<Latencies>) -> Latencies {
        let mut all: Vec<_> = runs.into_iter().flat_map(|run| run.0).collect();
        all.sort_unstable();
        Latencies(all)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The one that `share` of them do not exceed.
    pub(crate) fn at(&self, share: f64) -> Duration {
        let last = self.0.len() - 1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let place = (last as f64 * share).ceil() as usize;
        self.0[place.min(last)]
    }

    pub(crate) fn p99(&self) -> Duration {
        self.at(0.99)
    }

    /// How many times longer the 99th percentile is.
    pub(crate) fn ratio_to(&self, idle: &Latencies) -> f64 {
        self.p99().as_secs_f64() / idle.p99().as_secs_f64()
    }

    pub(crate) fn told(&self) -> String {
        let (half, p99, worst) = (self.at(0.5), self.p99(), self.at(1.0));
        format!("{} requests, p50 {half:?}, p99 {p99:?}, worst {worst:?}", self.count())
    }

    /// A sanity check, no benchmark: the machine may be busy with anything.
    #[track_caller]
    pub(crate) fn assert_sane(&self, idle: &Latencies, times: u32) {
        let bar = (times * idle.p99()).max(Duration::from_millis(250));
        assert!(self.p99() <= bar, "{}, against {}", self.told(), idle.told());
    }
}

/// Runs the load for a while.
pub(crate) fn during(address: SocketAddr, content: &[u8], time: Duration) -> Latencies {
    let until = Instant::now() + time;
    run(address, content, &|| Instant::now() >= until)
}

/// Runs the load while `work` does, and gives what that gave.
pub(crate) fn beside<T>(
    address: SocketAddr,
    content: &[u8],
    work: impl FnOnce() -> T,
) -> (Latencies, T) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| run(address, content, &|| over.load(Ordering::Relaxed)));
        let outcome = {
            let _over = Over(&over);
            work()
        };
        (load.join().unwrap(), outcome)
    })
}

/// Ends the load, also when the work panics: nobody would otherwise.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn run(address: SocketAddr, content: &[u8], over: &(impl Fn() -> bool + Sync)) -> Latencies {
    let started = Instant::now() + Duration::from_millis(5);
    let one = |number: u32| {
        let mut client = Client::connect(address);
        let mut intended = started + INTERVAL / CONNECTIONS * number;
        let mut taken = Vec::new();
        while !over() || taken.is_empty() {
            thread::sleep(intended.saturating_duration_since(Instant::now()));
            let response = client.get(&format!("/{SMALL}"));
            taken.push(intended.elapsed());
            assert_eq!(response.status, 200);
            assert_same(&response.body, content, "the small file");
            intended += INTERVAL;
        }
        taken
    };
    let mut all: Vec<_> = thread::scope(|scope| {
        let started: Vec<_> = (0..CONNECTIONS).map(|n| scope.spawn(move || one(n))).collect();
        started.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    all.sort_unstable();
    Latencies(all)
}
