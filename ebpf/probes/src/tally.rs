//! The fallback tally: an exchange for whose record the ring had no room is added to the distribution of its like. The agent folds in what has been added at each collection, so counts
//! and sums stay exact whatever the rate.

use kerntally_abi::{
    ExchangeRecord, TALLY_BOUNDS_NS, TALLY_BUCKETS, TallyKey, TallyValue, flag, role,
};

use crate::{
    counters::grow,
    kernel::bounded,
    maps::{NO_EXIST, Scratch, TALLY},
};

/// What a distribution starts from.
static ZERO: TallyValue = TallyValue::ZERO;
/// Longest duration of each bucket.
static BOUNDS_NS: [u64; TALLY_BUCKETS] = TALLY_BOUNDS_NS;

/// Keys of the distributions that take what finds no room, by role.
static CATCH_ALL: [TallyKey; 2] = [TallyKey::catch_all(0), TallyKey::catch_all(1)];

/// First stride of the search among the bounds.
const HALF: u32 = TALLY_BUCKETS as u32 / 2;
const LAST: u32 = TALLY_BUCKETS as u32 - 1;

/// Adds the exchange with this record; false if there was no way. The key is put together in scratch memory.
#[inline(always)]
pub fn add(record: *const ExchangeRecord, scratch: *mut Scratch) -> bool {
    // SAFETY: both pointers are to live map values: the record of an exchange that the program has claimed,
    // and scratch memory, of which the program owns this CPU's.
    let (record, key) = unsafe { (&*record, &mut (*scratch).tally) };
    key.process_start_ns = record.process_start_ns;
    key.tgid = record.tgid;
    key.status = record.status;
    key.role = record.role;
    key.method = record.method;
    key.end = record.end;
    key.complete = u8::from(record.flags & flag::RESPONSE_COMPLETE != 0);
    key.version_minor = record.version_minor;
    key.server_port = if record.role == role::SERVER {
        record.local_port
    } else {
        record.remote_port
    };
    let Some(value) = distribution(key) else {
        return false;
    };
    let duration = record.end_ns.wrapping_sub(record.start_ns);
    let bucket = bucket(duration);
    // SAFETY: the pointer is to a live element of the map, and `bucket` is one of its buckets.
    let (sum, count) = unsafe {
        (
            &raw mut (*value).sum_ns,
            (&raw mut (*value).buckets)
                .cast::<u64>()
                .add(bucket as usize),
        )
    };
    grow(sum, duration);
    grow(count, 1);
    true
}

/// The distribution of this key, made if need be; where there is no more room, that of the role.
#[inline(always)]
fn distribution(key: &TallyKey) -> Option<*mut TallyValue> {
    if let Some(value) = TALLY.get_ptr_mut(key) {
        return Some(value);
    }
    // Refused: another CPU was first, or there is no room.
    let _refused = TALLY.insert(key, &ZERO, NO_EXIST);
    if let Some(value) = TALLY.get_ptr_mut(key) {
        return Some(value);
    }
    let role = key.role as usize & 1;
    TALLY.get_ptr_mut(&CATCH_ALL[role])
}

/// The first bucket that is long enough: a search by halves, whose position is masked so that the verifier
/// sees one state a stride and not two.
#[inline(always)]
fn bucket(duration: u64) -> u32 {
    let mut at = 0;
    let mut stride = HALF;
    while stride > 0 {
        let probe = bounded(at + stride - 1, LAST) as usize;
        // SAFETY: masked to the length of the table.
        let bound = unsafe { *(&raw const BOUNDS_NS).cast::<u64>().add(probe) };
        if bound < duration {
            at += stride;
        }
        at = bounded(at, LAST);
        stride >>= 1;
    }
    at
}
