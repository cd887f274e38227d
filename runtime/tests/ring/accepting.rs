//! Accepting when descriptors run out, and when every call is refused.

use std::net::{Ipv4Addr, TcpStream as StdTcpStream};
use std::time::Duration;

use ringway_runtime::net::TcpListener;
use ringway_runtime::{Runtime, stats, time};
use ringway_testkit::{Census, run_in_child};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::baseline::{assert_settled, budget, small, under};

fn descriptors_open() -> u64 {
    Census::take().fds_named("") as u64
}

// bun#32705, ioxide#222: out of descriptors meant millions of failed accepts.
#[test]
fn accepting_pauses_when_descriptors_run_out_and_goes_on() {
    run_in_child(
        "accepting::accepting_pauses_when_descriptors_run_out_and_goes_on",
        run_out_of_descriptors,
    );
}

pub(crate) fn run_out_of_descriptors() {
    let _budget = budget();
    let runtime = Runtime::with_config(small()).unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_address().unwrap();
        let clients: Vec<_> = (0..10).map(|_| StdTcpStream::connect(address).unwrap()).collect();
        let before = getrlimit(Resource::Nofile);
        let current = Some(descriptors_open() + 3);
        setrlimit(Resource::Nofile, Rlimit { current, ..before }).unwrap();
        let mut accepted = Vec::new();
        let pause = Duration::from_millis(400);
        while let Ok(stream) = time::timeout(pause, listener.accept()).await {
            accepted.push(stream.unwrap());
        }
        assert!(accepted.len() < clients.len(), "the limit was reached");
        let pauses = stats().unwrap().accept_pauses;
        assert!((1..=10).contains(&pauses), "{pauses} pauses in {pause:?}: no spinning");
        let enters = stats().unwrap().enters;
        assert!(enters < 200, "{enters} enters");
        // Room again: those that wait in the backlog are accepted.
        let waiting = clients.len() - accepted.len();
        drop(accepted);
        for _ in 0..waiting {
            let stream = time::timeout(10 * pause, listener.accept()).await.unwrap();
            drop(stream.unwrap());
        }
        setrlimit(Resource::Nofile, before).unwrap();
        drop(clients);
    });
    assert_settled(&runtime);
}

// The errno of a failed connection can also be that of a filter, which refuses every call.
#[test]
fn accepting_does_not_spin_when_every_call_is_refused() {
    let wrapper =
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=accept4:error=EPERM:when=1..200"];
    under("accepting::accepting_does_not_spin_when_every_call_is_refused", &wrapper, || {
        let runtime = Runtime::with_config(small()).unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let _client = StdTcpStream::connect(listener.local_address().unwrap()).unwrap();
            listener.accept().await.unwrap();
            let pauses = stats().unwrap().accept_pauses;
            assert_eq!(pauses, 3, "200 refusals, a pause after every 65th");
        });
        assert_settled(&runtime);
    });
}
