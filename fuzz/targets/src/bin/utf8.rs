//! `tidegate_protocol::fuzzing::utf8` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_protocol::fuzzing::utf8(bytes));
