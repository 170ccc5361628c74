//! Trace headers: a kept request head in, the trace that the request belongs to out.
//!
//! One walk over the head finds the fields of every enabled format; then the formats are asked in their configured
//! order, and the first that is valid counts. Headers are written by whoever sends the request: all that a lie can
//! do is to point an exemplar elsewhere.

mod b3;
mod datadog;
mod digits;
mod fields;
mod gcp;
mod jaeger;
mod opentracing;
mod w3c;
mod xray;

#[cfg(test)]
mod tests;

use fields::{Field, Fields};

/// What the headers say about sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sampled {
    /// The caller records the trace.
    Yes,
    /// It does not.
    No,
    /// They leave it to whoever comes next.
    Unsaid,
}

/// The trace that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Trace; never all zeros. Identifiers of 64 bits have zeros before them.
    pub trace_id: [u8; 16],
    /// The sender's span, if one is named; never all zeros.
    pub span_id: Option<[u8; 8]>,
    /// Whether the trace is recorded.
    pub sampled: Sampled,
}

/// A format of trace headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TraceFormat {
    /// W3C: `traceparent`.
    TraceContext,
    /// `b3` in one header.
    B3,
    /// `x-b3-*`.
    B3Multi,
    /// `x-datadog-*`.
    Datadog,
    /// `uber-trace-id`.
    Jaeger,
    /// `X-Amzn-Trace-Id`.
    Xray,
    /// `X-Cloud-Trace-Context`.
    Gcp,
    /// `ot-tracer-*`.
    OpenTracing,
}

impl TraceFormat {
    /// All formats.
    pub const ALL: [Self; 8] = [
        Self::TraceContext,
        Self::B3,
        Self::B3Multi,
        Self::Datadog,
        Self::Jaeger,
        Self::Xray,
        Self::Gcp,
        Self::OpenTracing,
    ];

    const fn fields(self) -> u16 {
        match self {
            Self::TraceContext => Field::Traceparent.bit(),
            Self::B3 => Field::B3.bit(),
            Self::B3Multi => {
                Field::B3TraceId.bit()
                    | Field::B3SpanId.bit()
                    | Field::B3Sampled.bit()
                    | Field::B3Flags.bit()
            }
            Self::Datadog => {
                Field::DatadogTraceId.bit()
                    | Field::DatadogParentId.bit()
                    | Field::DatadogPriority.bit()
                    | Field::DatadogTags.bit()
            }
            Self::Jaeger => Field::UberTraceId.bit(),
            Self::Xray => Field::AmznTraceId.bit(),
            Self::Gcp => Field::CloudTraceContext.bit(),
            Self::OpenTracing => {
                Field::OtTraceId.bit() | Field::OtSpanId.bit() | Field::OtSampled.bit()
            }
        }
    }

    fn parse(self, fields: &Fields<'_>) -> Option<TraceContext> {
        let value = |field| fields.value(field);
        match self {
            Self::TraceContext => w3c::parse(value(Field::Traceparent)?),
            Self::B3 => b3::parse_single(value(Field::B3)?),
            Self::B3Multi => b3::parse_multi(fields),
            Self::Datadog => datadog::parse(fields),
            Self::Jaeger => jaeger::parse(value(Field::UberTraceId)?),
            Self::Xray => xray::parse(value(Field::AmznTraceId)?),
            Self::Gcp => gcp::parse(value(Field::CloudTraceContext)?),
            Self::OpenTracing => opentracing::parse(fields),
        }
    }
}

/// The formats that are looked for, in the order in which they are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFormats {
    order: [Option<TraceFormat>; TraceFormat::ALL.len()],
    wanted: u16,
}

impl TraceFormats {
    /// Formats in order; one that was there already is passed over.
    pub fn new(formats: impl IntoIterator<Item = TraceFormat>) -> Self {
        let mut this = Self::default();
        let mut places = this.order.iter_mut();
        for format in formats {
            if this.wanted & format.fields() == 0
                && let Some(place) = places.next()
            {
                *place = Some(format);
                this.wanted |= format.fields();
            }
        }
        this
    }

    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.wanted == 0
    }

    /// The trace that the first valid format of a kept request head names. Lines that the head's end cuts are not
    /// looked at, nor is what lies behind the empty line. A format one of whose fields stands there twice, or is
    /// folded, is not believed.
    pub fn find(&self, head: &[u8]) -> Option<TraceContext> {
        if self.is_empty() {
            return None;
        }
        let fields = Fields::of(head, self.wanted);
        if fields.is_empty() {
            return None;
        }
        self.order
            .iter()
            .map_while(|format| *format)
            .filter(|format| fields.are_plain(format.fields()))
            .find_map(|format| format.parse(&fields))
    }
}
