//! A seeded simulation of everything around the pure code: ring, files, pipes, buffers, sockets and
//! peers, with no kernel. A seed always leads to the same run; one that fails is shrunk to a short
//! script of events, printed as a test that can be pasted here.
//!
//! - `RINGWAY_SEEDS=N cargo test --test simulation` runs N seeds instead of the default number;
//! - `RINGWAY_SEED=x cargo test --test simulation` runs that one.
//!
//! ```text
//!  choice ──events──▶ simulation ──▶ driver ──asks──▶ plan, Progress, Pace (the real ones)
//!                         │            │ calls, ops          │
//!                         └────────▶ kernel               reports
//!                                      │ what happened       │ what is believed
//!                                      └──────▶ oracle ◀─────┘
//! ```
//!
//! What is *not* shown here: that the routes are what `driver` mirrors (the tests on a real kernel
//! show that), lost wakes, `O_DIRECT`, and what is sealed. That a map was cut and the file has grown again
//! before anybody asked is not seen by the route either: there the oracle lets pass whatever the map shows.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bug;
mod chance;
mod choice;
mod content;
mod driver;
mod event;
mod kernel;
mod oracle;
mod scenario;
mod script;
mod shrink;
mod simulation;

use std::env;
use std::fmt::Write;
use std::time::{Duration, Instant};

use bug::Bug;
use kernel::Tally;
use shrink::{Shrunk, shrink};
use simulation::run_seed;

/// The default: whichever comes first.
const STEPS_MAX: u64 = 1_000_000;
const TIME_MAX: Duration = Duration::from_secs(20);
/// Each bug must be found within so many seeds.
const BUG_SEEDS_MAX: u64 = 30_000;
/// The most events of a shrunk script.
const SCRIPT_MAX: usize = 30;

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = number("RINGWAY_SEED") {
        return assert_holds(seed, &mut Tally::default());
    }
    let seeds_asked = number("RINGWAY_SEEDS");
    let began = Instant::now();
    let (mut seeds, mut tally) = (0, Tally::default());
    loop {
        let over = match seeds_asked {
            Some(asked) => seeds >= asked,
            None => tally.steps >= STEPS_MAX || began.elapsed() >= TIME_MAX,
        };
        if over {
            break;
        }
        assert_holds(seeds, &mut tally);
        seeds += 1;
    }
    println!("{seeds} seeds in {:.1?}, 0 violations: {tally:#?}", began.elapsed());
    if seeds >= 200 {
        let least = [
            tally.completed,
            tally.faults,
            tally.cancels,
            tally.drops,
            tally.truncations,
            tally.rewinds,
            tally.no_pipe,
            tally.ahead,
            tally.sendfiles,
            tally.pipes_destroyed,
            tally.windows_mapped,
            tally.windows_read,
            tally.windows_cut,
            tally.windows_let_go,
            tally.processed_completed,
            tally.by_kind.into_iter().min().unwrap_or(0),
        ];
        assert!(least.iter().all(|count| *count > 0), "every kind of trouble was met");
    }
}

#[test]
fn each_bug_that_is_put_back_is_found_and_shrinks_to_a_short_script() {
    for bug in Bug::ALL {
        let found = (0..BUG_SEEDS_MAX).find_map(|seed| {
            let report = run_seed(seed, Some(bug));
            report.violation.is_some().then_some((seed, report))
        });
        let Some((seed, report)) = found else { panic!("{bug:?} was not found") };
        let shrunk = shrink(seed, &report.script, Some(bug));
        let violation = shrunk.replay(Some(bug)).unwrap();
        let (few, many) = (shrunk.script.len(), report.script.len());
        println!("{bug:?}: seed {seed}, {few} of {many} events: {violation}");
        assert!(few < SCRIPT_MAX, "{bug:?}: {}", told(&shrunk));
        assert_eq!(shrunk.replay(None), None, "{bug:?}: and without it all is well");
    }
}

#[test]
fn a_seed_leads_to_the_same_run_each_time() {
    for seed in 0..20 {
        let (one, other) = (run_seed(seed, None), run_seed(seed, None));
        assert_eq!(one.script, other.script);
        assert_eq!(format!("{:?}", one.tally), format!("{:?}", other.tally));
    }
}

fn assert_holds(seed: u64, tally: &mut Tally) {
    let report = run_seed(seed, None);
    let Some(violation) = report.violation else { return tally.add(&report.tally) };
    let shrunk = shrink(seed, &report.script, None);
    let what = shrunk.replay(None).unwrap_or_default();
    panic!("seed {seed}: {violation}\nshrunk: {what}\n{}", told(&shrunk));
}

/// What failed, to be read; and a test of it, to be pasted here.
fn told(shrunk: &Shrunk) -> String {
    let Shrunk { seed, emptied, script } = shrunk;
    let mut scenario = shrunk.scenario();
    let mut told = format!("files {:?}\n", scenario.files);
    for (index, transfer) in scenario.transfers.drain(..).enumerate() {
        writeln!(told, "transfer {index}: {transfer:?}").unwrap();
    }
    writeln!(told, "{scenario:?}\n\nuse event::{{Call::*, Event::*, Outcome::*}};").unwrap();
    writeln!(told, "let script = vec![").unwrap();
    script.iter().for_each(|event| writeln!(told, "    {event:?},").unwrap());
    writeln!(told, "];\nlet shrunk = Shrunk {{ seed: {seed}, emptied: vec!{emptied:?}, script }};")
        .unwrap();
    told + "assert_eq!(shrunk.replay(None), None);\n"
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
