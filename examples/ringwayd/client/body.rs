//! The body of an answer, taken out of its framing piece by piece. Pure.
//!
//! ```text
//! received   │5\r\n│hello│\r\n│0\r\n\r\n│ next answer
//!            │ skip│ data│ skip   skip  │
//! ```

use super::response::{Framing, Malformed};

/// Bytes of the size line of a chunk, at most: room for a number and its extensions.
const CHUNK_LINE_MAX: usize = 4096;
/// Bytes of the fields behind the last chunk, at most.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// How far a body was read.
#[derive(Debug)]
pub(crate) struct Body {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of plain body are left.
    Length(u64),
    /// Everything belongs to the body.
    Close,
    /// A size line comes next.
    ChunkSize,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    /// The fields behind the last chunk.
    Trailer,
    Done,
}

/// What to do with the bytes that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes are body.
    Data(usize),
    /// So many bytes are framing.
    Skip(usize),
    /// More bytes are needed to tell.
    More,
    /// The body has ended; what is there belongs to the next answer.
    End,
}

impl Body {
    /// Nothing was read yet.
    pub(crate) fn new(framing: Framing) -> Body {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::Close => State::Close,
        };
        Body { state }
    }

    /// Says what the first of these bytes are, and takes them as consumed.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if they are no body.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        self.next_up_to(bytes, usize::MAX)
    }

    /// The same, for one who has room for so many bytes of body.
    ///
    /// # Errors
    ///
    /// As for [`Self::next`].
    pub(crate) fn next_up_to(&mut self, bytes: &[u8], room: usize) -> Result<Step, Malformed> {
        let within = &bytes[..bytes.len().min(room)];
        let (state, step) = match self.state {
            State::Done => (State::Done, Step::End),
            _ if bytes.is_empty() => (self.state, Step::More),
            State::Close => (State::Close, Step::Data(within.len())),
            State::Length(left) => {
                let (taken, left) = take(within, left);
                (if left == 0 { State::Done } else { State::Length(left) }, Step::Data(taken))
            }
            State::Chunk(left) => {
                let (taken, left) = take(within, left);
                (if left == 0 { State::ChunkEnd } else { State::Chunk(left) }, Step::Data(taken))
            }
            State::ChunkSize => chunk_size(bytes)?,
            State::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => (State::ChunkSize, Step::Skip(2)),
                [b'\r'] => (State::ChunkEnd, Step::More),
                _ => return Err(Malformed("a chunk of its body is longer than it says")),
            },
            State::Trailer => trailer(bytes)?,
        };
        self.state = state;
        Ok(step)
    }

    /// The connection has ended. True if the body is whole then.
    pub(crate) fn ends_here(&self) -> bool {
        matches!(self.state, State::Done | State::Close)
    }
}

fn take(bytes: &[u8], left: u64) -> (usize, u64) {
    let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    (taken, left - taken as u64)
}

fn chunk_size(bytes: &[u8]) -> Result<(State, Step), Malformed> {
    match httparse::parse_chunk_size(bytes) {
        Ok(httparse::Status::Complete((line, 0))) => Ok((State::Trailer, Step::Skip(line))),
        Ok(httparse::Status::Complete((line, size))) => Ok((State::Chunk(size), Step::Skip(line))),
        Ok(httparse::Status::Partial) if bytes.len() < CHUNK_LINE_MAX => {
            Ok((State::ChunkSize, Step::More))
        }
        _ => Err(Malformed("a chunk of its body has no size")),
    }
}

fn trailer(bytes: &[u8]) -> Result<(State, Step), Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete((taken, _))) => Ok((State::Done, Step::Skip(taken))),
        Ok(httparse::Status::Partial) if bytes.len() < TRAILER_BYTES_MAX => {
            Ok((State::Trailer, Step::More))
        }
        _ => Err(Malformed("what follows its last chunk are no fields")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a stream that comes in these pieces: the body, and what is left behind it.
    fn read(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, bool), Malformed> {
        let (mut body, mut pending, mut data) = (Body::new(framing), Vec::new(), Vec::new());
        for piece in pieces {
            pending.extend_from_slice(piece);
            loop {
                match body.next(&pending)? {
                    Step::Data(len) => data.extend(pending.drain(..len)),
                    Step::Skip(len) => drop(pending.drain(..len)),
                    Step::More | Step::End => break,
                }
            }
        }
        Ok((data, pending, body.ends_here()))
    }

    const CHUNKED: &[u8] = b"5;x=y\r\nhello\r\nB\r\n, big world\r\n0\r\nX: y\r\n\r\nHTTP/1.1";

    #[test]
    fn a_body_is_the_same_wherever_it_is_split() {
        for at in 0..=CHUNKED.len() {
            let (first, second) = CHUNKED.split_at(at);
            let (data, rest, whole) = read(Framing::Chunked, &[first, second]).unwrap();
            assert_eq!(data, b"hello, big world", "{at}");
            assert_eq!((rest.as_slice(), whole), (b"HTTP/1.1".as_slice(), true), "{at}");
        }
    }

    #[test]
    fn a_body_comes_byte_by_byte() {
        let bytes: Vec<&[u8]> = CHUNKED.chunks(1).collect();
        assert_eq!(read(Framing::Chunked, &bytes).unwrap().0, b"hello, big world");
        let bytes: Vec<&[u8]> = b"hello, next".chunks(1).collect();
        let (data, rest, whole) = read(Framing::Length(5), &bytes).unwrap();
        assert_eq!(
            (data.as_slice(), rest.as_slice(), whole),
            (&b"hello"[..], &b", next"[..], true)
        );
    }

    #[test]
    fn a_body_that_stops_is_not_whole_unless_its_end_is_the_connections() {
        assert!(!read(Framing::Length(5), &[b"hell"]).unwrap().2);
        assert!(!read(Framing::Chunked, &[b"5\r\nhello\r\n"]).unwrap().2);
        assert!(read(Framing::Close, &[b"hell"]).unwrap().2);
        assert!(read(Framing::None, &[]).unwrap().2);
    }

    #[test]
    fn chunks_that_are_none_are_malformed() {
        for bytes in [&b"x\r\n"[..], b"5\r\nhello!\r\n", b"-1\r\n", b"fffffffffffffffff\r\n"] {
            assert!(read(Framing::Chunked, &[bytes]).is_err(), "{bytes:?}");
        }
        let endless = vec![b'0'; CHUNK_LINE_MAX];
        assert!(read(Framing::Chunked, &[&endless]).is_err());
        let mut endless = b"0\r\nX: ".to_vec();
        endless.resize(TRAILER_BYTES_MAX + 10, b'y');
        assert!(read(Framing::Chunked, &[&endless]).is_err());
    }
}
