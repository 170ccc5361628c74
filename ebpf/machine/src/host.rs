//! What the machine needs from where it runs.

use kerntally_abi::Counter;

use crate::{Connection, NO_SLOT, Request, Window, Work, close_step, scan_head};

/// How an exchange ended, for [`Host::emit`]. It lies in memory between steps.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ended {
    /// When its last byte passed, or the end was noticed. Nanoseconds.
    pub end_ns: u64,
    /// Bytes of the response.
    pub response_bytes: u64,
    /// Status, 0 if there was none.
    pub status: u16,
    /// A `kerntally_abi::EndReason`.
    pub reason: u8,
    /// 1 if the response was whole.
    pub complete: u8,
    /// 1 if some of its bytes were not seen.
    pub unseen: u8,
    /// Explicit padding, zero.
    pub reserved: [u8; 3],
}

impl Ended {
    /// Before anything has ended.
    pub const NONE: Self = Self {
        end_ns: 0,
        response_bytes: 0,
        status: 0,
        reason: 0,
        complete: 0,
        unseen: 0,
        reserved: [0; 3],
    };
}

/// The machine's surroundings: in the kernel the BPF maps and helpers, in tests a plain object.
///
/// Every method is called with bounded arguments; a slot is never [`crate::NO_SLOT`].
pub trait Host: Sized {
    /// Requests of one connection that may wait at one time; deeper pipelines are not separated.
    const WAITING: u32 = 64;

    /// Steps of ending a connection: two for every request that may wait, and some for what is half read.
    const CLOSE_STEPS: u32 = 2 * Self::WAITING + 4;

    /// Whether heads that arrive whole are read in one pass. It does what the steps do, faster, and gives
    /// the verifier more to walk.
    const WHOLE_HEADS: bool = true;

    /// Keeps the compiler from carrying state in registers from one step to the next.
    fn barrier(&self);

    /// `value & mask`, where the verifier has to see it; `mask` is one less than a power of two.
    fn masked(&self, value: u32, mask: u32) -> u32;

    /// The eight bytes from `position`, the first lowest.
    #[inline(always)]
    fn word(&self, window: &Window, position: u32) -> u64 {
        window.word(position)
    }

    /// The byte at `position`.
    #[inline(always)]
    fn byte(&self, window: &Window, position: u32) -> u8 {
        window.byte(position)
    }

    /// Does [`scan_head`], and keeps the head in `slot`, if that is one.
    #[inline(always)]
    fn scan(&mut self, work: &mut Work, slot: u16) {
        scan_head(work, self, |_, _| {});
        if slot != NO_SLOT {
            let end = work.whole.end;
            self.keep(slot, 0, &mut work.window, 0, end);
        }
    }

    /// Copies up to `limit` (at most 960) of the call's next bytes to `window` at `at` (at most 64).
    /// Returns how many were copied, which may be fewer than there are: the call's buffer may be in
    /// pieces. `None` if the memory cannot be read.
    fn read(&mut self, window: &mut Window, at: u32, limit: u32) -> Option<u32>;

    /// Passes over `count` of the call's next bytes.
    fn skip(&mut self, count: u32);

    /// Moves the `count` bytes at `from` (at most 64 of them) to the start of `window`.
    fn compact(&mut self, window: &mut Window, from: u32, count: u32);

    /// Takes a slot from the pool; [`crate::NO_SLOT`] when there is none.
    fn take_slot(&mut self) -> u16;

    /// Gives a slot back.
    fn return_slot(&mut self, slot: u16);

    /// Saves `count` bytes at `from` as the carry of `slot`.
    fn save_carry(&mut self, slot: u16, window: &mut Window, from: u32, count: u32);

    /// Restores the carry of `slot` to the start of `window`.
    fn load_carry(&mut self, slot: u16, window: &mut Window, count: u32);

    /// Appends `count` bytes at `from` to the head kept in `slot`, of which `at` bytes are there already;
    /// what is past the slot's end is dropped.
    fn keep(&mut self, slot: u16, at: u32, window: &mut Window, from: u32, count: u32);

    /// Stores a request beyond the embedded ones; false when there is no room.
    fn store(&mut self, request: &Request) -> bool;

    /// Copies the stored request with this sequence number to `into`; false if there is none.
    fn load(&mut self, sequence: u32, into: &mut Request) -> bool;

    /// Removes a stored request.
    fn remove(&mut self, sequence: u32);

    /// Takes the right to finish the request with this sequence number, by one atomic step: another
    /// thread or a close may want to do so at the same moment.
    fn claim(&mut self, connection: &mut Connection, sequence: u32) -> bool;

    /// Hands over a finished exchange. The slot of the request is read, not given back.
    fn emit(&mut self, connection: &Connection, request: &Request, ended: &Ended);

    /// Adds to a counter.
    fn count(&mut self, counter: Counter, by: u64);

    /// Takes steps until one says that it was the last, at most as many as this host allows; false when
    /// there were more to take.
    fn drive(&mut self, connection: &mut Connection, work: &mut Work) -> bool;

    /// Takes steps of ending a connection until nothing waits.
    #[inline(always)]
    fn drive_close(&mut self, connection: &mut Connection, work: &mut Work) {
        let mut taken = 0;
        while taken < Self::CLOSE_STEPS {
            taken += 1;
            if !close_step(connection, work, self) {
                return;
            }
        }
    }
}
