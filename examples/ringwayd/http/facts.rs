//! What a response says about a file, computed once when the file is opened and kept with it.

use std::fmt;
use std::io::Write;

use super::date::Date;
use super::mime::ContentType;

/// The numbers of `statx(2)` that tell one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    pub(crate) len: u64,
    pub(crate) inode: u64,
    pub(crate) mtime_seconds: i64,
    pub(crate) mtime_nanoseconds: u32,
    pub(crate) ctime_seconds: i64,
    pub(crate) ctime_nanoseconds: u32,
}

/// A regular file as a response describes it. The open-file cache can keep it: it borrows nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileFacts {
    pub(crate) len: u64,
    pub(crate) etag: ETag,
    pub(crate) last_modified: Date,
    pub(crate) content_type: ContentType,
}

impl FileFacts {
    /// A file changed before 1970 is said to have changed at the epoch.
    pub(crate) fn new(state: &FileState, content_type: ContentType) -> FileFacts {
        FileFacts {
            len: state.len,
            etag: ETag::of(state),
            last_modified: Date::from_second(u64::try_from(state.mtime_seconds).unwrap_or(0)),
            content_type,
        }
    }
}

/// A strong entity tag, quotes included, kept in place: `"length-mtime-rest"` in hexadecimal.
///
/// Length and modification time are not enough. Package stores and reproducible archives give every
/// file one and the same modification time, and a client that resumes a download of such a file
/// after it was replaced would join the halves of two files. So the last part folds in the inode
/// and the change time, which nobody can set; folded, because an inode number is none of a client's
/// business. The price: replicas of a file on two hosts have two tags, and a client that changes
/// hosts fetches the whole file again.
#[derive(Clone, Copy)]
pub(crate) struct ETag {
    bytes: [u8; ETag::BYTES_MAX],
    len: usize,
}

impl ETag {
    /// Two quotes, two dashes, 16 digits each for length, seconds and fold, and 8 for nanoseconds.
    const BYTES_MAX: usize = 2 + 2 + 3 * 16 + 8;

    fn of(state: &FileState) -> ETag {
        let fold = fold([
            state.inode,
            state.ctime_seconds.cast_unsigned(),
            u64::from(state.ctime_nanoseconds),
        ]);
        let FileState { len, mtime_seconds, mtime_nanoseconds, .. } = state;
        let mut bytes = [0; ETag::BYTES_MAX];
        let mut rest = &mut bytes[..];
        // It fits by the sum above.
        _ = write!(rest, "\"{len:x}-{mtime_seconds:x}{mtime_nanoseconds:08x}-{fold:x}\"");
        let len = ETag::BYTES_MAX - rest.len();
        ETag { bytes, len }
    }

    /// The tag with its quotes, as a field carries it.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// Mixes the words so that a change of any single one always changes the result: each step is a
/// bijection of its word.
fn fold(words: [u64; 3]) -> u64 {
    words.iter().fold(0, |state, word| {
        let state = (state ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        state ^ (state >> 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: FileState = FileState {
        len: 0x1234,
        inode: 77,
        mtime_seconds: 1,
        mtime_nanoseconds: 0xABC,
        ctime_seconds: 1_700_000_000,
        ctime_nanoseconds: 5,
    };

    fn tag(state: FileState) -> String {
        format!("{:?}", FileFacts::new(&state, ContentType::UNKNOWN).etag)
    }

    #[test]
    fn every_change_of_state_changes_the_tag() {
        let tags = [
            tag(STATE),
            tag(FileState { len: 1, ..STATE }),
            tag(FileState { inode: 78, ..STATE }),
            tag(FileState { mtime_seconds: 2, ..STATE }),
            tag(FileState { mtime_nanoseconds: 0xABD, ..STATE }),
            tag(FileState { ctime_seconds: 1_700_000_001, ..STATE }),
            tag(FileState { ctime_nanoseconds: 6, ..STATE }),
        ];
        assert!(tags[0].starts_with("\"1234-100000abc-"), "{}", tags[0]);
        for (at, tag) in tags.iter().enumerate() {
            assert!(!tags[..at].contains(tag), "{tag}");
            assert!(tag.ends_with('"'));
        }
    }

    #[test]
    fn extreme_states_fit() {
        let state = FileState {
            len: u64::MAX,
            inode: u64::MAX,
            mtime_seconds: -1,
            mtime_nanoseconds: u32::MAX,
            ctime_seconds: i64::MIN,
            ctime_nanoseconds: u32::MAX,
        };
        assert!(tag(state).ends_with('"'));
        let facts = FileFacts::new(&state, ContentType::UNKNOWN);
        assert_eq!(facts.last_modified.second(), 0);
    }
}
