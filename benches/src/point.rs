//! The points: what is moved, over how many connections, and which arm the others are measured against.

/// Binary kilobyte, in bytes.
pub(crate) const KIB: u64 = 1024;
/// Binary megabyte, in bytes.
pub(crate) const MIB: u64 = 1024 * KIB;
/// Binary gigabyte, in bytes.
pub(crate) const GIB: u64 = 1024 * MIB;

/// A named situation in which arms are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) name: &'static str,
    /// One line for the reader of the table.
    pub(crate) about: &'static str,
    /// Length of the file in bytes.
    pub(crate) file_len: u64,
    pub(crate) shape: Shape,
    /// The arm that the ratios are taken against.
    pub(crate) baseline: &'static str,
    /// Runs only when named: for the harness's own tests, or to look closer.
    pub(crate) hidden: bool,
}

/// How the bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One connection, the whole file once.
    Stream,
    /// Keep-alive connections; each request is answered with a header and the whole file.
    Exchange { connections: u32, requests_each: u32 },
}

impl Shape {
    /// How many connections the sender accepts.
    pub(crate) fn connections(self) -> u32 {
        match self {
            Shape::Stream => 1,
            Shape::Exchange { connections, .. } => connections,
        }
    }

    /// Whether an arm written for `other` can run here.
    pub(crate) fn same_kind(self, other: Kind) -> bool {
        matches!(
            (self, other),
            (Shape::Stream, Kind::Stream) | (Shape::Exchange { .. }, Kind::Exchange)
        )
    }
}

/// A shape without its numbers: what an arm is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Exchange,
}

/// Every point; `quick` runs those that are not hidden.
pub(crate) const POINTS: &[Point] = &[
    Point {
        name: "hot-1g",
        about: "one stream of a hot 1 GiB file, the receiver discards",
        file_len: GIB,
        shape: Shape::Stream,
        baseline: "sendfile",
        hidden: false,
    },
    Point {
        name: "hot-64k-x64",
        about: "64 keep-alive connections, each request answered with a header and a hot 64 KiB file",
        file_len: 64 * KIB,
        shape: Shape::Exchange { connections: 64, requests_each: 400 },
        baseline: "epoll-sendfile",
        hidden: false,
    },
    Point {
        name: "hot-4k-x64",
        about: "64 keep-alive connections, each request answered with a header and a hot 4 KiB file",
        file_len: 4 * KIB,
        shape: Shape::Exchange { connections: 64, requests_each: 500 },
        baseline: "epoll-sendfile",
        hidden: true,
    },
    Point {
        name: "hot-16k-x64",
        about: "64 keep-alive connections, each request answered with a header and a hot 16 KiB file",
        file_len: 16 * KIB,
        shape: Shape::Exchange { connections: 64, requests_each: 400 },
        baseline: "epoll-sendfile",
        hidden: true,
    },
    Point {
        name: "self-test-stream",
        about: "a small stream",
        file_len: 4 * MIB + 77,
        shape: Shape::Stream,
        baseline: "sendfile",
        hidden: true,
    },
    Point {
        name: "self-test-exchange",
        about: "a few small answers",
        file_len: 20 * KIB + 13,
        shape: Shape::Exchange { connections: 3, requests_each: 5 },
        baseline: "epoll-sendfile",
        hidden: true,
    },
];

/// The point of this name.
pub(crate) fn named(name: &str) -> Option<&'static Point> {
    POINTS.iter().find(|point| point.name == name)
}
