//! The fallback tally: what the kernel side adds up by itself when the ring has no room for a record.

use core::mem::size_of;

/// Buckets of a distribution.
pub const TALLY_BUCKETS: usize = 256;

/// Scale of the buckets: eight for each doubling, as in a base-2 exponential histogram of seconds.
pub const TALLY_SCALE: i32 = 3;

/// Index, at [`TALLY_SCALE`], of the first bucket: it begins at 2^-20 s, about a microsecond, and takes
/// whatever is shorter. The last one ends at 2^12 s, and takes whatever is longer.
pub const TALLY_OFFSET: i32 = -160;

/// What is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct TallyKey {
    /// Start of the process, in nanoseconds of `CLOCK_BOOTTIME`; 0 with `tgid` 0 in the catch-all.
    pub process_start_ns: u64,
    /// Thread group; 0 in the catch-all of a role.
    pub tgid: u32,
    /// Status code of the final response; 0 if there was none.
    pub status: u16,
    /// One of [`role`](crate::role).
    pub role: u8,
    /// A [`Method`](crate::Method).
    pub method: u8,
    /// An [`EndReason`](crate::EndReason); 0 in the catch-all.
    pub end: u8,
    /// 1 if the response was complete by its framing.
    pub complete: u8,
    /// Minor version of the request line: 0 or 1.
    pub version_minor: u8,
    /// Explicit padding, zero.
    pub reserved: [u8; 3],
    /// The server's port, on either side; 0 on Unix sockets and in the catch-all.
    pub server_port: u16,
}

/// What is added up. Every field only grows.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TallyValue {
    /// Sum of the durations in nanoseconds.
    pub sum_ns: u64,
    /// Exchanges by duration.
    pub buckets: [u64; TALLY_BUCKETS],
}

impl TallyKey {
    /// Takes what finds no key of its own.
    pub const fn catch_all(role: u8) -> Self {
        Self {
            process_start_ns: 0,
            tgid: 0,
            status: 0,
            role,
            method: 0,
            end: 0,
            complete: 0,
            version_minor: 0,
            reserved: [0; 3],
            server_port: 0,
        }
    }
}

impl TallyValue {
    /// Nothing.
    pub const ZERO: Self = Self {
        sum_ns: 0,
        buckets: [0; TALLY_BUCKETS],
    };
}

/// Longest duration of each bucket in nanoseconds; the last one has no end.
pub const TALLY_BOUNDS_NS: [u64; TALLY_BUCKETS] = bounds();

/// Powers of two to each eighth.
const EIGHTHS: [f64; 8] = [
    1.0,
    1.090_507_732_665_257_7,
    1.189_207_115_002_721,
    1.296_839_554_651_009_6,
    core::f64::consts::SQRT_2,
    1.542_210_825_407_940_7,
    1.681_792_830_507_429,
    1.834_008_086_409_342_4,
];

/// Computed once, by the compiler: the BPF target has no floating point.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "indices below 256, and bounds that are positive and below 2^43"
)]
const fn bounds() -> [u64; TALLY_BUCKETS] {
    let mut bounds = [u64::MAX; TALLY_BUCKETS];
    let mut index = 0;
    while index < TALLY_BUCKETS - 1 {
        let upper = TALLY_OFFSET + index as i32 + 1;
        let (mut power, mut value) = (upper.div_euclid(8), EIGHTHS[upper.rem_euclid(8) as usize]);
        while power > 0 {
            value *= 2.0;
            power -= 1;
        }
        while power < 0 {
            value /= 2.0;
            power += 1;
        }
        bounds[index] = (value * 1e9) as u64;
        index += 1;
    }
    bounds
}

const _: () = assert!(size_of::<TallyKey>() == 24);
const _: () = assert!(size_of::<TallyValue>() == 8 + 8 * TALLY_BUCKETS);
