//! Requests that begin to wait, and exchanges that end.

use kerntally_abi::{Counter, EndReason, Method, role};

use crate::{
    Connection, Direction, Host, NO_SLOT, Phase, REQUEST, RESPONSE, Work, bits, head, request_flag,
    step::todo,
};

/// How long a response on a Unix socket waits for the hook of its request. Nanoseconds.
const HELD_NS: u64 = 50_000_000;

/// What ended a connection, or its usefulness.
#[derive(Clone, Copy, Debug)]
pub struct Close {
    /// Why; `LocalClose` becomes `PeerClose` where the peer had closed before.
    pub reason: EndReason,
    /// When. Nanoseconds.
    pub now_ns: u64,
}

/// What must be done before the next byte is looked at, one thing a call; false when the call is over.
#[inline(always)]
pub(crate) fn todo<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    let bits = work.todo;
    if bits & todo::DESYNCHRONISE != 0 {
        return give_up(connection, work, host);
    }
    if bits & todo::PUSH != 0 {
        work.todo = bits & !todo::PUSH;
        push(connection, work, host);
        return true;
    }
    if bits & todo::MEET != 0 && bits & todo::FINISH == 0 {
        work.todo = bits & !todo::MEET;
        meet(connection, work, host);
        return true;
    }
    if bits & todo::CLOSE != 0 && bits & (todo::FINISH | todo::FINISH_PREVIOUS) == 0 {
        return close_next(connection, work, host);
    }
    finish(connection, work, host);
    true
}

/// Lets the request that was read wait for its response.
#[inline(always)]
pub(crate) fn push<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) {
    let waiting = connection.waiting();
    let server = connection.role == role::SERVER;
    let positioned = connection.positioned != 0;
    let direction = &mut connection.directions[REQUEST];
    let request = &mut work.request;
    request.start_ns = direction.time_ns;
    request.bytes = u64::from(direction.head_len) + body_length(direction);
    request.tgid = work.tgid;
    request.sequence = connection.arrived;
    request.position = if positioned {
        work.start_position
    } else {
        work.thread
    };
    request.slot = direction.slot;
    request.head_len = direction.head_len;
    request.method_len = direction.method_len;
    request.method = direction.method;
    request.flags = flags(direction, waiting);
    direction.slot = NO_SLOT;
    direction.bits |= bits::PUSHED;
    if direction.bits & bits::PARTIAL != 0 {
        // Answered in the middle of a line, which goes with the slot: the rest of the head is not followed.
        direction.bits &= !bits::PARTIAL;
        direction.phase = Phase::Lost as u8;
    }
    host.count(
        if server {
            Counter::SeenServer
        } else {
            Counter::SeenClient
        },
        1,
    );
    host.barrier();
    let request = &work.request;
    if request.flags & request_flag::SILENT != 0 {
        host.count(
            if server {
                Counter::HeadTooLongServer
            } else {
                Counter::HeadTooLongClient
            },
            1,
        );
    }
    host.barrier();
    connection.in_step = 1;
    // A server's response for which nobody waited ends with the next request too.
    if connection.directions[RESPONSE].phase == Phase::UntilClose as u8 && (server || waiting > 0) {
        work.todo |= todo::FINISH_PREVIOUS;
    }
    host.barrier();
    enqueue(connection, work, host);
    host.barrier();
    // A server's response cannot have come before its request.
    if server {
        return;
    }
    // Counting is an atomic operation, also by nothing, and orders what is above before what is below: a
    // response may be at work on another CPU, see `unclaimed`.
    host.count(Counter::HeldResponses, 0);
    if connection.waiting() == 1 {
        meet_early_response(connection, work);
    }
}

#[inline(always)]
fn body_length(direction: &Direction) -> u64 {
    if direction.phase == Phase::Body as u8 {
        direction.remaining
    } else {
        0
    }
}

#[inline(always)]
fn flags(direction: &Direction, waiting: u32) -> u8 {
    let mut flags = request_flag::LIVE;
    if direction.status == 0 && direction.bits & bits::RECOGNISED != 0 {
        flags |= request_flag::VERSION_1_0;
    }
    if waiting > 0 {
        flags |= request_flag::PIPELINED;
    }
    if direction.head_len as usize > kerntally_abi::limits::HEAD_BYTES || direction.in_head() {
        flags |= request_flag::HEAD_CUT;
    }
    if direction.bits & bits::TOO_LONG != 0 {
        flags |= request_flag::SILENT;
    }
    flags
}

#[inline(always)]
fn enqueue<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) {
    let waiting = connection.waiting();
    let sequence = connection.arrived;
    let cell = &mut connection.embedded[(sequence & 1) as usize];
    let stored = if waiting >= H::WAITING {
        // Also where a cell has come free behind holes: a close walks as far as this, see `Host::CLOSE_STEPS`.
        false
    } else if cell.flags & request_flag::LIVE == 0 {
        cell.assign(&work.request);
        true
    } else {
        host.store(&work.request)
    };
    if !stored {
        // A hole in the queue: its response is consumed in silence.
        release(work.request.slot, host);
        if work.request.flags & request_flag::SILENT == 0 {
            count_unseparated(connection.role, 1, host);
        }
    }
    // The other direction may look at any moment: first the entry, then that it is there.
    host.barrier();
    connection.arrived = sequence.wrapping_add(1);
}

/// A client's response can be seen before its request: is the one that is held this request's?
///
/// One that is still being read finds the request itself when it is whole.
#[inline(always)]
fn meet_early_response(connection: &Connection, work: &mut Work) {
    let direction = &connection.directions[RESPONSE];
    let held = direction.phase == Phase::Held as u8 || direction.phase == Phase::Headed as u8;
    let endless = direction.phase == Phase::UntilClose as u8 && direction.bits & bits::EARLY != 0;
    if held || endless {
        work.todo |= todo::MEET;
    }
}

/// Leaves the response that was read to whoever finds it and its request first.
///
/// From here on it belongs to the one that claims the request, so its bytes are added before.
#[inline(always)]
pub(crate) fn hold<H: Host>(
    connection: &mut Connection,
    work: &mut Work,
    host: &mut H,
    phase: Phase,
) {
    let direction = &mut connection.directions[RESPONSE];
    let consumed = work.consumed();
    let bytes = u64::from(consumed.wrapping_sub(work.mark));
    direction.bytes = direction.bytes.wrapping_add(bytes);
    work.mark = consumed;
    host.barrier();
    connection.directions[RESPONSE].phase = phase as u8;
    // Counting is an atomic operation, and orders the phase before the look at the queue: of this and
    // `push`, which does the reverse, at least one sees the other, and one alone can claim.
    host.count(Counter::HeldResponses, 1);
    if connection.waiting() > 0 {
        work.todo |= todo::MEET;
    }
}

/// A response that came early and the request that waits: finish them, or read on?
#[inline(always)]
fn meet<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) {
    let phase = connection.directions[RESPONSE].phase;
    if phase == Phase::Held as u8 {
        work.todo |= todo::FINISH | todo::MEET;
    }
    if phase != Phase::Headed as u8 && phase != Phase::UntilClose as u8 {
        return;
    }
    // One that is not its own answers a request from before: it has ended, or this one would not have been sent.
    let own = claims(connection, work, host);
    let method = if own {
        work.request.method
    } else {
        Method::Unknown as u8
    };
    host.barrier();
    let direction = &connection.directions[RESPONSE];
    let whole =
        !own || head::is_tunnel(method, direction.status) || head::is_bodiless(direction, method);
    if whole && connection.waiting() > 0 {
        work.todo |= todo::FINISH | todo::MEET;
    } else if phase == Phase::Headed as u8
        && work.side == RESPONSE as u8
        && work.consumed() != work.len
    {
        // Bytes follow, so there is a body.
        head::frame(connection, work, method);
    }
}

/// Whether the response that came early answers the request in `work.request`: by TCP's own positions, the request
/// had been written when the response was received. Elsewhere it follows at once, on a connection that is known
/// from its beginning, and by another thread: one that is sending cannot receive meanwhile.
#[inline(always)]
fn belongs(connection: &Connection, work: &Work) -> bool {
    if connection.positioned != 0 {
        let before = connection
            .early_position
            .wrapping_sub(work.request.position);
        return before != 0 && before <= u32::MAX / 2;
    }
    if connection.early_position == work.request.position {
        return false;
    }
    let since = work
        .now_ns
        .saturating_sub(connection.directions[RESPONSE].time_ns);
    let new = work.settled != 0 && connection.joined == 0;
    since < HELD_NS && (work.request.sequence > 0 || new)
}

/// Copies the request that waits longest to `work.request`.
#[inline(always)]
pub(crate) fn front<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    let sequence = connection.answered;
    // Whoever claims it claims this one, whatever has been answered meanwhile.
    work.request.sequence = sequence;
    let cell = &connection.embedded[(sequence & 1) as usize];
    if cell.flags & request_flag::LIVE != 0 && cell.sequence == sequence {
        work.request.assign(cell);
        return true;
    }
    host.load(sequence, &mut work.request)
}

/// Removes the request that was at the front, once claimed.
#[inline(always)]
fn drop_front<H: Host>(connection: &mut Connection, sequence: u32, host: &mut H) {
    let cell = &mut connection.embedded[(sequence & 1) as usize];
    if cell.flags & request_flag::LIVE != 0 && cell.sequence == sequence {
        cell.flags = 0;
        return;
    }
    host.remove(sequence);
}

/// The response that was read is whole, or the next request shows that it is, or the close of the
/// connection ends it.
#[inline(always)]
pub(crate) fn finish<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) {
    let previous = work.todo & todo::FINISH_PREVIOUS != 0;
    let meeting = work.todo & todo::MEET != 0;
    // A close finds a request half read, and that one finds an earlier response: it ended before the close.
    let by_close = todo::CLOSE | todo::FINISH_PREVIOUS | todo::MEET;
    let closing = work.todo & by_close == todo::CLOSE;
    work.todo &= !(todo::FINISH | todo::FINISH_PREVIOUS | todo::MEET);
    let direction = &connection.directions[RESPONSE];
    if !closing {
        let consumed = if previous || meeting {
            0
        } else {
            work.consumed().wrapping_sub(work.mark)
        };
        let ended = &mut work.ended;
        ended.end_ns = direction.time_ns;
        ended.response_bytes = direction.bytes.wrapping_add(u64::from(consumed));
        ended.status = direction.status;
        ended.reason = if previous {
            EndReason::NextRequest
        } else {
            EndReason::Framing
        } as u8;
        ended.complete = 1;
        ended.unseen = u8::from(direction.bits & bits::UNSEEN != 0);
    }
    let early = direction.bits & bits::EARLY != 0;
    // Who comes second to a response that is held must not touch what the first may be at already.
    let taken = meeting && (!early || connection.waiting() == 0);
    host.barrier();
    if taken {
        return;
    }
    if !closing && (early || connection.waiting() == 0) && !claims(connection, work, host) {
        unclaimed(connection, work, host, meeting);
    } else if finish_front(connection, work, host) || !early {
        finished_response(connection, work, meeting);
    }
    if !previous && !meeting {
        work.mark = work.consumed();
    }
    let open = connection.waiting() > 0 || connection.directions[REQUEST].slot != NO_SLOT;
    if open && connection.directions[RESPONSE].phase == Phase::Done as u8 {
        // The connection is about to be forgotten, and with it what was asked behind the upgrade.
        work.todo |= todo::DESYNCHRONISE;
    }
}

/// The response has its exchange: the direction is ready for the next one.
#[inline(always)]
fn finished_response(connection: &mut Connection, work: &mut Work, meeting: bool) {
    let surplus = connection.directions[RESPONSE].bits & bits::SURPLUS != 0;
    reset_response(connection);
    if !meeting {
        return;
    }
    if head::is_tunnel(work.request.method, work.ended.status) {
        connection.directions[RESPONSE].phase = Phase::Done as u8;
    } else if surplus {
        // Responses to requests behind this one have gone by.
        connection.given_up = 1;
    }
}

/// Whether the request that waits longest is the one that an early response answers.
#[inline(always)]
fn claims<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    connection.role == role::CLIENT
        && connection.waiting() > 0
        && front(connection, work, host)
        && belongs(connection, work)
}

/// A whole response for which no request waits: a client's is held until the hook of its request has run.
#[inline(always)]
fn unclaimed<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H, meeting: bool) {
    let direction = &connection.directions[RESPONSE];
    let hold_it =
        connection.role == role::CLIENT && !meeting && direction.phase != Phase::Done as u8;
    if hold_it && connection.waiting() == 0 {
        hold(connection, work, host, Phase::Held);
        return;
    }
    count_orphan(connection, connection.arrived <= 1, host);
    reset_response(connection);
}

#[inline(always)]
fn count_orphan<H: Host>(connection: &Connection, first: bool, host: &mut H) {
    if !first {
        host.count(Counter::UnsolicitedResponse, 1);
        return;
    }
    // The first thing ever seen on the socket: its request passed before the hooks were there.
    if connection.role == role::SERVER {
        host.count(Counter::SeenServer, 1);
        host.count(Counter::JoinedServer, 1);
    } else {
        host.count(Counter::SeenClient, 1);
        host.count(Counter::JoinedClient, 1);
    }
}

#[inline(always)]
fn reset_response(connection: &mut Connection) {
    let direction = &mut connection.directions[RESPONSE];
    direction.status = 0;
    direction.bytes = 0;
    direction.remaining = 0;
    direction.bits &= bits::POSITIONED;
    let held = direction.phase == Phase::Held as u8 || direction.phase == Phase::Headed as u8;
    if direction.phase < Phase::Lost as u8 || held {
        direction.phase = Phase::Start as u8;
    }
}

/// Finishes the request that waits longest; false if somebody else does so at this moment.
///
/// Between its parts lie barriers: what one part found out is read again from memory by the next, so that
/// the verifier sees all ways through a part end in the same state.
#[inline(always)]
fn finish_front<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    if !take_front(connection, work, host) {
        return false;
    }
    host.barrier();
    if connection.role == role::SERVER && work.request.start_ns < connection.previous_end_ns {
        work.request.start_ns = connection.previous_end_ns;
    }
    host.barrier();
    connection.previous_end_ns = work.ended.end_ns;
    if work.request.flags & request_flag::SILENT == 0 {
        host.emit(connection, &work.request, &work.ended);
    }
    host.barrier();
    release(work.request.slot, host);
    host.barrier();
    true
}

/// Takes the request that waits longest out of the queue into `work.request`; false if there is a hole in
/// its place, or somebody else has taken it.
#[inline(always)]
fn take_front<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    if !front(connection, work, host) {
        work.request.flags = 0;
    }
    host.barrier();
    let sequence = work.request.sequence;
    let waits = sequence != connection.arrived;
    if !waits || !host.claim(connection, sequence) || work.request.flags == 0 {
        return false;
    }
    drop_front(connection, sequence, host);
    true
}

#[inline(always)]
fn release<H: Host>(slot: u16, host: &mut H) {
    if slot != NO_SLOT {
        host.return_slot(slot);
    }
}

#[inline(always)]
fn count_unseparated<H: Host>(side: u8, by: u64, host: &mut H) {
    let counter = if side == role::SERVER {
        Counter::UnseparatedServer
    } else {
        Counter::UnseparatedClient
    };
    host.count(counter, by);
}

#[inline(always)]
fn count_unreadable<H: Host>(side: u8, host: &mut H) {
    let counter = if side == role::SERVER {
        Counter::BufferUnreadableServer
    } else {
        Counter::BufferUnreadableClient
    };
    host.count(counter, 1);
}

/// Whether the next bytes of the request's direction begin or continue a request that was not seen yet. One that cannot
/// be read is one at least.
#[inline(always)]
const fn is_due(connection: &Connection) -> bool {
    let direction = &connection.directions[REQUEST];
    let begins = direction.phase == Phase::Start as u8;
    let goes_on = direction.in_head() && direction.bits & bits::PUSHED == 0;
    connection.in_step != 0 && (begins || goes_on)
}

/// A request went by that could not be read: it has had its turn, so that its response is not taken for the first
/// thing ever seen on the socket.
#[inline(always)]
fn name_unread<H: Host>(connection: &mut Connection, host: &mut H) {
    let seen = if connection.role == role::SERVER {
        Counter::SeenServer
    } else {
        Counter::SeenClient
    };
    host.count(seen, 1);
    count_unreadable(connection.role, host);
    let next = connection.arrived.wrapping_add(1);
    connection.arrived = next;
    // A response may be at work meanwhile, and find that there is nothing in this place.
    host.barrier();
    connection.answered = next;
}

/// The order of requests and responses is no longer known: those that wait are given up by name, one a
/// call, then both directions wait for a call that begins like a head.
#[inline(always)]
fn give_up<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    if connection.waiting() > 0 {
        if !take_front(connection, work, host) {
            return true;
        }
        host.barrier();
        release(work.request.slot, host);
        host.barrier();
        if work.request.flags & request_flag::SILENT == 0 {
            if work.unreadable != 0 {
                count_unreadable(connection.role, host);
            } else {
                count_unseparated(connection.role, 1, host);
            }
        }
        return true;
    }
    // What an earlier call left behind is given up before this one is looked at.
    let before = connection.given_up != 0;
    if work.unreadable != 0 && work.side == REQUEST as u8 && is_due(connection) {
        name_unread(connection, host);
    }
    connection.given_up = 0;
    if work.not_http == 0 {
        host.count(Counter::Desynchronised, 1);
    }
    let side = usize::from(work.side & 1);
    lose(&mut connection.directions[side], host);
    let ends = work.not_http != 0 || connection.directions[RESPONSE].phase == Phase::Done as u8;
    if ends {
        lose(&mut connection.directions[1 - side], host);
    } else {
        connection.stale[1 - side] = 1;
    }
    work.todo &= !todo::DESYNCHRONISE;
    before
}

#[inline(always)]
pub(crate) fn lose<H: Host>(direction: &mut Direction, host: &mut H) {
    release(direction.slot, host);
    direction.slot = NO_SLOT;
    direction.bits &= bits::POSITIONED;
    direction.status = 0;
    direction.bytes = 0;
    if direction.phase != Phase::Done as u8 {
        direction.phase = Phase::Lost as u8;
    }
}

/// Ends everything that is open on a connection whose end has come.
#[inline(always)]
pub fn finish_all<H: Host>(
    connection: &mut Connection,
    work: &mut Work,
    close: Close,
    host: &mut H,
) {
    work.now_ns = close.now_ns;
    work.close_reason = close.reason as u8;
    // No call: what scratch memory says of the last one is of another socket.
    work.settled = 1;
    work.unreadable = 0;
    work.thread = 0;
    // Where a half-read head stands: only what came after its newest byte can be its response.
    work.start_position = connection.directions[REQUEST].position.wrapping_sub(1);
    work.todo = if connection.given_up != 0 {
        todo::DESYNCHRONISE
    } else if head::is_request(&connection.directions[REQUEST]) {
        todo::CLOSE | todo::PUSH
    } else {
        todo::CLOSE
    };
    host.drive_close(connection, work);
    let early = connection.directions[RESPONSE].bits & bits::EARLY != 0;
    if early && connection.directions[RESPONSE].status != 0 {
        count_orphan(connection, connection.arrived == 0, host);
    }
    reset_response(connection);
    lose(&mut connection.directions[REQUEST], host);
    lose(&mut connection.directions[RESPONSE], host);
}

/// One step of ending a connection; false when nothing waits any more.
#[inline(always)]
pub fn close_step<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    host.barrier();
    todo(connection, work, host)
}

/// Ends the request at the front: with the response that was being read, or with none.
#[inline(always)]
fn close_next<H: Host>(connection: &mut Connection, work: &mut Work, host: &mut H) -> bool {
    if connection.waiting() == 0 {
        return false;
    }
    // A response that began early ends here too, if it is this request's.
    if connection.directions[RESPONSE].bits & bits::EARLY != 0 && claims(connection, work, host) {
        connection.directions[RESPONSE].bits &= !bits::EARLY;
    }
    host.barrier();
    end_by_close(connection, work);
    host.barrier();
    work.todo |= todo::FINISH;
    true
}

#[inline(always)]
fn end_by_close(connection: &Connection, work: &mut Work) {
    let direction = &connection.directions[RESPONSE];
    // An interim response that was being read is none.
    let last = direction.status >= 200 || direction.status == 101;
    let started = last && direction.bits & bits::EARLY == 0;
    let peer = connection.peer_closed_ns;
    let peer_first = peer != 0 && peer <= work.now_ns;
    let reset = connection.reset != 0 || work.close_reason == EndReason::Reset as u8;
    let ended = &mut work.ended;
    ended.reason = if reset {
        EndReason::Reset as u8
    } else if peer_first && work.close_reason == EndReason::LocalClose as u8 {
        EndReason::PeerClose as u8
    } else {
        work.close_reason
    };
    ended.end_ns = if started {
        direction.time_ns
    } else if peer_first {
        peer
    } else {
        work.now_ns
    };
    ended.response_bytes = if started { direction.bytes } else { 0 };
    ended.status = if started { direction.status } else { 0 };
    ended.complete = u8::from(started && direction.phase == Phase::UntilClose as u8 && !reset);
    ended.unseen = u8::from(started && direction.bits & bits::UNSEEN != 0);
}
