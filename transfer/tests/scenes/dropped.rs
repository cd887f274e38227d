//! Transfers that are dropped or cancelled at any moment, over connections that are used again.

use std::future::{Future, IntoFuture};
use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringway::error::ErrorKind;
use ringway::limits::Limits;
use ringway::runtime::fs::File;
use ringway::runtime::net::Stream;
use ringway::runtime::time::{Sleep, sleep};
use ringway::runtime::{Config, Runtime, stats};
use ringway::{CancelToken, Mode, Parts, Route, Sink, Transfer, transfer_file};
use ringway_testkit::{Census, Quarantine, canary};

use crate::support::tap::{Appetite, Random, Tap, quiet, tap_tcp, tap_unix};
use crate::support::through::{ALL_WAYS, through};
use crate::support::{canary_file, folder, open};

pub const FILE: u64 = 21;
pub const BODY: u64 = (96 << 10) + 7;
const HEAD: &[u8] = &[0x48; 300];
const TAIL: &[u8] = &[0x54; 77];
const SLOW: Appetite = Appetite::Slow(16 << 10, Duration::from_micros(50));
pub const APPETITES: [Appetite; 3] = [Appetite::Greedy, SLOW, Appetite::Stalled];

/// Drops `count` transfers, each after another poll.
pub fn drop_everywhere(count: u64) {
    let folder = folder();
    let path = canary_file(&folder, FILE, BODY + 1);
    let before = Census::take();
    let runtime = small_runtime();
    let file = open(&path);
    let mut tally = Tally::default();
    while tally.dropped < count {
        for appetite in APPETITES {
            // A TCP peer with little room acknowledges late: that costs 40 ms for each transfer, so
            // over TCP a peer has room or reads nothing.
            if appetite != SLOW {
                let room = if appetite == Appetite::Greedy { 1 << 20 } else { 16 << 10 };
                let (mut stream, tap) = tap_tcp(appetite, room);
                runtime.block_on(sweep(&mut stream, &tap, appetite, &file, &mut tally));
                crate::support::end(stream);
                assert_eq!(tap.finish(), 0, "bytes that nobody had counted");
            }
            let (mut stream, tap) = tap_unix(appetite, 16 << 10);
            runtime.block_on(sweep(&mut stream, &tap, appetite, &file, &mut tally));
            crate::support::end(stream);
            assert_eq!(tap.finish(), 0, "bytes that nobody had counted");
        }
    }
    let stats = runtime.stats();
    assert_eq!((stats.completions_stale, stats.unexpected_errnos), (0, 0));
    drop((runtime, file));
    before.assert_unchanged_within(Duration::from_secs(5));
    Quarantine::verify().unwrap_or_else(|late| panic!("{late}"));
    println!("{tally:?}, {} ops cancelled: 0 bytes lost, 0 foreign, 0 leaks", stats.cancels);
}

#[derive(Debug, Default)]
struct Tally {
    dropped: u64,
    /// Of those that were dropped, those through a processor.
    of_mapped: u64,
    poisoned: u64,
    mid_body: u64,
    completed: u64,
}

/// Drops a transfer after 0, 1, 2, … polls in every way, until it completes or stalls.
async fn sweep<S: Sink + DerefMut<Target = Stream>>(
    stream: &mut S,
    tap: &Tap,
    appetite: Appetite,
    file: &File,
    tally: &mut Tally,
) {
    let base = stats().unwrap();
    for (way, late) in ALL_WAYS.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        for polls in 0.. {
            let began = stream.accepted();
            let transfer = prepared(file, stream, way).into_future();
            let most = Duration::from_millis(if appetite == Appetite::Stalled { 3 } else { 5000 });
            let (outcome, used) = AtMost::new(transfer, polls, late, most).await;
            let completed = outcome.is_some();
            if let Some(outcome) = outcome {
                let receipt = outcome.unwrap_or_else(|error| panic!("{way:?}: {error}"));
                assert_eq!(receipt.bytes, stream.accepted() - began);
            }
            tally.of_mapped += u64::from(way.0 == Route::Mapped && !completed);
            settle_and_check(stream, tap, began, completed, tally).await;
            quiet(&base).await;
            if completed || used < polls {
                break;
            }
        }
    }
    // And after all that the connection carries a whole body.
    let began = stream.accepted();
    let way = ALL_WAYS[usize::try_from(tally.dropped).unwrap() % ALL_WAYS.len()];
    if appetite == Appetite::Stalled {
        // Nobody reads while it is sent, so no more than fits into the socket.
        through(transfer_file(file, stream).range(1..4097), way).await.unwrap();
    } else {
        prepared(file, stream, way).await.unwrap();
    }
    if appetite == Appetite::Stalled {
        tap.take_canary(FILE, 1, stream.accepted() - began);
    } else {
        tap.take_prefix(whole(), stream.accepted() - began);
    }
}

async fn settle_and_check<S: Sink + DerefMut<Target = Stream>>(
    stream: &mut S,
    tap: &Tap,
    began: u64,
    completed: bool,
    tally: &mut Tally,
) {
    let poisoned = stream.is_poisoned();
    if poisoned {
        let refused = transfer_file(Parts::new().bytes("x"), stream).await.unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Poisoned), "{refused}");
        let refused = stream.try_send(&[std::io::IoSlice::new(b"x")], false).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
    }
    let settled = stream.settle().await;
    let sent = stream.accepted() - began;
    assert!(!stream.is_poisoned() && !stream.is_sending());
    assert_eq!(settled, if poisoned { sent } else { 0 });
    assert!(poisoned || completed || sent == 0, "{sent} bytes went out unnoticed");
    tap.take_prefix(whole(), sent);
    tally.dropped += u64::from(!completed);
    tally.completed += u64::from(completed);
    tally.poisoned += u64::from(poisoned);
    tally.mid_body += u64::from(sent > 0 && sent < whole().len() as u64);
}

/// Head, file and tail, in small steps and with little patience for a peer that stalls.
pub fn prepared<'t, S: Sink>(file: &File, stream: &'t mut S, way: (Route, Mode)) -> Transfer<'t> {
    let parts = Parts::new().bytes(HEAD).file(file, 1..BODY + 1).bytes(TAIL);
    let limits = Limits::default()
        .with_quantum_bytes(12 << 10)
        .with_copy_batch_bytes(12 << 10)
        .with_stall_hold(Duration::from_micros(200));
    through(transfer_file(parts, stream).limits(limits), way)
}

/// What [`prepared`] sends.
pub fn whole() -> &'static [u8] {
    static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    WHOLE.get_or_init(|| {
        let file = canary::bytes(FILE, 1, usize::try_from(BODY).unwrap());
        [HEAD, &file, TAIL].concat()
    })
}

pub fn small_runtime() -> Runtime {
    let config = Config {
        submission_entries: 8,
        completion_entries: 256,
        pipes_max: 4,
        pipe_bytes: 64 << 10,
        ..Config::default()
    };
    Runtime::with_config(config).unwrap()
}

/// Polls a future at most so many times, and no longer than a while.
struct AtMost<F> {
    future: F,
    polls_left: u64,
    used: u64,
    /// Gives up at the wake after the last poll, when what it waited for has happened, and not
    /// directly after the poll.
    late: bool,
    over: Sleep,
}

impl<F: Future + Unpin> AtMost<F> {
    fn new(future: F, polls: u64, late: bool, most: Duration) -> Self {
        Self { future, polls_left: polls, used: 0, late, over: sleep(most) }
    }
}

impl<F: Future + Unpin> Future for AtMost<F> {
    type Output = (Option<F::Output>, u64);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 || Pin::new(&mut self.over).poll(context).is_ready() {
            return Poll::Ready((None, self.used));
        }
        self.polls_left -= 1;
        self.used += 1;
        let used = self.used;
        if let Poll::Ready(output) = Pin::new(&mut self.future).poll(context) {
            return Poll::Ready((Some(output), used));
        }
        if self.polls_left == 0 && !self.late { Poll::Ready((None, used)) } else { Poll::Pending }
    }
}

/// Cancels `count` transfers at random moments, from another thread.
pub fn cancel_at_random(count: u64) {
    let folder = folder();
    let path = canary_file(&folder, FILE, BODY + 1);
    let before = Census::take();
    let (orders, at_work) = mpsc::channel::<(CancelToken, Instant)>();
    let canceller = std::thread::spawn(move || {
        for (token, when) in at_work {
            std::thread::sleep(when.saturating_duration_since(Instant::now()));
            token.cancel();
        }
    });
    let runtime = small_runtime();
    let file = open(&path);
    let mut random = Random(7);
    let (mut cancelled, mut completed, mut mid_body) = (0, 0, 0);
    while cancelled < count {
        let appetite = APPETITES[usize::try_from(random.below(3)).unwrap()];
        let (mut stream, tap) = tap_tcp(appetite, 16 << 10);
        runtime.block_on(async {
            let base = stats().unwrap();
            for way in ALL_WAYS.repeat(5) {
                let began = stream.accepted();
                let token = CancelToken::new();
                let delay = Duration::from_micros(random.below(400));
                orders.send((token.clone(), Instant::now() + delay)).unwrap();
                let outcome = prepared(&file, &mut stream, way).cancel_token(&token).await;
                let sent = stream.accepted() - began;
                match outcome {
                    Ok(receipt) => {
                        assert_eq!(receipt.bytes, sent);
                        completed += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::Cancelled), "{way:?}: {error}");
                        assert_eq!(
                            error.sent(),
                            sent,
                            "{way:?}: what it tells is not what went out"
                        );
                        cancelled += 1;
                        mid_body += u64::from(sent > 0);
                    }
                }
                assert!(!stream.is_poisoned() && !stream.is_sending());
                tap.take_prefix(whole(), sent);
                quiet(&base).await;
            }
        });
        drop(stream);
        assert_eq!(tap.finish(), 0);
    }
    drop((orders, runtime, file));
    canceller.join().unwrap();
    before.assert_unchanged_within(Duration::from_secs(5));
    Quarantine::verify().unwrap_or_else(|late| panic!("{late}"));
    println!(
        "{cancelled} cancelled by token, {mid_body} of them in the body, {completed} completed"
    );
}
