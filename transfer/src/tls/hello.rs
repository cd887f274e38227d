//! What must be known of a `ClientHello` before rustls reads it: which suite the client lists first, and
//! which name it asks for. RFC 8446, 4.1.2; RFC 6066, 3.

use super::record::{HEADER, PLAINTEXT_MAX};

/// The longest hello that is waited for, in bytes; rustls takes no longer message either.
const HELLO_MAX: usize = 0xffff;

/// The beginning of a connection, as a server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hello {
    /// More bytes are needed.
    Incomplete,
    /// Not a hello that can be read; rustls finds out what is wrong.
    Unreadable,
    /// A hello.
    Read {
        /// ChaCha20-Poly1305 stands before every other cipher: a client without AES instructions.
        chacha_first: bool,
        server_name: Option<String>,
    },
}

/// Reads the hello at the beginning of what was received.
pub(crate) fn read(received: &[u8]) -> Hello {
    match joined(received) {
        Some(Ok(message)) => parse(&message).unwrap_or(Hello::Unreadable),
        Some(Err(())) => Hello::Unreadable,
        None => Hello::Incomplete,
    }
}

/// The handshake message of the first records. `None`: not all of it is there.
fn joined(received: &[u8]) -> Option<Result<Vec<u8>, ()>> {
    let mut message = Vec::new();
    let mut rest = received;
    loop {
        match rest {
            [] => return None,
            [22] | [22, 3, ..] => {}
            _ => return Some(Err(())),
        }
        let header = rest.first_chunk::<HEADER>()?;
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if len == 0 || len > PLAINTEXT_MAX {
            return Some(Err(()));
        }
        message.extend_from_slice(rest.get(HEADER..HEADER + len)?);
        if let &[kind, high, middle, low, ..] = message.as_slice() {
            let len = u32::from_be_bytes([0, high, middle, low]) as usize;
            if kind != 1 || len > HELLO_MAX {
                return Some(Err(()));
            }
            if message.len() >= 4 + len {
                message.drain(..4);
                message.truncate(len);
                return Some(Ok(message));
            }
        }
        rest = &rest[HEADER + len..];
    }
}

fn parse(hello: &[u8]) -> Option<Hello> {
    let mut rest = Reader(hello);
    rest.take(2 + 32)?;
    rest.vector8()?;
    let suites = rest.vector16()?;
    rest.vector8()?;
    let known = suites.0.chunks_exact(2).map(|suite| u16::from_be_bytes([suite[0], suite[1]]));
    let chacha_first = known.into_iter().find(|suite| !is_grease(*suite)).is_some_and(is_chacha);
    let mut server_name = None;
    if let Some(mut extensions) = rest.vector16() {
        while let (Some(kind), Some(body)) = (extensions.number(), extensions.vector16()) {
            if kind == 0 {
                server_name = host_name(body);
            }
        }
    }
    Some(Hello::Read { chacha_first, server_name })
}

fn host_name(mut body: Reader<'_>) -> Option<String> {
    let mut names = body.vector16()?;
    let is_host = names.take(1)? == [0];
    let name = std::str::from_utf8(names.vector16()?.0).ok()?;
    // As rustls does, which takes neither addresses nor what is no name.
    let is_name = matches!(rustls::pki_types::ServerName::try_from(name), Ok(name) if matches!(name, rustls::pki_types::ServerName::DnsName(_)));
    (is_host && is_name).then(|| name.to_owned())
}

/// Values that mean nothing, sent so that peers learn to ignore what they do not know (RFC 8701).
fn is_grease(suite: u16) -> bool {
    suite & 0x0f0f == 0x0a0a && suite >> 8 == suite & 0xff
}

fn is_chacha(suite: u16) -> bool {
    matches!(suite, 0x1303 | 0xcca8 | 0xcca9)
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<Reader<'b>> {
        let len = self.take(1)?[0];
        self.take(len.into()).map(Reader)
    }

    fn vector16(&mut self) -> Option<Reader<'b>> {
        let len = self.number()?;
        self.take(len.into()).map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &[u8]) -> Vec<u8> {
        let len = u16::try_from(message.len()).unwrap().to_be_bytes();
        [&[22, 3, 1, len[0], len[1]], message].concat()
    }

    fn hello(suites: &[u16], name: Option<&str>) -> Vec<u8> {
        let vector = |bytes: Vec<u8>| {
            [u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec(), bytes].concat()
        };
        let list = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
        let name = name.map(|name| {
            let entry = [vec![0], vector(name.as_bytes().to_vec())].concat();
            [vec![0, 0], vector(vector(entry))].concat()
        });
        let body = [
            vec![3, 3],
            vec![7; 32],
            vec![0],
            vector(list),
            vec![1, 0],
            vector(name.unwrap_or_default()),
        ]
        .concat();
        let len = u32::try_from(body.len()).unwrap().to_be_bytes();
        [vec![1, len[1], len[2], len[3]], body].concat()
    }

    #[test]
    fn the_first_suite_and_the_name_are_read() {
        let read_of = |suites: &[u16], name| read(&record(&hello(suites, name)));
        let expected = |chacha_first, name: Option<&str>| Hello::Read {
            chacha_first,
            server_name: name.map(str::to_owned),
        };
        assert_eq!(
            read_of(&[0x1303, 0x1301], Some("a.example")),
            expected(true, Some("a.example"))
        );
        assert_eq!(read_of(&[0x8a8a, 0xcca9, 0x1301], None), expected(true, None));
        assert_eq!(read_of(&[0x1302, 0x1303], Some("10.0.0.1")), expected(false, None));
        assert_eq!(read_of(&[], Some("no name at all")), expected(false, None));
    }

    #[test]
    fn a_hello_in_many_records_is_read_when_it_is_whole() {
        let message = hello(&[0x1303], Some("a.example"));
        let cut: Vec<u8> = message.chunks(7).flat_map(record).collect();
        for end in 0..cut.len() {
            assert_eq!(read(&cut[..end]), Hello::Incomplete, "{end}");
        }
        assert!(matches!(read(&cut), Hello::Read { chacha_first: true, server_name: Some(_) }));
    }

    #[test]
    fn what_is_no_hello_is_left_to_rustls() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Hello::Unreadable);
        assert_eq!(read(&[21, 3, 1, 0, 2, 1, 0]), Hello::Unreadable);
        assert_eq!(read(&record(&[2, 0, 0, 1, 0])), Hello::Unreadable);
        assert_eq!(read(&record(&[1, 0, 0, 1, 0])), Hello::Unreadable);
        assert_eq!(read(&record(&[1, 0xff, 0, 0, 0])), Hello::Unreadable);
        assert_eq!(read(&record(&[])), Hello::Unreadable);
        assert_eq!(read(&[22, 3, 1, 0x40, 1]), Hello::Unreadable);
    }
}
