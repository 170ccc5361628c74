//! What a path segment looks like: a word of the interface, or a value someone put into it.

/// Longest segment taken for a word.
const WORD_BYTES: usize = 40;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Kinds of values.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Kind { $($(#[doc = $doc])+ $name,)+ }

        impl Kind {
            pub(super) const ALL: [Self; [$(Self::$name),+].len()] = [$(Self::$name),+];

            pub(super) const COUNT: usize = Self::ALL.len();

            /// How it stands in a template.
            pub(super) const fn parameter(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

kinds! {
    /// Digits, also with separators, or behind a word.
    Number = "{id}",
    /// A UUID.
    Uuid = "{uuid}",
    /// Hexadecimal digits.
    Hex = "{hex}",
    /// A calendar date, also with a time.
    Date = "{date}",
    /// An e-mail address.
    Email = "{email}",
    /// Percent-encoded or not allowed in a path.
    Encoded = "{encoded}",
    /// Long, or random-looking.
    Token = "{token}",
    /// A key in parentheses behind a word, as in `Orders(5)`: it stands in the word's own segment.
    Key = "({key})",
}

impl Kind {
    /// The kind with this parameter.
    pub(super) fn with_parameter(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.parameter() == text)
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

/// Segments of a path by their looks, without the empty ones: `/a/`, `//a` and `/a;x=1` are one route with `/a`. A
/// key in parentheses comes as a segment of its own.
pub(super) fn segments(path: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    path.split(|byte| *byte == b'/').flat_map(|segment| {
        // Parameters of a segment (`;jsessionid=...`) are never part of a route.
        let end = segment.iter().position(|byte| *byte == b';');
        let segment = &segment[..end.unwrap_or(segment.len())];
        let (word, key) = segment.split_at(key_start(segment));
        let word = (!word.is_empty()).then(|| classify(word));
        let key = (!key.is_empty()).then_some(Segment::Value(Kind::Key));
        word.into_iter().chain(key)
    })
}

/// Where `(key)` begins behind a name such as `Orders`; the length if there is none.
fn key_start(segment: &[u8]) -> usize {
    let open = segment.iter().position(|byte| *byte == b'(');
    match open {
        Some(open)
            if segment.ends_with(b")")
                && segment[..open]
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.')
                && segment[..open].first().is_some_and(u8::is_ascii_alphabetic) =>
        {
            open
        }
        _ => segment.len(),
    }
}

/// What a byte can be part of.
mod class {
    /// Unreserved characters, sub-delimiters, `:` and `@` (RFC 3986, section 3.3), without what templates use.
    pub(super) const PATH: u8 = 1;
    /// Digits and what separates them in numbers.
    pub(super) const NUMBER: u8 = 1 << 1;
    pub(super) const DIGIT: u8 = 1 << 2;
    pub(super) const AT: u8 = 1 << 3;
    /// Hexadecimal digits.
    pub(super) const HEX: u8 = 1 << 4;
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
    use class::{AT, DIGIT, HEX, NUMBER, PATH};
    match byte {
        b'0'..=b'9' => PATH | NUMBER | DIGIT | HEX,
        b'a'..=b'f' | b'A'..=b'F' => PATH | HEX,
        b'@' => PATH | AT,
        b'-' | b'_' | b'.' | b',' | b':' | b'+' | b'~' => PATH | NUMBER,
        b'g'..=b'z' | b'G'..=b'Z' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'=' => PATH,
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
}

impl Looks {
    fn of(bytes: &[u8]) -> Self {
        let (mut all, mut any) = (u8::MAX, 0);
        for byte in bytes {
            let class = CLASSES[usize::from(*byte)];
            all &= class;
            any |= class;
        }
        Self { all, any }
    }

    const fn all_are(self, class: u8) -> bool {
        self.all & class != 0
    }

    const fn any_is(self, class: u8) -> bool {
        self.any & class != 0
    }
}

/// Tells what a segment looks like; it depends on nothing but the segment.
fn classify(bytes: &[u8]) -> Segment<'_> {
    if let Some(kind) = kind(bytes, Looks::of(bytes)) {
        return Segment::Value(kind);
    }
    // Words are ASCII.
    std::str::from_utf8(bytes).map_or(Segment::Value(Kind::Encoded), Segment::Word)
}

/// Nearly all segments are words and plain numbers: one pass tells these from the rest.
fn kind(bytes: &[u8], looks: Looks) -> Option<Kind> {
    if !looks.all_are(class::PATH) {
        return Some(Kind::Encoded);
    }
    if !looks.any_is(class::DIGIT | class::AT) && bytes.len() < HEX_LETTERS {
        return None;
    }
    if looks.all_are(class::NUMBER) && looks.any_is(class::DIGIT) {
        return Some(if is_date(bytes) {
            Kind::Date
        } else {
            Kind::Number
        });
    }
    kind_by_rules(bytes)
}

/// The rules one after the other.
fn kind_by_rules(bytes: &[u8]) -> Option<Kind> {
    if is_email(bytes) {
        return Some(Kind::Email);
    }
    let stem = without_extension(bytes);
    if let Some(kind) = plain_kind(stem) {
        return Some(kind);
    }
    if bytes.len() > WORD_BYTES {
        return Some(Kind::Token);
    }
    stem.split(|byte| b"-_.:@".contains(byte))
        .any(is_random)
        .then_some(Kind::Token)
        .or_else(|| ends_in_number(stem).then_some(Kind::Number))
}

/// Kinds that a segment is as a whole.
fn plain_kind(bytes: &[u8]) -> Option<Kind> {
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits > 0 {
        if is_date(bytes) {
            return Some(Kind::Date);
        }
        if Looks::of(bytes).all_are(class::NUMBER) {
            return Some(Kind::Number);
        }
    }
    if is_uuid(bytes) {
        return Some(Kind::Uuid);
    }
    if is_hex(bytes, digits) || is_hex_groups(bytes, digits) {
        return Some(Kind::Hex);
    }
    is_token(bytes, digits).then_some(Kind::Token)
}

/// Cuts `.json`, `.png` and the like off: what is before them decides.
fn without_extension(bytes: &[u8]) -> &[u8] {
    match bytes.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 => {
            let extension = &bytes[dot + 1..];
            let is_extension = (1..=5).contains(&extension.len())
                && extension.iter().all(u8::is_ascii_alphanumeric)
                && extension.iter().any(u8::is_ascii_alphabetic);
            if is_extension { &bytes[..dot] } else { bytes }
        }
        _ => bytes,
    }
}

/// `2024-01-31`, `20240131`, `2024_01_31`, and these with a time behind them; `2024-01`, `2024-W05`.
fn is_date(bytes: &[u8]) -> bool {
    if let [b'1' | b'2', _, _, _, b'-', rest @ ..] = bytes
        && bytes[..4].iter().all(u8::is_ascii_digit)
    {
        let (least, most, digits) = match rest {
            [b'W', digits @ ..] => (1, 53, digits),
            digits => (1, 12, digits),
        };
        if let [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = digits {
            return (least..=most).contains(&((tens - b'0') * 10 + ones - b'0'));
        }
    }
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

/// Least length of hexadecimal digits that are letters alone: `facade` is a word.
const HEX_LETTERS: usize = 16;

/// From 7 digits on (short commit names) if decimal digits are among them.
fn is_hex(bytes: &[u8], digits: usize) -> bool {
    let bytes = bytes.strip_prefix(b"0x").unwrap_or(bytes);
    let least = if digits > 0 { 7 } else { HEX_LETTERS };
    bytes.len() >= least && Looks::of(bytes).all_are(class::HEX)
}

/// Groups of at most four hexadecimal digits: hardware and IPv6 addresses.
fn is_hex_groups(bytes: &[u8], digits: usize) -> bool {
    let is_grouped = |separator: u8, least: usize| {
        let mut groups = 0;
        let all = bytes.split(|byte| *byte == separator).all(|group| {
            groups += 1;
            group.len() <= 4 && group.iter().all(u8::is_ascii_hexdigit)
        });
        all && groups >= least
    };
    digits > 0 && (is_grouped(b':', 3) || (bytes.len() == 17 && is_grouped(b'-', 6)))
}

/// `logo@2x.png` is a file, `lodash@4.17.21` a release.
fn is_email(bytes: &[u8]) -> bool {
    let at = bytes.iter().position(|byte| *byte == b'@');
    let dot = bytes.iter().rposition(|byte| *byte == b'.');
    let (Some(at), Some(dot)) = (at, dot) else {
        return false;
    };
    let (Some(name), top) = (bytes.get(at + 1..dot), &bytes[dot + 1..]) else {
        return false;
    };
    let is_scale = matches!(name, [digits @ .., b'x'] if digits.iter().all(u8::is_ascii_digit));
    at > 0
        && !name.is_empty()
        && !is_scale
        && top.len() >= 2
        && top.iter().all(u8::is_ascii_alphabetic)
}

/// A fifth of it digits and long, or changing between cases and digits all the time.
fn is_token(bytes: &[u8], digits: usize) -> bool {
    let has_letters = bytes.iter().any(u8::is_ascii_alphabetic);
    let is_long = bytes.len() >= 20 && digits * 5 >= bytes.len() && has_letters;
    is_long || is_restless(bytes, digits)
}

fn is_restless(bytes: &[u8], digits: usize) -> bool {
    // What separates, and the padding of base64, is no change.
    let class = |byte: u8| match byte {
        b'0'..=b'9' => Some(0),
        b'a'..=b'z' => Some(1),
        b'A'..=b'Z' => Some(2),
        _ => None,
    };
    let changes = bytes.windows(2).filter(|pair| {
        let (before, after) = (class(pair[0]), class(pair[1]));
        before.is_some() && after.is_some() && before != after
    });
    let is_text = bytes
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(byte));
    is_text && bytes.len() >= 8 && digits > 0 && changes.count() * 2 >= bytes.len()
}

/// Part of a segment between separators that nobody chose: `3f2a1b9c` of `app.3f2a1b9c.js`.
fn is_random(part: &[u8]) -> bool {
    let digits = part.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = part
        .iter()
        .filter(|byte| byte.is_ascii_alphabetic())
        .count();
    let is_hash =
        part.len() >= 8 && digits >= 2 && letters > 0 && part.iter().all(u8::is_ascii_hexdigit);
    is_hash || (part.len() >= 8 && is_restless(part, digits))
}

/// `order-123`, `SKU12345`: a word with a number that counts behind it; `oauth2` and `utf-16` are words.
fn ends_in_number(bytes: &[u8]) -> bool {
    let word = bytes
        .iter()
        .rposition(|byte| !byte.is_ascii_digit())
        .map_or(&[][..], |last| &bytes[..=last]);
    let digits = bytes.len() - word.len();
    match word.last() {
        Some(b'-' | b'_' | b':' | b'.' | b'=') => digits >= 3,
        Some(_) => digits >= 5,
        None => false,
    }
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
            ("es6", "es6"),
            ("base64", "base64"),
            ("utf-16", "utf-16"),
            ("iso8601", "iso8601"),
            ("en-US", "en-US"),
            ("v1.2.3", "v1.2.3"),
            ("$metadata", "$metadata"),
            ("logo@2x.png", "logo@2x.png"),
            ("jquery-3.6.0.min.js", "jquery-3.6.0.min.js"),
            ("lodash@4.17.21", "lodash@4.17.21"),
            ("Rust_(programming_language)", "Rust_(programming_language)"),
            ("order-123", "{id}"),
            ("SKU12345", "{id}"),
            ("42.json", "{id}"),
            ("2024-01", "{date}"),
            ("2024-W05", "{date}"),
            ("2001:db8::1", "{hex}"),
            ("00-1a-2b-3c-4d-5e", "{hex}"),
            ("app.3f2a1b9c.js", "{token}"),
            ("web-7d4b9c6f5-x2x9z", "{token}"),
            ("cus_9s6XKzkNRiz8i3", "{token}"),
            ("V1StGXR8_Z5jdHi6B-myT", "{token}"),
            ("aGVsbG8gd29ybGQ1MjM=", "{token}"),
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

    #[test]
    fn empty_segments_and_their_parameters_are_passed_over() {
        let found = |path: &'static str| -> Vec<&str> {
            segments(path.as_bytes())
                .map(|segment| match segment {
                    Segment::Word(word) => word,
                    Segment::Value(kind) => kind.parameter(),
                })
                .collect()
        };
        assert_eq!(found("/a//b/"), ["a", "b"]);
        assert_eq!(found("/a;x=1/;jsessionid=5/b;"), ["a", "b"]);
        assert_eq!(
            found("/Orders(5)/Lines('x')"),
            ["Orders", "({key})", "Lines", "({key})"]
        );
        assert_eq!(
            found("/(x)/x(/Rust_(language)"),
            ["(x)", "x(", "Rust_(language)"]
        );
    }

    proptest! {
        #[test]
        fn the_short_cut_says_what_the_rules_say(
            text in prop_oneof![
                "[a-zA-Z0-9@._:-]{1,45}", "[a-f0-9:.-]{1,20}", "[0-9._~+,:-]{1,20}", "[a-z]{1,50}",
            ],
        ) {
            let bytes = text.as_bytes();
            prop_assert_eq!(kind(bytes, Looks::of(bytes)), kind_by_rules(bytes), "{}", text);
        }
    }
}
