//! Feeds `ringway_fuzz::request_head` with what libFuzzer makes up.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ringway_fuzz::request_head::check(input));
