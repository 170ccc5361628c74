//! What the first bytes of a call look like, on a socket of which nothing is known.

use crate::head::{HTTP_1, HTTP_1_MASK};

/// A guess from at most eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sniffed {
    /// Nothing this agent knows.
    Nothing = 0,
    /// May be, or become, a request line.
    Request = 1,
    /// A status line.
    Response = 2,
    /// A TLS record.
    Tls = 3,
    /// The preface of HTTP/2 (RFC 9113, section 3.4).
    Http2 = 4,
}

/// Bitmap of the bytes of a token (RFC 9110, section 5.6.2) below 64, and from 64 to 127.
const TOKEN_LOW: u64 = bitmap(b"!#$%&'*+-.0123456789", 0);
const TOKEN_HIGH: u64 = bitmap(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~",
    64,
);
const PREFACE: u64 = u64::from_le_bytes(*b"PRI * HT");

const fn bitmap(bytes: &[u8], base: u8) -> u64 {
    let mut map = 0;
    let mut index = 0;
    while index < bytes.len() {
        map |= 1 << (bytes[index] - base);
        index += 1;
    }
    map
}

/// Whether a byte may stand in a method.
#[inline(always)]
pub(crate) const fn is_token(byte: u8) -> bool {
    let map = if byte < 64 { TOKEN_LOW } else { TOKEN_HIGH };
    byte < 128 && (map >> (byte & 63)) & 1 == 1
}

/// Guesses from the first bytes of a call: the eight lowest of its `have` bytes, as a word.
#[inline(always)]
pub fn sniff(first: u64, have: u32) -> Sniffed {
    if have == 0 {
        return Sniffed::Nothing;
    }
    if have >= 8 && (first ^ HTTP_1) & HTTP_1_MASK == 0 {
        return Sniffed::Response;
    }
    if have >= 3 && first & 0xffff == 0x0316 {
        return Sniffed::Tls;
    }
    if have >= 8 && first == PREFACE {
        return Sniffed::Http2;
    }
    // Empty lines before a request are tolerated: look from there on.
    if have > 2 && first & 0xffff == 0x0a0d {
        return request(first >> 16, have.min(8) - 2);
    }
    request(first, have.min(8))
}

/// Whether `have` bytes (at most eight) may be the start of a method: a token, then a space.
#[inline(always)]
fn request(word: u64, have: u32) -> Sniffed {
    let mut index = 0;
    while index < have {
        let byte = (word >> (index * 8)) as u8;
        if byte == b' ' && index > 0 {
            return Sniffed::Request;
        }
        if !is_token(byte) {
            return Sniffed::Nothing;
        }
        index += 1;
    }
    Sniffed::Request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Sniffed {
        let mut padded = [0u8; 16];
        let have = bytes.len().min(16);
        padded[..have].copy_from_slice(&bytes[..have]);
        let (first, _) = padded.split_at(8);
        sniff(u64::from_le_bytes(first.try_into().unwrap()), have as u32)
    }

    #[test]
    fn tells_protocols_apart() {
        assert_eq!(of(b"GET / HTTP/1.1\r\n"), Sniffed::Request);
        assert_eq!(of(b"G"), Sniffed::Request);
        assert_eq!(of(b"\r\nGET / HTTP/1.1"), Sniffed::Request);
        assert_eq!(of(b"PROPPATCHX /"), Sniffed::Request);
        assert_eq!(of(b"HTTP/1.1 200 OK\r\n"), Sniffed::Response);
        assert_eq!(of(b"\x16\x03\x01\x02\x00\x01"), Sniffed::Tls);
        assert_eq!(of(b"PRI * HTTP/2.0\r\n\r\n"), Sniffed::Http2);
        assert_eq!(of(b"*1\r\n$4\r\nPING\r\n"), Sniffed::Nothing);
        assert_eq!(of(b" GET"), Sniffed::Nothing);
        assert_eq!(of(b"\0\0\0\x08\x04"), Sniffed::Nothing);
        assert_eq!(of(b""), Sniffed::Nothing);
    }
}
