//! The arms: each is one way to get a file into a socket, behind the same two doors.
//!
//! An arm is a row in a table: a name, a sentence, and how to make it from an open file and connected
//! sockets, which it owns from then on. What it needs (buffers, pipes, a ring) it makes *there*: making is
//! not measured, sending is. To add one, implement [`StreamArm`] or [`ExchangeArm`] and put a row into the
//! `ARMS` of its room.

mod broken;
mod classic;
mod epoll;
mod ours;

use std::fs::File;
use std::net::TcpStream;

use anyhow::Result;

use crate::point::{Kind, Point};

/// A row of the table of arms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arm {
    pub(crate) name: &'static str,
    /// One line for the reader.
    pub(crate) about: &'static str,
    pub(crate) make: Make,
    /// Runs only when named: broken on purpose, for the harness's own tests.
    pub(crate) hidden: bool,
}

/// How an arm comes to be, by the kind of point it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Make {
    Stream(fn(File, TcpStream) -> Result<Box<dyn StreamArm>>),
    Exchange(fn(File, Vec<TcpStream>) -> Result<Box<dyn ExchangeArm>>),
}

/// Bytes of a file: where they begin and how many they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Span {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Sends bytes of its file into its one socket. The socket arrives blocking, with `TCP_NODELAY`.
pub(crate) trait StreamArm {
    /// Returns when the socket has accepted every byte of `span`. Called several times in a life.
    fn send(&mut self, span: Span) -> Result<()>;
}

/// Answers fixed requests with [`crate::wire::response_header`] and its whole file. The sockets arrive
/// blocking, with `TCP_NODELAY`.
pub(crate) trait ExchangeArm {
    /// Returns when each connection has had `requests_each` answers. Called several times in a life.
    fn serve(&mut self, requests_each: u32) -> Result<()>;
}

impl Arm {
    fn kind(&self) -> Kind {
        match self.make {
            Make::Stream(_) => Kind::Stream,
            Make::Exchange(_) => Kind::Exchange,
        }
    }

    /// Whether this arm is written for the kind of `point`.
    pub(crate) fn fits(&self, point: &Point) -> bool {
        point.shape.same_kind(self.kind())
    }
}

/// Every arm, in the order of the tables.
pub(crate) fn all() -> impl Iterator<Item = &'static Arm> {
    [classic::ARMS, epoll::ARMS, ours::ARMS, broken::ARMS].into_iter().flatten()
}

/// The arm of this name that fits `point`.
pub(crate) fn named(name: &str, point: &Point) -> Option<&'static Arm> {
    all().find(|arm| arm.name == name && arm.fits(point))
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
            assert!(named(point.baseline, point).is_some(), "{} has no baseline arm", point.name);
        }
    }
}
