//! A proxy that does to connections what networks do: delay, slice, stall, reset, half-close, corrupt.
//!
//! It stands between a client and a server and has threads of its own, so that whoever is tested by it
//! shares nothing with it. What it does is said for each connection beforehand, in bytes and not in
//! time, so that a test repeats itself.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// What happens to one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Harm {
    /// Nothing.
    #[default]
    None,
    /// Each piece waits so long.
    Delay(Duration),
    /// So many bytes leave at once, at most.
    Slice(usize),
    /// After so many bytes nothing passes for so long; then it goes on.
    Stall(u64, Duration),
    /// After so many bytes both sides see a reset.
    Reset(u64),
    /// After so many bytes the stream ends, in this direction only.
    HalfClose(u64),
    /// The byte at this place is another one.
    Corrupt(u64),
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// From the client to the server.
    pub upstream: Harm,
    /// From the server to the client.
    pub downstream: Harm,
}

impl Plan {
    /// Harms what the client sends.
    #[must_use]
    pub fn upstream(harm: Harm) -> Self {
        Self { upstream: harm, ..Self::default() }
    }

    /// Harms what the server answers.
    #[must_use]
    pub fn downstream(harm: Harm) -> Self {
        Self { downstream: harm, ..Self::default() }
    }
}

/// A running proxy. It ends with the process.
#[derive(Debug)]
pub struct Chaos {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Chaos {
    /// Stands before a server; `plan` is asked for each connection by its number.
    ///
    /// # Panics
    ///
    /// When no address or thread can be had.
    pub fn before(
        server: SocketAddr,
        plan: impl Fn(usize) -> Plan + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let plan = plan(count.fetch_add(1, Ordering::SeqCst));
                // Who cannot reach the server is not let in either.
                if let Ok(server) = TcpStream::connect(server) {
                    join(client, server, plan);
                }
            }
        });
        Self { address, connections }
    }

    /// Where clients come.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have come.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Carries bytes both ways on two threads.
fn join(client: TcpStream, server: TcpStream, plan: Plan) {
    let ends = client.try_clone().and_then(|c| Ok((c, server.try_clone()?)));
    let Ok((client_too, server_too)) = ends else { return };
    thread::spawn(move || _ = carry(&client, &server, plan.upstream));
    thread::spawn(move || _ = carry(&server_too, &client_too, plan.downstream));
}

fn carry(from: &TcpStream, to: &TcpStream, harm: Harm) -> io::Result<()> {
    // So that pieces leave as they are.
    to.set_nodelay(true)?;
    let mut passed = 0;
    let mut piece = [0; 16 * 1024];
    let mut stalled = false;
    loop {
        let (mut from_here, mut to_here) = (from, to);
        let room = match harm {
            Harm::Slice(bytes) => bytes.clamp(1, piece.len()),
            // Up to the place where something happens, and not beyond it.
            Harm::Reset(at) | Harm::HalfClose(at) | Harm::Stall(at, _) if passed < at => {
                usize::try_from(at - passed).unwrap_or(piece.len()).min(piece.len())
            }
            _ => piece.len(),
        };
        match harm {
            Harm::Reset(at) if passed >= at => return reset(from, to),
            Harm::HalfClose(at) if passed >= at => return to.shutdown(Shutdown::Write),
            Harm::Stall(at, pause) if passed >= at && !stalled => {
                stalled = true;
                thread::sleep(pause);
            }
            _ => {}
        }
        let read = match from_here.read(&mut piece[..room]) {
            Ok(0) | Err(_) => return to.shutdown(Shutdown::Write),
            Ok(read) => read,
        };
        if let Harm::Delay(pause) = harm {
            thread::sleep(pause);
        }
        if let Harm::Corrupt(at) = harm {
            let within = at.checked_sub(passed).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = within.and_then(|at| piece[..read].get_mut(at)) {
                *byte ^= 0x20;
            }
        }
        to_here.write_all(&piece[..read])?;
        passed += read as u64;
    }
}

/// Ends both sides as a host does that knows nothing of the connection.
fn reset(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    for stream in [one, other] {
        // Closing would wait for the other thread's clone, and a shutdown would send an end: this
        // aborts the connection (connect(2), AF_UNSPEC) and wakes who reads.
        rustix::net::connect_unspec(stream)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an echo of these bytes is behind a plan.
    fn echo(plan: Plan, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = listener.local_addr()?;
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut got = Vec::new();
            // A reset is what some tests are about.
            _ = stream.read_to_end(&mut got);
            _ = stream.write_all(&got);
        });
        let chaos = Chaos::before(server, move |_| plan);
        let mut stream = TcpStream::connect(chaos.address())?;
        stream.write_all(bytes)?;
        stream.shutdown(Shutdown::Write)?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got)?;
        Ok(got)
    }

    const BYTES: &[u8] = b"the quick brown fox";

    #[test]
    fn slow_and_sliced_streams_are_the_same_bytes() {
        for harm in [
            Harm::None,
            Harm::Delay(Duration::from_millis(2)),
            Harm::Slice(1),
            Harm::Stall(4, Duration::from_millis(20)),
        ] {
            assert_eq!(echo(Plan::upstream(harm), BYTES).expect("an echo"), BYTES, "{harm:?}");
            assert_eq!(echo(Plan::downstream(harm), BYTES).expect("an echo"), BYTES, "{harm:?}");
        }
    }

    #[test]
    fn what_is_cut_ends_there_and_what_is_corrupted_differs_in_one_byte() {
        let cut = echo(Plan::upstream(Harm::HalfClose(9)), BYTES).expect("an echo");
        assert_eq!(cut, &BYTES[..9]);
        let other = echo(Plan::downstream(Harm::Corrupt(4)), BYTES).expect("an echo");
        assert_eq!(other, b"the Quick brown fox");
    }

    #[test]
    fn a_reset_is_an_error_on_this_side() {
        assert!(echo(Plan::downstream(Harm::Reset(5)), BYTES).is_err());
    }
}
