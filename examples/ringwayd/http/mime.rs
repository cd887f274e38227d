//! The media type of a file, told by its name alone.

/// A media type that costs nothing to keep: the open-file cache stores it beside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentType {
    /// Type and subtype, for example `text/html`.
    pub(crate) essence: &'static str,
    /// Whether `; charset=utf-8` is said after it.
    pub(crate) utf8: bool,
}

impl ContentType {
    /// What a file is when its name does not tell.
    pub(crate) const UNKNOWN: ContentType =
        ContentType { essence: "application/octet-stream", utf8: false };

    /// Looks at what stands behind the last dot of the last path segment.
    ///
    /// Text is said to be UTF-8, with one exception: XML names its encoding inside, and a charset
    /// parameter would overrule it (RFC 7303, section 3).
    pub(crate) fn of_path(path: &[u8]) -> ContentType {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let extension = match name.iter().rposition(|&byte| byte == b'.') {
            // The dot of `.profile` hides the file; it does not begin an extension.
            None | Some(0) => return ContentType::UNKNOWN,
            Some(dot) => &name[dot + 1..],
        };
        let Some(essence) = std::str::from_utf8(extension)
            .ok()
            .and_then(|extension| mime_guess::from_ext(extension).first_raw())
        else {
            return ContentType::UNKNOWN;
        };
        let text = essence.starts_with("text/") && essence != "text/xml";
        ContentType { essence, utf8: text || essence == "application/javascript" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> (&'static str, bool) {
        let found = ContentType::of_path(path.as_bytes());
        (found.essence, found.utf8)
    }

    #[test]
    fn types_by_extension() {
        assert_eq!(of("index.html"), ("text/html", true));
        assert_eq!(of("a/b/NOTES.TXT"), ("text/plain", true));
        assert_eq!(of("app.js"), ("text/javascript", true));
        assert_eq!(of("feed.xml"), ("text/xml", false));
        assert_eq!(of("data.json"), ("application/json", false));
        assert_eq!(of("archive.tar.gz"), ("application/gzip", false));
        assert_eq!(of("video.mp4"), ("video/mp4", false));
    }

    #[test]
    fn names_that_do_not_tell() {
        let unknown = ("application/octet-stream", false);
        for name in ["README", ".html", "dir.html/file", "file.", "file.nonesuch", ""] {
            assert_eq!(of(name), unknown, "{name}");
        }
        assert_eq!(ContentType::of_path(b"name.\xff\xfe"), ContentType::UNKNOWN);
    }
}
