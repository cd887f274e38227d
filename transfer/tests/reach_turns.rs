//! Fairness between a fast transfer and everybody else on its ring.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cell::Cell;
use std::rc::Rc;

use ringway::runtime::{nop, spawn, yield_now};

/// A transfer that is never held up gives way after each quantum. That must let the ring have its
/// turn too: completions of others would otherwise wait for as many quanta as tasks run in a turn,
/// which is 128 MiB.
#[test]
fn whoever_gives_way_gives_way_to_the_ring() {
    const ROUND_TRIPS: u64 = 100;
    support::runtime().block_on(async {
        let yields = Rc::new(Cell::new(0));
        let counted = Rc::clone(&yields);
        let busy = spawn(async move {
            loop {
                counted.set(counted.get() + 1);
                yield_now().await;
            }
        });
        let others = spawn(async {
            for _ in 0..ROUND_TRIPS {
                nop().await.unwrap();
            }
        });
        others.await.unwrap();
        busy.abort();
        println!("{} quanta beside {ROUND_TRIPS} round trips of another task", yields.get());
        assert!(yields.get() <= 3 * ROUND_TRIPS, "{} quanta", yields.get());
    });
}
