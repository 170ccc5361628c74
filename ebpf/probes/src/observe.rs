//! Every back end ends here: a socket, a direction, the caller's buffer and a length.

use aya_ebpf::helpers::generated;
pub use kerntally_abi::direction;
use kerntally_abi::{Control, Counter, EndReason, family, resting, role};
use kerntally_machine::{
    Close, Connection, Event, Phase, REQUEST, RESPONSE, Sniffed, finish_all, on_data, sniff,
};

use crate::{
    buffer::Buffer,
    counters, emit, filter,
    host::Kernel,
    kernel::{self, layout},
    maps::{CONNECTIONS, CONTROL, NO_EXIST, SCRATCH, Scratch, UNIX_SOCKETS},
    negative::{self, kind},
    process,
};

/// How long after attaching a socket's first sight may still be one that was there before. Nanoseconds.
const SETTLING_NS: u64 = 2_000_000_000;

/// What a connection starts from.
static EMPTY: Connection = Connection::EMPTY;

/// One call that moved bytes.
pub struct Call {
    /// Address of the socket.
    pub socket: u64,
    /// One of [`direction`].
    pub direction: u8,
    /// Bytes that moved, never 0.
    pub len: u32,
    /// Their place.
    pub buffer: Buffer,
}

/// The same call as [`follow`] gets it; the place of its bytes lies in the program's scratch memory.
struct Moved {
    socket: u64,
    direction: u8,
    len: u32,
}

/// The switches, if tallying is on.
#[inline(always)]
pub fn control() -> Option<&'static Control> {
    let control = CONTROL.get(0)?;
    if control.enabled == 0 {
        None
    } else {
        Some(control)
    }
}

/// Scratch memory of the program with this number, on this CPU.
#[inline(always)]
fn scratch(program: u32) -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(program)
}

/// Takes in a call.
#[inline(always)]
pub fn observe(program: u32, call: &Call) {
    if !passes_over(call.socket, call.direction) {
        look(program, call);
    }
}

/// Takes in a call that needs a look.
#[inline(always)]
pub fn look(program: u32, call: &Call) {
    if lay_out(program, call) {
        follow(u64::from(program), call.socket, packed(call));
    }
}

/// Whether a call on the socket needs no look.
#[inline(always)]
pub fn passes_over(socket: u64, direction: u8) -> bool {
    let Some(control) = control() else {
        return true;
    };
    negative::passes(
        socket,
        direction,
        control.attachment,
        control.filter_generation,
    )
}

/// What a call is to [`follow`]: its length, and its direction in the lowest byte.
#[inline(always)]
fn packed(call: &Call) -> u64 {
    u64::from(call.len) << 8 | u64::from(call.direction)
}

/// Puts the call's buffer where [`follow`] finds it; false if there is no such program.
#[inline(always)]
fn lay_out(program: u32, call: &Call) -> bool {
    let Some(scratch) = scratch(program) else {
        return false;
    };
    // SAFETY: the scratch memory is this program's own on this CPU.
    unsafe { (*scratch).buffer = call.buffer };
    true
}

/// Takes in a call that needs a look: a global function, which the verifier looks at once in each program, and on its
/// own (kernel 5.6). It gets numbers only (pointers need 5.13); the buffer is what [`lay_out`] put there.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn follow(program: u64, socket: u64, moved: u64) -> u64 {
    let program = program as u32;
    let (Some(control), Some(scratch)) = (control(), scratch(program)) else {
        return 0;
    };
    let call = &Moved {
        socket,
        direction: moved as u8,
        len: (moved >> 8) as u32,
    };
    follow_call(program, call, control, scratch);
    0
}

#[inline(always)]
fn follow_call(program: u32, call: &Moved, control: &Control, scratch: *mut Scratch) {
    let (tgid, thread) = kernel::caller();
    let connection = match known(program, call) {
        Some(connection) => connection,
        None => match first_sight(call, control, scratch, tgid) {
            Some(connection) => connection,
            None => return,
        },
    };
    // SAFETY: the pointer is to a live element of the map; a socket's two directions may be taken through
    // it at the same time, which touch different halves of it.
    let connection = unsafe { &mut *connection };
    // SAFETY: the scratch memory is this program's own on this CPU.
    let scratch = unsafe { &mut *scratch };
    let ingress = call.direction == direction::INGRESS;
    let side = if ingress == (connection.role == role::SERVER) {
        REQUEST
    } else {
        RESPONSE
    };
    let mut host = Kernel {
        socket: call.socket,
        scratch: &raw mut *scratch,
        program,
    };
    let beginning = connection.directions[side].phase == Phase::Start as u8
        || connection.directions[side].phase == Phase::Lost as u8;
    if beginning && side == REQUEST && refused(call, control, connection, tgid) {
        return;
    }
    let now_ns = kernel::now();
    // Only a client's response can come before its request.
    let opposite = if side == RESPONSE && ingress {
        position(connection, call.socket, !ingress)
    } else {
        0
    };
    let event = Event {
        now_ns,
        len: call.len,
        tgid,
        position: position(connection, call.socket, ingress)
            .wrapping_sub(scratch.buffer.behind as u32),
        opposite,
        thread,
        readable: scratch.buffer.known != 0,
        settled: now_ns.wrapping_sub(control.attached_ns) > SETTLING_NS,
    };
    on_data(connection, side, &mut scratch.work, &event, &mut host);
    if connection.family == family::UNIX {
        emit::wake(resting::UNIX);
    }
    if scratch.work.not_http != 0 {
        give_up(call, control, connection.family);
    } else if connection.directions[RESPONSE].phase == Phase::Done as u8 {
        counters::add(Counter::Upgraded, 1);
        retire(call, control, connection.family, kind::FINAL);
    }
}

/// The socket's entry in the table. A Unix socket's end may have gone unseen, and its address may belong
/// to another one by now: what was left open is ended then.
#[inline(always)]
fn known(program: u32, call: &Moved) -> Option<*mut Connection> {
    let found = CONNECTIONS.get_ptr_mut(&call.socket)?;
    // SAFETY: the pointer is to a live element of the map.
    let (family, inode) = unsafe { ((*found).family, (*found).inode) };
    if family != family::UNIX || kernel::inode(call.socket) as u32 == inode {
        return Some(found);
    }
    // SAFETY: as above.
    let owner = unsafe { (*found).filter_tgid };
    close_unseen(program, call.socket, owner);
    None
}

/// Ends and forgets a Unix socket of `owner` whose end went unseen: with that process, if it has exited.
#[inline(always)]
pub fn close_unseen(program: u32, socket: u64, owner: u32) {
    let exit_ns = process::exit_of(owner);
    let (reason, end_ns) = if exit_ns == 0 {
        (EndReason::LocalClose, kernel::now())
    } else {
        (EndReason::Exit, exit_ns)
    };
    close_socket(program, socket, reason, end_ns);
    forget_connection(socket);
}

#[inline(always)]
fn position(connection: &Connection, socket: u64, received: bool) -> u32 {
    if connection.positioned == 0 {
        return 0;
    }
    if received {
        kernel::received_position(socket)
    } else {
        kernel::sent_position(socket)
    }
}

/// A socket that is not in the table: is it worth an entry?
#[inline(always)]
fn first_sight(
    call: &Moved,
    control: &Control,
    scratch: *mut Scratch,
    tgid: u32,
) -> Option<*mut Connection> {
    let address_family = kernel::family(call.socket) as u8;
    let known = address_family == family::INET
        || address_family == family::INET6
        || address_family == family::UNIX;
    if !known || !kernel::is_stream(call.socket) || tgid == layout!(own_tgid) {
        note(call, control, address_family, kind::FINAL);
        return None;
    }
    // SAFETY: `lay_out` wrote it.
    let (word, seen) = unsafe { (*scratch).buffer.peek() };
    // A piece may be longer than what it was given.
    let have = if seen < call.len { seen } else { call.len };
    if have == 0 {
        note(call, control, address_family, kind::UNKNOWN);
        return None;
    }
    let ingress = call.direction == direction::INGRESS;
    let side = match sniff(word, have) {
        Sniffed::Request => {
            if ingress {
                role::SERVER
            } else {
                role::CLIENT
            }
        }
        Sniffed::Response => {
            if ingress {
                role::CLIENT
            } else {
                role::SERVER
            }
        }
        Sniffed::Tls | Sniffed::Http2 => {
            if note(call, control, address_family, kind::FINAL) {
                counters::add(Counter::ProtocolNotBuilt, 1);
            }
            return None;
        }
        Sniffed::Nothing => {
            if note(call, control, address_family, kind::UNKNOWN) {
                counters::add(Counter::NotHttp, 1);
            }
            return None;
        }
    };
    enter(call, control, scratch, tgid, address_family, side)
}

/// Makes an entry for the socket.
#[inline(always)]
fn enter(
    call: &Moved,
    control: &Control,
    scratch: *mut Scratch,
    tgid: u32,
    address_family: u8,
    side: u8,
) -> Option<*mut Connection> {
    let process_start_ns = process::announce(tgid);
    let server_port = filter::server_port(call.socket, address_family, side);
    if filter::excludes(server_port, side, tgid) {
        if note(call, control, address_family, kind::EXCLUDED) {
            counters::add(Counter::ExcludedSockets, 1);
        }
        return None;
    }
    // SAFETY: the scratch memory is this program's own on this CPU.
    let fresh = unsafe { &mut (*scratch).fresh };
    // SAFETY: the helper copies one whole connection; a plain assignment would become a call to a loop.
    unsafe {
        generated::bpf_probe_read_kernel(
            (&raw mut *fresh).cast(),
            size_of::<Connection>() as u32,
            (&raw const EMPTY).cast(),
        );
    }
    fresh.role = side;
    fresh.family = address_family;
    fresh.server_port = server_port;
    fresh.inode = kernel::inode(call.socket) as u32;
    fresh.filter_tgid = tgid;
    fresh.process_start_ns = process_start_ns;
    fresh.filter_generation = control.filter_generation;
    if address_family != family::UNIX {
        fresh.ends = kernel::ends(call.socket);
    }
    fresh.positioned =
        u8::from(address_family != family::UNIX && kernel::is_positioned(call.socket));
    fresh.joined = u8::from(negative::knows(call.socket, control.attachment));
    if CONNECTIONS.insert(&call.socket, &*fresh, NO_EXIST).is_err() {
        // The hook of the other direction may have been first: its entry, and what is open in it, stays.
        if let Some(connection) = CONNECTIONS.get_ptr_mut(&call.socket) {
            return Some(connection);
        }
        let server = side == role::SERVER;
        counters::add(
            if server {
                Counter::SeenServer
            } else {
                Counter::SeenClient
            },
            1,
        );
        counters::add(
            if server {
                Counter::TableFullServer
            } else {
                Counter::TableFullClient
            },
            1,
        );
        return None;
    }
    if address_family == family::UNIX {
        // Full: the socket's end is then found when its address is used again.
        let _full = UNIX_SOCKETS.insert(&call.socket, &u64::from(fresh.inode), 0);
    }
    negative::forget(call.socket);
    let connection = CONNECTIONS.get_ptr_mut(&call.socket)?;
    if kernel::shutdown(call.socket) & kernel::RCV_SHUTDOWN != 0 {
        // The peer's end came before there was an entry to note it in: looked for once there is one, so that it cannot
        // come in between.
        // SAFETY: the pointer is to a live element of the map.
        unsafe { (*connection).peer_closed_ns = kernel::now() };
    }
    Some(connection)
}

#[inline(always)]
fn note(call: &Moved, control: &Control, address_family: u8, kind: u8) -> bool {
    negative::remember(
        call.socket,
        address_family,
        call.direction,
        control.attachment,
        control.filter_generation,
        kind,
    )
}

/// Asks the filter again when it, or the process behind the socket, has changed.
#[inline(always)]
fn refused(call: &Moved, control: &Control, connection: &mut Connection, tgid: u32) -> bool {
    if connection.filter_tgid == tgid && connection.filter_generation == control.filter_generation {
        return false;
    }
    connection.filter_tgid = tgid;
    connection.filter_generation = control.filter_generation;
    connection.process_start_ns = process::announce(tgid);
    if tgid != layout!(own_tgid) && !filter::excludes(connection.server_port, connection.role, tgid)
    {
        return false;
    }
    let server = connection.role == role::SERVER;
    counters::add(
        if server {
            Counter::ExcludedServer
        } else {
            Counter::ExcludedClient
        },
        u64::from(connection.waiting()),
    );
    counters::add(Counter::ExcludedSockets, 1);
    retire(call, control, connection.family, kind::EXCLUDED);
    true
}

#[inline(always)]
fn give_up(call: &Moved, control: &Control, address_family: u8) {
    counters::add(Counter::NotHttp, 1);
    retire(call, control, address_family, kind::UNKNOWN);
}

/// Takes the socket out of the table.
#[inline(always)]
fn retire(call: &Moved, control: &Control, address_family: u8, kind: u8) {
    forget_connection(call.socket);
    note(call, control, address_family, kind);
}

#[inline(always)]
pub fn forget_connection(socket: u64) {
    // Absent is fine: a close may have come first.
    let _absent = CONNECTIONS.remove(&socket);
    let _absent = UNIX_SOCKETS.remove(&socket);
}

/// Ends what is open on a socket, found by its address.
#[inline(always)]
pub fn close_socket(program: u32, socket: u64, reason: EndReason, now_ns: u64) {
    close_by_address(u64::from(program), socket, reason as u64, now_ns);
}

/// What [`close_socket`] does, as a global function: see [`follow`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn close_by_address(program: u64, socket: u64, reason: u64, now_ns: u64) -> u64 {
    let program = program as u32;
    let Some(connection) = CONNECTIONS.get_ptr_mut(&socket) else {
        return 0;
    };
    let (Some(scratch), Some(reason)) = (scratch(program), EndReason::from_byte(reason as u8))
    else {
        return 0;
    };
    // SAFETY: as in `follow_call`.
    let (connection, scratch) = unsafe { (&mut *connection, &mut *scratch) };
    let mut host = Kernel {
        socket,
        scratch: &raw mut *scratch,
        program,
    };
    let close = Close { reason, now_ns };
    finish_all(connection, &mut scratch.work, close, &mut host);
    1
}
