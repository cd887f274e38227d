//! Every point, the most telling ones first: a run that ends early has those.

use super::{Cache, Choice, GIB, KIB, Layout, MIB, Path, Point, Reader, Shape};

/// The matrix, and below it the points that run only when named.
pub(crate) const POINTS: &[Point] = &[
    quick(exchange("hot-64k-x64", 64 * KIB, 64, 160)),
    quick(stream("hot-1g", GIB)),
    quick(exchange("hot-4k-x64", 4 * KIB, 64, 400)),
    quick(cold(exchange("cold-64k-x64", 64 * KIB, 64, 6))),
    quick(exchange("hot-1m-x64", MIB, 64, 20)),
    quick(cold(stream("cold-16m", 16 * MIB))),
    quick(slow(stream("slow-16m", 16 * MIB))),
    quick(veth(exchange("veth-64k-x64", 64 * KIB, 64, 200))),
    exchange("hot-16k-x64", 16 * KIB, 64, 400),
    exchange("hot-256k-x64", 256 * KIB, 64, 80),
    stream("hot-16m", 16 * MIB),
    veth(stream("veth-1g", GIB)),
    cold(stream("cold-1g", GIB)),
    cold(exchange("cold-4k-x64", 4 * KIB, 64, 8)),
    cold(exchange("cold-1m-x64", MIB, 64, 2)),
    exchange("hot-4k-x1024", 4 * KIB, 1024, 25),
    exchange("hot-64k-x1024", 64 * KIB, 1024, 20),
    exchange("hot-4k-x1", 4 * KIB, 1, 5000),
    exchange("hot-64k-x1", 64 * KIB, 1, 4000),
    exchange("hot-1m-x1", MIB, 1, 600),
    slow(exchange("slow-256k-x64", 256 * KIB, 64, 2)),
    veth(exchange("veth-4k-x64", 4 * KIB, 64, 300)),
    veth(exchange("veth-1m-x64", MIB, 64, 15)),
    Point { layout: Layout::Sparse, ..stream("sparse-5g", 5 * GIB) },
    hidden(stream("self-test-stream", 4 * MIB + 77)),
    hidden(exchange("self-test-exchange", 20 * KIB + 13, 3, 5)),
    hidden(cold(stream("self-test-cold", MIB + 5))),
    hidden(cold(exchange("self-test-cold-exchange", 20 * KIB + 13, 3, 2))),
    hidden(slow(stream("self-test-slow", MIB + 5))),
    hidden(veth(exchange("self-test-veth", 20 * KIB + 13, 3, 5))),
    hidden(Point { layout: Layout::Sparse, ..stream("self-test-sparse", 300 * MIB) }),
    hidden(exchange("calibrate-1k", KIB, 64, 300)),
    hidden(exchange("calibrate-2k", 2 * KIB, 64, 300)),
    hidden(exchange("calibrate-8k", 8 * KIB, 64, 300)),
    hidden(exchange("calibrate-32k", 32 * KIB, 64, 200)),
    hidden(exchange("calibrate-128k", 128 * KIB, 64, 120)),
    hidden(cold(exchange("calibrate-cold-16k", 16 * KIB, 64, 8))),
    hidden(cold(exchange("calibrate-cold-32k", 32 * KIB, 64, 8))),
    hidden(cold(exchange("calibrate-cold-128k", 128 * KIB, 64, 6))),
];

const fn stream(name: &'static str, body_len: u64) -> Point {
    Point {
        name,
        body_len,
        shape: Shape::Stream,
        cache: Cache::Hot,
        layout: Layout::Dense,
        reader: Reader::Eager,
        path: Path::Loopback,
        choice: Choice::Full,
    }
}

/// As many requests as give a fast sender one or two tenths of a second.
const fn exchange(
    name: &'static str,
    body_len: u64,
    connections: u32,
    requests_each: u32,
) -> Point {
    let shape = Shape::Exchange { connections, requests_each };
    Point { shape, ..stream(name, body_len) }
}

const fn quick(point: Point) -> Point {
    Point { choice: Choice::Quick, ..point }
}

const fn hidden(point: Point) -> Point {
    Point { choice: Choice::Hidden, ..point }
}

const fn cold(point: Point) -> Point {
    Point { cache: Cache::Cold, ..point }
}

const fn slow(point: Point) -> Point {
    Point { reader: Reader::Slow { bytes_per_second: 100_000_000 }, ..point }
}

const fn veth(point: Point) -> Point {
    Point { path: Path::Veth, ..point }
}
