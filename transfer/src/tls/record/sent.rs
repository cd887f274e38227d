//! What a send has taken of a batch of records.

use std::ops::Range;

use super::{HEADER, SLOT, TAIL};

/// What has become of a batch of records that lie back to back: all are as long as a record can be,
/// but the last may be shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Records that were taken whole.
    pub(crate) whole: u64,
    /// Their plaintext, in bytes.
    pub(crate) plaintext: u64,
    /// The rest of the record of which only the beginning was taken; empty if there is none.
    pub(crate) rest: Range<usize>,
    /// Plaintext of that record, in bytes.
    pub(crate) rest_plaintext: u64,
    /// Records of which nothing was taken.
    pub(crate) untouched: u64,
}

impl Sent {
    /// The records that came to be out whole by sends that went from `before` to `now`, and their
    /// plaintext, in bytes.
    pub(crate) fn between(sealed: usize, before: usize, now: usize) -> (u64, u64) {
        let (before, now) = (Self::of(sealed, before), Self::of(sealed, now));
        (now.whole - before.whole, now.plaintext - before.plaintext)
    }

    /// The first `sent` of `sealed` bytes were taken, counted from the beginning of the batch.
    pub(crate) fn of(sealed: usize, sent: usize) -> Self {
        let sent = sent.min(sealed);
        let records = sealed.div_ceil(SLOT);
        let whole = if sent == sealed { records } else { sent / SLOT };
        let plaintext = |bytes: usize, records: usize| (bytes - records * (HEADER + TAIL)) as u64;
        let (begin, end) = (whole * SLOT, ((whole + 1) * SLOT).min(sealed));
        let half = usize::from(sent > begin && sent < sealed);
        Self {
            whole: whole as u64,
            plaintext: plaintext((whole * SLOT).min(sealed), whole),
            rest: if half == 1 { sent..end } else { sent..sent },
            rest_plaintext: if half == 1 { plaintext(end - begin, 1) } else { 0 },
            untouched: (records - whole - half) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_border_of_records_leaves_nothing_half_sent() {
        let sealed = 2 * SLOT + HEADER + 7 + TAIL;
        let sent = Sent::of(sealed, SLOT);
        assert_eq!((sent.whole, sent.plaintext, sent.untouched), (1, 16384, 2));
        assert!(sent.rest.is_empty());
        let all = Sent::of(sealed, sealed);
        assert_eq!((all.whole, all.plaintext, all.untouched), (3, 2 * 16384 + 7, 0));
        let half = Sent::of(sealed, 2 * SLOT + 1);
        assert_eq!((half.whole, half.rest, half.rest_plaintext), (2, 2 * SLOT + 1..sealed, 7));
    }

    proptest! {
        #[test]
        fn every_record_is_whole_half_or_untouched(
            lens in (0_usize..5, 0_usize..=16384),
            cut in 0.0..=1.0_f64,
        ) {
            let plain = lens.0 * 16384 + lens.1;
            let sealed = lens.0 * SLOT + HEADER + lens.1 + TAIL;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let cut = (sealed as f64 * cut) as usize;
            let sent = Sent::of(sealed, cut);
            let half = u64::from(!sent.rest.is_empty());
            prop_assert_eq!(sent.whole + half + sent.untouched, lens.0 as u64 + 1);
            prop_assert!(sent.plaintext + sent.rest_plaintext <= plain as u64);
            if cut == sealed {
                prop_assert_eq!(sent.plaintext, plain as u64);
            } else {
                prop_assert!(sent.plaintext <= cut as u64);
            }
        }
    }
}
