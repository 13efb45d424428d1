//! Feeds `ringway_fuzz::field_block` with what libFuzzer makes up.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ringway_fuzz::field_block::check(input));
