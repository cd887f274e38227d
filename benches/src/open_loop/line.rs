//! A keep-alive connection that asks for one file: plain, or over TLS.
//!
//! Answers are compared in full or discarded. What is discarded over TLS is not opened: the headers of its
//! records say how much plaintext they hold (RFC 8446, 5.2), so that the client is cheap, and as cheap for
//! every server. After that the session cannot open any more, only ask.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ringway::tls::rustls::{ClientConfig, ClientConnection};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::canary::Canary;
use crate::http_head;
use crate::records::Records;

/// What is asked for, and what must be answered.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) request: Vec<u8>,
    pub(crate) body_len: usize,
    pub(crate) canary: Canary,
}

impl Question {
    /// For the file at `path`, which begins with a slash and has the first `body_len` bytes of `canary`.
    pub(crate) fn new(path: &str, body_len: u64, canary: Canary) -> Result<Self> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes();
        Ok(Self { request, body_len: usize::try_from(body_len)?, canary })
    }
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) socket: TcpStream,
    session: Option<Box<ClientConnection>>,
    /// What has come of an answer that is compared, or of a head.
    answer: Vec<u8>,
    /// What has come of an answer that is discarded, head included.
    received: usize,
    /// Length of the answer that is discarded, head included, as soon as it is known.
    answer_len: Option<usize>,
    /// Length of the head of the last answer that was compared.
    head_len: Option<usize>,
    records: Records,
}

/// What a look at the socket has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// Not all of it.
    More,
    Everything,
    /// The connection has ended.
    End,
}

/// Bytes that are received at a time while a head is awaited; a head must fit in.
const HEAD_LEN_MAX: usize = 8 * 1024;

/// The most that is received at a time, in bytes.
pub(super) const CHUNK: usize = 256 * 1024;

impl Line {
    pub(crate) fn plain(socket: TcpStream) -> Self {
        Self {
            socket,
            session: None,
            answer: Vec::new(),
            received: 0,
            answer_len: None,
            head_len: None,
            records: Records::default(),
        }
    }

    /// Shakes hands as a client.
    ///
    /// # Errors
    ///
    /// They do not agree.
    pub(crate) fn sealed(mut socket: TcpStream, config: &Arc<ClientConfig>) -> Result<Self> {
        let mut session = ClientConnection::new(Arc::clone(config), "127.0.0.1".try_into()?)?;
        while session.is_handshaking() || session.wants_write() {
            session.complete_io(&mut socket).context("no handshake")?;
        }
        Ok(Self { session: Some(Box::new(session)), ..Self::plain(socket) })
    }

    /// The same for the answers of another connection: heads are alike.
    pub(super) fn expect_like(&mut self, other_head_len: usize) {
        self.head_len = Some(other_head_len);
    }

    pub(super) fn head_len(&self) -> Option<usize> {
        self.head_len
    }

    /// Asks; tells whether the connection took it.
    pub(super) fn ask(&mut self, question: &Question) -> Result<bool> {
        self.answer.clear();
        (self.received, self.answer_len) = (0, None);
        let sent = match &mut self.session {
            None => self.socket.write_all(&question.request),
            Some(session) => {
                session.writer().write_all(&question.request)?;
                let mut write = || {
                    while session.wants_write() {
                        session.write_tls(&mut self.socket)?;
                    }
                    Ok(())
                };
                write()
            }
        };
        match sent {
            Ok(()) => Ok(true),
            Err(error) if is_end(error.kind()) => Ok(false),
            Err(error) => Err(error).context("a request could not be sent"),
        }
    }

    /// Whether the other side has ended it while nothing was asked.
    ///
    /// # Errors
    ///
    /// Something else came; TLS may have something to say, which is left for the next answer.
    pub(super) fn has_ended(&self) -> Result<bool> {
        let peeked = taken(&self.socket, &mut [0], RecvFlags::PEEK)?;
        let silent = peeked.unwrap_or(0) == 0 || self.session.is_some();
        ensure!(silent, "wrong count: bytes came that nobody had asked for");
        Ok(peeked.is_none())
    }

    /// Takes what has arrived, and compares it when everything is there.
    pub(super) fn compare(&mut self, question: &Question, scratch: &mut [u8]) -> Result<Came> {
        let Some(read) = taken(&self.socket, scratch, RecvFlags::empty())? else {
            return Ok(Came::End);
        };
        match &mut self.session {
            None => self.answer.extend_from_slice(&scratch[..read]),
            Some(session) => open(session, &scratch[..read], &mut self.answer)?,
        }
        let Some(head_len) = http_head::check(&self.answer, question.body_len)? else {
            return Ok(Came::More);
        };
        let missing = (head_len + question.body_len).checked_sub(self.answer.len());
        ensure!(missing.is_some(), "wrong count: an answer is too long");
        if missing != Some(0) {
            return Ok(Came::More);
        }
        question.canary.check(0, &self.answer[head_len..])?;
        self.head_len = Some(head_len);
        Ok(Came::Everything)
    }

    /// Takes what has arrived, and counts it; a plain head is checked.
    pub(super) fn discard(&mut self, question: &Question, scratch: &mut [u8]) -> Result<Came> {
        if self.session.is_some() {
            return self.discard_sealed(question, scratch);
        }
        let (want, flags) = match self.answer_len {
            // With TRUNC, TCP drops the bytes instead of copying them: see tcp(7).
            Some(len) => ((len - self.received).min(scratch.len()), RecvFlags::TRUNC),
            None => (HEAD_LEN_MAX.min(scratch.len()), RecvFlags::empty()),
        };
        let Some(read) = taken(&self.socket, &mut scratch[..want], flags)? else {
            return Ok(Came::End);
        };
        self.received += read;
        if self.answer_len.is_none() {
            self.answer.extend_from_slice(&scratch[..read]);
            let head_len = http_head::check(&self.answer, question.body_len)?;
            ensure!(
                head_len.is_some() || self.answer.len() < HEAD_LEN_MAX,
                "wrong answer: the head does not end"
            );
            self.answer_len = head_len.map(|head_len| head_len + question.body_len);
        }
        let Some(len) = self.answer_len else { return Ok(Came::More) };
        ensure!(self.received <= len, "wrong count: an answer is too long");
        Ok(if self.received == len { Came::Everything } else { Came::More })
    }

    fn discard_sealed(&mut self, question: &Question, scratch: &mut [u8]) -> Result<Came> {
        let head_len = self.head_len.context("no answer was compared before")?;
        let Some(read) = taken(&self.socket, scratch, RecvFlags::empty())? else {
            return Ok(Came::End);
        };
        self.received += self.records.plaintext(&scratch[..read])?;
        let len = head_len + question.body_len;
        ensure!(self.received <= len, "wrong count: an answer is too long");
        let whole = self.received == len && self.records.between();
        Ok(if whole { Came::Everything } else { Came::More })
    }
}

/// What the socket has; `None` if the other side has ended it.
fn taken(socket: &TcpStream, room: &mut [u8], flags: RecvFlags) -> Result<Option<usize>> {
    match rustix::net::recv(socket, room, flags | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Ok(None),
        Ok((_, read)) => Ok(Some(read)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Some(0)),
        Err(Errno::CONNRESET | Errno::PIPE) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn is_end(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Opens what is sealed, and adds it to `answer`.
fn open(session: &mut ClientConnection, mut sealed: &[u8], answer: &mut Vec<u8>) -> Result<()> {
    while !sealed.is_empty() {
        session.read_tls(&mut sealed)?;
        session.process_new_packets().context("wrong bytes: TLS")?;
        match session.reader().read_to_end(answer) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("wrong bytes: TLS"),
        }
    }
    Ok(())
}
