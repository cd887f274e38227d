//! The few bytes of protocol of the keep-alive points: a request of fixed length, an HTTP-like answer.

use crate::point::Slices;

/// Length of every request, in bytes.
pub(crate) const REQUEST_LEN: usize = 16;

/// Length of every answer's header, in bytes: about what a real server sends.
pub(crate) const RESPONSE_HEADER_LEN: usize = 200;

const DIGITS: std::ops::Range<usize> = 4..12;

/// The request for the slice with this number, which has at most eight digits.
pub(crate) fn request(slice: u64) -> [u8; REQUEST_LEN] {
    let mut request = *b"GET 00000000  \r\n";
    let text = format!("{slice:08}");
    request[DIGITS].copy_from_slice(&text.as_bytes()[text.len() - DIGITS.len()..]);
    request
}

/// Where the body that `request` asks for begins; `None` if it is no request for one of `slices`.
pub(crate) fn offset_asked(request: &[u8; REQUEST_LEN], slices: Slices) -> Option<u64> {
    let digit = |number: u64, byte: &u8| {
        byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
    };
    let number = request[DIGITS].iter().try_fold(0, digit)?;
    request.starts_with(b"GET ").then(|| slices.offset(number))?
}

/// The header of an answer whose body is `body_len` bytes long; padded to [`RESPONSE_HEADER_LEN`].
pub(crate) fn response_header(body_len: u64) -> Vec<u8> {
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
        for len in [0, 65_536, u64::MAX] {
            let header = response_header(len);
            assert_eq!(header.len(), RESPONSE_HEADER_LEN);
            assert!(header.ends_with(b"\r\n\r\n"));
        }
    }

    #[test]
    fn requests_ask_for_slices_that_exist() {
        let slices = Slices { len: 10, stride: 100, count: 43 };
        assert_eq!(offset_asked(&request(0), slices), Some(0));
        assert_eq!(offset_asked(&request(42), slices), Some(4200));
        assert_eq!(offset_asked(&request(43), slices), None);
        assert_eq!(offset_asked(b"GET 0000000x  \r\n", slices), None);
        assert_eq!(offset_asked(b"PUT 00000000  \r\n", slices), None);
    }
}
