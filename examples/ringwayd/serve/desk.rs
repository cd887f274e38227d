//! What a connection needs while a request is read and answered. Idle connections have none of it.

use std::cell::RefCell;
use std::io;

use super::wire::Wire;

/// Most heads fit into this; a longer one makes its desk grow.
const INCOMING_BYTES: usize = 4096;
/// Desks that are kept for the next request of anybody.
const SPARE_DESKS_MAX: usize = 64;

/// The desks of one thread that nobody uses now.
#[derive(Debug, Default)]
pub(crate) struct Desks {
    spare: RefCell<Vec<Desk>>,
}

impl Desks {
    pub(crate) fn lend(&self) -> Desk {
        self.spare.borrow_mut().pop().unwrap_or_else(|| Desk {
            incoming: Incoming { bytes: vec![0; INCOMING_BYTES], start: 0, end: 0 },
            reply: Vec::new(),
        })
    }

    pub(crate) fn take_back(&self, mut desk: Desk) {
        let mut spare = self.spare.borrow_mut();
        // One that has grown is let go, so that a large head costs memory only while it is there.
        if spare.len() < SPARE_DESKS_MAX && desk.incoming.bytes.len() == INCOMING_BYTES {
            desk.incoming.consume(usize::MAX);
            desk.reply.clear();
            spare.push(desk);
        }
    }
}

/// Room for what comes in and for what goes out.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) incoming: Incoming,
    pub(crate) reply: Vec<u8>,
}

/// Bytes that were received: one request, the beginning of one, or several.
///
/// ```text
/// bytes  |· consumed ·|#### unread ####|· room ·|
///        0          start             end     len
/// ```
#[derive(Debug)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Incoming {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets so many unread bytes, or all if there are fewer, and says how many.
    pub(crate) fn consume(&mut self, bytes: usize) -> usize {
        let consumed = bytes.min(self.end - self.start);
        self.start += consumed;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        consumed
    }

    /// Puts bytes back that were received elsewhere, before all that is unread.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        let unread = [bytes, self.unread()].concat();
        if self.bytes.len() < unread.len() {
            self.bytes.resize(unread.len(), 0);
        }
        self.bytes[..unread.len()].copy_from_slice(&unread);
        (self.start, self.end) = (0, unread.len());
    }

    /// Receives what is there behind the unread bytes, of which there are fewer than `unread_max`;
    /// 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there; otherwise those of recv(2).
    pub(crate) fn receive(
        &mut self,
        stream: &mut impl Wire,
        unread_max: usize,
    ) -> io::Result<usize> {
        if self.end == self.bytes.len() {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                let len = self.bytes.len();
                self.bytes.resize((len * 2).min(unread_max.max(len + 1)), 0);
            }
        }
        let received = stream.try_receive(&mut self.bytes[self.end..])?;
        self.end += received;
        Ok(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consuming_everything_makes_room() {
        let desks = Desks::default();
        let mut desk = desks.lend();
        desk.incoming.end = 10;
        assert_eq!(desk.incoming.consume(4), 4);
        assert_eq!(desk.incoming.unread().len(), 6);
        assert_eq!(desk.incoming.consume(60), 6);
        assert!(desk.incoming.is_empty());
        assert_eq!(desk.incoming.start, 0);
    }

    #[test]
    fn what_is_put_back_comes_first() {
        let desks = Desks::default();
        let mut desk = desks.lend();
        desk.incoming.put_back(b"");
        assert!(desk.incoming.is_empty());
        desk.incoming.put_back(b"world");
        desk.incoming.consume(1);
        desk.incoming.put_back(b"hello ");
        assert_eq!(desk.incoming.unread(), b"hello orld");
        desk.incoming.put_back(&[7; INCOMING_BYTES]);
        assert_eq!(desk.incoming.unread().len(), INCOMING_BYTES + 10);
    }

    #[test]
    fn a_desk_comes_back_clean_and_a_grown_one_not_at_all() {
        let desks = Desks::default();
        let mut desk = desks.lend();
        desk.incoming.end = 10;
        desk.reply.push(1);
        desks.take_back(desk);
        let mut desk = desks.lend();
        assert!(desk.incoming.is_empty() && desk.reply.is_empty());
        desk.incoming.bytes.resize(2 * INCOMING_BYTES, 0);
        desks.take_back(desk);
        assert!(desks.spare.borrow().is_empty());
    }
}
