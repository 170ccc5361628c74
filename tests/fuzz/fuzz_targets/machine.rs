//! See `kerntally_fuzz::machine`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kerntally_fuzz::machine(data));
