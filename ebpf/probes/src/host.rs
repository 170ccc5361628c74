//! The machine's surroundings in the kernel: user memory, the head pool, the stored requests, the ring.

use aya_ebpf::helpers::generated;
use kerntally_abi::{
    Counter,
    limits::{CARRY_BYTES, HEAD_BYTES},
};
use kerntally_machine::{Connection, Ended, Host, NO_SLOT, Request, WINDOW_BYTES, Window, Work};

use crate::{
    buffer::Buffer,
    counters, emit,
    kernel::bounded,
    maps::{FREE_HEADS, PIPELINED, PipelinedKey, Scratch, head_slot},
};

mod atomic;
#[cfg(feature = "modern")]
mod loop_helper;
#[cfg(not(feature = "modern"))]
mod plain_loop;
#[cfg(feature = "modern")]
mod scan;

use atomic::{claim, exchange_spare};
#[cfg(feature = "modern")]
use loop_helper as repeat;
#[cfg(not(feature = "modern"))]
use plain_loop as repeat;

/// One hook run.
pub struct Kernel {
    /// Address of the socket.
    pub socket: u64,
    /// This program's scratch memory on this CPU.
    pub scratch: *mut Scratch,
    /// Number of this program.
    pub program: u32,
}

/// Largest offset of bytes behind a carry.
const TAIL_MASK: u32 = 127;
const WINDOW_MASK: u32 = WINDOW_BYTES - 1;
const _: () = assert!(CARRY_BYTES.is_power_of_two() && HEAD_BYTES == WINDOW_BYTES as usize);

/// Address of byte `position` (below 1024) of the window.
#[inline(always)]
fn at(window: &mut Window, position: u32) -> *mut u8 {
    let position = bounded(position, WINDOW_MASK) as usize;
    // SAFETY: the window's buffer is twice as long as the largest position.
    unsafe { (&raw mut window.words).cast::<u8>().add(position) }
}

/// The same to read, in one register from end to end: a narrower one would be widened once more.
#[inline(always)]
fn inside(window: &Window, position: u32) -> *const u8 {
    let mut position = u64::from(position);
    // SAFETY: pure arithmetic on a register; see `bounded`.
    unsafe {
        core::arch::asm!("{0} &= {1}", inout(reg) position, in(reg) u64::from(WINDOW_MASK), options(pure, nomem, nostack));
    }
    // SAFETY: as above.
    unsafe {
        (&raw const window.words)
            .cast::<u8>()
            .add(position as usize)
    }
}

#[inline(always)]
fn copy(target: *mut u8, len: u32, source: *const u8) -> bool {
    // SAFETY: callers pass targets that are `len` bytes long; the helper checks the source.
    unsafe { generated::bpf_probe_read_kernel(target.cast(), len, source.cast()) == 0 }
}

impl Kernel {
    #[inline(always)]
    fn key(&self, sequence: u32) -> PipelinedKey {
        PipelinedKey {
            socket: self.socket,
            sequence,
            reserved: 0,
        }
    }

    #[inline(always)]
    fn buffer(&mut self) -> &mut Buffer {
        // SAFETY: the pointer is to this program's own map value; nothing else borrows this field.
        unsafe { &mut (*self.scratch).buffer }
    }
}

impl Host for Kernel {
    #[cfg(not(feature = "modern"))]
    const WHOLE_HEADS: bool = false;

    #[inline(always)]
    fn barrier(&self) {
        // SAFETY: no instructions; the compiler must assume that memory has changed.
        unsafe { core::arch::asm!("") };
    }

    #[inline(always)]
    fn masked(&self, value: u32, mask: u32) -> u32 {
        bounded(value, mask)
    }

    /// One load: the kernel allows it unaligned, but the compiler has none for it.
    #[inline(always)]
    fn word(&self, window: &Window, position: u32) -> u64 {
        let at = inside(window, position);
        let word;
        // SAFETY: seven bytes beyond `at` are still inside.
        unsafe {
            core::arch::asm!("{0} = *(u64 *)({1} + 0)", out(reg) word, in(reg) at, options(readonly, nostack));
        }
        word
    }

    #[inline(always)]
    fn byte(&self, window: &Window, position: u32) -> u8 {
        // SAFETY: inside the window.
        unsafe { *inside(window, position) }
    }

    #[cfg(feature = "modern")]
    #[inline(always)]
    fn scan(&mut self, _work: &mut Work, slot: u16) {
        scan::head(u64::from(self.program), u64::from(slot));
    }

    #[inline(always)]
    fn read(&mut self, window: &mut Window, tail: u32, limit: u32) -> Option<u32> {
        let buffer = self.buffer();
        if !buffer.advance() {
            return None;
        }
        if buffer.left == 0 {
            return Some(0);
        }
        let wanted = if buffer.left < u64::from(limit) {
            buffer.left as u32
        } else {
            limit
        };
        let len = bounded(wanted, WINDOW_MASK);
        let tail = bounded(tail, TAIL_MASK);
        // SAFETY: `tail` and `len` together are below 1151, and the buffer holds 2,064 bytes.
        let target = unsafe { (&raw mut window.words).cast::<u8>().add(tail as usize) };
        // SAFETY: see above; the helper checks the source.
        let failed =
            unsafe { generated::bpf_probe_read_user(target.cast(), len, buffer.base as *const _) };
        if failed != 0 {
            return None;
        }
        buffer.base += u64::from(len);
        buffer.left -= u64::from(len);
        Some(len)
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.buffer().skip += u64::from(count);
    }

    #[inline(always)]
    fn compact(&mut self, window: &mut Window, from: u32, _count: u32) {
        // SAFETY: the pointer is to this program's own map value.
        let join = unsafe { &raw mut (*self.scratch).join }.cast::<u8>();
        copy(join, CARRY_BYTES as u32, at(window, from));
        copy((&raw mut window.words).cast(), CARRY_BYTES as u32, join);
    }

    #[inline(always)]
    fn take_slot(&mut self) -> u16 {
        let spare = exchange_spare(0);
        if spare != 0 {
            return (spare - 1) as u16;
        }
        match FREE_HEADS.pop() {
            Ok(Some(index)) => index as u16,
            Ok(None) | Err(_) => NO_SLOT,
        }
    }

    #[inline(always)]
    fn return_slot(&mut self, slot: u16) {
        let surplus = exchange_spare(u64::from(slot) + 1);
        if surplus != 0 && FREE_HEADS.push(surplus as u32 - 1, 0).is_err() {
            counters::add(Counter::KernelReadFailed, 1);
        }
    }

    #[inline(always)]
    fn save_carry(&mut self, index: u16, window: &mut Window, from: u32, _count: u32) {
        if let Some(slot) = head_slot(index) {
            // SAFETY: the pointer is to a live element of the map.
            let carry = unsafe { &raw mut (*slot).carry };
            copy(carry.cast(), CARRY_BYTES as u32, at(window, from));
        }
    }

    #[inline(always)]
    fn load_carry(&mut self, index: u16, window: &mut Window, _count: u32) {
        if let Some(slot) = head_slot(index) {
            // SAFETY: the pointer is to a live element of the map.
            let carry = unsafe { &raw const (*slot).carry };
            copy(
                (&raw mut window.words).cast(),
                CARRY_BYTES as u32,
                carry.cast(),
            );
        }
    }

    #[inline(always)]
    fn keep(&mut self, index: u16, head_len: u32, window: &mut Window, from: u32, count: u32) {
        if head_len as usize >= HEAD_BYTES {
            return;
        }
        let Some(slot) = head_slot(index) else { return };
        let count = bounded(
            if count >= WINDOW_BYTES {
                WINDOW_MASK
            } else {
                count
            },
            WINDOW_MASK,
        );
        // SAFETY: the pointer is to a live element of the map.
        let head = unsafe { &raw mut (*slot).head }.cast::<u8>();
        if head_len == 0 {
            copy(head, count, at(window, from));
            return;
        }
        // The verifier does not relate an offset to a length: join in memory twice as long, then copy all.
        // SAFETY: the pointer is to this program's own map value.
        let join = unsafe { &raw mut (*self.scratch).join }.cast::<u8>();
        copy(join, HEAD_BYTES as u32, head);
        // SAFETY: offset and length are each below 1024, and the memory is 2048 long.
        let behind = unsafe { join.add(bounded(head_len, WINDOW_MASK) as usize) };
        copy(behind, count, at(window, from));
        copy(head, HEAD_BYTES as u32, join);
    }

    #[inline(always)]
    fn store(&mut self, request: &Request) -> bool {
        PIPELINED
            .insert(&self.key(request.sequence), request, 0)
            .is_ok()
    }

    #[inline(always)]
    fn load(&mut self, sequence: u32, into: &mut Request) -> bool {
        let Some(stored) = PIPELINED.get_ptr(&self.key(sequence)) else {
            return false;
        };
        // SAFETY: the pointer is to a live element of the map.
        into.assign(unsafe { &*stored });
        true
    }

    #[inline(always)]
    fn remove(&mut self, sequence: u32) {
        // Absent is fine: the queue may have a hole there.
        let _absent = PIPELINED.remove(&self.key(sequence));
    }

    #[inline(always)]
    fn claim(&mut self, connection: &mut Connection, sequence: u32) -> bool {
        claim(self, &raw mut connection.answered, sequence)
    }

    #[inline(always)]
    fn emit(&mut self, connection: &Connection, request: &Request, ended: &Ended) {
        emit::exchange(
            self.socket,
            self.program,
            self.scratch,
            connection,
            request,
            ended,
        );
    }

    #[inline(always)]
    fn count(&mut self, counter: Counter, by: u64) {
        counters::add(counter, by);
    }

    #[inline(always)]
    fn drive(&mut self, connection: &mut Connection, _work: &mut Work) -> bool {
        repeat::steps(self, connection)
    }

    #[inline(always)]
    fn drive_close(&mut self, connection: &mut Connection, _work: &mut Work) {
        repeat::close_steps(self, connection);
    }
}
