//! `uber-trace-id`.

use super::digits::{id, padded};
use super::{Sampled, TraceContext};

const SAMPLED: u8 = 1;

/// `trace:span:parent:flags`; numbers may lack their leading zeros, and the colons may be percent-encoded.
pub(super) fn parse(value: &[u8]) -> Option<TraceContext> {
    let (trace, rest) = split(value)?;
    let (span, rest) = split(rest)?;
    // The parent's parent is deprecated and says nothing.
    let (_, flags) = split(rest)?;
    let [flags] = padded(flags)?;
    Some(TraceContext {
        trace_id: id(padded(trace)?)?,
        span_id: Some(id(padded(span)?)?),
        sampled: if flags & SAMPLED == 0 {
            Sampled::No
        } else {
            Sampled::Yes
        },
    })
}

fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = value.iter().position(|byte| matches!(byte, b':' | b'%'))?;
    let (part, rest) = value.split_at(end);
    let ([b':', rest @ ..] | [b'%', b'3', b'A' | b'a', rest @ ..]) = rest else {
        return None;
    };
    Some((part, rest))
}
