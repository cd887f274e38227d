//! Sealing by the kernel: whether it can, and the sending half of a connection whose records it makes.
//!
//! Only what is *sent* goes through the kernel's TLS. That is where files are, and where splice saves the
//! copies. Receiving stays with our own [`Opener`](super::record::Opener): a socket on which the kernel
//! opens records answers `EIO` to a plain receive of an alert, cannot take the peer's key updates before
//! Linux 6.14, and would have to be given what was received already.
//!
//! The kernel counts its records and lets itself be asked, so a key's limit holds here as well. Before
//! Linux 6.14 it takes no second key: a connection whose key is spent, or whose peer asks for a new one,
//! ends then, with an error that says so.

mod info;
mod support;

use std::io;

use ringway_runtime::net::TcpStream;
use rustls::ConnectionTrafficSecrets;

use super::record::{ContentType, HEADER, Suite, TAIL};
use info::CryptoInfo;

/// Records that a key keeps for the protocol itself.
const RESERVED: u64 = 3;
const PAGE: u64 = 4096;

/// The sending half of a connection whose records the kernel seals.
#[derive(Debug)]
pub(crate) struct KernelSender {
    suite: Suite,
    records_max: u64,
    /// What the socket had accepted before: bytes of the handshake.
    accepted_before: u64,
    /// What TCP had been given then.
    queued_before: u64,
    /// Records under keys that are no more in use.
    records_before: u64,
    /// The number of the first record under this key.
    first: u64,
    /// Bytes of messages of the protocol.
    said: u64,
    /// The record number when the kernel was last asked for it.
    asked: u64,
    /// Data accepted then, and calls since then.
    accepted_then: u64,
    calls: u64,
}

impl KernelSender {
    /// Gives the sending half to the kernel. All bytes of the handshake must be with the socket, and
    /// nothing may have been sealed since.
    ///
    /// # Errors
    ///
    /// Why it cannot be, for a receipt; the socket can be used as before.
    pub(crate) fn install(
        stream: &TcpStream,
        (sequence, secrets): &(u64, ConnectionTrafficSecrets),
        records_max: u64,
    ) -> Result<Self, &'static str> {
        let info = CryptoInfo::new(*sequence, secrets).ok_or(support::NO_CIPHER)?;
        let suite = info.suite();
        support::why_not(suite).map_or(Ok(()), Err)?;
        // Tickets, which wait for the first data: nothing of ours shall be in a packet with the kernel's.
        stream.uncork();
        stream.attach_kernel_tls().map_err(|_error| "the kernel refused it for this socket")?;
        let queued = stream.queued().map_err(|_error| "the kernel does not tell what TCP has")?;
        let set = stream.set_sealing_key(info.as_slice());
        set.map_err(|_error| "the kernel refused the key of this connection")?;
        Ok(Self {
            suite,
            records_max: records_max.min(suite.records_max()),
            accepted_before: stream.accepted(),
            queued_before: queued,
            records_before: 0,
            first: *sequence,
            said: 0,
            asked: *sequence,
            accepted_then: 0,
            calls: 0,
        })
    }

    /// Whether this kernel takes a second key.
    pub(crate) fn can_update() -> bool {
        support::can_update()
    }

    /// Plaintext of data that the kernel has accepted, in bytes.
    pub(crate) fn accepted(&self, stream: &TcpStream) -> u64 {
        stream.accepted() - self.accepted_before
    }

    /// Sends a message of the protocol as a record of its own, behind all data.
    ///
    /// # Errors
    ///
    /// `WouldBlock`, and nothing was taken; those of sendmsg(2).
    pub(crate) fn say(
        &mut self,
        stream: &TcpStream,
        kind: ContentType,
        content: &[u8],
    ) -> io::Result<()> {
        stream.try_send_record(kind.code(), content)?;
        self.said += content.len() as u64;
        Ok(())
    }

    /// Closes a record that was left open for more, when nothing follows after all.
    pub(crate) fn flush(stream: &TcpStream) {
        // A full socket sends it later by itself; a broken one has nothing to send.
        let _ = stream.try_send_record(ContentType::ApplicationData.code(), &[]);
    }

    /// Lets the kernel seal with a new key. What went before is sealed with the old one.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2): the connection cannot go on then.
    pub(crate) fn update(
        &mut self,
        stream: &TcpStream,
        (sequence, secrets): &(u64, ConnectionTrafficSecrets),
    ) -> io::Result<()> {
        let made = self.sequence(stream)? - self.first;
        let info = CryptoInfo::new(*sequence, secrets).ok_or(io::ErrorKind::Unsupported)?;
        stream.set_sealing_key(info.as_slice())?;
        self.records_before += made;
        self.first = *sequence;
        self.note(*sequence, stream);
        Ok(())
    }

    /// Data that may be sent by the next call, in bytes; 0 when the key is spent.
    ///
    /// How many records the kernel has made is estimated from above, and asked when the estimate has
    /// reached the limit: a full record holds four pages, and a call leaves at most two that are not full.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub(crate) fn allowance(&mut self, stream: &TcpStream) -> io::Result<u64> {
        self.calls += 1;
        let limit = self.records_max.saturating_sub(RESERVED);
        if self.estimate(stream) >= limit {
            let sequence = self.sequence(stream)?;
            self.note(sequence, stream);
        }
        Ok(limit.saturating_sub(self.estimate(stream)).saturating_mul(PAGE))
    }

    fn estimate(&self, stream: &TcpStream) -> u64 {
        let data = self.accepted(stream) - self.accepted_then;
        self.asked.saturating_add(2 * self.calls + data / PAGE)
    }

    fn note(&mut self, sequence: u64, stream: &TcpStream) {
        (self.asked, self.accepted_then, self.calls) = (sequence, self.accepted(stream), 0);
    }

    /// Whether TCP has been given every record, so that a shutdown does not overtake one.
    ///
    /// # Errors
    ///
    /// `NotConnected` when the connection has ended; those of getsockopt(2).
    pub(crate) fn is_drained(&self, stream: &TcpStream) -> io::Result<bool> {
        const OVERHEAD: u64 = (HEADER + TAIL) as u64;
        let records = self.records_before + self.sequence(stream)? - self.first;
        let sealed = self.accepted(stream) + self.said + records * OVERHEAD;
        Ok(stream.queued()? - self.queued_before >= sealed)
    }

    fn sequence(&self, stream: &TcpStream) -> io::Result<u64> {
        let mut info = CryptoInfo::blank(self.suite);
        stream.sealing_key(info.as_mut_slice())?;
        Ok(info.sequence())
    }
}
