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
