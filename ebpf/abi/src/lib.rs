//! Stage 0, the only contract between the BPF programs and the agent: records on the ring, map keys,
//! counter ids and bounds.
//!
//! Everything here is `#[repr(C)]`, made of integers only, with its padding spelled out and its layout
//! asserted at compile time, because two compilers for two targets must agree on every byte.
#![no_std]
#![forbid(unsafe_code)]

mod counter;
mod layout;
pub mod limits;
mod method;
mod record;
mod tally;
pub mod trace_event;

pub use counter::{CELLS, COUNTERS, Counter};
pub use layout::{Control, Layout, iov, resting};
pub use method::Method;
pub use record::{
    EndReason, ExchangeRecord, FilterKey, ProcessRecord, RecordHeader, change, decision, direction,
    family, flag, kind, process_event, role,
};
pub use tally::{TALLY_BOUNDS_NS, TALLY_BUCKETS, TALLY_OFFSET, TALLY_SCALE, TallyKey, TallyValue};

/// Version of this contract; the loader refuses an object built against another one.
pub const ABI_VERSION: u32 = 4;
