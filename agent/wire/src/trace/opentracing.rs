//! `ot-tracer-*`, the headers of the basic tracers.

use super::digits::{either, either_trace_id, id};
use super::fields::{Field, Fields};
use super::{Sampled, TraceContext};

/// Trace, span, and whether it is sampled, in a header each.
pub(super) fn parse(fields: &Fields<'_>) -> Option<TraceContext> {
    let trace_id = id(either_trace_id(fields.value(Field::OtTraceId)?)?)?;
    let span_id = id(either(fields.value(Field::OtSpanId)?)?)?;
    let sampled = match fields.value(Field::OtSampled) {
        None => Sampled::Unsaid,
        Some(b"true" | b"1") => Sampled::Yes,
        Some(b"false" | b"0") => Sampled::No,
        Some(_) => return None,
    };
    Some(TraceContext {
        trace_id,
        span_id: Some(span_id),
        sampled,
    })
}
