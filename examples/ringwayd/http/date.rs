//! Dates of HTTP (RFC 9110, section 5.6.7) as 29 bytes that are formatted at most once per second.

use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second that an HTTP date can name: 31 December 9999, 23:59:59.
const LAST_SECOND: u64 = 253_402_300_799;

/// Remembers the current second's date, so that the responses of one second share one formatting.
#[derive(Debug)]
pub(crate) struct DateCache {
    current: Date,
}

impl DateCache {
    /// Starts at the epoch; the first [`at`](Self::at) moves it.
    pub(crate) fn new() -> DateCache {
        DateCache { current: Date::from_second(0) }
    }

    /// The date at `now`, which the caller reads from its clock.
    pub(crate) fn at(&mut self, now: SystemTime) -> &Date {
        let second = second_of(now);
        if second != self.current.second {
            self.current = Date::from_second(second);
        }
        &self.current
    }
}

/// A second since the epoch and its text, for example `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    second: u64,
    text: [u8; 29],
}

impl Date {
    /// Formats a second; one past the year 9999 becomes the last second of that year.
    pub(crate) fn from_second(second: u64) -> Date {
        let second = second.min(LAST_SECOND);
        let mut text = [b' '; 29];
        let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
        // An IMF-fixdate is 29 bytes long by its grammar, so the array always takes all of it.
        _ = write!(&mut text[..], "{date}");
        Date { second, text }
    }

    /// Reads a date in any of the three forms that RFC 9110 demands of a recipient.
    pub(crate) fn second_in(value: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(value.trim_ascii()).ok()?;
        httpdate::parse_http_date(text).ok().map(second_of)
    }

    pub(crate) fn second(&self) -> u64 {
        self.second
    }

    pub(crate) fn text(&self) -> &[u8; 29] {
        &self.text
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Date({})", String::from_utf8_lossy(&self.text))
    }
}

/// A clock set before 1970 counts as 1970.
fn second_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_of_the_rfc() {
        let date = Date::from_second(784_111_777);
        assert_eq!(date.text(), b"Sun, 06 Nov 1994 08:49:37 GMT");
        for form in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(Date::second_in(form.as_bytes()), Some(784_111_777), "{form}");
        }
        assert_eq!(Date::second_in(b"yesterday"), None);
        assert_eq!(Date::second_in(b"\xff"), None);
    }

    #[test]
    fn extreme_clocks_do_not_panic() {
        assert_eq!(Date::from_second(u64::MAX).text(), b"Fri, 31 Dec 9999 23:59:59 GMT");
        let mut cache = DateCache::new();
        assert_eq!(cache.at(UNIX_EPOCH - Duration::from_secs(9)).second(), 0);
        assert_eq!(cache.at(UNIX_EPOCH).text(), b"Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn cache_moves_with_the_clock() {
        let mut cache = DateCache::new();
        let start = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let within = start + Duration::from_millis(999);
        assert_eq!(cache.at(within).text(), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(
            cache.at(start + Duration::from_secs(1)).text(),
            b"Sun, 06 Nov 1994 08:49:38 GMT"
        );
        assert_eq!(cache.at(start).text(), b"Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
