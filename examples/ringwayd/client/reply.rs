//! Answers, put together from whatever pieces a connection brings. Pure.
//!
//! For those who want to know how a request ended: the body is thrown away but for its beginning,
//! which is where a receiver says what it does not like.

use super::body::{Body, Step};
use super::response::{Head, Malformed, Parsed, parse};

/// Answers before the final one, at most: a peer could send `100 Continue` for ever.
const INTERIM_MAX: u32 = 16;
/// Bytes of a body that are kept for the message.
const EXCERPT_BYTES_MAX: usize = 512;
/// Bytes of a body that are read so that the connection can be used again; past them it is closed.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Puts answers together; memory is bounded by one head and a piece.
#[derive(Debug, Default)]
pub(crate) struct ReplyReader {
    received: Vec<u8>,
    interim: u32,
    body: Option<Open>,
    to_head: bool,
}

#[derive(Debug)]
struct Open {
    head: Head,
    body: Body,
    excerpt: Vec<u8>,
    bytes: usize,
}

/// What has become known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing: more bytes are needed.
    None,
    /// An answer before the final one, such as 100.
    Interim(u16),
    /// The head of the final answer, whose body may still come.
    Head(u16),
    /// The final answer is here to its end, or as far as it is read.
    Reply(Reply),
}

/// A final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) head: Head,
    /// The beginning of the body.
    pub(crate) excerpt: String,
    /// The body was empty.
    pub(crate) is_empty: bool,
    /// The connection can take another request.
    pub(crate) reusable: bool,
}

impl ReplyReader {
    /// Whether the answers that follow are to a HEAD, and so have no body whatever they say.
    pub(crate) fn answers_to_head(&mut self, to_head: bool) {
        self.to_head = to_head;
    }

    /// Adds what was received.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// What the bytes so far mean; call it until it says [`News::None`] or [`News::Reply`].
    ///
    /// # Errors
    ///
    /// [`Malformed`] if they are no answer. Nothing can be read after that.
    pub(crate) fn next(&mut self) -> Result<News, Malformed> {
        if self.body.is_some() {
            return self.read_body();
        }
        let (head, consumed) = match parse(&self.received)? {
            Parsed::Partial => return Ok(News::None),
            Parsed::Complete(head, consumed) => (head, consumed),
        };
        self.received.drain(..consumed);
        if head.is_interim() {
            self.interim += 1;
            if self.interim > INTERIM_MAX || head.status == 101 {
                return Err(Malformed("it never comes to a final answer"));
            }
            return Ok(News::Interim(head.status));
        }
        self.interim = 0;
        let status = head.status;
        let body = Body::new(head.framing(self.to_head)?);
        self.body = Some(Open { head, body, excerpt: Vec::new(), bytes: 0 });
        Ok(News::Head(status))
    }

    /// The stream has ended: the answer that ends with it, if one does.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it ended in the middle of one.
    pub(crate) fn end(&mut self) -> Result<Option<Reply>, Malformed> {
        match self.body.take() {
            Some(open) if open.body.ends_here() => Ok(Some(open.into_reply(false))),
            Some(_) => Err(Malformed("its answer breaks off")),
            None if self.received.is_empty() => Ok(None),
            None => Err(Malformed("its answer breaks off")),
        }
    }

    /// The final answer as far as it has come, for who waits no longer for the rest.
    pub(crate) fn cut(&mut self) -> Option<Reply> {
        self.body.take().map(|open| open.into_reply(false))
    }

    fn read_body(&mut self) -> Result<News, Malformed> {
        let Some(open) = &mut self.body else { return Ok(News::None) };
        loop {
            let step = open.body.next(&self.received)?;
            match step {
                Step::Data(len) => {
                    open.bytes += len;
                    let room = EXCERPT_BYTES_MAX.saturating_sub(open.excerpt.len());
                    open.excerpt.extend_from_slice(&self.received[..len.min(room)]);
                    self.received.drain(..len);
                }
                Step::Skip(len) => drop(self.received.drain(..len)),
                Step::More if open.bytes <= BODY_BYTES_MAX => return Ok(News::None),
                Step::More | Step::End => {
                    // Bytes behind an answer that nobody has asked for belong to no request of ours.
                    let reusable = step == Step::End && self.received.is_empty();
                    let reply = self.body.take().map(|open| open.into_reply(reusable));
                    return Ok(reply.map_or(News::None, News::Reply));
                }
            }
        }
    }
}

impl Open {
    fn into_reply(self, reusable: bool) -> Reply {
        let text = String::from_utf8_lossy(&self.excerpt);
        // One line, and nothing that could steer a terminal.
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = text.chars().map(printable).collect();
        Reply {
            reusable: reusable && self.head.keeps_alive(),
            excerpt: text.split_whitespace().collect::<Vec<_>>().join(" "),
            is_empty: self.bytes == 0,
            head: self.head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: &[u8] =
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
        HTTP/1.1 422 Unprocessable\r\nContent-Length: 9\r\n\r\nno\x1b[2J\r\n!";

    /// All the news of a stream that comes in these pieces, without the pauses.
    fn news(pieces: &[&[u8]]) -> Vec<News> {
        let mut reader = ReplyReader::default();
        let mut all = Vec::new();
        for piece in pieces {
            reader.push(piece);
            loop {
                match reader.next().unwrap() {
                    News::None => break,
                    News::Reply(reply) => {
                        all.push(News::Reply(reply));
                        break;
                    }
                    news => all.push(news),
                }
            }
        }
        all
    }

    #[test]
    fn answers_are_the_same_wherever_they_are_split() {
        let whole = news(&[ANSWERS]);
        assert_eq!(whole[..3], [News::Interim(100), News::Interim(103), News::Head(422)]);
        let News::Reply(reply) = &whole[3] else { panic!("{whole:?}") };
        assert_eq!(reply.excerpt, "no [2J !");
        assert!(reply.reusable && !reply.is_empty);
        for at in 0..=ANSWERS.len() {
            let (first, second) = ANSWERS.split_at(at);
            assert_eq!(news(&[first, second]), whole, "{at}");
        }
        let bytes: Vec<&[u8]> = ANSWERS.chunks(1).collect();
        assert_eq!(news(&bytes), whole);
    }

    #[test]
    fn two_answers_follow_each_other_on_one_connection() {
        let mut reader = ReplyReader::default();
        for status in [201, 204] {
            reader.push(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").as_bytes());
            assert_eq!(reader.next(), Ok(News::Head(status)));
            let News::Reply(reply) = reader.next().unwrap() else { panic!("no reply") };
            assert!(reply.reusable && reply.is_empty);
        }
        assert_eq!(reader.end(), Ok(None));
    }

    #[test]
    fn an_answer_that_ends_with_the_connection_is_whole_and_one_that_breaks_off_is_not() {
        let read = |text: &[u8]| {
            let mut reader = ReplyReader::default();
            reader.push(text);
            while !matches!(reader.next().unwrap(), News::None | News::Reply(_)) {}
            reader.end()
        };
        let closed = read(b"HTTP/1.1 200 OK\r\n\r\nall").unwrap().unwrap();
        assert!(closed.excerpt == "all" && !closed.reusable);
        assert!(read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\nContent-Le").is_err());
        assert_eq!(read(b""), Ok(None));
    }

    #[test]
    fn a_long_body_is_not_read_to_its_end_and_costs_the_connection() {
        let mut reader = ReplyReader::default();
        reader.push(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n");
        assert_eq!(reader.next(), Ok(News::Head(200)));
        for _ in 0..=BODY_BYTES_MAX / 1024 {
            reader.push(&[b'a'; 1024]);
            match reader.next().unwrap() {
                News::None => assert!(reader.received.is_empty()),
                News::Reply(reply) => {
                    assert!(!reply.reusable && reply.excerpt.len() == EXCERPT_BYTES_MAX);
                    return;
                }
                news => panic!("{news:?}"),
            }
        }
        panic!("it was read on and on");
    }

    #[test]
    fn what_follows_an_answer_unasked_costs_the_connection() {
        let mut reader = ReplyReader::default();
        reader.push(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n");
        assert_eq!(reader.next(), Ok(News::Head(200)));
        assert!(matches!(reader.next(), Ok(News::Reply(reply)) if !reply.reusable));
    }

    #[test]
    fn an_endless_row_of_interim_answers_is_malformed() {
        let mut reader = ReplyReader::default();
        reader.push(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(INTERIM_MAX as usize + 1));
        for _ in 0..INTERIM_MAX {
            assert_eq!(reader.next(), Ok(News::Interim(100)));
        }
        assert!(reader.next().is_err());
    }
}
