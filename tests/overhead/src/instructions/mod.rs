//! Instructions of one exchange, counted inside a guest whose emulator gives every instruction one nanosecond:
//! the guest measures and prints lines, the host reads them back and compares.

pub(crate) mod guest;
pub(crate) mod pair;
mod reading;

pub(crate) use reading::Counts;
