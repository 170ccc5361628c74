//! Heads that lie whole in the window, as nearly all do: read in one pass over its words instead of in
//! steps. In: a filled window before a message. Out: the same state as after the steps, or no change at
//! all where anything is out of the ordinary, which the steps then look at.

use kerntally_abi::Method;

use crate::{
    Connection, Host, NO_SLOT, Phase, REQUEST, RESPONSE, Window, Work, bits, body, finish,
    head::{
        self, CHUNKED_VALUE, CONTENT, ENCODING, HTTP_1, HTTP_1_MASK, LENGTH, STATUS_BYTES,
        TRANSFER, body_phase,
    },
    request_flag,
    step::{self, todo},
    window::{low_bytes, lower},
};

/// Rounds of one pass over a head: a window of 960 bytes has 30 groups of four words, and heads of that
/// length rarely more lines than this leaves. What needs more goes through the steps.
pub const ROUNDS: u32 = 96;
/// Digits of a `Content-Length` that are read here.
const DIGITS: u32 = 12;
/// Length of `Content-Length:`.
const LENGTH_NAME: u32 = 15;
/// The end of the last line and an empty one, the first byte lowest.
const HEAD_END: u32 = u32::from_le_bytes(*b"\r\n\r\n");

/// What one pass over a head found. It lies in memory, where the verifier forgets how it came about.
///
/// Fields that are zeroed together do not lie side by side: the compiler would join the stores to a call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Whole {
    /// Body length.
    pub length: u64,
    /// Next byte to look at; then where the value of `Content-Length` ended.
    pub at: u32,
    /// Length of the request line, or status line, with its line feed; 0 before it was found.
    pub line: u32,
    /// Length of the head with its empty line; 0 if there was none.
    pub end: u32,
    /// Position of the value of `Content-Length`; 0 if there was none.
    pub length_at: u32,
    /// Position of the last letter of `Transfer-Encoding`; 0 if there was none.
    pub coding_at: u32,
    /// Fields that frame the body.
    pub framed: u16,
    /// Framing, as in `Direction::bits`.
    pub bits: u8,
    /// 0 where the head's framing is out of the ordinary.
    pub plain: u8,
}

impl Whole {
    /// Before any pass.
    pub const NONE: Self = Self {
        length: 0,
        at: 0,
        line: 0,
        end: 0,
        length_at: 0,
        coding_at: 0,
        framed: 0,
        bits: 0,
        plain: 0,
    };
}

/// Takes a call that begins with a whole head; true if the call is over with it. Otherwise the steps go on
/// from what was read.
#[inline(always)]
pub(crate) fn take<H: Host>(
    connection: &mut Connection,
    side: usize,
    work: &mut Work,
    host: &mut H,
) -> bool {
    let direction = &connection.directions[side];
    if work.todo != 0
        || direction.phase != Phase::Start as u8
        || direction.bits & bits::PARTIAL != 0
        || direction.slot != NO_SLOT
        || direction.leading != 0
    {
        return false;
    }
    if side == RESPONSE && connection.waiting() == 0 {
        return false;
    }
    let limit = if side == REQUEST {
        step::HEAD_READ
    } else {
        step::STATUS_READ
    };
    step::load(work, host, 0, limit);
    if work.todo != 0 {
        return false;
    }
    host.barrier();
    let begun = if side == REQUEST {
        request(connection, work, host)
    } else {
        response(connection, work, host)
    };
    // What the request's arrival calls for comes before its body.
    if !begun || (side == REQUEST && work.todo != 0) {
        return false;
    }
    host.barrier();
    pass_body(connection, side, work);
    host.barrier();
    if side == RESPONSE && work.todo & todo::FINISH != 0 {
        finish::finish(connection, work, host);
    }
    host.barrier();
    work.todo == 0 && work.left == 0 && work.position >= work.end
}

/// What follows the head in the same call, if it is body of a known length.
#[inline(always)]
fn pass_body(connection: &mut Connection, side: usize, work: &mut Work) {
    let direction = &mut connection.directions[side];
    if direction.phase == Phase::UntilClose as u8 {
        work.position = work.end;
        work.left = 0;
        return;
    }
    if direction.phase != Phase::Body as u8 {
        return;
    }
    let behind = u64::from(work.end - work.position) + u64::from(work.left);
    if behind > direction.remaining {
        return;
    }
    direction.remaining -= behind;
    work.position = work.end;
    work.left = 0;
    if direction.remaining == 0 {
        body::message_end(connection, side, work);
    }
}

/// A request head; false if it is not one of the ordinary.
#[inline(always)]
fn request<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    let first = work.window.word(0);
    let method_len = method_len(first);
    if method_len == 0 {
        return false;
    }
    read_head(work, host);
    if work.whole.plain == 0 || work.whole.line < 15 {
        return false;
    }
    let line = work.whole.line - 1;
    let version = work.window.word(line - 9);
    let minor = (version >> 56) as u8;
    if version & HTTP_1_MASK != HTTP_1
        || !minor.is_ascii_digit()
        || work.window.byte(line - 1) != b'\r'
        || work.window.byte(line - 10) != b' '
    {
        return false;
    }
    let end = work.whole.end;
    let direction = &mut connection.directions[REQUEST];
    direction.time_ns = work.now_ns;
    direction.method_len = method_len as u8;
    let method = Method::of(reversed(first, method_len), method_len as u8);
    direction.method = host.masked(u32::from(method as u8), 15) as u8;
    direction.bits = direction.bits & bits::POSITIONED | bits::RECOGNISED | work.whole.bits;
    direction.status = u16::from(minor - b'0');
    direction.head_len = end as u16;
    direction.remaining = work.whole.length;
    direction.phase = body_phase(direction, Phase::Start);
    work.position = end;
    work.unkept = end;
    host.barrier();
    let slot = host.take_slot();
    if slot == NO_SLOT {
        host.count(kerntally_abi::Counter::HeadNotKept, 1);
    } else {
        host.keep(slot, 0, &mut work.window, 0, end);
    }
    connection.directions[REQUEST].slot = slot;
    host.barrier();
    finish::push(connection, work, host);
    true
}

/// A final response's head that answers an embedded request; false if it is not one of the ordinary.
#[inline(always)]
fn response<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    let cell = &connection.embedded[(connection.answered & 1) as usize];
    if cell.flags & request_flag::LIVE == 0 || cell.sequence != connection.answered {
        return false;
    }
    let method = cell.method;
    let version = work.window.word(0);
    let code = work.window.word(8);
    let hundreds = ((code >> 8) as u8).wrapping_sub(b'0');
    let tens = ((code >> 16) as u8).wrapping_sub(b'0');
    let units = ((code >> 24) as u8).wrapping_sub(b'0');
    let ordinary = version & HTTP_1_MASK == HTTP_1
        && work.end > STATUS_BYTES
        && code as u8 == b' '
        && (2..=9).contains(&hundreds)
        && tens <= 9
        && units <= 9
        && method != Method::Connect as u8;
    if !ordinary {
        return false;
    }
    let status = u16::from(hundreds) * 100 + u16::from(tens) * 10 + u16::from(units);
    if !like_the_last(connection, work, host) {
        read_head(work, host);
        if work.whole.plain == 0 {
            return false;
        }
        remember(connection, &work.whole);
    }
    host.barrier();
    connection.early_position = work.opposite;
    let direction = &mut connection.directions[RESPONSE];
    direction.bits = direction.bits & bits::POSITIONED | work.whole.bits;
    direction.head_len = work.whole.end as u16;
    direction.status = status;
    direction.remaining = work.whole.length;
    work.position = work.whole.end;
    work.unkept = work.whole.end;
    head::frame(connection, work, method);
    true
}

/// Whether the head is laid out like the last one on this connection, as a server's mostly are: then what
/// frames its body is known without a look at every line.
///
/// It is one if the only response that anybody waits for begins here, `Content-Length` stands on a line of
/// its own where it stood, an empty line follows as far behind it as it did, and the call ends with that
/// line or with the body of this length. An earlier empty line would make all that a part of a body, which
/// would then have to end as exactly as this head.
#[inline(always)]
fn like_the_last<H: Host>(connection: &Connection, work: &mut Work, host: &H) -> bool {
    let at = u32::from(connection.length_at);
    if at < LENGTH_NAME + 1 || at >= work.end || connection.waiting() != 1 {
        return false;
    }
    let name = at - LENGTH_NAME;
    let there = work.window.byte(name - 1) == b'\n'
        && lower(work.window.word(name)) == CONTENT
        && lower(work.window.word(name + 8)) & low_bytes(7) == LENGTH;
    if !there {
        return false;
    }
    work.whole.length_at = at;
    work.whole.plain = 0;
    length(&work.window, &mut work.whole);
    host.barrier();
    let end = work.whole.at + u32::from(connection.length_rest);
    if work.whole.plain == 0 || end > work.end || end < 4 {
        return false;
    }
    let body = u64::from(work.len.wrapping_sub(end));
    work.whole.end = end;
    work.window.word(end - 4) as u32 == HEAD_END && (body == 0 || body == work.whole.length)
}

/// Remembers where `Content-Length` stands, for [`like_the_last`].
#[inline(always)]
fn remember(connection: &mut Connection, whole: &Whole) {
    let only_length = whole.framed == 1 && whole.length_at != 0;
    connection.length_at = if only_length {
        whole.length_at as u16
    } else {
        0
    };
    connection.length_rest = whole.end.wrapping_sub(whole.at) as u16;
}

/// Length of the method at the start of a request, if it is one of the common ones; else 0.
#[inline(always)]
fn method_len(first: u64) -> u32 {
    const fn is(first: u64, text: [u8; 8], len: u32) -> bool {
        (first ^ u64::from_le_bytes(text)) & low_bytes(len) == 0
    }
    if is(first, *b"GET \0\0\0\0", 4) || is(first, *b"PUT \0\0\0\0", 4) {
        3
    } else if is(first, *b"POST \0\0\0", 5) || is(first, *b"HEAD \0\0\0", 5) {
        4
    } else if is(first, *b"PATCH \0\0", 6) {
        5
    } else if is(first, *b"DELETE \0", 7) {
        6
    } else if is(first, *b"OPTIONS ", 8) {
        7
    } else {
        0
    }
}

/// The method as the steps gather it: its first byte highest.
#[inline(always)]
fn reversed(first: u64, len: u32) -> u64 {
    first.swap_bytes() >> (64 - len * 8)
}

/// Looks for the end of the head in the window, and for what frames its body; see [`Whole`].
#[inline(always)]
fn read_head<H: Host>(work: &mut Work, host: &mut H) {
    let whole = &mut work.whole;
    whole.plain = 0;
    host.barrier();
    whole.at = 0;
    host.barrier();
    whole.line = 0;
    host.barrier();
    whole.framed = 0;
    host.barrier();
    whole.length_at = 0;
    host.barrier();
    whole.coding_at = 0;
    host.barrier();
    whole.end = 0;
    host.barrier();
    host.scan(work);
    host.barrier();
    if work.whole.end != 0 {
        framing(&work.window, &mut work.whole);
    }
    host.barrier();
}

/// One round over a head: to the next line feed, or past four words that hold none; false when there is
/// nothing more to do.
#[inline(always)]
pub fn scan_round(work: &mut Work) -> bool {
    let Work {
        window, whole, end, ..
    } = work;
    let at = whole.at;
    if at >= *end {
        return false;
    }
    let feed = match window.line_feed(at) {
        Ok(feed) => feed,
        Err(next) => {
            whole.at = next;
            return true;
        }
    };
    let at = feed + 1;
    whole.at = at;
    if whole.line == 0 {
        whole.line = at;
    }
    let next = window.word(at);
    if next as u8 == b'\n' || next & 0xffff == 0x0a0d {
        let behind = at + 2 - u32::from(next as u8 == b'\n');
        whole.end = if behind > *end { 0 } else { behind };
        return false;
    }
    note_field(window, whole, at, next);
    true
}

/// Notes a field that frames the body.
#[inline(always)]
fn note_field(window: &Window, whole: &mut Whole, at: u32, next: u64) {
    let name = lower(next);
    if name == CONTENT {
        if lower(window.word(at + 8)) & low_bytes(7) == LENGTH {
            whole.length_at = at + 15;
            whole.framed += 1;
        }
    } else if name == TRANSFER && lower(window.word(at + 8)) == ENCODING {
        whole.coding_at = at + 16;
        whole.framed += 1;
    }
}

/// Reads the value of the field that frames the body; `plain` is left 0 if it is out of the ordinary, or
/// there are two.
#[inline(always)]
fn framing(window: &Window, found: &mut Whole) {
    found.length = 0;
    found.bits = 0;
    if found.framed == 0 {
        found.plain = 1;
    } else if found.framed == 1 && found.coding_at != 0 {
        coding(window, found);
    } else if found.framed == 1 {
        length(window, found);
    }
}

#[inline(always)]
fn coding(window: &Window, found: &mut Whole) {
    let at = found.coding_at;
    let name_ends = window.byte(at) | 0x20 == b'g'
        && window.byte(at + 1) == b':'
        && window.byte(at + 2) == b' ';
    let value = lower(window.word(at + 3)) & low_bytes(7);
    if name_ends && value == CHUNKED_VALUE && window.byte(at + 10) == b'\r' {
        found.bits = bits::CHUNKED;
        found.plain = 1;
    }
}

#[inline(always)]
fn length(window: &Window, found: &mut Whole) {
    if window.byte(found.length_at) != b' ' {
        return;
    }
    let mut at = found.length_at + 1;
    let mut value = 0u64;
    let mut digits = 0;
    while digits < DIGITS {
        let byte = window.byte(at);
        if !byte.is_ascii_digit() {
            break;
        }
        value = value * 10 + u64::from(byte - b'0');
        at += 1;
        digits += 1;
    }
    if digits == 0 || window.byte(at) != b'\r' {
        return;
    }
    found.at = at;
    found.length = value;
    found.bits = bits::HAS_LENGTH;
    found.plain = 1;
}
