//! The values of the trace headers in a head, found by one walk.

use std::ops::Range;

use memchr::memchr_iter;

use crate::request::skip_empty_lines;

macro_rules! fields {
    ($($name:ident = $text:literal,)+) => {
        /// A header that belongs to a format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Field { $($name,)+ }

        impl Field {
            const COUNT: usize = [$(Self::$name),+].len();

            pub(super) const ALL: [(Self, &'static [u8]); Self::COUNT] = [$((Self::$name, $text)),+];
        }
    };
}

// Those with the same first byte stand together: they are looked up by it.
fields! {
    Traceparent = b"traceparent",
    B3 = b"b3",
    UberTraceId = b"uber-trace-id",
    OtTraceId = b"ot-tracer-traceid",
    OtSpanId = b"ot-tracer-spanid",
    OtSampled = b"ot-tracer-sampled",
    AmznTraceId = b"x-amzn-trace-id",
    B3TraceId = b"x-b3-traceid",
    B3SpanId = b"x-b3-spanid",
    B3Sampled = b"x-b3-sampled",
    B3Flags = b"x-b3-flags",
    CloudTraceContext = b"x-cloud-trace-context",
    DatadogTraceId = b"x-datadog-trace-id",
    DatadogParentId = b"x-datadog-parent-id",
    DatadogPriority = b"x-datadog-sampling-priority",
    DatadogTags = b"x-datadog-tags",
}

impl Field {
    /// Its place in a set of fields.
    pub(super) const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The field that a line is of, in any case, and the length of its name.
    fn of_line(line: &[u8]) -> Option<(Self, usize)> {
        let first = line.first()?;
        let candidates = &Self::ALL[RANGES[usize::from(*first) & 0x1f].clone()];
        let found = candidates.iter().find(|(_, name)| {
            line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name)
        });
        found.map(|(field, name)| (*field, name.len()))
    }
}

/// Positions in [`Field::ALL`] of the names with a first letter, by its number in the alphabet.
const RANGES: [Range<usize>; 32] = {
    let mut ranges = [const { 0..0 }; 32];
    let mut position = 0;
    while position < Field::COUNT {
        let first = Field::ALL[position].1[0] as usize & 0x1f;
        if ranges[first].end == 0 {
            ranges[first].start = position;
        } else {
            assert!(
                ranges[first].end == position,
                "the names of a letter stand together"
            );
        }
        ranges[first].end = position + 1;
        position += 1;
    }
    ranges
};

/// Bytes that a name begins with, either case: nearly all other headers are passed over by it.
const FIRST: [bool; 256] = {
    let mut table = [false; 256];
    let mut position = 0;
    while position < Field::COUNT {
        let first = Field::ALL[position].1[0];
        table[first as usize] = true;
        table[first.to_ascii_uppercase() as usize] = true;
        position += 1;
    }
    table
};

/// Values by field.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    values: [&'a [u8]; Field::COUNT],
    found: u16,
    /// Stand there twice, or go on in the next line.
    odd: u16,
}

impl<'a> Fields<'a> {
    /// Walks over the head's whole lines, from behind the request line to the empty one.
    pub(super) fn of(head: &'a [u8], wanted: u16) -> Self {
        let mut fields = Self::default();
        let head = skip_empty_lines(head);
        let mut ends = memchr_iter(b'\n', head);
        let Some(request_line) = ends.next() else {
            return fields;
        };
        let mut start = request_line + 1;
        for end in ends {
            let line = &head[start..end];
            let Some(first) = line.first() else { break };
            if FIRST[usize::from(*first)] {
                let is_folded = matches!(head.get(end + 1), Some(b' ' | b'\t'));
                fields.take(line, wanted, is_folded);
            } else if *first == b'\r' && line.len() == 1 {
                break;
            }
            start = end + 1;
        }
        fields
    }

    /// Whether none was found.
    pub(super) fn is_empty(&self) -> bool {
        self.found == 0
    }

    /// Whether each of a set of fields that is there stands there once and in one line.
    pub(super) fn are_plain(&self, set: u16) -> bool {
        self.odd & set == 0
    }

    /// Value without the white space around it; an empty one is none.
    pub(super) fn value(&self, field: Field) -> Option<&'a [u8]> {
        let value = self.values[field as usize];
        (!value.is_empty()).then_some(value)
    }

    fn take(&mut self, line: &'a [u8], wanted: u16, is_folded: bool) {
        let Some((field, len)) = Field::of_line(line) else {
            return;
        };
        let bit = field.bit();
        if wanted & bit == 0 {
            return;
        }
        if self.found & bit != 0 || is_folded {
            self.odd |= bit;
        }
        self.found |= bit;
        self.values[field as usize] = trim(&line[len + 1..]);
    }
}

/// Cuts the line's carriage return and the blanks around a value off.
fn trim(value: &[u8]) -> &[u8] {
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = value.iter().position(is_text).unwrap_or(value.len());
    let end = value.iter().rposition(is_text).map_or(start, |end| end + 1);
    &value[start..end]
}
