//! Arms of the library: each route and mode forced, and Auto. Empty until the library can send.
//!
//! The seam is the same as for every other arm; a route takes about twenty lines:
//!
//! ```ignore
//! struct Transfer { runtime: Runtime, file: ringway::File, socket: ringway::TcpStream, route: Route }
//!
//! impl StreamArm for Transfer {
//!     fn send(&mut self, span: Span) -> Result<()> {
//!         let source = self.file.slice(span.offset, span.len);
//!         self.runtime.block_on(transfer_file(source, &mut self.socket).route(self.route))?;
//!         Ok(())
//!     }
//! }
//!
//! pub(super) const ARMS: &[Arm] = &[Arm {
//!     name: "ringway-auto",
//!     about: "transfer_file, the library chooses",
//!     make: Make::Stream(|file, socket| Ok(Box::new(Transfer::new(file, socket, Route::Auto)?))),
//!     hidden: false,
//! }];
//! ```
//!
//! Two things to mind. The ring is made in `make`, so its set-up is not measured. And io-wq workers do not
//! inherit the CPU that the sender is pinned to: pin them too (`IORING_REGISTER_IOWQ_AFF`) or say in the
//! arm's sentence that they are free; their CPU time is counted either way.

use super::Arm;

pub(super) const ARMS: &[Arm] = &[];
