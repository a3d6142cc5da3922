//! `tidegate_protocol::fuzzing::payload` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_protocol::fuzzing::payload(bytes));
