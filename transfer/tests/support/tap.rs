//! A receiver that a test steers: it hands over what came, piece by piece, so that many transfers can
//! follow each other on one connection.

use std::io::{ErrorKind, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringway::runtime::net::{Stream, TcpStream, UnixStream};
use ringway::runtime::time::sleep;
use ringway::runtime::{Runtime, Stats, stats, yield_now};
use ringway_testkit::child::{ChildEnd, observe_child};
use ringway_testkit::{Budget, Checker};

/// Nothing takes longer than this on a healthy connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a tap reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appetite {
    /// All that comes, at once.
    Greedy,
    /// This many bytes at a time, with a pause after each.
    Slow(usize, Duration),
    /// Only what [`Tap::take`] asks for, when it asks for it.
    Stalled,
}

/// Runs the body of a test in a process of its own, as `run_in_child` does, and passes on what it
/// counted.
#[track_caller]
pub fn in_child(test_name: &str, limit: Duration, body: impl FnOnce()) {
    let report = observe_child(test_name, limit, || {
        let _budget = Budget::new(limit);
        body();
    });
    assert!(matches!(report.end, ChildEnd::Completed), "{report}");
    print!("{}", report.output);
}

/// A TCP connection over loopback to a tap, with a send buffer of `send_buffer` bytes.
pub fn tap_tcp(appetite: Appetite, send_buffer: usize) -> (TcpStream, Tap) {
    let (ours, theirs) = tcp_pair();
    let stream = TcpStream::from_std(ours).unwrap();
    stream.set_send_buffer(send_buffer).unwrap();
    (stream, Tap::spawn(theirs, appetite))
}

/// A Unix connection to a tap, likewise.
pub fn tap_unix(appetite: Appetite, send_buffer: usize) -> (UnixStream, Tap) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let stream = UnixStream::from_std(ours).unwrap();
    stream.set_send_buffer(send_buffer).unwrap();
    (stream, Tap::spawn(theirs, appetite))
}

/// Two ends of a TCP connection over loopback.
pub fn tcp_pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

/// Closes a stream for its peer too. A worker of the kernel lets go of the socket a little after its
/// splice has completed, and only when the ring is entered again; a loop that stands still after
/// `block_on` would leave the peer without an end.
pub fn close(runtime: &Runtime, stream: impl std::ops::Deref<Target = Stream>) {
    super::end(stream);
    runtime.block_on(sleep(Duration::from_millis(1)));
}

/// What a ring holds and must give back.
pub fn gauges(stats: &Stats) -> [(&'static str, u64); 7] {
    [
        ("ops_in_flight", stats.ops_in_flight),
        ("ops_orphaned", stats.ops_orphaned),
        ("completions_due", stats.completions_due),
        ("leases", stats.leases),
        ("pipes_lent", stats.pipes_lent),
        ("timers", stats.timers),
        ("regions_held", stats.regions.saturating_sub(stats.regions_idle)),
    ]
}

/// Waits until the ring of this thread holds nothing but what `base` held.
pub async fn quiet(base: &Stats) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = stats().unwrap();
        if gauges(&now) == gauges(base) {
            return;
        }
        assert!(Instant::now() < deadline, "not given back: {:?}", gauges(&now));
        yield_now().await;
    }
}

/// Numbers that are the same for the same seed (`SplitMix64`).
pub struct Random(pub u64);

impl Random {
    /// The next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }
}

/// The other end of a connection.
pub struct Tap {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    bytes: Vec<u8>,
    total: u64,
    /// How many bytes in all the test has asked for.
    wanted: u64,
    /// And how many more it is going to ask for.
    ahead: u64,
    ended: Option<std::io::Result<()>>,
}

impl Tap {
    /// Reads from `connection` in a thread of its own.
    pub fn spawn(connection: impl Read + Send + 'static, appetite: Appetite) -> Self {
        let state = State { bytes: Vec::new(), total: 0, wanted: 0, ahead: 0, ended: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let read = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("receiver".to_owned());
        let thread = thread.spawn(move || read.read_all(connection, appetite)).unwrap();
        Self { shared, thread }
    }

    /// The next `len` bytes of the stream.
    #[track_caller]
    pub fn take(&self, len: u64) -> Vec<u8> {
        let mut state = self.shared.lock();
        let ahead = state.ahead.min(len);
        state.ahead -= ahead;
        state.wanted += len;
        self.shared.changed.notify_all();
        let deadline = Instant::now() + PATIENCE;
        let len = usize::try_from(len).unwrap();
        while state.bytes.len() < len {
            assert!(state.ended.is_none(), "only {} of {len} bytes came", state.bytes.len());
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {len} bytes came in {PATIENCE:?}", state.bytes.len());
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
        let rest = state.bytes.split_off(len);
        std::mem::replace(&mut state.bytes, rest)
    }

    /// Lets a stalled tap read so many bytes more, though nobody takes them yet.
    pub fn want(&self, len: u64) {
        self.shared.lock().ahead += len;
        self.shared.changed.notify_all();
    }

    /// Takes `sent` bytes and insists that they are those of a canary file.
    #[track_caller]
    pub fn take_canary(&self, id: u64, offset: u64, sent: u64) {
        let bytes = self.take(sent);
        if let Err(foreign) = Checker::new(id, offset).feed(&bytes) {
            panic!("a foreign byte among {sent}: {foreign}");
        }
    }

    /// Takes `sent` bytes and insists that they are the first ones of `expected`.
    #[track_caller]
    pub fn take_prefix(&self, expected: &[u8], sent: u64) {
        let bytes = self.take(sent);
        let expected = &expected[..bytes.len()];
        if bytes != expected {
            let at = bytes.iter().zip(expected).position(|(came, right)| came != right);
            panic!("of {sent} bytes, the one at {at:?} is wrong");
        }
    }

    /// Reads what is left, until the sender has closed or reset, and tells how many bytes that was.
    pub fn finish(self) -> u64 {
        self.shared.lock().wanted = u64::MAX;
        self.shared.changed.notify_all();
        self.thread.join().unwrap();
        let state = self.shared.lock();
        state.bytes.len() as u64
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn read_all(&self, mut connection: impl Read, appetite: Appetite) {
        let mut buffer = vec![0; 1 << 16];
        let end = loop {
            let most = match appetite {
                Appetite::Greedy => buffer.len(),
                Appetite::Slow(bytes, _) => bytes.min(buffer.len()),
                Appetite::Stalled => self.wait_for_demand().min(buffer.len()),
            };
            match connection.read(&mut buffer[..most]) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    let mut state = self.lock();
                    state.bytes.extend_from_slice(&buffer[..count]);
                    state.total += count as u64;
                    self.changed.notify_all();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if let Appetite::Slow(_, pause) = appetite {
                std::thread::sleep(pause);
            }
        };
        self.lock().ended = Some(end);
        self.changed.notify_all();
    }

    fn wait_for_demand(&self) -> usize {
        let mut state = self.lock();
        while state.wanted.saturating_add(state.ahead) <= state.total {
            state = self.changed.wait(state).unwrap();
        }
        usize::try_from(state.wanted.saturating_add(state.ahead) - state.total).unwrap()
    }
}
