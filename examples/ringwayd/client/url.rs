//! Where a file goes to or comes from.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::outcome::Failure;

/// What a path segment may hold as it is (RFC 3986, section 3.3); all else is percent-encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An `http` or `https` URL, taken apart.
///
/// [`Display`](fmt::Display) leaves out the query: that of a presigned URL is a password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    path: String,
    query: Option<String>,
}

/// How the peer is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn text(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Why a text is no URL that can be used here, with what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadUrl {
    text: String,
    why: &'static str,
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` cannot be used: {}", self.text, self.why)
    }
}

impl std::error::Error for BadUrl {}

impl Url {
    /// Takes a text apart.
    ///
    /// # Errors
    ///
    /// [`BadUrl`] says what is wrong with it; a query, which may be a password, is not repeated.
    pub(crate) fn parse(text: &str) -> Result<Url, BadUrl> {
        let shown = text.split(['?', '#']).next().unwrap_or_default();
        let bad = |why| BadUrl { text: shown.to_owned(), why };
        if text.contains('#') {
            return Err(bad("a fragment (`#`) never leaves this machine: write it as %23"));
        }
        let begins = |scheme: &str| {
            text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
        };
        if !begins("http://") && !begins("https://") {
            return Err(bad("it must begin with http:// or https://"));
        }
        let uri: Uri = text.parse().map_err(|_| bad("write it as http://HOST[:PORT]/PATH"))?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            _ => Scheme::Http,
        };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            let shown = format!("{}://…", scheme.text());
            let why = "a password does not belong into a URL: give a token by --token-file";
            return Err(BadUrl { text: shown, why });
        }
        let host_text = uri.host().unwrap_or_default();
        let bare = host_text.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host_text);
        let says_port = uri.authority().is_some_and(|all| !all.as_str().ends_with(host_text));
        if host.is_empty() || uri.port_u16() == Some(0) || says_port && uri.port_u16().is_none() {
            return Err(bad("it names no host and port to connect to"));
        }
        Ok(Url {
            scheme,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(scheme.port()),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }

    /// Whether it names a folder, so that the name of the file is still to come.
    pub(crate) fn is_folder(&self) -> bool {
        self.path.ends_with('/')
    }

    /// The same, with the name of a file behind it if it is a folder.
    pub(crate) fn for_file(&self, name: &OsStr) -> Url {
        let mut url = self.clone();
        if url.is_folder() {
            url.path.extend(percent_encode(name.as_bytes(), SEGMENT));
        }
        url
    }

    /// The same, with a path below it if it is a folder.
    pub(crate) fn for_path(&self, path: &[u8]) -> Url {
        let mut url = self.clone();
        if url.is_folder() {
            for (place, name) in path.split(|&byte| byte == b'/').enumerate() {
                url.path.push_str(if place > 0 { "/" } else { "" });
                url.path.extend(percent_encode(name, SEGMENT));
            }
        }
        url
    }

    /// The whole text, with the query: for who keeps it, not for who shows it.
    pub(crate) fn secret_text(&self) -> String {
        format!("{}://{}{}", self.scheme.text(), self.host_field(), self.target())
    }

    /// The name of the file that it leads to: what stands behind the last slash, decoded.
    pub(crate) fn file_name(&self) -> Option<PathBuf> {
        let segment = self.path.rsplit('/').next()?;
        let name: Vec<u8> = percent_decode_str(segment).collect();
        let usual = !name.is_empty() && !name.contains(&b'/') && !name.contains(&0);
        let dots = name == b"." || name == b"..";
        (usual && !dots).then(|| PathBuf::from(OsString::from_vec(name)))
    }

    /// Where a `Location` leads to from here.
    ///
    /// # Errors
    ///
    /// [`Failure::Malformed`] if it is neither a URL nor a path, and if it leads to another scheme.
    pub(crate) fn join(&self, location: &str) -> Result<Url, Failure> {
        let location = location.split('#').next().unwrap_or_default();
        let (scheme, host) = (self.scheme.text(), self.host_field());
        let text = if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{host}{location}")
        } else if location.contains("://") || location.is_empty() {
            location.to_owned()
        } else {
            // From the folder of this one (RFC 3986, section 5.2).
            let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{host}{folder}/{location}")
        };
        let next = Url::parse(&text);
        let next = next.map_err(|_| Failure::Malformed("it redirects to what is no URL"))?;
        if next.scheme != self.scheme {
            return Err(Failure::Malformed("it redirects to another scheme"));
        }
        Ok(next)
    }

    /// Whom it leads to.
    pub(crate) fn server(&self) -> (Scheme, String, u16) {
        (self.scheme, self.host.clone(), self.port)
    }

    /// All of it, secrets included, to be kept where nobody else reads it.
    pub(crate) fn whole(&self) -> String {
        format!("{}://{}{}", self.scheme.text(), self.host_field(), self.target())
    }

    /// What stands in the request line.
    pub(crate) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The value of the field `Host`.
    pub(crate) fn host_field(&self) -> String {
        let brackets = self.host.contains(':');
        let (open, close) = if brackets { ("[", "]") } else { ("", "") };
        let host = &self.host;
        match self.port == self.scheme.port() {
            true => format!("{open}{host}{close}"),
            false => format!("{open}{host}{close}:{}", self.port),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.text(), self.host_field(), self.path)?;
        if self.query.is_some() { f.write_str("?…") } else { Ok(()) }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_url_is_taken_apart() {
        let plain = url("http://example.org/a/b");
        assert_eq!((plain.host.as_str(), plain.port), ("example.org", 80));
        assert_eq!((plain.target(), plain.host_field()), ("/a/b".into(), "example.org".into()));
        let ported = url("https://example.org:8443");
        assert_eq!((ported.scheme, ported.port), (Scheme::Https, 8443));
        assert_eq!((ported.target(), ported.host_field()), ("/".into(), "example.org:8443".into()));
        let six = url("http://[::1]:8080/x");
        assert_eq!((six.host.as_str(), six.host_field()), ("::1", "[::1]:8080".into()));
    }

    #[test]
    fn a_folder_takes_the_name_of_the_file_and_a_file_does_not() {
        let named = |text, name: &str| url(text).for_file(OsStr::new(name)).target();
        assert_eq!(named("http://a/in/", "x.tar"), "/in/x.tar");
        assert_eq!(named("http://a", "x.tar"), "/x.tar");
        assert_eq!(named("http://a/in/y", "x.tar"), "/in/y");
        assert_eq!(named("http://a/in/", "ä b?#/%"), "/in/%C3%A4%20b%3F%23%2F%25");
        assert_eq!(named("http://a/in/?sig=1", "x"), "/in/x?sig=1");
    }

    #[test]
    fn a_name_is_one_segment_and_never_leads_elsewhere() {
        let name = |text| url(text).file_name().map(|name| name.to_str().unwrap().to_owned());
        assert_eq!(name("http://a/b/c%20d?e"), Some("c d".to_owned()));
        for text in ["http://a", "http://a/b/", "http://a/..", "http://a/%2e%2e", "http://a/b%2Fc"]
        {
            assert_eq!(name(text), None, "{text}");
        }
    }

    #[test]
    fn a_redirect_leads_to_a_path_or_to_another_host() {
        let join = |location| url("http://a:81/b").join(location).map(|url| url.to_string());
        assert_eq!(join("/c#d"), Ok("http://a:81/c".to_owned()));
        assert_eq!(join("http://x/y"), Ok("http://x/y".to_owned()));
        assert_eq!(join("c"), Ok("http://a:81/c".to_owned()));
        assert_eq!(join("//x/y"), Ok("http://x/y".to_owned()));
        for location in ["", "https://a:81/b", "ftp://x"] {
            assert!(join(location).is_err(), "{location}");
        }
    }

    #[test]
    fn a_query_goes_out_and_is_not_shown() {
        let presigned = url("http://a/b?X-Signature=secret");
        assert_eq!(presigned.target(), "/b?X-Signature=secret");
        assert_eq!(presigned.to_string(), "http://a/b?…");
        assert!(!format!("{presigned:?}").contains("secret"));
    }

    #[test]
    fn what_is_no_url_is_refused_without_telling_secrets() {
        let refused = |text| Url::parse(text).unwrap_err().to_string();
        assert!(refused("example.org/a").contains("must begin with http://"));
        assert!(refused("ftp://a/b").contains("must begin with http://"));
        assert!(refused("http://a/b c?secret").contains("HOST"));
        assert!(!refused("http://a/b c?secret").contains("secret"));
        assert!(!refused("http://user:secret@a/b").contains("secret"));
        assert!(refused("http://a/b#c").contains("fragment"));
        assert!(refused("http://a:0/b").contains("no host and port"));
        assert!(refused("http://a:70000/b").contains("no host and port"));
    }
}
