//! Whether a partial segment waits for what follows it, and whether that pays on this connection.

use std::os::fd::AsFd;

use super::stream::Stream;
use crate::sys::socket;

impl Stream {
    /// Sends at once what a send with `more` left waiting, when nothing follows after all: it would
    /// leave by itself only after 200 ms. On a Unix socket nothing ever waits.
    pub fn uncork(&self) {
        socket::uncork(self.as_fd());
    }

    /// Holds partial segments back until the guard is dropped, which sends them; the kernel holds each for
    /// 200 ms at most (`TCP_CORK`, tcp(7)). [`uncork`](Self::uncork) sends what is held and goes on holding.
    /// It is off afterwards, even if it was on before. Nothing happens on a Unix socket, or a broken one.
    ///
    /// Sends with `more` do less: what they hold leaves with the next acknowledgement that arrives.
    #[must_use = "it lasts as long as the guard"]
    pub fn cork(&self) -> Corked<'_> {
        let _ = socket::set_cork(self.as_fd(), true);
        Corked { stream: self }
    }

    /// Whether the congestion control of this connection spaces its packets out in time, as BBR does
    /// (`TCP_CONGESTION`, tcp(7)). Asked for once, and again when it is set by
    /// [`TcpStream::set_congestion_control`](super::TcpStream::set_congestion_control).
    ///
    /// There, what leaves late is sent in smaller bursts, each by a timer of its own, so that a header
    /// which waits for a long body makes the whole body dearer. What a qdisc or `SO_MAX_PACING_RATE`
    /// spaces out is not known here.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        self.flow.paced(|| socket::congestion_control(self.as_fd()).is_ok_and(|name| paces(&name)))
    }
}

/// A connection that keeps partial segments back: see [`Stream::cork`].
#[derive(Debug)]
pub struct Corked<'s> {
    stream: &'s Stream,
}

impl Drop for Corked<'_> {
    fn drop(&mut self) {
        let _ = socket::set_cork(self.stream.as_fd(), false);
    }
}

/// Whether this congestion control sets the pace of a socket by itself: of those in Linux that is every
/// BBR (`SK_PACING_NEEDED` in `net/ipv4/tcp_bbr.c`).
fn paces(name: &str) -> bool {
    name.starts_with("bbr")
}

#[cfg(test)]
mod tests {
    use super::paces;

    #[test]
    fn every_bbr_paces_and_what_counts_losses_does_not() {
        assert!(["bbr", "bbr2", "bbr3"].iter().all(|name| paces(name)));
        assert!(!["cubic", "reno", "dctcp", "westwood", ""].iter().any(|name| paces(name)));
    }
}
