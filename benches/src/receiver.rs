//! The receiving end of a stream: counts every byte, compares some or all of them.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::arms::Span;
use crate::canary::Canary;
use crate::load::Latency;
use crate::loopback::{TRANSFER_LONGEST, await_ready};
use crate::point::Reader;

/// Bytes asked for at a time.
const CHUNK: usize = 1024 * 1024;

/// Bytes that a slow reader takes at a time.
const SLOW_CHUNK: u64 = 64 * 1024;

/// Bytes at the end of a timed stream that are really received and compared.
pub(crate) const TAIL_LEN: u64 = 64 * 1024;

/// Receives `span` and compares every byte of it.
pub(crate) fn compare(socket: &TcpStream, span: Span, canary: Canary) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut received = 0;
    while received < span.len {
        let want = usize::try_from((span.len - received).min(CHUNK as u64))?;
        let read = { socket }.read(&mut buffer[..want]).with_context(|| at(received, span))?;
        ensure!(read > 0, "{}", at(received, span));
        canary.check(span.offset + received, &buffer[..read])?;
        received += read as u64;
    }
    Ok(())
}

/// Receives `span` and discards it inside the kernel, except for its tail, which is compared. Times are
/// taken from `ordered` on.
pub(crate) fn discard(
    socket: &TcpStream,
    span: Span,
    canary: Canary,
    (reader, ordered): (Reader, Instant),
) -> Result<Times> {
    let mut buffer = vec![0; CHUNK];
    let until = span.len.saturating_sub(TAIL_LEN);
    let begin = Instant::now();
    await_ready(socket, PollFlags::IN).with_context(|| at(0, span))?;
    let first_byte = ordered.elapsed();
    let mut received = 0;
    while received < until {
        ensure!(begin.elapsed() < TRANSFER_LONGEST, "too slow: {}", at(received, span));
        let chunk = match reader {
            Reader::Eager => CHUNK as u64,
            Reader::Slow { bytes_per_second } => {
                let due = Duration::from_secs_f64(received as f64 / bytes_per_second as f64);
                std::thread::sleep(due.saturating_sub(begin.elapsed()));
                SLOW_CHUNK
            }
        };
        let want = usize::try_from((until - received).min(chunk))?;
        // With TRUNC, TCP drops the bytes instead of copying them: see tcp(7).
        match rustix::net::recv(socket, &mut buffer[..want], RecvFlags::TRUNC) {
            Ok((_, 0)) => bail!("{}", at(received, span)),
            Ok((_, read)) => received += read as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context(at(received, span)),
        }
    }
    compare(socket, Span { offset: span.offset + until, len: span.len - until }, canary)?;
    Ok(Times { first_byte, last_byte: ordered.elapsed() })
}

/// From the order to send until bytes were here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) first_byte: Duration,
    pub(crate) last_byte: Duration,
}

impl Times {
    pub(crate) fn latency(self) -> Latency {
        let microseconds = |time: Duration| [time.as_secs_f64() * 1e6];
        Latency::of(&mut microseconds(self.first_byte), &mut microseconds(self.last_byte))
    }
}

/// Makes sure that nothing came after the last byte; to be called when the sender has finished.
pub(crate) fn expect_silence(socket: &TcpStream) -> Result<()> {
    match rustix::net::recv(socket, &mut [0; 1], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
        Ok((_, 0)) | Err(Errno::AGAIN) => Ok(()),
        Ok(_) => bail!("wrong count: bytes arrived after the last one"),
        Err(errno) => Err(errno.into()),
    }
}

fn at(received: u64, span: Span) -> String {
    format!("wrong count: {received} of {} bytes arrived", span.len)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::loopback;
    use crate::network::LOCALHOST;

    /// Sends the bytes of a canary, as `spoil` left them, through a real connection.
    fn connection(len: usize, spoil: fn(&mut Vec<u8>)) -> TcpStream {
        let listener = loopback::listen(LOCALHOST).unwrap();
        let near = loopback::connect(listener.local_addr().unwrap()).unwrap();
        let mut far = loopback::accept(&listener).unwrap();
        let mut bytes = vec![0; len];
        ringway_testkit::canary::fill(1, 10, &mut bytes);
        spoil(&mut bytes);
        std::thread::spawn(move || far.write_all(&bytes)).join().unwrap().unwrap();
        near
    }

    const SPAN: Span = Span { offset: 10, len: 100_000 };

    #[test]
    fn right_bytes_pass_both_ways() {
        let canary = Canary::new(1);
        compare(&connection(100_000, |_| ()), SPAN, canary).unwrap();
        let socket = connection(100_000, |_| ());
        discard(&socket, SPAN, canary, (Reader::Eager, Instant::now())).unwrap();
        expect_silence(&socket).unwrap();
    }

    #[test]
    fn wrong_byte_in_the_tail_fails_the_discarding_way() {
        let socket = connection(100_000, |bytes| bytes[99_999] ^= 1);
        let error =
            discard(&socket, SPAN, Canary::new(1), (Reader::Eager, Instant::now())).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("offset 100009"), "{error}");
    }

    #[test]
    fn missing_and_extra_bytes_fail() {
        let socket = connection(99_999, |_| ());
        let error = discard(&socket, SPAN, Canary::new(1), (Reader::Eager, Instant::now()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("wrong count"), "{error}");
        let socket = connection(100_001, |_| ());
        discard(&socket, SPAN, Canary::new(1), (Reader::Eager, Instant::now())).unwrap();
        assert!(expect_silence(&socket).is_err());
    }
}
