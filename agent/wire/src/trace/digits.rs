//! Identifiers as formats spell them.

/// Values of lower-case hexadecimal digits; all else is 0xff.
const LOWER: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

/// The same with upper-case digits beside them.
const EITHER: [u8; 256] = {
    let mut table = LOWER;
    let mut value = 10;
    while value < 16 {
        table[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

/// Exactly `N` bytes in lower-case digits.
pub(super) fn lower<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    whole(digits, &LOWER)
}

/// Exactly `N` bytes in digits of either case.
pub(super) fn either<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    whole(digits, &EITHER)
}

/// At most `N` bytes in digits of either case, with zeros before them.
pub(super) fn padded<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    (1..=2 * N)
        .contains(&digits.len())
        .then(|| right_aligned(digits, &EITHER))
        .flatten()
}

/// A trace id of 64 or 128 bits in lower-case digits.
pub(super) fn lower_trace_id(digits: &[u8]) -> Option<[u8; 16]> {
    match digits.len() {
        32 => whole(digits, &LOWER),
        16 => whole(digits, &LOWER).map(extended),
        _ => None,
    }
}

/// The same in digits of either case.
pub(super) fn either_trace_id(digits: &[u8]) -> Option<[u8; 16]> {
    match digits.len() {
        32 => whole(digits, &EITHER),
        16 => whole(digits, &EITHER).map(extended),
        _ => None,
    }
}

/// An unsigned decimal number without a sign.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// An identifier; all zeros are none.
pub(super) fn id<const N: usize>(bytes: [u8; N]) -> Option<[u8; N]> {
    (bytes != [0; N]).then_some(bytes)
}

fn extended(low: [u8; 8]) -> [u8; 16] {
    u128::from(u64::from_be_bytes(low)).to_be_bytes()
}

/// Exactly `2 * N` digits: nearly all identifiers, so without the tests for what may lack.
fn whole<const N: usize>(digits: &[u8], table: &[u8; 256]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    let mut bad = 0;
    for (place, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (table[usize::from(pair[0])], table[usize::from(pair[1])]);
        bad |= high | low;
        *place = high << 4 | low & 0xf;
    }
    (bad & 0xf0 == 0).then_some(bytes)
}

fn right_aligned<const N: usize>(digits: &[u8], table: &[u8; 256]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut bad = 0;
    for (place, pair) in bytes.iter_mut().rev().zip(digits.rchunks(2)) {
        let (high, low) = match *pair {
            [high, low] => (table[usize::from(high)], table[usize::from(low)]),
            [low] => (0, table[usize::from(low)]),
            _ => return None,
        };
        bad |= high | low;
        *place = (high & 0xf) << 4 | low & 0xf;
    }
    (bad & 0xf0 == 0).then_some(bytes)
}
