//! Whether and when to try again. Pure: time and chance come from outside.

use std::time::{Duration, SystemTime};

/// How often, and how long between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Attempts after the first one.
    pub(crate) retries: u32,
    /// The wait after the first failure; it doubles with each further one.
    pub(crate) wait: Duration,
    /// The longest wait.
    pub(crate) wait_max: Duration,
}

/// What a failure is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The same would happen again.
    None,
    /// Trying again later may help.
    Later,
    /// The peer has said when.
    After(Duration),
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Try again after this time.
    Wait(Duration),
    /// That was it, for this reason.
    GiveUp(&'static str),
}

impl Policy {
    /// The verdict after so many attempts have failed; `chance` is from 0 to 1 and spreads out
    /// those who failed together.
    pub(crate) fn after(&self, remedy: Remedy, attempts: u32, chance: f64) -> Verdict {
        if remedy == Remedy::None {
            return Verdict::GiveUp("trying again would not help");
        }
        if attempts > self.retries {
            return Verdict::GiveUp("no attempt is left");
        }
        let doubled = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let wait = self.wait.saturating_mul(doubled).min(self.wait_max);
        let wait = wait.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        match remedy {
            Remedy::After(asked) if asked > self.wait_max => {
                Verdict::GiveUp("it asks for a longer pause than is allowed")
            }
            // Never earlier than it was asked for.
            Remedy::After(asked) => Verdict::Wait(asked.max(wait)),
            _ => Verdict::Wait(wait),
        }
    }
}

/// What an answer of this status is good for (RFC 9110, section 15).
pub(crate) fn remedy(status: u16, retry_after: Option<&str>, now: SystemTime) -> Remedy {
    match status {
        408 | 425 | 429 | 500 | 502..=504 | 506..=510 | 520..=599 => {
            retry_after.and_then(|text| pause(text, now)).map_or(Remedy::Later, Remedy::After)
        }
        _ => Remedy::None,
    }
}

/// The value of `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy =
        Policy { retries: 4, wait: Duration::from_millis(500), wait_max: Duration::from_secs(3) };

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    #[test]
    fn waits_double_up_to_their_bound_and_are_spread_over_a_half() {
        let waits = |chance| [1, 2, 3, 4].map(|n| POLICY.after(Remedy::Later, n, chance));
        let millis = |all: [u64; 4]| all.map(|ms| Verdict::Wait(Duration::from_millis(ms)));
        assert_eq!(waits(1.0), millis([500, 1000, 2000, 3000]));
        assert_eq!(waits(0.0), millis([250, 500, 1000, 1500]));
        assert!(matches!(POLICY.after(Remedy::Later, 5, 0.0), Verdict::GiveUp(_)));
        let endless = Policy { retries: u32::MAX, ..POLICY };
        let late = endless.after(Remedy::Later, 1000, 1.0);
        assert_eq!(late, Verdict::Wait(Duration::from_secs(3)));
    }

    #[test]
    fn what_cannot_be_mended_is_not_tried_again() {
        assert!(matches!(POLICY.after(Remedy::None, 1, 0.5), Verdict::GiveUp(_)));
        for status in [301, 400, 401, 403, 404, 405, 409, 412, 413, 501, 505] {
            assert_eq!(remedy(status, Some("1"), now()), Remedy::None, "{status}");
        }
    }

    #[test]
    fn a_receiver_that_says_when_is_not_asked_earlier() {
        assert_eq!(remedy(503, Some("2"), now()), Remedy::After(Duration::from_secs(2)));
        let date = Some("Sun, 06 Nov 1994 08:49:39 GMT");
        assert_eq!(remedy(429, date, now()), Remedy::After(Duration::from_secs(2)));
        let past = Some("Sun, 06 Nov 1994 08:00:00 GMT");
        assert_eq!(remedy(429, past, now()), Remedy::After(Duration::ZERO));
        for status in [408, 429, 500, 502, 503, 504, 507] {
            assert_eq!(remedy(status, Some("soon"), now()), Remedy::Later, "{status}");
        }
        let asked = Remedy::After(Duration::from_secs(2));
        assert_eq!(POLICY.after(asked, 1, 0.0), Verdict::Wait(Duration::from_secs(2)));
        let too_long = Remedy::After(Duration::from_secs(4));
        assert!(matches!(POLICY.after(too_long, 1, 0.0), Verdict::GiveUp(_)));
    }
}
