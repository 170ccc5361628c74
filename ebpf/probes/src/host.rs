//! The machine's surroundings in the kernel: user memory, the head pool, the stored requests, the ring.

use aya_ebpf::helpers::generated;
use kerntally_abi::{
    Counter,
    limits::{CARRY_BYTES, HEAD_BYTES},
};
#[cfg(not(feature = "modern"))]
use kerntally_machine::MAX_STEPS as STEPS;
#[cfg(feature = "modern")]
use kerntally_machine::MAX_STEPS_LOOPED as STEPS;
use kerntally_machine::{Connection, Ended, Host, NO_SLOT, Request, WINDOW_BYTES, Window};
use kerntally_machine::{Work, close_step, step};

use crate::{
    buffer::Buffer,
    counters, emit,
    kernel::bounded,
    maps::{FREE_HEADS, HEADS, HeadSlot, PIPELINED, PipelinedKey, Scratch},
};

/// One hook run.
pub struct Kernel {
    /// Address of the socket.
    pub socket: u64,
    /// This program's scratch memory on this CPU.
    pub scratch: *mut Scratch,
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

#[inline(always)]
fn copy(target: *mut u8, len: u32, source: *const u8) -> bool {
    // SAFETY: callers pass targets that are `len` bytes long; the helper checks the source.
    unsafe { generated::bpf_probe_read_kernel(target.cast(), len, source.cast()) == 0 }
}

#[inline(always)]
fn slot(index: u16) -> Option<*mut HeadSlot> {
    HEADS.get_ptr_mut(u32::from(index))
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
    /// The verifier of these kernels walks every one of them.
    #[cfg(not(feature = "modern"))]
    const WAITING: u32 = 16;

    #[inline(always)]
    fn barrier(&self) {
        // SAFETY: no instructions; the compiler must assume that memory has changed.
        unsafe { core::arch::asm!("") };
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
        match FREE_HEADS.pop() {
            Ok(Some(index)) => index as u16,
            Ok(None) | Err(_) => NO_SLOT,
        }
    }

    #[inline(always)]
    fn return_slot(&mut self, slot: u16) {
        if FREE_HEADS.push(u32::from(slot), 0).is_err() {
            counters::add(Counter::KernelReadFailed, 1);
        }
    }

    #[inline(always)]
    fn save_carry(&mut self, index: u16, window: &mut Window, from: u32, _count: u32) {
        if let Some(slot) = slot(index) {
            // SAFETY: the pointer is to a live element of the map.
            let carry = unsafe { &raw mut (*slot).carry };
            copy(carry.cast(), CARRY_BYTES as u32, at(window, from));
        }
    }

    #[inline(always)]
    fn load_carry(&mut self, index: u16, window: &mut Window, _count: u32) {
        if let Some(slot) = slot(index) {
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
        let Some(slot) = slot(index) else { return };
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
        claim(&raw mut connection.answered, sequence)
    }

    #[inline(always)]
    fn emit(&mut self, connection: &Connection, request: &Request, ended: &Ended) {
        emit::exchange(self.socket, self.scratch, connection, request, ended);
    }

    #[inline(always)]
    fn count(&mut self, counter: Counter, by: u64) {
        counters::add(counter, by);
    }

    #[inline(always)]
    fn drive(&mut self, connection: &mut Connection, side: usize, _work: &mut Work) -> bool {
        let mut drive = Drive {
            connection,
            scratch: self.scratch,
            socket: self.socket,
            side: side as u64,
            done: 0,
        };
        repeat(STEPS, next_step, &mut drive);
        drive.done != 0
    }

    #[inline(always)]
    fn drive_close(&mut self, connection: &mut Connection, _work: &mut Work) {
        let mut drive = Drive {
            connection,
            scratch: self.scratch,
            socket: self.socket,
            side: 0,
            done: 0,
        };
        repeat(Self::CLOSE_STEPS, next_close_step, &mut drive);
    }
}

/// What the loop helper hands to each step.
#[repr(C)]
struct Drive {
    connection: *mut Connection,
    scratch: *mut Scratch,
    socket: u64,
    side: u64,
    done: u64,
}

type Callback = extern "C" fn(u64, *mut Drive) -> u64;

/// `bpf_loop` (kernel 5.17): the verifier walks the step once, not once for each time it may be taken.
#[cfg(feature = "modern")]
#[inline(always)]
fn repeat(times: u32, callback: Callback, drive: &mut Drive) {
    // SAFETY: the helper calls `callback` with `drive`, on this stack, and returns before it goes.
    unsafe {
        generated::bpf_loop(times, callback as *mut _, (&raw mut *drive).cast(), 0);
    }
}

/// A loop that the verifier walks step by step; a function of its own gives each step a stack that is gone
/// when it returns, so that the ways through it meet again.
#[cfg(not(feature = "modern"))]
#[inline(always)]
fn repeat(times: u32, callback: Callback, drive: &mut Drive) {
    let mut index = 0;
    while index < times {
        if callback(0, &raw mut *drive) != 0 {
            return;
        }
        index += 1;
    }
}

#[inline(never)]
extern "C" fn next_step(_index: u64, drive: *mut Drive) -> u64 {
    // SAFETY: see `repeat`; the pointers in it are to live map values.
    unsafe {
        let drive = &mut *drive;
        let mut host = Kernel {
            socket: drive.socket,
            scratch: drive.scratch,
        };
        let side = drive.side as usize & 1;
        if step(
            &mut *drive.connection,
            side,
            &mut (*drive.scratch).work,
            &mut host,
        ) {
            return 0;
        }
        drive.done = 1;
    }
    1
}

#[inline(never)]
extern "C" fn next_close_step(_index: u64, drive: *mut Drive) -> u64 {
    // SAFETY: see `repeat`; the pointers in it are to live map values.
    unsafe {
        let drive = &mut *drive;
        let mut host = Kernel {
            socket: drive.socket,
            scratch: drive.scratch,
        };
        u64::from(!close_step(
            &mut *drive.connection,
            &mut (*drive.scratch).work,
            &mut host,
        ))
    }
}

#[cfg(feature = "modern")]
#[inline(always)]
fn claim(answered: *mut u32, sequence: u32) -> bool {
    let mut found = u64::from(sequence);
    let next = u64::from(sequence.wrapping_add(1));
    // SAFETY: the pointer is into a map value, aligned, and lives as long as this run. The target has no
    // 32-bit atomic types, so the instruction (kernel 5.12) is spelled out.
    unsafe {
        core::arch::asm!(
            "w0 = cmpxchg32_32(r1 + 0, w0, w2)",
            in("r1") answered,
            in("r2") next,
            inout("r0") found,
        );
    }
    found as u32 == sequence
}

/// Kernels before 5.12 have no compare-and-swap, and this object serves all before 6.1: two runs that
/// finish one exchange within the same nanoseconds could both count it.
#[cfg(not(feature = "modern"))]
#[inline(always)]
fn claim(answered: *mut u32, sequence: u32) -> bool {
    // SAFETY: the pointer is into a map value, aligned, and lives as long as this run.
    unsafe {
        if core::ptr::read_volatile(answered) != sequence {
            return false;
        }
        core::ptr::write_volatile(answered, sequence.wrapping_add(1));
    }
    true
}
