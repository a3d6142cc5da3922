//! `tidegate_backend::fuzzing::http_body` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_backend::fuzzing::http_body(bytes));
