//! Many transfers of one file at once, and one thread that receives them all.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::TcpStream as StdStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringway::runtime::fs::File;
use ringway::runtime::net::{Half, TcpStream};
use ringway::runtime::time::sleep;
use ringway::runtime::{Stats, spawn, stats};
use ringway::{Mode, Receipt, Route, transfer_file};
use ringway_testkit::Checker;

use crate::support::tcp_pair;

/// What became of them.
pub(crate) struct Fanned {
    pub(crate) receipts: Vec<Receipt>,
    /// The most pipes that there were at once, and the most bytes in all of them.
    pub(crate) pipes_max: u64,
    pub(crate) pipe_bytes_max: u64,
    pub(crate) stats: Stats,
    pub(crate) took: Duration,
}

/// Connections, made before anything is short.
pub(crate) struct Fan {
    ours: Vec<TcpStream>,
    theirs: Vec<StdStream>,
    pause: Duration,
}

impl Fan {
    pub(crate) fn new(count: usize) -> Self {
        let (ours, theirs): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| {
                let (ours, theirs) = tcp_pair();
                // Nobody gets far in one go, so that all of them are under way together.
                ours.set_send_buffer(64 << 10).unwrap();
                theirs.set_nonblocking(true).unwrap();
                (ours, theirs)
            })
            .unzip();
        Self { ours, theirs, pause: Duration::ZERO }
    }

    /// Lets the receivers begin later than the transfers.
    pub(crate) fn receiving_after(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Sends `len` canary bytes of file `id` over each, as `way` says for its number, and checks
    /// every byte that arrives.
    pub(crate) async fn send(
        self,
        file: &File,
        (id, len): (u64, u64),
        way: impl Fn(usize) -> Option<(Route, Mode)>,
    ) -> Fanned {
        let started = Instant::now();
        let count = self.ours.len() as u64;
        let receiving = receive_all(self.theirs, id, self.pause);
        let begin = |(number, mut stream): (usize, TcpStream)| {
            let (file, way) = (file.clone(), way(number));
            spawn(async move {
                let transfer = transfer_file(&file, &mut stream);
                let outcome = match way {
                    Some((route, mode)) => transfer.route(route).mode(mode).await,
                    None => transfer.await,
                };
                stream.shutdown(Half::Write).unwrap();
                outcome
            })
        };
        let tasks: Vec<_> = self.ours.into_iter().enumerate().map(begin).collect();
        let (mut pipes_max, mut pipe_bytes_max) = (0, 0);
        while tasks.iter().any(|task| !task.is_finished()) {
            let now = stats().unwrap();
            (pipes_max, pipe_bytes_max) =
                (pipes_max.max(now.pipes), pipe_bytes_max.max(now.pipe_bytes));
            sleep(Duration::from_millis(1)).await;
        }
        let mut receipts = Vec::new();
        for task in tasks {
            receipts.push(task.await.unwrap().unwrap());
        }
        assert!(receipts.iter().all(|receipt| receipt.bytes == len));
        assert_eq!(receiving.join().unwrap(), count * len);
        let stats = stats().unwrap();
        Fanned { receipts, pipes_max, pipe_bytes_max, stats, took: started.elapsed() }
    }
}

impl Fanned {
    /// How many transfers fell back to what, and why.
    pub(crate) fn fallbacks(&self) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for fallback in self.receipts.iter().flat_map(|receipt| &receipt.fallbacks) {
            *counted.entry(format!("{} ({})", fallback.what, fallback.why)).or_default() += 1;
        }
        counted
    }

    /// How many transfers ended by each route.
    pub(crate) fn routes(&self) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for receipt in &self.receipts {
            *counted.entry(format!("{} ({})", receipt.route, receipt.mode)).or_default() += 1;
        }
        counted
    }

    /// Insists that nothing is left in the ring, and that no completion had to wait in the kernel.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let stats = &self.stats;
        assert_eq!((stats.pipes_lent, stats.leases, stats.tasks), (0, 0, 0), "{stats:?}");
        assert_eq!((stats.completions_overflowed, stats.completions_stale), (0, 0), "{stats:?}");
        assert_eq!(stats.unexpected_errnos, 0, "{stats:?}");
    }
}

/// Reads from all connections in turn, a little from each, to the end of each. Gives the bytes.
fn receive_all(connections: Vec<StdStream>, id: u64, pause: Duration) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        std::thread::sleep(pause);
        let start = |connection| (connection, Checker::new(id, 0));
        let mut open: Vec<_> = connections.into_iter().map(start).collect();
        let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
        while !open.is_empty() {
            let mut idle = true;
            open.retain_mut(|(connection, checker)| match connection.read(&mut buffer) {
                Ok(0) => {
                    total += checker.position();
                    false
                }
                Ok(count) => {
                    checker.feed(&buffer[..count]).unwrap();
                    idle = false;
                    true
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Err(error) => panic!("a receiver failed: {error}"),
            });
            if idle {
                std::thread::sleep(Duration::from_micros(500));
            }
        }
        total
    })
}
