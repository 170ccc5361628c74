//! The request line, and the head around it.

use kerntally_model::HttpVersion;

use crate::{Header, Headers};

/// Longest method accepted; the longest registered one (`UPDATEREDIRECTREF`) has 17 bytes.
const METHOD_BYTES: usize = 24;

/// Empty lines tolerated before the request line (RFC 9112, section 2.2 asks for at least one).
const LEADING_EMPTY_LINES: usize = 2;

/// Why bytes are not the start of an HTTP/1 request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no byte of a request line.
    #[error("empty head, expected a request line")]
    Empty,
    /// The first word is not a token of at most 24 bytes that a space follows.
    #[error("invalid method, expected a token of at most 24 bytes and a space")]
    Method,
    /// The target is empty or holds bytes that no target has.
    #[error("invalid target, expected visible bytes")]
    Target,
    /// The line ends with something other than ` HTTP/1.0` or ` HTTP/1.1`.
    #[error("invalid version, expected `HTTP/1.0` or `HTTP/1.1`")]
    Version,
}

/// Version of the request line, as far as it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// It was read.
    Known(HttpVersion),
    /// The bytes end before it.
    Cut,
}

/// A parsed request head; borrows the kept bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// Method, case as sent.
    pub method: &'a str,
    /// Target as sent, query included; only its first part if [`RequestHead::target_cut`].
    pub target: &'a [u8],
    /// The kept bytes end within the target.
    pub target_cut: bool,
    /// Version of the request line.
    pub version: Version,
    header_bytes: &'a [u8],
}

impl<'a> RequestHead<'a> {
    /// Parses the first bytes of a request.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RequestError> {
        let bytes = skip_empty_lines(bytes);
        if bytes.is_empty() {
            return Err(RequestError::Empty);
        }
        let (method, rest) = split_method(bytes)?;
        let end = rest.iter().position(|byte| !is_target_byte(*byte));
        let (target, rest) = rest.split_at(end.unwrap_or(rest.len()));
        if target.is_empty() {
            return Err(RequestError::Target);
        }
        let Some((b' ', rest)) = rest.split_first() else {
            return if rest.is_empty() {
                Ok(Self {
                    method,
                    target,
                    target_cut: true,
                    version: Version::Cut,
                    header_bytes: rest,
                })
            } else {
                Err(RequestError::Target)
            };
        };
        let (version, header_bytes) = split_version(rest)?;
        Ok(Self {
            method,
            target,
            target_cut: false,
            version,
            header_bytes,
        })
    }

    /// Header lines that were kept whole, in order; ends at the empty line or at the cut.
    pub fn headers(&self) -> Headers<'a> {
        Headers::new(self.header_bytes)
    }

    /// Value of the first `Host` header, without the white space around it.
    pub fn host(&self) -> Option<&'a [u8]> {
        self.headers()
            .find(|header| header.is(b"host"))
            .map(|Header { value, .. }| value)
    }
}

pub(crate) fn skip_empty_lines(mut bytes: &[u8]) -> &[u8] {
    for _ in 0..LEADING_EMPTY_LINES {
        match bytes {
            [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => bytes = rest,
            _ => break,
        }
    }
    bytes
}

fn split_method(bytes: &[u8]) -> Result<(&str, &[u8]), RequestError> {
    let window = &bytes[..bytes.len().min(METHOD_BYTES + 1)];
    let space = window
        .iter()
        .position(|byte| *byte == b' ')
        .ok_or(RequestError::Method)?;
    let (method, rest) = (&bytes[..space], &bytes[space + 1..]);
    if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) {
        return Err(RequestError::Method);
    }
    let method = std::str::from_utf8(method).map_err(|_error| RequestError::Method)?;
    Ok((method, rest))
}

/// Splits `HTTP/1.x` and its line end off; bytes that end within it are a cut, not an error.
fn split_version(bytes: &[u8]) -> Result<(Version, &[u8]), RequestError> {
    const PREFIX: &[u8] = b"HTTP/1.";
    let seen = bytes.len().min(PREFIX.len());
    if bytes[..seen] != PREFIX[..seen] {
        return Err(RequestError::Version);
    }
    let Some(minor) = bytes.get(PREFIX.len()) else {
        return Ok((Version::Cut, &[]));
    };
    let version = match minor {
        b'0' => HttpVersion::Http10,
        b'1' => HttpVersion::Http11,
        _ => return Err(RequestError::Version),
    };
    match &bytes[PREFIX.len() + 1..] {
        [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => Ok((Version::Known(version), rest)),
        [] | [b'\r'] => Ok((Version::Known(version), &[])),
        _ => Err(RequestError::Version),
    }
}

/// Bytes of a token (RFC 9110, section 5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[usize::from(byte)]
}

/// Every byte of every header name is asked about, so a table answers.
const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut position = 0;
    while position < marks.len() {
        table[marks[position] as usize] = true;
        position += 1;
    }
    table
};

/// Servers differ in what they take; only what ends the target or cannot be in a line is refused.
fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADS: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /x?y=1 HTTP/1.0\r\nContent-Length: 3\r\nhOsT:\t b:80 \r\n\r\nabc",
        b"CONNECT example.org:443 HTTP/1.1\nhost: c\n\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"\r\nUPDATEREDIRECTREF http://u@h/x HTTP/1.1\r\nHost:z\r\n\r\n",
    ];

    #[test]
    fn reads_method_target_version_and_host() {
        let head = RequestHead::parse(HEADS[1]).unwrap();
        assert_eq!(head.method, "POST");
        assert_eq!(head.target, b"/x?y=1");
        assert!(!head.target_cut);
        assert_eq!(head.version, Version::Known(HttpVersion::Http10));
        assert_eq!(head.host(), Some(&b"b:80"[..]));
        assert_eq!(
            RequestHead::parse(HEADS[2]).unwrap().host(),
            Some(&b"c"[..])
        );
        assert_eq!(RequestHead::parse(HEADS[3]).unwrap().host(), None);
        assert_eq!(
            RequestHead::parse(HEADS[4]).unwrap().host(),
            Some(&b"z"[..])
        );
    }

    #[test]
    fn every_prefix_agrees_with_the_whole() {
        for head in HEADS {
            let whole = RequestHead::parse(head).unwrap();
            for len in 0..head.len() {
                let Ok(part) = RequestHead::parse(&head[..len]) else {
                    assert!(len <= 20, "a longer prefix has at least the method");
                    continue;
                };
                assert_eq!(part.method, whole.method);
                assert!(whole.target.starts_with(part.target));
                assert_eq!(
                    part.target_cut,
                    part.target != whole.target || part.version == Version::Cut && part.target_cut
                );
                if let Version::Known(_) = part.version {
                    assert_eq!(part.version, whole.version);
                    assert_eq!(part.target, whole.target);
                }
                for (mine, full) in part.headers().zip(whole.headers()) {
                    assert_eq!(mine, full, "a cut header line is not a header");
                }
            }
        }
    }

    #[test]
    fn refuses_what_is_not_http_1() {
        let cases: &[(&[u8], RequestError)] = &[
            (b"", RequestError::Empty),
            (b"\r\n\r\n", RequestError::Empty),
            (b"\r\n\r\n\r\nGET / HTTP/1.1\r\n", RequestError::Method),
            (b"GET", RequestError::Method),
            (b" / HTTP/1.1\r\n", RequestError::Method),
            (b"G\x01T / HTTP/1.1\r\n", RequestError::Method),
            (
                b"AAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n",
                RequestError::Method,
            ),
            (b"GET  HTTP/1.1\r\n", RequestError::Target),
            (b"GET /a\tb HTTP/1.1\r\n", RequestError::Target),
            (b"GET /\r\n", RequestError::Target),
            (b"PRI * HTTP/2.0\r\n\r\n", RequestError::Version),
            (b"INVITE sip:a@b SIP/2.0\r\n", RequestError::Version),
            (b"GET / HTTP/1.2\r\n", RequestError::Version),
            (b"GET / HTTP/1.1x\r\n", RequestError::Version),
        ];
        for (bytes, error) in cases {
            assert_eq!(
                RequestHead::parse(bytes),
                Err(*error),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
            if let Ok(head) = RequestHead::parse(&bytes) {
                prop_assert!(head.headers().count() <= bytes.len());
                let _host = head.host();
            }
        }

        #[test]
        fn never_panics_behind_a_request_line(tail in "[ -~\r\n\t]{0,300}") {
            let text = format!("GET /{tail}");
            if let Ok(head) = RequestHead::parse(text.as_bytes()) {
                prop_assert!(head.headers().count() <= text.len());
                prop_assert!(head.target.starts_with(b"/"));
            }
        }
    }
}
