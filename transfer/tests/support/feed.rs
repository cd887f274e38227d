//! A peer that sends: the bytes of a canary file, in pieces, and an end.

use std::io::Write;
use std::net::Shutdown;
use std::thread::JoinHandle;
use std::time::Duration;

use ringway::runtime::net::{TcpStream, UnixStream};
use ringway_testkit::canary;

use super::{tcp_pair, unix_pair};

/// What a peer sends, and how.
#[derive(Clone, Copy, Debug)]
pub struct Feed {
    pub id: u64,
    pub from: u64,
    pub len: u64,
    /// Bytes in one send, and the pause after each.
    pub piece: usize,
    pub pause: Duration,
    /// Whether the end of the stream follows.
    pub ends: bool,
}

impl Feed {
    pub fn of(id: u64, from: u64, len: u64) -> Self {
        Self { id, from, len, piece: 64 << 10, pause: Duration::ZERO, ends: true }
    }

    pub fn in_pieces(self, piece: usize, pause: Duration) -> Self {
        Self { piece, pause, ..self }
    }

    pub fn without_an_end(self) -> Self {
        Self { ends: false, ..self }
    }

    /// Sends over a TCP connection. The thread gives the peer's end back, so that it stays open.
    pub fn over_tcp(self) -> (TcpStream, JoinHandle<std::net::TcpStream>) {
        let (ours, mut theirs) = tcp_pair();
        let sending = std::thread::spawn(move || {
            self.send(&mut theirs);
            if self.ends {
                let _ = theirs.shutdown(Shutdown::Write);
            }
            theirs
        });
        (ours, sending)
    }

    /// The same over a Unix connection.
    pub fn over_unix(self) -> (UnixStream, JoinHandle<std::os::unix::net::UnixStream>) {
        let (ours, mut theirs) = unix_pair();
        let sending = std::thread::spawn(move || {
            self.send(&mut theirs);
            if self.ends {
                let _ = theirs.shutdown(Shutdown::Write);
            }
            theirs
        });
        (ours, sending)
    }

    fn send(self, stream: &mut impl Write) {
        let mut bytes = vec![0; self.piece];
        let mut sent = 0;
        while sent < self.len {
            let piece = (self.len - sent).min(self.piece as u64);
            let bytes = &mut bytes[..usize::try_from(piece).unwrap()];
            canary::fill(self.id, self.from + sent, bytes);
            // It fails when the receiver has had enough.
            if stream.write_all(bytes).is_err() {
                return;
            }
            sent += piece;
            if !self.pause.is_zero() {
                std::thread::sleep(self.pause);
            }
        }
    }
}
