//! Byte ranges (RFC 9110, section 14): what part of a file a request asks for.
//!
//! One range is served as 206, a range that the file cannot satisfy is 416, and everything else is
//! answered with the whole file, which the RFC allows always: an unknown unit, a malformed field,
//! and several ranges in one field. The last is also the answer to range floods: a list of a
//! thousand overlapping ranges costs one file, not a thousand.

/// The part of a file that answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of it, as 200.
    Whole,
    /// `len` bytes from `start`, as 206; never empty and never past the end.
    Part { start: u64, len: u64 },
    /// Nothing, as 416 with the length of the file.
    Unsatisfiable,
}

/// Applies the value of a `Range` field to a file of `length` bytes.
pub(crate) fn select(value: &[u8], length: u64) -> Selection {
    match only_range(value).and_then(Spec::parse) {
        Some(spec) => spec.against(length),
        None => Selection::Whole,
    }
}

/// The one range of the set, or none if the unit is not bytes or the set has not exactly one.
fn only_range(value: &[u8]) -> Option<&[u8]> {
    let equals = value.iter().position(|&byte| byte == b'=')?;
    if !value[..equals].eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    // Empty list elements do not count (RFC 9110, section 5.6.1.2).
    let mut ranges = value[equals + 1..]
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|range| !range.is_empty());
    let range = ranges.next()?;
    ranges.next().is_none().then_some(range)
}

/// One range as it is written, before the length of the file is known.
///
/// A number too large for 64 bits is kept as `u64::MAX`: it is past the end of any file, and that
/// is all that matters about it.
#[derive(Clone, Copy)]
enum Spec {
    Between { first: u64, last: u64 },
    From { first: u64 },
    Suffix { len: u64 },
}

impl Spec {
    fn parse(range: &[u8]) -> Option<Spec> {
        let dash = range.iter().position(|&byte| byte == b'-')?;
        match (&range[..dash], &range[dash + 1..]) {
            (b"", suffix) => Some(Spec::Suffix { len: decimal(suffix)? }),
            (first, b"") => Some(Spec::From { first: decimal(first)? }),
            (first, last) => {
                let (first, last) = (decimal(first)?, decimal(last)?);
                (first <= last).then_some(Spec::Between { first, last })
            }
        }
    }

    fn against(self, length: u64) -> Selection {
        match self {
            Spec::Suffix { len: 0 } => Selection::Unsatisfiable,
            // Satisfiable by the RFC, yet no Content-Range can name zero bytes.
            Spec::Suffix { .. } if length == 0 => Selection::Whole,
            Spec::Suffix { len } => {
                let len = len.min(length);
                Selection::Part { start: length - len, len }
            }
            Spec::From { first } | Spec::Between { first, .. } if first >= length => {
                Selection::Unsatisfiable
            }
            Spec::From { first } => Selection::Part { start: first, len: length - first },
            Spec::Between { first, last } => {
                Selection::Part { start: first, len: last.min(length - 1) - first + 1 }
            }
        }
    }
}

/// Digits only, at least one; saturates.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let shifted =
        |value: u64, digit: &u8| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, shifted))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(start: u64, len: u64) -> Selection {
        Selection::Part { start, len }
    }

    #[test]
    fn single_ranges() {
        assert_eq!(select(b"bytes=0-499", 1000), part(0, 500));
        assert_eq!(select(b"bytes=500-", 1000), part(500, 500));
        assert_eq!(select(b"bytes=-200", 1000), part(800, 200));
        assert_eq!(select(b"bytes=999-5000", 1000), part(999, 1));
        assert_eq!(select(b"bytes=-5000", 1000), part(0, 1000));
        assert_eq!(select(b"BYTES= 0-0 ,", 1000), part(0, 1));
    }

    #[test]
    fn unsatisfiable_ranges() {
        for range in ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(select(range.as_bytes(), 1000), Selection::Unsatisfiable, "{range}");
        }
        assert_eq!(select(b"bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(select(b"bytes=0-0", 0), Selection::Unsatisfiable);
        assert_eq!(select(b"bytes=-0", 0), Selection::Unsatisfiable);
        assert_eq!(select(b"bytes=-5", 0), Selection::Whole);
    }

    #[test]
    fn malformed_and_several_ranges_get_the_whole_file() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1 -2",
            "bytes =1-2",
            "lines=1-2",
            "bytes=0-0,2-3",
            "bytes=9999-,1-2",
        ] {
            assert_eq!(select(range.as_bytes(), 1000), Selection::Whole, "{range}");
        }
    }

    #[test]
    fn numbers_past_64_bits_do_not_overflow() {
        assert_eq!(select(b"bytes=0-99999999999999999999999", u64::MAX), part(0, u64::MAX));
        assert_eq!(select(b"bytes=-99999999999999999999999", 7), part(0, 7));
        assert_eq!(select(b"bytes=18446744073709551614-", u64::MAX), part(u64::MAX - 1, 1));
        assert_eq!(select(b"bytes=18446744073709551615-", u64::MAX), Selection::Unsatisfiable);
    }

    proptest! {
        /// The oracle walks over the positions of a small file and asks of each whether it is
        /// meant.
        #[test]
        fn agrees_with_a_naive_oracle(first in 0u64..40, last in 0u64..40, length in 0u64..30) {
            let wanted: Vec<u64> = (0..length).filter(|at| (first..=last).contains(at)).collect();
            let selected = select(format!("bytes={first}-{last}").as_bytes(), length);
            match (first <= last, wanted.first()) {
                (false, _) => prop_assert_eq!(selected, Selection::Whole),
                (true, None) => prop_assert_eq!(selected, Selection::Unsatisfiable),
                (true, Some(&start)) => prop_assert_eq!(selected, part(start, wanted.len() as u64)),
            }
        }

        #[test]
        fn any_bytes_stay_inside_the_file(value in ".*", length: u64) {
            for value in [value.clone(), format!("bytes={value}")] {
                if let Selection::Part { start, len } = select(value.as_bytes(), length) {
                    let end = start.checked_add(len);
                    prop_assert!(len > 0 && end.is_some_and(|end| end <= length));
                }
            }
        }
    }
}
