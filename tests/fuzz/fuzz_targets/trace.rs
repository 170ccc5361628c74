//! See `kerntally_fuzz::trace`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kerntally_fuzz::trace(data));
