//! The head of an HTTP answer: checked every time, because a server that answers with an error page is fast.

use anyhow::{Result, bail, ensure};

/// Headers that an answer may have.
const HEADERS_MAX: usize = 32;

/// The length of the head that `bytes` begin with; `None` if it is not complete.
///
/// # Errors
///
/// It is not the head of a keep-alive answer with status 200 and a body of `body_len` bytes.
pub(crate) fn check(bytes: &[u8], body_len: usize) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let head_len = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => bail!("wrong answer: this is no HTTP: {error}"),
    };
    let status = answer.code.unwrap_or_default();
    ensure!(status == 200, "wrong answer: its status is {status}");
    let mut announced = None;
    for header in answer.headers.iter() {
        let value = header.value.trim_ascii();
        if header.name.eq_ignore_ascii_case("content-length") {
            ensure!(announced.is_none(), "wrong answer: two lengths");
            announced = Some(str::from_utf8(value)?.parse::<usize>()?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("wrong answer: it is chunked or the like");
        } else if header.name.eq_ignore_ascii_case("connection") {
            let keeps = value.eq_ignore_ascii_case(b"keep-alive");
            ensure!(keeps, "wrong answer: the server does not keep the connection");
        }
    }
    ensure!(announced == Some(body_len), "wrong count: the length announced is {announced:?}");
    Ok(Some(head_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 7\r\nConnection: keep-alive\r\n\r\n";

    #[test]
    fn good_head_is_measured_once_it_is_complete() {
        for len in 0..GOOD.len() {
            assert_eq!(check(&GOOD.as_bytes()[..len], 7).unwrap(), None, "{len}");
        }
        assert_eq!(check(GOOD.as_bytes(), 7).unwrap(), Some(GOOD.len()));
        assert_eq!(check(format!("{GOOD}body").as_bytes(), 7).unwrap(), Some(GOOD.len()));
    }

    #[test]
    fn other_heads_are_refused() {
        for (from, to) in [
            ("200", "404"),
            ("length: 7", "length: 8"),
            ("content-length: 7\r\n", ""),
            ("Server: x", "Content-Length: 7"),
            ("Server: x", "Transfer-Encoding: chunked"),
            ("keep-alive", "close"),
            ("HTTP/1.1", "SMTP"),
        ] {
            let head = GOOD.replace(from, to);
            assert!(check(head.as_bytes(), 7).is_err(), "{head}");
        }
    }
}
