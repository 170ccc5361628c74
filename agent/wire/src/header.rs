//! Header lines of a head that may be cut.

use memchr::memchr;

use crate::request::is_token_byte;

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Name as sent.
    pub name: &'a [u8],
    /// Value without the white space around it.
    pub value: &'a [u8],
}

impl Header<'_> {
    /// Whether it has this name, in any case.
    pub fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Iterates over the whole header lines; lines that are not headers are passed over.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        loop {
            // A line without its end is cut: half a value must not be taken for a whole one.
            let end = memchr(b'\n', self.rest)?;
            let (line, rest) = (&self.rest[..end], &self.rest[end + 1..]);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                self.rest = &[];
                return None;
            }
            self.rest = rest;
            if let Some(header) = parse_line(line) {
                return Some(header);
            }
        }
    }
}

fn parse_line(line: &[u8]) -> Option<Header<'_>> {
    let colon = memchr(b':', line)?;
    let name = &line[..colon];
    if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
        return None;
    }
    Some(Header {
        name,
        value: line[colon + 1..].trim_ascii(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
        Headers::new(bytes)
            .map(|header| (header.name, header.value))
            .collect()
    }

    #[test]
    fn trims_values_and_stops_at_the_empty_line() {
        let found = pairs(b"A: 1\r\nB:\t2 \nC:\r\n\r\nD: 4\r\n");
        assert_eq!(found, [(&b"A"[..], &b"1"[..]), (b"B", b"2"), (b"C", b"")]);
    }

    #[test]
    fn passes_over_lines_that_are_not_headers() {
        let found = pairs(b"no colon\r\n folded: x\r\n: empty\r\nGood: y\r\nCut: z");
        assert_eq!(found, [(&b"Good"[..], &b"y"[..])]);
    }

    #[test]
    fn compares_names_in_any_case() {
        let header = Header {
            name: b"HoSt",
            value: b"",
        };
        assert!(header.is(b"host"));
        assert!(!header.is(b"hos"));
    }
}
