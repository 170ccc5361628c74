//! One call's bytes through one direction of a connection, in small steps.

use kerntally_abi::Counter;

use crate::{
    Connection, Ended, Host, NO_SLOT, Phase, REQUEST, RESPONSE, Request, Window, bits, body,
    finish, head,
    whole::{self, Whole},
};

/// Steps one call may take where the kernel has no loop helper (before 5.17), and the verifier walks every
/// round of the loop that takes them, if not the steps themselves.
pub const MAX_STEPS: u32 = 2048;

/// Steps one call may take elsewhere: it bounds the time that a hook may add to a call.
pub const MAX_STEPS_LOOPED: u32 = 8192;

/// Bytes read at once while a request's head is expected.
pub(crate) const HEAD_READ: u32 = 960;
/// Bytes read at once while a response's head is expected: nothing of it is kept.
pub(crate) const STATUS_READ: u32 = 384;
/// Bytes read at once while a chunk's size is expected.
const CHUNK_READ: u32 = 32;
/// Bytes of an unfinished line that are carried over at most.
const CARRY: u32 = kerntally_abi::limits::CARRY_BYTES as u32;

/// One successful receive or send.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When the call returned. Nanoseconds.
    pub now_ns: u64,
    /// Bytes that passed, never 0.
    pub len: u32,
    /// Thread group of the caller.
    pub tgid: u32,
    /// The socket's own count of bytes in this direction after the call (where positioned).
    pub position: u32,
    /// Its count in the other direction (where positioned).
    pub opposite: u32,
    /// The caller's thread, never 0.
    pub thread: u32,
    /// The bytes can be read.
    pub readable: bool,
    /// The hooks have been attached for so long that a first sight is a new connection, not an old one.
    pub settled: bool,
}

/// Things to do before the next byte is looked at.
pub(crate) mod todo {
    /// Let the request that was read wait for its response.
    pub(crate) const PUSH: u8 = 1;
    /// Finish the response that was read.
    pub(crate) const FINISH: u8 = 2;
    /// Finish the response before the request that was read: it had no end of its own.
    pub(crate) const FINISH_PREVIOUS: u8 = 4;
    /// Give up separating the messages of this connection.
    pub(crate) const DESYNCHRONISE: u8 = 8;
    /// Finish whatever waits: the connection has ended.
    pub(crate) const CLOSE: u8 = 16;
    /// Bring a response that came early together with its request; with `FINISH`, finish it so.
    pub(crate) const MEET: u8 = 32;
}

/// State of one call, in memory that outlives the steps.
///
/// Fields that are zeroed together do not lie side by side: the compiler would join the stores to a call.
#[derive(Debug)]
#[repr(C)]
pub struct Work {
    /// The bytes being looked at.
    pub window: Window,
    /// The request being pushed or finished.
    pub request: Request,
    /// Time of the call.
    pub now_ns: u64,
    /// Next byte of the window to look at.
    pub position: u32,
    /// Bytes of the call that are not in the window yet.
    pub left: u32,
    /// End of the window's meaningful bytes.
    pub end: u32,
    /// Length of the call.
    pub len: u32,
    /// First byte of the window that is not in the kept head yet.
    pub unkept: u32,
    /// Thread group of the caller.
    pub tgid: u32,
    /// Bytes of the call consumed before the current message began.
    pub mark: u32,
    /// Where the call began in the socket's own count.
    pub start_position: u32,
    /// Where it ended.
    pub end_position: u32,
    /// The socket's own count in the other direction.
    pub opposite: u32,
    /// The caller's thread; 0 where there is no call.
    pub thread: u32,
    /// Bits of [`todo`].
    pub todo: u8,
    /// The window's bytes do not suffice for the next step.
    pub starved: u8,
    /// Socket is old enough that first sight means new.
    pub settled: u8,
    /// The connection turned out not to speak HTTP/1.
    pub not_http: u8,
    /// Why the connection ended, an `EndReason`.
    pub close_reason: u8,
    /// The call's bytes can be read.
    pub readable: u8,
    /// Direction of the call.
    pub side: u8,
    /// The call's bytes could not be read where a head was expected.
    pub unreadable: u8,
    /// Explicit padding, zero.
    pub reserved: [u8; 4],
    /// How the exchange being finished ended.
    pub ended: Ended,
    /// What one pass over a head found.
    pub whole: Whole,
}

impl Work {
    /// State before any call, for tests; in the kernel it lies in a map.
    pub const fn new() -> Self {
        Self {
            window: Window::new(),
            request: Request::EMPTY,
            now_ns: 0,
            left: 0,
            position: 0,
            end: 0,
            unkept: 0,
            mark: 0,
            len: 0,
            tgid: 0,
            start_position: 0,
            end_position: 0,
            opposite: 0,
            thread: 0,
            todo: 0,
            starved: 0,
            settled: 0,
            not_http: 0,
            close_reason: 0,
            readable: 0,
            side: 0,
            unreadable: 0,
            reserved: [0; 4],
            ended: Ended::NONE,
            whole: Whole::NONE,
        }
    }

    /// What tells an early response's place from that of a request: the bytes that had been sent, or, where those are not
    /// counted, the thread.
    #[inline(always)]
    pub(crate) const fn early_position(&self, connection: &Connection) -> u32 {
        if connection.positioned != 0 {
            self.opposite
        } else {
            self.thread
        }
    }

    /// Bytes of the call that have been consumed; wraps below zero inside a carry.
    #[inline(always)]
    pub(crate) const fn consumed(&self) -> u32 {
        self.len
            .wrapping_sub(self.left)
            .wrapping_sub(self.end.wrapping_sub(self.position))
    }

    /// The call's direction, read from memory: what a branch has told of it would double the verifier's ways from there
    /// on.
    #[inline(always)]
    pub(crate) fn side<H: Host>(&self, host: &H) -> usize {
        host.barrier();
        host.masked(u32::from(self.side), 1) as usize & 1
    }

    #[inline(always)]
    fn begin(&mut self, event: &Event) {
        self.now_ns = event.now_ns;
        self.left = event.len;
        self.len = event.len;
        self.tgid = event.tgid;
        self.position = 0;
        self.end = 0;
        self.unkept = 0;
        self.mark = 0;
        self.todo = 0;
        self.starved = 0;
        self.not_http = 0;
        self.unreadable = 0;
        self.settled = u8::from(event.settled);
        self.readable = u8::from(event.readable);
        self.start_position = event.position.wrapping_sub(event.len);
        self.end_position = event.position;
        self.opposite = event.opposite;
        self.thread = event.thread;
    }
}

impl Default for Work {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes one call's bytes through the direction `side` of `connection`.
///
/// Afterwards `work.not_http` says whether the connection should be forgotten.
#[inline(always)]
pub fn on_data<H: Host>(
    connection: &mut Connection,
    side: usize,
    work: &mut Work,
    event: &Event,
    host: &mut H,
) {
    work.begin(event);
    work.side = side as u8;
    // From here on all is read from memory: what the caller knew of the event would multiply the verifier's
    // ways.
    let side = work.side(host);
    if connection.stale[side] != 0 {
        connection.stale[side] = 0;
        finish::lose(&mut connection.directions[side], host);
    }
    if connection.given_up != 0 {
        work.todo = todo::DESYNCHRONISE;
    }
    if side == RESPONSE {
        let direction = &mut connection.directions[RESPONSE];
        if direction.phase < Phase::Lost as u8 {
            direction.time_ns = work.now_ns;
        } else if direction.phase == Phase::Headed as u8 {
            direction.time_ns = work.now_ns;
            work.todo |= todo::MEET;
        }
    }
    let side = work.side(host);
    account_position(connection, side, work, host);
    let side = work.side(host);
    let done = passes_unread(connection, side, work, host)
        || (H::WHOLE_HEADS && whole::take(connection, side, work, host));
    if !done {
        run(connection, work, host);
    }
    let side = work.side(host);
    // A response that was handed over may be at work elsewhere, and has all its bytes.
    let rest = work.len.wrapping_sub(work.mark);
    if rest != 0 {
        let direction = &mut connection.directions[side];
        direction.bytes = direction.bytes.wrapping_add(u64::from(rest));
    }
}

/// Compares the socket's own count with what the hooks saw: what went past them unseen (splice, missed
/// runs) is body bytes, or the connection is out of step.
#[inline(always)]
fn account_position<H: Host>(
    connection: &mut Connection,
    side: usize,
    work: &mut Work,
    host: &mut H,
) {
    if connection.positioned == 0 {
        return;
    }
    let direction = &mut connection.directions[side];
    let known = direction.bits & bits::POSITIONED != 0;
    let gap = work.start_position.wrapping_sub(direction.position);
    direction.position = work.end_position;
    direction.bits |= bits::POSITIONED;
    // The upper half are positions before the expected one: another thread's call has been counted.
    if !known || gap == 0 || gap > u32::MAX / 2 {
        return;
    }
    // The end of the stream takes a position too, and may be met in the same call as the last bytes.
    if gap == 1 && connection.peer_closed_ns != 0 {
        return;
    }
    host.count(Counter::UnseenBytes, u64::from(gap));
    direction.bits |= bits::UNSEEN;
    direction.bytes += u64::from(gap);
    if direction.phase == Phase::Body as u8 || direction.phase == Phase::ChunkData as u8 {
        if u64::from(gap) < direction.remaining {
            direction.remaining -= u64::from(gap);
        } else if u64::from(gap) == direction.remaining && direction.phase == Phase::Body as u8 {
            // The end itself was not seen; it lies before this call.
            direction.remaining = 0;
            body::message_end(connection, side, work);
        } else {
            work.todo = todo::DESYNCHRONISE;
        }
    } else if direction.phase < Phase::UntilClose as u8 {
        work.todo = todo::DESYNCHRONISE;
    }
}

/// Calls that need no look at their bytes: inside a body, or with bytes that cannot be read.
#[inline(always)]
fn passes_unread<H: Host>(
    connection: &mut Connection,
    side: usize,
    work: &mut Work,
    host: &mut H,
) -> bool {
    if work.todo != 0 {
        return false;
    }
    let direction = &mut connection.directions[side];
    if direction.phase == Phase::Body as u8 && direction.remaining > u64::from(work.len) {
        direction.remaining -= u64::from(work.len);
        return true;
    }
    if work.readable == 0 && !body::opaque(direction, work.len) {
        cannot_read(work, host);
    }
    false
}

#[inline(always)]
fn run<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) {
    let side = work.side(host);
    resume(connection, side, work, host);
    if host.drive(connection, work) {
        return;
    }
    host.count(Counter::StepBudget, 1);
    if work.side(host) == RESPONSE && connection.waiting() == 1 {
        // It ends with the next request or the close.
        connection.directions[RESPONSE].phase = Phase::UntilClose as u8;
        return;
    }
    connection.given_up = 1;
}

#[inline(always)]
fn resume<H: Host>(connection: &mut Connection, side: usize, work: &mut Work, host: &mut H) {
    let direction = &mut connection.directions[side];
    if direction.bits & bits::PARTIAL == 0 {
        return;
    }
    direction.bits &= !bits::PARTIAL;
    let slot = direction.slot;
    if slot == NO_SLOT {
        return;
    }
    let count = u32::from(direction.carry_len).min(CARRY);
    host.load_carry(slot, &mut work.window, count);
    work.end = count;
    work.unkept = count;
    work.starved = 1;
}

/// One step; false when there is nothing more to do.
#[inline(always)]
pub fn step<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    let side = work.side(host);
    if work.todo != 0 {
        return finish::todo(connection, work, host);
    }
    let phase = connection.directions[side].phase;
    if phase == Phase::Body as u8 || phase == Phase::ChunkData as u8 {
        return body::pass(connection, side, work, host);
    }
    if phase == Phase::UntilClose as u8 || phase >= Phase::Held as u8 {
        return passed_over(connection, side, work);
    }
    if work.starved != 0 || work.position >= work.end {
        return fill(connection, side, work, host);
    }
    if phase == Phase::Fields as u8 {
        return head::fields(connection, side, work, host);
    }
    if phase == Phase::Start as u8 {
        return head::start(connection, side, work, host);
    }
    if phase == Phase::Method as u8 {
        return head::method(connection, side, work);
    }
    if phase == Phase::Line as u8 {
        return head::line(connection, side, work);
    }
    if phase == Phase::Length as u8 {
        return head::length(connection, side, work);
    }
    if phase == Phase::Coding as u8 {
        return head::coding(connection, side, work);
    }
    if phase == Phase::Lost as u8 {
        return head::lost(connection, side, work);
    }
    body::chunk(connection, side, work)
}

/// Ends the call: what is left of it is not looked at.
#[inline(always)]
fn passed_over(connection: &mut Connection, side: usize, work: &mut Work) -> bool {
    let direction = &mut connection.directions[side];
    let held = direction.phase == Phase::Held as u8 || direction.phase == Phase::Headed as u8;
    if held && work.left.wrapping_add(work.end.wrapping_sub(work.position)) != 0 {
        direction.bits |= bits::SURPLUS;
        work.mark = work.len;
    }
    false
}

/// Loads more of the call behind what the window still needs, or, when there is no more, saves what is
/// unfinished for the next call.
#[inline(always)]
fn fill<H: Host>(connection: &mut Connection, side: usize, work: &mut Work, host: &mut H) -> bool {
    let direction = &mut connection.directions[side];
    let tail = work.end.saturating_sub(work.position).min(CARRY);
    let from = work.end - tail;
    if direction.in_head() {
        if side == REQUEST {
            head::keep(direction, work, host);
        } else {
            head::measure(direction, work);
        }
    }
    if work.left == 0 {
        if suspend(direction, work, host, from, tail) {
            return false;
        }
        return forgotten(connection, side, work);
    }
    if from != 0 && tail != 0 {
        host.compact(&mut work.window, from, tail);
    }
    let limit = if direction.phase >= Phase::ChunkSize as u8 && direction.phase != Phase::Lost as u8
    {
        CHUNK_READ
    } else if side == RESPONSE {
        STATUS_READ
    } else {
        HEAD_READ
    };
    load(work, host, tail, limit);
    true
}

/// A head is expected in bytes that cannot be read.
#[inline(always)]
fn cannot_read<H: Host>(work: &mut Work, host: &mut H) {
    host.count(Counter::BufferUnreadable, 1);
    work.unreadable = 1;
    work.todo |= todo::DESYNCHRONISE;
}

/// Reads up to `limit` of the call's next bytes behind the `tail` that the window holds already.
#[inline(always)]
pub(crate) fn load<H: Host>(work: &mut Work, host: &mut H, tail: u32, limit: u32) {
    let Some(read) = host.read(&mut work.window, tail, limit.min(work.left)) else {
        cannot_read(work, host);
        return;
    };
    work.position = 0;
    work.end = tail + read.min(HEAD_READ);
    work.unkept = tail;
    work.left = work.left.saturating_sub(read);
    work.starved = 0;
}

/// Saves the unfinished line for the next call; false when there is no room for it.
#[inline(always)]
fn suspend<H: Host>(
    direction: &mut crate::Direction,
    work: &mut Work,
    host: &mut H,
    from: u32,
    tail: u32,
) -> bool {
    work.position = work.end;
    if tail == 0 {
        return true;
    }
    if direction.slot == NO_SLOT {
        if work.side == REQUEST as u8 && direction.bits & bits::PUSHED == 0 {
            // There was none when its head began, and it has been counted: a slot that came free since would
            // show somebody else's head before the rest of this one.
            return false;
        }
        direction.slot = host.take_slot();
        if direction.slot == NO_SLOT {
            host.count(Counter::HeadNotKept, 1);
            return false;
        }
    }
    host.save_carry(direction.slot, &mut work.window, from, tail);
    direction.carry_len = tail as u8;
    direction.bits |= bits::PARTIAL;
    true
}

/// The unfinished line could not be kept, so where the message ends will not be known. A request waits for
/// its response all the same: without it those behind it would be paired with each other's.
#[inline(always)]
fn forgotten(connection: &mut Connection, side: usize, work: &mut Work) -> bool {
    if side == RESPONSE {
        work.todo |= todo::DESYNCHRONISE;
        return true;
    }
    let in_step = connection.in_step != 0;
    let direction = &mut connection.directions[REQUEST];
    let waits = direction.in_head() && direction.bits & bits::PUSHED == 0;
    if waits && (in_step || head::awaits_push(direction)) {
        work.todo |= todo::PUSH;
    }
    direction.phase = Phase::Lost as u8;
    work.todo != 0
}
