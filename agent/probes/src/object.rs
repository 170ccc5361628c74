//! The compiled BPF objects inside this binary.

use crate::LoadError;

/// For kernels from 6.1.
static MODERN: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kerntally.bpf.o"));
/// For older ones.
static LEGACY: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kerntally-5.10.bpf.o"));

/// The object for this kernel.
pub(crate) fn object(modern: bool) -> Result<&'static [u8], LoadError> {
    let object = if modern { MODERN } else { LEGACY };
    if object.is_empty() {
        Err(LoadError::NotBuilt)
    } else {
        Ok(object)
    }
}
