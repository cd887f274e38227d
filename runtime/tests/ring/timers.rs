//! Sleeping, deadlines and intervals. Order and counts are asserted, not speed.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringway_runtime::time::{Elapsed, interval, sleep, sleep_until, timeout};
use ringway_runtime::{nop, spawn, stats};

use crate::baseline::{LIMIT, on_a_ring};

const MS: Duration = Duration::from_millis(1);

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    on_a_ring(async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let start = Instant::now() + 5 * MS;
        let tasks: Vec<_> = [40u32, 10, 30, 0, 20, 50]
            .into_iter()
            .map(|ms| {
                let order = Rc::clone(&order);
                spawn(async move {
                    sleep_until(start + ms * MS).await;
                    assert!(Instant::now() >= start + ms * MS, "never too early");
                    order.borrow_mut().push(ms);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), [0, 10, 20, 30, 40, 50]);
    });
}

#[test]
fn a_timeout_drops_what_takes_too_long_and_lets_the_rest_through() {
    on_a_ring(async {
        let slow = timeout(5 * MS, sleep(LIMIT)).await;
        assert_eq!(slow, Err(Elapsed));
        assert_eq!(stats().unwrap().timers, 0, "both timers are gone");
        assert!(timeout(LIMIT, nop()).await.unwrap().is_ok());
        assert_eq!(stats().unwrap().timers, 0);
        let error = std::io::Error::from(Elapsed);
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn an_interval_skips_what_was_missed_and_keeps_its_beat() {
    on_a_ring(async {
        let period = 20 * MS;
        let start = Instant::now();
        let mut ticks = interval(period);
        ticks.tick().await;
        std::thread::sleep(5 * period + period / 2);
        ticks.tick().await;
        let late = start.elapsed();
        ticks.tick().await;
        let next = start.elapsed();
        assert!(late >= 5 * period);
        assert!(next >= 6 * period, "missed ticks do not come in a burst: {next:?}");
        let dropped = timeout(MS, ticks.tick()).await;
        assert!(dropped.is_err() || start.elapsed() >= 7 * period);
        ticks.tick().await;
        assert!(start.elapsed() >= 7 * period, "a tick that was dropped is not lost");
    });
}

#[test]
fn ten_thousand_timers_cost_no_ops() {
    on_a_ring(async {
        let before = stats().unwrap().ops_submitted;
        let sleeps: Vec<_> = (0..10_000u32).map(|n| spawn(sleep(n % 50 * MS))).collect();
        for sleep in sleeps {
            sleep.await.unwrap();
        }
        assert_eq!(stats().unwrap().ops_submitted, before);
        sleep(Duration::ZERO).await;
        let _never = timeout(MS, sleep(Duration::MAX)).await.unwrap_err();
    });
}

#[test]
fn what_is_beyond_the_clock_is_waited_for_and_is_no_panic() {
    on_a_ring(async {
        let mut ticks = interval(Duration::MAX);
        ticks.tick().await;
        assert_eq!(timeout(MS, ticks.tick()).await, Err(Elapsed), "the second one never comes");
        assert_eq!(timeout(MS, sleep(Duration::MAX)).await, Err(Elapsed));
    });
}
