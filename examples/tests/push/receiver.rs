//! Receivers written here, so that they can do what no good server would.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::run::PATIENCE;

/// A server that does with each connection what it is told. It ends with the process.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<Mutex<usize>>,
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn length(&self) -> usize {
        self.field("Content-Length").map_or(0, |length| length.parse().expect("a number"))
    }
}

/// One connection to a receiver.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pending: Vec<u8>,
    /// How many connections came before this one.
    pub(crate) number: usize,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// Serves each connection on a thread by this.
    pub(crate) fn start(serve: impl Fn(Connection) + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (kept, count, serve) =
            (Arc::clone(&requests), Arc::clone(&connections), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let number = *count.lock().unwrap();
                *count.lock().unwrap() += 1;
                let (serve, requests) = (Arc::clone(&serve), Arc::clone(&kept));
                let connection = Connection { stream, pending: Vec::new(), number, requests };
                thread::spawn(move || serve(connection));
            }
        });
        Receiver { address, requests, connections }
    }

    /// One that takes everything and answers this.
    pub(crate) fn answering(answer: &'static str) -> Receiver {
        Receiver::start(move |mut connection| while connection.take(answer) {})
    }

    /// One that takes everything and answers these one after another, and the last one for ever.
    pub(crate) fn answering_in_turn(answers: &'static [&'static str]) -> Receiver {
        let next = Mutex::new(0);
        Receiver::start(move |mut connection| {
            loop {
                let Some(request) = connection.request() else { return };
                let turn = {
                    let mut next = next.lock().unwrap();
                    let turn = (*next).min(answers.len() - 1);
                    *next += 1;
                    turn
                };
                connection.keep(request);
                connection.say(answers[turn]);
            }
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// The requests that came whole.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

pub(crate) const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

impl Connection {
    /// Reads a whole request, saying 100 if that is asked; none at the end of the stream.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let mut request = self.head()?;
        if request.field("Expect").is_some() {
            self.say("HTTP/1.1 100 Continue\r\n\r\n");
        }
        request.body = self.body(request.length()).ok()?;
        Some(request)
    }

    /// Reads a head.
    pub(crate) fn head(&mut self) -> Option<Request> {
        let end = loop {
            if let Some(end) = self.pending.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.pending.extend_from_slice(&piece[..read]),
            }
        };
        let rest = self.pending.split_off(end);
        let head = String::from_utf8(std::mem::replace(&mut self.pending, rest)).unwrap();
        Some(Request { head, body: Vec::new() })
    }

    /// Reads so many bytes of body.
    pub(crate) fn body(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut body = std::mem::take(&mut self.pending);
        if body.len() > len {
            self.pending = body.split_off(len);
        }
        let here = body.len();
        body.resize(len, 0);
        self.stream.read_exact(&mut body[here..])?;
        Ok(body)
    }

    /// Bytes of body that have come before the end of the stream.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.pending);
        // A reset ends it just as well.
        _ = self.stream.read_to_end(&mut rest);
        rest
    }

    pub(crate) fn keep(&self, request: Request) {
        self.requests.lock().unwrap().push(request);
    }

    pub(crate) fn say(&mut self, answer: &str) {
        self.send(answer.as_bytes());
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // Who does not listen any more does not matter here.
        _ = self.stream.write_all(bytes);
    }

    /// Takes a request and answers it; false at the end of the stream.
    pub(crate) fn take(&mut self, answer: &str) -> bool {
        let Some(request) = self.request() else { return false };
        self.keep(request);
        self.say(answer);
        true
    }
}

/// Compares without printing megabytes.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], wanted: &[u8], what: &str) {
    assert_eq!(got.len(), wanted.len(), "length of {what}");
    let differs = got.iter().zip(wanted).position(|(got, wanted)| got != wanted);
    assert_eq!(differs, None, "{what} differs at this byte");
}
