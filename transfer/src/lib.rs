//! One async call that moves a file into a socket, or a body out of one into a file, by the cheapest
//! safe route, and says which.
//!
//! ```no_run
//! use ringway::{runtime::{Runtime, fs::File, net::TcpStream}, transfer_file};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = Runtime::new()?;
//! let receipt = runtime.block_on(async {
//!     let file = File::open("archive.tar").await?;
//!     let mut stream = TcpStream::connect("127.0.0.1:9000".parse()?).await?;
//!     Ok::<_, Box<dyn std::error::Error>>(transfer_file(&file, &mut stream).await?)
//! })?;
//! println!("{receipt}");   // 1.00 GiB by splice (inline) in 0.24 s, 1 pipe of 1 MiB, 2310 inline splices
//! # Ok(()) }
//! ```
//!
//! # What to call
//!
//! | you have | call |
//! |---|---|
//! | a file, or a range of one | [`transfer_file(&file, &mut stream)`](transfer_file), with the options of [`Transfer`] |
//! | a header before it, parts of several files | [`Parts`] in the place of the file |
//! | a body that comes in | `transfer_file(`[`Incoming::exactly`]`(&mut stream, len), &mut file)`: see [`receive`] |
//! | a connection that is to be encrypted | [`tls::TlsAcceptor`] or [`tls::TlsConnector`]; then the same call |
//! | bytes to look at, to filter or to change | [`Transfer::process`]: see [`process`](mod@process) |
//! | a transfer to be ended from elsewhere | [`CancelToken`], which leaves an exact count |
//! | several threads, or another runtime | [`runtime::run_per_core`], [`runtime::Handle`], [`runtime::Runtime::embedded`] |
//!
//! # Routes
//!
//! The whole order is given at once (from this file, these bytes, to that socket), and what must be
//! done on the way decides the route. [`plan`] chooses, purely, and the [`Receipt`] repeats its reason.
//!
//! | route | the bytes go | taken |
//! |---|---|---|
//! | [`Route::Splice`] | page cache → pipe → socket, by reference | for large bodies of plain files |
//! | [`Route::Mapped`] | page cache → a [processor](process) → by reference or gathered → socket | where the caller looks at the bytes, or changes them |
//! | [`Route::Copy`] | file → buffer → socket, headers in the same packet | for small bodies, snapshots, and where splice is refused or useless |
//! | [`Route::Registered`] | file → registered buffer, sealed in place → socket | to a [`TlsStream`](tls::TlsStream) of TLS 1.3 |
//! | [`Route::KernelTls`] | page cache → pipe → socket, sealed by the kernel | to a [`TlsStream`](tls::TlsStream) that the kernel could take over |
//!
//! Each has three modes: in [`Mode::Ring`] the ring makes both hops, in [`Mode::Hybrid`] it reads and
//! the loop sends without waiting, in [`Mode::Inline`] the loop does both, for data that is resident.
//! A short copy that the ring must read is sent by it, too.
//! Left to itself a transfer decides for each quantum anew, so that a file that turns cold in the
//! middle makes a worker of the kernel wait, and not the event loop.
//!
//! The other way round, a body out of a stream into a file, is the same call: see [`receive`]. It goes
//! by [`Route::Splice`] (socket → pipe → file) or by [`Route::Copy`] (socket → buffer → file).
//!
//! # What is promised
//!
//! - The length is fixed when the transfer starts. A file that grows is not over-sent; one that shrinks
//!   ends in [`ErrorKind::Truncated`](error::ErrorKind::Truncated), never in padding or a hang.
//! - `sent` is exact in every outcome. After a drop in the middle the stream is poisoned until
//!   [`settle`](runtime::net::Stream::settle) has told how much went out. Over TLS it counts whole records;
//!   the rest of a half-sent one goes first when the stream is used again.
//! - A peer that stalls holds neither a thread of the kernel nor, after a moment, a pipe or a buffer:
//!   what it has not taken is read again.
//! - Nothing is silent: what could not be had as planned stands in the receipt.
//!
//! # What "done" means
//!
//! `Splice` sends by reference: the socket holds the pages of the file until the peer has
//! acknowledged them, which is after the call has resolved. A file that is overwritten *in place* in
//! that time is sent with its new bytes; replacing it by rename is always safe. Choose
//! [`Consistency::Snapshot`] where that matters, or wait for
//! [`drained`](runtime::net::TcpStream::drained) if the peer is on another host;
//! [`Receipt::overwritable`] says which of these applies.

#![forbid(unsafe_code)]

mod cancel;
mod destination;
pub mod error;
pub mod limits;
pub mod pace;
pub mod plan;
pub mod process;
#[doc(hidden)]
pub mod progress;
pub mod receipt;
pub mod receive;
mod route;
mod sink;
mod source;
pub mod tls;
mod transfer;

pub use cancel::CancelToken;
pub use destination::Destination;
pub use error::TransferError;
pub use limits::{Limits, Thresholds};
pub use plan::{Consistency, Mode, Route};
pub use receipt::Receipt;
pub use receive::{Decoded, Incoming, Origin, Receive, ReceiveError, Received};
pub use route::Work;
#[doc(hidden)]
pub use route::decisions as mapped;
pub use sink::Sink;
pub use source::{FileSlice, Parts, Source};
pub use transfer::{Ended, Progressed, Setting, Transfer, UnderWay, transfer_file};

/// The runtime that a transfer runs on: rings, files, sockets, pools, time.
pub use ringway_runtime as runtime;
