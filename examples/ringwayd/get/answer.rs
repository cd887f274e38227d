//! What an answer means for a file of which a part may be here. Pure.

use crate::client::response::{Framing, Head, Malformed};

/// The part that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    /// Bytes that are here already.
    pub(crate) offset: u64,
    /// The strong tag of the file that they are of.
    pub(crate) tag: &'a str,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The whole file follows.
    Whole(Framing),
    /// The rest follows behind what is here, and the whole has so many bytes if that is known.
    Rest(Framing, Option<u64>),
    /// All of it is here.
    Complete,
    /// Ask again for the whole: the part is of another file.
    Anew,
    /// Ask there.
    Elsewhere(String),
    /// It is no success.
    Refused,
}

/// Looks at the head of an answer to a GET.
///
/// # Errors
///
/// [`Malformed`] if it is an answer to another question.
pub(crate) fn judge(head: &Head, asked: Option<Asked<'_>>) -> Result<Answer, Malformed> {
    let location = head.field("location").filter(|place| !place.is_empty());
    match (head.status, asked, location) {
        (200, _, _) => Ok(Answer::Whole(head.framing(false)?)),
        (206, Some(asked), _) => {
            let range = head.field("content-range").and_then(content_range);
            let Some((start, end, total)) = range else {
                return Err(Malformed("its part does not say which one it is"));
            };
            let other = head.field("etag").is_some_and(|tag| tag != asked.tag);
            if start != asked.offset || other {
                return Err(Malformed("its part is not the one that was asked for"));
            }
            let framing = head.framing(false)?;
            let part = end.checked_sub(start).and_then(|len| len.checked_add(1));
            match (framing, part) {
                (Framing::Length(length), Some(part)) if length == part => {}
                (Framing::Chunked | Framing::Close, Some(_)) => {}
                _ => return Err(Malformed("its part has not the length that it says")),
            }
            if total.is_some_and(|total| total != end + 1) {
                return Err(Malformed("its part is not the rest"));
            }
            Ok(Answer::Rest(framing, total))
        }
        // The tag was compared first (RFC 9110, section 13.1.5), so the file is the same.
        (416, Some(asked), _) => {
            let total =
                head.field("content-range").and_then(|value| value.strip_prefix("bytes */"));
            let complete = total.and_then(|total| total.trim().parse().ok()) == Some(asked.offset);
            Ok(if complete { Answer::Complete } else { Answer::Anew })
        }
        (301 | 302 | 303 | 307 | 308, _, Some(place)) => Ok(Answer::Elsewhere(place.to_owned())),
        (206, None, _) => Err(Malformed("it sent a part that nobody has asked for")),
        _ => Ok(Answer::Refused),
    }
}

/// A tag that can be used to go on with a part: one that promises the same bytes.
pub(crate) fn strong_tag(head: &Head) -> Option<&str> {
    let tag = head.field("etag")?;
    (tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"')).then_some(tag)
}

/// First and last byte, and the length of the whole if it is told.
fn content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.trim().split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((start.parse().ok()?, end.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::response::{Parsed, parse};

    fn judged(status: u16, fields: &str, asked: bool) -> Result<Answer, Malformed> {
        let text = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
        let Ok(Parsed::Complete(head, _)) = parse(text.as_bytes()) else { panic!("{text}") };
        judge(&head, asked.then_some(Asked { offset: 10, tag: "\"a\"" }))
    }

    #[test]
    fn the_rest_is_taken_only_if_it_is_the_rest() {
        let rest = |fields: &str| judged(206, fields, true);
        let good = "ETag: \"a\"\r\nContent-Range: bytes 10-19/20\r\nContent-Length: 10\r\n";
        assert_eq!(rest(good), Ok(Answer::Rest(Framing::Length(10), Some(20))));
        for (part, other) in [
            ("10-19/20", "9-19/20"),
            ("10-19/20", "10-18/20"),
            ("10-19/20", "10-19/21"),
            ("10-19/20", "10-19"),
            ("\"a\"", "\"b\""),
            ("Length: 10", "Length: 11"),
            ("bytes 10-19/20", "bytes 10-18446744073709551615/20"),
        ] {
            assert!(rest(&good.replace(part, other)).is_err(), "{other}");
        }
        assert!(judged(206, good, false).is_err());
    }

    #[test]
    fn other_answers_say_what_to_do_next() {
        let length = Framing::Length(5);
        assert_eq!(judged(200, "Content-Length: 5\r\n", true), Ok(Answer::Whole(length)));
        let complete = judged(416, "Content-Range: bytes */10\r\n", true);
        assert_eq!(complete, Ok(Answer::Complete));
        assert_eq!(judged(416, "Content-Range: bytes */9\r\n", true), Ok(Answer::Anew));
        assert_eq!(judged(416, "", true), Ok(Answer::Anew));
        let moved = judged(302, "Location: /b\r\n", false);
        assert_eq!(moved, Ok(Answer::Elsewhere("/b".to_owned())));
        for status in [204, 304, 302, 404, 416, 500] {
            assert_eq!(judged(status, "", false), Ok(Answer::Refused), "{status}");
        }
    }
}
