//! Conditional requests (RFC 9110, section 13): does the client already have it, does it mean this
//! one?

use super::date::Date;
use super::facts::FileFacts;
use super::fields::Lines;
use super::request::{Method, Request};

/// What the preconditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Proceed,
    /// 304: what the client has is current.
    NotModified,
    /// 412: the file is not the one that the client means.
    PreconditionFailed,
}

/// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110, section 13.2.2.
///
/// An entity tag silences the date beside it, and a date that does not parse is not there.
pub(crate) fn evaluate(request: &Request<'_>, facts: &FileFacts) -> Outcome {
    let modified = facts.last_modified.second();
    let date_in = |value: Option<&[u8]>| value.and_then(Date::second_in);
    let meant = if request.if_match.is_empty() {
        date_in(request.if_unmodified_since).is_none_or(|since| modified <= since)
    } else {
        lists(request.if_match.iter(), facts, Comparison::Strong)
    };
    if !meant {
        return Outcome::PreconditionFailed;
    }
    let current = if request.if_none_match.is_empty() {
        date_in(request.if_modified_since).is_some_and(|since| modified <= since)
    } else {
        lists(request.if_none_match.iter(), facts, Comparison::Weak)
    };
    if current { Outcome::NotModified } else { Outcome::Proceed }
}

/// The `Range` that is to be applied: none unless it is a GET and `If-Range`, if any, holds.
///
/// `If-Range` demands a strong validator (section 13.1.5). A date is one only if the file has been
/// left alone for a second after it (section 8.8.2.2): before that it may change once more within
/// it.
pub(crate) fn applicable_range<'b>(
    request: &Request<'b>,
    facts: &FileFacts,
    now: &Date,
) -> Option<&'b [u8]> {
    let range = request.range.filter(|_| request.method == Method::Get)?;
    let holds = match request.if_range {
        None => true,
        Some(tag) if tag.starts_with(b"\"") => tag == facts.etag.as_bytes(),
        Some(other) => {
            let modified = facts.last_modified.second();
            Date::second_in(other) == Some(modified) && modified < now.second()
        }
    };
    holds.then_some(range)
}

/// How two tags are compared (RFC 9110, section 8.8.3.2). Ours are strong, so only theirs matter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// The preconditions of a request that writes, kept while its body comes.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    if_match: Vec<Box<[u8]>>,
    if_none_match: Vec<Box<[u8]>>,
    unmodified_since: Option<u64>,
}

impl Conditions {
    pub(super) fn of(request: &Request<'_>) -> Conditions {
        let kept = |lines: &Lines<'_>| lines.iter().map(Box::from).collect();
        Conditions {
            if_match: kept(&request.if_match),
            if_none_match: kept(&request.if_none_match),
            unmodified_since: request.if_unmodified_since.and_then(Date::second_in),
        }
    }

    /// Whether the name must not lead to anything yet.
    pub(crate) fn demand_absence(&self) -> bool {
        self.if_none_match.iter().any(|line| **line == *b"*")
    }
}

/// Evaluates the preconditions of a request that writes, for what has the name `current`ly.
pub(super) fn holds_for_writing(conditions: &Conditions, current: Option<&FileFacts>) -> bool {
    let Conditions { if_match, if_none_match, unmodified_since } = conditions;
    let Some(facts) = current else { return if_match.is_empty() };
    let lists = |lines: &[Box<[u8]>], comparison| {
        lists(lines.iter().map(|line| &**line), facts, comparison)
    };
    let meant = if if_match.is_empty() {
        unmodified_since.is_none_or(|since| facts.last_modified.second() <= since)
    } else {
        lists(if_match, Comparison::Strong)
    };
    meant && !lists(if_none_match, Comparison::Weak)
}

/// Whether a list of tags is `*` or names the file's.
fn lists<'b>(
    mut lines: impl Iterator<Item = &'b [u8]>,
    facts: &FileFacts,
    comparison: Comparison,
) -> bool {
    lines.any(|line| {
        line == b"*"
            || Tags { rest: line }.any(|(weak, tag)| {
                tag == facts.etag.as_bytes() && !(weak && comparison == Comparison::Strong)
            })
    })
}

/// The entity tags of one line: whether each is weak, and the tag with its quotes.
///
/// A tag may hold commas, so that the list cannot be split at them. At the first thing that is no
/// tag the list ends, and what was read before it still counts.
struct Tags<'b> {
    rest: &'b [u8],
}

impl<'b> Iterator for Tags<'b> {
    type Item = (bool, &'b [u8]);

    fn next(&mut self) -> Option<(bool, &'b [u8])> {
        while let [b' ' | b'\t' | b',', rest @ ..] = self.rest {
            self.rest = rest;
        }
        let (weak, tag) = match self.rest.strip_prefix(b"W/") {
            Some(tag) => (true, tag),
            None => (false, self.rest),
        };
        let inside = tag.strip_prefix(b"\"")?;
        let len = inside.iter().position(|&byte| byte == b'"')? + 2;
        let (tag, rest) = tag.split_at(len);
        self.rest = rest;
        Some((weak, tag))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::facts::FileState;
    use super::super::mime::ContentType;
    use super::super::request::{HeadLimits, Parsed, parse};
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const EXACT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const MODIFIED: u64 = 784_111_777;

    fn facts() -> FileFacts {
        let state = FileState {
            len: 10,
            inode: 1,
            mtime_seconds: 784_111_777,
            mtime_nanoseconds: 500_000_000,
            ctime_seconds: 784_111_777,
            ctime_nanoseconds: 0,
        };
        FileFacts::new(&state, ContentType::UNKNOWN)
    }

    /// `TAG` stands for the tag of the file.
    fn with<T>(fields: &[(&str, &str)], method: &str, see: impl FnOnce(&Request<'_>) -> T) -> T {
        let tag = format!("{:?}", facts().etag);
        let mut text = format!("{method} / HTTP/1.1\r\nHost: a\r\n");
        for (name, value) in fields {
            text += &format!("{name}: {}\r\n", value.replace("TAG", &tag));
        }
        text += "\r\n";
        match parse(text.as_bytes(), &HeadLimits::default()) {
            Parsed::Complete { request, .. } => see(&request),
            other => panic!("{other:?}"),
        }
    }

    fn outcome(fields: &[(&str, &str)]) -> Outcome {
        with(fields, "GET", |request| evaluate(request, &facts()))
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for value in ["TAG", "W/TAG", "*", "\"x\", TAG", "\"a,b\" ,,W/\"y\",W/TAG"] {
            assert_eq!(outcome(&[("If-None-Match", value)]), Outcome::NotModified, "{value}");
        }
        for value in
            ["\"x\"", "x", "", "\"*\"", "w/TAG", "\"unclosed, TAG", "garbage, TAG", "*, \"x\""]
        {
            assert_eq!(outcome(&[("If-None-Match", value)]), Outcome::Proceed, "{value}");
        }
        let spread = [("If-None-Match", "\"x\""), ("If-None-Match", "TAG")];
        assert_eq!(outcome(&spread), Outcome::NotModified);
    }

    #[test]
    fn if_match_compares_strongly() {
        for value in ["TAG", "*", "\"x\", TAG"] {
            assert_eq!(outcome(&[("If-Match", value)]), Outcome::Proceed, "{value}");
        }
        for value in ["W/TAG", "\"x\"", "", "garbage"] {
            assert_eq!(outcome(&[("If-Match", value)]), Outcome::PreconditionFailed, "{value}");
        }
    }

    #[test]
    fn dates_are_compared_in_whole_seconds() {
        assert_eq!(outcome(&[("If-Modified-Since", BEFORE)]), Outcome::Proceed);
        assert_eq!(outcome(&[("If-Modified-Since", EXACT)]), Outcome::NotModified);
        assert_eq!(outcome(&[("If-Modified-Since", AFTER)]), Outcome::NotModified);
        assert_eq!(outcome(&[("If-Modified-Since", "soon")]), Outcome::Proceed);
        assert_eq!(outcome(&[("If-Unmodified-Since", BEFORE)]), Outcome::PreconditionFailed);
        assert_eq!(outcome(&[("If-Unmodified-Since", EXACT)]), Outcome::Proceed);
        assert_eq!(outcome(&[("If-Unmodified-Since", "soon")]), Outcome::Proceed);
    }

    #[test]
    fn order_of_the_rfc() {
        let tag_over_date = [("If-None-Match", "\"x\""), ("If-Modified-Since", AFTER)];
        assert_eq!(outcome(&tag_over_date), Outcome::Proceed);
        let tag_over_date = [("If-Match", "TAG"), ("If-Unmodified-Since", BEFORE)];
        assert_eq!(outcome(&tag_over_date), Outcome::Proceed);
        let failure_first = [("If-None-Match", "TAG"), ("If-Match", "\"x\"")];
        assert_eq!(outcome(&failure_first), Outcome::PreconditionFailed);
        let failure_first = [("If-None-Match", "TAG"), ("If-Unmodified-Since", BEFORE)];
        assert_eq!(outcome(&failure_first), Outcome::PreconditionFailed);
    }

    #[test]
    fn if_range_needs_a_strong_validator() {
        let applies = |value: &str, second: u64| {
            let fields = [("Range", "bytes=1-"), ("If-Range", value)];
            let now = Date::from_second(second);
            with(&fields, "GET", |request| applicable_range(request, &facts(), &now).is_some())
        };
        assert!(applies("TAG", MODIFIED));
        assert!(!applies("W/TAG", MODIFIED));
        assert!(!applies("\"x\"", MODIFIED));
        assert!(applies(EXACT, MODIFIED + 1));
        assert!(!applies(EXACT, MODIFIED));
        assert!(!applies(AFTER, MODIFIED + 9));
        assert!(!applies(BEFORE, MODIFIED + 9));
        assert!(!applies("garbage", MODIFIED + 9));
    }

    #[test]
    fn range_is_for_get_alone() {
        let now = Date::from_second(MODIFIED);
        let fields = [("Range", "bytes=1-")];
        let range = |method| {
            with(&fields, method, |request| applicable_range(request, &facts(), &now).is_some())
        };
        assert!(range("GET"));
        assert!(!range("HEAD"));
    }

    proptest! {
        #[test]
        fn tag_lists_end(line in prop::collection::vec(any::<u8>(), 0..40)) {
            let tags = Tags { rest: &line }.count();
            prop_assert!(tags <= line.len());
        }
    }
}
