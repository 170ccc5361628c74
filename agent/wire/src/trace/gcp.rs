//! `X-Cloud-Trace-Context`.

use super::digits::{decimal, either, id};
use super::{Sampled, TraceContext};

/// `trace[/span][;o=options]`: the span is decimal, the lowest bit of the options says sampled.
pub(super) fn parse(value: &[u8]) -> Option<TraceContext> {
    let mut parts = value.split(|byte| *byte == b';');
    let ids = parts.next()?;
    let slash = ids.iter().position(|byte| *byte == b'/');
    let (trace, span) = ids.split_at(slash.unwrap_or(ids.len()));
    let span = match span {
        [] | [b'/'] => 0,
        [_, digits @ ..] => decimal(digits)?,
    };
    let sampled = match parts.find_map(|part| part.strip_prefix(b"o=")) {
        None => Sampled::Unsaid,
        Some(options) => match decimal(options)? & 1 {
            0 => Sampled::No,
            _ => Sampled::Yes,
        },
    };
    Some(TraceContext {
        trace_id: id(either(trace)?)?,
        span_id: (span != 0).then(|| span.to_be_bytes()),
        sampled,
    })
}
