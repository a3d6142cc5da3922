//! `tidegate_backend::fuzzing::http_query` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_backend::fuzzing::http_query(bytes));
