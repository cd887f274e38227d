//! Stream sockets: TCP and Unix, listening and connected.
//!
//! Every socket is non-blocking, and nothing waits for one inside the kernel's workers: a full or
//! empty socket is waited for by a poll op, which holds neither a thread nor a buffer. So ten
//! thousand idle connections cost ten thousand slots and no more.

mod arrivals;
mod corking;
mod kernel_tls;
mod listener;
mod pieces;
mod receive;
mod sending;
mod stream;
mod tcp;
mod unix;

pub use crate::op::Torn;
pub use arrivals::Arrivals;
pub use corking::Corked;
pub use listener::ListenOptions;
pub use pieces::Piece;
pub use sending::Sending;
pub use stream::{Drained, Half, Poisoned, Readiness, Stream};
pub use tcp::{ConnectOptions, TcpListener, TcpStream};
pub use unix::{UnixListener, UnixStream};
