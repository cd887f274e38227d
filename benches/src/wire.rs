//! The few bytes of protocol of the keep-alive points: a fixed request, an HTTP-like answer.

/// Length of every request, in bytes.
pub(crate) const REQUEST_LEN: usize = 16;

/// Length of every answer's header, in bytes: about what a real server sends.
pub(crate) const RESPONSE_HEADER_LEN: usize = 200;

/// The request, the same every time.
pub(crate) const REQUEST: [u8; REQUEST_LEN] = *b"GET /file HTTP\r\n";

/// The header of an answer whose body is `body_len` bytes long; padded to [`RESPONSE_HEADER_LEN`].
pub(crate) fn response_header(body_len: usize) -> Vec<u8> {
    let start = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {body_len}\r\nContent-Type: application/octet-stream\r\n\
         Connection: keep-alive\r\nAccept-Ranges: bytes\r\nX-Padding: "
    );
    let mut header = start.into_bytes();
    header.resize(RESPONSE_HEADER_LEN - 4, b'.');
    header.extend_from_slice(b"\r\n\r\n");
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_has_its_length_for_any_body() {
        for len in [0, 65_536, usize::MAX] {
            let header = response_header(len);
            assert_eq!(header.len(), RESPONSE_HEADER_LEN);
            assert!(header.ends_with(b"\r\n\r\n"));
        }
    }
}
