//! The caller's buffer: one piece, or many.

use aya_ebpf::helpers::generated;

use crate::kernel;

/// Where the bytes of one call lie in user memory.
///
/// Pieces are walked one a read, so that the machine's flat loop bounds the walk too.
///
/// Fields that are zeroed together do not lie side by side: the compiler would join the stores to a call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Buffer {
    /// Address of the next `struct iovec`.
    pub pieces: u64,
    /// Address of the next byte of the current piece.
    pub base: u64,
    /// How many pieces there are.
    pub count: u64,
    /// Bytes left in the current piece.
    pub left: u64,
    /// Bytes to pass over before the next read.
    pub skip: u64,
    /// 1 if the array of pieces lies in user memory.
    pub in_user: u32,
    /// 0 if the place of the bytes is not known at all.
    pub known: u32,
    /// Bytes that the same call moved after these.
    pub behind: u64,
}

/// `struct iovec`: the address, then the length (`include/uapi/linux/uio.h`).
const IOVEC_BYTES: u64 = 16;

impl Buffer {
    /// Bytes whose place is not known. Not all zeroes: the compiler would make a call of copying them.
    pub const UNKNOWN: Self = Self {
        base: 1,
        left: 0,
        pieces: 1,
        count: 0,
        in_user: 1,
        known: 0,
        skip: 0,
        behind: 0,
    };

    /// A buffer in one piece.
    #[inline(always)]
    pub const fn single(base: u64, len: u64) -> Self {
        Self {
            base,
            left: len,
            pieces: 0,
            count: 0,
            skip: 0,
            behind: 0,
            in_user: 1,
            known: 1,
        }
    }

    /// A buffer in pieces.
    #[inline(always)]
    pub const fn pieces(array: u64, count: u64, in_kernel: bool) -> Self {
        Self {
            base: 0,
            left: 0,
            pieces: array,
            count,
            skip: 0,
            behind: 0,
            in_user: !in_kernel as u32,
            known: 1,
        }
    }

    /// Moves on to a piece that has bytes left, at most one a call; false when the array cannot be read
    /// or has ended.
    #[inline(always)]
    pub fn advance(&mut self) -> bool {
        if self.left == 0 {
            if self.count == 0 || !self.next_piece() {
                return false;
            }
        }
        let passed = if self.skip < self.left {
            self.skip
        } else {
            self.left
        };
        self.base += passed;
        self.left -= passed;
        self.skip -= passed;
        true
    }

    #[inline(always)]
    fn next_piece(&mut self) -> bool {
        let mut piece = core::mem::MaybeUninit::<[u64; 2]>::uninit();
        let at = self.pieces;
        let target = piece.as_mut_ptr().cast();
        // SAFETY: the helpers check the source and write the 16 bytes of `piece`, zeroes if they fail.
        let failed = unsafe {
            if self.in_user != 0 {
                generated::bpf_probe_read_user(target, IOVEC_BYTES as u32, at as *const _)
            } else {
                generated::bpf_probe_read_kernel(target, IOVEC_BYTES as u32, at as *const _)
            }
        };
        if failed != 0 {
            return false;
        }
        // SAFETY: written above.
        let piece = unsafe { piece.assume_init() };
        self.pieces += IOVEC_BYTES;
        self.count -= 1;
        self.base = piece[0];
        self.left = piece[1];
        true
    }

    /// The first bytes of the call, as far as the first piece with bytes holds them: a word, and how
    /// many of its bytes count.
    #[inline(always)]
    pub fn peek(&self) -> (u64, u32) {
        if self.known == 0 {
            return (0, 0);
        }
        let mut probe = *self;
        let mut tries = 0;
        // Empty leading pieces exist, but not many.
        while probe.left == 0 && tries < 4 {
            if probe.count == 0 || !probe.next_piece() {
                return (0, 0);
            }
            tries += 1;
        }
        let mut word = 0u64;
        let have = if probe.left < 8 { probe.left as u32 } else { 8 };
        let have = kernel::bounded(have, 15);
        // SAFETY: the helper checks the source; `have` is at most 8, the size of `word`.
        let failed = unsafe {
            generated::bpf_probe_read_user(
                (&raw mut word).cast(),
                have.min(8),
                probe.base as *const _,
            )
        };
        if failed != 0 { (0, 0) } else { (word, have) }
    }
}
