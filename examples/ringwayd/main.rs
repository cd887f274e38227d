//! The file-push daemon of Ringway.
#![allow(
    dead_code,
    unused_imports,
    reason = "the connection code that uses these rooms is not there yet"
)]

mod access_log;
mod cli;
mod http;

fn main() {}
