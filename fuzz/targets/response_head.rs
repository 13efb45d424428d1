//! Feeds `ringway_fuzz::response_head` with what libFuzzer makes up.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ringway_fuzz::response_head::check(input));
