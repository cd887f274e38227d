//! The plan of a body that a processor looks at: one route, and what it may do.

use super::{
    Capabilities, Consistency, DirectIo, Encryption, Mode, Plan, Reason, Refusal, Route, SinkFacts,
    SinkKind, SourceFacts, Wishes, choose_mode, overwritable,
};

/// The plan where there is a processor.
pub(super) fn plan(
    source: &SourceFacts,
    sink: &SinkFacts,
    wishes: &Wishes,
    host: &Capabilities,
) -> Result<Plan, Refusal> {
    let forced = wishes.route.filter(|route| *route != Route::Mapped);
    if let Some(route) = forced {
        return Err(Refusal::ProcessingNeedsMapped(route));
    }
    if wishes.forbidden.contains(Route::Mapped) {
        return Err(Refusal::ProcessingForbidden);
    }
    if wishes.mode == Some(Mode::Ring) {
        return Err(Refusal::ProcessedInline);
    }
    let (mode, mode_fixed) = choose_mode(Route::Mapped, source, wishes, host);
    // The kernel seals into pages of its own before the call returns.
    let by_reference =
        may_refer(source, sink, wishes, host) && sink.kind != SinkKind::Tls(Encryption::KernelTls);
    Ok(Plan {
        route: Route::Mapped,
        mode,
        mode_fixed,
        reason: Reason::Processed,
        registered: false,
        overwritable: overwritable(source, sink, by_reference),
    })
}

/// Whether long unchanged runs may leave by reference: not where they must be sealed first.
#[must_use]
pub(crate) fn may_refer(
    source: &SourceFacts,
    sink: &SinkFacts,
    wishes: &Wishes,
    host: &Capabilities,
) -> bool {
    sink.takes_file_bytes()
        && wishes.consistency == Consistency::Shared
        && !wishes.forbidden.contains(Route::Splice)
        && host.splice
        && source.direct_io == DirectIo::No
}
