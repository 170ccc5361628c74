//! Host and port as they stand in `Host` and in targets.

use std::fmt;
use std::io::Write;
use std::net::IpAddr;

/// Longest host kept; what is longer is cut.
pub const ADDRESS_BYTES: usize = 64;

/// Longest name of a Unix socket: `sun_path` has so many bytes.
const SOCKET_NAME_BYTES: usize = 108;

/// Why bytes are not a host with an optional port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// There is no host.
    #[error("empty host, expected a name or an address")]
    Empty,
    /// A byte stands there that no host has.
    #[error("invalid byte in host, expected a name or an address")]
    Byte,
    /// What follows the host is not a port.
    #[error("invalid port, expected a number from 1 to 65535")]
    Port,
    /// An IPv6 literal lacks its closing bracket.
    #[error("invalid address literal, expected a closing bracket")]
    Bracket,
}

/// A host in lower case, at most [`ADDRESS_BYTES`] long, IPv6 literals without their brackets; or the name of a Unix
/// socket as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address {
    bytes: [u8; SOCKET_NAME_BYTES],
    len: u8,
}

impl Address {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    /// Text of an IP address.
    pub fn from_ip(ip: IpAddr) -> Self {
        let mut bytes = [0; SOCKET_NAME_BYTES];
        let mut rest = &mut bytes[..];
        // The longest address has 45 bytes, so writing to the array does not fail.
        let is_written = write!(rest, "{ip}").is_ok();
        let len = if is_written {
            SOCKET_NAME_BYTES - rest.len()
        } else {
            0
        };
        Self {
            bytes,
            len: u8::try_from(len).unwrap_or(0),
        }
    }

    /// Name that a Unix socket is bound to, as the kernel keeps it: a path up to its zero byte, or a zero byte and an
    /// abstract name, shown as the kernel does, with `@` for zero bytes. `None` for no name, and for one that is not
    /// text.
    pub fn from_socket_name(name: &[u8]) -> Option<Self> {
        let is_abstract = name.first() == Some(&0);
        let path = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let shown = if is_abstract { name } else { path };
        let shown = shown.get(..shown.len().min(SOCKET_NAME_BYTES))?;
        let is_text = std::str::from_utf8(shown).is_ok_and(|text| {
            text.chars()
                .all(|found| found == '\0' || !found.is_control())
        });
        if shown.is_empty() || !is_text {
            return None;
        }
        let mut bytes = [0; SOCKET_NAME_BYTES];
        for (slot, byte) in bytes.iter_mut().zip(shown) {
            *slot = if *byte == 0 { b'@' } else { *byte };
        }
        Some(Self {
            bytes,
            len: u8::try_from(shown.len()).ok()?,
        })
    }

    fn from_bytes(host: &[u8]) -> Result<Self, AuthorityError> {
        if host.is_empty() {
            return Err(AuthorityError::Empty);
        }
        if !host.iter().all(|byte| is_host_byte(*byte)) {
            return Err(AuthorityError::Byte);
        }
        let mut bytes = [0; SOCKET_NAME_BYTES];
        let mut len = 0;
        for (slot, byte) in bytes.iter_mut().zip(&host[..host.len().min(ADDRESS_BYTES)]) {
            *slot = byte.to_ascii_lowercase();
            len += 1;
        }
        Ok(Self { bytes, len })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

/// A host and its port, if one was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub address: Address,
    /// The port.
    pub port: Option<u16>,
}

impl Authority {
    /// Splits a host and port.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthorityError> {
        let (host, rest) = if let Some(inner) = bytes.strip_prefix(b"[") {
            let end = inner.iter().position(|byte| *byte == b']');
            let end = end.ok_or(AuthorityError::Bracket)?;
            (&inner[..end], &inner[end + 1..])
        } else {
            let colon = bytes.iter().position(|byte| *byte == b':');
            bytes.split_at(colon.unwrap_or(bytes.len()))
        };
        Ok(Self {
            address: Address::from_bytes(host)?,
            port: parse_port(rest)?,
        })
    }
}

/// Parses `:port`; nothing, or a colon alone, is no port.
fn parse_port(bytes: &[u8]) -> Result<Option<u16>, AuthorityError> {
    let digits = match bytes {
        [] | [b':'] => return Ok(None),
        [b':', digits @ ..] => digits,
        _ => return Err(AuthorityError::Port),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(AuthorityError::Port);
    }
    let text = std::str::from_utf8(digits).map_err(|_error| AuthorityError::Port)?;
    match text.parse() {
        Ok(0) | Err(_) => Err(AuthorityError::Port),
        Ok(port) => Ok(Some(port)),
    }
}

/// Bytes of names, IPv4 and IPv6 addresses; `_` and `%` (zones, encoded names) occur in practice.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%:!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn splits_host_and_port() {
        let cases: &[(&str, &str, Option<u16>)] = &[
            ("Example.ORG", "example.org", None),
            ("a:8080", "a", Some(8080)),
            ("a:", "a", None),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("[::1]", "::1", None),
            ("[FE80::1%25eth0]:65535", "fe80::1%25eth0", Some(65535)),
        ];
        for (text, address, port) in cases {
            let parsed = Authority::parse(text.as_bytes()).unwrap();
            assert_eq!(
                (parsed.address.as_str(), parsed.port),
                (*address, *port),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_host() {
        let cases: &[(&[u8], AuthorityError)] = &[
            (b"", AuthorityError::Empty),
            (b":80", AuthorityError::Empty),
            (b"[]", AuthorityError::Empty),
            (b"[::1", AuthorityError::Bracket),
            (b"a b", AuthorityError::Byte),
            (b"a/b", AuthorityError::Byte),
            (b"\xff", AuthorityError::Byte),
            (b"a:0", AuthorityError::Port),
            (b"a:65536", AuthorityError::Port),
            (b"a:+1", AuthorityError::Port),
            (b"::1", AuthorityError::Empty),
            (b"[::1]x", AuthorityError::Port),
        ];
        for (bytes, error) in cases {
            assert_eq!(
                Authority::parse(bytes),
                Err(*error),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn names_of_sockets_stay_as_they_are() {
        let cases: &[(&[u8], Option<&str>)] = &[
            (b"/run/App.sock\0", Some("/run/App.sock")),
            (b"/run/App.sock", Some("/run/App.sock")),
            (b"/run/a\0/b", Some("/run/a")),
            (b"rel.sock\0", Some("rel.sock")),
            (b"\0abstract", Some("@abstract")),
            (b"\0a\0b", Some("@a@b")),
            ("/tmp/\u{e9} 1\0".as_bytes(), Some("/tmp/\u{e9} 1")),
            (b"", None),
            (b"/tmp/\xff\0", None),
            (b"/tmp/a\nb\0", None),
        ];
        for (name, shown) in cases {
            let found = Address::from_socket_name(name);
            let found = found.as_ref().map(Address::as_str);
            assert_eq!(found, *shown, "{}", name.escape_ascii());
        }
        let longest = [b'/'; 200];
        let found = Address::from_socket_name(&longest).unwrap();
        assert_eq!(found.as_str().len(), 108);
    }

    #[test]
    fn cuts_long_names() {
        let name = "A".repeat(300);
        let parsed = Authority::parse(name.as_bytes()).unwrap();
        assert_eq!(parsed.address.as_str(), "a".repeat(ADDRESS_BYTES));
    }

    #[test]
    fn writes_addresses() {
        for text in ["10.0.0.1", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert_eq!(Address::from_ip(text.parse().unwrap()).as_str(), text);
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_lowers(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(parsed) = Authority::parse(&bytes) {
                let text = parsed.address.as_str();
                prop_assert!(!text.is_empty() && text.len() <= ADDRESS_BYTES);
                prop_assert_eq!(text.to_ascii_lowercase(), text);
            }
        }
    }
}
