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
    window::{first_line_feeds, low_bytes, lower, lowest_byte},
};

/// Words of the window that one pass looks at: as many as are ever read into it.
const WORDS: usize = step::HEAD_READ as usize / 8;
/// Digits of a `Content-Length` that are read here.
const DIGITS: u32 = 12;
/// Length of `Content-Length:`.
const LENGTH_NAME: u32 = 15;
/// The end of the last line and an empty one, the first byte lowest.
const HEAD_END: u32 = u32::from_le_bytes(*b"\r\n\r\n");
/// What stands before the minor version in a request line.
const VERSION: u64 = u64::from_le_bytes(*b" HTTP/1.");
/// `Content-Length` in two words, as [`lower`] makes it, with the line feed before it left as it is.
const LINE_CONTENT: u64 = u64::from_le_bytes(*b"\ncontent");
const DASH_LENGTH: u64 = u64::from_le_bytes(*b"-length:");

/// What one pass over a head found. It lies in memory, where the verifier forgets how it came about.
///
/// Fields that are zeroed together do not lie side by side: the compiler would join the stores to a call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Whole {
    /// Body length.
    pub length: u64,
    /// Where the value of `Content-Length` ended.
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
    let side = work.side(host);
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
    let first = work.window.words[0];
    let method_len = method_len(first);
    if method_len == 0 {
        return false;
    }
    // Taken first, so that the pass over the head keeps it too.
    let slot = host.take_slot();
    read_head(work, host, slot);
    let Some(minor) = minor_version(work, host) else {
        if slot != NO_SLOT {
            host.return_slot(slot);
        }
        return false;
    };
    let end = work.whole.end;
    let direction = &mut connection.directions[REQUEST];
    direction.time_ns = work.now_ns;
    direction.method_len = method_len as u8;
    let method = Method::of(reversed(first, method_len), method_len as u8);
    direction.method = host.masked(u32::from(method as u8), 15) as u8;
    direction.bits = direction.bits & bits::POSITIONED | bits::RECOGNISED | work.whole.bits;
    direction.status = u16::from(minor);
    direction.head_len = end as u16;
    direction.remaining = work.whole.length;
    direction.phase = body_phase(direction, Phase::Start);
    direction.slot = slot;
    work.position = end;
    work.unkept = end;
    host.barrier();
    if slot == NO_SLOT {
        host.count(kerntally_abi::Counter::HeadNotKept, 1);
    }
    host.barrier();
    finish::push(connection, work, host);
    true
}

/// The minor version at the end of a plain head's request line, if it has one.
#[inline(always)]
fn minor_version<H: Host>(work: &Work, host: &H) -> Option<u8> {
    if work.whole.plain == 0 || work.whole.line < 15 {
        return None;
    }
    let line = work.whole.line;
    let end = host.word(&work.window, line - 3);
    let minor = (end as u8).wrapping_sub(b'0');
    let ordinary =
        host.word(&work.window, line - 11) == VERSION && minor <= 9 && (end >> 8) as u8 == b'\r';
    ordinary.then_some(minor)
}

/// A final response's head that answers an embedded request; false if it is not one of the ordinary.
#[inline(always)]
fn response<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    let cell = &connection.embedded[(connection.answered & 1) as usize];
    if cell.flags & request_flag::LIVE == 0 || cell.sequence != connection.answered {
        return false;
    }
    let method = cell.method;
    let version = work.window.words[0];
    let code = work.window.words[1];
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
        read_head(work, host, NO_SLOT);
        if work.whole.plain == 0 {
            return false;
        }
        remember(connection, &work.whole);
    }
    host.barrier();
    connection.early_position = work.early_position(connection);
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
    // All but the first byte, the line feed, in lower case.
    let begins = host.word(&work.window, name - 1) | lower(0) << 8;
    if begins != LINE_CONTENT || lower(host.word(&work.window, name + 7)) != DASH_LENGTH {
        return false;
    }
    work.whole.length_at = at;
    work.whole.plain = 0;
    length(&work.window, &mut work.whole, host);
    host.barrier();
    let end = work.whole.at + u32::from(connection.length_rest);
    if work.whole.plain == 0 || end > work.end || end < 4 {
        return false;
    }
    let body = u64::from(work.len.wrapping_sub(end));
    work.whole.end = end;
    host.word(&work.window, end - 4) as u32 == HEAD_END && (body == 0 || body == work.whole.length)
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

/// Looks for the end of the head in the window, and for what frames its body; see [`Whole`]. On the way the head
/// is kept in `slot`, if that is one.
#[inline(always)]
fn read_head<H: Host>(work: &mut Work, host: &mut H, slot: u16) {
    let whole = &mut work.whole;
    whole.plain = 0;
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
    host.scan(work, slot);
    host.barrier();
    if work.whole.end != 0 {
        framing(&work.window, &mut work.whole, host);
    }
    host.barrier();
}

/// Looks at the words of the window up to the end of the head; `keep` gets each of them, and its index.
///
/// A word with two line ends is out of the ordinary, and so is what may be taken for one: then no end is found.
#[inline(always)]
pub fn scan_head<H: Host>(work: &mut Work, host: &H, mut keep: impl FnMut(usize, u64)) {
    let Work {
        window, whole, end, ..
    } = work;
    let mut index = 0;
    // The end stays in memory: in a register, the verifier would tell its ways through a round apart by it.
    while index < WORDS && (index as u32) * 8 < *end {
        let bytes = window.words[index];
        keep(index, bytes);
        let feeds = first_line_feeds(bytes);
        if feeds != 0 {
            let at = index as u32 * 8 + lowest_byte(feeds) + 1;
            if line_begins(window, whole, host, at, *end) || feeds & (feeds - 1) != 0 {
                return;
            }
        }
        index += 1;
    }
}

/// A line of a head begins; true if it is the empty one at its end.
#[inline(always)]
fn line_begins<H: Host>(window: &Window, whole: &mut Whole, host: &H, at: u32, end: u32) -> bool {
    if whole.line == 0 {
        whole.line = at;
    }
    let next = host.word(window, at);
    if next & 0xffff == 0x0a0d || next as u8 == b'\n' {
        let behind = at + 2 - u32::from(next as u8 == b'\n');
        whole.end = if behind > end { 0 } else { behind };
        return true;
    }
    let name = lower(next);
    if name == CONTENT {
        if lower(host.word(window, at + 8)) & low_bytes(7) == LENGTH {
            whole.length_at = at + 15;
            whole.framed += 1;
        }
    } else if name == TRANSFER && lower(host.word(window, at + 8)) == ENCODING {
        whole.coding_at = at + 16;
        whole.framed += 1;
    }
    false
}

/// Reads the value of the field that frames the body; `plain` is left 0 if it is out of the ordinary, or
/// there are two.
#[inline(always)]
fn framing<H: Host>(window: &Window, found: &mut Whole, host: &H) {
    found.length = 0;
    found.bits = 0;
    if found.framed == 0 {
        found.plain = 1;
    } else if found.framed == 1 && found.coding_at != 0 {
        coding(window, found);
    } else if found.framed == 1 {
        length(window, found, host);
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
fn length<H: Host>(window: &Window, found: &mut Whole, host: &H) {
    let mut at = found.length_at;
    if host.byte(window, at) != b' ' {
        return;
    }
    at += 1;
    let mut word = host.word(window, at);
    let mut value = 0u64;
    let mut digits = 0;
    while digits < DIGITS {
        if digits == 8 {
            word = host.word(window, at);
        }
        let byte = word as u8;
        if !byte.is_ascii_digit() {
            break;
        }
        value = value * 10 + u64::from(byte - b'0');
        word >>= 8;
        at += 1;
        digits += 1;
    }
    if digits == 0 || word as u8 != b'\r' {
        return;
    }
    found.at = at;
    found.length = value;
    found.bits = bits::HAS_LENGTH;
    found.plain = 1;
}
