//! See `kerntally_fuzz::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kerntally_fuzz::request(data));
