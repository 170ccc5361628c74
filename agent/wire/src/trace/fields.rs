//! The values of the trace headers in a head, found by one walk.

use memchr::{memchr, memchr_iter};

use crate::request::skip_empty_lines;

/// Longest name of a trace header, with its colon.
const NAME_BYTES: usize = b"x-datadog-sampling-priority:".len();

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

fields! {
    Traceparent = b"traceparent",
    B3 = b"b3",
    B3TraceId = b"x-b3-traceid",
    B3SpanId = b"x-b3-spanid",
    B3Sampled = b"x-b3-sampled",
    B3Flags = b"x-b3-flags",
    DatadogTraceId = b"x-datadog-trace-id",
    DatadogParentId = b"x-datadog-parent-id",
    DatadogPriority = b"x-datadog-sampling-priority",
    DatadogTags = b"x-datadog-tags",
    UberTraceId = b"uber-trace-id",
    AmznTraceId = b"x-amzn-trace-id",
    CloudTraceContext = b"x-cloud-trace-context",
    OtTraceId = b"ot-tracer-traceid",
    OtSpanId = b"ot-tracer-spanid",
    OtSampled = b"ot-tracer-sampled",
}

impl Field {
    /// Its place in a set of fields.
    pub(super) const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The field with this name, in any case.
    fn named(name: &[u8]) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, known)| known.len() == name.len() && known.eq_ignore_ascii_case(name))
            .map(|(field, _)| *field)
    }
}

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
        let Some(colon) = memchr(b':', &line[..line.len().min(NAME_BYTES)]) else {
            return;
        };
        let Some(field) = Field::named(&line[..colon]) else {
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
        self.values[field as usize] = trim(&line[colon + 1..]);
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
