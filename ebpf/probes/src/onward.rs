//! Where a hook's call goes on: in its own program, or in one that the hooks of a back end share.
//!
//! What follows a call is more than a hundred thousand instructions to the verifier, at every start and for every program
//! that has it; a jump to another program costs some nanoseconds. Trampolines (fexit) cannot share: there
//! hooks preempt each other, and newer kernels bind such a program to one function.

use aya_ebpf::{
    EbpfContext,
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use kerntally_abi::Counter;

use crate::{
    counters,
    hooks::lifecycle,
    maps::{HANDED_ON, HandedOn, SHARED},
    observe::{Call, follow, lay_out, packed, passes_over},
};

/// A way on from a hook. `program` numbers the calling program's scratch memory.
pub trait Onward {
    /// Takes in a call that needs a look.
    fn look(&self, program: u32, call: &Call);

    /// The reader met the end of the stream.
    fn ended(&self, program: u32, socket: u64);

    /// Takes in a call.
    #[inline(always)]
    fn observe(&self, program: u32, call: &Call) {
        if !passes_over(call.socket, call.direction) {
            self.look(program, call);
        }
    }
}

/// In the hook's own program.
pub struct Here;

impl Onward for Here {
    #[inline(always)]
    fn look(&self, program: u32, call: &Call) {
        if lay_out(program, call) {
            follow(u64::from(program), call.socket, packed(call));
        }
    }

    #[inline(always)]
    fn ended(&self, program: u32, socket: u64) {
        lifecycle::received_end(program, socket);
    }
}

/// In the program that hooks with such a context share. No hook that uses it preempts another on its CPU; should one
/// interrupt another, the call that was under way is counted as not handed on.
pub struct Shared<'hook, C>(pub &'hook C);

impl<C: EbpfContext> Onward for Shared<'_, C> {
    #[inline(always)]
    fn look(&self, program: u32, call: &Call) {
        if lay_out(program, call) {
            self.hand_on(program, call.socket, packed(call));
        }
    }

    #[inline(always)]
    fn ended(&self, program: u32, socket: u64) {
        self.hand_on(program, socket, HandedOn::END);
    }
}

impl<C: EbpfContext> Shared<'_, C> {
    #[inline(always)]
    fn hand_on(&self, program: u32, socket: u64, moved: u64) {
        let Some(call) = HANDED_ON.get_ptr_mut(0) else {
            return;
        };
        // SAFETY: the pointer is to this CPU's own value.
        unsafe {
            (*call).socket = socket;
            (*call).moved = moved;
            (*call).from = u64::from(program) + 1;
        }
        // SAFETY: nothing here waits to be dropped.
        unsafe { SHARED.tail_call(self.0, 0) };
        // There is no such program.
        counters::add(Counter::CallsNotHandedOn, 1);
    }
}

/// Takes in the call that was handed on.
#[inline(always)]
fn take() {
    let Some(call) = HANDED_ON.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the pointer is to this CPU's own value.
    let (socket, moved, from) = unsafe {
        let from = (*call).from;
        (*call).from = 0;
        ((*call).socket, (*call).moved, from)
    };
    if from == 0 {
        counters::add(Counter::CallsNotHandedOn, 1);
        return;
    }
    let program = from - 1;
    if moved == HandedOn::END {
        lifecycle::received_end(program as u32, socket);
    } else {
        follow(program, socket, moved);
    }
}

/// Shared by raw tracepoints.
#[raw_tracepoint]
#[inline(always)]
pub fn shared_by_raw(_context: RawTracePointContext) -> i32 {
    take();
    0
}

/// Shared by the returns of kprobe.
#[kprobe]
#[inline(always)]
pub fn shared_by_returns(_context: ProbeContext) -> u32 {
    take();
    0
}

/// Shared by trace events.
#[cfg(feature = "modern")]
#[aya_ebpf::macros::tracepoint]
#[inline(always)]
pub fn shared_by_events(_context: aya_ebpf::programs::TracePointContext) -> u32 {
    take();
    0
}
