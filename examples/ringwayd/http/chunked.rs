//! The chunked transfer coding (RFC 9112, section 7.1), taken off in place. Pure.
//!
//! It is read strictly: what two readers could understand in two ways is how requests are smuggled.
//! Extensions and trailers are passed over, within bounds.

/// Bytes of one line of framing; a longer one is refused. Most have six.
const LINE_BYTES_MAX: u32 = 1024;
/// Bytes of all trailers.
const TRAILER_BYTES_MAX: u32 = 8192;

/// Where in a chunked body a reader stands.
#[derive(Clone, Debug)]
pub(crate) struct ChunkedBody {
    state: State,
    /// Bytes of the current chunk that have not come; while its size is read, the size so far.
    left: u64,
    /// Bytes of the current line, or of the trailers.
    line: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the first digit of a size.
    Size,
    /// Behind a digit.
    Digits,
    /// In extensions, or in white space before them.
    Extension,
    /// Before the LF of a size line.
    SizeEnd,
    Data,
    /// Before the CR and LF behind the bytes of a chunk.
    DataCr,
    DataLf,
    /// At the beginning of a trailer line, or of the empty one that ends all.
    Trailer,
    InTrailer,
    TrailerLf,
    /// Before the LF of the last empty line.
    EndLf,
    Done,
}

/// The framing is broken: the connection cannot be used on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// What was found in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Bytes of the body, which stand at its beginning now.
    pub(crate) body: usize,
    /// Bytes of the buffer that belonged to the coded body: all, unless it has ended.
    pub(crate) coded: usize,
}

impl ChunkedBody {
    pub(crate) fn new() -> ChunkedBody {
        ChunkedBody { state: State::Size, left: 0, line: 0 }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of the body that are certain to come next, without framing in between.
    pub(crate) fn certain(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Takes the framing out of what has come, and moves the body together.
    pub(crate) fn decode(&mut self, bytes: &mut [u8]) -> Result<Taken, Malformed> {
        let (mut body, mut at) = (0, 0);
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                bytes.copy_within(at..at + here, body);
                (body, at) = (body + here, at + here);
                self.left -= here as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.state = self.frame(bytes[at])?;
            at += 1;
        }
        Ok(Taken { body, coded: at })
    }

    /// One byte of framing.
    fn frame(&mut self, byte: u8) -> Result<State, Malformed> {
        self.line += 1;
        let most = match self.state {
            State::Trailer | State::InTrailer | State::TrailerLf => TRAILER_BYTES_MAX,
            _ => LINE_BYTES_MAX,
        };
        if self.line > most {
            return Err(Malformed("The framing of a chunk is too long."));
        }
        Ok(match (self.state, byte) {
            (State::Size | State::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                let size = self.left.checked_mul(16).map(|size| size | u64::from(digit));
                self.left = size.ok_or(Malformed("A chunk is too long."))?;
                State::Digits
            }
            (State::Digits | State::Extension, b'\r') => State::SizeEnd,
            (State::Digits, b';' | b' ' | b'\t') => State::Extension,
            (State::Extension, byte) if byte != b'\n' && byte != 0 => State::Extension,
            (State::SizeEnd, b'\n') => {
                self.line = 0;
                if self.left == 0 { State::Trailer } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line = 0;
                State::Size
            }
            (State::Trailer, b'\r') => State::EndLf,
            (State::InTrailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::Trailer,
            (State::Trailer | State::InTrailer, byte) if byte != b'\n' && byte != 0 => {
                State::InTrailer
            }
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(Malformed("The framing of a chunk is malformed.")),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes in pieces; the body, and what follows it.
    fn decode(coded: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>, bool), Malformed> {
        let (mut reader, mut body, mut rest) = (ChunkedBody::new(), Vec::new(), Vec::new());
        for piece in coded.chunks(piece) {
            let mut buffer = piece.to_vec();
            let taken = reader.decode(&mut buffer)?;
            body.extend_from_slice(&buffer[..taken.body]);
            rest.extend_from_slice(&buffer[taken.coded..]);
            assert!(taken.coded == buffer.len() || reader.is_done());
        }
        Ok((body, rest, reader.is_done()))
    }

    #[test]
    fn a_body_and_what_follows() {
        let coded = b"5\r\nhello\r\n00A;x=\"y\"\r\n, world! \n\r\n0\r\nDigest: x\r\n\r\nGET /";
        for piece in 1..coded.len() {
            let (body, rest, done) = decode(coded, piece).unwrap();
            assert_eq!(
                (&body[..], &rest[..], done),
                (&b"hello, world! \n"[..], &b"GET /"[..], true)
            );
        }
        assert_eq!(decode(b"0\r\n\r\n", 1).unwrap(), (Vec::new(), Vec::new(), true));
        assert!(!decode(b"0\r\n", 1).unwrap().2 && !decode(b"5\r\nhell", 3).unwrap().2);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for coded in [
            "\r\n",
            "x\r\n",
            "+5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            " 5\r\nhello\r\n",
            "5\nhello\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhelloo\r\n",
            "5\rhello\r\n",
            "5;a\nb\r\nhello\r\n",
            "10000000000000000\r\n",
            "0\r\n\n",
            "0\r\na: b\n\r\n",
            "-1\r\n",
            ";\r\n",
        ] {
            assert!(decode(coded.as_bytes(), 1).is_err(), "{coded:?}");
        }
    }

    #[test]
    fn framing_is_bounded() {
        let long = |len| format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(len));
        assert!(decode(long(1000).as_bytes(), 7).is_ok());
        assert!(decode(long(1100).as_bytes(), 7).is_err());
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(2000));
        assert!(decode(trailers.as_bytes(), 100).is_err());
    }

    proptest! {
        #[test]
        fn any_body_in_any_chunks(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..8),
            piece in 1..90usize,
        ) {
            let mut coded = Vec::new();
            for chunk in &chunks {
                coded.extend(format!("{:x}\r\n", chunk.len()).bytes());
                coded.extend(chunk);
                coded.extend(b"\r\n");
            }
            coded.extend(b"0\r\n\r\nrest");
            let (body, rest, done) = decode(&coded, piece).unwrap();
            prop_assert_eq!((body, &rest[..], done), (chunks.concat(), &b"rest"[..], true));
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1..20usize) {
            let _ = decode(&bytes, piece);
        }
    }
}
