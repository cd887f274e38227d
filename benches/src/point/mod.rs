//! The points: what is moved, over how many connections, from where and to whom.
//!
//! The points themselves are data: see `table`.

mod table;

pub(crate) use table::POINTS;

/// Binary kilobyte, in bytes.
pub(crate) const KIB: u64 = 1024;
/// Binary megabyte, in bytes.
pub(crate) const MIB: u64 = 1024 * KIB;
/// Binary gigabyte, in bytes.
pub(crate) const GIB: u64 = 1024 * MIB;

/// A named situation in which arms are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) name: &'static str,
    /// Bytes of one answer, or of the stream.
    pub(crate) body_len: u64,
    pub(crate) shape: Shape,
    pub(crate) cache: Cache,
    pub(crate) layout: Layout,
    pub(crate) reader: Reader,
    pub(crate) path: Path,
    pub(crate) choice: Choice,
}

/// How the bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One connection, the whole file once.
    Stream,
    /// Keep-alive connections; each request is answered with a header and a body.
    Exchange { connections: u32, requests_each: u32 },
}

/// Where the bytes of the file are when the clock starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    Hot,
    /// Dropped from the page cache, and seen not to be there.
    Cold,
}

/// How the file lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Dense,
    /// A hole with islands of data, some of them across 2 GiB and 4 GiB.
    Sparse,
}

/// How the other side reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Eager,
    /// No faster than this, over all connections, so that sockets are mostly full.
    Slow {
        bytes_per_second: u64,
    },
}

/// What lies between the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Loopback,
    /// A veth pair between two network namespaces.
    Veth,
}

/// Which runs take a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// `quick` and `full`.
    Quick,
    /// `full` only.
    Full,
    /// Only when named: for the harness's own tests, or to calibrate.
    Hidden,
}

/// A shape without its numbers: what an arm is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Exchange,
}

impl Point {
    /// The arm that the ratios are taken against.
    pub(crate) fn baseline(&self) -> &'static str {
        match self.kind() {
            Kind::Stream => "sendfile",
            Kind::Exchange => "epoll-sendfile",
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.shape {
            Shape::Stream => Kind::Stream,
            Shape::Exchange { .. } => Kind::Exchange,
        }
    }

    /// How many connections the sender accepts.
    pub(crate) fn connections(&self) -> u32 {
        match self.shape {
            Shape::Stream => 1,
            Shape::Exchange { connections, .. } => connections,
        }
    }

    /// What the file is cut into. A hot one is one slice, asked for again and again; a cold one has a
    /// slice for each request, far enough apart for one's read-ahead not to bring the next.
    pub(crate) fn slices(&self) -> Slices {
        let len = self.body_len;
        match self.shape {
            Shape::Exchange { connections, requests_each } if self.cache == Cache::Cold => {
                let stride = (len + MIB).next_multiple_of(64 * KIB);
                Slices { len, stride, count: u64::from(connections) * u64::from(requests_each) }
            }
            Shape::Stream | Shape::Exchange { .. } => Slices { len, stride: len, count: 1 },
        }
    }

    /// One line for the reader of the table.
    pub(crate) fn about(&self) -> String {
        let size = ringway::receipt::Iec(self.body_len);
        let cache = match self.cache {
            Cache::Hot => "hot",
            Cache::Cold => "cold",
        };
        let layout = if self.layout == Layout::Sparse { ", mostly holes" } else { "" };
        let path = match self.path {
            Path::Loopback => "loopback",
            Path::Veth => "a veth pair",
        };
        let reader = match self.reader {
            Reader::Eager => String::new(),
            Reader::Slow { bytes_per_second } => {
                format!(", to a reader of {} MB/s", bytes_per_second / 1_000_000)
            }
        };
        match self.shape {
            Shape::Stream => format!("one stream, {size:#} {cache}{layout}, over {path}{reader}"),
            Shape::Exchange { connections, .. } => format!(
                "{connections} keep-alive connection{}, header and {size:#} {cache}{layout} each time, over {path}{reader}",
                if connections == 1 { "" } else { "s" }
            ),
        }
    }
}

/// Bodies of one length at equal distances in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slices {
    pub(crate) len: u64,
    pub(crate) stride: u64,
    pub(crate) count: u64,
}

impl Slices {
    /// Where the file ends.
    pub(crate) fn file_len(&self) -> u64 {
        (self.count - 1) * self.stride + self.len
    }

    /// Where the slice with this number begins; `None` if there is no such slice.
    pub(crate) fn offset(&self, number: u64) -> Option<u64> {
        (number < self.count).then(|| number * self.stride)
    }
}

/// The point of this name.
pub(crate) fn named(name: &str) -> Option<&'static Point> {
    POINTS.iter().find(|point| point.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for point in POINTS {
            let same = POINTS.iter().filter(|other| other.name == point.name);
            assert_eq!(same.count(), 1, "{}", point.name);
        }
    }

    #[test]
    fn matrix_has_two_dozen_points_and_quick_a_third_of_them() {
        let of = |choice| POINTS.iter().filter(|point| point.choice == choice).count();
        let (quick, full) = (of(Choice::Quick), of(Choice::Full));
        assert_eq!(quick + full, 24);
        assert_eq!(quick, 8);
    }

    #[test]
    fn slices_of_a_cold_file_do_not_touch() {
        let point = named("cold-64k-x64").unwrap();
        let slices = point.slices();
        assert!(slices.stride >= slices.len + MIB);
        assert_eq!(slices.offset(0), Some(0));
        assert_eq!(slices.offset(slices.count), None);
        let last = slices.offset(slices.count - 1).unwrap();
        assert_eq!(last + slices.len, slices.file_len());
        assert_eq!(named("hot-64k-x64").unwrap().slices().file_len(), 64 * KIB);
    }
}
