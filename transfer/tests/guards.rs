//! Each guard of a transfer is shown to bite: it is taken away, the bug that it stands against is
//! back, and a scene that otherwise passes fails, and says what it saw.
//!
//! | guard taken away | whose bug that is | what sees it |
//! |---|---|---|
//! | `PipeWithResidueKept` | liburing#412, curvine#1002 | canaries: the next client gets a foreign byte |
//! | `ShortReadIgnored` | R9 | canaries: what the last user left in the buffer is sent |
//! | `DropNotMarked` | Kafka | the counts: bytes went out, and the stream says nothing |
//! | `DroppedReceiveNotMarked` | Kafka | a stream in the middle of a body is read from |
//! | `PoisonIgnored` | Kafka | a stream with half a body takes a byte that must be refused |
//! | `StagedCountsAsSent` | Netty | the counts: the error tells of more than the peer has got |
//! | `MoreOnTail` | golang#10948 | the clock: the last bytes wait, five times |
//! | `OffsetsCut` | Netty | canaries: the bytes are from elsewhere in the file |
//! | `StalledPeerKeepsPipe` | R11 | the gauges: pipes stay lent |
//! | `StalledPeerIsCorked` | our own | the budget: a segment waits, again and again |
//! | `EndOfFileIgnored` | R6 | the budget: it spins |
//! | `PromisedLengthIgnored` | R6 | the account: more was staged than the body has |
//! | `HalfSentRecordRewound` | RFC 8446, 5.3 | rustls, as the peer: a record does not open |
//! | `HalfSentRecordForgotten` | R4 | rustls, as the peer: a record does not open |
//! | `DroppedSendForgotten` | our own | rustls, as the peer: a record does not open |
//! | `UnsealedRemainsKept` | R9 | the next user of the buffer finds plaintext |
//! | `KeyLimitIgnored` | RFC 8446, 5.5 | the counts: fewer new keys than were due |
//! | `KeyUpdateUnanswered` | RFC 8446, 4.6.3 | the counts: keys that were asked for and not made |
//! | `CutWindowSent` | RocketMQ, R7 | the counts: something of a window that was cut went out |
//! | `RunSentAgain` | RocketMQ | canaries: a byte comes where another one should |
//!
//! The guards that lie wholly in the runtime have their tests there, `runtime/tests/ring/guards.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scenes;
mod support;

use std::time::Duration;

use ringway::runtime::fault::{Sabotage, sabotage};
use ringway_testkit::{Bite, Quarantine, assert_bites, run_in_child};
use scenes::{aborted, borders, dropped, mutated, processed, received, sealed, stalled};

#[global_allocator]
static ALLOCATOR: Quarantine = Quarantine::new();

/// Two tests for a guard: the scene passes, and with the guard taken away it does not.
macro_rules! guard {
    ($name:ident, $sabotage:ident, $bite:expr, $scene:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn passes() {
                run_in_child(concat!(stringify!($name), "::passes"), $scene);
            }

            #[test]
            fn bites() {
                assert_bites(concat!(stringify!($name), "::bites"), $bite, || {
                    let _armed = sabotage(Sabotage::$sabotage);
                    $scene();
                });
            }
        }
    };
}

guard!(a_pipe_with_residue, PipeWithResidueKept, Bite::Says("a foreign byte was received"), || {
    aborted::abort_and_go_on(60);
});
guard!(a_short_read, ShortReadIgnored, Bite::Says("a foreign byte among"), || {
    aborted::read_short_into_used_buffers(60);
});
guard!(an_unmarked_stream, DropNotMarked, Bite::Says("bytes went out unnoticed"), || {
    dropped::drop_everywhere(300);
});
guard!(
    a_torn_stream,
    DroppedReceiveNotMarked,
    Bite::Says("the middle of a body was read as something else"),
    received::drop_and_read_on
);
guard!(
    a_poisoned_stream,
    PoisonIgnored,
    Bite::Says("called `Result::unwrap_err()` on an `Ok` value"),
    || {
        dropped::drop_everywhere(300);
    }
);
guard!(
    bytes_in_a_pipe,
    StagedCountsAsSent,
    Bite::Says("what it tells is not what went out"),
    || {
        dropped::cancel_at_random(100);
    }
);
guard!(a_corked_tail, MoreOnTail, Bite::Says("the tail waited"), borders::send_the_last_byte);
guard!(
    an_offset_of_32_bits,
    OffsetsCut,
    Bite::Says("a foreign byte was received"),
    borders::send_ranges_far_out
);
guard!(
    a_pipe_for_a_stalled_peer,
    StalledPeerKeepsPipe,
    Bite::Says("stalled peers hold something"),
    || {
        stalled::fill_sockets(64, Duration::from_secs(6));
    }
);
guard!(
    a_cork_on_a_full_socket,
    StalledPeerIsCorked,
    // Far longer than the scene takes when nothing waits.
    Bite::Hangs(Duration::from_secs(8)),
    stalled::trickle_through_a_small_socket
);
guard!(
    a_spinning_transfer,
    EndOfFileIgnored,
    // Far longer than the scene takes when it ends.
    Bite::Hangs(Duration::from_secs(12)),
    mutated::truncate_ahead
);
guard!(
    an_oversent_file,
    PromisedLengthIgnored,
    Bite::Says("staged beyond the extent"),
    mutated::grow
);

guard!(
    a_half_sent_record,
    HalfSentRecordRewound,
    Bite::Says("a record does not open"),
    sealed::stall_in_the_middle_of_records
);
guard!(
    the_rest_of_a_record,
    HalfSentRecordForgotten,
    Bite::Says("a record does not open"),
    sealed::stall_in_the_middle_of_records
);
guard!(
    a_send_that_was_dropped,
    DroppedSendForgotten,
    Bite::Says("a record does not open"),
    sealed::drop_in_the_middle_of_sends
);
guard!(
    unsealed_remains,
    UnsealedRemainsKept,
    Bite::Says("plaintext is left in the buffer"),
    sealed::look_into_the_buffer
);
guard!(
    a_spent_key,
    KeyLimitIgnored,
    Bite::Says("a key sealed more records than it may"),
    sealed::spend_keys
);
guard!(
    a_key_that_was_asked_for,
    KeyUpdateUnanswered,
    Bite::Says("the peer asked for new keys and got none"),
    sealed::ask_for_keys
);

guard!(
    a_cut_window,
    CutWindowSent,
    Bite::Says("something of a window that was cut went out"),
    processed::cut_under_the_processor
);
guard!(
    a_run_in_part,
    RunSentAgain,
    Bite::Says("a byte comes where another one should"),
    processed::stall_in_the_middle_of_runs
);

/// The table above and those in the runtime's tests name all guards that can be taken away.
#[test]
fn every_guard_is_in_a_table() {
    let rooms = [
        "tests/guards.rs",
        "../runtime/tests/ring/guards.rs",
        "../runtime/tests/regions/guards.rs",
    ];
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    // A published package stands alone.
    let tables = rooms.map(|room| std::fs::read_to_string(package.join(room)).unwrap_or_default());
    if tables.iter().any(String::is_empty) {
        return;
    }
    for guard in Sabotage::ALL {
        let row = format!("//! | `{guard:?}` |");
        let call = format!("{guard:?},");
        let tested = tables.iter().any(|table| table.contains(&row) && table.contains(&call));
        assert!(tested, "{guard:?} is in no table, or not tested");
    }
}
