//! Datadog: decimal halves in `x-datadog-trace-id` and hexadecimal ones among `x-datadog-tags`.

use super::digits::{decimal, lower};
use super::fields::{Field, Fields};
use super::{Sampled, TraceContext};

/// Tag that holds the upper 64 bits.
const UPPER: &[u8] = b"_dd.p.tid=";

/// Low 64 bits of the trace, the parent's span, and the priority: above zero is sampled.
pub(super) fn parse(fields: &Fields<'_>) -> Option<TraceContext> {
    let low = decimal(fields.value(Field::DatadogTraceId)?)?;
    let mut trace_id = [0; 16];
    trace_id[8..].copy_from_slice(&low.to_be_bytes());
    if let Some(upper) = fields.value(Field::DatadogTags).and_then(upper_half) {
        trace_id[..8].copy_from_slice(&upper);
    }
    let span = match fields.value(Field::DatadogParentId) {
        Some(digits) => decimal(digits)?,
        None => 0,
    };
    (low != 0).then_some(TraceContext {
        trace_id,
        span_id: (span != 0).then(|| span.to_be_bytes()),
        sampled: fields
            .value(Field::DatadogPriority)
            .map_or(Sampled::Unsaid, priority),
    })
}

/// A malformed upper half is ignored, as the tracers do; the lower one stands.
fn upper_half(tags: &[u8]) -> Option<[u8; 8]> {
    tags.split(|byte| *byte == b',')
        .find_map(|tag| tag.trim_ascii().strip_prefix(UPPER))
        .and_then(lower)
}

/// `2`, `1`: kept; `0`, `-1` and below: not.
fn priority(text: &[u8]) -> Sampled {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match (decimal(digits), is_negative) {
        (None, _) => Sampled::Unsaid,
        (Some(0), _) | (Some(_), true) => Sampled::No,
        (Some(_), false) => Sampled::Yes,
    }
}
