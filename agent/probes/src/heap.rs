//! Gives memory back that loading took for a moment.

/// Returns the free memory of this process to the system.
///
/// Reading the kernel's type information takes tens of megabytes; the C library raises its threshold for
/// returning memory when so much is freed at once, and would keep all of it.
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes no pointer and only touches memory that nothing owns.
    unsafe {
        libc::malloc_trim(0);
    }
}
