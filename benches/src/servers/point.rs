//! The points of the server comparison: keep-alive GETs of one hot file.

use crate::point::{KIB, MIB};

/// A file size, and how much is asked for at once.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) name: &'static str,
    /// Length of the file in bytes.
    pub(crate) file_len: u64,
    pub(crate) connections: u32,
    /// Timed requests on each connection.
    pub(crate) requests_each: u32,
    /// Runs only when named: it exists for the harness's own tests.
    pub(crate) hidden: bool,
}

const fn get(name: &'static str, file_len: u64, requests_each: u32) -> Point {
    Point { name, file_len, connections: 64, requests_each, hidden: false }
}

/// Every point. The requests are as many as give a fast server a few tenths of a second.
pub(crate) const POINTS: &[Point] = &[
    get("get-4k-x64", 4 * KIB, 500),
    get("get-16k-x64", 16 * KIB, 400),
    get("get-64k-x64", 64 * KIB, 250),
    get("get-256k-x64", 256 * KIB, 120),
    get("get-1m-x64", MIB, 40),
    Point {
        name: "self-test-get",
        file_len: 20 * KIB + 13,
        connections: 3,
        requests_each: 5,
        hidden: true,
    },
];

impl Point {
    /// Timed requests on all connections.
    pub(crate) fn requests(&self) -> u64 {
        u64::from(self.connections) * u64::from(self.requests_each)
    }

    /// The name of its file below the root that is served.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.bin", self.name)
    }

    /// One line for the reader of the table.
    pub(crate) fn about(&self) -> String {
        format!(
            "{} keep-alive connections, GETs of a hot file of {} bytes",
            self.connections, self.file_len
        )
    }
}
