//! What a path segment looks like: a word of the interface, or a value someone put into it.

/// Longest segment taken for a word.
const WORD_BYTES: usize = 40;

/// Kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Digits, also with separators.
    Number,
    /// A UUID.
    Uuid,
    /// Hexadecimal digits.
    Hex,
    /// A calendar date, also with a time.
    Date,
    /// An e-mail address.
    Email,
    /// Percent-encoded or not allowed in a path.
    Encoded,
    /// Long, or random-looking.
    Token,
}

impl Kind {
    pub(super) const COUNT: usize = 7;

    pub(super) const ALL: [Self; Self::COUNT] = [
        Self::Number,
        Self::Uuid,
        Self::Hex,
        Self::Date,
        Self::Email,
        Self::Encoded,
        Self::Token,
    ];

    /// How it stands in a template.
    pub(super) const fn parameter(self) -> &'static str {
        match self {
            Self::Number => "{id}",
            Self::Uuid => "{uuid}",
            Self::Hex => "{hex}",
            Self::Date => "{date}",
            Self::Email => "{email}",
            Self::Encoded => "{encoded}",
            Self::Token => "{token}",
        }
    }
}

/// A segment by its looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// Stands in the template as it is.
    Word(&'a str),
    /// Becomes a parameter.
    Value(Kind),
}

/// Tells what a segment looks like; it depends on nothing but the segment.
pub(super) fn classify(bytes: &[u8]) -> Segment<'_> {
    // Parameters of a segment (`;jsessionid=...`) are never part of a route.
    let end = bytes
        .iter()
        .position(|byte| *byte == b';')
        .unwrap_or(bytes.len());
    let bytes = &bytes[..end];
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Segment::Value(Kind::Encoded);
    };
    match kind(text) {
        Some(kind) => Segment::Value(kind),
        None => Segment::Word(text),
    }
}

fn kind(text: &str) -> Option<Kind> {
    let bytes = text.as_bytes();
    if !bytes.iter().all(|byte| is_path_byte(*byte)) {
        return Some(Kind::Encoded);
    }
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits > 0 {
        if is_date(bytes) {
            return Some(Kind::Date);
        }
        if bytes
            .iter()
            .all(|byte| byte.is_ascii_digit() || b"-_.,:+~".contains(byte))
        {
            return Some(Kind::Number);
        }
    }
    if is_uuid(bytes) {
        return Some(Kind::Uuid);
    }
    if is_hex(bytes, digits) {
        return Some(Kind::Hex);
    }
    if is_email(text) {
        return Some(Kind::Email);
    }
    is_token(bytes, digits).then_some(Kind::Token)
}

/// Unreserved characters, sub-delimiters, `:` and `@` (RFC 3986, section 3.3), without what templates use.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte)
}

/// `2024-01-31`, `20240131`, `2024_01_31`, and these with a time behind them.
fn is_date(bytes: &[u8]) -> bool {
    let number = |range: std::ops::Range<usize>| {
        bytes.get(range)?.iter().try_fold(0u32, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + u32::from(byte - b'0'))
        })
    };
    let separated = matches!(bytes.get(4), Some(b'-' | b'_' | b'.'));
    let (month, day, end) = if separated {
        if bytes.get(7) != bytes.get(4) {
            return false;
        }
        (number(5..7), number(8..10), 10)
    } else {
        (number(4..6), number(6..8), 8)
    };
    let (Some(year), Some(month), Some(day)) = (number(0..4), month, day) else {
        return false;
    };
    let time_follows = match bytes.get(end) {
        None => true,
        Some(b'T' | b't' | b'_') => bytes.len() <= end + 20,
        _ => false,
    };
    (1900..2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && time_follows
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes
            .iter()
            .enumerate()
            .all(|(position, byte)| match position {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
}

/// From 7 digits on (short commit names) if decimal digits are among them, else from 16: `facade` is a word.
fn is_hex(bytes: &[u8], digits: usize) -> bool {
    let bytes = bytes.strip_prefix(b"0x").unwrap_or(bytes);
    bytes.len() >= if digits > 0 { 7 } else { 16 } && bytes.iter().all(u8::is_ascii_hexdigit)
}

fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(user, domain)| {
        !user.is_empty()
            && domain
                .split_once('.')
                .is_some_and(|(name, _)| !name.is_empty())
    })
}

/// Too long for a word, or a fifth of it digits and long, or changing between cases and digits all the time.
fn is_token(bytes: &[u8], digits: usize) -> bool {
    if bytes.len() > WORD_BYTES || (bytes.len() >= 20 && digits * 5 >= bytes.len()) {
        return true;
    }
    let class = |byte: u8| match byte {
        b'0'..=b'9' => 0,
        b'a'..=b'z' => 1,
        b'A'..=b'Z' => 2,
        _ => 3,
    };
    let changes = bytes
        .windows(2)
        .filter(|pair| class(pair[0]) != class(pair[1]))
        .count();
    let plain = bytes.iter().all(u8::is_ascii_alphanumeric);
    plain && bytes.len() >= 8 && digits > 0 && changes * 2 >= bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_values_from_words() {
        let cases: &[(&str, &str)] = &[
            ("users", "users"),
            ("v1", "v1"),
            ("api-docs", "api-docs"),
            ("oauth2", "oauth2"),
            ("facade", "facade"),
            ("index.html", "index.html"),
            ("getUserById", "getUserById"),
            ("a;jsessionid=5", "a"),
            ("42", "{id}"),
            ("12.5,-3", "{id}"),
            ("123e4567-e89b-12d3-a456-426614174000", "{uuid}"),
            ("2024-02-29", "{date}"),
            ("20240229", "{date}"),
            ("2024-02-29T10:00:00Z", "{date}"),
            ("2024-13-29", "{id}"),
            ("99999999", "{id}"),
            ("deadbee1", "{hex}"),
            ("0xdeadbee1", "{hex}"),
            ("d41d8cd98f00b204e9800998ecf8427e", "{hex}"),
            ("ann@example.org", "{email}"),
            ("a%20b", "{encoded}"),
            ("%2e%2e", "{encoded}"),
            ("{id}", "{encoded}"),
            ("*", "{encoded}"),
            ("h\u{e9}", "{encoded}"),
            ("dQw4w9WgXcQ", "{token}"),
            ("eyJhbGciOiJIUzI1NiJ9abcdefghijklmnopqrstuvw", "{token}"),
            ("a-very-long-title-of-an-article-about-nothing", "{token}"),
        ];
        for (text, template) in cases {
            let found = match classify(text.as_bytes()) {
                Segment::Word(word) => word,
                Segment::Value(kind) => kind.parameter(),
            };
            assert_eq!(found, *template, "{text}");
        }
        assert_eq!(classify(b"\xff"), Segment::Value(Kind::Encoded));
    }
}
