//! Where the kernel calls in: four ways to see data, and the lives of sockets and processes.

mod caller;
mod fexit;
mod kprobe;
pub mod lifecycle;
mod operation;
mod sock_tracepoint;
mod syscall;
#[cfg(feature = "modern")]
mod trace_event;
#[cfg(feature = "modern")]
mod witness;

/// Numbers of the programs, each with scratch memory of its own.
pub mod program {
    /// `sock_send_length` (also for both directions), `sys_exit` of what sends, or the return of `inet_sendmsg`.
    pub const SEND: u32 = 0;
    /// `sock_recv_length`, `sys_exit` of what receives, or the return of `inet_recvmsg`.
    pub const RECEIVE: u32 = 1;
    /// The return of `inet6_sendmsg`
    pub const SEND6: u32 = 2;
    /// The return of `inet6_recvmsg`
    pub const RECEIVE6: u32 = 3;
    /// The return of `unix_stream_sendmsg`
    pub const UNIX_SEND: u32 = 4;
    /// The return of `unix_stream_recvmsg`
    pub const UNIX_RECEIVE: u32 = 5;
    /// The return of `inet_sendpage` (before 6.5), or the trace event `inet_sock_set_state` (from 7.0)
    pub const SEND_PAGE: u32 = 6;
    /// The return of `unix_stream_sendpage` (before 6.5), or the trace event `tcp_destroy_sock` (from 7.0)
    pub const UNIX_SEND_PAGE: u32 = 7;
    /// See [`SEND_PAGE`].
    #[cfg(feature = "modern")]
    pub const STATE_EVENT: u32 = SEND_PAGE;
    /// See [`UNIX_SEND_PAGE`].
    #[cfg(feature = "modern")]
    pub const DESTROY_EVENT: u32 = UNIX_SEND_PAGE;
    /// `inet_sock_set_state`
    pub const STATE: u32 = 8;
    /// `tcp_destroy_sock`
    pub const DESTROY: u32 = 9;
    /// Release of Unix sockets.
    pub const RELEASE: u32 = 10;
    /// The sweep, run from user space.
    pub const SWEEP: u32 = 11;
    /// `sock_send_length` where it is the witness of another program.
    #[cfg(feature = "modern")]
    pub const SEND_WITNESS: u32 = 12;
    /// `sock_recv_length`, likewise.
    #[cfg(feature = "modern")]
    pub const RECEIVE_WITNESS: u32 = 13;
}
