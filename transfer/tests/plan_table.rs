//! The cases of `plan`, each with its answer, and what no case may break.

use proptest::prelude::*;
use ringway::error::{Blame, TransferError};
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
const REMOTE: SinkFacts = SinkFacts { kind: SinkKind::Tcp, same_host: false };
const ANY: Wishes = Wishes {
    route: None,
    forbidden: RouteSet::EMPTY,
    mode: None,
    consistency: Consistency::Shared,
    processed: false,
};
const HOST: Capabilities =
    Capabilities { splice: true, splice_sqe: true, registered_buffers: true, pipe_bytes: 1 << 20 };

fn decide(source: &SourceFacts, wishes: &Wishes, host: &Capabilities) -> Result<Plan, Refusal> {
    plan(source, &REMOTE, wishes, host, &Thresholds::default())
}

fn told(source: SourceFacts, wishes: Wishes, host: Capabilities) -> String {
    match decide(&source, &wishes, &host) {
        Ok(plan) => plan.to_string(),
        Err(refusal) => format!("refused: {refusal}"),
    }
}

fn of_bytes(file_bytes: u64) -> SourceFacts {
    SourceFacts { file_bytes, total_bytes: file_bytes + 300, ..FILE }
}

fn on(filesystem: Filesystem) -> SourceFacts {
    SourceFacts { filesystem, ..FILE }
}

#[test]
fn the_source_decides() {
    let resident = SourceFacts { residency: Residency::Resident, ..FILE };
    let records = SourceFacts { file_parts: 1 << 20, ..FILE };
    let direct = |direct_io| SourceFacts { direct_io, ..resident };
    for (source, answer) in [
        (FILE, "splice (hybrid): large body of a plain file: splicing saves the copy"),
        (resident, "splice (inline): large body of a plain file: splicing saves the copy"),
        (of_bytes(0), "copy (inline): nothing comes from a file: memory is sent as it is"),
        (of_bytes(1), "copy (ring): small body: one buffer and one send beat a pipe"),
        (of_bytes(16384), "copy (ring): small body: one buffer and one send beat a pipe"),
        (of_bytes(16385), "splice (hybrid): large body of a plain file: splicing saves the copy"),
        (
            SourceFacts { residency: Residency::Resident, ..of_bytes(4096) },
            "copy (inline): small body: one buffer and one send beat a pipe",
        ),
        (
            SourceFacts { residency: Residency::Resident, ..of_bytes(4097) },
            "splice (inline): large body of a plain file: splicing saves the copy",
        ),
        (records, "copy (hybrid): many short ranges: gathering them beats a splice for each"),
        (
            direct(DirectIo::Aligned),
            "splice (hybrid): large body of a plain file: splicing saves the copy",
        ),
        (
            direct(DirectIo::Misaligned),
            "copy (hybrid): an O_DIRECT range that is not aligned cannot be spliced",
        ),
        (
            on(Filesystem::Memory),
            "splice (inline): large body of a plain file: splicing saves the copy",
        ),
        (
            on(Filesystem::Unknown),
            "splice (hybrid): large body of a plain file: splicing saves the copy",
        ),
        (
            on(Filesystem::Network),
            "copy (hybrid): a network or shared-folder filesystem: bytes are copied to be safe",
        ),
        (on(Filesystem::Fuse), "copy (hybrid): a FUSE filesystem: bytes are copied to be safe"),
        (
            on(Filesystem::Pseudo),
            "copy (hybrid): the file is on a pseudo filesystem, which cannot be spliced",
        ),
    ] {
        assert_eq!(told(source, ANY, HOST), answer, "{source:?}");
    }
}

#[test]
fn the_host_decides() {
    let resident = SourceFacts { residency: Residency::Resident, ..FILE };
    let pipe = |pipe_bytes| Capabilities { pipe_bytes, ..HOST };
    let no_sqe = Capabilities { splice_sqe: false, ..HOST };
    for (source, host, answer) in [
        (FILE, Capabilities { splice: false, ..HOST }, "copy (hybrid): splice does not work here"),
        (FILE, pipe(0), "copy (hybrid): no pipe is free and none can be made"),
        (FILE, pipe(8192), "copy (hybrid): the pipe to be had is too small to beat a copy"),
        (FILE, pipe(65536), "copy (hybrid): the pipe to be had is too small to beat a copy"),
        (
            resident,
            pipe(65536),
            "splice (inline): large body of a plain file: splicing saves the copy",
        ),
        (FILE, no_sqe, "copy (hybrid): the file may be cold and the ring has no splice to wait in"),
        (resident, no_sqe, "splice (inline): large body of a plain file: splicing saves the copy"),
    ] {
        assert_eq!(told(source, ANY, host), answer, "{source:?} {host:?}");
    }
}

#[test]
fn the_wishes_decide() {
    let splice = Wishes { route: Some(Route::Splice), ..ANY };
    let copy = Wishes { route: Some(Route::Copy), ..ANY };
    let no_splice = Wishes { forbidden: RouteSet::EMPTY.with(Route::Splice), ..ANY };
    let no_copy = Wishes { forbidden: RouteSet::EMPTY.with(Route::Copy), ..ANY };
    let snapshot = Wishes { consistency: Consistency::Snapshot, ..ANY };
    let ring = Wishes { mode: Some(Mode::Ring), ..ANY };
    let inline = Wishes { mode: Some(Mode::Inline), ..ANY };
    for (source, wishes, answer) in [
        (of_bytes(1), splice, "splice (hybrid): the caller forced this route"),
        (on(Filesystem::Network), splice, "splice (hybrid): the caller forced this route"),
        (FILE, copy, "copy (hybrid): the caller forced this route"),
        (
            FILE,
            no_splice,
            "copy (hybrid): the caller forbade the route that would have been chosen",
        ),
        (of_bytes(1), no_splice, "copy (ring): small body: one buffer and one send beat a pipe"),
        (
            of_bytes(1),
            no_copy,
            "splice (hybrid): the caller forbade the route that would have been chosen",
        ),
        (FILE, no_copy, "splice (hybrid): large body of a plain file: splicing saves the copy"),
        (
            FILE,
            snapshot,
            "copy (hybrid): a snapshot was asked for: splicing would send later changes",
        ),
        (FILE, ring, "splice (ring): large body of a plain file: splicing saves the copy"),
        (FILE, inline, "splice (inline): large body of a plain file: splicing saves the copy"),
        (of_bytes(1), ring, "copy (ring): small body: one buffer and one send beat a pipe"),
    ] {
        assert_eq!(told(source, wishes, HOST), answer, "{source:?} {wishes:?}");
    }
}

#[test]
fn contradictions_are_refused_with_a_culprit_and_a_remedy() {
    let splice = Wishes { route: Some(Route::Splice), ..ANY };
    let none = RouteSet::EMPTY.with(Route::Splice).with(Route::Copy);
    let no_copy = Wishes { forbidden: RouteSet::EMPTY.with(Route::Copy), ..ANY };
    let misaligned = SourceFacts { direct_io: DirectIo::Misaligned, ..FILE };
    let no_sqe = Capabilities { splice_sqe: false, ..HOST };
    for (source, wishes, host, answer, blame, remedy) in [
        (
            FILE,
            Wishes { forbidden: none, ..ANY },
            HOST,
            "refused: every route is forbidden",
            Blame::Caller,
            "allow at least one route",
        ),
        (
            FILE,
            Wishes { forbidden: RouteSet::EMPTY.with(Route::Splice), ..splice },
            HOST,
            "refused: splice is both forced and forbidden",
            Blame::Caller,
            "do not forbid the route that is forced",
        ),
        (
            FILE,
            Wishes { consistency: Consistency::Snapshot, ..splice },
            HOST,
            "refused: a snapshot was asked for, but only a splice is allowed",
            Blame::Caller,
            "allow the copy, or ask for Consistency::Shared",
        ),
        (
            on(Filesystem::Pseudo),
            splice,
            HOST,
            "refused: only a splice is allowed, but the file is on a pseudo filesystem, which cannot \
             be spliced",
            Blame::File,
            "allow the copy",
        ),
        (
            misaligned,
            no_copy,
            HOST,
            "refused: only a splice is allowed, but an O_DIRECT range that is not aligned cannot be \
             spliced",
            Blame::Caller,
            "allow the copy, or align the range to 4096 bytes",
        ),
        (
            FILE,
            no_copy,
            Capabilities { pipe_bytes: 0, ..HOST },
            "refused: only a splice is allowed, but no pipe is free and none can be made",
            Blame::Host,
            "allow the copy, or raise fs.pipe-user-pages-soft",
        ),
        (
            FILE,
            Wishes { mode: Some(Mode::Ring), ..splice },
            no_sqe,
            "refused: only a splice is allowed, but the ring has no splice, which the forced mode \
             needs",
            Blame::Host,
            "allow the copy, or the mode Inline",
        ),
    ] {
        assert_eq!(told(source, wishes, host), answer);
        let error = TransferError::from(decide(&source, &wishes, &host).unwrap_err());
        assert_eq!((error.blame(), error.remedy(), error.sent()), (blame, remedy, 0));
    }
}

#[test]
fn who_holds_the_pages_afterwards() {
    let sink = |kind, same_host| SinkFacts { kind, same_host };
    let direct = SourceFacts { direct_io: DirectIo::Aligned, ..FILE };
    for (source, sink, answer) in [
        (FILE, sink(SinkKind::Tcp, false), Overwritable::OnceDrained),
        (FILE, sink(SinkKind::Tcp, true), Overwritable::Unknowable),
        (FILE, sink(SinkKind::Unix, true), Overwritable::Unknowable),
        (of_bytes(1), sink(SinkKind::Unix, true), Overwritable::OnReturn),
        (direct, sink(SinkKind::Tcp, true), Overwritable::OnReturn),
    ] {
        let plan = plan(&source, &sink, &ANY, &HOST, &Thresholds::default()).unwrap();
        assert_eq!(plan.overwritable, answer, "{source:?} {sink:?}");
    }
}

#[test]
fn the_mode_follows_the_residency_unless_it_is_fixed() {
    let free = decide(&FILE, &ANY, &HOST).unwrap();
    assert_eq!(free.mode_for(Residency::Resident), Mode::Inline);
    assert_eq!(free.mode_for(Residency::Cold), Mode::Hybrid);
    let forced = decide(&FILE, &Wishes { mode: Some(Mode::Ring), ..ANY }, &HOST).unwrap();
    assert_eq!(forced.mode_for(Residency::Resident), Mode::Ring);
    let network = decide(&on(Filesystem::Network), &ANY, &HOST).unwrap();
    assert_eq!(network.mode_for(Residency::Resident), Mode::Hybrid);
}

fn sink_of(encryption: Encryption) -> SinkFacts {
    SinkFacts { kind: SinkKind::Tls(encryption), same_host: false }
}

const SEALED: Encryption = Encryption::Registered { no_kernel_tls: "the kernel has none" };
const LIBRARY: Encryption = Encryption::Library { because: "the peer speaks TLS 1.2" };

fn told_encrypted(source: SourceFacts, encryption: Encryption, wishes: Wishes) -> String {
    match plan(&source, &sink_of(encryption), &wishes, &HOST, &Thresholds::default()) {
        Ok(plan) => plan.to_string(),
        Err(refusal) => format!("refused: {refusal}"),
    }
}

#[test]
fn who_encrypts_decides_for_an_encrypted_stream() {
    let resident = SourceFacts { residency: Residency::Resident, ..FILE };
    let snapshot = Wishes { consistency: Consistency::Snapshot, ..ANY };
    let forced = Wishes { route: Some(Route::Registered), mode: Some(Mode::Ring), ..ANY };
    let copy = Wishes { route: Some(Route::Copy), ..ANY };
    let sealed = "the stream is encrypted: records are sealed in a registered buffer; no kernel TLS \
                  here: the kernel has none";
    let library = "the stream is encrypted (the peer speaks TLS 1.2), from copies";
    for (source, encryption, wishes, answer) in [
        (FILE, SEALED, ANY, format!("registered (hybrid): {sealed}")),
        (resident, SEALED, ANY, format!("registered (inline): {sealed}")),
        (of_bytes(1), SEALED, ANY, format!("registered (hybrid): {sealed}")),
        (of_bytes(0), SEALED, ANY, format!("registered (inline): {sealed}")),
        (on(Filesystem::Network), SEALED, snapshot, format!("registered (hybrid): {sealed}")),
        (FILE, SEALED, forced, "registered (ring): the caller forced this route".to_owned()),
        (FILE, LIBRARY, ANY, format!("copy (hybrid): {library}")),
        (resident, LIBRARY, copy, format!("copy (inline): {library}")),
        (
            FILE,
            Encryption::KernelTls,
            ANY,
            "kernel-tls (hybrid): the stream is encrypted, and the kernel makes the records"
                .to_owned(),
        ),
    ] {
        assert_eq!(told_encrypted(source, encryption, wishes), answer, "{encryption:?} {wishes:?}");
    }
}

#[test]
fn no_plain_byte_is_forced_into_an_encrypted_stream_and_no_record_into_a_plain_one() {
    let force = |route| Wishes { route: Some(route), ..ANY };
    let forbid = |route| Wishes { forbidden: RouteSet::EMPTY.with(route), ..ANY };
    for (encryption, wishes, answer) in [
        (
            SEALED,
            force(Route::Splice),
            "refused: the stream is encrypted here, so splice cannot take it",
        ),
        (
            SEALED,
            force(Route::Copy),
            "refused: the stream is encrypted here, so copy cannot take it",
        ),
        (SEALED, force(Route::KernelTls), "refused: no kernel TLS here: the kernel has none"),
        (
            Encryption::KernelTls,
            force(Route::Splice),
            "refused: the stream is encrypted by the kernel, so splice cannot take it",
        ),
        (
            LIBRARY,
            force(Route::Registered),
            "refused: the stream is encrypted (the peer speaks TLS 1.2), so registered cannot \
             take it",
        ),
        (
            SEALED,
            forbid(Route::Registered),
            "refused: registered is the only route of this encrypted stream, and it is forbidden",
        ),
        (
            SEALED,
            Wishes { forbidden: forbid(Route::Splice).forbidden, ..force(Route::Splice) },
            "refused: splice is both forced and forbidden",
        ),
    ] {
        assert_eq!(told_encrypted(FILE, encryption, wishes), answer);
        let sink = sink_of(encryption);
        let refusal = plan(&FILE, &sink, &wishes, &HOST, &Thresholds::default()).unwrap_err();
        assert_eq!(refusal.blame(), Blame::Caller);
        assert!(!refusal.remedy().is_empty());
    }
    for route in [Route::Registered, Route::KernelTls] {
        assert_eq!(
            told(FILE, force(route), HOST),
            format!("refused: {route} makes TLS records, and this stream is not encrypted")
        );
        assert_eq!(told(FILE, forbid(route), HOST), told(FILE, ANY, HOST));
    }
}

fn sources() -> impl Strategy<Value = SourceFacts> {
    let filesystem = prop::sample::select(vec![
        Filesystem::Local,
        Filesystem::Memory,
        Filesystem::Network,
        Filesystem::Fuse,
        Filesystem::Pseudo,
        Filesystem::Unknown,
    ]);
    let direct_io = prop::sample::select(vec![
        DirectIo::No,
        DirectIo::No,
        DirectIo::Aligned,
        DirectIo::Misaligned,
    ]);
    let residency =
        prop::sample::select(vec![Residency::Resident, Residency::Cold, Residency::Unknown]);
    let bytes = prop_oneof![Just(0u64), 0u64..40_000, any::<u64>()];
    (bytes.clone(), bytes, any::<u16>(), filesystem, direct_io, residency).prop_map(
        |(total_bytes, file_bytes, parts, filesystem, direct_io, residency)| SourceFacts {
            total_bytes,
            file_bytes,
            file_parts: parts.into(),
            filesystem,
            direct_io,
            residency,
        },
    )
}

fn wishes() -> impl Strategy<Value = Wishes> {
    let route = prop::option::of(prop::sample::select(Route::ALL.to_vec()));
    let mode = prop::option::of(prop::sample::select(vec![Mode::Ring, Mode::Hybrid, Mode::Inline]));
    let flags = any::<[bool; 4]>();
    (route, mode, flags).prop_map(|(route, mode, [no_splice, no_copy, no_records, snapshot])| {
        let mut forbidden = RouteSet::EMPTY;
        if no_records {
            forbidden = forbidden.with(Route::Registered).with(Route::KernelTls);
        }
        if no_splice {
            forbidden = forbidden.with(Route::Splice);
        }
        if no_copy {
            forbidden = forbidden.with(Route::Copy);
        }
        let consistency = if snapshot { Consistency::Snapshot } else { Consistency::Shared };
        Wishes { route, forbidden, mode, consistency, processed: false }
    })
}

fn hosts() -> impl Strategy<Value = Capabilities> {
    let pipe = prop_oneof![Just(0u64), Just(65536u64), Just(1 << 20), any::<u64>()];
    (any::<[bool; 3]>(), pipe).prop_map(|([splice, splice_sqe, registered_buffers], pipe_bytes)| {
        Capabilities { splice, splice_sqe, registered_buffers, pipe_bytes }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_plan_breaks_a_wish(source in sources(), wishes in wishes(), host in hosts()) {
        match decide(&source, &wishes, &host) {
            Ok(plan) => {
                prop_assert!(!wishes.forbidden.contains(plan.route));
                prop_assert!(wishes.route.is_none_or(|route| route == plan.route));
                prop_assert!(wishes.mode.is_none_or(|mode| mode == plan.mode && plan.mode_fixed));
                // Of a short copy the ring sends as well what it must read.
                let short = Thresholds::default().cold_copy_max_bytes;
                let is_short = plan.route == Route::Copy && source.file_bytes <= short;
                let by_residency = match plan.mode_for(source.residency) {
                    Mode::Hybrid if is_short && !plan.mode_fixed => Mode::Ring,
                    other => other,
                };
                prop_assert_eq!(by_residency, plan.mode);
                if wishes.consistency == Consistency::Snapshot {
                    prop_assert_eq!(plan.route, Route::Copy);
                    prop_assert_eq!(plan.overwritable, Overwritable::OnReturn);
                }
                if plan.route == Route::Splice && source.file_bytes > 0 {
                    prop_assert!(host.splice && host.pipe_bytes > 0);
                    prop_assert!(host.splice_sqe || plan.mode == Mode::Inline);
                }
                prop_assert!(!plan.registered || host.registered_buffers);
            }
            Err(refusal) => {
                let asked = wishes.route.is_some() || wishes.forbidden != RouteSet::EMPTY;
                prop_assert!(asked, "without such a wish there is always a way: {refusal}");
                prop_assert!(!refusal.remedy().is_empty());
            }
        }
    }

    #[test]
    fn an_encrypted_stream_takes_its_own_route_or_none(
        source in sources(), wishes in wishes(), host in hosts(), which in 0usize..3,
    ) {
        let (encryption, only) = [
            (SEALED, Route::Registered),
            (Encryption::KernelTls, Route::KernelTls),
            (LIBRARY, Route::Copy),
        ][which];
        match plan(&source, &sink_of(encryption), &wishes, &host, &Thresholds::default()) {
            Ok(plan) => {
                prop_assert_eq!(plan.route, only);
                prop_assert!(wishes.route.is_none_or(|route| route == only));
                prop_assert!(!wishes.forbidden.contains(only));
                prop_assert_eq!(plan.overwritable, Overwritable::OnReturn);
            }
            Err(refusal) => {
                let other = wishes.route.is_some_and(|route| route != only);
                prop_assert!(other || wishes.forbidden.contains(only), "{}", refusal);
            }
        }
    }
}
