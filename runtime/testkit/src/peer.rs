//! The other end of the socket: a receiver that may be slow, stall, or go away.
//!
//! Plain threads and blocking sockets, so that nothing of what is tested takes part in judging it.
//! TCP is accepted on loopback only, and every wait has an end.

mod behaviour;
mod endpoint;

pub use behaviour::{Behaviour, PATIENCE_DEFAULT, Stop};
pub use endpoint::{Connection, Listener, loopback_listener, unix_listener};

use crate::canary::Foreign;
use endpoint::set_up;
use rustix::net::sockopt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Starts receivers.
#[derive(Debug)]
pub struct Receiver;

impl Receiver {
    /// Accepts one connection in a thread of its own and receives from it; the handle gives what came.
    ///
    /// # Panics
    ///
    /// When the listener is a TCP one that is not on loopback, or cannot be set up. What happens on
    /// the connection is no panic but an [`End`].
    pub fn spawn(listener: impl Into<Listener>, behaviour: Behaviour) -> JoinHandle<Received> {
        let listener = listener.into();
        listener.prepare(&behaviour).expect("the listener can be set up");
        spawn_named(move || match listener.accept() {
            Ok(connection) => Session::new(behaviour).receive(connection),
            Err(error) => Session::new(behaviour).finish(End::of(&error)),
        })
    }

    /// Receives in a thread of its own from a connection that exists, as one end of a pair does.
    pub fn spawn_connected(
        connection: impl Into<Connection>,
        behaviour: Behaviour,
    ) -> JoinHandle<Received> {
        let connection = connection.into();
        spawn_named(move || Session::new(behaviour).receive(connection))
    }
}

/// What a receiver got.
#[derive(Clone, Debug)]
pub struct Received {
    /// How many bytes were read.
    pub bytes: u64,
    /// Why no more were.
    pub end: End,
    /// The first byte that was not the expected one; reading went on after it.
    pub foreign: Option<Foreign>,
    /// The first bytes, as far as [`Behaviour::keeping`] asks.
    pub kept: Vec<u8>,
    /// From the accepted connection to the end.
    pub elapsed: Duration,
}

impl Received {
    /// Insists on a stream that ended in order after exactly `bytes` right bytes.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn assert_complete(&self, bytes: u64) {
        if let Some(foreign) = &self.foreign {
            panic!("a foreign byte was received ({} bytes in all): {foreign}", self.bytes);
        }
        assert_eq!((self.bytes, self.end), (bytes, End::Eof), "received, against expected");
    }
}

/// Why a receiver stopped reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The sender closed its side.
    Eof,
    /// It had read as much as [`Behaviour::stopping_after`] says.
    Stopped,
    /// Nothing came for as long as its patience lasts.
    TimedOut,
    /// Reading failed.
    Failed(io::ErrorKind),
}

impl End {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            // SO_RCVTIMEO answers EAGAIN.
            io::ErrorKind::WouldBlock => End::TimedOut,
            kind => End::Failed(kind),
        }
    }
}

/// One connection in the course of being received.
struct Session {
    behaviour: Behaviour,
    start: Instant,
    bytes: u64,
    foreign: Option<Foreign>,
    kept: Vec<u8>,
}

impl Session {
    fn new(behaviour: Behaviour) -> Self {
        Session { behaviour, start: Instant::now(), bytes: 0, foreign: None, kept: Vec::new() }
    }

    fn receive(mut self, mut connection: Connection) -> Received {
        let end = match set_up(connection.as_fd(), &self.behaviour) {
            Ok(()) => self.read_to_end(&mut connection),
            Err(error) => End::of(&error),
        };
        if let (End::Stopped, Some((_, how))) = (end, self.behaviour.stop) {
            stop(connection, how);
        }
        self.finish(end)
    }

    fn finish(self, end: End) -> Received {
        let Session { start, bytes, foreign, kept, .. } = self;
        Received { bytes, end, foreign, kept, elapsed: start.elapsed() }
    }

    fn read_to_end(&mut self, connection: &mut Connection) -> End {
        let mut buffer = vec![0; 1 << 16];
        loop {
            if let Some((after, pause)) = self.behaviour.stall
                && self.bytes >= after
            {
                self.behaviour.stall = None;
                thread::sleep(pause);
            }
            let count = self.next_read_max(buffer.len());
            if count == 0 {
                return End::Stopped;
            }
            match connection.read(&mut buffer[..count]) {
                Ok(0) => return End::Eof,
                Ok(count) => self.take(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return End::of(&error),
            }
            if let Some((_, pause)) = self.behaviour.pace {
                thread::sleep(pause);
            }
        }
    }

    /// Never past the point where the behaviour changes, so that "after n bytes" is exact.
    fn next_read_max(&self, buffer: usize) -> usize {
        let pace = self.behaviour.pace.map_or(buffer, |(bytes, _)| bytes.min(buffer));
        let until = |mark: u64| usize::try_from(mark - self.bytes).unwrap_or(usize::MAX);
        let stall = self.behaviour.stall.map_or(usize::MAX, |(after, _)| until(after));
        let stop = self.behaviour.stop.map_or(usize::MAX, |(bytes, _)| until(bytes));
        pace.min(stall).min(stop)
    }

    fn take(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        let room = self.behaviour.keep_bytes_max - self.kept.len();
        self.kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if let (None, Some(checker)) = (self.foreign, &mut self.behaviour.expected) {
            self.foreign = checker.feed(chunk).err();
        }
    }
}

fn stop(connection: Connection, how: Stop) {
    match how {
        Stop::Close => {}
        Stop::Hold(pause) => thread::sleep(pause),
        Stop::Reset => sockopt::set_socket_linger(&connection, Some(Duration::ZERO))
            .expect("SO_LINGER can be set on an open socket"),
    }
    drop(connection);
}

fn spawn_named(work: impl FnOnce() -> Received + Send + 'static) -> JoinHandle<Received> {
    let builder = thread::Builder::new().name("receiver".to_owned());
    builder.spawn(work).expect("the receiver's thread starts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::{self, Checker, Origin};
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    fn canary_bytes(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        canary::fill(3, 0, &mut bytes);
        bytes
    }

    /// Writes all it can and says how much that was.
    fn send(mut stream: impl Write, mut bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut sent = 0;
        while !bytes.is_empty() {
            match stream.write(bytes) {
                Ok(count) => (sent, bytes) = (sent + count, &bytes[count..]),
                Err(error) => return (sent, Err(error)),
            }
        }
        (sent, Ok(()))
    }

    fn over_tcp(behaviour: Behaviour, bytes: &[u8]) -> (Received, io::Result<()>) {
        let listener = loopback_listener();
        let address = listener.local_addr().unwrap();
        let receiver = Receiver::spawn(listener, behaviour);
        let (_, outcome) = send(TcpStream::connect(address).unwrap(), bytes);
        (receiver.join().unwrap(), outcome)
    }

    #[test]
    fn all_is_read_and_checked_over_tcp() {
        let bytes = canary_bytes(3_000_000);
        let behaviour = Behaviour::read_all().expecting(Checker::new(3, 0)).keeping(10);
        let (received, outcome) = over_tcp(behaviour, &bytes);
        outcome.unwrap();
        received.assert_complete(3_000_000);
        assert_eq!(received.kept, bytes[..10]);
    }

    #[test]
    fn all_is_read_and_checked_over_unix_sockets() {
        let (listener, folder) = unix_listener();
        let behaviour = Behaviour::read_all().expecting(Checker::new(3, 0));
        let receiver = Receiver::spawn(listener, behaviour.clone());
        let stream = UnixStream::connect(folder.path().join("socket")).unwrap();
        send(stream, &canary_bytes(500_000)).1.unwrap();
        receiver.join().unwrap().assert_complete(500_000);

        let (ours, theirs) = UnixStream::pair().unwrap();
        let receiver = Receiver::spawn_connected(theirs, behaviour);
        send(ours, &canary_bytes(500_000)).1.unwrap();
        receiver.join().unwrap().assert_complete(500_000);
    }

    #[test]
    fn a_foreign_byte_and_a_short_stream_are_told() {
        let mut bytes = canary_bytes(100_000);
        canary::fill(8, 40, &mut bytes[70_000..80_000]);
        let (received, _) = over_tcp(Behaviour::read_all().expecting(Checker::new(3, 0)), &bytes);
        let foreign = received.foreign.expect("the foreign bytes are seen");
        assert_eq!(foreign.origin, Origin::File { file_id: 8, offset: 40 });
        assert_eq!((foreign.offset, received.bytes), (70_000, 100_000));
        assert!(std::panic::catch_unwind(|| received.assert_complete(100_000)).is_err());

        let (received, _) = over_tcp(Behaviour::read_all(), &bytes[..99_999]);
        assert!(std::panic::catch_unwind(|| received.assert_complete(100_000)).is_err());
    }

    #[test]
    fn a_slow_and_a_stalling_reader_take_their_time_and_lose_nothing() {
        let slow = Behaviour::read_all()
            .expecting(Checker::new(3, 0))
            .receive_buffer(4096)
            .slowly(1000, Duration::from_millis(2))
            .stalling(5000, Duration::from_millis(100));
        let (received, outcome) = over_tcp(slow, &canary_bytes(20_000));
        outcome.unwrap();
        received.assert_complete(20_000);
        assert!(received.elapsed >= Duration::from_millis(140), "{:?}", received.elapsed);
    }

    #[test]
    fn a_tiny_receive_buffer_holds_the_sender_back() {
        let hold = Stop::Hold(Duration::from_millis(300));
        let behaviour = Behaviour::read_all().receive_buffer(1024).stopping_after(0, hold);
        let listener = loopback_listener();
        let address = listener.local_addr().unwrap();
        let receiver = Receiver::spawn(listener, behaviour);
        let stream = TcpStream::connect(address).unwrap();
        sockopt::set_socket_send_buffer_size(&stream, 4096).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (sent, outcome) = send(&stream, &canary_bytes(1 << 20));
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(sent < 64 << 10, "{sent} bytes fitted in");
        assert_eq!(receiver.join().unwrap().end, End::Stopped);
    }

    #[test]
    fn a_reset_comes_after_exactly_as_many_bytes() {
        let behaviour = Behaviour::read_all().stopping_after(12_345, Stop::Reset);
        let (received, outcome) = over_tcp(behaviour, &canary_bytes(64 << 20));
        assert_eq!((received.bytes, received.end), (12_345, End::Stopped));
        let kind = outcome.unwrap_err().kind();
        let gone = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        assert!(gone.contains(&kind), "{kind}");
    }

    #[test]
    fn a_close_in_order_is_an_end_of_stream_for_the_sender() {
        let listener = loopback_listener();
        let address = listener.local_addr().unwrap();
        let behaviour = Behaviour::read_all().stopping_after(100, Stop::Close);
        let receiver = Receiver::spawn(listener, behaviour);
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&canary_bytes(100)).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(receiver.join().unwrap().bytes, 100);
    }

    #[test]
    fn waiting_has_an_end() {
        let behaviour = Behaviour::read_all().patience(Duration::from_millis(50));
        let nobody_came = Receiver::spawn(loopback_listener(), behaviour.clone()).join().unwrap();
        assert_eq!(nobody_came.end, End::TimedOut);

        let (_ours, theirs) = UnixStream::pair().unwrap();
        let nothing_came = Receiver::spawn_connected(theirs, behaviour).join().unwrap();
        assert_eq!(nothing_came.end, End::TimedOut);
    }

    #[test]
    #[should_panic(expected = "is not on loopback")]
    fn other_hosts_are_kept_out() {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        drop(Receiver::spawn(listener, Behaviour::read_all()));
    }
}
