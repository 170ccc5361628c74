//! `traceparent` (W3C Trace Context, level 2, section 3.2.2).

use super::digits::{id, lower};
use super::{Sampled, TraceContext};

/// Length of a value of version 00, and of what later versions must begin with.
const BYTES: usize = 55;

const SAMPLED: u8 = 1;

/// `version "-" trace-id "-" parent-id "-" flags`, lower-case digits only.
pub(super) fn parse(value: &[u8]) -> Option<TraceContext> {
    let known = value.get(..BYTES)?;
    if known[2] != b'-' || known[35] != b'-' || known[52] != b'-' {
        return None;
    }
    let [version] = lower(&known[..2])?;
    let [flags] = lower(&known[53..])?;
    match (version, value.get(BYTES)) {
        // A later version may add fields, but must set them off.
        (0, None) | (1..=0xfe, None | Some(b'-')) => {}
        _ => return None,
    }
    Some(TraceContext {
        trace_id: id(lower(&known[3..35])?)?,
        span_id: Some(id(lower(&known[36..52])?)?),
        sampled: if flags & SAMPLED == 0 {
            Sampled::No
        } else {
            Sampled::Yes
        },
    })
}
