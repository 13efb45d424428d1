//! Feeds `ringway_fuzz::chunked_body` with what libFuzzer makes up.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ringway_fuzz::chunked_body::check(input));
