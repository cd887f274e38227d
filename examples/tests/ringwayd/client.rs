//! A client that shows every byte it gets.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::daemon::PATIENCE;

/// A connection, with what came and was not read yet.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pending: Vec<u8>,
}

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn length(&self) -> Option<usize> {
        self.field("Content-Length").map(|length| length.parse().expect("a number"))
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the daemon listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, pending: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the daemon takes the request");
    }

    /// Sends a request for a path with more fields, each with its line end.
    pub(crate) fn ask(&mut self, method: &str, path: &str, fields: &str) {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.fetch(path, "")
    }

    pub(crate) fn fetch(&mut self, path: &str, fields: &str) -> Response {
        self.ask("GET", path, fields);
        self.response()
    }

    /// Reads one response with its body.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        let mut response = self.head();
        let none = matches!(response.status, 204 | 304);
        let length = if none { 0 } else { response.length().expect("a length") };
        response.body = self.exactly(length).expect("the whole body");
        response
    }

    /// Reads one response up to its empty line.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Response {
        let end = loop {
            let end = self.pending.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end;
            }
            assert!(self.receive().expect("a head") > 0, "the connection ended within a head");
        };
        let head = String::from_utf8(self.pending[..end].to_vec()).expect("a head is ASCII");
        self.pending.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap();
        let status = status.strip_prefix("HTTP/1.1 ").expect("a status line");
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").expect("a field");
            (name.to_owned(), value.to_owned())
        };
        Response {
            status: status[..3].parse().expect("a status"),
            fields: lines.map(field).collect(),
            body: Vec::new(),
        }
    }

    /// Reads so many bytes of body.
    ///
    /// # Errors
    ///
    /// When the connection ends before.
    pub(crate) fn exactly(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.pending);
        if bytes.len() > len {
            self.pending = bytes.split_off(len);
        }
        let here = bytes.len();
        bytes.resize(len, 0);
        self.stream.read_exact(&mut bytes[here..])?;
        Ok(bytes)
    }

    /// Reads to the end, and says whether that was a reset.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, Option<io::Error>) {
        let mut bytes = std::mem::take(&mut self.pending);
        let end = self.stream.read_to_end(&mut bytes).err();
        if let Some(error) = &end {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        }
        (bytes, end)
    }

    /// The daemon has closed the connection and has sent nothing more.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let (bytes, _) = self.rest();
        assert!(bytes.is_empty(), "more came: {:?}", String::from_utf8_lossy(&bytes));
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16384];
        let received = loop {
            match self.stream.read(&mut chunk) {
                // With a timeout on the socket, a call that is disturbed is not taken up again.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.pending.extend_from_slice(&chunk[..received]);
        Ok(received)
    }
}

/// Compares without printing megabytes.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], wanted: &[u8], what: &str) {
    assert_eq!(got.len(), wanted.len(), "length of {what}");
    let differs = got.iter().zip(wanted).position(|(got, wanted)| got != wanted);
    assert_eq!(differs, None, "{what} differs at this byte");
}
