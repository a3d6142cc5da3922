//! `tidegate_protocol::fuzzing::json_text` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_protocol::fuzzing::json_text(bytes));
