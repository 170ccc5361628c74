//! See `kerntally_fuzz::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kerntally_fuzz::record(data));
