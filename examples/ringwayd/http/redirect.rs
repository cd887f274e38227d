//! Where nothing is served without encryption: the way to the same path by https.

use super::{Answer, Date, Method, Reply, Request, Status};

/// Sends GET and HEAD to the https URL of what they ask for, at the host that they have asked, and refuses
/// all else: its body has come in the clear already, and would come so again if it were sent on.
pub(crate) fn to_https(request: &Request<'_>, port: u16, date: &Date, out: &mut Vec<u8>) -> Answer {
    let reply = Reply::to(request, date, out);
    if !matches!(request.method, Method::Get | Method::Head) {
        let sentence = "Only GET and HEAD are led to https from here; use https for this.";
        return reply.text(Status::Forbidden, sentence, |head| head);
    }
    match request.authority.and_then(host) {
        Some(host) => reply.text(Status::PermanentRedirect, "This is served by https.", |head| {
            head.location_by_https(host, port, request.origin)
        }),
        None => reply.text(Status::BadRequest, "A Host field must name the host.", |head| head),
    }
}

/// The host of an authority without its port; `None` if it is none.
fn host(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(address) => address.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let digits = port.strip_prefix(':').unwrap_or(port);
    let is_port = digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = !inner.is_empty() && !inner.contains(['[', ']']);
    (is_host && is_port && (port.is_empty() || port.starts_with(':'))).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::super::{HeadLimits, Parsed, parse};
    use super::*;

    #[test]
    fn the_host_is_what_stands_before_the_port() {
        for (authority, expected) in [
            ("a.example", Some("a.example")),
            ("a.example:8080", Some("a.example")),
            ("a.example:", Some("a.example")),
            ("[::1]", Some("[::1]")),
            ("[::1]:8080", Some("[::1]")),
            ("", None),
            (":80", None),
            ("[]", None),
            ("[::1", None),
            ("[::1]80", None),
            ("::1", None),
            ("a:b", None),
            ("a:8:0", None),
            ("a[b]", None),
        ] {
            assert_eq!(host(authority), expected, "{authority}");
        }
    }

    fn answered(head: &str, port: u16) -> (u16, Option<String>) {
        let Parsed::Complete { request, .. } = parse(head.as_bytes(), &HeadLimits::default())
        else {
            panic!("{head}")
        };
        let mut out = Vec::new();
        let answer = to_https(&request, port, &Date::from_second(0), &mut out);
        let text = String::from_utf8(out).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Location: "));
        (answer.status.code(), line.map(str::to_owned))
    }

    #[test]
    fn the_path_the_query_and_the_host_stay_and_the_port_is_named_if_it_is_not_the_usual_one() {
        let to = |head: &str, port| answered(head, port).1.unwrap();
        let head = "GET /a%20b/?c=d HTTP/1.1\r\nHost: x.example:80\r\n\r\n";
        assert_eq!(to(head, 443), "https://x.example/a%20b/?c=d");
        assert_eq!(to(head, 8443), "https://x.example:8443/a%20b/?c=d");
        // The target counts more than the field.
        let head = "HEAD http://[::1]:80?q HTTP/1.1\r\nHost: other\r\n\r\n";
        assert_eq!(to(head, 443), "https://[::1]/?q");
        let head = "GET //other.example/ HTTP/1.1\r\nHost: x.example\r\n\r\n";
        assert_eq!(to(head, 443), "https://x.example//other.example/");
        let head = "GET /\u{fc} HTTP/1.1\r\nHost: x.example\r\n\r\n";
        assert_eq!(to(head, 443), "https://x.example/%C3%BC");
    }

    #[test]
    fn without_a_host_there_is_nowhere_to_go() {
        for head in [
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        ] {
            assert_eq!(answered(head, 443), (400, None), "{head}");
        }
    }

    #[test]
    fn what_brings_something_is_refused() {
        for method in ["PUT", "POST", "DELETE", "OPTIONS", "TRACE", "ODD"] {
            let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(answered(&head, 443), (403, None), "{method}");
        }
    }
}
