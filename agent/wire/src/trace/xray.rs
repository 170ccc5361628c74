//! `X-Amzn-Trace-Id`.

use super::digits::{either, id};
use super::{Sampled, TraceContext};

/// `Root=1-time-number;Parent=span;Sampled=0`, in any order and with other keys between; load balancers send the
/// root alone.
pub(super) fn parse(value: &[u8]) -> Option<TraceContext> {
    let (mut root, mut span_id, mut sampled) = (None, None, Sampled::Unsaid);
    for pair in value.split(|byte| *byte == b';') {
        let pair = pair.trim_ascii();
        if let Some(text) = pair.strip_prefix(b"Root=") {
            if root.is_some() {
                return None;
            }
            root = Some(trace_id(text)?);
        } else if let Some(text) = pair.strip_prefix(b"Parent=") {
            span_id = Some(id(either(text)?)?);
        } else if let Some(text) = pair.strip_prefix(b"Sampled=") {
            sampled = match text {
                b"1" => Sampled::Yes,
                b"0" => Sampled::No,
                // `?` asks whoever comes next.
                _ => Sampled::Unsaid,
            };
        }
    }
    Some(TraceContext {
        trace_id: root?,
        span_id,
        sampled,
    })
}

/// Version 1: the time in 8 digits, then 24 more.
fn trace_id(root: &[u8]) -> Option<[u8; 16]> {
    let digits = root.strip_prefix(b"1-")?;
    let (time, number) = (digits.get(..8)?, digits.get(8..)?.strip_prefix(b"-")?);
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&either::<4>(time)?);
    bytes[4..].copy_from_slice(&either::<12>(number)?);
    id(bytes)
}
