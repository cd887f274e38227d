//! The forms of a request target (RFC 9112, section 3.2) and the grammar of an authority.

use super::request::{Method, Refusal};
use super::status::Status;

/// Takes the scheme and the authority off a target.
///
/// The asterisk stays what it is, for OPTIONS alone. For a method that is not served the target
/// does not matter, and the authority form of CONNECT is let through to be answered with 405.
pub(super) fn origin_form(method: Method, target: &str) -> Result<&str, Refusal> {
    if target.contains('#') {
        return Err((Status::BadRequest, "A request target has no fragment."));
    }
    if target.starts_with('/') || (target == "*" && method == Method::Options) {
        return Ok(target);
    }
    if let Some(rest) = without_scheme(target) {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, origin) = rest.split_at(end);
        return if !authority.is_empty() && is_authority(authority.as_bytes()) {
            Ok(if origin.is_empty() { "/" } else { origin })
        } else {
            Err((Status::BadRequest, "The request target has a malformed authority."))
        };
    }
    match method {
        Method::NotAllowed | Method::NotImplemented => Ok(target),
        _ => Err((Status::BadRequest, "The request target is neither a path nor a URL.")),
    }
}

/// Whether these bytes can stand in a `Host` field: characters of `uri-host [ ":" port ]`, no user.
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte))
}

/// The authority of a target that is a URL.
pub(super) fn authority(target: &str) -> Option<&str> {
    let rest = without_scheme(target)?;
    rest.split(['/', '?']).next()
}

fn without_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (head, rest) = target.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_forms() {
        for (target, origin) in [
            ("/a?b", "/a?b"),
            ("http://host/a?b", "/a?b"),
            ("HTTPS://[::1]:80", "/"),
            ("http://host?b", "?b"),
        ] {
            assert_eq!(origin_form(Method::Get, target), Ok(origin));
        }
        assert_eq!(authority("HTTPS://[::1]:80/a?b"), Some("[::1]:80"));
        assert_eq!(authority("http://host?b"), Some("host"));
        assert_eq!(authority("/a?http://host/"), None);
        assert_eq!(origin_form(Method::Options, "*"), Ok("*"));
        assert_eq!(origin_form(Method::NotAllowed, "host:443"), Ok("host:443"));
    }

    #[test]
    fn refused_forms() {
        for target in
            ["*", "a", "host:80", "ftp://host/a", "http:///a", "http://u@host/", "/a#b", "*x"]
        {
            assert_eq!(
                origin_form(Method::Get, target).map_err(|(status, _)| status),
                Err(Status::BadRequest)
            );
        }
    }
}
