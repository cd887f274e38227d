//! The plan of a body that a processor looks at: one route, and the refusals of everything else.

use ringway::limits::Thresholds;
use ringway::plan::*;

const FILE: SourceFacts = SourceFacts {
    total_bytes: 1 << 30,
    file_bytes: 1 << 30,
    file_parts: 1,
    filesystem: Filesystem::Local,
    direct_io: DirectIo::No,
    residency: Residency::Unknown,
};
const REMOTE: SinkKind = SinkKind::Tcp;
const ANY: Wishes = Wishes {
    route: None,
    forbidden: RouteSet::EMPTY,
    mode: None,
    consistency: Consistency::Shared,
    processed: false,
};
const HOST: Capabilities =
    Capabilities { splice: true, splice_sqe: true, registered_buffers: true, pipe_bytes: 1 << 20 };

fn decide(source: SourceFacts, kind: SinkKind, wishes: Wishes) -> Result<Plan, Refusal> {
    let sink = SinkFacts { kind, same_host: false };
    plan(&source, &sink, &wishes, &HOST, &Thresholds::default())
}

fn told(source: SourceFacts, wishes: Wishes) -> String {
    match decide(source, REMOTE, wishes) {
        Ok(plan) => plan.to_string(),
        Err(refusal) => format!("refused: {refusal}"),
    }
}

#[test]
fn what_is_processed_has_one_route() {
    let processed = Wishes { processed: true, ..ANY };
    let resident = SourceFacts { residency: Residency::Resident, ..FILE };
    let without = |route| Wishes { forbidden: RouteSet::EMPTY.with(route), ..processed };
    let forced = |route| Wishes { route: Some(route), ..processed };
    for (source, wishes, answer) in [
        (FILE, processed, "map (hybrid): a processor looks at the bytes on their way"),
        (resident, processed, "map (inline): a processor looks at the bytes on their way"),
        (
            SourceFacts { file_bytes: 0, total_bytes: 300, ..FILE },
            processed,
            "map (inline): a processor looks at the bytes on their way",
        ),
        (FILE, forced(Route::Mapped), "map (hybrid): a processor looks at the bytes on their way"),
        (FILE, without(Route::Copy), "map (hybrid): a processor looks at the bytes on their way"),
        (
            FILE,
            forced(Route::Splice),
            "refused: splice is forced, and shows nothing to the processor that was given",
        ),
        (
            FILE,
            without(Route::Mapped),
            "refused: a processor was given, and the route that shows it the bytes is forbidden",
        ),
        (
            FILE,
            Wishes { mode: Some(Mode::Ring), ..processed },
            "refused: the mode ring was asked for, and what is processed is sent inline",
        ),
        (
            FILE,
            Wishes { route: Some(Route::Mapped), ..ANY },
            "refused: map is forced, and there is no processor",
        ),
    ] {
        assert_eq!(told(source, wishes), answer, "{source:?} {wishes:?}");
    }
    let overwritable = |wishes| decide(FILE, REMOTE, wishes).unwrap().overwritable;
    assert_eq!(overwritable(processed), Overwritable::OnceDrained);
    assert_eq!(overwritable(without(Route::Splice)), Overwritable::OnReturn);
    let snapshot = Wishes { consistency: Consistency::Snapshot, ..processed };
    assert_eq!(overwritable(snapshot), Overwritable::OnReturn);
}

#[test]
fn what_is_processed_is_sealed_over_tls_by_whoever_seals() {
    let processed = Wishes { processed: true, ..ANY };
    let sealed = Encryption::Registered { no_kernel_tls: "the kernel has none" };
    let library = Encryption::Library { because: "TLS 1.2" };
    // What the kernel seals is copied while it does, so it is safe to overwrite as well.
    for encryption in [sealed, library, Encryption::KernelTls] {
        let plan = decide(FILE, SinkKind::Tls(encryption), processed).unwrap();
        assert_eq!((plan.route, plan.reason), (Route::Mapped, Reason::Processed));
        assert_eq!(plan.overwritable, Overwritable::OnReturn, "{encryption:?}");
    }
}
