//! R10: thousands of transfers at once, and transfers where something is short: pipe pages,
//! descriptors, locked memory, the queues of the ring. They degrade, say so, and complete.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "reach/fan.rs"]
mod fan;
#[path = "reach/ordinary.rs"]
mod ordinary;
mod support;

use std::time::Duration;

use fan::Fan;
use ordinary::{as_ordinary_user, own_file};
use ringway::runtime::net::{TcpListener, TcpStream};
use ringway::runtime::time::sleep;
use ringway::runtime::{Config, PipeRefusal, Runtime, lend_pipe, spawn, stats};
use ringway::{Mode, Route};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{WAYS, open};

const FILE: u64 = 71;
const LIMIT: Duration = Duration::from_secs(100);

#[test]
fn two_hundred_transfers_at_once_as_an_ordinary_user() {
    as_ordinary_user("two_hundred_transfers_at_once_as_an_ordinary_user", 0, LIMIT, || {
        at_once(200, 300_001);
    });
}

#[test]
#[ignore = "lane: reach; run with: cargo test --release -p ringway --test reach_exhaustion -- --ignored"]
fn two_thousand_transfers_at_once_as_an_ordinary_user() {
    as_ordinary_user("two_thousand_transfers_at_once_as_an_ordinary_user", 1, LIMIT, || {
        at_once(2000, (1 << 20) + 1);
    });
}

/// There is no cliff: pipes are shared, and those who find none free do without.
fn at_once(count: usize, len: u64) {
    let (_folder, path) = own_file(FILE, len);
    let file = open(&path);
    let runtime = Runtime::new().unwrap();
    let ways = WAYS.map(Some).into_iter().chain([None; 6]).collect::<Vec<_>>();
    for (what, ways) in [("auto", &[None][..]), ("every way, and auto", &ways)] {
        let fanned = runtime.block_on(async {
            let way = |number: usize| ways[number % ways.len()];
            Fan::new(count).send(&file, (FILE, len), way).await
        });
        println!(
            "{count} transfers of {len} bytes at once ({what}) in {:?}: {:.0} MB/s, at most {} \
             pipes of {} KiB in all; {:?}; fell back: {:?}",
            fanned.took,
            count as f64 * len as f64 / 1e6 / fanned.took.as_secs_f64(),
            fanned.pipes_max,
            fanned.pipe_bytes_max >> 10,
            fanned.routes(),
            fanned.fallbacks(),
        );
        let config = Config::default();
        assert!(fanned.pipes_max <= config.pipes_max.into());
        assert!(fanned.pipe_bytes_max <= config.pipe_bytes_max as u64);
        assert_eq!(fanned.stats.pipes_shrunk, 0, "no pipe was smaller than asked for");
        fanned.assert_clean();
    }
}

#[test]
fn a_user_without_pipe_pages_is_served_all_the_same() {
    as_ordinary_user("a_user_without_pipe_pages_is_served_all_the_same", 2, LIMIT, || {
        const LEN: u64 = 3_000_001;
        let (_folder, path) = own_file(FILE, LEN);
        // Another process of this user has all of the 64 MiB; here it is another ring.
        let greedy = Config { pipes_max: 100, pipe_bytes_max: 200 << 20, ..Config::default() };
        let greedy = Runtime::with_config(Config { completion_entries: 256, ..greedy }).unwrap();
        let taken = greedy.block_on(async {
            let mut taken = Vec::new();
            loop {
                match lend_pipe().unwrap() {
                    Ok(pipe) => taken.push(pipe),
                    Err(refusal) => return (taken, refusal),
                }
            }
        });
        let bytes: usize = taken.0.iter().map(|pipe| pipe.capacity()).sum();
        println!("{} pipes of {} KiB in all, then: {}", taken.0.len(), bytes >> 10, taken.1);
        assert!(matches!(taken.1, PipeRefusal::TooSmall(_)), "{}", taken.1);
        let file = open(&path);
        let runtime = support::runtime();
        let fanned = runtime.block_on(async {
            let copied_too = |number: usize| [None, Some(WAYS[4])][number % 2];
            Fan::new(60).send(&file, (FILE, LEN), copied_too).await
        });
        println!("without pipe pages: {:?}; fell back: {:?}", fanned.routes(), fanned.fallbacks());
        let told = |receipt: &&ringway::Receipt| {
            receipt.sendfile_calls > 0
                && receipt.fallbacks.iter().any(|fallback| fallback.why.contains("pipe-user-pages"))
        };
        assert_eq!(fanned.receipts.iter().filter(told).count(), 30, "{:?}", fanned.fallbacks());
        assert_eq!(fanned.pipes_max, 0);
        fanned.assert_clean();
        // And when the pages are free again, they are used again.
        drop(taken);
        drop(greedy);
        let fanned =
            runtime.block_on(async { Fan::new(8).send(&file, (FILE, LEN), |_| None).await });
        assert_eq!(fanned.fallbacks().len(), 0, "{:?}", fanned.fallbacks());
        assert!(fanned.receipts.iter().any(|receipt| receipt.pipes > 0));
    });
}

#[test]
fn a_user_without_locked_memory_gets_plain_buffers() {
    as_ordinary_user("a_user_without_locked_memory_gets_plain_buffers", 3, LIMIT, || {
        const LEN: u64 = 300_001;
        let (_folder, path) = own_file(FILE, LEN);
        let file = open(&path);
        let limit = Rlimit { current: Some(100 << 10), ..getrlimit(Resource::Memlock) };
        setrlimit(Resource::Memlock, limit).unwrap();
        let runtime = Runtime::new().unwrap();
        let fanned = runtime.block_on(async {
            let way = |number: usize| Some(WAYS[number % WAYS.len()]);
            Fan::new(60).send(&file, (FILE, LEN), way).await
        });
        let buffers = fanned.receipts.iter().filter(|receipt| receipt.buffer_bytes > 0);
        assert!(buffers.clone().count() >= 30 && buffers.clone().all(|r| !r.buffer_registered));
        println!(
            "with 100 KiB of locked memory: {} transfers, {} by plain buffers",
            fanned.receipts.len(),
            buffers.count()
        );
        fanned.assert_clean();
    });
}

#[test]
fn without_descriptors_for_pipes_transfers_complete() {
    as_ordinary_user("without_descriptors_for_pipes_transfers_complete", 4, LIMIT, || {
        const LEN: u64 = 3_000_001;
        let (_folder, path) = own_file(FILE, LEN);
        let file = open(&path);
        let runtime = support::runtime();
        let usual = getrlimit(Resource::Nofile);
        let fanned = runtime.block_on(async {
            let fan = Fan::new(60);
            let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
            setrlimit(Resource::Nofile, Rlimit { current: Some(used - 1), ..usual }).unwrap();
            let way = |number: usize| [None, Some(WAYS[4])][number % 2];
            fan.send(&file, (FILE, LEN), way).await
        });
        setrlimit(Resource::Nofile, usual).unwrap();
        println!("without descriptors: {:?}; fell back: {:?}", fanned.routes(), fanned.fallbacks());
        let told = fanned.fallbacks().into_iter().filter(|(what, _)| what.contains("NOFILE"));
        // Each that has ended gives its descriptors to those that still go on.
        assert!(told.map(|(_, count)| count).sum::<usize>() >= 10);
        fanned.assert_clean();
    });
}

#[test]
fn accepting_pauses_without_descriptors_and_goes_on() {
    as_ordinary_user("accepting_pauses_without_descriptors_and_goes_on", 5, LIMIT, || {
        const COUNT: usize = 40;
        support::runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = listener.local_address().unwrap();
            let mut clients = Vec::new();
            for _ in 0..COUNT {
                clients.push(TcpStream::connect(address).await.unwrap());
            }
            let usual = getrlimit(Resource::Nofile);
            let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
            // Ten can be accepted, the others wait in the backlog.
            setrlimit(Resource::Nofile, Rlimit { current: Some(used - 1 + 10), ..usual }).unwrap();
            let accepting = spawn(async move {
                let mut accepted = Vec::new();
                while accepted.len() < COUNT {
                    accepted.push(listener.accept().await.unwrap());
                }
                accepted
            });
            let before = stats().unwrap();
            sleep(Duration::from_millis(500)).await;
            let after = stats().unwrap();
            assert!(!accepting.is_finished());
            let (pauses, turns) =
                (after.accept_pauses - before.accept_pauses, after.turns - before.turns);
            println!("half a second without descriptors: {pauses} pauses, {turns} turns");
            assert!((1..=11).contains(&pauses) && turns < 100, "{pauses} pauses, {turns} turns");
            setrlimit(Resource::Nofile, usual).unwrap();
            assert_eq!(accepting.await.unwrap().len(), COUNT);
        });
    });
}

#[test]
fn the_smallest_queues_carry_two_hundred_transfers() {
    as_ordinary_user("the_smallest_queues_carry_two_hundred_transfers", 6, LIMIT, || {
        const LEN: u64 = 300_001;
        let (_folder, path) = own_file(FILE, LEN);
        let file = open(&path);
        let config = Config { submission_entries: 1, completion_entries: 1, ..Config::default() };
        let runtime = Runtime::with_config(config).unwrap();
        for ways in [&WAYS[..], &[(Route::Copy, Mode::Ring)], &[(Route::Splice, Mode::Ring)]] {
            let fanned = runtime.block_on(async {
                let way = |number: usize| Some(ways[number % ways.len()]);
                // All of them wait for their peers before one of these reads: more than there is
                // room for.
                let fan = Fan::new(200).receiving_after(Duration::from_millis(100));
                fan.send(&file, (FILE, LEN), way).await
            });
            println!(
                "8 submissions, 256 completions: 200 transfers in {:?}, {} ops waited for room",
                fanned.took, fanned.stats.ops_waited
            );
            assert!(fanned.stats.ops_waited > 0);
            fanned.assert_clean();
        }
    });
}
