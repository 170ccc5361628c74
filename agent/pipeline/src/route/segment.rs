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

/// What a byte can be part of.
mod class {
    /// Unreserved characters, sub-delimiters, `:` and `@` (RFC 3986, section 3.3), without what templates use.
    pub(super) const PATH: u8 = 1;
    /// Digits and what separates them in numbers.
    pub(super) const NUMBER: u8 = 1 << 1;
    /// Hexadecimal digits.
    pub(super) const HEX: u8 = 1 << 2;
    pub(super) const DIGIT: u8 = 1 << 3;
    pub(super) const LOWER: u8 = 1 << 4;
    pub(super) const UPPER: u8 = 1 << 5;
    pub(super) const AT: u8 = 1 << 6;
    pub(super) const ALPHANUMERIC: u8 = 1 << 7;
    /// What tells digits, small and capital letters, and all the rest apart.
    pub(super) const CASE: u8 = DIGIT | LOWER | UPPER;
}

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0u8;
    while byte < 128 {
        classes[byte as usize] = class_of(byte);
        byte += 1;
    }
    classes
}

const fn class_of(byte: u8) -> u8 {
    use class::{ALPHANUMERIC, AT, DIGIT, HEX, LOWER, NUMBER, PATH, UPPER};
    let hex = ALPHANUMERIC | if byte.is_ascii_hexdigit() { HEX } else { 0 };
    match byte {
        b'0'..=b'9' => PATH | NUMBER | DIGIT | hex,
        b'a'..=b'z' => PATH | LOWER | hex,
        b'A'..=b'Z' => PATH | UPPER | hex,
        b'@' => PATH | AT,
        b'-' | b'_' | b'.' | b',' | b':' | b'+' | b'~' => PATH | NUMBER,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'=' => PATH,
        _ => 0,
    }
}

/// What all bytes of a segment say together, found in one pass.
#[derive(Clone, Copy, Debug)]
struct Looks {
    /// Classes that every byte has.
    all: u8,
    /// Classes that any byte has.
    any: u8,
    digits: usize,
    /// Changes between digits, small and capital letters, and all the rest.
    changes: usize,
}

impl Looks {
    fn of(bytes: &[u8]) -> Self {
        let mut looks = Self {
            all: u8::MAX,
            any: 0,
            digits: 0,
            changes: 0,
        };
        let Some(first) = bytes.first() else {
            return looks;
        };
        let mut previous = CLASSES[usize::from(*first)] & class::CASE;
        for byte in bytes {
            let class = CLASSES[usize::from(*byte)];
            looks.all &= class;
            looks.any |= class;
            looks.digits += usize::from(class & class::DIGIT != 0);
            looks.changes += usize::from(class & class::CASE != previous);
            previous = class & class::CASE;
        }
        looks
    }

    const fn all_are(&self, class: u8) -> bool {
        self.all & class != 0
    }
}

/// Tells what a segment looks like; it depends on nothing but the segment.
pub(super) fn classify(bytes: &[u8]) -> Segment<'_> {
    // Parameters of a segment (`;jsessionid=...`) are never part of a route.
    let end = bytes.iter().position(|byte| *byte == b';');
    let bytes = &bytes[..end.unwrap_or(bytes.len())];
    if let Some(kind) = kind(bytes, &Looks::of(bytes)) {
        return Segment::Value(kind);
    }
    // Words are ASCII.
    std::str::from_utf8(bytes).map_or(Segment::Value(Kind::Encoded), Segment::Word)
}

fn kind(bytes: &[u8], looks: &Looks) -> Option<Kind> {
    if !looks.all_are(class::PATH) {
        return Some(Kind::Encoded);
    }
    let digits = looks.digits;
    if digits > 0 {
        if is_date(bytes) {
            return Some(Kind::Date);
        }
        if looks.all_are(class::NUMBER) {
            return Some(Kind::Number);
        }
        if is_uuid(bytes) {
            return Some(Kind::Uuid);
        }
    }
    if is_hex(bytes, looks) {
        return Some(Kind::Hex);
    }
    if looks.any & class::AT != 0 && is_email(bytes) {
        return Some(Kind::Email);
    }
    is_token(bytes, looks).then_some(Kind::Token)
}

/// `2024-01-31`, `20240131`, `2024_01_31`, and these with a time behind them.
fn is_date(bytes: &[u8]) -> bool {
    let number = |range: std::ops::Range<usize>| {
        bytes.get(range)?.iter().try_fold(0u32, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + u32::from(byte - b'0'))
        })
    };
    if bytes.len() < 8 || !bytes[0].is_ascii_digit() {
        return false;
    }
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
fn is_hex(bytes: &[u8], looks: &Looks) -> bool {
    let shortest = if looks.digits > 0 { 7 } else { 16 };
    if looks.all_are(class::HEX) {
        return bytes.len() >= shortest;
    }
    bytes
        .strip_prefix(b"0x")
        .is_some_and(|rest| rest.len() >= shortest && rest.iter().all(u8::is_ascii_hexdigit))
}

fn is_email(bytes: &[u8]) -> bool {
    let Some(at) = bytes.iter().position(|byte| *byte == b'@') else {
        return false;
    };
    let domain = &bytes[at + 1..];
    let dot = domain.iter().position(|byte| *byte == b'.');
    at > 0 && dot.is_some_and(|dot| dot > 0)
}

/// Too long for a word, or a fifth of it digits and long, or changing between cases and digits all the time.
fn is_token(bytes: &[u8], looks: &Looks) -> bool {
    let (len, digits) = (bytes.len(), looks.digits);
    if len > WORD_BYTES || (len >= 20 && digits * 5 >= len) {
        return true;
    }
    looks.all_are(class::ALPHANUMERIC) && len >= 8 && digits > 0 && looks.changes * 2 >= len
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// The rules one after the other, each with a look at all bytes.
    fn plain(bytes: &[u8]) -> Option<Kind> {
        let is_path = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(byte);
        if !bytes.iter().all(is_path) {
            return Some(Kind::Encoded);
        }
        let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
        let is_number = |byte: &u8| byte.is_ascii_digit() || b"-_.,:+~".contains(byte);
        if digits > 0 && is_date(bytes) {
            return Some(Kind::Date);
        }
        if digits > 0 && bytes.iter().all(is_number) {
            return Some(Kind::Number);
        }
        if is_uuid(bytes) {
            return Some(Kind::Uuid);
        }
        let hex = bytes.strip_prefix(b"0x").unwrap_or(bytes);
        if hex.len() >= if digits > 0 { 7 } else { 16 } && hex.iter().all(u8::is_ascii_hexdigit) {
            return Some(Kind::Hex);
        }
        let text = std::str::from_utf8(bytes).unwrap();
        let is_email = text.split_once('@').is_some_and(|(user, domain)| {
            let name = domain.split_once('.').map(|(name, _)| name);
            !user.is_empty() && name.is_some_and(|name| !name.is_empty())
        });
        if is_email {
            return Some(Kind::Email);
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
        let mixed = bytes.iter().all(u8::is_ascii_alphanumeric)
            && bytes.len() >= 8
            && digits > 0
            && changes * 2 >= bytes.len();
        let is_token = bytes.len() > WORD_BYTES || (bytes.len() >= 20 && digits * 5 >= bytes.len());
        (is_token || mixed).then_some(Kind::Token)
    }

    proptest! {
        #[test]
        fn one_pass_says_what_the_rules_say(text in prop_oneof![
            "[a-zA-Z0-9]{0,45}", "[0-9a-fx@.-]{0,40}", "[ -~]{0,12}", "0x[0-9a-f]{0,20}",
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "[12][0-9]{3}-?[01][0-9]-?[0-3][0-9](T[0-9:]{0,8})?", "[a-z]{1,6}@[a-z]{1,4}\\.[a-z]{2}",
        ]) {
            let bytes = text.as_bytes();
            prop_assert_eq!(kind(bytes, &Looks::of(bytes)), plain(bytes), "{}", text);
        }
    }
}
