//! The questions: at which sizes two ways are set against each other, for each threshold.

use ringway::Thresholds;

use super::crossover::Limit;
use crate::point::{KIB, MIB};

/// One threshold, and what decides it.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) field: &'static str,
    pub(super) of: fn(&Thresholds) -> u64,
    pub(super) set: fn(Thresholds, u64) -> Thresholds,
    pub(super) limit: Limit,
    pub(super) cases: &'static [Case],
}

/// A size at which two ways meet.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) bytes: u64,
    pub(super) point: &'static str,
    /// Taken up to the threshold, or below it.
    pub(super) below: &'static str,
    /// Taken above it, or from it on.
    pub(super) above: &'static str,
}

const fn case(bytes: u64, point: &'static str, below: &'static str, above: &'static str) -> Case {
    Case { bytes, point, below, above }
}

const COPY: &str = "serve-ringway-copy-inline";
const SPLICE: &str = "serve-ringway-splice-inline";
const COLD_COPY: &str = "serve-ringway-copy-hybrid";
const COLD_SPLICE: &str = "serve-ringway-splice-hybrid";
const STREAM_COPY: &str = "ringway-copy-inline";
const STREAM_COLD_COPY: &str = "ringway-copy-hybrid";
const NO_SENDFILE: &str = "serve-ringway-no-sendfile";
const CORKED: &str = "serve-ringway-corked";
const UNCORKED: &str = "serve-ringway-uncorked";
const CORK_HELD: &str = "serve-ringway-cork-held";
const CORK_NOT_HELD: &str = "serve-ringway-cork-not-held";

pub(super) const QUESTIONS: &[Question] = &[
    Question {
        field: "copy_max_bytes",
        of: |at| at.copy_max_bytes,
        set: Thresholds::with_copy_max_bytes,
        limit: Limit::UpTo,
        cases: &[
            case(KIB, "calibrate-1k", COPY, SPLICE),
            case(2 * KIB, "calibrate-2k", COPY, SPLICE),
            case(4 * KIB, "hot-4k-x64", COPY, SPLICE),
            case(8 * KIB, "calibrate-8k", COPY, SPLICE),
            case(16 * KIB, "hot-16k-x64", COPY, SPLICE),
            case(32 * KIB, "calibrate-32k", COPY, SPLICE),
        ],
    },
    Question {
        field: "cold_copy_max_bytes",
        of: |at| at.cold_copy_max_bytes,
        set: Thresholds::with_cold_copy_max_bytes,
        limit: Limit::UpTo,
        cases: &[
            case(4 * KIB, "cold-4k-x64", COLD_COPY, COLD_SPLICE),
            case(16 * KIB, "calibrate-cold-16k", COLD_COPY, COLD_SPLICE),
            case(32 * KIB, "calibrate-cold-32k", COLD_COPY, COLD_SPLICE),
            case(64 * KIB, "cold-64k-x64", COLD_COPY, COLD_SPLICE),
            case(128 * KIB, "calibrate-cold-128k", COLD_COPY, COLD_SPLICE),
        ],
    },
    Question {
        field: "gather_max_bytes",
        of: |at| at.gather_max_bytes,
        set: Thresholds::with_gather_max_bytes,
        limit: Limit::UpTo,
        cases: &[
            case(4 * KIB, "hot-16m", "ranges-4k-copy", "ranges-4k-splice"),
            case(16 * KIB, "hot-16m", "ranges-16k-copy", "ranges-16k-splice"),
            case(64 * KIB, "hot-16m", "ranges-64k-copy", "ranges-64k-splice"),
            case(256 * KIB, "hot-16m", "ranges-256k-copy", "ranges-256k-splice"),
        ],
    },
    // By the size of the pipe. None is smaller than 64 KiB: the kernel's own sendfile(2) has that.
    Question {
        field: "pipe_min_bytes",
        of: |at| at.pipe_min_bytes,
        set: Thresholds::with_pipe_min_bytes,
        limit: Limit::From,
        cases: &[
            case(64 * KIB, "hot-16m", STREAM_COPY, "pipe-64k-inline"),
            case(128 * KIB, "hot-16m", STREAM_COPY, "pipe-128k-inline"),
            case(256 * KIB, "hot-16m", STREAM_COPY, "pipe-256k-inline"),
        ],
    },
    Question {
        field: "worker_pipe_min_bytes",
        of: |at| at.worker_pipe_min_bytes,
        set: Thresholds::with_worker_pipe_min_bytes,
        limit: Limit::From,
        cases: &[
            case(64 * KIB, "cold-16m", STREAM_COLD_COPY, "pipe-64k-hybrid"),
            case(128 * KIB, "cold-16m", STREAM_COLD_COPY, "pipe-128k-hybrid"),
            case(256 * KIB, "cold-16m", STREAM_COLD_COPY, "pipe-256k-hybrid"),
        ],
    },
    // No more than 64 KiB: that is what the pipe inside of sendfile(2) holds.
    Question {
        field: "sendfile_max_bytes",
        of: |at| at.sendfile_max_bytes,
        set: Thresholds::with_sendfile_max_bytes,
        limit: Limit::UpTo,
        cases: &[
            case(16 * KIB, "hot-16k-x64", SPLICE, NO_SENDFILE),
            case(32 * KIB, "calibrate-32k", SPLICE, NO_SENDFILE),
            case(64 * KIB, "hot-64k-x64", SPLICE, NO_SENDFILE),
            case(256 * KIB, "hot-256k-x64", SPLICE, NO_SENDFILE),
            case(MIB, "hot-1m-x64", SPLICE, NO_SENDFILE),
        ],
    },
    Question {
        field: "cork_max_bytes",
        of: |at| at.cork_max_bytes,
        set: Thresholds::with_cork_max_bytes,
        limit: Limit::UpTo,
        cases: &[
            case(16 * KIB, "hot-16k-x64", CORKED, UNCORKED),
            case(64 * KIB, "hot-64k-x64", CORKED, UNCORKED),
            case(128 * KIB, "calibrate-128k", CORKED, UNCORKED),
            case(256 * KIB, "hot-256k-x64", CORKED, UNCORKED),
            case(MIB, "hot-1m-x64", CORKED, UNCORKED),
        ],
    },
    Question {
        field: "hold_cork_min_bytes",
        of: |at| at.hold_cork_min_bytes,
        set: Thresholds::with_hold_cork_min_bytes,
        limit: Limit::From,
        cases: &[
            case(64 * KIB, "hot-64k-x64", CORK_NOT_HELD, CORK_HELD),
            case(256 * KIB, "hot-256k-x64", CORK_NOT_HELD, CORK_HELD),
            case(MIB, "hot-1m-x64", CORK_NOT_HELD, CORK_HELD),
        ],
    },
];

/// A threshold that the mode `filter` is asked about, because only a processor makes runs.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) field: &'static str,
    pub(super) of: fn(&Thresholds) -> u64,
    pub(super) set: fn(Thresholds, u64) -> Thresholds,
    /// Lengths of runs, and the patterns that have them.
    pub(super) runs: &'static [(u64, &'static str)],
}

pub(super) const SCANS: &[Scan] = &[
    Scan {
        field: "reference_min_bytes",
        of: |at| at.reference_min_bytes,
        set: Thresholds::with_reference_min_bytes,
        runs: &[
            (KIB, "alternating"),
            (4 * KIB, "runs-4k"),
            (8 * KIB, "runs-8k"),
            (16 * KIB, "runs-16k"),
        ],
    },
    Scan {
        field: "reference_skewed_min_bytes",
        of: |at| at.reference_skewed_min_bytes,
        set: Thresholds::with_reference_skewed_min_bytes,
        runs: &[
            (4 * KIB, "skewed-4k"),
            (16 * KIB, "skewed-16k"),
            (64 * KIB, "skewed-64k"),
            (1024 * KIB, "skewed-1m"),
        ],
    },
];

/// A threshold that is asked about by receiving bodies into files: with the greatest value against none.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) field: &'static str,
    pub(super) of: fn(&Thresholds) -> u64,
    pub(super) set: fn(Thresholds, u64) -> Thresholds,
    pub(super) limit: Limit,
    /// Lengths of bodies.
    pub(super) lengths: &'static [u64],
}

pub(super) const BODIES: &[Body] = &[
    // Through a buffer against through a pipe.
    Body {
        field: "receive_copy_max_bytes",
        of: |at| at.receive_copy_max_bytes,
        set: Thresholds::with_receive_copy_max_bytes,
        limit: Limit::UpTo,
        lengths: &[4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB],
    },
    // As blocks come against reserved beforehand.
    Body {
        field: "reserve_min_bytes",
        of: |at| at.reserve_min_bytes,
        set: Thresholds::with_reserve_min_bytes,
        limit: Limit::From,
        lengths: &[64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB],
    },
];

/// Thresholds that are not asked about, and why.
pub(super) const NOT_ASKED: &[(&str, &str)] = &[
    (
        "receive_batch_min_bytes",
        "it says how long what came waits for more, and waiting has no price in CPU",
    ),
    ("cork_paced_max_bytes", "it is for connections that are paced, and none is here"),
];
