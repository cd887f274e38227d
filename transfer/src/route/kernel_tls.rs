//! Into a stream whose records the kernel seals: the calls of a plain stream, with an ear for the peer.
//!
//! File bytes go by splice, or by copies where those are cheaper or splice cannot be had; the kernel
//! seals either. What is different from a plain stream: the session may owe something (an answer to a key
//! update, an alert), the key has a limit, and zero-copy sends are refused by the kernel. What a processor
//! leaves is sent by the route `Mapped`, with the same ear: see `Run::quantum` and `Run::writable`.

use ringway_runtime as runtime;

use super::session::Session;
use super::{Ready, Run, copy, splice};
use crate::error::{Side, TransferError};
use crate::plan::{DirectIo, Filesystem, Route};

pub(super) async fn drive(run: &mut Run<'_>) -> Result<(), TransferError> {
    if copies(run) { copy::drive(run).await } else { splice::drive(run).await }
}

/// Few bytes share a record with their header; and some files cannot be spliced.
fn copies(run: &Run<'_>) -> bool {
    let facts = &run.body.facts;
    facts.file_bytes <= run.thresholds.copy_max_bytes
        || facts.filesystem == Filesystem::Pseudo
        || facts.direct_io == DirectIo::Misaligned
        || !runtime::capabilities().is_ok_and(|here| here.splice)
}

/// Hears the peer, says what is owed, and tells how many bytes may be sent under the key; `None` if
/// `holding` is over before all is said.
pub(super) async fn allowance(
    run: &mut Run<'_>,
    holding: bool,
) -> Result<Option<u64>, TransferError> {
    let mut session = Session::of(run, Route::KernelTls)?;
    // At the beginning nothing has been said that the last read did not hear.
    if run.progress.accepted() > 0 {
        session.hear(run)?;
    }
    loop {
        if !session.flush_holding(run, holding).await? {
            return Ok(None);
        }
        match session.tls.allowance() {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if wait(run, holding).await? == Ready::HoldOver {
                    return Ok(None);
                }
            }
            Err(error) => return Err(run.fail_io("send", Side::Sink, error)),
        }
    }
}

/// Waits until the socket takes bytes again, and hears the peer meanwhile.
pub(super) async fn wait(run: &mut Run<'_>, holding: bool) -> Result<Ready, TransferError> {
    let mut session = Session::of(run, Route::KernelTls)?;
    session.tls.push();
    session.wait(run, holding).await
}
