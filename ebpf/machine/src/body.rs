//! Bodies: passed over by length, chunk by chunk, or until the close.

use crate::{Connection, Direction, Host, Phase, REQUEST, Work, step::todo};

/// Largest chunk believed; beyond it the size is taken for something else.
const CHUNK_LIMIT: u64 = 1 << 48;
/// A chunk's data is followed by a line end.
const CHUNK_LINE_END: u64 = 2;

/// Passes over as much of a body or chunk as the call holds.
#[inline(always)]
pub(crate) fn pass<H: Host>(
    connection: &mut Connection,
    side: usize,
    work: &mut Work,
    host: &mut H,
) -> bool {
    let direction = &mut connection.directions[side];
    let mut remaining = direction.remaining;
    let seen = u64::from(work.end - work.position);
    let inside = if seen < remaining { seen } else { remaining };
    work.position += inside as u32;
    remaining -= inside;
    if remaining > 0 {
        let left = u64::from(work.left);
        let beyond = if left < remaining { left } else { remaining };
        host.skip(beyond as u32);
        work.left -= beyond as u32;
        remaining -= beyond;
    }
    direction.remaining = remaining;
    if remaining > 0 {
        return false;
    }
    if direction.phase == Phase::ChunkData as u8 {
        direction.phase = Phase::ChunkSize as u8;
        return true;
    }
    message_end(connection, side, work);
    true
}

/// The last byte of a message has passed.
#[inline(always)]
pub(crate) fn message_end(connection: &mut Connection, side: usize, work: &mut Work) {
    connection.directions[side].phase = Phase::Start as u8;
    if side == REQUEST {
        connection.directions[REQUEST].bytes = 0;
        work.mark = work.consumed();
    } else {
        work.todo |= todo::FINISH;
    }
}

/// Whether `len` bytes that cannot be read fit into what the direction expects.
#[inline(always)]
pub(crate) fn opaque(direction: &Direction, len: u32) -> bool {
    let bounded = direction.phase == Phase::Body as u8 || direction.phase == Phase::ChunkData as u8;
    (bounded && direction.remaining >= u64::from(len))
        || direction.phase == Phase::UntilClose as u8
        || direction.phase >= Phase::Held as u8
}

/// The lines of a chunked body (RFC 9112, section 7.1), a byte a step.
#[inline(always)]
pub(crate) fn chunk(connection: &mut Connection, side: usize, work: &mut Work) -> bool {
    let direction = &mut connection.directions[side];
    let byte = work.window.byte(work.position);
    work.position += 1;
    let phase = direction.phase;
    if phase == Phase::ChunkSize as u8 {
        return size(connection, side, work, byte);
    }
    if phase == Phase::ChunkExtension as u8 {
        if byte == b'\n' {
            size_end(direction);
        }
        return true;
    }
    if phase == Phase::TrailerLine as u8 {
        if byte == b'\n' {
            direction.phase = Phase::Trailer as u8;
        }
        return true;
    }
    if byte == b'\n' {
        message_end(connection, side, work);
    } else if byte != b'\r' {
        direction.phase = Phase::TrailerLine as u8;
    }
    true
}

#[inline(always)]
fn size(connection: &mut Connection, side: usize, work: &mut Work, byte: u8) -> bool {
    let direction = &mut connection.directions[side];
    let folded = byte | 0x20;
    let digit = if byte.is_ascii_digit() {
        byte - b'0'
    } else if (b'a'..=b'f').contains(&folded) {
        folded - b'a' + 10
    } else if byte == b'\n' {
        size_end(direction);
        return true;
    } else if byte == b'\r' || byte == b';' || byte == b' ' || byte == b'\t' {
        direction.phase = Phase::ChunkExtension as u8;
        return true;
    } else {
        work.todo |= todo::DESYNCHRONISE;
        return true;
    };
    direction.remaining = direction.remaining << 4 | u64::from(digit);
    if direction.remaining > CHUNK_LIMIT {
        work.todo |= todo::DESYNCHRONISE;
        return true;
    }
    true
}

#[inline(always)]
fn size_end(direction: &mut Direction) {
    if direction.remaining == 0 {
        direction.phase = Phase::Trailer as u8;
        return;
    }
    direction.remaining += CHUNK_LINE_END;
    direction.phase = Phase::ChunkData as u8;
}
