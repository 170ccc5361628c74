//! See `kerntally_fuzz::target`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kerntally_fuzz::target(data));
