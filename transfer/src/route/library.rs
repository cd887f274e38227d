//! By the TLS library's own records, for what we cannot seal ourselves (TLS 1.2): file → buffer → the
//! library's copy, sealed → socket.
//!
//! Each record is the stream's as soon as it is sealed, so no buffer waits for the peer.

use ringway_runtime::Slots;

use super::Run;
use super::draft::{Draft, Drafting, Layout};
use super::session::Session;
use crate::error::{Side, TransferError};
use crate::plan::Route;
use crate::progress::Step;
use crate::tls::TlsError;
use crate::tls::record::PLAINTEXT_MAX;

/// One record's plaintext, with nothing around it.
const PLAINTEXT: Slots = Slots { start: 0, gap: 0, room: PLAINTEXT_MAX, tail: 0 };

/// Where the plaintext of a record comes together.
pub(super) fn drafting() -> Drafting {
    Drafting::new(Layout { slots: PLAINTEXT, bytes_max: PLAINTEXT_MAX as u64 })
}

pub(super) async fn drive(run: &mut Run<'_>) -> Result<(), TransferError> {
    let mut session = Session::of(run, Route::Copy)?;
    let outcome = copy(run, &mut session, drafting()).await;
    if outcome.is_err() {
        run.receipt.half_sent_bytes = session.tls.half_sent();
    }
    outcome
}

async fn copy(
    run: &mut Run<'_>,
    session: &mut Session<'_>,
    mut drafting: Drafting,
) -> Result<(), TransferError> {
    let mut begun = false;
    loop {
        run.watch.check().map_err(|kind| run.fail(kind))?;
        match run.progress.next(run.limits.quantum_bytes) {
            Step::Done => return Ok(()),
            Step::Truncated(truncated) => return Err(run.truncated(truncated)),
            Step::Drain { .. } => {}
            Step::SendBytes { .. } | Step::Fill(_) => {
                if std::mem::replace(&mut begun, true) {
                    session.listen(run)?;
                }
                session.flush(run).await?;
                let allowed = run.quantum().await?;
                let most = allowed.min(PLAINTEXT_MAX as u64);
                let draft = drafting.gather(run, most).await?;
                run.unused(allowed.saturating_sub(run.progress.staged()));
                if let Some(draft) = draft {
                    seal(run, session, draft)?;
                }
            }
        }
        session.flush(run).await?;
        run.give_way().await;
    }
}

/// Gives one record to the stream, which sends it before anything else.
pub(super) fn seal(
    run: &mut Run<'_>,
    session: &mut Session<'_>,
    draft: Draft,
) -> Result<(), TransferError> {
    let Draft { mut lease, filled, .. } = draft;
    lease.set_filled(filled);
    let mut record = Vec::new();
    let sealed = session.tls.seal_copy(&lease, &mut record);
    let failed = |unsealed| run.fail_io("seal", Side::Sink, TlsError::from(unsealed).into_io());
    let sealed = sealed.map_err(failed)? as u64;
    session.tls.keep(&record, sealed);
    session.keeps(sealed);
    run.rewind_behind(sealed);
    Ok(())
}
