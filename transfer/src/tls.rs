//! TLS at the price of the cipher: rustls shakes hands, records are sealed in place.
//!
//! [`TlsAcceptor`] and [`TlsConnector`] take rustls's own configurations, and give a [`TlsStream`] that can
//! be read, written, and be the sink of a transfer. After the handshake the records of TLS 1.3 are ours: a
//! file is read into record slots of a registered buffer, sealed where it lies, and sent, so that the only
//! work on the payload in user space is the cipher. TLS 1.2 works through rustls's own records, which
//! copy; the receipt says so.
//!
//! # What is changed in a configuration
//!
//! In a clone, so that the caller's stays as it is: the extraction of secrets is switched on, because the
//! keys must come here; early data (0-RTT) is switched off, because it can be replayed; and an acceptor
//! follows the server's order of suites except for clients that list ChaCha20-Poly1305 first.
//!
//! # What is kept
//!
//! - An end of the stream without the peer's `close_notify` is an error, never an end: a truncation is seen.
//! - A half-sent record goes out before anything else, whatever was dropped or cancelled.
//! - A server's tickets leave in one packet with its first data, or by themselves after 200 ms; a
//!   `close_notify` leaves in one with the end of the connection.
//! - Keys are updated before they have sealed as many records as they may, and when the peer asks.
//! - While a transfer sends, the peer is heard: data is kept up to
//!   [`TlsLimits::unread_max_bytes`]. Beyond it receiving stops, and key updates and alerts that stand
//!   behind the unread data wait until it is read.
//! - An idle connection holds no buffer. Keys are wiped when they are dropped: by rustls in the secrets that
//!   it hands out, by AWS-LC in its contexts, by this module in what it keeps itself.

mod classic;
mod config;
mod engine;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod hello;
mod kernel;
mod limits;
#[cfg(test)]
mod pair;
pub(crate) mod record;
mod session;
mod stream;

pub use config::{TlsAcceptor, TlsConnector, crypto_provider};
pub use error::{TlsError, TlsErrorKind};
pub use limits::TlsLimits;
/// The library that shakes hands; its types stand in this module's signatures.
pub use rustls;
pub use session::KeyUpdates;
pub(crate) use session::Unsealed;
pub(crate) use stream::Received;
pub use stream::{Backend, TlsReader, TlsStream};
