//! Where the trace events that the programs read have their fields: offsets in bytes, behind the eight that
//! all events begin with.
//!
//! A program may read its context at constant offsets only, so they are compared with the kernel's types
//! ([`FIELDS`]) before such a program is loaded.

/// `sock_send_length` and `sock_recv_length` (`include/trace/events/sock.h`, kernel 6.3): the socket,
pub const SOCK_MSG_SK: u32 = 8;
/// bytes moved, or an error,
pub const SOCK_MSG_RET: u32 = 20;
/// and `MSG_*`.
pub const SOCK_MSG_FLAGS: u32 = 24;
/// `raw_syscalls/sys_exit` (`include/trace/events/syscalls.h`): what the call returns.
pub const SYS_EXIT_RET: u32 = 16;
/// `inet_sock_set_state` (`include/trace/events/sock.h`): the socket,
pub const SET_STATE_SK: u32 = 8;
/// its state so far,
pub const SET_STATE_OLD: u32 = 16;
/// and from now.
pub const SET_STATE_NEW: u32 = 20;
/// `tcp_destroy_sock` (`include/trace/events/tcp.h`): the socket.
pub const DESTROY_SK: u32 = 8;

/// The same fields as the kernel's types name them.
pub const FIELDS: [(&str, u32); 8] = [
    ("trace_event_raw_sock_msg_length.sk", SOCK_MSG_SK),
    ("trace_event_raw_sock_msg_length.ret", SOCK_MSG_RET),
    ("trace_event_raw_sock_msg_length.flags", SOCK_MSG_FLAGS),
    ("trace_event_raw_sys_exit.ret", SYS_EXIT_RET),
    ("trace_event_raw_inet_sock_set_state.skaddr", SET_STATE_SK),
    (
        "trace_event_raw_inet_sock_set_state.oldstate",
        SET_STATE_OLD,
    ),
    (
        "trace_event_raw_inet_sock_set_state.newstate",
        SET_STATE_NEW,
    ),
    ("trace_event_raw_tcp_event_sk.skaddr", DESTROY_SK),
];
