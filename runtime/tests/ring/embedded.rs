//! A foreign event loop drives the ring: it waits in poll(2) or epoll(7), and turns when told.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use ringway_runtime::net::UnixStream;
use ringway_runtime::{Runtime, Setup, nop, spawn, time};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use crate::baseline::{assert_settled, budget, small};

/// What a wait gets before the test says that the wake was lost.
const PATIENCE: Duration = Duration::from_secs(5);

fn wait_by_poll(runtime: &Runtime, limit: Duration) -> bool {
    let mut fds = [PollFd::new(runtime, PollFlags::IN)];
    let limit = Timespec::try_from(limit).unwrap();
    loop {
        match poll(&mut fds, Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.unwrap() > 0,
        }
    }
}

/// Turns until the condition holds, and waits in between for no longer than the ring says.
fn drive(runtime: &Runtime, wait: impl Fn(Duration) -> bool, done: impl Fn() -> bool) {
    loop {
        let turn = runtime.turn().unwrap();
        if done() {
            return;
        }
        if turn.again {
            continue;
        }
        let limit = turn.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let ready = wait(limit.unwrap_or(PATIENCE));
        assert!(ready || limit.is_some(), "a wake was lost: {:?}", runtime.stats());
    }
}

fn reads_while_the_loop_waits(wait: impl Fn(&Runtime, Duration) -> bool) {
    let _budget = budget();
    let runtime = Runtime::embedded(small()).unwrap();
    assert_ne!(runtime.capabilities().setup, Setup::DeferTaskrun);
    let (ours, mut theirs) = StdUnixStream::pair().unwrap();
    let writer = thread::spawn(move || {
        for byte in 0..10u8 {
            thread::sleep(Duration::from_millis(10));
            theirs.write_all(&[byte]).unwrap();
        }
    });
    let task = runtime.spawn(async move {
        let stream = UnixStream::from_std(ours).unwrap();
        let mut all = Vec::new();
        loop {
            let mut bytes = [0; 4];
            match stream.read(&mut bytes).await.unwrap() {
                0 => return all,
                len => all.extend_from_slice(&bytes[..len]),
            }
        }
    });
    drive(&runtime, |limit| wait(&runtime, limit), || task.is_finished());
    writer.join().unwrap();
    assert_eq!(runtime.block_on(task).unwrap(), (0..10).collect::<Vec<u8>>());
    assert_settled(&runtime);
}

#[test]
fn a_poll_that_waits_already_is_woken() {
    reads_while_the_loop_waits(wait_by_poll);
}

#[test]
fn an_epoll_that_waits_already_is_woken() {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let added = RefCell::new(false);
    reads_while_the_loop_waits(|runtime, limit| {
        if !added.replace(true) {
            let events = epoll::EventFlags::IN;
            epoll::add(&set, runtime.as_fd(), epoll::EventData::new_u64(1), events).unwrap();
        }
        let mut events = Vec::with_capacity(4);
        let limit = Timespec::try_from(limit).unwrap();
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&set, buffer, Some(&limit)) {
            // So it tells of work that is done in this thread on the way out of the kernel.
            Err(rustix::io::Errno::INTR) => true,
            ready => ready.unwrap() > 0,
        }
    });
}

#[test]
fn a_spawn_between_two_turns_is_seen() {
    let _budget = budget();
    let runtime = Runtime::embedded(small()).unwrap();
    while runtime.turn().unwrap().again {}
    let task = runtime.spawn(async { nop().await.unwrap() });
    assert!(wait_by_poll(&runtime, PATIENCE), "the descriptor tells of it");
    drive(&runtime, |limit| wait_by_poll(&runtime, limit), || task.is_finished());
}

#[test]
fn a_wake_of_this_thread_between_two_turns_is_seen() {
    let _budget = budget();
    let runtime = Runtime::embedded(small()).unwrap();
    let shared: Rc<RefCell<(bool, Option<Waker>)>> = Rc::default();
    let task = runtime.spawn({
        let shared = Rc::clone(&shared);
        poll_fn(move |context| {
            let mut shared = shared.borrow_mut();
            shared.1 = Some(context.waker().clone());
            if shared.0 { Poll::Ready(()) } else { Poll::Pending }
        })
    });
    for _ in 0..4 {
        runtime.turn().unwrap();
    }
    assert!(!wait_by_poll(&runtime, Duration::ZERO), "nothing to do yet");
    shared.borrow_mut().0 = true;
    let waker = shared.borrow().1.clone().unwrap();
    waker.wake();
    assert!(wait_by_poll(&runtime, PATIENCE));
    drive(&runtime, |limit| wait_by_poll(&runtime, limit), || task.is_finished());
}

#[test]
fn wakes_from_another_thread_are_never_lost_between_turns() {
    const ROUNDS: u64 = 3000;
    let _budget = budget();
    let runtime = Runtime::embedded(small()).unwrap();
    let line = Arc::new((AtomicU64::new(0), AtomicU64::new(0), Mutex::new(None::<Waker>)));
    let task = runtime.spawn({
        let line = Arc::clone(&line);
        poll_fn(move |context| {
            *line.2.lock().unwrap() = Some(context.waker().clone());
            let asked = line.0.load(Ordering::SeqCst);
            line.1.store(asked, Ordering::SeqCst);
            if asked == ROUNDS { Poll::Ready(()) } else { Poll::Pending }
        })
    });
    let waking = thread::spawn(move || {
        for round in 1..=ROUNDS {
            line.0.store(round, Ordering::SeqCst);
            while line.2.lock().unwrap().as_ref().map(Waker::wake_by_ref).is_none() {
                thread::yield_now();
            }
            while line.1.load(Ordering::SeqCst) != round {
                thread::yield_now();
            }
        }
    });
    drive(&runtime, |limit| wait_by_poll(&runtime, limit), || task.is_finished());
    waking.join().unwrap();
}

#[test]
fn the_next_deadline_is_told() {
    let _budget = budget();
    let runtime = Runtime::embedded(small()).unwrap();
    let start = Instant::now();
    let nap = Duration::from_millis(30);
    let task = runtime.spawn(time::sleep(nap));
    let mut turn = runtime.turn().unwrap();
    while turn.again {
        turn = runtime.turn().unwrap();
    }
    let deadline = turn.deadline.unwrap();
    assert!(deadline >= start + nap && deadline <= Instant::now() + nap);
    drive(&runtime, |limit| wait_by_poll(&runtime, limit), || task.is_finished());
    assert!(start.elapsed() >= nap);
    assert_eq!(runtime.turn().unwrap().deadline, None);
}

#[test]
fn a_turn_inside_of_a_turn_is_refused() {
    let _budget = budget();
    let runtime = Rc::new(Runtime::embedded(small()).unwrap());
    let inner = Rc::downgrade(&runtime);
    let task = runtime.spawn(async move {
        let runtime = inner.upgrade().unwrap();
        let refused = runtime.turn().unwrap_err();
        assert!(refused.to_string().contains("already inside a ring"), "{refused}");
        spawn(async { 3 }).await.unwrap()
    });
    drive(&runtime, |limit| wait_by_poll(&runtime, limit), || task.is_finished());
    assert_eq!(runtime.block_on(task).unwrap(), 3);
}
