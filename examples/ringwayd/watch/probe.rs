//! Asks a receiver whether it has a file already: HEAD, and the digest that it answers (RFC 9530).

use std::time::Duration;

use ringway::runtime::time;

use crate::client::digest::Sha256;
use crate::client::outcome::Failure;
use crate::client::response::{Head, Parsed, parse};
use crate::client::secret::Token;
use crate::client::url::Url;
use crate::client::wire::Wire;

/// Whether the file at `url` has this digest, as far as the receiver says.
///
/// # Errors
///
/// [`Failure`] if nothing could be heard of it.
///
/// # Cancel safety
///
/// The connection is lost.
pub(crate) async fn has(
    wire: &mut Wire,
    url: &Url,
    token: Option<&Token>,
    digest: &Sha256,
    silence: Duration,
) -> Result<bool, Failure> {
    let asking = time::timeout(silence, async {
        let broken = |error: std::io::Error| Failure::Broken(error.to_string());
        wire.send(question(url, token).as_bytes()).await.map_err(broken)?;
        answer(wire).await
    });
    let head = asking.await.map_err(|_| Failure::Silent(silence))??;
    Ok(says(&head, digest))
}

fn question(url: &Url, token: Option<&Token>) -> String {
    let authorization = match token {
        Some(token) => format!("Authorization: {}\r\n", token.field()),
        None => String::new(),
    };
    format!(
        "HEAD {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: ringwayd/{}\r\nAccept: */*\r\n\
         Accept-Encoding: identity\r\nWant-Repr-Digest: sha-256=10\r\n{authorization}\
         Connection: close\r\n\r\n",
        url.target(),
        url.host_field(),
        env!("CARGO_PKG_VERSION"),
    )
}

async fn answer(wire: &Wire) -> Result<Head, Failure> {
    let ear = wire.ear();
    let mut received = Vec::new();
    let mut piece = [0; 2048];
    loop {
        match parse(&received)? {
            Parsed::Complete(head, consumed) if head.is_interim() => {
                received.drain(..consumed);
            }
            Parsed::Complete(head, _) => return Ok(head),
            Parsed::Partial => match ear.receive(&mut piece).await {
                Ok(0) => return Err(Failure::Broken("it was closed without an answer".to_owned())),
                Ok(len) => received.extend_from_slice(&piece[..len]),
                Err(error) => return Err(Failure::Broken(error.to_string())),
            },
        }
    }
}

/// A receiver that does not say which bytes it has, may have others.
fn says(head: &Head, digest: &Sha256) -> bool {
    let plain = head.field("content-encoding").is_none_or(|coding| coding == "identity");
    head.status == 200 && plain && Sha256::in_fields(head.values("repr-digest")) == Some(*digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        match parse(text.as_bytes()).unwrap() {
            Parsed::Complete(head, _) => head,
            Parsed::Partial => panic!("partial: {text:?}"),
        }
    }

    #[test]
    fn only_who_says_the_same_digest_has_the_file() {
        let digest = Sha256([0; 32]);
        let field = format!("Repr-Digest: {}\r\n", digest.field());
        assert!(says(&head(&format!("HTTP/1.1 200 OK\r\n{field}\r\n")), &digest));
        for other in [
            format!("HTTP/1.1 404 No\r\n{field}\r\n"),
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n{field}\r\n"),
            "HTTP/1.1 200 OK\r\nETag: \"x\"\r\n\r\n".to_owned(),
            format!("HTTP/1.1 200 OK\r\nRepr-Digest: {}\r\n\r\n", Sha256([1; 32]).field()),
        ] {
            assert!(!says(&head(&other), &digest), "{other}");
        }
    }

    #[test]
    fn a_question_has_no_body_and_asks_for_the_digest() {
        let text = question(&Url::parse("http://a/b%20c").unwrap(), None);
        assert!(text.starts_with("HEAD /b%20c HTTP/1.1\r\nHost: a\r\n"), "{text}");
        assert!(text.contains("\r\nWant-Repr-Digest: sha-256=10\r\n"));
        assert!(text.ends_with("\r\nConnection: close\r\n\r\n"));
    }
}
