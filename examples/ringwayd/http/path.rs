//! From the target of a request to a path below the root.
//!
//! The text is decoded exactly once and then made canonical by its words alone, without asking the
//! file system. What comes out has no empty, `.` or `..` segment and no NUL, and cannot leave the
//! root. The kernel confines the opening as well (`openat2` with `RESOLVE_BENEATH`), because only
//! it knows the symbolic links.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::status::Status;

/// What a path may name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathPolicy {
    /// Serve files and folders whose name begins with a dot; without it they answer 404.
    pub(crate) hidden: bool,
    /// Files can be put, and are staged in a folder of the root: see [`STAGING`].
    pub(crate) writable: bool,
}

/// The folder for files that are not whole yet. Its name begins with a dot, and where such names are
/// shown it is not there for clients all the same.
pub(crate) const STAGING: &str = ".ringway";

/// A path below the root, in bytes that need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelativePath<'b> {
    bytes: Cow<'b, [u8]>,
    trailing_slash: bool,
    query: Option<&'b str>,
}

impl<'b> RelativePath<'b> {
    /// Resolves a target in origin form: `/path?query`. A plain path is borrowed, not copied.
    ///
    /// # Errors
    ///
    /// 400 if a percent sign is not followed by two hexadecimal digits, if the path holds an
    /// encoded NUL, or if its `..` segments climb over the root. 404 if it holds an encoded slash,
    /// which no file name can contain, or a hidden segment that `policy` does not show.
    pub(crate) fn resolve(
        target: &'b str,
        policy: PathPolicy,
    ) -> Result<RelativePath<'b>, (Status, &'static str)> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let decoded = decode_once(path)?;
        let last = decoded.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let trailing_slash = matches!(last, b"" | b"." | b"..");
        let bytes = match canonical_part(&decoded) {
            Some(part) => slice(decoded, part),
            None => Cow::Owned(normalize(&decoded)?),
        };
        let staging =
            |bytes: &[u8]| bytes.split(|&byte| byte == b'/').next() == Some(STAGING.as_bytes());
        if policy.hidden && policy.writable && staging(&bytes)
            || !policy.hidden
                && bytes.split(|&byte| byte == b'/').any(|name| name.starts_with(b"."))
        {
            return Err((Status::NotFound, NO_SUCH_FILE));
        }
        Ok(RelativePath { bytes, trailing_slash, query })
    }

    /// A path of a file that was resolved before.
    pub(crate) fn canonical(bytes: &'b [u8]) -> RelativePath<'b> {
        RelativePath { bytes: Cow::Borrowed(bytes), trailing_slash: false, query: None }
    }

    /// The path to open relative to the root; the root itself is `.`.
    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(if self.bytes.is_empty() { b"." } else { &self.bytes })
    }

    /// The canonical bytes, without slashes at the ends; empty for the root.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the target asked for a folder: it ended in `/`, `/.` or `/..`.
    pub(crate) fn trailing_slash(&self) -> bool {
        self.trailing_slash
    }

    /// Appends the canonical target of this path as a folder, for a `Location` field.
    ///
    /// It begins with exactly one slash, so that `//host` cannot send a client elsewhere, and it is
    /// ASCII without controls, so that it cannot end the field.
    pub(super) fn write_folder_target(&self, out: &mut Vec<u8>) {
        out.push(b'/');
        for piece in percent_encode(&self.bytes, NOT_IN_PATH) {
            out.extend_from_slice(piece.as_bytes());
        }
        if !self.bytes.is_empty() {
            out.push(b'/');
        }
        if let Some(query) = self.query {
            out.push(b'?');
            for piece in percent_encode(query.as_bytes(), percent_encoding::CONTROLS) {
                out.extend_from_slice(piece.as_bytes());
            }
        }
    }
}

/// The sentence of every 404, so that a hidden file cannot be told from a missing one.
pub(super) const NO_SUCH_FILE: &str = "There is no such file here.";

const NOT_IN_PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn decode_once(path: &str) -> Result<Cow<'_, [u8]>, (Status, &'static str)> {
    let mut rest = path.as_bytes();
    while let Some(percent) = rest.iter().position(|&byte| byte == b'%') {
        match rest.get(percent + 1..percent + 3) {
            Some(b"00") => return Err((Status::BadRequest, "The path holds an encoded NUL.")),
            Some([b'2', b'F' | b'f']) => return Err((Status::NotFound, NO_SUCH_FILE)),
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = &rest[percent + 3..],
            _ => return Err((Status::BadRequest, "The path holds a malformed percent-encoding.")),
        }
    }
    Ok(percent_decode(path.as_bytes()).into())
}

/// Where the canonical path stands in a path that needs no second thought: `/name/name` with or
/// without a slash at its end.
fn canonical_part(path: &[u8]) -> Option<Range<usize>> {
    let names = path.strip_prefix(b"/")?;
    let names = names.strip_suffix(b"/").unwrap_or(names);
    let plain = names.is_empty()
        || names.split(|&byte| byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
    plain.then_some(1..1 + names.len())
}

fn slice(path: Cow<'_, [u8]>, part: Range<usize>) -> Cow<'_, [u8]> {
    match path {
        Cow::Borrowed(path) => Cow::Borrowed(&path[part]),
        Cow::Owned(mut path) => {
            path.truncate(part.end);
            path.drain(..part.start);
            Cow::Owned(path)
        }
    }
}

fn normalize(path: &[u8]) -> Result<Vec<u8>, (Status, &'static str)> {
    let mut normal = Vec::with_capacity(path.len());
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if normal.is_empty() => {
                return Err((Status::BadRequest, "The path leaves the root."));
            }
            b".." => {
                let parent = normal.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                normal.truncate(parent);
            }
            name => {
                if !normal.is_empty() {
                    normal.push(b'/');
                }
                normal.extend_from_slice(name);
            }
        }
    }
    Ok(normal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHOWN: PathPolicy = PathPolicy { hidden: true, writable: false };

    fn resolved(target: &str) -> (Vec<u8>, bool) {
        let path = RelativePath::resolve(target, PathPolicy::default()).unwrap();
        (path.as_bytes().to_vec(), path.trailing_slash())
    }

    fn refused(target: &str) -> Status {
        RelativePath::resolve(target, PathPolicy::default()).unwrap_err().0
    }

    #[test]
    fn plain_paths_are_borrowed() {
        let path = RelativePath::resolve("/a/b.txt?x=%zz", PathPolicy::default()).unwrap();
        assert!(matches!(path.bytes, Cow::Borrowed(b"a/b.txt")));
        assert_eq!(path.query, Some("x=%zz"));
        assert_eq!(path.as_os_str(), "a/b.txt");
        for folder in ["/a/", "/"] {
            let path = RelativePath::resolve(folder, PathPolicy::default()).unwrap();
            assert!(matches!(path.bytes, Cow::Borrowed(_)));
        }
    }

    #[test]
    fn canonical_form() {
        assert_eq!(resolved("/"), (b"".to_vec(), true));
        assert_eq!(resolved("?query"), (b"".to_vec(), true));
        assert_eq!(resolved("/a/"), (b"a".to_vec(), true));
        assert_eq!(resolved("//a///b"), (b"a/b".to_vec(), false));
        assert_eq!(resolved("/./a/./b/."), (b"a/b".to_vec(), true));
        assert_eq!(resolved("/a/../b/c/.."), (b"b".to_vec(), true));
        assert_eq!(resolved("/a/b/../../c"), (b"c".to_vec(), false));
        assert_eq!(RelativePath::resolve("/", SHOWN).unwrap().as_os_str(), ".");
    }

    #[test]
    fn decoded_exactly_once() {
        assert_eq!(resolved("/a%20b"), (b"a b".to_vec(), false));
        assert_eq!(resolved("/%41%c3%28"), (b"A\xc3\x28".to_vec(), false));
        assert_eq!(resolved("/%252e%252e/x"), (b"%2e%2e/x".to_vec(), false));
        assert_eq!(resolved("/a/%2E%2e/b"), (b"b".to_vec(), false));
        assert_eq!(resolved("/a%5Cb"), (b"a\\b".to_vec(), false));
    }

    #[test]
    fn escapes_and_tricks_are_refused() {
        for target in ["/..", "/../etc/passwd", "/a/../../b", "/%2e%2e/b", "/a/b/../../../c"] {
            assert_eq!(refused(target), Status::BadRequest, "{target}");
        }
        for target in ["/%00", "/a%0", "/a%", "/%zz", "/%+1", "/a%00.txt"] {
            assert_eq!(refused(target), Status::BadRequest, "{target}");
        }
        for target in ["/a%2fb", "/..%2F..%2Fetc/passwd"] {
            assert_eq!(refused(target), Status::NotFound, "{target}");
        }
    }

    #[test]
    fn hidden_files_answer_404_by_default() {
        for target in ["/.git/config", "/a/.env", "/%2egit", "/...", "/..a"] {
            assert_eq!(refused(target), Status::NotFound, "{target}");
            assert!(RelativePath::resolve(target, SHOWN).is_ok(), "{target}");
        }
        assert_eq!(resolved("/.git/../a").0, b"a");
    }

    #[test]
    fn the_staging_folder_is_not_there_for_clients() {
        for hidden in [true, false] {
            let policy = PathPolicy { hidden, writable: true };
            for target in ["/.ringway", "/.ringway/put-1", "//a/../.ringway/", "/%2eringway/x"] {
                let refused = RelativePath::resolve(target, policy).unwrap_err().0;
                assert_eq!(refused, Status::NotFound, "{target}");
            }
            assert_eq!(RelativePath::resolve("/a/.ringway", policy).is_ok(), hidden);
        }
        assert!(RelativePath::resolve("/.ringway/x", SHOWN).is_ok());
    }

    #[test]
    fn redirect_target_stays_on_this_host() {
        let target = |from| {
            let mut out = Vec::new();
            RelativePath::resolve(from, SHOWN).unwrap().write_folder_target(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(target("//evil.example/x"), "/evil.example/x/");
        assert_eq!(target("/a%0d%0ab%3f?q=ü"), "/a%0D%0Ab%3F/?q=%C3%BC");
        assert_eq!(target("/"), "/");
    }

    proptest! {
        #[test]
        fn never_leaves_the_root(target in "(/|\\.|%2e|%2F|%00|a|%|\\?|ü){0,24}", hidden: bool) {
            if let Ok(path) = RelativePath::resolve(&target, PathPolicy { hidden, writable: false }) {
                if !path.as_bytes().is_empty() {
                    for name in path.as_bytes().split(|&byte| byte == b'/') {
                        prop_assert!(!matches!(name, b"" | b"." | b".."));
                        prop_assert!(!name.contains(&0));
                        prop_assert!(hidden || !name.starts_with(b"."));
                    }
                }
                // A canonical path resolves to itself.
                let mut again = Vec::new();
                path.write_folder_target(&mut again);
                let again = String::from_utf8(again).unwrap();
                let again = RelativePath::resolve(&again, PathPolicy { hidden, writable: false }).unwrap();
                prop_assert_eq!(again.as_bytes(), path.as_bytes());
            }
        }
    }
}
