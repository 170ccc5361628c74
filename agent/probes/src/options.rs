//! What the loader is asked for.

use kerntally_abi::limits;

/// A way to see socket data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// fexit programs on the socket operations of each address family.
    Fexit,
    /// Raw tracepoints `sock_send_length` and `sock_recv_length` (kernel 6.3 and later).
    SockTracepoint,
    /// kprobes on the same functions as fexit, and on their returns.
    Kprobe,
    /// The raw tracepoint `sys_exit`.
    Syscall,
}

impl Backend {
    /// All back ends, in the order in which `auto` tries them.
    pub const ALL: [Self; 4] = [
        Self::Fexit,
        Self::SockTracepoint,
        Self::Kprobe,
        Self::Syscall,
    ];

    /// Name in configuration and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fexit => "fexit",
            Self::SockTracepoint => "sock-tracepoint",
            Self::Kprobe => "kprobe",
            Self::Syscall => "syscall",
        }
    }

    /// Whether a hook sees the end of a Unix socket; else it is looked for.
    pub(crate) const fn sees_unix_release(self) -> bool {
        matches!(self, Self::Fexit | Self::Kprobe)
    }

    /// What this back end cannot see, one plain sentence each.
    pub const fn blind_spots(self) -> &'static [&'static str] {
        match self {
            Self::Fexit => &[
                "data received by splice(2) is known by its length only, and not at all on Unix sockets",
                "heads sent from page cache by sendfile(2) cannot be read",
                "kernel threads' own sockets are not looked at",
            ],
            Self::SockTracepoint => &[
                "data received by splice(2) is known by its length only, and not at all on Unix sockets",
                "heads sent by sendfile(2) or splice(2) cannot be read",
                "heads sent or received through io_uring, by kernel threads or by 32-bit programs cannot be read",
                "the end of a Unix socket is found within 2 s, not at once",
            ],
            Self::Kprobe => &[
                "data received by splice(2) is known by its length only, and not at all on Unix sockets",
                "heads sent from page cache by sendfile(2) cannot be read",
                "kernel threads' own sockets are not looked at",
                "a call whose return the kernel does not show is missed, and counted: of more than 2048 threads that wait in a receive at a time, those beyond; where tracefs cannot be written, of more than 10 or two for each processor",
                "a call that was already waiting when the agent attached is not seen",
            ],
            Self::Syscall => &[
                "io_uring is not seen at all: its bytes on TCP sockets are known by their number only",
                "heads sent by sendfile(2) or splice(2), or received by splice(2), cannot be read",
                "the calls of 32-bit programs are not looked at, only counted",
                "kernel threads' own sockets are not looked at",
                "a call whose descriptor another thread closes or replaces before it returns is missed, or taken for one on the new socket",
                "all messages of one sendmmsg or recvmmsg carry the time of its return, and those beyond the 64th are only counted",
                "the end of a Unix socket is found within 2 s, not at once",
            ],
        }
    }
}

/// `hooks.backend` of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// The first that really loads and attaches.
    #[default]
    Auto,
    /// This one or none.
    Only(Backend),
}

/// Sizes and switches of the kernel side.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which back end to use.
    pub backend: BackendChoice,
    /// Ring size in bytes, a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Bytes of a request head that are kept, at most [`limits::HEAD_BYTES`].
    pub head_bytes: u32,
    /// Slots in the head pool.
    pub head_slots: u32,
    /// Kinds of exchange that the fallback tally tells apart.
    pub tally_keys: u32,
    /// Sockets in the connection table; `None` takes the kernel's default (see [`limits`]).
    pub connections: Option<u32>,
    /// Thread group of the agent, which is never watched.
    pub own_tgid: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backend: BackendChoice::Auto,
            ring_bytes: limits::RING_BYTES,
            head_bytes: 1024,
            head_slots: limits::HEAD_SLOTS,
            tally_keys: limits::TALLY_KEYS,
            connections: None,
            own_tgid: std::process::id(),
        }
    }
}
