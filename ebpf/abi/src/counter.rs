//! Ids of the kernel side's counters: append only, never reused.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal, $text:literal;)+) => {
        /// A counter of the kernel side, one cell per CPU.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[doc = $doc])+ $name = $id,)+
        }

        /// All counters, in the order of their ids.
        pub const COUNTERS: &[Counter] = &[$(Counter::$name),+];

        impl Counter {
            /// Name as it stands in the ledger and in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

counters! {
    /// Requests whose head was recognised, or was due and could not be read, server side.
    SeenServer = 0, "seen_server";
    /// Requests whose head was recognised, or was due and could not be read, client side.
    SeenClient = 1, "seen_client";
    /// Exchanges handed to the ring, server side.
    EmittedServer = 2, "emitted_server";
    /// Exchanges handed to the ring, client side.
    EmittedClient = 3, "emitted_client";
    /// Exchanges lost because neither the ring nor the fallback tally took them, server side.
    RingFullServer = 4, "ring_full_server";
    /// Exchanges lost because neither the ring nor the fallback tally took them, client side.
    RingFullClient = 5, "ring_full_client";
    /// Requests that could not be told apart from their neighbours, server side.
    UnseparatedServer = 6, "pipelined_unseparated_server";
    /// Requests that could not be told apart from their neighbours, client side.
    UnseparatedClient = 7, "pipelined_unseparated_client";
    /// Responses to requests sent before the agent looked, server side.
    JoinedServer = 8, "joined_midstream_server";
    /// Responses to requests sent before the agent looked, client side.
    JoinedClient = 9, "joined_midstream_client";
    /// Requests on sockets for which the connection table had no room, server side.
    TableFullServer = 10, "table_full_server";
    /// Requests on sockets for which the connection table had no room, client side.
    TableFullClient = 11, "table_full_client";
    /// Requests with an unknown method and a line longer than what is kept, server side.
    HeadTooLongServer = 12, "head_too_long_server";
    /// Requests with an unknown method and a line longer than what is kept, client side.
    HeadTooLongClient = 13, "head_too_long_client";
    /// Requests seen on sockets that a filter excluded, server side.
    ExcludedServer = 14, "excluded_server";
    /// Requests seen on sockets that a filter excluded, client side.
    ExcludedClient = 15, "excluded_client";
    /// Exchanges that were open when the probe was switched off, server side.
    ProbeOffServer = 16, "probe_was_off_server";
    /// Exchanges that were open when the probe was switched off, client side.
    ProbeOffClient = 17, "probe_was_off_client";

    /// Exchanges that the kernel side tallied itself because the ring was full, server side.
    FallbackServer = 18, "fallback_tallied_server";
    /// Exchanges that the kernel side tallied itself because the ring was full, client side.
    FallbackClient = 19, "fallback_tallied_client";
    /// Requests that could not be read, or whose response could not, server side.
    BufferUnreadableServer = 20, "buffer_unreadable_server";
    /// Requests that could not be read, or whose response could not, client side.
    BufferUnreadableClient = 21, "buffer_unreadable_client";

    /// Heads for which no slot was free.
    HeadNotKept = 32, "head_not_kept";
    /// Receives and sends whose bytes could not be read when a head was expected.
    BufferUnreadable = 33, "buffer_unreadable";
    /// Sockets given up because they speak something that is not HTTP.
    NotHttp = 34, "not_http";
    /// Sockets that speak a protocol this version does not have (TLS, HTTP/2).
    ProtocolNotBuilt = 35, "protocol_not_built";
    /// Sockets that a filter excludes.
    ExcludedSockets = 36, "excluded";
    /// Bytes that went past the hooks and were accounted for by the socket's own position.
    UnseenBytes = 37, "unseen_bytes";
    /// Connections whose bytes stopped making sense; they wait for the next head.
    Desynchronised = 38, "desynchronised";
    /// Final responses for which no request waited, on connections already in step.
    UnsolicitedResponse = 39, "unsolicited_response";
    /// Process announcements lost because the ring was full.
    ProcessRecordLost = 40, "process_record_lost";
    /// Kernel structures that could not be read.
    KernelReadFailed = 41, "kernel_read_failed";
    /// Sockets that changed protocol (101, CONNECT).
    Upgraded = 42, "upgraded";
    /// Calls with more work than one hook run may do.
    StepBudget = 43, "step_budget";
    /// Scatter-gather calls with more segments than are looked at.
    SegmentsCut = 44, "segments_cut";
    /// Responses that were seen before their request, because its hook ran late.
    HeldResponses = 45, "held_responses";
    /// Messages of one sendmmsg or recvmmsg beyond those that are looked at.
    MessagesCut = 46, "messages_cut";
    /// Calls of 32-bit programs that moved bytes of a socket and are not looked at.
    CompatCalls = 47, "compat_calls";
    /// Calls whose return the kernel did not show.
    MissedReturns = 48, "missed_returns";
    /// Calls for which the table of calls under way had no room.
    CallsNotKept = 49, "calls_not_kept";
    /// Runs of hooks that the kernel skipped, because one of the same program was interrupted on that processor.
    /// The kernel's own count, filled in by the loader.
    SkippedRuns = 50, "skipped_runs";
}

/// Cells of the counter map.
pub const CELLS: u32 = 64;
