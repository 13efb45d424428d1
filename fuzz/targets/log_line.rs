//! Feeds `ringway_fuzz::log_line` with what libFuzzer makes up.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ringway_fuzz::log_line::check(input));
