//! The loop: tasks, how they end, and how they are woken.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use ringway_runtime::net::UnixStream;
use ringway_runtime::{Config, JoinError, Runtime, nop, spawn, yield_now};

use crate::baseline::{assert_settled, budget, on_a_ring, small};

#[test]
fn a_future_runs_to_its_end_with_the_tasks_beside_it() {
    on_a_ring(async {
        let tasks: Vec<_> = (0..100u32)
            .map(|n| {
                spawn(async move {
                    nop().await.unwrap();
                    n
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        assert_eq!(sum, 4950);
    });
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(thread::panicking(), "a bomb was dropped");
    }
}

#[test]
fn a_panic_of_a_task_stays_in_it() {
    let _budget = budget();
    let runtime = Runtime::with_config(small()).unwrap();
    runtime.block_on(async {
        let error = spawn(async { panic!("on purpose") }).await.unwrap_err();
        assert_eq!(error.to_string(), "the task panicked: on purpose");

        let in_drop = spawn(async {
            let _bomb = Bomb;
            nop().await.unwrap();
        });
        assert!(matches!(in_drop.await, Err(JoinError::Panicked(_))), "in the drop of a local");

        let aborted = spawn(async {
            let _bomb = Bomb;
            pending::<()>().await;
        });
        yield_now().await;
        aborted.abort();
        assert!(matches!(aborted.await, Err(JoinError::Aborted)));
        nop().await.unwrap();
    });
    assert_eq!((runtime.stats().tasks, runtime.stats().tasks_panicked), (0, 3));
    // One more that ends with the runtime.
    drop(runtime.spawn(async {
        let _bomb = Bomb;
        pending::<()>().await;
    }));
    runtime.block_on(yield_now());
    assert_settled(&runtime);
    drop(runtime);
}

#[test]
fn aborting_drops_the_task_where_it_stands() {
    on_a_ring_counting_drops(|dropped| async move {
        let task = spawn({
            let dropped = Rc::clone(&dropped);
            async move {
                let _guard = CountDrop(dropped);
                pending::<()>().await;
            }
        });
        yield_now().await;
        assert!(!task.is_finished());
        task.abort();
        assert_eq!(dropped.get(), 1);
        assert!(task.is_finished() && matches!(task.await, Err(JoinError::Aborted)));
        let ended = spawn(async { 7 });
        yield_now().await;
        yield_now().await;
        ended.abort();
        assert_eq!(ended.await.unwrap(), 7, "what has ended cannot be aborted");
    });
}

struct CountDrop(Rc<Cell<u32>>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

fn on_a_ring_counting_drops<F: Future<Output = ()>>(test: impl FnOnce(Rc<Cell<u32>>) -> F) {
    on_a_ring(test(Rc::default()));
}

#[test]
fn a_handle_aborts_its_own_task_and_no_stranger_of_another_ring() {
    let _budget = budget();
    let one = Runtime::with_config(small()).unwrap();
    let other = Runtime::with_config(small()).unwrap();
    let ours = one.spawn(pending::<()>());
    other.block_on(async {
        let stranger = spawn(async {
            yield_now().await;
            yield_now().await;
            "unharmed"
        });
        ours.abort();
        assert_eq!(stranger.await.unwrap(), "unharmed");
    });
    assert!(matches!(one.block_on(ours), Err(JoinError::Aborted)));
}

#[test]
fn a_task_that_ends_with_its_ring_tells_those_who_join_it() {
    let _budget = budget();
    let runtime = Runtime::with_config(small()).unwrap();
    let task = runtime.spawn(pending::<()>());
    drop(runtime);
    let outcome = Runtime::with_config(small()).unwrap().block_on(task);
    assert!(matches!(outcome, Err(JoinError::Aborted)));
}

#[test]
fn tasks_that_yield_take_turns() {
    on_a_ring(async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..3)
            .map(|name| {
                let order = Rc::clone(&order);
                spawn(async move {
                    for _ in 0..50 {
                        order.borrow_mut().push(name);
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        for round in order.borrow().chunks(3) {
            assert_eq!(round, [0, 1, 2]);
        }
    });
}

#[test]
fn a_task_that_always_yields_does_not_keep_ops_from_completing() {
    on_a_ring_tiny_turns(async {
        let busy = spawn(async {
            loop {
                yield_now().await;
            }
        });
        for _ in 0..100 {
            nop().await.unwrap();
        }
        busy.abort();
    });
}

fn on_a_ring_tiny_turns<F: Future>(future: F) {
    // None at all would never run a task: it counts as one.
    let _ = crate::baseline::on_a_ring_with(Config { tasks_per_turn: 0, ..small() }, future);
}

#[test]
fn a_ring_inside_of_a_ring_panics_with_a_clear_message() {
    on_a_ring(async {
        let inner = Runtime::with_config(small()).unwrap();
        let payload = catch_unwind(AssertUnwindSafe(|| inner.block_on(async {}))).unwrap_err();
        let message = payload.downcast_ref::<String>().unwrap();
        assert!(message.contains("already inside a ring"), "{message}");
    });
}

#[test]
fn a_runtime_can_be_dropped_inside_of_another() {
    on_a_ring(async {
        let inner = Runtime::with_config(small()).unwrap();
        drop(inner.spawn(pending::<()>()));
        drop(inner);
        nop().await.unwrap();
    });
}

#[test]
fn a_runtime_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static RING: RefCell<Option<Runtime>> = const { RefCell::new(None) };
    }
    let _budget = budget();
    let thread = thread::spawn(|| {
        RING.set(Some(Runtime::with_config(small()).unwrap()));
        RING.with_borrow(|ring| ring.as_ref().unwrap().block_on(async { nop().await.unwrap() }));
    });
    thread.join().unwrap();
}

/// What one thread of the storm and its task share.
#[derive(Default)]
struct Line {
    asked: AtomicU64,
    answered: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

#[test]
pub(crate) fn no_wake_is_lost_in_a_storm_from_four_threads() {
    const ROUNDS: u64 = 4000;
    on_a_ring(async {
        let lines: Vec<Arc<Line>> = (0..4).map(|_| Arc::default()).collect();
        let tasks: Vec<_> = lines
            .iter()
            .cloned()
            .map(|line| {
                let mut told = false;
                spawn(poll_fn(move |context| {
                    // Once only: a lock is a barrier, and would hide that the wake has none.
                    if !std::mem::replace(&mut told, true) {
                        *line.waker.lock().unwrap() = Some(context.waker().clone());
                    }
                    let asked = line.asked.load(Ordering::Relaxed);
                    line.answered.store(asked, Ordering::Relaxed);
                    if asked == ROUNDS { Poll::Ready(()) } else { Poll::Pending }
                }))
            })
            .collect();
        let threads: Vec<_> =
            lines.into_iter().map(|line| thread::spawn(move || storm(&line, ROUNDS))).collect();
        for task in tasks {
            task.await.unwrap();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

fn storm(line: &Line, rounds: u64) {
    let waker = loop {
        if let Some(waker) = line.waker.lock().unwrap().clone() {
            break waker;
        }
        thread::yield_now();
    };
    for round in 1..=rounds {
        waker.wake_by_ref();
        (0..round % 300).for_each(|_| std::hint::spin_loop());
        line.asked.store(round, Ordering::Relaxed);
        // The task may be queued already by the wake before: this one must count all the same.
        waker.wake_by_ref();
        while line.answered.load(Ordering::Relaxed) != round {
            thread::yield_now();
        }
    }
}

thread_local! {
    static STASH: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>> = const { RefCell::new(None) };
}

/// The waker of a foreign executor: the last one drops the task, and that drops ops.
struct LastWaker;

impl Wake for LastWaker {
    fn wake(self: Arc<Self>) {}
}

impl Drop for LastWaker {
    fn drop(&mut self) {
        drop(STASH.take());
    }
}

#[test]
fn a_waker_that_drops_ops_when_it_is_dropped_finds_nothing_borrowed() {
    on_a_ring(async {
        for way in 0..3 {
            let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
            let a = Rc::new(UnixStream::from_std(a).unwrap());
            let mut stashed: Pin<Box<dyn Future<Output = ()>>> = Box::pin({
                let a = Rc::clone(&a);
                async move { drop(a.readable().await) }
            });
            assert!(stashed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            STASH.set(Some(stashed));
            let foreign = Waker::from(Arc::new(LastWaker));
            let mut op = Box::pin(a.readable());
            let mut sleep = pin!(ringway_runtime::time::sleep(crate::baseline::LIMIT));
            if way == 2 {
                assert!(sleep.as_mut().poll(&mut Context::from_waker(&foreign)).is_pending());
            } else {
                assert!(op.as_mut().poll(&mut Context::from_waker(&foreign)).is_pending());
            }
            drop(foreign);
            match way {
                0 => {
                    assert!(op.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                }
                1 => drop(op),
                _ => assert!(sleep.poll(&mut Context::from_waker(Waker::noop())).is_pending()),
            }
            assert!(STASH.take().is_none(), "the waker was the last one");
        }
    });
}
