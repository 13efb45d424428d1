//! Feeds `ringway_fuzz::dns_message` with what libFuzzer makes up.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ringway_fuzz::dns_message::check(input));
