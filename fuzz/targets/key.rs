//! Feeds `ringway_fuzz::key` with what libFuzzer makes up.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ringway_fuzz::key::check(input));
