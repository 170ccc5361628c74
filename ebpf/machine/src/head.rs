//! Request lines, status lines and header fields.

use kerntally_abi::{
    Method,
    limits::{HEAD_BYTES, METHOD_BYTES},
    role,
};

use crate::{
    Connection, Direction, Host, NO_SLOT, Phase, REQUEST, RESPONSE, Work, bits,
    sniff::{Sniffed, is_token, sniff},
    step::todo,
    window::{low_bytes, lower},
};

/// Empty-line bytes tolerated before a request line.
const LEADING: u8 = 2 * kerntally_abi::limits::LEADING_CRLF as u8;
/// `HTTP/1.` without its minor version, and the mask that ignores that digit.
pub(crate) const HTTP_1: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
pub(crate) const HTTP_1_MASK: u64 = low_bytes(7);
/// Bytes of a status line up to and including the code.
pub(crate) const STATUS_BYTES: u32 = 12;
/// Bytes before a line feed that show the version: a space, `HTTP/1.1`, a carriage return, and slack.
const VERSION_BYTES: u32 = 16;
/// Longest name of a field that is looked for, with its colon.
pub(crate) const CONTENT: u64 = u64::from_le_bytes(*b"content-");
pub(crate) const LENGTH: u64 = u64::from_le_bytes(*b"length:\0");
pub(crate) const TRANSFER: u64 = u64::from_le_bytes(*b"transfer");
pub(crate) const ENCODING: u64 = u64::from_le_bytes(*b"-encodin");
const CHUNKED: u64 = u64::from_be_bytes(*b"\0chunked");
/// The same as it lies in the window.
pub(crate) const CHUNKED_VALUE: u64 = CHUNKED.swap_bytes() >> 8;
/// Bytes of a head that are scanned. Servers accept 8 to 64 KiB by default; what is longer is taken, with
/// all that follows, for one message until its response has ended.
const SCANNED: u32 = 32 * 1024;
/// Largest body length believed.
const LENGTH_LIMIT: u64 = 1 << 60;

/// Before the first byte of a message.
#[inline(always)]
pub(crate) fn start<H: Host>(
    connection: &mut Connection,
    side: usize,
    work: &mut Work,
    host: &mut H,
) -> bool {
    if side == RESPONSE {
        return status_line(connection, work, host);
    }
    let direction = &mut connection.directions[REQUEST];
    let byte = work.window.byte(work.position);
    if (byte == b'\r' || byte == b'\n') && direction.leading < LEADING {
        direction.leading += 1;
        work.position += 1;
        work.unkept = work.position;
        return true;
    }
    direction.phase = Phase::Method as u8;
    direction.time_ns = work.now_ns;
    direction.remaining = 0;
    direction.head_len = 0;
    direction.method_len = 0;
    direction.leading = 0;
    direction.bits &= bits::POSITIONED;
    work.unkept = work.position;
    true
}

/// Inside a method, a byte a step.
#[inline(always)]
pub(crate) fn method(connection: &mut Connection, _side: usize, work: &mut Work) -> bool {
    let direction = &mut connection.directions[REQUEST];
    let byte = work.window.byte(work.position);
    work.position += 1;
    if byte == b' ' && direction.method_len > 0 {
        direction.method = Method::of(direction.remaining, direction.method_len) as u8;
        direction.phase = Phase::Line as u8;
        direction.remaining = 0;
        return true;
    }
    if !is_token(byte) || direction.method_len as usize >= METHOD_BYTES {
        return not_a_request(connection, work);
    }
    direction.remaining = direction.remaining << 8 | u64::from(byte);
    direction.method_len += 1;
    true
}

/// Inside a request line: its end must show the version.
#[inline(always)]
pub(crate) fn line(connection: &mut Connection, _side: usize, work: &mut Work) -> bool {
    if endless(connection, REQUEST, work) {
        return true;
    }
    let at = match work.window.line_feed(work.position) {
        Ok(at) if at < work.end => at,
        Ok(_) => {
            starve(work, VERSION_BYTES);
            return true;
        }
        Err(next) => {
            if next >= work.end {
                starve(work, VERSION_BYTES);
            } else {
                work.position = next;
            }
            return true;
        }
    };
    let returned = at > 0 && work.window.byte(at - 1) == b'\r';
    let end = if returned { at - 1 } else { at };
    if end < 9 {
        return not_a_request(connection, work);
    }
    let version = work.window.word(end - 8);
    let minor = (version >> 56) as u8;
    if version & HTTP_1_MASK != HTTP_1
        || !minor.is_ascii_digit()
        || work.window.byte(end - 9) != b' '
    {
        return not_a_request(connection, work);
    }
    let direction = &mut connection.directions[REQUEST];
    direction.bits |= bits::RECOGNISED;
    let line_len = u32::from(direction.head_len) + at.saturating_sub(work.unkept);
    if direction.method == Method::Unknown as u8 && line_len as usize > HEAD_BYTES {
        direction.bits |= bits::TOO_LONG;
    }
    direction.status = u16::from(minor - b'0');
    direction.phase = Phase::Fields as u8;
    direction.remaining = 0;
    work.position = at;
    true
}

/// Gives up looking for the end of a head that is too long.
#[inline(always)]
fn endless(connection: &mut Connection, side: usize, work: &mut Work) -> bool {
    let direction = &mut connection.directions[side];
    if u32::from(direction.head_len) < SCANNED {
        return false;
    }
    if side == RESPONSE {
        direction.phase = Phase::UntilClose as u8;
        return true;
    }
    if direction.bits & bits::RECOGNISED == 0 && direction.method == Method::Unknown as u8 {
        direction.bits |= bits::TOO_LONG;
    }
    if direction.bits & bits::PUSHED == 0 {
        work.todo |= todo::PUSH;
    }
    direction.phase = Phase::Lost as u8;
    true
}

/// Bytes that were taken for a request are none.
#[inline(always)]
fn not_a_request(connection: &mut Connection, work: &mut Work) -> bool {
    if connection.in_step == 0 {
        work.not_http = 1;
        work.todo |= todo::DESYNCHRONISE;
        return true;
    }
    work.todo |= todo::DESYNCHRONISE;
    true
}

/// Asks for more bytes, keeping at most the last `tail` of those that belong to the line.
#[inline(always)]
fn starve(work: &mut Work, tail: u32) {
    if work.end - work.position > tail {
        work.position = work.end - tail;
    }
    work.starved = 1;
}

/// In header fields: from line feed to line feed.
#[inline(always)]
pub(crate) fn fields<H: Host>(
    connection: &mut Connection,
    side: usize,
    work: &mut Work,
    host: &mut H,
) -> bool {
    if endless(connection, side, work) {
        return true;
    }
    let at = match work.window.line_feed(work.position) {
        Ok(at) if at < work.end => at,
        Ok(_) => {
            work.position = work.end;
            return true;
        }
        Err(next) => {
            work.position = if next < work.end { next } else { work.end };
            return true;
        }
    };
    let line = at + 1;
    let have = work.end - line.min(work.end);
    let first = if have > 0 { work.window.byte(line) } else { 0 };
    let second = if have > 1 {
        work.window.byte(line + 1)
    } else {
        0
    };
    if have == 0 || (first == b'\r' && have == 1) {
        work.position = at;
        work.starved = 1;
        return true;
    }
    if first == b'\n' || (first == b'\r' && second == b'\n') {
        work.position = line + if first == b'\n' { 1 } else { 2 };
        return head_end(connection, side, work, host);
    }
    let direction = &mut connection.directions[side];
    match field(&work.window, line, have) {
        Field::Other => work.position = line,
        Field::Partial => {
            work.position = at;
            work.starved = 1;
        }
        Field::Length => {
            work.position = line + 15;
            direction.remaining = 0;
            direction.phase = if direction.bits & bits::CHUNKED == 0 {
                Phase::Length as u8
            } else {
                Phase::Fields as u8
            };
        }
        Field::Coding => {
            work.position = line + 18;
            direction.remaining = 0;
            direction.bits &= !bits::HAS_LENGTH;
            direction.phase = Phase::Coding as u8;
        }
    }
    true
}

/// What a header line begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Other,
    /// Cut before it could be told.
    Partial,
    Length,
    Coding,
}

#[inline(always)]
fn field(window: &crate::Window, line: u32, have: u32) -> Field {
    let first = lower(window.word(line));
    let mask = low_bytes(have);
    let is_content = (first ^ CONTENT) & mask == 0;
    let is_transfer = (first ^ TRANSFER) & mask == 0;
    if !is_content && !is_transfer {
        return Field::Other;
    }
    if have < 8 {
        return Field::Partial;
    }
    let second = lower(window.word(line + 8));
    let wanted = if is_content {
        LENGTH | 0x2000_0000_0000_0000
    } else {
        ENCODING
    };
    let width = if is_content { 7 } else { 8 };
    let seen = (have - 8).min(width);
    if (second ^ wanted) & low_bytes(seen) != 0 {
        return Field::Other;
    }
    if seen < width {
        return Field::Partial;
    }
    if is_content {
        return Field::Length;
    }
    if have < 18 {
        return Field::Partial;
    }
    if window.byte(line + 16) | 0x20 == b'g' && window.byte(line + 17) == b':' {
        return Field::Coding;
    }
    Field::Other
}

/// In the value of `Content-Length`, a byte a step.
#[inline(always)]
pub(crate) fn length(connection: &mut Connection, side: usize, work: &mut Work) -> bool {
    let direction = &mut connection.directions[side];
    let byte = work.window.byte(work.position);
    if byte.is_ascii_digit() {
        work.position += 1;
        direction.remaining = direction.remaining * 10 + u64::from(byte - b'0');
        direction.bits |= bits::HAS_LENGTH;
        if direction.remaining > LENGTH_LIMIT {
            direction.remaining = LENGTH_LIMIT;
        }
        return true;
    }
    if byte == b' ' || byte == b'\t' {
        work.position += 1;
        return true;
    }
    direction.phase = Phase::Fields as u8;
    true
}

/// In the value of `Transfer-Encoding`: only its last coding counts (RFC 9112, section 6.1).
#[inline(always)]
pub(crate) fn coding(connection: &mut Connection, side: usize, work: &mut Work) -> bool {
    let direction = &mut connection.directions[side];
    let byte = work.window.byte(work.position);
    if byte == b'\n' {
        if direction.remaining & low_bytes(7) == CHUNKED {
            direction.bits |= bits::CHUNKED;
        }
        direction.remaining = 0;
        direction.phase = Phase::Fields as u8;
        return true;
    }
    work.position += 1;
    if byte != b' ' && byte != b'\t' && byte != b'\r' {
        direction.remaining = direction.remaining << 8 | u64::from(byte | 0x20);
    }
    true
}

/// A response's first bytes: version and status.
#[inline(always)]
fn status_line<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    let have = work.end - work.position;
    let version = work.window.word(work.position);
    let visible = low_bytes(have) & HTTP_1_MASK;
    if (version ^ HTTP_1) & visible != 0 {
        // Bytes beyond the framing of the last response, or no HTTP at all.
        if connection.waiting() == 0 {
            work.position = work.end;
            host.skip(work.left);
            work.left = 0;
            return true;
        }
        work.todo |= todo::DESYNCHRONISE;
        return true;
    }
    if have < STATUS_BYTES {
        work.starved = 1;
        return true;
    }
    let code = work.window.word(work.position + 8);
    let hundreds = ((code >> 8) as u8).wrapping_sub(b'0');
    let tens = ((code >> 16) as u8).wrapping_sub(b'0');
    let units = ((code >> 24) as u8).wrapping_sub(b'0');
    if code as u8 != b' ' || hundreds > 9 || tens > 9 || units > 9 {
        work.todo |= todo::DESYNCHRONISE;
        return true;
    }
    let server = connection.role == role::SERVER;
    if server && connection.waiting() == 0 && awaits_push(&connection.directions[REQUEST]) {
        // The answer came before the whole head: too long, or an error. (On a client the hook of the send
        // may be at work on the head at this moment.)
        work.todo |= todo::PUSH;
        return true;
    }
    let early = connection.waiting() == 0;
    connection.early_position = work.early_position(connection);
    let direction = &mut connection.directions[RESPONSE];
    direction.bits &= bits::POSITIONED;
    if early {
        direction.bits |= bits::EARLY;
    }
    direction.head_len = 0;
    direction.status = u16::from(hundreds) * 100 + u16::from(tens) * 10 + u16::from(units);
    direction.remaining = 0;
    direction.phase = Phase::Fields as u8;
    work.position += STATUS_BYTES;
    true
}

/// Whether enough of a request is known for a response to be its.
#[inline(always)]
pub(crate) fn awaits_push(request: &Direction) -> bool {
    if !request.in_head() || request.bits & bits::PUSHED != 0 {
        return false;
    }
    request.bits & bits::RECOGNISED != 0
        || (request.phase == Phase::Line as u8 && request.method != Method::Unknown as u8)
}

/// Whether what was read of a request is one although nothing answered it.
#[inline(always)]
pub(crate) fn is_request(request: &Direction) -> bool {
    awaits_push(request)
        && (request.bits & bits::RECOGNISED != 0 || request.head_len as usize > HEAD_BYTES)
}

/// The empty line after a head: what follows it?
#[inline(always)]
fn head_end<H: Host>(
    connection: &mut Connection,
    side: usize,
    work: &mut Work,
    host: &mut H,
) -> bool {
    if side == REQUEST {
        let direction = &mut connection.directions[REQUEST];
        keep_until(direction, work, host, work.position);
        if direction.bits & bits::PUSHED == 0 {
            work.todo |= todo::PUSH;
        } else if direction.slot != NO_SLOT {
            host.return_slot(direction.slot);
            direction.slot = NO_SLOT;
        }
        direction.phase = body_phase(direction, Phase::Start);
        return true;
    }
    response_head_end(connection, work, host)
}

/// The phase after a head, by its framing (RFC 9112, section 6.3).
#[inline(always)]
pub(crate) fn body_phase(direction: &mut Direction, otherwise: Phase) -> u8 {
    if direction.bits & bits::CHUNKED != 0 {
        direction.remaining = 0;
        return Phase::ChunkSize as u8;
    }
    if direction.bits & bits::HAS_LENGTH == 0 {
        return otherwise as u8;
    }
    if direction.remaining > 0 {
        Phase::Body as u8
    } else {
        Phase::Start as u8
    }
}

#[inline(always)]
fn response_head_end<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    let direction = &mut connection.directions[RESPONSE];
    if direction.slot != NO_SLOT {
        host.return_slot(direction.slot);
        direction.slot = NO_SLOT;
    }
    let status = direction.status;
    if status < 200 && status != 101 {
        direction.status = 0;
        direction.phase = Phase::Start as u8;
        return true;
    }
    let early = direction.bits & bits::EARLY != 0 && connection.role == role::CLIENT;
    let followed = work.left.wrapping_add(work.end.wrapping_sub(work.position)) != 0;
    if early && connection.waiting() == 0 && (!followed || status == 101) {
        crate::finish::hold(connection, work, host, Phase::Headed);
        return true;
    }
    let method = front_method(connection, work, host);
    frame(connection, work, method);
    true
}

/// Whether a response ends HTTP on its connection.
#[inline(always)]
pub(crate) fn is_tunnel(method: u8, status: u16) -> bool {
    status == 101 || (method == Method::Connect as u8 && status < 300)
}

/// Whether a response has no body, by its request's method, its status or its length.
#[inline(always)]
pub(crate) fn is_bodiless(direction: &Direction, method: u8) -> bool {
    let framed = direction.bits & (bits::CHUNKED | bits::HAS_LENGTH);
    method == Method::Head as u8
        || direction.status == 204
        || direction.status == 304
        || (framed == bits::HAS_LENGTH && direction.remaining == 0)
}

/// What follows the head of a response.
#[inline(always)]
pub(crate) fn frame(connection: &mut Connection, work: &mut Work, method: u8) {
    let direction = &mut connection.directions[RESPONSE];
    if is_tunnel(method, direction.status) {
        direction.phase = Phase::Done as u8;
        work.todo |= todo::FINISH;
    } else if is_bodiless(direction, method) {
        direction.phase = Phase::Start as u8;
        work.todo |= todo::FINISH;
    } else if direction.bits & bits::EARLY != 0 && connection.role == role::SERVER {
        // Nobody waited for it, so its method is not known, and it may have no body in spite of its framing:
        // the next thing that begins like a response is one.
        direction.phase = Phase::Lost as u8;
        work.todo |= todo::FINISH;
    } else {
        direction.phase = body_phase(direction, Phase::UntilClose);
    }
}

/// Method class of the request that the response being read answers.
#[inline(always)]
fn front_method<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> u8 {
    if connection.waiting() == 0 {
        return Method::Unknown as u8;
    }
    if crate::finish::front(connection, work, host) {
        return work.request.method;
    }
    Method::Unknown as u8
}

/// Out of step: a call that begins like a head brings the direction back.
#[inline(always)]
pub(crate) fn lost(connection: &mut Connection, side: usize, work: &mut Work) -> bool {
    let busy = side == REQUEST && connection.waiting() > 0;
    if work.consumed() != 0 || busy {
        return false;
    }
    let found = if side == REQUEST {
        sniff(work.window.word(0), work.end) == Sniffed::Request
    } else {
        (work.window.word(0) ^ HTTP_1) & low_bytes(work.end) & HTTP_1_MASK == 0
    };
    if found {
        connection.directions[side].phase = Phase::Start as u8;
        return true;
    }
    if side == RESPONSE && connection.waiting() > 0 {
        // These may be of the response that is waited for, and its end would not be known.
        work.todo |= todo::DESYNCHRONISE;
        return true;
    }
    false
}

/// Saves what the window holds of a request's head.
#[inline(always)]
pub(crate) fn keep<H: Host>(direction: &mut Direction, work: &mut Work, host: &mut H) {
    keep_until(direction, work, host, work.end);
}

#[inline(always)]
fn keep_until<H: Host>(direction: &mut Direction, work: &mut Work, host: &mut H, until: u32) {
    let count = until.saturating_sub(work.unkept);
    if count == 0 {
        return;
    }
    let at = u32::from(direction.head_len);
    if direction.bits & bits::PUSHED == 0 {
        if direction.slot == NO_SLOT && at == 0 {
            direction.slot = host.take_slot();
            if direction.slot == NO_SLOT {
                host.count(kerntally_abi::Counter::HeadNotKept, 1);
            }
        }
        if direction.slot != NO_SLOT {
            host.keep(direction.slot, at, &mut work.window, work.unkept, count);
        }
    }
    work.unkept = until;
    direction.head_len = (at + count).min(u32::from(u16::MAX)) as u16;
}

/// Counts what the window holds of a response's head, of which nothing is kept.
#[inline(always)]
pub(crate) fn measure(direction: &mut Direction, work: &mut Work) {
    let count = work.end.saturating_sub(work.unkept);
    work.unkept = work.end;
    let len = u32::from(direction.head_len) + count;
    direction.head_len = len.min(u32::from(u16::MAX)) as u16;
}
