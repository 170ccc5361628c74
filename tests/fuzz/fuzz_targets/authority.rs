//! See `kerntally_fuzz::authority`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kerntally_fuzz::authority(data));
