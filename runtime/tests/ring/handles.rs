//! Reaching a ring from other threads, and many rings at once.

use std::future::{Future, pending};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdTcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use ringway_runtime::net::{ListenOptions, TcpListener};
use ringway_runtime::{Config, RingGone, Runtime, nop, run_per_core, spawn, time};

use crate::baseline::{assert_settled, budget, small};

/// The smallest executor there is, to stand for all the others.
fn park_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

#[test]
fn other_threads_and_executors_run_work_on_the_ring() {
    let _budget = budget();
    let runtime = Runtime::new().unwrap();
    let (tell, told) = channel();
    let threads: Vec<_> = (0..4u64)
        .map(|thread| {
            let (handle, tell) = (runtime.handle(), tell.clone());
            thread::spawn(move || {
                for n in 0..200 {
                    let answer = park_on(handle.run(move || async move {
                        nop().await.unwrap();
                        thread * 1000 + n
                    }));
                    assert_eq!(answer, Ok(thread * 1000 + n));
                }
                park_on(handle.run(move || async move { tell.send(()).unwrap() })).unwrap();
            })
        })
        .collect();
    drop(tell);
    runtime.block_on(async {
        for _ in &threads {
            while told.try_recv().is_err() {
                time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_settled(&runtime);
    assert!(runtime.stats().remote_wakes > 0);
}

#[test]
fn a_ring_that_is_gone_says_so_and_does_not_hang() {
    let _budget = budget();
    let runtime = Runtime::with_config(small()).unwrap();
    let handle = runtime.handle();
    let begun = handle.run(pending::<()>);
    runtime.block_on(async { nop().await.unwrap() });
    let never_begun = handle.run(|| async { 5 });
    drop(runtime);
    assert_eq!(park_on(begun), Err(RingGone));
    assert_eq!(park_on(never_begun), Err(RingGone));
    assert_eq!(park_on(handle.run(|| async { 5 })), Err(RingGone));
}

#[test]
fn a_job_that_is_dropped_with_the_ring_may_use_its_handle() {
    struct Again(ringway_runtime::Handle);
    impl Drop for Again {
        fn drop(&mut self) {
            drop(self.0.run(|| async {}));
        }
    }
    let _budget = budget();
    let runtime = Runtime::with_config(small()).unwrap();
    let (handle, again) = (runtime.handle(), Again(runtime.handle()));
    let job = handle.run(move || async move { drop(again) });
    drop(runtime);
    assert_eq!(park_on(job), Err(RingGone));
}

#[test]
fn work_that_panics_ends_alone() {
    let _budget = budget();
    let runtime = Runtime::with_config(small()).unwrap();
    let handle = runtime.handle();
    let in_closure = handle.run(|| -> std::future::Ready<()> { panic!("in the closure") });
    let in_future = handle.run(|| async { panic!("in the future") });
    let healthy = handle.run(|| async { 1 });
    let outcomes = runtime.block_on(async { (in_closure.await, in_future.await, healthy.await) });
    assert_eq!(outcomes, (Err(RingGone), Err::<(), _>(RingGone), Ok(1)));
    assert_eq!(runtime.stats().tasks_panicked, 2);
}

#[test]
fn dropping_the_answer_does_not_stop_the_work() {
    let _budget = budget();
    let runtime = Runtime::with_config(small()).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let setting = Arc::clone(&done);
    drop(runtime.handle().run(move || async move {
        nop().await.unwrap();
        setting.store(true, Ordering::Relaxed);
    }));
    runtime.block_on(async {
        while !done.load(Ordering::Relaxed) {
            time::sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Keeps a port without listening on it, so that nobody else is given it meanwhile.
fn reserved_port() -> (impl Sized, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

#[test]
fn a_ring_per_core_shares_a_port() {
    const CONNECTIONS: usize = 200;
    let _budget = budget();
    let (_reservation, address) = reserved_port();
    let served = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&served);
    let clients = thread::spawn(move || {
        let mut answered = 0;
        while answered < CONNECTIONS {
            // Until the first ring listens, connections are refused.
            let Ok(mut stream) = StdTcpStream::connect(address) else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            let mut answer = [0; 5];
            stream.write_all(b"hello").unwrap();
            // A ring that ends resets what it has not accepted; it ends only when all are served.
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"hello");
            answered += 1;
        }
    });
    run_per_core(3, &small(), move |_number| serve(address, Arc::clone(&counting), CONNECTIONS))
        .unwrap();
    clients.join().unwrap();
    assert_eq!(served.load(Ordering::Relaxed), CONNECTIONS);
}

async fn serve(address: SocketAddr, served: Arc<AtomicUsize>, all: usize) -> std::io::Result<()> {
    let listener = TcpListener::bind_with(address, ListenOptions::new().reuse_port(true))?;
    while served.load(Ordering::Relaxed) < all {
        let Ok(accepted) = time::timeout(Duration::from_millis(20), listener.accept()).await else {
            continue;
        };
        let mut stream = accepted?;
        let served = Arc::clone(&served);
        drop(spawn(async move {
            let mut bytes = [0; 5];
            let mut len = 0;
            while len < bytes.len() {
                len += stream.read(&mut bytes[len..]).await.unwrap();
            }
            stream.write_all(&bytes).await.unwrap();
            served.fetch_add(1, Ordering::Relaxed);
        }));
    }
    Ok(())
}

#[test]
fn an_error_of_one_ring_is_the_error_of_all() {
    let _budget = budget();
    let outcome = run_per_core(2, &small(), |number| async move {
        if number == 1 { Err(std::io::ErrorKind::AddrInUse.into()) } else { Ok(()) }
    });
    assert_eq!(outcome.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    let panicked = run_per_core(2, &Config { ..small() }, |number| async move {
        assert_eq!(number, 0, "on purpose");
        Ok(())
    });
    assert!(panicked.unwrap_err().to_string().contains("panicked"));
}
