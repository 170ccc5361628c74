//! B3, in one header or in several.

use super::digits::{id, lower, lower_trace_id};
use super::fields::{Field, Fields};
use super::{Sampled, TraceContext};

/// `trace-span`, `trace-span-state` or `trace-span-state-parent`. A state alone names no trace.
pub(super) fn parse_single(value: &[u8]) -> Option<TraceContext> {
    let mut parts = value.split(|byte| *byte == b'-');
    let trace_id = id(lower_trace_id(parts.next()?)?)?;
    let span_id = id(lower(parts.next()?)?)?;
    let sampled = match parts.next() {
        None => Sampled::Unsaid,
        Some(b"1" | b"d") => Sampled::Yes,
        Some(b"0") => Sampled::No,
        Some(_) => return None,
    };
    if let Some(parent) = parts.next() {
        lower::<8>(parent)?;
    }
    parts.next().is_none().then_some(TraceContext {
        trace_id,
        span_id: Some(span_id),
        sampled,
    })
}

/// `x-b3-traceid`, `x-b3-spanid` and what may stand beside them.
pub(super) fn parse_multi(fields: &Fields<'_>) -> Option<TraceContext> {
    let trace_id = id(lower_trace_id(fields.value(Field::B3TraceId)?)?)?;
    let span_id = id(lower(fields.value(Field::B3SpanId)?)?)?;
    let is_debug = fields.value(Field::B3Flags) == Some(b"1");
    let sampled = match fields.value(Field::B3Sampled) {
        // Debug implies sampled, whatever stands beside it.
        _ if is_debug => Sampled::Yes,
        None => Sampled::Unsaid,
        // Older tracers wrote words.
        Some(b"1" | b"true" | b"True") => Sampled::Yes,
        Some(b"0" | b"false" | b"False") => Sampled::No,
        Some(_) => return None,
    };
    Some(TraceContext {
        trace_id,
        span_id: Some(span_id),
        sampled,
    })
}
