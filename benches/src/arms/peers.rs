//! What others would use today: tokio, tokio-uring, monoio, compio; in the build with `--features peers`.

use super::{Arm, Make, Wire};
use crate::point::{Choice, Kind};

#[cfg(feature = "peers")]
mod copying;
#[cfg(feature = "peers")]
mod tokio_serve;

const fn missing(name: &'static str, kind: Kind, why: &'static str) -> Arm {
    let make = Make::Missing(kind, why);
    let (choice, wire) = (Choice::Full, Wire::Plain);
    Arm { name, about: why, make, choice, copies: 0, hot_only: false, wire }
}

const MONOIO_ZERO_COPY: Arm = missing(
    "peer-monoio-zero-copy",
    Kind::Stream,
    "monoio 0.2 has zero_copy between sockets only: its File is no source for it",
);

#[cfg(not(feature = "peers"))]
const NOT_BUILT: &str = "this harness was built without --features peers";

#[cfg(not(feature = "peers"))]
pub(super) const ARMS: &[Arm] = &[
    missing("peer-tokio-copy", Kind::Stream, NOT_BUILT),
    missing("peer-tokio-uring", Kind::Stream, NOT_BUILT),
    missing("peer-monoio", Kind::Stream, NOT_BUILT),
    MONOIO_ZERO_COPY,
    missing("peer-compio", Kind::Stream, NOT_BUILT),
    missing("serve-peer-tokio-copy", Kind::Exchange, NOT_BUILT),
];

#[cfg(feature = "peers")]
pub(super) const ARMS: &[Arm] = &[
    Arm::stream(
        "peer-tokio-copy",
        "tokio, one thread and its blocking pool; tokio::io::copy with 64 KiB buffers",
        2,
        |file, socket| Ok(Box::new(copying::Tokio::new(file, socket)?)),
    ),
    Arm::stream(
        "peer-tokio-uring",
        "tokio-uring; read_at and write_all, one 64 KiB buffer",
        2,
        |file, socket| Ok(Box::new(copying::TokioUring::new(file, socket)?)),
    ),
    Arm::stream(
        "peer-monoio",
        "monoio; read_at and write_all, one 64 KiB buffer",
        2,
        |file, socket| Ok(Box::new(copying::Monoio::new(file, socket)?)),
    ),
    MONOIO_ZERO_COPY,
    Arm::stream(
        "peer-compio",
        "compio; read_at and write_all, one 64 KiB buffer",
        2,
        |file, socket| Ok(Box::new(copying::Compio::new(&file, socket)?)),
    ),
    Arm::exchange(
        "serve-peer-tokio-copy",
        "tokio, one thread and its blocking pool; write_all and tokio::io::copy",
        2,
        |file, slices, sockets| Ok(Box::new(tokio_serve::Server::new(&file, slices, sockets)?)),
    ),
];
