//! Arrays that the BPF programs and the agent both have in memory. In: a map made for it. Out: its words, read and
//! written without a system call, during which the kernel would skip some programs.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

const WORD: usize = size_of::<u64>();

/// An array map (with `BPF_F_MMAPABLE`, kernel 5.5), mapped.
#[derive(Debug)]
pub(crate) struct SharedArray {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory belongs to no thread, and is only touched by atomic operations.
unsafe impl Send for SharedArray {}
// SAFETY: as above.
unsafe impl Sync for SharedArray {}

impl SharedArray {
    /// Maps the first `words` words of an array whose elements are as long as a number of words.
    pub(crate) fn map(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        // SAFETY: a new mapping, wherever the kernel likes.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                words * WORD,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, words })
    }

    /// The word at `index`; 0 beyond the end.
    pub(crate) fn load(&self, index: usize) -> u64 {
        self.word(index)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Writes the word at `index`, after all that was written before.
    pub(crate) fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.word(index) {
            word.store(value, Ordering::Release);
        }
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.words {
            return None;
        }
        // SAFETY: within the mapping.
        let word = unsafe { self.start.add(index) };
        // SAFETY: the mapping lives as long as `self`; its pages are aligned and zeroed.
        Some(unsafe { word.as_ref() })
    }
}

impl Drop for SharedArray {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * WORD) };
    }
}
