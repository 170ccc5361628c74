//! Moments that are handed into the stages, which never read a clock.

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Nanoseconds of `CLOCK_MONOTONIC`: what durations and idle times are measured with.
    pub monotonic_ns: u64,
    /// Nanoseconds since the Unix epoch: what points are stamped with.
    pub unix_ns: u64,
}
