//! The arms: each is one way to get a file into a socket, behind the same two doors.
//!
//! An arm is a row in a table: a name, a sentence, and how to make it from an open file and connected
//! sockets, which it owns from then on. What it needs (buffers, pipes, a ring) it makes *there*: making is
//! not measured, sending is. To add one, implement [`StreamArm`] or [`ExchangeArm`] and put a row into the
//! `ARMS` of its room.

mod broken;
mod classic;
mod epoll;
mod floor;
mod mapping;
mod ours;
mod peers;
mod raw_ring;
mod sealed;
mod ways;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpStream;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::point::{Cache, Choice, Kind, Point, Slices};

/// A row of the table of arms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arm {
    pub(crate) name: &'static str,
    /// One line for the reader.
    pub(crate) about: &'static str,
    pub(crate) make: Make,
    pub(crate) choice: Choice,
    /// How often the sender's CPU copies each byte, by what the route is; an arm that counts says better.
    pub(crate) copies: u8,
    /// Sends what was in memory before: pointless where the file is not.
    pub(crate) hot_only: bool,
    /// What the receiver gets.
    pub(crate) wire: Wire,
}

/// What goes over the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// The bytes of the file.
    Plain,
    /// Records of TLS 1.3: the arm shakes hands while it is made.
    Sealed,
    /// Likewise, sealed by the kernel.
    SealedByKernel,
}

/// How an arm comes to be, by the kind of point it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Make {
    Stream(MakeStream),
    Exchange(MakeExchange),
    /// A peer that is not in this build, and why.
    Missing(Kind, &'static str),
}

type MakeStream = fn(File, TcpStream) -> Result<Box<dyn StreamArm>>;
type MakeExchange = fn(File, Slices, Vec<TcpStream>) -> Result<Box<dyn ExchangeArm>>;

/// Bytes of a file: where they begin and how many they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Sends bytes of its file into its one socket. The socket arrives blocking, with `TCP_NODELAY`.
pub(crate) trait StreamArm {
    /// Returns when the socket has accepted every byte of `span`. Called several times in a life.
    fn send(&mut self, span: Span) -> Result<()>;

    /// What it has counted since it was last asked.
    fn counts(&mut self) -> Counts {
        Counts::default()
    }

    /// Lets go of what it holds of the file between two tasks, so that the file can turn cold.
    fn rest(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Answers requests (see [`crate::wire`]) with a header and the slice asked for. The sockets arrive
/// blocking, with `TCP_NODELAY`.
pub(crate) trait ExchangeArm {
    /// Returns when each connection has had `requests_each` answers. Called several times in a life.
    fn serve(&mut self, requests_each: u32) -> Result<()>;

    /// What it has counted since it was last asked.
    fn counts(&mut self) -> Counts {
        Counts::default()
    }

    /// Lets go of what it holds of the file between two tasks, so that the file can turn cold.
    fn rest(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What an arm knows of its own work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Bytes of the file that the CPU copied for the sender, each copy counted; `None` if nobody counts.
    pub(crate) copied_bytes: Option<u64>,
    pub(crate) zero_copy_sends: u64,
    /// Those of them that the kernel says it copied after all.
    pub(crate) zero_copy_copied: u64,
    /// How many transfers went which way, by their receipts: route, mode, why, and what they fell back to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) ways: BTreeMap<String, u64>,
}

impl Arm {
    fn kind(&self) -> Kind {
        match self.make {
            Make::Stream(_) => Kind::Stream,
            Make::Exchange(_) => Kind::Exchange,
            Make::Missing(kind, _) => kind,
        }
    }

    /// Whether this arm is written for the kind of `point`.
    pub(crate) fn fits(&self, point: &Point) -> bool {
        point.kind() == self.kind() && !(self.hot_only && point.cache == Cache::Cold)
    }

    /// Why it is a gap in the table, if it is one.
    pub(crate) fn gap(&self) -> Option<&'static str> {
        match self.make {
            Make::Missing(_, why) => Some(why),
            Make::Stream(_) if self.wire == Wire::SealedByKernel => sealed::no_kernel_tls(),
            Make::Stream(_) | Make::Exchange(_) => None,
        }
    }

    const fn stream(name: &'static str, about: &'static str, copies: u8, make: MakeStream) -> Self {
        let (make, choice) = (Make::Stream(make), Choice::Full);
        Self { name, about, make, choice, copies, hot_only: false, wire: Wire::Plain }
    }

    const fn exchange(
        name: &'static str,
        about: &'static str,
        copies: u8,
        make: MakeExchange,
    ) -> Self {
        let (make, choice) = (Make::Exchange(make), Choice::Full);
        Self { name, about, make, choice, copies, hot_only: false, wire: Wire::Plain }
    }

    /// Runs in `quick` too.
    const fn quick(self) -> Self {
        Self { choice: Choice::Quick, ..self }
    }

    const fn over(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    const fn hidden(self) -> Self {
        Self { choice: Choice::Hidden, ..self }
    }

    const fn hot_only(self) -> Self {
        Self { hot_only: true, ..self }
    }
}

/// Every arm, in the order of the tables.
pub(crate) fn all() -> impl Iterator<Item = &'static Arm> {
    let rooms = [
        classic::ARMS,
        epoll::ARMS,
        floor::ARMS,
        raw_ring::ARMS,
        ours::ARMS,
        ours::TRIED,
        sealed::ARMS,
        peers::ARMS,
        broken::ARMS,
    ];
    rooms.into_iter().flatten()
}

/// The arm of this name that fits `point`.
pub(crate) fn named(name: &str, point: &Point) -> Option<&'static Arm> {
    all().find(|arm| arm.name == name && arm.fits(point))
}

/// The most that one call may be asked for (`MAX_RW_COUNT`), in bytes.
const CALL_MAX: u64 = 0x7fff_f000;

/// `left`, clamped to what one call may be asked for.
fn call_len(left: u64) -> usize {
    usize::try_from(left.min(CALL_MAX)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::POINTS;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().map(|arm| arm.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }

    #[test]
    fn every_baseline_exists() {
        for point in POINTS {
            assert!(named(point.baseline(), point).is_some(), "{} has no baseline arm", point.name);
        }
    }

    #[test]
    fn floor_does_not_stand_where_the_file_is_cold() {
        let floors: Vec<_> = all().filter(|arm| arm.hot_only).collect();
        assert!(!floors.is_empty());
        for point in POINTS.iter().filter(|point| point.cache == Cache::Cold) {
            assert!(floors.iter().all(|arm| !arm.fits(point)));
        }
    }
}
