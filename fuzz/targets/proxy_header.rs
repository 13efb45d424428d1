//! Feeds `ringway_fuzz::proxy_header` with what libFuzzer makes up.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ringway_fuzz::proxy_header::check(input));
